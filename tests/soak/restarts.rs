//! Restarts under load behind real Caddys, when a service manager holds the sockets: whoever comes while there is no
//! process waits for the next one, and nobody is refused or logged out.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};

use crate::caddies;
use crate::client::{self, Handle};
use crate::reloads::{self, told};
use crate::streams;
use crate::traffic::Traffic;
use crate::world::live::SocketUpstream;

const RESTARTS: u64 = 20;
/// Requests between two restarts.
const BETWEEN: u64 = 500;

async fn behind(binary: &Path) {
    let api = streams::api(Arc::default()).await;
    let sockets = SocketUpstream::start().await;
    let mut world = reloads::world(api, sockets.url()).await;
    world.edited(|toml| toml.set("sessions", "store", "{ file = \"sessions.redb\" }"));
    world.become_managed_process().await;
    let caddy = reloads::caddy(&world, api, binary).await;
    let mut handles: Vec<Handle> = Vec::new();
    for number in 0..6 {
        handles.push(client::login(caddy.address, ["alice", "bob", "carol"][number % 3]).await.unwrap());
    }
    let traffic = Traffic::begin(caddy.address, &handles);
    let mut longest = Duration::ZERO;
    for _ in 0..RESTARTS {
        traffic.reach(traffic.answered() + BETWEEN).await;
        let begun = Instant::now();
        world.stop().await;
        world.revive().await;
        longest = longest.max(begun.elapsed());
    }
    traffic.reach(traffic.answered() + BETWEEN).await;
    println!("{}: {RESTARTS} restarts, {longest:.0?} at the most", binary.display());
    told("over restarts", &traffic.end().await);
    for handle in &handles {
        let status = client::fetch(caddy.address, Method::GET, "/api/me", handle).await.unwrap();
        assert_eq!(status, StatusCode::OK, "a session was lost");
    }
    assert_eq!(world.provider.reuses(), 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_under_load_fail_nobody_behind_any_caddy() {
    let caddies = caddies::all();
    assert!(!caddies.is_empty(), "there is no Caddy to test with; tests/run fetches two");
    for caddy in caddies {
        behind(&caddy).await;
    }
}
