//! `login/start` (spec 4.1, requirements LS) as the front end that POSTs, the one that navigates and people use it.

use std::collections::HashSet;

use http::Method;
use serde_json::json;
use vestibule::demo::provider::{Endpoint, JwtMutation, Kind, Mutation};

use crate::clients::{FRONT_END, Spa, go, spa_world};
use crate::world::World;
use crate::world::answer::parameter;
use crate::world::browser::Browser;

/// The login cookies that a browser holds, by name.
fn login_cookies(browser: &Browser) -> Vec<String> {
    let names = browser.cookies().into_iter().map(|cookie| cookie.name);
    names.filter(|name| name.contains(".login.")).collect()
}

#[tokio::test]
async fn ls_1_ls_15_the_front_end_that_navigates_is_redirected() {
    let world = World::start().await;
    let answer = world.browser.navigate("/login/start?redirect=/page&failure=/sorry").stay().await.is(302);
    let answer = answer.has("cache-control", "no-store");
    let url = answer.location();
    assert!(url.as_str().starts_with(&world.provider.url(Endpoint::Authorize)), "{url}");
    let value = |name: &str| parameter(&url, name).unwrap_or_else(|| panic!("no {name} in {url}"));
    assert_eq!(value("response_type"), "code");
    assert_eq!(value("client_id"), "web");
    assert_eq!(value("redirect_uri"), "https://app.test/login/end");
    assert!(value("scope").split(' ').any(|scope| scope == "openid"), "{url}");
    assert_eq!(value("code_challenge_method"), "S256");
    assert_eq!(value("code_challenge").len(), 43);
    assert!(value("state").len() >= 22 && value("nonce").len() >= 22, "{url}");
    assert_eq!(parameter(&url, "redirect"), None);
    world.finish().await;
}

