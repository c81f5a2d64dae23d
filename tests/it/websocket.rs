//! WebSockets: opened by the app alone, carried unread, and gone with their session.

use std::time::{Duration, Instant};

use http::Method;
use tokio_tungstenite::tungstenite::Message;

use crate::world::live::{Socket, SocketUpstream, cookie, handshake};
use crate::world::raw::Raw;
use crate::world::upstream::Reply;
use crate::world::{Edit, World};

/// What the specification gives an ended session for the end of its streams.
const SECOND: Duration = Duration::from_secs(1);

/// A world whose API speaks WebSocket, with somebody logged in.
async fn world() -> (World, SocketUpstream) {
    let upstream = SocketUpstream::start().await;
    let url = upstream.url();
    let world = World::builder().config(move |toml| toml.text("upstreams.api", "url", &url)).start().await;
    world.browser.login("alice").await;
    (world, upstream)
}

async fn counted(world: &World) -> f64 {
    world.metric("vestibule_streams_open", &[("upstream", "api"), ("kind", "websocket")]).await
}

#[tokio::test]
async fn px_19_a_socket_carries_messages_both_ways_with_our_headers() {
    let (world, upstream) = world().await;
    world.browser.plant("theme=dark; Path=/");
    let request = handshake(&world.browser)
        .header("origin", "https://app.test")
        .header("authorization", "Bearer theirs")
        .header("x-forwarded-for", "evil")
        .header("sec-websocket-protocol", "chat");
    let (mut socket, headers) = Socket::shake(&world, request).await.unwrap();
    assert_eq!(
        (&headers["sec-websocket-protocol"], &headers["x-upstream"]),
        (&"chat".parse().unwrap(), &"here".parse().unwrap())
    );
    assert!(headers.get("cache-control").is_none(), "{headers:?}");
    let seen = upstream.handshakes().pop().unwrap();
    assert!(seen["authorization"].to_str().unwrap().starts_with("Bearer ey"));
    assert_eq!(seen["cookie"], "theme=dark");
    assert_eq!(
        (&seen["host"], &seen["x-forwarded-for"]),
        (&"app.test".parse().unwrap(), &"127.0.0.1".parse().unwrap())
    );
    assert_eq!(seen["origin"], "https://app.test");

    socket.echoes("hello").await;
    // Nothing in the bytes is read as HTTP: line ends stay as they are, and sizes do not matter.
    socket.echoes("GET / HTTP/1.1\n\nno\r\n\r\n").await;
    let large = vec![b'\n'; 4 << 20];
    socket.say(large.clone()).await;
    assert_eq!(socket.hear().await.into_data(), large);
    assert_eq!(counted(&world).await, 1.0);
    assert_eq!(world.metric("vestibule_http_requests_total", &[("code", "101"), ("route", "web")]).await, 1.0);

    socket.say("bye").await;
    assert!(matches!(socket.hear().await, Message::Close(_)));
    socket.ended().await;
    upstream.has_open(0).await;
    world.finish().await;
}

#[tokio::test]
async fn px_19_only_pages_of_the_app_may_open_one() {
    let (world, upstream) = world().await;
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "https://sub.app.test"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "none"),
        ("accept", "text/html"),
        ("x-nothing", "at all"),
    ] {
        let refused = Socket::shake(&world, handshake(&world.browser).header(name, value)).await.err().unwrap();
        assert_eq!(refused.status(), 403, "{name}: {value}");
        assert_eq!(refused.headers()["vestibule-error"], "cross_site");
    }
    assert!(upstream.handshakes().is_empty());
    let request = handshake(&world.browser).header("sec-fetch-site", "same-origin");
    Socket::shake(&world, request).await.unwrap().0.echoes("in").await;
    world.finish().await;
}

