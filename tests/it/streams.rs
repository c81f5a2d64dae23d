//! Answers without a known end: they flow, they are no prisoners of any total time, and they end with their session.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use crate::world::World;
use crate::world::live::{Ending, Live};
use crate::world::upstream::{EchoUpstream, Reply};

/// What the specification gives an ended session for the end of its streams.
const SECOND: Duration = Duration::from_secs(1);

/// An answer that says `text` and stays open.
pub fn open(media: &str, text: &str) -> Reply {
    Reply::Stream {
        headers: vec![("content-type".to_owned(), media.to_owned())],
        parts: vec![(Duration::ZERO, text.into())],
        open: true,
    }
}

async fn counted(world: &World, kind: &str) -> f64 {
    world.metric("vestibule_streams_open", &[("upstream", "api"), ("kind", kind)]).await
}

async fn none_counted(world: &World) {
    let began = Instant::now();
    while counted(world, "").await > 0.0 {
        assert!(began.elapsed() < Duration::from_secs(5), "streams are still counted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn lo_9_logging_out_breaks_the_streams_of_that_session_alone() {
    let world = World::start().await;
    world.upstream.on("/api/events", open("text/event-stream; charset=utf-8", "data: hello\n\n"));
    world.upstream.on("/api/lines", open("application/x-ndjson", "{}\n"));
    world.browser.login("alice").await;
    let bob = world.new_browser();
    bob.login("bob").await;
    let mut events = Live::get(&world, &world.browser, "/api/events").await;
    let mut lines = Live::get(&world, &world.browser, "/api/lines").await;
    let mut bobs = Live::get(&world, &bob, "/api/events").await;
    events.says("data: hello\n\n").await;
    lines.says("{}\n").await;
    bobs.says("data: hello\n\n").await;
    assert_eq!((counted(&world, "sse").await, counted(&world, "stream").await), (2.0, 1.0));
    world.browser.post("/logout").await.is(200);
    // Never as a clean end: what came so far is not the whole.
    for stream in [events, lines] {
        let (ending, took) = stream.ended().await;
        assert!(ending == Ending::Broken && took < SECOND, "{ending:?} after {took:?}");
    }
    assert!(bobs.is_quiet_for(Duration::from_millis(300)).await);
    assert_eq!((counted(&world, "sse").await, counted(&world, "stream").await), (1.0, 0.0));
    bobs.leave();
    none_counted(&world).await;
    world.finish().await;
}

#[tokio::test]
async fn sc_5_an_open_stream_is_no_use_of_its_session_and_ends_with_it() {
    let world = World::start().await;
    world.upstream.on("/api/events", open("text/event-stream", "data: hello\n\n"));
    for hours in [1, 11] {
        world.browser.navigate("/login/start?login_hint=alice").await.is(200).at("https://app.test/");
        let mut events = Live::get(&world, &world.browser, "/api/events").await;
        events.says("data: hello\n\n").await;
        assert!(events.is_quiet_for(SECOND).await);
        world.clock.shift(hours * 3600);
        let (ending, took) = events.ended().await;
        assert!(ending == Ending::Broken && took < SECOND * 2, "{ending:?} after {took:?}");
        world.browser.forget();
    }
    world.finish().await;
}

#[tokio::test]
async fn sc_11_a_session_that_has_to_go_takes_its_streams_along() {
    let world = World::builder().config(|toml| toml.set("sessions", "max_sessions", "1")).start().await;
    world.upstream.on("/api/events", open("text/event-stream", "data: hello\n\n"));
    world.browser.login("alice").await;
    let mut events = Live::get(&world, &world.browser, "/api/events").await;
    events.says("data: hello\n\n").await;
    world.new_browser().login("bob").await;
    let (ending, took) = events.ended().await;
    assert!(ending == Ending::Broken && took < SECOND, "{ending:?} after {took:?}");
    world.finish().await;
}

#[tokio::test]
async fn o28_a_session_that_ends_before_the_answer_comes_has_no_stream() {
    let world = World::start().await;
    let headers = vec![("content-type".to_owned(), "text/event-stream".to_owned())];
    world.browser.login("alice").await;
    let thief = world.browser.copy();
    let answer =
        Reply::Whole { status: 200, headers, body: b"data: 1\n\n".to_vec(), after: Duration::from_millis(600) };
    world.upstream.next(answer);
    let asking = tokio::spawn(async move { thief.get("/api/late").await });
    world.upstream.wait_for(1).await;
    world.browser.post("/logout").await.is(200);
    asking.await.unwrap().refused(401, "login_required");
    none_counted(&world).await;
    world.finish().await;
}

#[tokio::test]
async fn what_has_a_known_end_may_reach_it() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\nbegun";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (goes_on, wait) = tokio::sync::oneshot::channel::<()>();
    let upstream = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        wait.await.unwrap();
        stream.write_all(&vec![b'x'; 99_999_995]).await.unwrap();
    });
    world.edit(|toml| toml.text("upstreams.api", "url", &format!("http://{address}"))).await;
    let mut download = Live::get(&world, &world.browser, "/api/download").await;
    download.says("begun").await;
    assert_eq!(counted(&world, "").await, 0.0);
    world.browser.post("/logout").await.is(200);
    goes_on.send(()).unwrap();
    assert_eq!(download.ended().await.0, Ending::Whole);
    upstream.await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn l11_an_event_stream_lives_as_long_as_something_comes() {
    let world = World::builder()
        .config(|toml| {
            toml.text("upstreams.api", "response_timeout", "300ms")
                .text("upstreams.api", "idle_timeout", "500ms")
        })
        .start()
        .await;
    world.browser.login("alice").await;
    let comment = (Duration::from_millis(200), b": still here\n\n".to_vec());
    let headers = vec![("content-type".to_owned(), "text/event-stream".to_owned())];
    let mut parts = vec![comment; 6];
    parts.push((Duration::from_millis(200), b"data: last\n\n".to_vec()));
    world.upstream.next(Reply::Stream { headers, parts, open: true });
    let mut events = Live::get(&world, &world.browser, "/api/events").await;
    events.says("data: last").await;
    let (ending, took) = events.ended().await;
    assert_eq!(ending, Ending::Broken);
    assert!(took > Duration::from_millis(300) && took < SECOND * 3, "silence ended it after {took:?}");
    world.finish().await;
}

