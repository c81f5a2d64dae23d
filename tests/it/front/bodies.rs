//! Bodies of refused requests: however they are framed and however large they are, nothing in them is ever read as a
//! request (`f01` to `f07` for the framing).

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{BROWSER, Front, PATIENCE, Seen, behind_each};

/// Where somebody is refused, by which User-Agent.
const DOORS: [(&str, &str); 5] = [
    ("/api/x", BROWSER),
    ("/api/x", "cli/1.0"),
    ("/wiki/x", BROWSER),
    ("/reports/x", BROWSER),
    ("/things/x", "cli/1.0"),
];

/// Sizes around what is read away: below, at, and far above what anybody reads.
const SIZES: [usize; 4] = [4 << 10, 300 << 10, 1 << 20, 6 << 20];

/// The size of one request in a body.
const ONE: usize = 512;

/// A body that is made of requests, each of which would be answered if it were read as one. They stand so that, behind a
/// head of `head` bytes, one begins wherever a reader with buffers of the usual sizes stops.
fn requests(size: usize, head: usize, cookies: &str) -> Vec<u8> {
    let start = format!("GET /api/smuggled HTTP/1.1\r\nHost: app.test\r\nUser-Agent: {BROWSER}\r\n{cookies}X: ");
    let padding = "x".repeat(ONE - start.len() - 4);
    let first = "x".repeat((ONE - head % ONE) % ONE);
    let all = format!("{start}{padding}\r\n\r\n").into_bytes().into_iter().cycle();
    first.into_bytes().into_iter().chain(all).take(size).collect()
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(body.len() + body.len() / 100);
    for chunk in body.chunks(8192) {
        wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    wire
}

/// What is asked last on a connection; whoever is nobody gets no 2xx for it.
const LAST: &str = "GET /userinfo HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n";

/// Writes everything, whatever comes back meanwhile, and a last request; gives all that came back.
async fn upload(front: &Front, head: String, body: Vec<u8>) -> String {
    let stream = TcpStream::connect(front.address()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let writing = tokio::spawn(async move {
        let _ = write.write_all(head.as_bytes()).await;
        let _ = write.write_all(&body).await;
        let _ = write.write_all(LAST.as_bytes()).await;
        write
    });
    let mut answers = Vec::new();
    let reading = tokio::time::timeout(PATIENCE, read.read_to_end(&mut answers)).await;
    assert!(reading.is_ok(), "the connection stays open");
    let _ = writing.await;
    String::from_utf8_lossy(&answers).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn px_10_f01_f17_what_is_left_of_a_refused_upload_is_no_request() {
    for front in behind_each().await {
        let mut seen = Seen::default();
        let alice = front.somebody("alice").await;
        for (target, agent) in DOORS {
            for size in SIZES {
                let head = format!(
                    "POST {target} HTTP/1.1\r\nHost: app.test\r\nUser-Agent: {agent}\r\nOrigin: https://app.test\r\n"
                );
                for framing in [
                    format!("Content-Length: {size}\r\n\r\n"),
                    "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
                    format!("Expect: 100-continue\r\nContent-Length: {size}\r\n\r\n"),
                ] {
                    let body = requests(size, head.len() + framing.len(), &alice.lines);
                    let body = if framing.starts_with("Transfer") { chunked(&body) } else { body };
                    let answers = upload(&front, format!("{head}{framing}"), body).await;
                    let finals = answers.matches("HTTP/1.1 ").count() - answers.matches("HTTP/1.1 100 ").count();
                    let what = format!("{target} as {agent}, {size} bytes, {framing:?}: {answers:.300}");
                    // Its own, and that to the last request. The connection may break before either arrives.
                    assert!(finals <= 2, "{finals} answers to {what}");
                    // What is no request is answered so when it is read as one.
                    assert!(!answers.contains("HTTP/1.1 400"), "{what}");
                    assert!(!answers.contains("HTTP/1.1 2"), "{what}");
                    assert!(front.reached(&mut seen).is_empty(), "something was reached by {what}");
                }
            }
        }
        // All that was with alice's own cookie, which is good.
        assert_eq!(front.send("GET /api/smuggled", &alice, "").await, 200);
        front.world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn px_10_over_http_2_a_refused_upload_ends_its_own_stream_alone() {
    for front in behind_each().await {
        let mut seen = Seen::default();
        let alice = front.somebody("alice").await;
        let stream = TcpStream::connect(front.address()).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = |method: Method, target: &str, agent: &str| {
            Request::builder()
                .method(method)
                .uri(format!("http://app.test{target}"))
                .header("user-agent", agent)
        };
        for (target, agent) in DOORS {
            for size in SIZES {
                let body = Full::new(Bytes::from(requests(size, 0, &alice.lines)));
                let upload = request(Method::POST, target, agent).header("origin", "https://app.test");
                let answered = tokio::time::timeout(PATIENCE, sender.send_request(upload.body(body).unwrap())).await;
                if let Ok(answer) = answered.expect("an answer or an end in time") {
                    assert!(answer.status().is_client_error(), "{target} as {agent}: {}", answer.status());
                }
                assert!(front.reached(&mut seen).is_empty());
                let cookies = alice.lines.trim().trim_start_matches("Cookie: ");
                let good = request(Method::GET, "/api/x", BROWSER).header("cookie", cookies);
                let good = sender.send_request(good.body(Full::default()).unwrap()).await.unwrap();
                assert_eq!(good.status(), StatusCode::OK, "the connection goes on");
                assert_eq!(front.reached(&mut seen).len(), 1);
            }
        }
        front.world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f01_f05_f06_f09_no_framing_hides_a_request() {
    let smuggled = |cookies: &str| format!("GET /api/smuggled HTTP/1.1\r\nHost: app.test\r\n{cookies}\r\n");
    for front in behind_each().await {
        let mut seen = Seen::default();
        let (alice, nobody) = (front.somebody("alice").await, Front::nobody());
        for framing in [
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
            "Content-Length: 0\r\nContent-Length: 9999\r\n\r\n",
            "Content-Length: +5\r\n\r\n",
            "Content-Length: 0x5\r\n\r\n",
            "Content-Length: 5,5\r\n\r\n",
            "Transfer-Encoding: xchunked\r\n\r\n",
            "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n1;x=\"\n\r\n\r\nA\r\n0\r\n\r\n",
            "X: y\rTransfer-Encoding: chunked\r\n\r\n",
            "X: y\nContent-Length: 0\n\n",
        ] {
            for target in ["/api/x", "/wiki/x", "/reports/x", "/things/x"] {
                let head =
                    format!("POST {target} HTTP/1.1\r\nHost: app.test\r\nUser-Agent: {BROWSER}\r\n{}", nobody.lines);
                // Without a cookie of its own, what is hidden would be nobody's too.
                let answers = upload(&front, format!("{head}{framing}"), smuggled(&nobody.lines).into_bytes()).await;
                assert!(!answers.contains("HTTP/1.1 2"), "{target} with {framing:?}: {answers}");
                assert!(front.reached(&mut seen).is_empty(), "{target} with {framing:?}: {answers}");
            }
        }
        assert_eq!(front.send("GET /api/x", &alice, "").await, 200);
        front.world.finish().await;
    }
}
