//! HTTP as strangers write it, at the door of a whole sidecar (requirements IN, table F): what is refused never reaches
//! the upstream, and what passes has one meaning.

use std::time::Duration;

use crate::world::raw::Raw;
use crate::world::{Edit, World};

/// A head with the cookies of somebody who is logged in, so that only its form can be the reason to refuse it.
fn head(world: &World, line: &str, rest: &str) -> String {
    let cookies = world.browser.cookies();
    let pairs: Vec<String> = cookies.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
    format!("{line}\r\nHost: app.test\r\nSec-Fetch-Site: same-origin\r\nCookie: {}\r\n{rest}", pairs.join("; "))
}

#[tokio::test]
async fn in_2_heads_have_a_size() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let address = world.address().await;
    let headers = |count: usize| (0..count).map(|number| format!("X-{number}: 1\r\n")).collect::<String>();
    for (what, line, rest, expected) in [
        ("90 headers", "GET /api/x HTTP/1.1".to_owned(), headers(90), 200),
        ("101 headers", "GET /api/x HTTP/1.1".to_owned(), headers(101), 431),
        ("a head of 20 KiB", "GET /api/x HTTP/1.1".to_owned(), format!("X: {}\r\n", "a".repeat(20_000)), 200),
        ("a head of 40 KiB", "GET /api/x HTTP/1.1".to_owned(), format!("X: {}\r\n", "a".repeat(40_000)), 431),
        ("a target of 8 KB", format!("GET /api/{} HTTP/1.1", "a".repeat(8_000)), String::new(), 200),
        ("a target of 9 KB", format!("GET /api/{} HTTP/1.1", "a".repeat(9_000)), String::new(), 414),
    ] {
        let status = Raw::status(address, head(&world, &line, &rest) + "\r\n").await;
        assert_eq!(status, expected, "{what}");
    }
    assert_eq!(world.upstream.count(), 3);
    world.finish().await;
}

