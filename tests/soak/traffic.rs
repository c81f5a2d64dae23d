//! What people do through a Caddy while something else happens to the process behind it: calls, uploads, verdicts for
//! those who may and those who may not, logins and logouts, WebSockets and event streams. Every answer is known
//! beforehand, and any other one is noted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use http::header::COOKIE;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{self, Handle};
use crate::streams::{Payload, connect, fetch, socket};

/// People who call one after the other, each over a connection that is kept.
const CALLERS: usize = 12;
/// People who log in, look and log out again.
const COMERS: usize = 2;
/// Longest wait for anything; far more than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of it.
#[derive(Default)]
pub struct Tally {
    /// How long each answer took, in microseconds, in ascending order.
    micros: Vec<u32>,
    /// Logins that came to their end.
    pub logins: usize,
    /// What was said and heard on streams.
    pub beats: usize,
    /// Everything that was not as it should be.
    pub wrong: Vec<String>,
}

impl Tally {
    /// How many requests were answered.
    pub fn requests(&self) -> usize {
        self.micros.len()
    }

    /// The time within which that part of the requests was answered.
    pub fn within(&self, part: f64) -> Duration {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place in a list"
        )]
        let at = (self.micros.len() as f64 * part) as usize;
        Duration::from_micros(self.micros.get(at).copied().unwrap_or_default().into())
    }

    fn take(&mut self, other: Self) {
        self.micros.extend(other.micros);
        self.wrong.extend(other.wrong);
        (self.logins, self.beats) = (self.logins + other.logins, self.beats + other.beats);
    }
}

/// Traffic that goes on until it is told to end.
pub struct Traffic {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    people: JoinSet<Tally>,
}

impl Traffic {
    /// Begins to call Caddy at `address`, with sessions that are there.
    pub fn begin(address: SocketAddr, handles: &[Handle]) -> Self {
        let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut people = JoinSet::new();
        for number in 0..CALLERS {
            let caller = Caller {
                address,
                handle: handles[number % handles.len()].clone(),
                over: Arc::clone(&over),
                answered: Arc::clone(&answered),
                tally: Tally::default(),
            };
            people.spawn(caller.call());
        }
        for number in 0..COMERS {
            people.spawn(come_and_go(address, ["bob", "carol"][number % 2].to_owned(), Arc::clone(&over)));
        }
        Self { over, answered, people }
    }

    /// Keeps a WebSocket and an event stream of each session open until the end.
    pub async fn with_streams(mut self, address: SocketAddr, handles: &[Handle]) -> Self {
        for handle in handles {
            let (over, handle) = (Arc::clone(&self.over), handle.clone());
            let talking = socket(address, &handle).await;
            let mut sender = connect(address).await;
            let events = sender.send_request(fetch(Method::GET, "/api/events", &handle, empty())).await.unwrap();
            assert_eq!(events.status(), StatusCode::OK);
            let heard = Arc::clone(&over);
            self.people.spawn(talk(talking, over));
            self.people.spawn(async move {
                let _kept = sender;
                listen(events, heard).await
            });
        }
        self
    }

