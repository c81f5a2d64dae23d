//! The control listener: what operators do to the running process, and who may not.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::world::toml::Toml;
use crate::world::{Edit, World, eventually};

const TOKEN: &str = "a-token-of-more-than-thirty-two-bytes";

/// Status and body of one answer.
async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str, headers: &str) -> (u16, String) {
    let text = format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let reading = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(10), reading).await.expect("an answer in time").unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn ask(socket: &Path, request: &str, headers: &str) -> (u16, String) {
    talk(UnixStream::connect(socket).await.unwrap(), request, headers).await
}

fn socket(world: &World) -> PathBuf {
    world.dir().join("control.sock")
}

/// A world with a control socket, which an edit brought.
async fn controlled() -> World {
    let world = World::start().await;
    let listen = format!("unix:{}", socket(&world).display());
    assert_eq!(world.edit(|toml| toml.text("server", "control", &listen)).await, Edit::Served);
    eventually("the socket", || socket(&world).exists()).await;
    world
}

/// Writes the file as an editor would, and nobody is told.
fn write(world: &World, text: &str) {
    std::fs::write(world.dir().join("vestibule.toml"), text).unwrap();
}

/// The number that follows `words`.
fn seconds(text: &str, words: &str) -> u64 {
    let rest = text.split(words).nth(1).unwrap_or_else(|| panic!("{words:?} is not in {text}"));
    rest.split(' ').next().unwrap().parse().unwrap()
}

/// Promise 1: `POST /-/reload` answers when the edit serves, or with the report.
#[tokio::test]
async fn a_reload_that_is_asked_for_answers_with_what_came_of_it() {
    let world = controlled().await;
    let socket = socket(&world);
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(ask(&socket, "POST /-/reload", "").await, (200, "nothing has changed\n".to_owned()));

    let good = world.edited(|toml| toml.text("routes.web", "home_url", "https://app.test/home"));
    write(&world, &good);
    assert_eq!(ask(&socket, "POST /-/reload", "").await, (200, "reloaded\n".to_owned()));
    world.browser.navigate("/login/start?login_hint=alice").await.is(200).at("https://app.test/home");

    write(&world, &good.replace("home_url", "home_urls"));
    let (status, report) = ask(&socket, "POST /-/reload", "").await;
    assert_eq!(status, 422, "{report}");
    for part in ["error[routes.web.home_urls]", "vestibule.toml:", "^^^^", "did you mean `home_url`"] {
        assert!(report.contains(part), "{part} is not in\n{report}");
    }
    assert_eq!(ask(&socket, "POST /-/reload", "").await, (422, report), "asking again tells it again");
    let refusals = world.log_lines("configuration refused");
    assert_eq!(refusals.len(), 1, "and logs it once: {refusals:?}");
    world.browser.get("/api/me").await.is(200);

    write(&world, &good);
    assert_eq!(ask(&socket, "POST /-/reload", "").await, (200, "nothing has changed\n".to_owned()));
    world.finish().await;
}

#[tokio::test]
async fn the_config_that_serves_is_shown_without_its_secrets() {
    let world = controlled().await;
    let socket = socket(&world);
    let secret = "an-inline-secret-of-the-web-client";
    assert_eq!(world.edit(|toml| toml.text("providers.corp", "client_secret", secret)).await, Edit::Served);
    let (status, text) = ask(&socket, "GET /-/config", "").await;
    assert_eq!(status, 200);
    assert!(text.contains("\n[providers.corp]\n") && text.contains("client_secret = ***"), "{text}");
    assert!(!text.contains(secret), "{text}");
    let version = text.split("version ").nth(1).unwrap().split(',').next().unwrap().to_owned();

    let config = format!("config: version {version}, generation 3, ");
    assert!(seconds(&world.admin("/readyz?verbose").await.is(200).text(), &config) < 5);
    assert_eq!(world.edit(|toml| toml.text("routes.web", "mode", "magic")).await, Edit::Refused);
    world.clock.shift(500);
    let ready = world.admin("/readyz?verbose").await.is(200).text();
    let refused = "last edit: refused ";
    assert!(
        (500..600).contains(&seconds(&ready, &config)) && (500..600).contains(&seconds(&ready, refused)),
        "{ready}"
    );
    let line = ready.lines().find(|line| line.starts_with(refused)).expect("the last error");
    assert!(line.contains("vestibule.toml:") && line.contains("routes.web.mode: "), "{line}");
    let (_, text) = ask(&socket, "GET /-/config", "").await;
    assert!(text.contains("# The last edit does not serve: refused 50") && !text.contains("magic\"\n"), "{text}");

    assert_eq!(world.edit(|toml| toml.text("routes.web", "mode", "auth-code")).await, Edit::Served);
    assert!(!world.admin("/readyz?verbose").await.text().contains("last edit"));
    world.finish().await;
}

