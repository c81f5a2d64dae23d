//! `vestibule explain` against the living process: what it says of a request is what becomes of it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use vestibule::demo::provider::JwtMutation;

use crate::bearer::{header, status, token};
use crate::world::World;
use crate::world::raw::Raw;

const PROGRAMS: &str = "127.0.0.4:0";
const VERDICTS: &str = "127.0.0.3:0";

/// A host with a route for browsers and one for programs, and another for bearers alone.
async fn world() -> World {
    let world = World::builder().config(|toml| {
        let rule = |toml: &mut crate::world::toml::Toml, prefix: &str, rule: &str| {
            toml.set("routes.web.paths", &format!("\"{prefix}\""), rule);
        };
        toml.text("server", "verdict_listen", VERDICTS).unset("routes.web", "upstream");
        toml.set("routes.web", "allowed_origins", "[\"https://www.test\"]");
        rule(toml, "/api/", "{ upstream = \"api\" }");
        rule(toml, "/open/", "{ upstream = \"api\", unauthenticated = \"pass\" }");
        rule(toml, "/wiki/", "{ upstream = \"api\", unauthenticated = \"login\", allowed_groups = [\"admins\"] }");
        rule(toml, "/post/", "{ upstream = \"api\", methods = [\"POST\"], csrf_header = \"X-CSRF\" }");
        let safe = "{ upstream = \"api\", unauthenticated = \"login\", acr_values = [\"2\"], max_age = \"10m\" }";
        rule(toml, "/safe/", safe);
        rule(toml, "/reports/", "{ unauthenticated = \"login\" }");
        rule(toml, "/pictures/", "{ unauthenticated = \"pass\" }");
        toml.text("routes.cli", "mode", "device")
            .text("routes.cli", "listen", PROGRAMS)
            .text("routes.cli", "public_url", "https://app.test")
            .text("routes.cli", "client_id", "cli")
            .text("routes.cli", "upstream", "api")
            .set("routes.cli", "audiences", "[\"api\"]");
        toml.text("routes.things", "mode", "verify")
            .text("routes.things", "listen", PROGRAMS)
            .text("routes.things", "public_url", "https://api.test")
            .set("routes.things", "audiences", "[\"api\"]")
            .set("routes.things", "required_scopes", "[\"read\"]")
            .set("routes.things.paths", "\"/\"", "{ upstream = \"api\" }")
            .set("routes.things.paths", "\"/alice/\"", "{ required_claims = { preferred_username = [\"alice\"] } }")
            .set("routes.things.paths", "\"/safe/\"", "{ acr_values = [\"2\"], max_age = \"10m\" }")
            .set("routes.things.paths", "\"/bob/\"", "{ required_claims = { preferred_username = [\"bob\"] } }")
    });
    world.start().await
}