#[tokio::test]
async fn in_3_f_table_a_request_that_can_be_read_in_two_ways_is_refused() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let address = world.address().await;
    for (row, line, rest) in [
        ("F03", "POST /api/x HTTP/1.1", "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef"),
        ("F05", "POST /api/x HTTP/1.1", "Content-Length: +5\r\n\r\nabcde"),
        ("F05", "POST /api/x HTTP/1.1", "Content-Length: -1\r\n\r\n"),
        ("F05", "POST /api/x HTTP/1.1", "Content-Length: 0x5\r\n\r\nabcde"),
        ("F05", "POST /api/x HTTP/1.1", "Content-Length: 5 5\r\n\r\nabcde"),
        ("F05", "POST /api/x HTTP/1.1", "Content-Length: 18446744073709551617\r\n\r\nabcde"),
        ("F06", "POST /api/x HTTP/1.1", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        ("F06", "POST /api/x HTTP/1.1", "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        ("F06", "POST /api/x HTTP/1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
        ("F06", "POST /api/x HTTP/1.1", "Transfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n"),
        ("F07", "POST /api/x HTTP/1.0", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("F08", "GET /api/x HTTP/1.1", "X: a\r\n folded: b\r\n\r\n"),
        ("F09", "GET /api/x HTTP/1.1", "X: a\rY: b\r\n\r\n"),
        ("F10", "GET /api/x HTTP/1.1", "X: a\0b\r\n\r\n"),
        ("F11", "GET /api/x HTTP/1.1", "Content-Length : 5\r\n\r\nabcde"),
        ("F11", "GET /api/x HTTP/1.1", "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        ("F12", "GET /api/x\tHTTP/1.1", "\r\n"),
        ("F13", "GET /api/x y HTTP/1.1", "\r\n"),
        ("F14", "GET /api/x HTTP/1.2", "\r\n"),
    ] {
        let status = Raw::status(address, head(&world, line, rest)).await;
        assert!(matches!(status, 0 | 400 | 405 | 505), "{row} {line} {rest:?}: {status}");
    }
    let settled = world.upstream.recorded();
    assert!(settled.is_empty(), "{:?}", settled.iter().map(|request| &request.head).collect::<Vec<_>>());
    world.still_works().await;
    world.finish().await;
}

/// F23: HTTP/2 is something else, so that nothing which floods by it comes as far as being counted.
#[tokio::test]
async fn f15_f23_whoever_speaks_something_else_is_hung_up_on() {
    let world = World::start().await;
    for bytes in [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x04\x03\0\0\0\x01\0\0\0\0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /api/x\r\n\r\n",
        b"\r\n\r\n\r\n\0\0\0\r\n\r\n",
    ] {
        let mut raw = world.raw().await;
        raw.write(bytes).await;
        raw.half_close().await;
        let answer = raw.read_all(Duration::from_secs(5)).await.expect("the connection closes");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5"), "{answer}");
    }
    world.still_works().await;
    world.finish().await;
}

#[tokio::test]
async fn in_5_trailers_of_a_client_end_here() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let rest = "Transfer-Encoding: chunked\r\nTrailer: X-Admin\r\n\r\n3\r\nabc\r\n0\r\nX-Admin: 1\r\nAuthorization: evil\r\n\r\n";
    let status = Raw::status(world.address().await, head(&world, "POST /api/x HTTP/1.1", rest)).await;
    assert_eq!(status, 200);
    let seen = world.upstream.last();
    assert_eq!(seen.body, b"abc");
    let wire = String::from_utf8_lossy(&seen.wire_body).into_owned();
    assert!(seen.header("trailer").is_none() && seen.header("x-admin").is_none(), "{}", seen.head);
    assert!(!wire.contains("X-Admin") && !wire.contains("evil"), "{wire}");
    world.finish().await;
}

#[tokio::test]
async fn a_refused_upload_does_not_become_the_next_request() {
    let world = World::start().await;
    let smuggled = "GET /api/smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let mut raw = world.raw().await;
    let length = smuggled.len();
    raw.write(format!("POST /api/x HTTP/1.1\r\nHost: app.test\r\nOrigin: https://app.test\r\nContent-Length: {length}\r\n\r\n{smuggled}")).await;
    raw.half_close().await;
    let answers = raw.read_all(Duration::from_secs(5)).await.expect("the connection closes");
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
    assert!(answers.starts_with("HTTP/1.1 401"), "{answers}");
    assert_eq!(world.upstream.count(), 0);
    world.finish().await;
}

#[tokio::test]
async fn an_offer_of_h2c_is_declined_by_silence() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let rest = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let head = head(&world, "GET /api/x HTTP/1.1", rest).replace("Sec-Fetch-Site: same-origin\r\n", "");
    assert_eq!(Raw::status(world.address().await, head).await, 200);
    let seen = world.upstream.last();
    assert!(seen.header("upgrade").is_none() && seen.header("http2-settings").is_none(), "{}", seen.head);
    world.finish().await;
}

#[tokio::test]
async fn px_8_h07_only_trusted_proxies_may_speak_and_say_for_whom() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let told =
        "X-Forwarded-For: 198.51.100.1, evil, 203.0.113.9\r\nX-Real-IP: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\n\r\n";
    let request = head(&world, "GET /api/x HTTP/1.1", told);
    assert_eq!(Raw::status(world.address().await, &request).await, 200);
    let seen = world.upstream.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("198.51.100.1, 203.0.113.9, 127.0.0.1"));
    assert!(seen.header("x-real-ip").is_none() && !seen.head.contains("10.0.0.1"), "{}", seen.head);
    let edit = world.edit(|toml| toml.set("server", "trusted_proxies", "[\"10.0.0.0/8\"]")).await;
    assert_eq!(edit, Edit::Served);
    let mut raw = world.raw().await;
    raw.write(&request).await;
    let answer = raw.read_answer().await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("untrusted_peer"), "{answer}");
    assert_eq!(world.upstream.count(), 1);
    world.finish().await;
}
