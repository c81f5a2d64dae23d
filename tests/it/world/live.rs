//! What stays open: answers read piece by piece, and WebSockets, as a browser that is logged in opens them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request as Handshake, Response as Accepted};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};

use super::World;
use super::browser::Browser;

/// Longer than anything here takes, shorter than a person waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// How an open answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As announced: whoever has it has the whole.
    Whole,
    /// Broken off.
    Broken,
}

/// An answer that is read while it comes.
pub struct Live {
    /// The head.
    pub response: Response<()>,
    body: Incoming,
    driver: JoinHandle<hyper::Result<()>>,
}

/// The cookies of a browser, as a header.
pub fn cookie(browser: &Browser) -> String {
    joined(&browser.cookies())
}

fn joined(cookies: &[super::jar::Cookie]) -> String {
    let pairs: Vec<String> = cookies.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
    pairs.join("; ")
}

impl Live {
    /// Fetches `path` as a script of the app would.
    pub async fn get(world: &World, browser: &Browser, path: &str) -> Self {
        Self::get_at("app.test", world, browser, path).await
    }

    /// The same at another host.
    pub async fn get_at(host: &str, world: &World, browser: &Browser, path: &str) -> Self {
        let stream = TcpStream::connect(world.address().await).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let request = Request::get(path)
            .header("host", host)
            .header("cookie", joined(&browser.cookies_of(host)))
            .header("sec-fetch-site", "same-origin")
            .body(Full::<Bytes>::default())
            .unwrap();
        let asked = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
        let (head, body) = asked.expect("an answer in time").unwrap().into_parts();
        Self { response: Response::from_parts(head, ()), body, driver }
    }

    /// Reads until `text` has come.
    pub async fn says(&mut self, text: &str) {
        let mut seen = String::new();
        let reading = async {
            while !seen.contains(text) {
                let frame = self.body.frame().await.expect("not over").expect("not broken");
                seen.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
            }
        };
        assert!(tokio::time::timeout(PATIENCE, reading).await.is_ok(), "{text:?} never came, only {seen:?}");
    }

    /// Reads on to the end; how it ended, and how long that took.
    pub async fn ended(mut self) -> (Ending, Duration) {
        let began = Instant::now();
        let ending = tokio::time::timeout(PATIENCE, async {
            loop {
                match self.body.frame().await {
                    None => return Ending::Whole,
                    Some(Err(_)) => return Ending::Broken,
                    Some(Ok(_)) => {}
                }
            }
        });
        (ending.await.expect("an end in time"), began.elapsed())
    }

    /// Whether nothing comes and nothing ends for a while.
    pub async fn is_quiet_for(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.body.frame()).await.is_err()
    }

    /// The client goes away.
    pub fn leave(self) {
        self.driver.abort();
    }
}

/// A client's WebSocket.
pub struct Socket(WebSocketStream<TcpStream>);

/// A handshake for `/api/socket` that a script of the app would make.
pub fn handshake(browser: &Browser) -> http::request::Builder {
    Request::get("ws://app.test/api/socket")
        .header("host", "app.test")
        .header("cookie", cookie(browser))
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
}

impl Socket {
    /// Opens one from the app's own page.
    pub async fn open(world: &World, browser: &Browser) -> Self {
        let request = handshake(browser).header("origin", "https://app.test");
        let opened = Self::shake(world, request).await;
        opened.unwrap_or_else(|response| panic!("no WebSocket: {response:?}")).0
    }

    /// Sends a handshake; the answer when that is no WebSocket.
    pub async fn shake(
        world: &World,
        request: http::request::Builder,
    ) -> Result<(Self, HeaderMap), Response<Option<Vec<u8>>>> {
        let stream = TcpStream::connect(world.address().await).await.unwrap();
        let shaken = tokio::time::timeout(PATIENCE, client_async(request.body(()).unwrap(), stream)).await;
        match shaken.expect("an answer in time") {
            Ok((socket, response)) => Ok((Self(socket), response.headers().clone())),
            Err(Error::Http(response)) => Err(*response),
            Err(error) => panic!("no answer to a handshake: {error}"),
        }
    }

    /// Sends a message.
    pub async fn say(&mut self, message: impl Into<Message>) {
        self.0.send(message.into()).await.unwrap();
    }

    /// The next message.
    pub async fn hear(&mut self) -> Message {
        let heard = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a message in time");
        heard.expect("not over").expect("not broken")
    }

    /// Says something and hears it again.
    pub async fn echoes(&mut self, text: &str) {
        self.say(text).await;
        assert_eq!(self.hear().await, Message::text(text));
    }

    /// Waits until it is over; how long that took.
    pub async fn ended(mut self) -> Duration {
        let began = Instant::now();
        let over = async { while let Some(Ok(_)) = self.0.next().await {} };
        tokio::time::timeout(PATIENCE, over).await.expect("an end in time");
        began.elapsed()
    }

    /// Says something again and again until it is over; how long that took.
    pub async fn chatters(mut self) -> Duration {
        let began = Instant::now();
        let over = async {
            while self.0.send(Message::text("and")).await.is_ok() && matches!(self.0.next().await, Some(Ok(_))) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, over).await.expect("an end in time");
        began.elapsed()
    }

    /// Whether nothing comes and nothing ends for a while.
    pub async fn is_quiet_for(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.0.next()).await.is_err()
    }
}

/// An upstream that takes every connection for a WebSocket and says again what it hears; to `hush` it answers nothing,
/// to `bye` with a close frame, to `die` by hanging up.
pub struct SocketUpstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    handshakes: Mutex<Vec<HeaderMap>>,
    open: AtomicUsize,
}

impl SocketUpstream {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { address, shared, task }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The headers of all handshakes so far.
    pub fn handshakes(&self) -> Vec<HeaderMap> {
        self.shared.handshakes.lock().unwrap().clone()
    }

    /// How many sockets are open.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Waits until `count` are.
    pub async fn has_open(&self, count: usize) {
        super::eventually("the upstream's sockets to open or close", || self.open() == count).await;
    }
}

impl Drop for SocketUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    #[expect(clippy::result_large_err, reason = "the signature is the library's")]
    let note = |request: &Handshake, mut response: Accepted| -> Result<Accepted, ErrorResponse> {
        shared.handshakes.lock().unwrap().push(request.headers().clone());
        if let Some(protocol) = request.headers().get("sec-websocket-protocol") {
            response.headers_mut().insert("sec-websocket-protocol", protocol.clone());
        }
        response.headers_mut().insert("x-upstream", "here".parse().unwrap());
        Ok(response)
    };
    let Ok(mut socket) = accept_hdr_async(stream, note).await else { return };
    shared.open.fetch_add(1, Ordering::SeqCst);
    while let Some(Ok(message)) = socket.next().await {
        match message.to_text() {
            Ok("hush") => {}
            Ok("bye") => drop(socket.close(None).await),
            Ok("die") => break,
            _ if message.is_close() || message.is_ping() => {}
            _ => drop(socket.send(message).await),
        }
    }
    shared.open.fetch_sub(1, Ordering::SeqCst);
}