#[tokio::test]
async fn px_1_nobody_and_no_stranger_to_the_protocol_gets_one() {
    let (world, upstream) = world().await;
    let stranger = world.new_browser();
    let origin = |request: http::request::Builder| request.header("origin", "https://app.test");
    let refused = Socket::shake(&world, origin(handshake(&stranger))).await.err().unwrap();
    assert_eq!(refused.status(), 401);
    let head = |line: &str, upgrade: &str| {
        let cookie = cookie(&world.browser);
        format!(
            "{line} HTTP/1.1\r\nHost: app.test\r\nCookie: {cookie}\r\nOrigin: https://app.test\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n"
        )
    };
    for (line, upgrade, status) in [
        ("GET /api/socket", "spdy/3.1", 501),
        ("GET /api/socket", "websocket", 400),
        ("POST /api/socket", "websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400),
    ] {
        assert_eq!(Raw::status(world.address().await, head(line, upgrade)).await, status, "{line} {upgrade}");
    }
    assert!(upstream.handshakes().is_empty());
    world.finish().await;
}

#[tokio::test]
async fn lo_8_lo_9_logging_out_cuts_the_sockets_of_that_session_alone() {
    let (world, upstream) = world().await;
    let bob = world.new_browser();
    bob.login("bob").await;
    let mut sockets = (Socket::open(&world, &world.browser).await, Socket::open(&world, &world.browser).await);
    let mut bobs = Socket::open(&world, &bob).await;
    sockets.0.echoes("one").await;
    sockets.1.echoes("two").await;
    world.provider.go_down().await.unwrap();
    let began = Instant::now();
    world.browser.post("/logout").await.is(200);
    sockets.0.ended().await;
    sockets.1.ended().await;
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    upstream.has_open(1).await;
    bobs.echoes("still here").await;
    assert_eq!(counted(&world).await, 1.0);
    world.provider.come_up().unwrap();
    world.finish().await;
}

#[tokio::test]
async fn cb_20_logging_in_as_somebody_else_cuts_the_sockets_of_the_one_before() {
    let (world, _upstream) = world().await;
    let mut socket = Socket::open(&world, &world.browser).await;
    socket.echoes("alice").await;
    world.clock.shift(1);
    world.browser.navigate("/login/start?login_hint=bob").await.is(200).at("https://app.test/");
    assert!(socket.ended().await < SECOND);
    world.finish().await;
}

#[tokio::test]
async fn sc_5_what_a_client_says_is_use_of_its_session() {
    let (world, _upstream) = world().await;
    let mut socket = Socket::open(&world, &world.browser).await;
    socket.echoes("hello").await;
    // Half an hour is the limit.
    for minutes in [20, 20, 20] {
        world.clock.shift(minutes * 60);
        socket.echoes("I am still here").await;
        noted(&world).await;
    }
    world.clock.shift(31 * 60);
    assert!(socket.ended().await < SECOND * 2);
    world.browser.get("/api/x").await.is(401);
    world.finish().await;
}

/// Waits until the session counts as used at this very moment; asking for it is no use.
async fn noted(world: &World) {
    let began = Instant::now();
    loop {
        let session = world.browser.get("/session").await.is(200).json();
        let instant = |name: &str| session[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        if instant("idle_expires_at") - instant("server_time") > jiff::SignedDuration::from_mins(29) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(5), "what was said is not noted: {session}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn sc_5_the_absolute_end_of_a_session_cuts_its_sockets() {
    let (world, _upstream) = world().await;
    let mut socket = Socket::open(&world, &world.browser).await;
    socket.echoes("hello").await;
    world.clock.shift(10 * 3600);
    assert!(socket.ended().await < SECOND * 2);
    world.finish().await;
}

#[tokio::test]
async fn f18_what_is_said_too_early_is_never_a_request_of_its_own() {
    // The upstream of a usual world speaks no WebSocket and answers like any server.
    let world = World::start().await;
    world.browser.login("alice").await;
    world.upstream.on("/api/refused", Reply::text("no").status(403));
    let upgrade = "Origin: https://app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let head = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: app.test\r\nCookie: {}\r\n", cookie(&world.browser));
    let early = head("/api/admin") + "Sec-Fetch-Site: same-origin\r\n\r\n";
    for (path, status) in [("/api/refused", "403"), ("/api/fine", "200"), ("/login/none", "404")] {
        let mut raw = world.raw().await;
        raw.write(head(path) + upgrade + &early).await;
        let seen = raw.read_all(Duration::from_secs(5)).await.expect("closed");
        assert!(seen.starts_with(&format!("HTTP/1.1 {status} ")) && seen.matches("HTTP/1.1 ").count() == 1, "{seen}");
    }
    assert!(world.upstream.recorded().iter().all(|request| request.target() != "/api/admin"));

    // With an upstream that switches, they are its to read, byte for byte.
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nwelcome";
    world.upstream.on("/api/socket", Reply::Raw(switched.into()));
    let mut raw = world.raw().await;
    raw.write(head("/api/socket") + upgrade + &early).await;
    let seen = raw.read_all(Duration::from_secs(5)).await.expect("closed");
    assert!(seen.starts_with("HTTP/1.1 101 ") && seen.ends_with("welcome"), "{seen}");
    assert!(world.upstream.recorded().iter().all(|request| request.target() != "/api/admin"));
    world.finish().await;
}

#[tokio::test]
async fn f19_a_101_that_nobody_asked_for_or_for_something_else_is_broken() {
    let world = World::start().await;
    world.browser.login("alice").await;
    for (path, protocol) in [("/api/socket", "h2c"), ("/api/plain", "websocket")] {
        let switched =
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n");
        world.upstream.on(path, Reply::Raw(switched.into()));
    }
    let request = handshake(&world.browser).header("origin", "https://app.test");
    assert_eq!(Socket::shake(&world, request).await.err().unwrap().status(), 502);
    world.browser.get("/api/plain").await.refused(502, "upstream_broken");
    world.finish().await;
}

#[tokio::test]
async fn a_refusal_of_the_upstream_is_an_answer_like_any_other() {
    let world = World::start().await;
    world.browser.login("alice").await;
    world.upstream.next(Reply::text("wrong version").status(426).header("sec-websocket-version", "8"));
    let request = handshake(&world.browser).header("origin", "https://app.test");
    let refused = Socket::shake(&world, request).await.err().unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["sec-websocket-version"]), (426, &"8".parse().unwrap()));
    assert_eq!(refused.body().as_deref(), Some(&b"wrong version"[..]));
    world.finish().await;
}

