//! Promises 2 and 3 across processes: two of them behind a real Caddy, sessions in a real Redis that writes everything down, a
//! provider that rotates refresh tokens and takes a second use for theft, tokens of a few seconds and a slow token endpoint.
//! Clients leave at random; one process is killed and comes back, and so does Redis. Nobody is logged out, but for those
//! whose refresh was on the wire at the kill.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use tokio::task::JoinSet;
use vestibule::demo::provider::Endpoint;

use crate::caddies;
use crate::client::{self, Handle};
use crate::world::World;
use crate::world::caddy::Caddy;
use crate::world::port;
use crate::world::process::Process;
use crate::world::redis::{self, RedisServer};

const REQUESTS: u64 = 50_000;
const SESSIONS: usize = 200;
const PEOPLE: usize = 24;
/// How often somebody leaves before the answer: one in so many.
const LEAVES: u64 = 20;
/// How long a request may go wrong after a kill, when its process is gone and the next one has to wait for a lease.
const UNSETTLED: Duration = Duration::from_secs(10);

/// What went on.
#[derive(Default)]
struct Shared {
    over: AtomicBool,
    answered: AtomicU64,
    left: AtomicU64,
    /// Answers that may only come while something has just been killed.
    unsettled: AtomicU64,
    /// Whether something has.
    killed: AtomicBool,
}

fn dice(seed: &mut u64, limit: u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed % limit
}

/// Calls with one session after another; what was answered that should not be.
async fn call(caddy: SocketAddr, handles: Arc<Vec<Handle>>, shared: Arc<Shared>, mut seed: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    let count = handles.len() as u64;
    while !shared.over.load(Ordering::Relaxed) {
        let handle = &handles[usize::try_from(dice(&mut seed, count)).unwrap()];
        let ask = client::fetch(caddy, Method::GET, "/api/me", handle);
        if dice(&mut seed, LEAVES) == 0 {
            // Its connection closes with it.
            let patience = Duration::from_millis(dice(&mut seed, 40));
            if tokio::time::timeout(patience, ask).await.is_err() {
                shared.left.fetch_add(1, Ordering::Relaxed);
            }
            continue;
        }
        let was_killed = shared.killed.load(Ordering::Relaxed);
        let answer = ask.await;
        // Before it was asked, or while it was.
        let was_killed = was_killed || shared.killed.load(Ordering::Relaxed);
        match answer {
            Ok(StatusCode::OK) => drop(shared.answered.fetch_add(1, Ordering::Relaxed)),
            // Who it was is looked at in the end.
            Ok(StatusCode::UNAUTHORIZED) => wrong.push(handle.session()),
            Ok(StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE) if was_killed => {
                shared.unsettled.fetch_add(1, Ordering::Relaxed);
            }
            Ok(status) => wrong.push(format!("{status}")),
            Err(error) => wrong.push(format!("no answer: {error}")),
        }
    }
    wrong
}

