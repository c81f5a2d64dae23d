//! The proxy as front ends and APIs see it: who may pass, what goes along, what comes back, and what breaks.

use std::time::Duration;

use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::upstream::Reply;
use crate::world::{Edit, World};

/// The session cookie as the browser would send it.
fn cookie(world: &World) -> String {
    let cookies = world.browser.cookies();
    let pairs: Vec<String> = cookies.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
    pairs.join("; ")
}

/// A head as Caddy would pass it on, without the empty line.
fn head(line: &str, cookie: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: app.test\r\nCookie: {cookie}\r\nSec-Fetch-Site: same-origin\r\n")
}

#[tokio::test]
async fn px_1_without_a_session_nothing_passes() {
    let world = World::start().await;
    for path in ["/api/x", "/api/"] {
        let answer = world.browser.get(path).await.refused(401, "login_required");
        assert_eq!(answer.header("location"), None);
        assert_eq!(answer.header("set-cookie"), None);
    }
    assert_eq!(world.upstream.count(), 0);
    world.finish().await;
}

#[tokio::test]
async fn px_5_h13_the_bearer_goes_in_and_our_cookie_stays_out() {
    let world = World::start().await;
    world.browser.login("alice").await;
    world.browser.plant("theme=dark; Path=/");
    let ask = world.browser.get("/api/a%20b?q=%26&q=%20").header("dpop", "proof");
    ask.header("authorization", "Bearer theirs").await.is(200);
    let seen = world.upstream.last();
    assert_eq!(seen.target(), "/api/a%20b?q=%26&q=%20");
    assert!(seen.header("authorization").unwrap().starts_with("Bearer ey"));
    assert_eq!(seen.header("cookie"), Some("theme=dark"));
    assert_eq!(seen.header("dpop"), None);
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-host"), Some("app.test"));
    assert!(seen.header("forwarded").unwrap().ends_with(";host=\"app.test\";proto=https"));
    world.finish().await;
}

#[tokio::test]
async fn px_6_h08_connection_strips_the_clients_headers_and_never_ours() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let mut raw = world.raw().await;
    let named = "Connection: close, Authorization, X-Forwarded-For, X-Forwarded-Host, X-Inner\r\nX-Inner: 1\r\n\r\n";
    raw.write(head("GET /api/x", &cookie(&world)) + named).await;
    assert!(raw.read_answer().await.starts_with("HTTP/1.1 200 "));
    let seen = world.upstream.last();
    assert!(seen.header("authorization").unwrap().starts_with("Bearer ey"));
    assert!(seen.header("x-forwarded-for").is_some());
    assert_eq!(seen.header("x-forwarded-host"), Some("app.test"));
    assert_eq!((seen.header("x-inner"), seen.header("connection")), (None, None));
    world.finish().await;
}

#[tokio::test]
async fn h01_to_h10_claims_of_the_client_do_not_pass_in_any_spelling() {
    let world = World::builder()
        .config(|toml| {
            toml.set("routes.web.paths", "\"/api/\"", "{ upstream = \"api\", identity_headers = \"oauth2-proxy\" }")
        })
        .start()
        .await;
    world.browser.login("alice").await;
    let claims = [
        "X-Forwarded-User",
        "X_Forwarded_User",
        "X.Forwarded.Email",
        "X-Forwarded-Groups",
        "X-Forwarded-Prefix",
        "X-Forwarded-Uri",
        "X-Forwarded-Method",
        "X-Real-IP",
        "X-Original-URL",
        "X-HTTP-Method-Override",
    ];
    let ask = claims.iter().fold(world.browser.get("/api/x"), |ask, name| ask.header(name, "evil"));
    ask.await.is(200);
    let seen = world.upstream.last();
    assert!(!seen.head.contains("evil"), "{}", seen.head);
    assert_eq!(seen.header("x-forwarded-email"), Some("alice@example.com"));
    world.finish().await;
}

#[tokio::test]
async fn px_13_answers_come_back_as_they_are_but_for_what_is_ours() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let session = cookie(&world);
    let reply = Reply::text("no").status(403).header("set-cookie", "app=1").header("x-app", "1");
    let name = session.split('=').next().unwrap();
    world.upstream.next(reply.header("set-cookie", &format!("{name}=stolen; Path=/; Secure; HttpOnly")));
    let answer = world.browser.get("/api/x").await.is(403).has("x-app", "1").has("set-cookie", "app=1").says("no");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    world.upstream.next(Reply::text("").status(302).header("location", "https://elsewhere.example/"));
    world.browser.get("/api/x").stay().await.is(302).has("location", "https://elsewhere.example/");
    world.upstream.next(Reply::text("").header("cache-control", "public, max-age=60"));
    world.browser.get("/api/x").await.is(200).has("cache-control", "private, max-age=60");
    assert!(cookie(&world).contains(&session));
    world.finish().await;
}

#[tokio::test]
async fn px_4_permissions_for_other_origins_are_ours_to_give() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let reply = Reply::text("")
        .header("access-control-allow-origin", "*")
        .header("access-control-allow-methods", "*");
    world.upstream.next(reply);
    let answer = world.browser.fetch(Method::POST, "/api/x").await.is(200);
    assert_ne!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-allow-methods"), None);
    world.finish().await;
}