/// AD-2: whoever was sent by a page is refused, whatever they know.
#[tokio::test]
async fn ad_2_no_browser_and_nothing_else_is_served() {
    let world = controlled().await;
    let socket = socket(&world);
    for header in ["Origin: null\r\n", "Origin: https://app.test\r\n", "Sec-Fetch-Site: none\r\n"] {
        for request in ["POST /-/reload", "GET /-/config", "GET /"] {
            assert_eq!(ask(&socket, request, header).await.0, 403, "{request} with {header}");
        }
    }
    for (request, status) in [
        ("GET /-/reload", 405),
        ("POST /-/config", 405),
        ("DELETE /-/config", 405),
        ("GET /", 404),
        ("GET /metrics", 404),
        ("POST /-/reload/", 404),
    ] {
        assert_eq!(ask(&socket, request, "").await.0, status, "{request}");
    }
    assert_eq!(world.metric("vestibule_config_reloads_total", &[]).await, 2.0, "nothing was reloaded");
    world.finish().await;
}

/// On TCP there is a token, and it changes with its file.
#[tokio::test]
async fn on_tcp_a_token_is_asked_for_and_it_follows_its_file() {
    let world = World::start().await;
    let listen = "127.0.0.3:0";
    let set = |toml: &mut Toml| {
        toml.text("server", "control", listen);
    };
    assert_eq!(
        world
            .edit(|toml| {
                set(toml);
                toml
            })
            .await,
        Edit::Refused,
        "not without a token"
    );
    let file = world.dir().join("control.token");
    let keep = |token: &str| {
        std::fs::write(&file, token).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    };
    keep(TOKEN);
    let token = "{ file = \"control.token\" }";
    assert_eq!(world.edit(|toml| toml.set("server", "control_token", token)).await, Edit::Served);
    let address = world.bound(listen).await;
    let ask = async |headers: &str| talk(TcpStream::connect(address).await.unwrap(), "POST /-/reload", headers).await.0;
    for headers in [
        String::new(),
        "Authorization: Bearer wrong\r\n".to_owned(),
        format!("Authorization: Basic {TOKEN}\r\n"),
        format!("Authorization: {TOKEN}\r\n"),
        format!("Authorization: Bearer {TOKEN}x\r\n"),
        format!("Authorization: Bearer {TOKEN}\r\nAuthorization: Bearer {TOKEN}\r\n"),
    ] {
        assert_eq!(ask(&headers).await, 401, "{headers}");
    }
    assert_eq!(ask(&format!("Authorization: bearer {TOKEN}\r\n")).await, 200);
    let new = TOKEN.replace('a', "b");
    let before = world.log_lines("configuration reloaded").len();
    keep(&new);
    eventually("the new token to serve", || world.log_lines("configuration reloaded").len() > before).await;
    assert_eq!(ask(&format!("Authorization: Bearer {TOKEN}\r\n")).await, 401);
    assert_eq!(ask(&format!("Authorization: Bearer {new}\r\n")).await, 200);
    assert!(!world.log().contains(TOKEN) && !world.log().contains(&new));
    world.finish().await;
}

/// It can move and go like every other listener; and two listeners can swap their addresses.
#[tokio::test]
async fn control_moves_and_goes_by_reload_and_listeners_swap_what_they_are_for() {
    let world = controlled().await;
    let (first, second) = (socket(&world), world.dir().join("verdict.sock"));
    let unix = |path: &Path| format!("unix:{}", path.display());
    let served = world.edit(|toml| toml.text("server", "verdict_listen", &unix(&second))).await;
    assert_eq!(served, Edit::Served);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    eventually("both sockets", || second.exists() && mode(&second) == 0o660).await;
    let swap = |toml: &mut Toml| {
        toml.text("server", "verdict_listen", &unix(&first)).text("server", "control", &unix(&second));
    };
    assert_eq!(
        world
            .edit(|toml| {
                swap(toml);
                toml
            })
            .await,
        Edit::Served
    );
    assert_eq!((mode(&first), mode(&second)), (0o660, 0o600));
    assert_eq!(ask(&second, "GET /-/config", "").await.0, 200);
    assert_eq!(ask(&first, "GET /web", "").await.0, 401, "a verdict");
    assert_eq!(world.edit(|toml| toml.unset("server", "control")).await, Edit::Served);
    eventually("the socket to go", || !second.exists()).await;
    world.finish().await;
}

