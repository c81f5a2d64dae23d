//! The session cookie and the session behind it (requirements SC, table S), over the wire.

use std::time::Duration;

use http::Method;

use crate::world::browser::Browser;
use crate::world::raw::Raw;
use crate::world::{Edit, World};

/// The name of the session cookie of the world's route.
const NAME: &str = "__Host-Http-vestibule-web";

/// The session cookie's value.
fn handle(browser: &Browser) -> String {
    browser.cookies().into_iter().find(|cookie| cookie.name == NAME).unwrap().value
}

/// The status of `GET path` with these `Cookie` headers, as raw bytes.
async fn ask(world: &World, path: &str, cookies: &[&[u8]]) -> u16 {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: app.test\r\n").into_bytes();
    for cookie in cookies {
        request.extend_from_slice(&[b"Cookie: ", *cookie, b"\r\n"].concat());
    }
    request.extend_from_slice(b"\r\n");
    Raw::status(world.address().await, request).await
}

#[tokio::test]
async fn sc_1_sc_3_sc_4_s01_the_cookie_is_a_random_handle_with_every_guard() {
    let world = World::start().await;
    let picker = world.browser.begin_login().await;
    let callback = world.browser.callback_for(&picker, "alice").await;
    let answer = world.browser.navigate(callback.as_str()).stay().await.is(303);
    let line = answer
        .all("set-cookie")
        .into_iter()
        .find(|line| line.starts_with(NAME) && !line.contains(".l"))
        .unwrap();
    let value = handle(&world.browser);
    assert_eq!(value.len(), 43, "256 bits in base64url");
    assert_eq!(line, format!("{NAME}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=36000"));
    assert!(world.browser.rejected().is_empty());
    assert!(!world.log().contains(&value), "only its hash is known anywhere");
    world.finish().await;
}

#[tokio::test]
async fn sc_5_s18_both_lifetimes_end_here_whatever_the_clock_does() {
    let world = World::builder().config(|toml| toml.text("sessions", "idle_timeout", "20m")).start().await;
    world.browser.login("alice").await;
    let cookie = format!("{NAME}={}", handle(&world.browser));
    let is = async |status: u16| assert_eq!(ask(&world, "/userinfo", &[cookie.as_bytes()]).await, status);
    is(200).await;
    // A clock that jumps back neither ends nor prolongs anything.
    world.clock.shift(-3600);
    is(200).await;
    world.clock.shift(3600);
    is(200).await;
    for _ in 0..29 {
        world.clock.shift(1190);
        is(200).await;
    }
    // Ten hours after the login it is over, although it was always in use.
    world.clock.shift(1600);
    is(401).await;
    let idle = world.new_browser();
    idle.login("bob").await;
    let cookie = format!("{NAME}={}", handle(&idle));
    world.clock.shift(1150);
    assert_eq!(ask(&world, "/userinfo", &[cookie.as_bytes()]).await, 200);
    world.clock.shift(1201);
    assert_eq!(ask(&world, "/userinfo", &[cookie.as_bytes()]).await, 401);
    world.finish().await;
}

#[tokio::test]
async fn sc_13_s18_the_year_2100_is_like_any_other() {
    let world = World::start().await;
    // 2039, behind the end of 32-bit seconds, and then 2100.
    for years in [15, 61] {
        world.clock.shift(years * 365 * 86_400);
        world.still_works().await;
    }
    world.finish().await;
}

#[tokio::test]
async fn sc_6_an_ended_session_is_ended_for_every_copy() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let thief = world.browser.copy();
    thief.get("/api/me").await.is(200);
    world.browser.post("/logout").await.is(200);
    thief.get("/api/me").await.refused(401, "login_required");
    // So it is when the provider refuses its refresh token for good.
    let browser = world.new_browser();
    browser.login("alice").await;
    let thief = browser.copy();
    world.provider.revoke_all();
    world.clock.shift(301);
    browser.get("/api/me").await.refused(401, "login_required");
    thief.get("/userinfo").await.refused(401, "login_required");
    assert!(world.metric("vestibule_logouts_total", &[("kind", "refresh_failed")]).await >= 1.0);
    world.finish().await;
}