/// Runs the command on the file of `world`.
fn explain(world: &World, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vestibule"))
        .arg("explain")
        .args(arguments)
        .arg("--config")
        .arg(world.dir().join("vestibule.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// The listeners of the answer to `method` `url` with these header lines.
async fn listeners(world: &World, method: &str, url: &str, lines: &[String]) -> Vec<Value> {
    let mut arguments = vec![method, url, "--json"];
    lines.iter().for_each(|line| arguments.extend(["-H", line]));
    let output = tokio::task::block_in_place(|| explain(world, &arguments, ""));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_str(&text).unwrap();
    answer["listeners"].as_array().unwrap().clone()
}

/// What came over the wire, in the words of `explain`: status, reason code, place that it leads to.
fn summary(answer: &str) -> (u16, Option<String>, Option<String>) {
    let shown = |to: &str| match to.split('?').next().unwrap().split_once("/login/start/") {
        Some((site, _)) => format!("{site}/login/start"),
        None => to.split('?').next().unwrap().to_owned(),
    };
    let to = header(answer, "location").map(shown);
    (status(answer), header(answer, "vestibule-error").map(str::to_owned), to)
}

/// The same of what `explain` says; what is handed on gets the upstream's answer, which is 200 here.
fn explained(said: &Value) -> (u16, Option<String>, Option<String>) {
    let text = |name: &str| said[name].as_str().map(str::to_owned);
    let status = said["status"].as_u64().map_or(200, |status| u16::try_from(status).unwrap());
    (status, text("code"), text("location"))
}

async fn send(address: SocketAddr, head: &str, lines: &[String]) -> String {
    let mut raw = Raw::connect(address).await;
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    raw.write(format!("{head}{lines}\r\n")).await;
    raw.read_answer().await
}

/// One request, explained and sent to every listener that it may come to, and asked about by Caddy.
async fn compare(world: &World, method: &str, url: &str, lines: &[String]) {
    let said = listeners(world, method, url, lines).await;
    let rest = url.strip_prefix("https://").unwrap();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    for said in said {
        let address = world.bound(said["listen"].as_str().unwrap()).await;
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
        let live = send(address, &head, lines).await;
        assert_eq!(explained(&said), summary(&live), "{method} {url} {lines:?}: {said}\n{live}");
        if let Some(challenge) = said["challenge"].as_str() {
            assert_eq!(header(&live, "www-authenticate"), Some(challenge), "{said}");
        }
        let Some(verdict) = said.get("verdict") else { continue };
        let head = format!(
            "GET /{} HTTP/1.1\r\nHost: x\r\nX-Forwarded-Method: {method}\r\nX-Forwarded-Uri: {path}\r\nX-Forwarded-Host: {host}\r\n",
            said["route"].as_str().unwrap()
        );
        let live = send(world.bound(VERDICTS).await, &head, lines).await;
        assert_eq!(explained(verdict), summary(&live), "{method} {url} {lines:?}: {said}\n{live}");
    }
}

fn lines(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_browsers_is_what_becomes_of_them() {
    let world = world().await;
    const PAGE: &str = "Accept: text/html";
    const OURS: &str = "Origin: https://app.test";
    for (method, path, with) in [
        ("GET", "/api/things", &[][..]),
        ("GET", "/api/things", &[PAGE]),
        ("GET", "/api/things", &["Cookie: __Host-Http-vestibule-web=made-up"]),
        ("POST", "/api/things", &[]),
        ("POST", "/api/things", &[OURS]),
        ("POST", "/api/things", &["Origin: https://evil.test"]),
        ("GET", "/api/things", &["Sec-Fetch-Site: cross-site"]),
        ("OPTIONS", "/api/things", &["Origin: https://www.test", "Access-Control-Request-Method: PUT"]),
        ("OPTIONS", "/api/things", &["Origin: https://evil.test", "Access-Control-Request-Method: PUT"]),
        ("GET", "/api/things", &["Authorization: Basic eDp5", "Authorization: Basic eDp5"]),
        ("TRACE", "/api/things", &[]),
        ("GET", "/open/door?x=1", &[]),
        ("PUT", "/open/door", &[OURS]),
        ("GET", "/wiki/page", &[PAGE]),
        ("GET", "/wiki/page", &[]),
        ("GET", "/wiki/../api/x", &[]),
        ("GET", "/%61pi/x", &[]),
        ("GET", "/api/%2e%2e/wiki/", &[PAGE]),
        ("GET", "/post/x", &[]),
        ("POST", "/post/x", &[OURS]),
        ("POST", "/post/x", &[OURS, "X-CSRF: 1"]),
        ("GET", "/reports/2026", &[PAGE]),
        ("GET", "/reports/2026", &[]),
        ("GET", "/reports/2026", &["Sec-Fetch-Site: cross-site"]),
        ("GET", "/reports/../x", &[]),
        ("GET", "/pictures/1.png", &[]),
        ("DELETE", "/pictures/1.png", &["Origin: https://evil.test"]),
        ("GET", "/nowhere", &[]),
        ("GET", "/login/start", &[PAGE]),
        ("GET", "/login/start?redirect=https://evil.test/", &[PAGE]),
        ("PUT", "/login/start", &[OURS]),
        ("GET", "/login/end", &[PAGE]),
        ("GET", "/userinfo", &[]),
        ("GET", "/check_auth", &[]),
        ("POST", "/refresh", &[OURS]),
        ("GET", "/logout", &[PAGE]),
        ("POST", "/logout", &[OURS]),
        ("GET", "/login/nothing", &[]),
    ] {
        compare(&world, method, &format!("https://app.test{path}"), &lines(with)).await;
    }
    compare(&world, "GET", "https://elsewhere.test/", &[]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_somebody_with_claims_is_what_becomes_of_them() {
    let world = world().await;
    for person in ["alice", "bob"] {
        let browser = world.new_browser();
        browser.login(person).await;
        let claims = browser.get("/claims").await.is(200).json().to_string();
        let cookie = format!("Cookie: {}", crate::world::live::cookie(&browser));
        for (method, path) in [
            ("GET", "/api/things"),
            ("POST", "/api/things"),
            ("GET", "/wiki/page"),
            ("GET", "/post/x"),
            ("GET", "/reports/2026"),
            ("GET", "/pictures/1.png"),
            ("GET", "/safe/x"),
            ("GET", "/nowhere"),
        ] {
            let url = format!("https://app.test{path}");
            let output = explain(&world, &[method, &url, "--json", "--claims", &claims], "");
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
            let said = &answer["listeners"][0];
            let address = world.bound(said["listen"].as_str().unwrap()).await;
            let (mut head, mut shown) = (format!("{method} {path} HTTP/1.1\r\nHost: app.test\r\n"), said);
            let mut at = address;
            if let Some(verdict) = said.get("verdict") {
                let asked = format!(
                    "X-Forwarded-Method: {method}\r\nX-Forwarded-Uri: {path}\r\nX-Forwarded-Host: app.test\r\n"
                );
                head = format!("GET /web HTTP/1.1\r\nHost: x\r\n{asked}");
                (at, shown) = (world.bound(VERDICTS).await, verdict);
            }
            let live = send(at, &head, std::slice::from_ref(&cookie)).await;
            assert_eq!(explained(shown), summary(&live), "{person} {method} {path}: {said}\n{live}");
        }
        let page = explain(&world, &["GET", "https://app.test/wiki/x", "--claims", &claims], "");
        let page = String::from_utf8(page.stdout).unwrap();
        let outcome = if person == "alice" { "it goes to the upstream" } else { "403 forbidden" };
        assert!(page.contains(outcome), "{person}: {page}");
    }
    // How and when somebody authenticated counts as well.
    let old = world.clock.now().unix() - 661;
    for (claims, with, parts) in [
        (r#"{"acr": "2"}"#, "x: y", &["acr: 2", "authenticated within: 10m", "it goes to the upstream"][..]),
        (r#"{"acr": "1"}"#, "x: y", &["401 insufficient_user_authentication", "acr is not among acr_values"]),
        (r#"{"acr": "1"}"#, "x: y", &["Vestibule error=\"insufficient_user_authentication\", acr_values=\"2\""]),
        (&format!(r#"{{"acr": "2", "auth_time": {old}}}"#), "x: y", &["longer ago than max_age"]),
        (r#"{"acr": "1"}"#, "Accept: text/html", &["302", "location  https://app.test/login/start\n"]),
    ] {
        let output = explain(&world, &["GET", "https://app.test/safe/x", "--claims", claims, "-H", with], "");
        let text = String::from_utf8(output.stdout).unwrap();
        for part in parts {
            assert!(text.contains(part), "{claims} {with}: {part} in {text}");
        }
    }
    assert_eq!(explain(&world, &["GET", "https://app.test/", "--claims", "[]"], "").status.code(), Some(2));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_bearers_is_what_becomes_of_them() {
    let world = world().await;
    let alice = |changes: &[JwtMutation]| format!("Authorization: Bearer {}", token(&world, changes));
    let set = |name: &str, value: Value| JwtMutation::SetClaim(Box::leak(name.to_owned().into_boxed_str()), value);
    for (path, with) in [
        ("/x", vec![]),
        ("/x", vec![alice(&[])]),
        ("/alice/x", vec![alice(&[])]),
        ("/bob/x", vec![alice(&[])]),
        ("/bob/x", vec![]),
        ("/x", vec![alice(&[set("aud", "others".into())])]),
        ("/x", vec![alice(&[set("scope", "write".into())])]),
        ("/x", vec![alice(&[set("exp", 1.into())])]),
        ("/safe/x", vec![alice(&[])]),
        ("/safe/x", vec![alice(&[set("acr", "2".into())])]),
        ("/safe/x", vec![alice(&[set("acr", "2".into()), set("auth_time", 1.into())])]),
        ("/x", lines(&["Authorization: Bearer made.up.token"])),
        ("/x", lines(&["Authorization: Bearer two words"])),
        ("/x?access_token=y", vec![alice(&[])]),
        ("/x", vec![alice(&[]), alice(&[])]),
        ("/.well-known/oauth-protected-resource", vec![]),
    ] {
        compare(&world, "GET", &format!("https://api.test{path}"), &with).await;
        compare(&world, "GET", &format!("https://app.test/api{path}"), &with).await;
    }
    compare(&world, "POST", "https://app.test/login/start", &[]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_comes_by_standard_input_and_the_audience_and_the_fix_are_named() {
    let world = world().await;
    let wrong = token(&world, &[JwtMutation::SetClaim("aud", "account".into())]);
    let output = explain(&world, &["GET", "https://api.test/x", "--bearer"], &format!("{wrong}\n"));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for part in [
        "route     things, mode verify",
        "401 invalid_token",
        "aud is \"account\"",
        "accepts \"api\"",
        "resource_metadata=",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains(wrong.split('.').nth(1).unwrap()), "the token is shown");
    // Both listeners that have the host, and whom Caddy leads to each.
    for (path, parts) in [
        ("/api/x", &["to which Caddy leads browsers", "to which Caddy leads programs", "bearer_required"][..]),
        (
            "/wiki/x",
            &["/wiki/ leads to http://127.0.0.1:", "one of the groups: admins", "401 login_required", "Nobody is"],
        ),
        ("/reports/x", &["Caddy asks for a verdict", "verdict   401 login_required"]),
        ("/open/x", &["it goes to the upstream", "not logged in"]),
    ] {
        let output = explain(&world, &["GET", &format!("https://app.test{path}")], "");
        let text = String::from_utf8(output.stdout).unwrap();
        for part in parts {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_none_is_said_to_be_none() {
    let world = world().await;
    for arguments in [
        &["GET", "app.test/x"][..],
        &["GET", "ftp://app.test/x"],
        &["GET GET", "https://app.test/x"],
        &["GET", "https://app.test/x", "-H", "no header"],
        &["GET", "https://app.test/x", "--bearer=two\nlines"],
    ] {
        let output = explain(&world, arguments, "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: "), "{arguments:?}");
    }
    // What counts once is not tried.
    let said = listeners(&world, "GET", "https://app.test/login/end?code=x&state=y", &[]).await;
    assert_eq!(said[0]["outcome"], "untried");
    world.finish().await;
}