#[tokio::test]
async fn either_end_that_leaves_takes_the_other_along() {
    let (world, upstream) = world().await;
    let mut dying = Socket::open(&world, &world.browser).await;
    dying.say("die").await;
    assert!(dying.ended().await < SECOND);
    let mut leaving = Socket::open(&world, &world.browser).await;
    leaving.echoes("hello").await;
    drop(leaving);
    upstream.has_open(0).await;
    world.finish().await;
}

#[tokio::test]
async fn a_reload_leaves_open_sockets_alone_even_when_everything_about_them_changes() {
    let (world, upstream) = world().await;
    let mut socket = Socket::open(&world, &world.browser).await;
    let edits: [fn(&mut crate::world::toml::Toml) -> &mut crate::world::toml::Toml; 3] = [
        |toml| toml.text("upstreams.api", "url", "http://127.0.0.1:1"),
        |toml| toml.set("routes.web.paths", "\"/other/\"", "{ upstream = \"http://127.0.0.1:1\" }"),
        |toml| {
            toml.remove("routes.web.paths").text("routes.web", "public_url", "https://other.test");
            toml.text("routes.site", "mode", "device").text("routes.site", "client_id", "cli");
            toml.set("routes.site", "verify", "false");
            toml.text("routes.site", "public_url", "https://app.test").text("routes.site", "upstream", "api")
        },
    ];
    for edit in edits {
        assert_eq!(world.edit(edit).await, Edit::Served);
        socket.echoes("still here").await;
    }
    assert_eq!(upstream.open(), 1);
    world.finish().await;
}

#[tokio::test]
async fn a_silent_socket_has_a_limit_and_a_word_sets_it_anew() {
    let upstream = SocketUpstream::start().await;
    let url = upstream.url();
    let world = World::builder()
        .config(move |toml| toml.text("upstreams.api", "url", &url).text("upstreams.api", "idle_timeout", "600ms"))
        .start()
        .await;
    world.browser.login("alice").await;
    let mut socket = Socket::open(&world, &world.browser).await;
    for _ in 0..4 {
        assert!(socket.is_quiet_for(Duration::from_millis(300)).await);
        socket.say("hush").await;
    }
    let silent = socket.ended().await;
    assert!(silent > Duration::from_millis(400) && silent < SECOND * 3, "{silent:?}");
    upstream.has_open(0).await;
    world.finish().await;
}

#[tokio::test]
async fn an_upstream_on_http_2_has_no_sockets_and_says_so() {
    let world = World::builder().config(|toml| toml.text("upstreams.api", "url", "h2c://127.0.0.1:1")).start().await;
    world.browser.login("alice").await;
    let request = handshake(&world.browser).header("origin", "https://app.test");
    let refused = Socket::shake(&world, request).await.err().unwrap();
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["vestibule-error"]),
        (501, &"upgrade_unsupported".parse().unwrap())
    );
    world.finish().await;
}

#[tokio::test]
async fn a_rule_for_everybody_has_sockets_for_everybody() {
    let upstream = SocketUpstream::start().await;
    let rule = format!("{{ upstream = \"{}\", unauthenticated = \"pass\" }}", upstream.url());
    let world = World::builder().config(move |toml| toml.set("routes.web.paths", "\"/api/\"", &rule)).start().await;
    let mut nobody = Socket::open(&world, &world.browser).await;
    nobody.echoes("hello").await;
    assert!(upstream.handshakes()[0].get("authorization").is_none());
    world.browser.login("alice").await;
    world.browser.fetch(Method::POST, "/logout").await.is(200);
    nobody.echoes("still here").await;
    world.finish().await;
}