/// Waits until so many more are answered.
async fn answers(shared: &Shared, more: u64) {
    let target = shared.answered.load(Ordering::Relaxed) + more;
    let begun = Instant::now();
    while shared.answered.load(Ordering::Relaxed) < target {
        assert!(begun.elapsed() < Duration::from_secs(300), "it does not get on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A config file beside the world's, for a process that listens at `listen`.
fn config(world: &World, name: &str, listen: SocketAddr) -> std::path::PathBuf {
    let text = world.edited(|toml| {
        toml.text("server", "listen", &listen.to_string())
            .text("server", "metrics_listen", "off")
            .text("log", "format", "json")
    });
    let path = world.dir().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

async fn balancer(binary: &Path, world: &World, processes: [SocketAddr; 2]) -> Caddy {
    let [first, second] = processes;
    let text = format!(
        "http://app.test:{{port}} {{\n\treverse_proxy {first} {second} {{\n\t\tlb_policy random\n\t\tlb_try_duration 5s\n\
         \t\tfail_duration 1s\n\t}}\n}}\n"
    );
    Caddy::start(binary, &world.dir().join("caddy"), &text, &[]).await
}

/// The sessions that `log` says to have ended because of their refresh, with what is said of it.
fn ended(log: &str) -> Vec<(String, String)> {
    let lines = log.lines().filter(|line| line.contains("its token was not refreshed"));
    let events = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let text = |event: &serde_json::Value, name: &str| event[name].as_str().unwrap().to_owned();
    events.map(|event| (text(&event, "session"), text(&event, "result"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_with_one_redis_log_nobody_out() {
    if !redis::is_here() {
        return;
    }
    let mut redis = RedisServer::start();
    let url = redis.url();
    let world = World::builder()
        .config(move |toml| toml.in_redis(&url))
        .provider(|options| options.access_token_lifetime = Duration::from_secs(4))
        .start()
        .await;
    world.clock.run();
    world.provider.delay(Endpoint::Token, Duration::from_millis(150));
    let addresses = [port::free(), port::free()];
    let first = config(&world, "first.toml", addresses[0]);
    let second = config(&world, "second.toml", addresses[1]);
    let (mut doomed, other) = (Process::start(&first), Process::start(&second));
    let binary = caddies::all().into_iter().next().expect("there is no Caddy to test with; tests/run fetches two");
    let caddy = balancer(&binary, &world, addresses).await;

    let (mut handles, address) = (Vec::new(), caddy.address);
    for some in (0..SESSIONS).collect::<Vec<_>>().chunks(PEOPLE) {
        let login = |number: &usize| {
            let user = ["alice", "bob", "carol"][number % 3];
            async move { client::login(address, user).await.unwrap() }
        };
        handles.extend(some.iter().map(login).collect::<JoinSet<_>>().join_all().await);
    }
    let (handles, shared) = (Arc::new(handles), Arc::new(Shared::default()));
    let begun = Instant::now();
    let mut people = JoinSet::new();
    for number in 0..PEOPLE {
        let seed = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1);
        people.spawn(call(caddy.address, Arc::clone(&handles), Arc::clone(&shared), seed));
    }
    answers(&shared, REQUESTS / 3).await;
    assert_eq!(world.provider.reuses(), 0, "a token was used twice without need");

    shared.killed.store(true, Ordering::Relaxed);
    let log = doomed.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    doomed = Process::start(&first);
    tokio::time::sleep(UNSETTLED).await;
    shared.killed.store(false, Ordering::Relaxed);
    let at_the_kill = (world.provider.reuses(), shared.unsettled.swap(0, Ordering::Relaxed));
    answers(&shared, REQUESTS / 3).await;

    shared.killed.store(true, Ordering::Relaxed);
    redis.kill();
    tokio::time::sleep(Duration::from_millis(500)).await;
    redis.run();
    tokio::time::sleep(UNSETTLED).await;
    shared.killed.store(false, Ordering::Relaxed);
    let at_the_restart = shared.unsettled.swap(0, Ordering::Relaxed);
    answers(&shared, REQUESTS / 3 + 3).await;
    shared.over.store(true, Ordering::Relaxed);
    let wrong = people.join_all().await.concat();

    let logs = [log, doomed.log(), other.log()].concat();
    let lost: HashSet<String> = ended(&logs).into_iter().map(|(session, _)| session).collect();
    let results: HashSet<String> = ended(&logs).into_iter().map(|(_, result)| result).collect();
    assert!(results.iter().all(|result| result == "lost_at_crash"), "{results:?}");
    let unexplained: Vec<&String> = wrong.iter().filter(|session| !lost.contains(*session)).collect();
    assert!(unexplained.is_empty(), "{} of {:?}", unexplained.len(), unexplained.first());
    let mut out = 0;
    for handle in handles.iter() {
        match client::fetch(caddy.address, Method::GET, "/api/me", handle).await.unwrap() {
            StatusCode::OK => {}
            status => {
                assert!(lost.contains(&handle.session()), "{status}");
                out += 1;
            }
        }
    }
    assert_eq!(out, lost.len(), "whoever was counted has lost a session, and nobody else");
    assert_eq!(world.provider.reuses(), at_the_kill.0, "a token was used twice without a kill");
    assert!(at_the_kill.0 <= lost.len() as u64, "a reuse that no kill explains");
    println!(
        "{} requests of {SESSIONS} sessions in {:.0?} through two processes, {} clients left, {} token requests: {} refreshes on \
         the wire at the kill; 502 or 503: {} around the kill, {at_the_restart} around the restart of Redis, 0 otherwise",
        shared.answered.load(Ordering::Relaxed),
        begun.elapsed(),
        shared.left.load(Ordering::Relaxed),
        world.provider.count(Endpoint::Token),
        lost.len(),
        at_the_kill.1,
    );
    drop((doomed, other, caddy));
    world.finish().await;
}
