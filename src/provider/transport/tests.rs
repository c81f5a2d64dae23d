//! The bounds of the way out, each against a server that breaks it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use url::Url;

use super::{Failure, Limits, MAX_CONCURRENT, Operation, Transport};
use crate::provider::testing::{Act, LIMITS, provider, serve, transport};

/// GETs from a server that does `act`.
async fn get(operation: Operation, act: Act) -> Result<bytes::Bytes, Failure> {
    let base = serve(act).await;
    transport(provider(&base), LIMITS)
        .get(operation, &Url::parse(&base).unwrap())
        .await
        .map(http::Response::into_body)
}

const JSON: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";

#[tokio::test]
async fn og_3_every_stage_has_its_limit() {
    let begun = Instant::now();
    let slow_head = Act::Drip("HTTP/1.1 200 OK\r\n", b"X-A: b\r\n", Duration::from_millis(20));
    let first = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{";
    let slow_body = Act::Drip(first, b" ", Duration::from_millis(20));
    let stages = tokio::join!(
        get(Operation::Discovery, Act::Hang),
        get(Operation::Discovery, slow_head),
        get(Operation::Discovery, slow_body),
    );
    assert!(matches!(stages, (Err(Failure::Timeout), Err(Failure::Timeout), Err(Failure::Timeout))), "{stages:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn og_3_connecting_includes_the_handshake() {
    // It accepts and then says nothing, so TLS never gets anywhere.
    let base = serve(Act::Hang).await;
    let url = Url::parse(&base.replace("http", "https")).unwrap();
    let patient = Limits { head: Duration::from_secs(60), whole: Duration::from_secs(60), ..LIMITS };
    let transport = transport(provider(&base), patient);
    let begun = Instant::now();
    assert!(matches!(transport.get(Operation::Jwks, &url).await, Err(Failure::Timeout)));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn og_3_bodies_are_cut_while_they_stream() {
    static CHUNK: [u8; 8 + 0x4000] = {
        let mut chunk = [b' '; 8 + 0x4000];
        let (head, mut at) = (*b"4000\r\n", 0);
        while at < 6 {
            chunk[at] = head[at];
            at += 1;
        }
        chunk[6 + 0x4000] = b'\r';
        chunk[7 + 0x4000] = b'\n';
        chunk
    };
    let first = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    for operation in [Operation::Discovery, Operation::Jwks, Operation::Token, Operation::Userinfo] {
        let endless = Act::Drip(first, &CHUNK, Duration::ZERO);
        let result = get(operation, endless).await;
        assert!(matches!(result, Err(Failure::Odd("its body is too large"))), "{operation:?}: {result:?}");
    }
}

#[tokio::test]
async fn og_3_compressed_bodies_are_refused_and_not_asked_for() {
    for encoding in ["gzip", "br", "deflate", "x", "identity, gzip"] {
        let head = format!("{JSON}Content-Encoding: {encoding}\r\nContent-Length: 2\r\n\r\n{{}}");
        let result = get(Operation::Jwks, Act::Say(head.leak())).await;
        assert!(matches!(result, Err(Failure::Odd(rule)) if rule.contains("encoded")), "{encoding}: {result:?}");
    }
    let said = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: identity\r\n\r\n{}";
    assert!(get(Operation::Jwks, Act::Say(said)).await.is_ok());
}

#[tokio::test]
async fn t31_interim_answers_are_passed_over() {
    let said = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n\
                Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(get(Operation::Token, Act::Say(said)).await.unwrap(), "{}");
}

#[tokio::test]
async fn og_4_one_content_type_and_the_right_one() {
    for (operation, header, taken) in [
        (Operation::Jwks, "Content-Type: application/jwk-set+json\r\n", true),
        (Operation::Discovery, "Content-Type: application/jwk-set+json\r\n", false),
        (Operation::Userinfo, "Content-Type: application/jwt\r\n", true),
        (Operation::Token, "Content-Type: application/jwt\r\n", false),
        (Operation::Token, "Content-Type: application/json;charset=UTF-8\r\n", true),
        (Operation::Token, "Content-Type: application/json-but-not\r\n", false),
        (Operation::Token, "Content-Type: application/json\r\nContent-Type: text/html\r\n", false),
        (Operation::Token, "", false),
        (Operation::Revocation, "", true),
        (Operation::Revocation, "Content-Type: text/plain\r\n", true),
    ] {
        let said = format!("HTTP/1.1 200 OK\r\n{header}Content-Length: 2\r\n\r\n{{}}");
        let result = get(operation, Act::Say(said.leak())).await;
        assert_eq!(result.is_ok(), taken, "{operation:?} {header}: {result:?}");
    }
}

#[tokio::test]
async fn og_4_nothing_but_http_is_an_answer() {
    for said in ["", "\0\0\0", "HTTP/0.9 200\r\n\r\n{}", "<h1>hello</h1>\r\n\r\n", "HTTP/1.1 banana\r\n\r\n"] {
        let result = get(Operation::Discovery, Act::Say(said)).await;
        assert!(matches!(result, Err(Failure::Unreachable(_))), "{said:?}: {result:?}");
    }
}

#[tokio::test]
async fn og_12_requests_wait_for_a_slot_and_then_fail() {
    let base = serve(Act::Hang).await;
    let transport = Arc::new(transport(provider(&base), LIMITS));
    let url = Url::parse(&base).unwrap();
    let ask = |transport: Arc<Transport>, url: Url| async move { transport.get(Operation::Discovery, &url).await };
    let busy: Vec<_> = (0..MAX_CONCURRENT).map(|_| tokio::spawn(ask(Arc::clone(&transport), url.clone()))).collect();
    while transport.slots.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    assert!(matches!(ask(Arc::clone(&transport), url).await, Err(Failure::Busy)));
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    for one in busy {
        assert!(matches!(one.await.unwrap(), Err(Failure::Timeout)));
    }
    assert_eq!(transport.slots.available_permits(), MAX_CONCURRENT);
}

#[tokio::test]
async fn og_6_an_address_out_of_bounds_is_not_dialled() {
    let transport = transport(provider("https://203.0.113.7/"), LIMITS);
    for url in
        ["http://169.254.169.254/latest/meta-data/", "http://[fe80::1]/", "http://127.0.0.1:1/", "http://localhost:1/"]
    {
        let result = transport.get(Operation::Jwks, &Url::parse(url).unwrap()).await;
        assert!(matches!(result, Err(Failure::Forbidden(_))), "{url}: {result:?}");
    }
}
