//! The API behind the sidecar: it writes down each request to the byte and answers as it was told to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::eventually;

/// One request as it came over the wire.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Request line and headers, with the empty line.
    pub head: String,
    /// What followed, with its chunk framing if it had one.
    pub wire_body: Vec<u8>,
    /// The body without framing.
    pub body: Vec<u8>,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    /// False when the client went away before the body was over.
    pub complete: bool,
}

impl Recorded {
    /// The method.
    pub fn method(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }

    /// The target, as sent.
    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let pairs = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    /// The only value of a header; two are a failure of the test.
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} came {} times:\n{}", all.len(), self.head);
        all.first().copied()
    }
}

/// What the upstream answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Says what it was asked, never with what secret.
    Echo,
    /// A whole answer, after some time.
    Whole { status: u16, headers: Vec<(String, String)>, body: Vec<u8>, after: Duration },
    /// A chunked answer, each part after its time, left open for ever when `open`.
    Stream { headers: Vec<(String, String)>, parts: Vec<(Duration, Vec<u8>)>, open: bool },
    /// These bytes, then the connection closes.
    Raw(Vec<u8>),
    /// Nothing, ever.
    Hang,
}

impl Reply {
    /// 200 with a text.
    pub fn text(body: &str) -> Self {
        Self::Whole { status: 200, headers: Vec::new(), body: body.into(), after: Duration::ZERO }
    }

    /// The same with another status.
    pub fn status(mut self, code: u16) -> Self {
        if let Self::Whole { status, .. } = &mut self {
            *status = code;
        }
        self
    }

    /// One more header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Self::Whole { headers, .. } | Self::Stream { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Later.
    pub fn after(mut self, time: Duration) -> Self {
        if let Self::Whole { after, .. } = &mut self {
            *after = time;
        }
        self
    }
}

/// The running upstream.
pub struct EchoUpstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    recorded: Mutex<Vec<Recorded>>,
    next: Mutex<VecDeque<Reply>>,
    by_path: Mutex<Vec<(String, Reply)>>,
    hung_up: AtomicUsize,
}

impl EchoUpstream {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.shared.recorded.lock().unwrap().clone()
    }

    /// How many requests came so far.
    pub fn count(&self) -> usize {
        self.shared.recorded.lock().unwrap().len()
    }

    /// The last request.
    pub fn last(&self) -> Recorded {
        self.recorded().pop().expect("the upstream was never asked")
    }

    /// The answer to the next request that no path rule is for.
    pub fn next(&self, reply: Reply) {
        self.shared.next.lock().unwrap().push_back(reply);
    }

    /// The answer to every request whose target starts with `path`.
    pub fn on(&self, path: &str, reply: Reply) {
        self.shared.by_path.lock().unwrap().insert(0, (path.to_owned(), reply));
    }

    /// Waits until `count` requests were recorded.
    pub async fn wait_for(&self, count: usize) {
        eventually("the upstream to be asked", || self.count() >= count).await;
    }

    /// Waits until the other side has hung up on `count` answers that would never have ended.
    pub async fn has_hung_up(&self, count: usize) {
        eventually("the upstream to be left", || self.shared.hung_up.load(Ordering::SeqCst) >= count).await;
    }
}

