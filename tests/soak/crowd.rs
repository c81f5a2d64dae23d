//! Promise 2: two hundred requests at the end of a token, from two hundred connections, against a provider that rotates
//! and detects reuse, with a token endpoint that takes its time and clients that leave: one refresh, no reuse, nobody
//! is logged out; and then a request that still carries the state from before, the same.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::task::JoinSet;
use vestibule::config::Mode;
use vestibule::demo::provider::Endpoint;
use vestibule::provider::Client;
use vestibule::session::{Freshness, Session, SessionId, Touch};

use crate::client::{self, Handle};
use crate::world::World;

const CROWD: u64 = 200;
const ROUNDS: u64 = 10;

/// How often the provider was asked to refresh.
fn refreshes(world: &World) -> usize {
    let journal = world.provider.journal();
    journal.iter().filter(|seen| seen.parameter("grant_type") == Some("refresh_token")).count()
}

/// The session as the store has it.
async fn stored(world: &World, id: SessionId) -> Arc<Session> {
    let sessions = &world.sidecar().lasting().shared.sessions;
    sessions.load(id, Duration::MAX, Touch::Look, world.clock.now()).await.unwrap().unwrap().session
}

/// The client of the one route, as the snapshot runs it.
fn client_of(world: &World) -> Client {
    let snapshot = world.sidecar().snapshot();
    let route = snapshot.config.routes.values().next().unwrap();
    let Mode::AuthCode(mode) = &route.mode else { panic!("browsers log in here") };
    Client { provider: Arc::clone(&snapshot.providers()[0]), registration: Arc::clone(&mode.clients[0]) }
}

async fn crowd(store: &'static str) {
    let world = World::builder().config(move |toml| toml.set("sessions", "store", store)).start().await;
    let address = world.address().await;
    let handle: Handle = client::login(address, "alice").await.unwrap();
    let id = handle.id();
    world.provider.delay(Endpoint::Token, Duration::from_millis(800));
    for round in 1..=ROUNDS {
        let before = stored(&world, id).await;
        world.clock.shift(301);
        let mut requests = JoinSet::new();
        for number in 0..CROWD {
            let handle = handle.clone();
            // Every third leaves while the refresh is on its way, the first of all among them.
            let patience =
                if number % 3 == 0 { Duration::from_millis(50 + number * 3) } else { Duration::from_secs(30) };
            requests.spawn(async move {
                let answer = client::fetch(address, Method::GET, "/api/me", &handle);
                tokio::time::timeout(patience, answer).await.ok().map(|answer| answer.unwrap())
            });
        }
        let answers = requests.join_all().await;
        assert!(answers.iter().flatten().all(|status| *status == StatusCode::OK), "{answers:?}");
        assert!(answers.iter().filter(|answer| answer.is_none()).count() > 20, "nobody left early");
        assert_eq!(refreshes(&world) as u64, round);

        // Somebody was on the way all the time, with the session as it was.
        let now = world.clock.now();
        let refresher = &world.sidecar().lasting().shared.refresher;
        let late = refresher.fresh(Arc::clone(&before), &client_of(&world), now).await;
        let Freshness::Fresh(late) = late else { panic!("{late:?}") };
        assert_eq!(late.version, before.version + 1);
        assert_eq!(client::fetch(address, Method::GET, "/api/me", &handle).await.unwrap(), StatusCode::OK);
        assert_eq!(refreshes(&world) as u64, round, "the late one was given what there was");
    }
    assert_eq!(world.provider.reuses(), 0);
    // When all have left, the refresh goes on all the same.
    world.clock.shift(301);
    let leaves = handle.clone();
    let asking = tokio::spawn(async move { client::fetch(address, Method::GET, "/api/me", &leaves).await.map(drop) });
    while refreshes(&world) as u64 == ROUNDS {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    asking.abort();
    let before = stored(&world, id).await.version;
    while stored(&world, id).await.version == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(client::fetch(address, Method::GET, "/api/me", &handle).await.unwrap(), StatusCode::OK);
    assert_eq!((refreshes(&world) as u64, world.provider.reuses()), (ROUNDS + 1, 0));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_at_the_end_of_a_token_is_one_refresh_with_sessions_in_memory() {
    crowd("\"memory\"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_at_the_end_of_a_token_is_one_refresh_with_sessions_in_a_file() {
    crowd("{ file = \"state/sessions.redb\" }").await;
}