#[tokio::test]
async fn sc_7_s05_s07_strange_cookies_are_no_cookies() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let good = handle(&world.browser);
    let with = |value: &str| format!("{NAME}={value}").into_bytes();
    let mut strange: Vec<Vec<u8>> = vec![
        with(""),
        with(&good[1..]),
        with(&format!("{good}A")),
        with(&good.replacen(|char: char| char.is_ascii_alphanumeric(), "!", 1)),
        with(&good.to_lowercase()),
        with(&format!("\"{good}\"")),
        with(
            &good
                .replace('A', "%41")
                .replace('B', "%42")
                .replace('C', "%43")
                .replace('D', "%44")
                .replace('E', "%45"),
        ),
        with(&"A".repeat(43)),
        with(&"A".repeat(4096)),
        with("../../etc/passwd"),
        [with(""), vec![0xff, 0xfe, 0x80]].concat(),
        b";;;=;=;;".to_vec(),
        b"\xff\xff\xff".to_vec(),
        NAME.as_bytes().to_vec(),
    ];
    strange.retain(|cookie| *cookie != with(&good));
    for cookie in &strange {
        let shown = String::from_utf8_lossy(cookie).into_owned();
        for path in ["/api/me", "/userinfo", "/session", "/claims"] {
            assert_eq!(ask(&world, path, &[cookie]).await, 401, "{path} with {shown}");
        }
        assert_eq!(ask(&world, "/login/start", &[cookie]).await, 302, "{shown}");
        assert_eq!(ask(&world, "/check_auth", &[cookie]).await, 200, "{shown}");
    }
    let huge = format!("{NAME}={}", "A".repeat(64 * 1024));
    assert!(matches!(ask(&world, "/api/me", &[huge.as_bytes()]).await, 401 | 431));
    let many: Vec<String> = (0..200).map(|number| format!("c{number}=1")).collect();
    assert_eq!(ask(&world, "/api/me", &[many.join("; ").as_bytes()]).await, 401);
    let lines: Vec<&[u8]> = many.iter().map(String::as_bytes).collect();
    assert!(matches!(ask(&world, "/api/me", &lines).await, 401 | 431));
    assert_eq!(world.upstream.count(), 0);
    world.still_works().await;
    world.finish().await;
}

#[tokio::test]
async fn sc_8_s12_one_name_with_two_values_is_nobody() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let good = format!("{NAME}={}", handle(&world.browser));
    let twice = format!("{good}; {good}");
    assert_eq!(ask(&world, "/api/me", &[twice.as_bytes()]).await, 200);
    assert_eq!(ask(&world, "/api/me", &[good.as_bytes(), good.as_bytes()]).await, 200);
    for other in [format!("{NAME}={}", "A".repeat(43)), format!("{NAME}=")] {
        for cookies in [format!("{good}; {other}"), format!("{other}; {good}")] {
            assert_eq!(ask(&world, "/api/me", &[cookies.as_bytes()]).await, 401, "{cookies}");
        }
        assert_eq!(ask(&world, "/api/me", &[good.as_bytes(), other.as_bytes()]).await, 401);
    }
    world.finish().await;
}

#[tokio::test]
async fn sc_9_sc_10_s08_s09_names_are_bytes() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let value = handle(&world.browser);
    let good = format!("{NAME}={value}");
    for before in ["\u{2000}", "\u{85}", "\u{a0}", "\u{3000}", "\u{feff}", "\u{b}", "$Version=1, ", "="] {
        let status = ask(&world, "/api/me", &[format!("{before}{good}").as_bytes()]).await;
        assert!(status == 401 || before == "\u{b}" && status == 400, "{before:?}: {status}");
    }
    for name in [NAME.to_lowercase(), NAME.to_uppercase(), NAME.replace("-web", "%2Dweb"), format!("\"{NAME}\"")] {
        assert_eq!(ask(&world, "/api/me", &[format!("{name}={value}").as_bytes()]).await, 401, "{name}");
    }
    for cookie in [
        [b"x=\xff\xfe; ".as_slice(), good.as_bytes()].concat(),
        format!("$Version=1; {good}").into_bytes(),
        format!("a=b;{good};c=d").into_bytes(),
        format!(" \t {good} \t ; a").into_bytes(),
    ] {
        assert_eq!(ask(&world, "/api/me", &[&cookie]).await, 200, "{}", String::from_utf8_lossy(&cookie));
    }
    world.finish().await;
}

