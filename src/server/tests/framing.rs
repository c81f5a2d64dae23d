//! One reading of every request, or none (IN-3): what could be read in two ways is refused and the connection closed.

use super::*;

/// A request that must not be served, followed by one that must not be mistaken for a second.
async fn refused(bytes: &str) {
    let listening = listening(hasty()).await;
    let seen = talk(listening.address, bytes.as_bytes()).await;
    let status = seen.get(9..12).unwrap_or_default();
    assert!(matches!(status, "400" | "414" | "431" | ""), "{bytes:?} got {seen:?}");
    assert!(!seen.contains('<'), "{bytes:?} was served: {seen:?}");
}

/// A request that is read in one way and after which the connection closes: nothing of `smuggled` is served.
async fn one_and_closed(bytes: &str) {
    let listening = listening(hasty()).await;
    let seen = talk(listening.address, bytes.as_bytes()).await;
    assert!(!seen.contains("<GET /smuggled"), "{bytes:?} got {seen:?}");
    assert!(seen.matches("HTTP/1.1 ").count() <= 1, "{bytes:?} got {seen:?}");
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn f01_f02_content_length_beside_chunked_is_one_request_and_the_end_of_the_connection() {
    for head in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    ] {
        one_and_closed(&format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n0\r\n\r\n{SMUGGLED}")).await;
        let length = SMUGGLED.len();
        one_and_closed(&format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n{SMUGGLED}"
        ))
        .await;
    }
}

#[tokio::test]
async fn f05_lengths_that_are_no_single_number_are_refused() {
    for length in ["+5", "-1", "0x5", "5 5", "5,5", "5, 5", "18446744073709551616", "", "5;", "5\u{b}", "1e1", "٥"] {
        refused(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nhello{SMUGGLED}")).await;
    }
    refused(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!{SMUGGLED}"))
        .await;
}

#[tokio::test]
async fn f06_encodings_other_than_chunked_once_are_refused() {
    for encoding in [
        "xchunked",
        "chunked, identity",
        "identity, chunked",
        "chunked, chunked",
        "gzip, chunked",
        "identity",
        "\u{b}chunked",
        "\"chunked\"",
        "chunked;q=1",
        "chunked\r\nTransfer-Encoding: chunked",
        "identity\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
        "",
    ] {
        let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {encoding}\r\n\r\n0\r\n\r\n{SMUGGLED}");
        refused(&bytes).await;
    }
}

#[tokio::test]
async fn f07_chunked_on_http_1_0_is_refused() {
    refused(&format!("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}")).await;
}

#[tokio::test]
async fn f08_chunks_that_are_not_clean_end_the_connection() {
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "5 \u{b}\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-1\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5;a=\n\r\nhello\r\n0\r\n\r\n",
    ] {
        one_and_closed(&format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}{SMUGGLED}"))
            .await;
    }
}

#[tokio::test]
async fn f09_bare_carriage_returns_and_nul_are_refused() {
    for header in ["X: a\rb", "X: a\r\rb", "X: a\0b", "X\0: a", "X\r: a"] {
        refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n{SMUGGLED}")).await;
    }
}

#[tokio::test]
async fn f09_bare_line_feeds_are_refused() {
    for bytes in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
    ] {
        refused(&format!("{bytes}{SMUGGLED}")).await;
    }
}

#[tokio::test]
async fn f10_f11_folded_lines_and_blanks_before_the_colon_are_refused() {
    for header in
        ["Host : a", "Host\t: a", "Host: a\r\n b", "Host: a\r\n\tX: b", " Host: a", ": a", "Ho st: a", "Ho(st: a"]
    {
        refused(&format!("GET / HTTP/1.1\r\n{header}\r\n\r\n{SMUGGLED}")).await;
    }
}

#[tokio::test]
async fn in_4_f15_other_protocols_are_refused() {
    for bytes in [
        "GET /\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0",
        "\u{16}\u{3}\u{1}\0\u{5}\u{1}\0\0\u{1}\u{3}\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        "GET / HTTP/2\r\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\t HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / x HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        refused(&format!("{bytes}{SMUGGLED}")).await;
    }
}

#[tokio::test]
async fn in_2_z01_to_z04_heads_beyond_the_limits_are_refused() {
    let many = "X: y\r\n".repeat(101);
    refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n{SMUGGLED}")).await;
    for size in [64 << 10, 400 << 10] {
        let big = "x".repeat(size);
        refused(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {big}\r\n\r\n{SMUGGLED}")).await;
        refused(&format!("GET /{big} HTTP/1.1\r\nHost: a\r\n\r\n{SMUGGLED}")).await;
    }
}

#[tokio::test]
async fn clean_requests_are_served_one_after_the_other() {
    let listening = listening(hasty()).await;
    let bytes = "POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
                 POST /two HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nworld\r\n0\r\n\r\n\
                 GET /three HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let seen = talk(listening.address, bytes.as_bytes()).await;
    for echo in ["<POST /one hello>", "<POST /two world>", "<GET /three >"] {
        assert!(seen.contains(echo), "{seen}");
    }
    let headers = "X: y\r\n".repeat(98);
    let large = format!("GET /large-head HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n");
    assert!(talk(listening.address, large.as_bytes()).await.contains("<GET /large-head >"));
}
