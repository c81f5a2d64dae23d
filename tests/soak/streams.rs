//! Streams through real Caddys: a WebSocket that talks, one that is silent and an event stream, kept for minutes while
//! tokens are refreshed, and cut within a second of logout; beside them a gigabyte up and a gigabyte down, in memory that
//! does not grow.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{COOKIE, HOST};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::caddy;
use crate::client::{self, Handle};
use crate::world::World;
use crate::world::live::SocketUpstream;
use crate::{caddies, world};

/// How long streams are kept.
const KEPT: Duration = Duration::from_secs(130);
/// How often something is said.
const BEAT: Duration = Duration::from_secs(1);
/// What the specification gives an ended session for the end of its streams.
const SECOND: Duration = Duration::from_secs(1);
/// What goes up, and what comes down.
const GIGABYTE: u64 = 1 << 30;
/// By how much a process may grow meanwhile: what is on its way, and what an allocator keeps.
const GROWTH: u64 = 64 << 20;

pub type Payload = BoxBody<Bytes, Infallible>;

/// `GIGABYTE` zeros, made as they are asked for.
fn gigabyte() -> Payload {
    let chunk = Bytes::from(vec![0; 64 << 10]);
    let count = usize::try_from(GIGABYTE).unwrap() / chunk.len();
    let frames = futures_util::stream::iter(std::iter::repeat_n(chunk, count).map(|chunk| Ok(Frame::data(chunk))));
    BodyExt::boxed(StreamBody::new(frames))
}

/// An API with an endless event stream, a sink and a source.
pub async fn api(received: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = move |request: Request<Incoming>| {
        let received = Arc::clone(&received);
        async move {
            let (media, body): (_, Payload) = match request.uri().path() {
                "/api/events" => ("text/event-stream", BodyExt::boxed(StreamBody::new(events()))),
                "/api/source" => ("application/octet-stream", gigabyte()),
                "/api/sink" => {
                    let mut body = request.into_body();
                    while let Some(Ok(frame)) = body.frame().await {
                        received.fetch_add(frame.data_ref().map_or(0, |data| data.len() as u64), Ordering::Relaxed);
                    }
                    ("text/plain", BodyExt::boxed(Full::from("taken")))
                }
                _ => ("text/plain", BodyExt::boxed(Full::from("hello"))),
            };
            Ok::<_, Infallible>(Response::builder().header("content-type", media).body(body).unwrap())
        }
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let serving = hyper::server::conn::http1::Builder::new();
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
    address
}

/// An event at each beat, for ever.
fn events() -> impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> {
    futures_util::stream::unfold(tokio::time::interval(BEAT), |mut beat| async move {
        beat.tick().await;
        Some((Ok(Frame::data(Bytes::from_static(b"data: beat\n\n"))), beat))
    })
}

/// A request of the front end's own page.
pub fn fetch(method: Method, path: &str, handle: &Handle, body: Payload) -> Request<Payload> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "app.test")
        .header(COOKIE, handle.cookie())
        .header("origin", "https://app.test")
        .header("sec-fetch-site", "same-origin");
    request.body(body).unwrap()
}

