//! Promise 3 under load: the process is killed at a hundred random moments, while people log in, call the API, have
//! their tokens refreshed and log out. Every handle that a client received works afterwards, whoever was logged out
//! stays out, and the file opens every time. Refreshes that were on the wire are counted apart (promise 2).

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use tokio::task::JoinSet;
use vestibule::demo::provider::Endpoint;

use crate::client::{self, Handle};
use crate::world::World;

const KILLS: usize = 100;
/// People who do something all the time.
const PEOPLE: u64 = 12;
/// Longest life of a process under load.
const LONGEST: u64 = 400;
/// How many sessions of earlier lives are tried after each kill; all are, in the end.
const TRIED: usize = 40;

/// Numbers that differ from run to run, but can be told.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What one person knows of the sessions that they had in one life of the process.
#[derive(Default)]
struct Known {
    /// Received, and never given up.
    alive: Vec<Handle>,
    /// Logged out, and told so.
    out: Vec<Handle>,
}

/// Logs in, calls, logs out, until nobody answers.
async fn live(address: SocketAddr, mut mine: Vec<Handle>, mut dice: Dice, over: Arc<AtomicBool>) -> Known {
    let mut known = Known::default();
    while !over.load(Ordering::Relaxed) {
        match dice.below(10) {
            0..=2 => match client::login(address, "alice").await {
                Ok(handle) => mine.push(handle),
                Err(_) => break,
            },
            3 if mine.len() > 1 => {
                let handle = mine.swap_remove(0);
                // Without an answer nobody knows, and either is right.
                match client::fetch(address, Method::POST, "/logout", &handle).await {
                    Ok(StatusCode::OK) => known.out.push(handle),
                    Ok(status) => panic!("a logout was answered {status}"),
                    Err(_) => break,
                }
            }
            _ => {
                let Some(handle) = mine.last() else { continue };
                match client::fetch(address, Method::GET, "/api/me", handle).await {
                    Ok(StatusCode::OK) => {}
                    Ok(status) => panic!("{} was answered {status}", handle.session()),
                    Err(_) => break,
                }
                let turn = usize::try_from(dice.below(mine.len() as u64)).unwrap();
                mine.rotate_left(turn);
            }
        }
    }
    known.alive = mine;
    known
}

/// Which of `handles` do not work, when each is used once.
async fn refused(address: SocketAddr, handles: &[Handle]) -> Vec<Handle> {
    let mut refused = Vec::new();
    for some in handles.chunks(16) {
        let asks = some.iter().cloned().map(|handle| async move {
            match client::fetch(address, Method::GET, "/api/me", &handle).await {
                Ok(StatusCode::OK) => None,
                Ok(StatusCode::UNAUTHORIZED) => Some(handle),
                other => panic!("{} was answered {other:?}", handle.session()),
            }
        });
        refused.extend(asks.collect::<JoinSet<_>>().join_all().await.into_iter().flatten());
    }
    refused
}

/// The sessions that ended because a kill came between their refresh and its end.
fn interrupted(log: &str) -> HashSet<String> {
    let lines = log.lines().filter(|line| line.contains("\"lost_at_crash\""));
    let events = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    events.map(|event| event["session"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_kills_under_load_lose_no_handle() {
    let mut world = World::builder()
        .config(|toml| toml.set("sessions", "store", "{ file = \"state/sessions.redb\" }"))
        .provider(|options| options.access_token_lifetime = Duration::from_secs(4))
        .start()
        .await;
    world.provider.delay(Endpoint::Token, Duration::from_millis(20));
    world.become_process().await;
    let seed = u64::from_le_bytes(vestibule::web::bytes::<8>().unwrap()) | 1;
    println!("seed {seed}");
    let begun = Instant::now();
    let mut dice = Dice(seed);
    let (mut alive, mut out, mut lost) = (Vec::new(), Vec::new(), HashSet::new());
    let mut slowest = Duration::ZERO;
    for _ in 0..KILLS {
        let address = world.address().await;
        let over = Arc::new(AtomicBool::new(false));
        let mut people = JoinSet::new();
        for _ in 0..PEOPLE {
            // Each goes on with a few sessions of earlier lives, some of which are due for a refresh.
            let mine = (0..2).filter_map(|_| take(&mut alive, &mut dice)).collect();
            let (dice, over) = (Dice(dice.below(u64::MAX) | 1), Arc::clone(&over));
            people.spawn(live(address, mine, dice, over));
        }
        tokio::time::sleep(Duration::from_millis(dice.below(LONGEST))).await;
        world.kill();
        over.store(true, Ordering::Relaxed);
        let known = people.join_all().await;
        let killed = Instant::now();
        world.revive().await;

        let address = world.address().await;
        let mut tried: Vec<Handle> = Vec::new();
        for one in known {
            tried.extend(one.alive);
            out.extend(one.out);
        }
        tried.extend((0..TRIED).filter_map(|_| take(&mut alive, &mut dice)));
        let dead = refused(address, tried.get(..1).unwrap_or_default()).await;
        slowest = slowest.max(killed.elapsed());
        let dead = [dead, refused(address, tried.get(1..).unwrap_or_default()).await].concat();
        let dead: HashSet<String> = dead.iter().map(Handle::session).collect();
        let counted = interrupted(&world.log());
        let unexplained: Vec<_> = dead.difference(&counted).collect();
        assert!(unexplained.is_empty(), "seed {seed}: {unexplained:?} are gone");
        alive.extend(tried.into_iter().filter(|handle| !dead.contains(&handle.session())));
        lost.extend(dead);
    }

    let address = world.address().await;
    let dead: HashSet<String> = refused(address, &alive).await.iter().map(Handle::session).collect();
    let counted = interrupted(&world.log());
    assert!(dead.is_subset(&counted), "seed {seed}: some are gone");
    lost.extend(dead);
    let back = out.len() - refused(address, &out).await.len();
    assert_eq!(back, 0, "seed {seed}: logged out, and back");
    assert_eq!(lost, counted, "seed {seed}: whoever was counted has lost a session, and nobody else");
    assert_eq!(world.provider.reuses(), counted.len() as u64, "seed {seed}: a token was used twice without need");
    let log = world.log();
    assert!(!log.contains("cannot be opened") && !log.contains("session store failed"), "seed {seed}");
    println!(
        "{KILLS} kills in {:.0?}: {} sessions live, {} ended by logout, {} refreshes were on the wire; serving again within {slowest:?}",
        begun.elapsed(),
        alive.len(),
        out.len(),
        counted.len()
    );
    world.finish().await;
}

/// Takes one of `handles` by chance.
fn take(handles: &mut Vec<Handle>, dice: &mut Dice) -> Option<Handle> {
    let at = dice.below((handles.len() as u64).max(1));
    (!handles.is_empty()).then(|| handles.swap_remove(usize::try_from(at).unwrap()))
}