impl Drop for EchoUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    let mut number = 0;
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        connections.spawn(serve(stream, Arc::clone(&shared), number));
        number += 1;
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>, connection: usize) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer, connection).await {
        let reply = shared.reply_to(request.target());
        let (head_only, complete, echo) = (request.method() == "HEAD", request.complete, echo(&request));
        lock(&shared.recorded).push(request);
        if !complete {
            return;
        }
        let endless = matches!(reply, Reply::Hang | Reply::Stream { open: true, .. });
        if answer(&mut stream, reply, &echo, head_only).await.is_none() {
            shared.hung_up.fetch_add(usize::from(endless), Ordering::SeqCst);
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Shared {
    fn reply_to(&self, target: &str) -> Reply {
        let by_path = lock(&self.by_path)
            .iter()
            .find(|(path, _)| target.starts_with(path))
            .map(|(_, reply)| reply.clone());
        by_path.or_else(|| lock(&self.next).pop_front()).unwrap_or(Reply::Echo)
    }
}

/// What [`Reply::Echo`] says.
fn echo(request: &Recorded) -> String {
    let authorized = request.all("authorization").len();
    serde_json::json!({"method": request.method(), "target": request.target(), "length": request.body.len(),
        "authorizations": authorized})
    .to_string()
}

/// Reads one request; `None` when the client closed before it began.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>, connection: usize) -> Option<Recorded> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, buffer).await?;
    };
    let head = String::from_utf8_lossy(&buffer.drain(..end).collect::<Vec<_>>()).into_owned();
    let mut request = Recorded { head, wire_body: Vec::new(), body: Vec::new(), connection, complete: true };
    let chunked = request.all("transfer-encoding").iter().any(|value| value.eq_ignore_ascii_case("chunked"));
    let length = request.all("content-length").first().and_then(|value| value.parse::<usize>().ok()).unwrap_or(0);
    if request.all("expect").iter().any(|value| value.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
    }
    loop {
        let whole = if chunked {
            dechunk(buffer)
        } else {
            (buffer.len() >= length).then(|| (length, buffer[..length].to_vec()))
        };
        if let Some((used, body)) = whole {
            request.wire_body = buffer.drain(..used).collect();
            request.body = body;
            return Some(request);
        }
        if more(stream, buffer).await.is_none() {
            request.wire_body = std::mem::take(buffer);
            request.complete = false;
            return Some(request);
        }
    }
}

/// Reads some more; `None` at the end.
async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut chunk = vec![0; 64 * 1024];
    match stream.read(&mut chunk).await {
        Ok(0) | Err(_) => None,
        Ok(length) => {
            buffer.extend_from_slice(&chunk[..length]);
            Some(())
        }
    }
}

/// The wire length and the content of a chunked body that is whole.
fn dechunk(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let (mut at, mut body) = (0, Vec::new());
    loop {
        let line = bytes[at..].windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..at + line]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        at += line + 2;
        if size == 0 {
            let end = bytes[at - 2..].windows(4).position(|window| window == b"\r\n\r\n")?;
            return Some((at - 2 + end + 4, body));
        }
        body.extend_from_slice(bytes.get(at..at + size)?);
        at += size + 2;
        if at > bytes.len() {
            return None;
        }
    }
}

/// Writes the reply; `None` when the connection is over.
async fn answer(stream: &mut TcpStream, reply: Reply, echo: &str, head_only: bool) -> Option<()> {
    match reply {
        Reply::Echo => {
            let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
            whole(stream, (200, headers), if head_only { b"" } else { echo.as_bytes() }).await
        }
        Reply::Whole { status, headers, body, after } => {
            tokio::time::sleep(after).await;
            whole(stream, (status, headers), if head_only { b"" } else { &body }).await
        }
        Reply::Stream { headers, parts, open } => {
            stream.write_all(head(200, &headers, "transfer-encoding: chunked").as_bytes()).await.ok()?;
            for (after, part) in parts {
                tokio::time::sleep(after).await;
                stream.write_all(format!("{:x}\r\n", part.len()).as_bytes()).await.ok()?;
                stream.write_all(&part).await.ok()?;
                stream.write_all(b"\r\n").await.ok()?;
            }
            if open {
                // Until the other side hangs up.
                let _ = more(stream, &mut Vec::new()).await;
                return None;
            }
            stream.write_all(b"0\r\n\r\n").await.ok()
        }
        Reply::Raw(bytes) => {
            let _ = stream.write_all(&bytes).await;
            None
        }
        Reply::Hang => {
            let _ = more(stream, &mut Vec::new()).await;
            None
        }
    }
}

async fn whole(stream: &mut TcpStream, (status, headers): (u16, Vec<(String, String)>), body: &[u8]) -> Option<()> {
    // 1xx, 204 and 304 have no body and no length (RFC 9110 8.6).
    let length = format!("content-length: {}", body.len());
    let length = if status < 200 || matches!(status, 204 | 304) { "x-length: none" } else { &length };
    let mut bytes = head(status, &headers, length).into_bytes();
    bytes.extend_from_slice(body);
    stream.write_all(&bytes).await.ok()
}

fn head(status: u16, headers: &[(String, String)], framing: &str) -> String {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {status} Answer\r\n{lines}{framing}\r\n\r\n")
}