#[tokio::test]
async fn ls_1_the_spa_that_posts_gets_the_authorization_request_url() {
    let world = spa_world().await;
    let answer = Spa::new(&world.browser).fetch(Method::POST, "/login/start").await.is(200);
    let answer = answer.has("content-type", "application/json").has("cache-control", "no-store");
    let answer = answer.has("access-control-allow-origin", FRONT_END).has("access-control-allow-credentials", "true");
    let body = answer.json();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    let url = body["authorization_request_url"].as_str().unwrap().parse().unwrap();
    assert_eq!(parameter(&url, "redirect_uri").unwrap(), "https://www.app.test/");
    assert_eq!(login_cookies(&world.browser).len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn get_login_start_redirects_unless_accept_names_json() {
    let world = World::start().await;
    for (accept, status) in [
        ("*/*", 302),
        ("text/html", 302),
        ("text/html,application/xhtml+xml,*/*;q=0.8", 302),
        ("application/json", 200),
        ("application/json, text/plain, */*", 200),
        ("APPLICATION/JSON;q=0.9", 200),
    ] {
        let answer = world.browser.get("/login/start").header("accept", accept).await;
        assert_eq!(answer.status.as_u16(), status, "{accept}: {}", answer.describe());
    }
    // The generated Go client asks so.
    let answer = go(&world.browser, Method::GET, "/login/start").await.is(200);
    assert!(answer.json()["authorization_request_url"].is_string());
    world.finish().await;
}

#[tokio::test]
async fn ls_2_every_login_over_the_wire_has_secrets_of_its_own() {
    let world = World::start().await;
    let mut seen = HashSet::new();
    for _ in 0..100 {
        let url = world.new_browser().get("/login/start").await.is(302).location();
        for name in ["state", "nonce", "code_challenge"] {
            assert!(seen.insert(parameter(&url, name).unwrap()), "{name} was there before");
        }
    }
    world.finish().await;
}

#[tokio::test]
async fn ls_3_three_tabs_finish_in_the_order_they_like() {
    let world = World::start().await;
    let mut tabs = Vec::new();
    for name in ["one", "two", "three"] {
        tabs.push((name, world.browser.navigate(&format!("/login/start?redirect=/{name}")).await.is(200)));
    }
    for tab in [1, 2, 0] {
        let (name, picker) = &tabs[tab];
        world.browser.choose(picker, "alice").await.is(200).at(&format!("https://app.test/{name}"));
    }
    assert_eq!(login_cookies(&world.browser), [""; 0]);
    world.finish().await;
}

#[tokio::test]
async fn ls_4_the_ninth_unfinished_login_costs_the_oldest() {
    let world = World::start().await;
    for round in 0..12 {
        let before = login_cookies(&world.browser);
        let answer = world.browser.navigate("/login/start").stay().await.is(302);
        let cleared = answer.all("set-cookie").iter().filter(|line| line.contains("Max-Age=0")).count();
        assert_eq!(cleared, usize::from(round >= 8), "round {round}");
        let after = login_cookies(&world.browser);
        assert_eq!(after.len(), (round + 1).min(8));
        assert_eq!(after[..after.len() - 1], before[cleared..], "round {round}: the oldest goes first");
    }
    // Long targets weigh more, so fewer of them fit into the head that Caddy and upstreams still read.
    let long = format!("/login/start?redirect=/{}", "a".repeat(1900));
    for _ in 0..8 {
        world.browser.navigate(&long).stay().await.is(302);
        let weight: usize =
            world.browser.cookies().iter().map(|cookie| cookie.name.len() + cookie.value.len() + 3).sum();
        assert!(weight < 8 * 1024, "{weight} bytes of cookies");
    }
    world.finish().await;
}

#[tokio::test]
async fn ls_5_the_login_cookie_is_sealed_to_its_name_and_kept_to_this_host() {
    let world = World::start().await;
    let answer = world.browser.navigate("/login/start").stay().await.is(302);
    let [line] = answer.all("set-cookie").try_into().unwrap();
    let (pair, attributes) = line.split_once("; ").unwrap();
    let (name, value) = pair.split_once('=').unwrap();
    assert!(name.starts_with("__Host-Http-vestibule-web.login."), "{name}");
    assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600");
    assert!(name.len() + value.len() <= 4096);
    // Under the name of another attempt the same value opens nothing.
    let other = world.new_browser();
    let url = other.navigate("/login/start").stay().await.location();
    let own = login_cookies(&other).remove(0);
    other.forget();
    other.plant(&format!("{own}={value}; Path=/; Secure; HttpOnly"));
    let state = parameter(&url, "state").unwrap();
    other.navigate(&format!("/login/end?code=x&state={state}")).await.refused(400, "unknown_login");
    // Nor does it with one character changed.
    let changed: String =
        value.chars().rev().enumerate().map(|(at, char)| if at == 9 { flip(char) } else { char }).collect();
    world
        .browser
        .plant(&format!("{name}={}; Path=/; Secure; HttpOnly", changed.chars().rev().collect::<String>()));
    let state = parameter(&answer.location(), "state").unwrap();
    world
        .browser
        .navigate(&format!("/login/end?code=x&state={state}"))
        .await
        .refused(400, "unknown_login");
    assert_eq!(world.provider.count(Endpoint::Token), 0);
    world.finish().await;
}

fn flip(char: char) -> char {
    if char == 'A' { 'B' } else { 'A' }
}

#[tokio::test]
async fn ls_7_r24_parameters_of_a_link_do_not_become_ours() {
    let world = World::start().await;
    let hostile = "scope=admin&client_id=evil&redirect_uri=https://evil.test&response_type=token&response_mode=fragment\
                   &state=x&nonce=x&code_challenge=x&code_challenge_method=plain&request=x&request_uri=x&claims=x\
                   &resource=x&max_age=0&acr_values=x&kc_idp_hint=x&id_token_hint=x";
    let url = world.browser.navigate(&format!("/login/start?{hostile}")).stay().await.is(302).location();
    let known = [
        "response_type",
        "client_id",
        "redirect_uri",
        "scope",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
    ];
    for (name, value) in url.query_pairs() {
        assert!(known.contains(&name.as_ref()), "{name} in {url}");
        assert!(!["x", "evil", "admin", "plain", "token"].contains(&value.as_ref()), "{name}={value}");
        parameter(&url, &name);
    }
    let hints = "/login/start?prompt=login&login_hint=bob&ui_locales=de";
    let own = world.browser.click("/", hints).stay().await.location();
    let three = ["prompt", "login_hint", "ui_locales"].map(|name| parameter(&own, name).unwrap_or_default());
    assert_eq!(three, ["login", "bob", "de"]);
    // Only from our own pages: another site may begin a login, but not steer it.
    let cross = world.browser.click("https://evil.test/", hints).stay().await.is(302).location();
    assert!(["prompt", "login_hint", "ui_locales"].iter().all(|name| parameter(&cross, name).is_none()), "{cross}");
    let unknown = world.browser.navigate("/login/start?prompt=dance").stay().await.location();
    assert_eq!(parameter(&unknown, "prompt"), None);
    world.finish().await;
}

#[tokio::test]
async fn ls_8_h05_h06_r23_no_request_header_moves_a_url() {
    let world = World::start().await;
    let head = "GET /login/start HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-Host: evil.test\r\n\
                X-Forwarded-Proto: javascript\r\nX-Forwarded-Prefix: /evil\r\nForwarded: host=evil.test;proto=http\r\n\
                X-Original-URL: /evil\r\nReferer: javascript:alert(1)\r\n\r\n";
    let mut raw = world.raw().await;
    raw.write(head).await;
    let answer = raw.read_answer().await;
    assert!(answer.starts_with("HTTP/1.1 302"), "{answer}");
    assert!(answer.contains("redirect_uri=https%3A%2F%2Fapp.test%2Flogin%2Fend&"), "{answer}");
    assert!(!answer.contains("evil") && !answer.contains("javascript"), "{answer}");
    let mut raw = world.raw().await;
    raw.write(head.replace("Host: app.test", "Host: evil.test")).await;
    let answer = raw.read_answer().await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("host_mismatch"), "{answer}");
    world.finish().await;
}

#[tokio::test]
async fn ls_10_a_provider_that_is_down_is_503_and_comes_back_alone() {
    let mut world = World::start().await;
    world.provider.go_down().await.unwrap();
    world.restart().await;
    let answer = world.browser.navigate("/login/start").stay().await.refused(503, "provider_unavailable");
    assert!(answer.header("retry-after").is_some(), "{}", answer.describe());
    let answer = answer.lacks("set-cookie").lacks("location");
    assert!(answer.text().contains("does not answer"), "{}", answer.describe());
    world.provider.come_up().unwrap();
    let begun = std::time::Instant::now();
    while world.browser.navigate("/login/start").stay().await.status != 302 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "the provider is back, and nobody noticed");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    world.still_works().await;
    world.finish().await;
}