#[tokio::test]
async fn trouble_with_the_upstream_has_a_name() {
    let world = World::builder()
        .config(|toml| {
            toml.text("upstreams.api", "response_timeout", "200ms")
                .text("upstreams.api", "idle_timeout", "200ms")
        })
        .start()
        .await;
    world.browser.login("alice").await;
    world.upstream.next(Reply::Hang);
    world.browser.get("/api/x").await.refused(504, "upstream_timeout");
    world.upstream.on("/api/broken", Reply::Raw(b"220 smtp.example ESMTP\r\n".to_vec()));
    world.browser.get("/api/broken").await.refused(502, "upstream_broken");
    let codes = [("504", "timeout"), ("502", "broken")];
    for (code, label) in codes {
        assert_eq!(world.metric("vestibule_http_requests_total", &[("code", code), ("route", "web")]).await, 1.0);
        assert_eq!(
            world.metric("vestibule_upstream_requests_total", &[("code", label), ("upstream", "api")]).await,
            1.0
        );
    }
    let gone = world.edit(|toml| toml.text("upstreams.api", "url", "http://127.0.0.1:1")).await;
    assert_eq!(gone, Edit::Served);
    world.browser.get("/api/x").await.refused(502, "upstream_unreachable");
    world.finish().await;
}

#[tokio::test]
async fn answers_stream_and_may_stay_open() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let parts = vec![(Duration::ZERO, b"data: one\n\n".to_vec())];
    let headers = vec![("content-type".to_owned(), "text/event-stream".to_owned())];
    world.upstream.next(Reply::Stream { headers, parts, open: true });
    let mut stream = TcpStream::connect(world.address().await).await.unwrap();
    stream.write_all((head("GET /api/events", &cookie(&world)) + "\r\n").as_bytes()).await.unwrap();
    let mut seen = String::new();
    let arrives = async {
        while !seen.contains("data: one") {
            seen.push(stream.read_u8().await.unwrap().into());
        }
    };
    tokio::time::timeout(Duration::from_secs(5), arrives)
        .await
        .expect("the event arrives while the answer is open");
    assert!(seen.contains("transfer-encoding: chunked"), "{seen}");
    drop(stream);
    world.finish().await;
}

#[tokio::test]
async fn px_14_f17_an_upload_that_breaks_off_is_never_complete_upstream() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let mut raw = world.raw().await;
    raw.write(head("POST /api/x", &cookie(&world)) + "Content-Length: 100\r\n\r\nhalf").await;
    let in_flight = || world.metric("vestibule_http_requests_in_flight", &[("route", "web")]);
    tokio::time::timeout(Duration::from_secs(5), async { while in_flight().await < 1.0 {} })
        .await
        .unwrap();
    drop(raw);
    world.upstream.wait_for(1).await;
    assert!(!world.upstream.last().complete);
    world.finish().await;
}

#[tokio::test]
async fn f01_f02_an_upstream_sees_one_framing() {
    let world = World::start().await;
    world.browser.login("alice").await;
    for framing in
        ["Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"]
    {
        let mut raw = world.raw().await;
        let smuggled = head("GET /api/smuggled", &cookie(&world)) + "\r\n";
        raw.write(head("POST /api/x", &cookie(&world)) + framing + "\r\n5\r\nhello\r\n0\r\n\r\n" + &smuggled)
            .await;
        let seen = raw.read_all(Duration::from_secs(5)).await.expect("closed");
        assert_eq!(seen.matches("HTTP/1.1 ").count(), 1, "{seen}");
        let seen = world.upstream.last();
        assert_eq!((seen.body.as_slice(), seen.target()), (&b"hello"[..], "/api/x"));
        assert_eq!((seen.header("content-length"), seen.header("transfer-encoding")), (None, Some("chunked")));
    }
    world.finish().await;
}

#[tokio::test]
async fn max_body_holds_for_uploads_of_any_form() {
    let rule = "{ upstream = \"api\", max_body = \"10B\" }";
    let world = World::builder().config(move |toml| toml.set("routes.web.paths", "\"/api/\"", rule)).start().await;
    world.browser.login("alice").await;
    world.browser.post("/api/x").body("ten bytes.").await.is(200);
    world.browser.post("/api/x").body("eleven byte").await.refused(413, "body_too_large");
    let mut raw = world.raw().await;
    let chunked = "Transfer-Encoding: chunked\r\n\r\nb\r\neleven byte\r\n0\r\n\r\n";
    raw.write(head("POST /api/x", &cookie(&world)) + chunked).await;
    assert!(raw.read_answer().await.starts_with("HTTP/1.1 413 "));
    world.finish().await;
}

#[tokio::test]
async fn ad_1_the_doors_of_routes_know_nothing_of_the_operators() {
    let world = World::builder().without_front_end().start().await;
    for path in ["/metrics", "/livez", "/readyz", "/debug"] {
        world.browser.get(path).await.refused(404, "not_found");
    }
    world.admin("/readyz").await.is(200);
    world.admin("/readyz?verbose").await.is(200).says("provider corp: ");
    world.finish().await;
}

#[tokio::test]
async fn ad_3_series_follow_the_config_and_strangers_make_none() {
    let world = World::start().await;
    world.browser.login("alice").await;
    world.browser.get("/api/x").await.is(200);
    let series =
        || async { world.admin("/metrics").await.is(200).text().lines().filter(|line| !line.starts_with('#')).count() };
    world.browser.get("/api/missing").await.is(200);
    let before = series().await;
    for number in 0..50 {
        world
            .browser
            .get(&format!("/api/{number}"))
            .header("user-agent", &format!("agent {number}"))
            .await
            .is(200);
    }
    assert_eq!(series().await, before, "Z17: paths and agents make no series");
    let renamed = world.edit(|toml| {
        toml.remove("routes.web").text("routes.site", "mode", "auth-code");
        toml.text("routes.site", "public_url", "https://app.test").text("routes.site", "upstream", "api")
    });
    assert_eq!(renamed.await, Edit::Served);
    let text = world.admin("/metrics").await.text();
    assert!(!text.contains("route=\"web\""), "{text}");
    assert!(text.contains("route=\"site\"") && text.contains("upstream=\"api\""), "{text}");
    world.finish().await;
}