/// What `GET /-/sessions` lists, by `query`.
async fn listed(socket: &Path, query: &str) -> serde_json::Value {
    let (status, body) = ask(socket, &format!("GET /-/sessions{query}"), "").await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// How many sessions `DELETE /-/sessions` ended.
async fn ended(socket: &Path, query: &str) -> u64 {
    let (status, body) = ask(socket, &format!("DELETE /-/sessions?{query}"), "").await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<serde_json::Value>(&body).unwrap()["ended"].as_u64().unwrap()
}

/// Promise 3: an operator's hand. Of each store.
#[tokio::test]
async fn sc_6_operators_see_who_is_logged_in_and_end_it() {
    for store in ["\"memory\"", "{ file = \"state/sessions.redb\" }"] {
        let world = controlled().await;
        world.edit(|toml| toml.set("sessions", "store", store)).await;
        let socket = socket(&world);
        let (phone, bob) = (world.new_browser(), world.new_browser());
        for (browser, user) in [(&world.browser, "alice"), (&phone, "alice"), (&bob, "bob")] {
            browser.login(user).await;
        }
        let all = listed(&socket, "").await;
        let sessions = all["sessions"].as_array().unwrap();
        assert_eq!((sessions.len(), &all["next"], &all["in_store"]), (3, &serde_json::Value::Null, &3.into()), "{all}");
        for session in sessions {
            assert_eq!((&session["route"], &session["provider"]), (&"web".into(), &"corp".into()));
            let text = session.to_string();
            // The names of what it holds, and nothing that opens anything: the oracle looks for tokens and handles.
            assert!(
                !text.contains("eyJ") && text.contains("last_used_at") && text.contains("idle_expires_at"),
                "{text}"
            );
        }
        let first = listed(&socket, "?limit=2").await;
        assert_eq!(first["sessions"].as_array().unwrap().len(), 2);
        let rest = listed(&socket, &format!("?limit=2&after={}", first["next"].as_str().unwrap())).await;
        assert_eq!((rest["sessions"].as_array().unwrap().len(), &rest["next"]), (1, &serde_json::Value::Null));
        for (query, count) in [
            ("?sub=alice-0001", 2),
            ("?sub=nobody", 0),
            ("?route=web&provider=corp", 3),
            ("?route=other", 0),
            ("?older_than=1h", 0),
            ("?idle_for=0s", 3),
        ] {
            assert_eq!(listed(&socket, query).await["sessions"].as_array().unwrap().len(), count, "{query}");
        }
        // By the eight bytes that the log has.
        let id = |sub: &str| {
            let found = sessions.iter().find(|session| session["sub"] == sub).unwrap();
            found["id"].as_str().unwrap()[..16].to_owned()
        };
        assert_eq!(ended(&socket, &format!("id={}", id("bob-0001"))).await, 1);
        bob.get("/api/me").await.refused(401, "login_required");
        assert_eq!(ended(&socket, "sub=alice-0001&older_than=1h").await, 0);
        world.browser.get("/api/me").await.is(200);
        assert_eq!(ended(&socket, "sub=alice-0001").await, 2);
        world.browser.get("/api/me").await.refused(401, "login_required");
        bob.navigate("/login/start").await.is(200).at("https://app.test/");
        assert_eq!(ended(&socket, "all=true").await, 1);
        bob.get("/api/me").await.refused(401, "login_required");
        assert!(world.metric("vestibule_logouts_total", &[("kind", "operator")]).await > 3.5);
        assert!(world.log().contains("control: sessions ended"));
        world.finish().await;
    }
}

/// Whoever mistypes ends nobody.
#[tokio::test]
async fn what_is_not_understood_ends_nobody() {
    let world = controlled().await;
    let socket = socket(&world);
    world.browser.login("alice").await;
    for query in [
        "",
        "?",
        "?user=alice",
        "?sub=alice-0001&typo=1",
        "?all=yes",
        "?all=true&sub=bob-0001",
        "?sub=bob-0001&sub=alice-0001",
        "?older_than=never",
        "?id=xyz",
        "?id=",
        "?sub=bob-0001&limit=1",
    ] {
        let (status, body) = ask(&socket, &format!("DELETE /-/sessions{query}"), "").await;
        assert_eq!(status, 400, "{query}: {body}");
        assert!(body.ends_with('\n') && body.len() > 10, "{body}");
    }
    for query in ["?limit=0", "?limit=1001", "?after=1", "?all=true", "?user=alice"] {
        assert_eq!(ask(&socket, &format!("GET /-/sessions{query}"), "").await.0, 400, "{query}");
    }
    assert_eq!(ask(&socket, "POST /-/sessions", "").await.0, 405);
    assert_eq!(ask(&socket, "GET /-/sessions", "Origin: https://app.test\r\n").await.0, 403);
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}