#[tokio::test]
async fn ls_11_a_login_begins_in_a_document_only() {
    let world = World::start().await;
    let ask = |dest: &str, mode: &str| {
        let ask = world.browser.click("https://evil.test/", "/login/start").stay();
        ask.header("sec-fetch-dest", dest).header("sec-fetch-mode", mode)
    };
    for (dest, mode) in [("iframe", "navigate"), ("image", "no-cors"), ("script", "no-cors"), ("empty", "cors")] {
        ask(dest, mode).await.refused(403, "cross_site").lacks("set-cookie");
    }
    for method in [Method::HEAD, Method::PUT, Method::DELETE] {
        world
            .browser
            .fetch(method, "/login/start")
            .await
            .is(405)
            .has("allow", "GET, POST")
            .lacks("set-cookie");
    }
    world.finish().await;
}

#[tokio::test]
async fn ls_12_the_json_form_is_for_listed_origins() {
    let world = spa_world().await;
    for from in ["https://evil.test", "https://app.test:444", "http://www.app.test", "https://sub.www.app.test"] {
        let answer = world.browser.fetch_from(from, Method::POST, "/web/login/start").await;
        // The published front end reads no errors: no body, the code in a header.
        let answer = answer.refused(403, "cross_site").has("vestibule-error", "cross_site");
        assert!(answer.body.is_empty(), "{}", answer.describe());
        answer.lacks("set-cookie").lacks("access-control-allow-origin");
    }
    go(&world.browser, Method::POST, "/web/login/start").await.refused(403, "cross_site");
    world.finish().await;
}