#[tokio::test]
async fn sc_11_a_full_store_lets_the_longest_idle_go() {
    let world = World::builder().config(|toml| toml.set("sessions", "max_sessions", "2")).start().await;
    let [first, second, third] = [world.new_browser(), world.new_browser(), world.new_browser()];
    first.login("alice").await;
    world.clock.shift(10);
    second.login("bob").await;
    world.clock.shift(10);
    first.get("/api/me").await.is(200);
    world.clock.shift(10);
    third.login("carol").await;
    first.get("/api/me").await.is(200);
    third.get("/api/me").await.is(200);
    second.get("/api/me").await.refused(401, "login_required");
    assert_eq!(world.sidecar().lasting().shared.sessions.count(), 2);
    world.finish().await;
}

#[tokio::test]
async fn s23_a_handle_opens_nothing_on_another_route() {
    let world = World::builder()
        .config(|toml| {
            toml.text("routes.other", "mode", "auth-code")
                .text("routes.other", "public_url", "https://other.test")
                .text("routes.other", "upstream", "api")
        })
        .start()
        .await;
    world.add_host("other.test", true).await;
    world.browser.login("alice").await;
    let value = handle(&world.browser);
    let thief = world.new_browser();
    let ask = |path: &str| {
        thief
            .navigate(&format!("https://other.test{path}"))
            .header("cookie", &format!("__Host-Http-vestibule-other={value}"))
    };
    ask("/api/me").await.refused(401, "login_required");
    ask("/userinfo").await.refused(401, "login_required");
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}

#[tokio::test]
async fn s24_after_a_restart_the_memory_store_knows_nobody_and_says_so_politely() {
    let mut world = World::start().await;
    world.browser.login("alice").await;
    world.restart().await;
    world.browser.get("/api/me").await.refused(401, "login_required");
    world.browser.navigate("/userinfo").await.refused(401, "login_required");
    world.browser.post("/logout").await.refused(401, "login_required");
    world.still_works().await;
    world.finish().await;
}

#[tokio::test]
async fn cf_11_a_reload_keeps_sessions_unless_their_client_is_another() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let edit = world.edit(|toml| toml.set("routes.web.paths", "\"/api/\"", "{ methods = [\"GET\"] }")).await;
    assert_eq!(edit, Edit::Served);
    world.browser.get("/api/me").await.is(200);
    world.browser.post("/api/me").await.refused(405, "method_not_allowed");
    // A broken edit changes nothing, and the log says where it is broken.
    assert_eq!(world.edit(|toml| toml.set("routes.web", "public_urk", "1")).await, Edit::Refused);
    assert!(world.log().contains("public_urk"), "the report names the key");
    world.browser.get("/api/me").await.is(200);
    world.browser.post("/api/me").await.refused(405, "method_not_allowed");
    let edit = world.edit(|toml| toml.unset("routes.web", "public_urk").remove("routes.web.paths")).await;
    assert_eq!(edit, Edit::Served);
    world.browser.post("/api/me").await.is(200);
    assert_eq!(world.edit(|toml| toml.text("providers.corp", "client_id", "another")).await, Edit::Served);
    world.browser.get("/api/me").await.refused(401, "login_required");
    world.finish().await;
}

#[tokio::test]
async fn in_1_a_slow_cookie_does_not_hold_a_session_hostage() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let mut raw = world.raw().await;
    raw.write(format!("GET /api/me HTTP/1.1\r\nHost: app.test\r\nCookie: {NAME}=")).await;
    world.browser.fetch(Method::GET, "/api/me").await.is(200);
    assert_eq!(raw.read_all(Duration::from_millis(50)).await, None, "a head that is still coming in is waited for");
    drop(raw);
    world.finish().await;
}
