//! The race of `forward_auth`: Caddy 2.6 and 2.11.0 to 2.11.4 can, when much is going on, ask the app instead of
//! Vestibule, and take its 2xx for the verdict. With the shipped Caddyfile nobody is let through by that; what the
//! short form lets through in the same time is told beside.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::caddies;
use crate::site::{Front, VERDICTS};
use crate::world::caddy::Caddy;

/// Requests of nobody, for each Caddy and each form.
const REQUESTS: usize = 100_000;
/// Connections that nobody asks on.
const STRANGERS: usize = 40;
/// How many ask at once in a burst of those who may, in turn.
const BURSTS: [usize; 4] = [50, 150, 300, 100];
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The path that strangers ask for; the app writes it down if it ever sees it.
const STRANGE: &str = "/reports/strange";

/// What came of one run.
struct Outcome {
    asked: usize,
    /// Answers of 2xx to strangers.
    let_through: usize,
    /// Requests of strangers that the app saw, whatever became of them; questions that went astray among them.
    seen: usize,
    /// Requests of those who may, and how many of them were not answered by the app.
    welcome: usize,
    turned_away: usize,
    time: Duration,
}

fn request(path: &str, lines: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: app.test\r\nUser-Agent: Mozilla/5.0\r\nAccept: application/json\r\n{lines}\r\n"
    )
}

/// Reads one answer whose length is announced; its status, and whether the connection may be used again.
async fn answer(stream: &mut TcpStream) -> Option<(u16, bool)> {
    let mut bytes = Vec::with_capacity(2048);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            while bytes.len() < end + 4 + length {
                if stream.read_buf(&mut bytes).await.ok()? == 0 {
                    return None;
                }
            }
            let status = head.split(' ').nth(1)?.parse().ok()?;
            return Some((status, !head.contains("connection: close")));
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// Asks as nobody until enough was asked; gives how many answers were a success.
async fn stranger(address: SocketAddr, asked: Arc<AtomicUsize>) -> usize {
    let request = request(STRANGE, "");
    let mut let_through = 0;
    'connection: loop {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        loop {
            if asked.fetch_add(1, Ordering::Relaxed) >= REQUESTS {
                return let_through;
            }
            let sent = stream.write_all(request.as_bytes()).await.is_ok();
            let answered = tokio::time::timeout(PATIENCE, answer(&mut stream)).await.expect("an answer in time");
            let Some((status, goes_on)) = answered.filter(|_| sent) else { continue 'connection };
            let_through += usize::from((200..300).contains(&status));
            if !goes_on {
                continue 'connection;
            }
        }
    }
}

/// Bursts of people who may, each over a connection of their own, until it is over; how many came, and how many were not
/// answered by 200.
async fn bursts(address: SocketAddr, cookie: String, over: Arc<AtomicBool>) -> (usize, usize) {
    let (mut came, mut turned_away) = (0, 0);
    for size in BURSTS.into_iter().cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let mut burst = JoinSet::new();
        for _ in 0..size {
            let request = request("/reports/welcome", &format!("{cookie}Connection: close\r\n"));
            burst.spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(request.as_bytes()).await.ok()?;
                answer(&mut stream).await
            });
        }
        let answers = tokio::time::timeout(PATIENCE, burst.join_all()).await.expect("a burst in time");
        came += size;
        turned_away += answers.iter().filter(|answer| !matches!(answer, Some((200, _)))).count();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    (came, turned_away)
}

async fn run(front: &Front, address: SocketAddr, cookie: &str) -> Outcome {
    let seen =
        |front: &Front| front.reports.recorded().iter().filter(|seen| !seen.target().ends_with("welcome")).count();
    let (before, begun) = (seen(front), Instant::now());
    let (asked, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let welcome = tokio::spawn(bursts(address, cookie.to_owned(), Arc::clone(&over)));
    let strangers: JoinSet<usize> = (0..STRANGERS).map(|_| stranger(address, Arc::clone(&asked))).collect();
    let let_through = strangers.join_all().await.into_iter().sum();
    over.store(true, Ordering::Relaxed);
    let (welcome, turned_away) = welcome.await.unwrap();
    let asked = asked.load(Ordering::Relaxed) - STRANGERS;
    Outcome { asked, let_through, seen: seen(front) - before, welcome, turned_away, time: begun.elapsed() }
}

/// What the README of every other proxy shows: any 2xx is a yes.
async fn short_form(front: &Front, binary: &Path) -> Caddy {
    let (verdicts, app) = (front.world.bound(VERDICTS).await, front.reports.address());
    let text = format!(
        "http://app.test:{{port}} {{\n\tforward_auth {verdicts} {{\n\t\turi /web?\n\
         \t\tcopy_headers X-Remote-User X-Remote-Groups\n\t}}\n\treverse_proxy {app}\n}}\n"
    );
    Caddy::start(binary, &front.world.dir().join("short"), &text, &[]).await
}

fn tell(binary: &Path, form: &str, outcome: &Outcome) {
    let Outcome { asked, let_through, seen, welcome, turned_away, time } = outcome;
    println!(
        "{} {form}: {asked} requests of strangers in {time:.0?}, {let_through} let through, {seen} seen by the app; \
         {welcome} of people who may, {turned_away} of them turned away",
        binary.display()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fa_3_a29_the_shipped_caddyfile_lets_no_stranger_through_when_much_is_going_on() {
    let caddies = caddies::all();
    assert!(!caddies.is_empty(), "there is no Caddy to test with; tests/run fetches two");
    for binary in caddies {
        let front = Front::behind(&binary).await;
        let cookie = front.somebody("alice").await.lines;
        let shipped = run(&front, front.address(), &cookie).await;
        tell(&binary, "with the shipped Caddyfile", &shipped);
        assert!(shipped.asked >= REQUESTS, "{}", shipped.asked);
        assert_eq!(shipped.let_through, 0);
        assert!(shipped.welcome > 500, "there were bursts: {}", shipped.welcome);
        let short = short_form(&front, &binary).await;
        tell(&binary, "with the short form", &run(&front, short.address, &cookie).await);
        front.world.finish().await;
    }
}