#[tokio::test]
async fn ls_14_the_old_session_lives_until_the_new_login_succeeds() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let thief = world.browser.copy();
    world.clock.shift(1);
    let picker = world.browser.navigate("/login/start?prompt=select_account").await.is(200);
    world.browser.get("/api/me").await.is(200);
    world.browser.submit(&picker, &[("cancel", "1")]).await.refused(400, "access_denied");
    assert_eq!(world.browser.get("/userinfo").await.is(200).json()["preferred_username"], "alice");
    let picker = world.browser.navigate("/login/start?prompt=select_account").await.is(200);
    world.browser.choose(&picker, "bob").await.is(200);
    assert_eq!(world.browser.get("/userinfo").await.is(200).json()["preferred_username"], "bob");
    thief.get("/api/me").await.refused(401, "login_required");
    assert_eq!(world.sidecar().lasting().shared.sessions.count(), 1);
    world.finish().await;
}

#[tokio::test]
async fn ls_16_cb_16_a_path_that_wants_an_acr_asks_for_it() {
    let world = World::builder()
        .config(|toml| {
            toml.set("routes.web.paths", "\"/api/\"", "{ unauthenticated = \"login\" }").set(
                "routes.web.paths",
                "\"/api/vault/\"",
                "{ unauthenticated = \"login\", acr_values = [\"gold\"] }",
            )
        })
        .start()
        .await;
    let start = world.browser.navigate("/api/vault/1").stay().await.is(302).location();
    let url = world.browser.navigate(start.as_str()).stay().await.is(302).location();
    assert_eq!(parameter(&url, "acr_values").as_deref(), Some("gold"));
    // The demo provider knows no gold, so the login that was to bring it fails.
    let picker = world.browser.navigate(url.as_str()).await.is(200);
    world.browser.choose(&picker, "alice").await.refused(403, "step_up_failed");
    // Elsewhere nothing of the kind is asked, and a session without it does not open the vault.
    let other = world.new_browser();
    other.login("alice").await;
    other.get("/api/me").await.is(200);
    other.get("/api/vault/1").await.refused(401, "insufficient_user_authentication");
    // A page is sent to log in again, and with a login that brought what was asked for it opens.
    world
        .provider
        .mutate(Mutation::always(Endpoint::Token, Kind::IdToken(JwtMutation::SetClaim("acr", json!("gold")))));
    other.navigate("/api/vault/1").await.is(200).at("https://app.test/api/vault/1");
    other.get("/api/vault/1").await.is(200);
    world.finish().await;
}

#[tokio::test]
async fn a_failed_start_is_a_page_for_people_and_a_problem_for_scripts() {
    let world = World::start().await;
    let page = world.browser.navigate("/login/start?redirect=https://evil.test/").stay().await;
    let page = page.refused(400, "bad_redirect").has("content-type", "text/html; charset=utf-8");
    page.says("<html lang=\"en\">").says("<title>").says("<main>").lacks("set-cookie");
    let problem = world.browser.get("/login/start?redirect=https://evil.test/").await.refused(400, "bad_redirect");
    let body = problem.has("content-type", "application/problem+json").json();
    assert_eq!(body["status"], json!(400));
    assert_eq!(body["error"], body["code"]);
    assert_eq!(body["login_url"], json!("https://app.test/login/start"));
    assert!(body["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{body}");
    world.finish().await;
}

/// Two tabs that log in at once: the page that the first one is at may just be asking with the session that the second one
/// takes the place of.
#[tokio::test]
async fn two_tabs_that_log_in_at_once_leave_each_other_alone() {
    let world = World::start().await;
    let pickers = [world.browser.begin_login().await, world.browser.begin_login().await];
    let one = world.browser.callback_for(&pickers[0], "alice").await;
    let other = world.browser.callback_for(&pickers[1], "alice").await;
    world.browser.navigate(one.as_str()).await.is(200).at("https://app.test/");
    let first = world.browser.copy();
    world.browser.navigate(other.as_str()).await.is(200).at("https://app.test/");
    first.get("/userinfo").await.is(200);
    world.browser.get("/userinfo").await.is(200);
    // Whoever logs in anew has overwritten what they had.
    let second = world.browser.copy();
    world.clock.shift(1);
    world.browser.navigate("/login/start").await.is(200).at("https://app.test/");
    second.get("/userinfo").await.refused(401, "login_required");
    world.finish().await;
}