pub async fn connect(address: SocketAddr) -> SendRequest<Payload> {
    let (sender, connection) = handshake(TokioIo::new(TcpStream::connect(address).await.unwrap())).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub async fn socket(address: SocketAddr, handle: &Handle) -> WebSocketStream<TcpStream> {
    let request = Request::get("ws://app.test/api/socket")
        .header(HOST, "app.test")
        .header(COOKIE, handle.cookie())
        .header("origin", "https://app.test")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(())
        .unwrap();
    client_async(request, TcpStream::connect(address).await.unwrap()).await.unwrap().0
}

/// Memory of a process that is in use now, in bytes.
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// A gigabyte up, and one down; how long each took.
async fn gigabytes(address: SocketAddr, handle: Handle, received: Arc<AtomicU64>) -> [Duration; 2] {
    let begun = Instant::now();
    let mut sender = connect(address).await;
    let answer = sender.send_request(fetch(Method::POST, "/api/sink", &handle, gigabyte())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(received.load(Ordering::Relaxed), GIGABYTE);
    let (up, begun) = (begun.elapsed(), Instant::now());
    let mut sender = connect(address).await;
    let mut answer = sender
        .send_request(fetch(Method::GET, "/api/source", &handle, BodyExt::boxed(Full::default())))
        .await
        .unwrap();
    let mut came = 0;
    while let Some(frame) = answer.frame().await {
        came += frame.unwrap().data_ref().map_or(0, |data| data.len() as u64);
    }
    assert_eq!(came, GIGABYTE);
    [up, begun.elapsed()]
}

/// Keeps an event stream and two sockets while everything else happens; then logs out, and sees them cut.
async fn keep(address: SocketAddr, handle: &Handle, mut peak: impl FnMut()) -> Duration {
    let mut sender = connect(address).await;
    let empty = || BodyExt::boxed(Full::default());
    let mut events = sender.send_request(fetch(Method::GET, "/api/events", handle, empty())).await.unwrap();
    assert_eq!(events.status(), StatusCode::OK);
    let (mut talking, mut silent) = (socket(address, handle).await, socket(address, handle).await);
    silent.send(Message::text("hush")).await.unwrap();
    let begun = Instant::now();
    let mut beats = 0;
    while begun.elapsed() < KEPT {
        let event = tokio::time::timeout(Duration::from_secs(20), events.frame()).await.expect("a beat in time");
        event.expect("the events are not over").expect("and not broken");
        talking.send(Message::text(format!("beat {beats}"))).await.unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(20), talking.next()).await.expect("an echo in time");
        assert_eq!(heard.unwrap().unwrap(), Message::text(format!("beat {beats}")));
        assert_eq!(client::fetch(address, Method::GET, "/api/me", handle).await.unwrap(), StatusCode::OK);
        beats += 1;
        peak();
    }
    assert!(beats > 60, "{beats} beats in {KEPT:?}");
    let out = client::fetch(address, Method::POST, "/logout", handle).await.unwrap();
    assert_eq!(out, StatusCode::OK);
    let out = Instant::now();
    let over = async {
        while let Some(Ok(_)) = events.frame().await {}
        while let Some(Ok(_)) = talking.next().await {}
        while let Some(Ok(_)) = silent.next().await {}
    };
    tokio::time::timeout(Duration::from_secs(20), over).await.expect("an end of the streams");
    out.elapsed()
}

async fn behind(binary: &Path) {
    let received = Arc::new(AtomicU64::new(0));
    let (api, sockets) = (api(Arc::clone(&received)).await, SocketUpstream::start().await);
    let url = sockets.url();
    let mut world = World::builder()
        .config(move |toml| {
            toml.text("upstreams.api", "url", &format!("http://{api}"))
                .set("routes.web.paths", "\"/api/\"", "{ upstream = \"api\" }")
                .set("routes.web.paths", "\"/api/socket/\"", &format!("{{ upstream = \"{url}\" }}"))
        })
        .provider(|options| options.access_token_lifetime = Duration::from_secs(20))
        .start()
        .await;
    world.become_process().await;
    let caddy = caddy::before(&world, binary).await;
    let handle = client::login(caddy.address, "alice").await.unwrap();
    let pid = world.process().id();
    let before = resident(pid);
    let mut peak = before;
    let moving = tokio::spawn(gigabytes(caddy.address, handle.clone(), received));
    let cut = keep(caddy.address, &handle, || peak = peak.max(resident(pid))).await;
    let [up, down] = moving.await.unwrap();
    let grown = peak.saturating_sub(before);
    println!(
        "{}: streams kept {KEPT:?}, cut {cut:.0?} after logout; 1 GiB up in {up:.1?}, down in {down:.1?}; memory grew by {} kB",
        binary.display(),
        grown / 1024
    );
    assert!(cut < SECOND, "cut after {cut:?}");
    assert!(grown < GROWTH, "memory grew from {before} to {peak} bytes");
    assert!(world.provider.count(vestibule::demo::provider::Endpoint::Token) > 4, "tokens were refreshed meanwhile");
    assert_eq!(world.provider.reuses(), 0);
    world::eventually("the sockets of the upstream to close", || sockets.open() == 0).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn px_19_lo_9_streams_are_kept_for_minutes_and_cut_with_their_session() {
    let caddies = caddies::all();
    assert!(!caddies.is_empty(), "there is no Caddy to test with; tests/run fetches two");
    // Side by side: what takes minutes is waiting.
    for caddy in caddies
        .into_iter()
        .map(|caddy| tokio::spawn(async move { behind(&caddy).await }))
        .collect::<Vec<_>>()
    {
        caddy.await.unwrap();
    }
}