    /// How many requests were answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many were.
    pub async fn reach(&self, requests: u64) {
        while self.answered() < requests {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends it.
    pub async fn end(mut self) -> Tally {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        while let Some(one) = self.people.join_next().await {
            all.take(one.unwrap());
        }
        all.micros.sort_unstable();
        all
    }
}

fn empty() -> Payload {
    BodyExt::boxed(Full::default())
}

/// One who calls.
struct Caller {
    address: SocketAddr,
    handle: Handle,
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    tally: Tally,
}

/// What a call shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shows {
    Session,
    Nothing,
    Nonsense,
}

impl Caller {
    async fn call(mut self) -> Tally {
        let mut sender = connect(self.address).await;
        let mut turn = 0_usize;
        while !self.over.load(Ordering::Relaxed) {
            turn += 1;
            let (method, path, shows, expected) = match turn % 20 {
                0..=7 => (Method::GET, "/api/me", Shows::Session, 200),
                8 => (Method::POST, "/api/sink", Shows::Session, 200),
                9..=15 => (Method::GET, "/app/page", Shows::Session, 200),
                16 => (Method::GET, "/app/page", Shows::Nothing, 401),
                17 => (Method::GET, "/api/me", Shows::Nothing, 401),
                18 => (Method::GET, "/app/page", Shows::Nonsense, 401),
                _ => (Method::GET, "/check_auth", Shows::Session, 200),
            };
            // One that was closed while nobody used it has failed nobody.
            if sender.ready().await.is_err() {
                sender = connect(self.address).await;
            }
            let begun = Instant::now();
            let answer = tokio::time::timeout(PATIENCE, self.ask(&mut sender, (&method, path, shows))).await;
            let took = begun.elapsed();
            match answer {
                Ok(Ok(status)) if status == expected => {
                    self.tally.micros.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
                    self.answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Ok(status)) => self.tally.wrong.push(format!("{method} {path}: {status} instead of {expected}")),
                Ok(Err(error)) => self.tally.wrong.push(format!("{method} {path}: {error:?}")),
                Err(_) => self.tally.wrong.push(format!("{method} {path}: no answer")),
            }
        }
        self.tally
    }

    /// Asks, and reads the whole answer.
    async fn ask(
        &self,
        sender: &mut SendRequest<Payload>,
        (method, path, shows): (&Method, &str, Shows),
    ) -> Result<u16, hyper::Error> {
        let body = if *method == Method::POST { BodyExt::boxed(Full::from("x".repeat(500))) } else { empty() };
        let mut request = fetch(method.clone(), path, &self.handle, body);
        if shows == Shows::Nothing {
            request.headers_mut().remove(COOKIE);
        }
        if shows == Shows::Nonsense {
            let name = self.handle.cookie().split('=').next().unwrap();
            let nonsense = HeaderValue::from_str(&format!("{name}={}", "A".repeat(43))).unwrap();
            request.headers_mut().insert(COOKIE, nonsense);
        }
        let (head, body) = sender.send_request(request).await?.into_parts();
        body.collect().await?;
        Ok(head.status.as_u16())
    }
}

/// Logs in, is somebody, logs out, is nobody; again and again.
async fn come_and_go(address: SocketAddr, user: String, over: Arc<AtomicBool>) -> Tally {
    let mut tally = Tally::default();
    while !over.load(Ordering::Relaxed) {
        let handle = match client::login(address, &user).await {
            Ok(handle) => handle,
            Err(error) => {
                tally.wrong.push(format!("a login: {error}"));
                continue;
            }
        };
        tally.logins += 1;
        for (method, path, expected) in
            [(Method::GET, "/api/me", 200), (Method::POST, "/logout", 200), (Method::GET, "/api/me", 401)]
        {
            match client::fetch(address, method, path, &handle).await {
                Ok(status) if status.as_u16() == expected => {}
                other => tally.wrong.push(format!("{path} after a login: {other:?} instead of {expected}")),
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tally
}

type Socket = tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>;

/// Says something every now and then, and hears it again.
async fn talk(mut socket: Socket, over: Arc<AtomicBool>) -> Tally {
    let mut tally = Tally::default();
    while !over.load(Ordering::Relaxed) {
        let text = Message::text(format!("beat {}", tally.beats));
        let said = socket.send(text.clone()).await;
        let heard = tokio::time::timeout(PATIENCE, socket.next()).await;
        match (said, heard) {
            (Ok(()), Ok(Some(Ok(heard)))) if heard == text => tally.beats += 1,
            other => {
                tally.wrong.push(format!("a WebSocket was lost after {} beats: {other:?}", tally.beats));
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tally
}

/// Hears a beat every second.
async fn listen(mut events: http::Response<hyper::body::Incoming>, over: Arc<AtomicBool>) -> Tally {
    let mut tally = Tally::default();
    while !over.load(Ordering::Relaxed) {
        match tokio::time::timeout(PATIENCE, events.frame()).await {
            Ok(Some(Ok(_))) => tally.beats += 1,
            other => {
                tally.wrong.push(format!("an event stream was lost after {} beats: {other:?}", tally.beats));
                break;
            }
        }
    }
    tally
}
