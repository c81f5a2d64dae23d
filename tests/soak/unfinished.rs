//! A hundred thousand logins that nobody finishes: what a login needs to know travels with the browser, so they take
//! nothing from those who want in.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use http::header::{COOKIE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::client;
use crate::streams::resident;
use crate::world::World;

const LOGINS: usize = 100_000;
/// Who begin them, each on a connection of its own.
const STRANGERS: usize = 8;
/// By how much a process may grow meanwhile: 80 bytes each would be more.
const GROWTH: u64 = 8 << 20;

/// Begins `count` logins, and comes back from none.
async fn begin(address: SocketAddr, count: usize) {
    let (mut sender, connection) = handshake(TokioIo::new(TcpStream::connect(address).await.unwrap())).await.unwrap();
    tokio::spawn(connection);
    for at in 0..count {
        let request = Request::get(format!("/login/start?redirect=/page/{at}"))
            .header(HOST, "app.test")
            .header("accept", "text/html")
            .header("sec-fetch-site", "none")
            .header("sec-fetch-mode", "navigate")
            .header(COOKIE, format!("of={at}"))
            .body(Empty::<Bytes>::new())
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::FOUND);
        answer.into_body().collect().await.unwrap();
    }
}

/// `count` logins, begun by all of them.
async fn begin_all(address: SocketAddr, count: usize) {
    let strangers: JoinSet<()> = (0..STRANGERS).map(|_| begin(address, count / STRANGERS)).collect();
    strangers.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn z16_a_hundred_thousand_unfinished_logins_take_no_memory() {
    let mut world = World::start().await;
    world.become_process().await;
    let (address, pid) = (world.address().await, world.process().id());
    // What an allocator keeps is there before.
    begin_all(address, LOGINS / 50).await;
    let (before, begun) = (resident(pid), Instant::now());
    begin_all(address, LOGINS).await;
    let grown = resident(pid).saturating_sub(before);
    println!("{LOGINS} logins begun in {:.1?}; memory grew by {} kB", begun.elapsed(), grown / 1024);
    assert!(grown < GROWTH, "memory grew by {grown} bytes");
    client::login(address, "alice").await.unwrap();
    world.finish().await;
}
