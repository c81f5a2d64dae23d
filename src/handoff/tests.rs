//! Handing on over real sockets: an upstream that says, byte by byte, what the test wants.

mod bodies;
mod tls;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::*;
use crate::config::{Name, Target, UpstreamHost};
use crate::web::BoxError;

/// Longer than anything here takes, shorter than a person waits.
const PATIENCE: Duration = Duration::from_secs(5);

struct Scripted {
    upstream: Arc<Upstream>,
    metrics: Metrics,
    connections: Arc<AtomicUsize>,
}

/// An upstream whose every connection runs `script` with its number, from 0.
async fn scripted<F, Fut>(script: F) -> Scripted
where
    F: Fn(usize, TcpStream) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(script(counted.fetch_add(1, Ordering::SeqCst), stream));
        }
    });
    let metrics = Metrics::new();
    let upstream = build(config(&address.to_string()), &metrics);
    Scripted { upstream, metrics, connections }
}

fn build(config: config::Upstream, metrics: &Metrics) -> Arc<Upstream> {
    Upstream::build(Arc::new(config), metrics, &Streams::new(TaskTracker::new())).unwrap()
}

fn config(authority: &str) -> config::Upstream {
    config::Upstream {
        name: Name::parse("api").unwrap(),
        target: Target::Http(authority.parse().unwrap()),
        base_path: String::new(),
        host: UpstreamHost::Upstream,
        ca: None,
        connect_timeout: Duration::from_millis(500),
        response_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(200),
    }
}

/// Reads until `mark` was seen, or the other side closes, and returns all that came.
async fn read_until(stream: &mut TcpStream, mark: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains(mark) {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => seen.push_str(std::str::from_utf8(&buffer[..read]).unwrap()),
        }
    }
    seen
}

/// Reads up to the end of a head and returns all that came.
async fn read_head(stream: &mut TcpStream) -> String {
    read_until(stream, "\r\n\r\n").await
}

/// Reads until the other side closes.
async fn read_rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut seen = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut seen)).await.expect("closed in time");
    seen
}

fn request(method: Method, body: Body) -> Request<Body> {
    Request::builder().method(method).uri("/api/x").body(body).unwrap()
}

fn get() -> Request<Body> {
    request(Method::GET, Body::Empty)
}

/// A body that the test feeds.
struct Fed(mpsc::Receiver<Result<Frame<Bytes>, BoxError>>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.get_mut().0.poll_recv(context)
    }
}

fn fed() -> (mpsc::Sender<Result<Frame<Bytes>, BoxError>>, Body) {
    let (sender, receiver) = mpsc::channel(16);
    (sender, Body::boxed(Fed(receiver)))
}

fn data(text: &'static str) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

async fn refused(scripted: &Scripted, request: Request<Body>) -> Reason {
    let forwarded = tokio::time::timeout(PATIENCE, scripted.upstream.forward(request, Passage::default()));
    forwarded.await.expect("decided in time").unwrap_err().reason
}

async fn text(response: Response<Body>) -> String {
    let collected = tokio::time::timeout(PATIENCE, response.into_body().collect()).await.expect("ended in time");
    String::from_utf8(collected.unwrap().to_bytes().to_vec()).unwrap()
}

/// Answers every request on its connection with `answer`.
async fn always(answer: &[u8], mut stream: TcpStream) {
    while !read_head(&mut stream).await.is_empty() {
        stream.write_all(answer).await.unwrap();
    }
}

#[tokio::test]
async fn passes_a_request_and_its_answer_and_uses_the_connection_again() {
    let scripted = scripted(|_, mut stream| async move {
        for _ in 0..2 {
            let head = read_head(&mut stream).await;
            assert!(head.starts_with("GET /api/x HTTP/1.1\r\n"), "{head}");
            assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
            stream
                .write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nX-App: 1\r\n\r\nno")
                .await
                .unwrap();
        }
    })
    .await;
    for _ in 0..2 {
        let response = scripted.upstream.forward(get(), Passage::default()).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()["x-app"], "1");
        assert_eq!(text(response).await, "no");
    }
    assert_eq!(scripted.connections.load(Ordering::SeqCst), 1);
    let metrics = scripted.metrics.render();
    assert!(metrics.contains("vestibule_upstream_requests_total{code=\"401\",upstream=\"api\"} 2"), "{metrics}");
}