#[tokio::test]
async fn px_14_f17_whoever_leaves_takes_the_other_side_along() {
    let world = World::start().await;
    world.browser.login("alice").await;
    // The client leaves before there is an answer, and in the middle of one.
    world.upstream.on("/api/never", Reply::Hang);
    let mut waiting = world.raw().await;
    let cookie = crate::world::live::cookie(&world.browser);
    waiting
        .write(format!("GET /api/never HTTP/1.1\r\nHost: app.test\r\nCookie: {cookie}\r\n\r\n"))
        .await;
    world.upstream.wait_for(1).await;
    drop(waiting);
    world.upstream.has_hung_up(1).await;
    world.upstream.on("/api/events", open("text/event-stream", "data: hello\n\n"));
    let mut events = Live::get(&world, &world.browser, "/api/events").await;
    events.says("data: hello\n\n").await;
    events.leave();
    world.upstream.has_hung_up(2).await;
    none_counted(&world).await;

    // The upstream dies in the middle.
    let half = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    world.upstream.on("/api/dies", Reply::Raw(half.into()));
    let mut dying = Live::get(&world, &world.browser, "/api/dies").await;
    dying.says("half").await;
    assert_eq!(dying.ended().await.0, Ending::Broken);
    none_counted(&world).await;
    world.finish().await;
}