#[tokio::test]
async fn redirects_are_passed_and_not_followed() {
    let scripted = scripted(|_, stream| {
        always(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n", stream)
    })
    .await;
    let response = scripted.upstream.forward(get(), Passage::default()).await.unwrap();
    assert_eq!(response.headers()["location"], "http://169.254.169.254/");
    assert_eq!(scripted.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let upstream = build(config(&address), &Metrics::new());
    let (sender, body) = fed();
    sender.send(data("unread")).await.unwrap();
    drop(sender);
    for request in [get(), request(Method::POST, body)] {
        let refusal = upstream.forward(request, Passage::default()).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::UpstreamUnreachable);
    }
}

#[tokio::test]
async fn l11_slow_heads_are_a_timeout_and_the_request_is_given_up() {
    let (sender, mut closed) = mpsc::channel(4);
    let scripted = scripted(move |_, mut stream| {
        let sender = sender.clone();
        async move {
            read_head(&mut stream).await;
            sender.send(read_rest(&mut stream).await).await.unwrap();
        }
    })
    .await;
    assert_eq!(refused(&scripted, get()).await, Reason::UpstreamTimeout);
    assert_eq!(refused(&scripted, request(Method::POST, Body::from("x".to_owned()))).await, Reason::UpstreamTimeout);
    for _ in 0..2 {
        assert!(tokio::time::timeout(PATIENCE, closed.recv()).await.unwrap().is_some());
    }
    assert_eq!(scripted.connections.load(Ordering::SeqCst), 2);
    let metrics = scripted.metrics.render();
    assert!(metrics.contains("vestibule_upstream_requests_total{code=\"timeout\",upstream=\"api\"} 2"), "{metrics}");
}

#[tokio::test]
async fn f19_what_is_no_clean_http_is_broken_and_never_reused() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    ] {
        let scripted = scripted(move |_, stream| always(answer, stream)).await;
        let shown = String::from_utf8_lossy(answer);
        assert_eq!(refused(&scripted, request(Method::POST, Body::Empty)).await, Reason::UpstreamBroken, "{shown}");
        assert_eq!(refused(&scripted, request(Method::POST, Body::Empty)).await, Reason::UpstreamBroken, "{shown}");
        assert_eq!(scripted.connections.load(Ordering::SeqCst), 2, "{shown}");
    }
}

#[tokio::test]
async fn f19_a_bad_chunk_and_a_cut_body_end_the_answer_with_an_error() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZ\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
    ] {
        let scripted = scripted(move |_, mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(answer).await.unwrap();
        })
        .await;
        let response = scripted.upstream.forward(get(), Passage::default()).await.unwrap();
        assert!(response.into_body().collect().await.is_err());
    }
}

#[tokio::test]
async fn f19_a_flood_of_interim_answers_ends_with_the_deadline() {
    let scripted = scripted(|_, mut stream| async move {
        read_head(&mut stream).await;
        while stream.write_all(b"HTTP/1.1 103 Early Hints\r\nSet-Cookie: a=1\r\n\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(refused(&scripted, get()).await, Reason::UpstreamTimeout);
}

#[tokio::test]
async fn f21_f22_bytes_beyond_an_answer_never_reach_the_next_request() {
    for (method, answer) in [
        (Method::HEAD, &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..]),
        (Method::GET, b"HTTP/1.1 204 No Content\r\n\r\nhello"),
        (Method::GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello"),
        (
            Method::GET,
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret",
        ),
    ] {
        let scripted = scripted(move |number, mut stream| async move {
            if number == 0 {
                read_head(&mut stream).await;
                stream.write_all(answer).await.unwrap();
                read_rest(&mut stream).await;
            } else {
                always(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine", stream).await;
            }
        })
        .await;
        let first = scripted.upstream.forward(request(method, Body::Empty), Passage::default()).await.unwrap();
        assert_ne!(text(first).await, "hello");
        let second = scripted.upstream.forward(get(), Passage::default()).await.unwrap();
        assert_eq!(text(second).await, "mine");
    }
}

#[tokio::test]
async fn only_a_bodiless_get_or_head_is_sent_again_and_only_once() {
    let broken = |answered_from: usize| {
        move |number: usize, mut stream: TcpStream| async move {
            read_head(&mut stream).await;
            if number >= answered_from {
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            }
        }
    };
    for method in [Method::GET, Method::HEAD] {
        let once = scripted(broken(1)).await;
        assert!(once.upstream.forward(request(method.clone(), Body::Empty), Passage::default()).await.is_ok());
        let twice = scripted(broken(2)).await;
        assert_eq!(refused(&twice, request(method, Body::Empty)).await, Reason::UpstreamBroken);
        assert_eq!(twice.connections.load(Ordering::SeqCst), 2);
    }
    for (method, body) in [
        (Method::POST, Body::Empty),
        (Method::DELETE, Body::Empty),
        (Method::PUT, Body::from("x".to_owned())),
        (Method::GET, Body::from("x".to_owned())),
    ] {
        let never = scripted(broken(1)).await;
        assert_eq!(refused(&never, request(method, body)).await, Reason::UpstreamBroken);
        assert_eq!(never.connections.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn px_14_a_client_that_leaves_ends_the_request_to_the_upstream() {
    let (sender, mut closed) = mpsc::channel(4);
    let scripted = scripted(move |number, mut stream| {
        let sender = sender.clone();
        async move {
            read_head(&mut stream).await;
            if number == 1 {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun").await.unwrap();
            }
            sender.send(Some(number)).await.unwrap();
            read_rest(&mut stream).await;
            sender.send(None).await.unwrap();
        }
    })
    .await;
    let upstream = Arc::clone(&scripted.upstream);
    let waiting = tokio::spawn(async move { upstream.forward(get(), Passage::default()).await });
    assert_eq!(closed.recv().await.unwrap(), Some(0));
    waiting.abort();
    assert_eq!(tokio::time::timeout(PATIENCE, closed.recv()).await.unwrap().unwrap(), None);
    let response = scripted.upstream.forward(get(), Passage::default()).await.unwrap();
    assert_eq!(closed.recv().await.unwrap(), Some(1));
    drop(response);
    assert_eq!(tokio::time::timeout(PATIENCE, closed.recv()).await.unwrap().unwrap(), None);
}