#[tokio::test]
async fn a_reload_leaves_open_streams_alone() {
    let world = World::start().await;
    world.upstream.on("/api/events", open("text/event-stream", "data: hello\n\n"));
    world.browser.login("alice").await;
    let mut events = Live::get(&world, &world.browser, "/api/events").await;
    events.says("data: hello\n\n").await;
    world.edit(|toml| toml.text("upstreams.api", "url", "http://127.0.0.1:1")).await;
    assert!(events.is_quiet_for(Duration::from_millis(300)).await);
    world.browser.post("/logout").await.is(200);
    assert_eq!(events.ended().await.0, Ending::Broken);
    world.finish().await;
}

/// An upstream that speaks HTTP/2 without TLS and says what it was asked; `/api/events` never ends.
async fn http2_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serving =
                http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service_fn(say));
            tokio::spawn(serving);
        }
    });
    address
}

async fn say(request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    assert_eq!(request.version(), Version::HTTP_2);
    let (head, body) = request.into_parts();
    if head.uri.path().ends_with("/events") {
        let first = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"data: hello\n\n")))]);
        let never = futures_util::StreamExt::chain(first, futures_util::stream::pending());
        let mut response = Response::new(BoxBody::new(StreamBody::new(never)));
        response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
        return Ok(response);
    }
    let length = body.collect().await.map_or(0, |body| body.to_bytes().len());
    let bearer = head.headers.get("authorization").is_some();
    let text =
        format!("{} {} {length} bytes, host {:?}, bearer {bearer}", head.method, head.uri, head.headers.get("host"));
    Ok(Response::new(BoxBody::new(Full::from(text))))
}

#[tokio::test]
async fn an_upstream_may_speak_http_2() {
    let address = http2_upstream().await;
    let url = format!("h2c://{address}/v2");
    let world = World::builder().config(move |toml| toml.text("upstreams.api", "url", &url)).start().await;
    world.browser.login("alice").await;
    let asked = "http://app.test/v2/api/x?q=%20";
    world
        .browser
        .get("/api/x?q=%20")
        .await
        .is(200)
        .says(&format!("GET {asked} 0 bytes, host None, bearer true"));
    world.browser.post("/api/x").body(vec![b'x'; 3_000_000]).await.is(200).says("3000000 bytes");
    let mut events = Live::get(&world, &world.browser, "/api/events").await;
    events.says("data: hello\n\n").await;
    assert_eq!(counted(&world, "sse").await, 1.0);
    world.browser.post("/logout").await.is(200);
    assert_eq!(events.ended().await.0, Ending::Broken);
    world.edit(|toml| toml.text("upstreams.api", "host", "upstream")).await;
    world.browser.navigate("/login/start?login_hint=alice").await.is(200).at("https://app.test/");
    world.browser.get("/api/x").await.is(200).says(&format!("http://{address}/v2/api/x"));
    world.finish().await;
}

#[tokio::test]
async fn an_upstream_may_be_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let upstream = EchoUpstream::start().await;
    let address = upstream.address();
    let bridge = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut behind = TcpStream::connect(address).await.unwrap();
                tokio::io::copy_bidirectional(&mut stream, &mut behind).await
            });
        }
    });
    let url = format!("unix:{}:/v2", path.display());
    let world = World::builder().config(move |toml| toml.text("upstreams.api", "url", &url)).start().await;
    world.browser.login("alice").await;
    world.browser.post("/api/x?q").body("hello").await.is(200).says("\"length\":5");
    let seen = upstream.last();
    assert_eq!((seen.target(), seen.header("host")), ("/v2/api/x?q", Some("app.test")));
    upstream.on("/v2/api/events", open("text/event-stream", "data: hello\n\n"));
    let mut events = Live::get(&world, &world.browser, "/api/events").await;
    events.says("data: hello\n\n").await;
    bridge.abort();
    assert_eq!(events.ended().await.0, Ending::Broken);
    world.browser.get("/api/x").await.refused(502, "upstream_unreachable");
    none_counted(&world).await;
    world.finish().await;
}
