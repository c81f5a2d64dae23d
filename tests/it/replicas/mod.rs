//! Several processes with one Redis (spec 5, promises 2 and 3): whoever is logged in at one is at all, one refresh serves
//! all, and whoever is out at one is out everywhere within a second.

mod logouts;
mod outages;
mod servers;

use std::future::IntoFuture as _;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;
use vestibule::demo::provider::Endpoint;
use vestibule::reload::Sidecar;
use vestibule::session::Filter;

use crate::world::browser::Browser;
use crate::world::redis::{self, RedisServer};
use crate::world::toml::Toml;
use crate::world::{Edit, World, eventually};

macro_rules! needs_redis {
    () => {
        if !redis::is_here() {
            return;
        }
    };
}
use needs_redis;

/// What the specification gives the other processes.
const SECOND: Duration = Duration::from_secs(1);

/// A world in which `world`'s own sidecar is one process and `other` another, with one server.
pub struct Replicas {
    pub world: World,
    pub other: Sidecar,
    pub redis: RedisServer,
}

/// Sessions in the server at `url`.
pub fn shares(toml: &mut Toml, url: &str) {
    toml.in_redis(url);
}

impl Replicas {
    async fn start() -> Self {
        Self::with(|toml| toml).await
    }

    async fn with(adjust: impl FnOnce(&mut Toml) -> &mut Toml + Send + 'static) -> Self {
        let redis = RedisServer::start();
        let url = redis.url();
        let config = move |toml: &mut Toml| shares(toml, &url);
        let world = World::builder().config(move |toml| {
            config(toml);
            adjust(toml)
        });
        let world = world.start().await;
        let other = world.start_replica().await;
        Self { world, other, redis }
    }

    /// Both processes in turn, whoever is asked.
    async fn both(&self, mut ask: impl AsyncFnMut(&'static str)) {
        self.at_other().await;
        ask("the other").await;
        self.at_own().await;
        ask("the first").await;
    }

    async fn at_other(&self) {
        self.world.balance_to(Some(&self.other)).await;
    }

    async fn at_own(&self) {
        self.world.balance_to(None).await;
    }

    async fn finish(self) {
        self.other.shutdown().await;
        self.world.finish().await;
    }

    /// Whether `browser` is in at whichever process is asked now.
    async fn is_in(&self, browser: &Browser) -> bool {
        browser.get("/check_auth").await.json()["logged_in"] == true
    }
}

/// Waits until `browser` is out; within what the specification gives.
async fn is_out_soon(browser: &Browser) {
    let begun = Instant::now();
    while browser.get("/check_auth").await.json()["logged_in"] == true {
        assert!(begun.elapsed() < SECOND, "still logged in after a second");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn sc_6_a_session_of_one_process_is_one_of_all_and_ends_everywhere() {
    needs_redis!();
    let two = Replicas::start().await;
    let world = &two.world;
    world.browser.login("alice").await;
    two.both(async |_| drop(world.browser.get("/api/me").await.is(200))).await;
    // Both hold it decoded by now; O01: a thief's copy goes with it.
    let thief = world.browser.copy();
    world.browser.post("/logout").header("x-vestibule-csrf", "1").await.is(200);
    two.at_other().await;
    is_out_soon(&thief).await;
    thief.get("/api/me").await.refused(401, "login_required");
    two.finish().await;
}

/// Also CB-4: one token request answers all repetitions.
#[tokio::test]
async fn a_callback_may_come_to_any_process_and_be_repeated_at_another() {
    needs_redis!();
    let two = Replicas::start().await;
    let world = &two.world;
    let picker = world.browser.begin_login().await;
    let callback = world.browser.callback_for(&picker, "alice").await;
    let (early, bare) = (world.browser.copy(), world.new_browser());
    two.at_other().await;
    world.browser.call_back(world.provider.issuer(), &callback).await.is(200).at("https://app.test/");
    two.at_own().await;
    early.call_back(world.provider.issuer(), &callback).await.is(200).at("https://app.test/");
    assert!(two.is_in(&world.browser).await && two.is_in(&early).await);
    // With its session instead of its login cookie; and nobody else.
    world.browser.call_back(world.provider.issuer(), &callback).await.is(200).at("https://app.test/");
    bare.call_back(world.provider.issuer(), &callback).await.refused(400, "unknown_login");
    assert_eq!(world.provider.count(Endpoint::Token), 1);
    two.finish().await;
}

/// CB-10, RFC 6749 4.1.2: a code is sent once for as long as its login could come again, wherever it comes to; and what is
/// told of a login is true when it is told.
#[tokio::test]
async fn a_login_that_was_used_elsewhere_stays_used_and_one_that_was_ended_is_not_told_of() {
    needs_redis!();
    let two = Replicas::start().await;
    let world = &two.world;
    let picker = world.browser.begin_login().await;
    let callback = world.browser.callback_for(&picker, "alice").await;
    let (late, later) = (world.browser.copy(), world.browser.copy());
    two.at_other().await;
    world.browser.call_back(world.provider.issuer(), &callback).await.is(200).at("https://app.test/");
    // As long as the attempt lives, and not for a minute.
    let key = two.redis.raw("KEYS vestibule:n:login:*");
    let key = key.lines().find(|line| line.starts_with("vestibule:")).unwrap();
    let left = two.redis.raw(&format!("PTTL {key}"));
    assert!(left.trim().trim_start_matches(':').parse::<u64>().unwrap() > 500_000, "{left}");
    two.at_own().await;
    world.browser.post("/logout").header("x-vestibule-csrf", "1").await.is(200);
    late.call_back(world.provider.issuer(), &callback).await.refused(400, "login_used");
    world.clock.shift(70);
    later.call_back(world.provider.issuer(), &callback).await.refused(400, "login_used");
    assert_eq!(world.provider.count(Endpoint::Token), 1);
    two.finish().await;
}

/// At the same instant at both: whoever is second waits for the first.
#[tokio::test]
async fn a_callback_that_comes_to_two_processes_at_once_is_one_exchange() {
    needs_redis!();
    let two = Replicas::start().await;
    let world = &two.world;
    let picker = world.browser.begin_login().await;
    let callback = world.browser.callback_for(&picker, "alice").await;
    world.provider.delay(Endpoint::Token, Duration::from_millis(300));
    let (first, second) = (world.browser.copy(), world.browser.copy());
    let go = |browser: Browser| {
        let callback = callback.clone();
        async move { browser.navigate(callback.as_str()).await }
    };
    let own = tokio::spawn(go(first.clone()));
    eventually("the exchange", || world.provider.count(Endpoint::Token) == 1).await;
    two.at_other().await;
    go(second.clone()).await.is(200).at("https://app.test/");
    own.await.unwrap().is(200);
    assert!(two.is_in(&first).await && two.is_in(&second).await);
    assert_eq!(world.provider.count(Endpoint::Token), 1);
    two.finish().await;
}

#[tokio::test]
async fn lo_1_the_one_use_logout_url_may_be_followed_at_any_process_once() {
    needs_redis!();
    let two = Replicas::start().await;
    let world = &two.world;
    world.browser.login("alice").await;
    let answer = world.browser.post("/logout").header("x-vestibule-csrf", "1").await.is(200).json();
    let url = answer["logout_url"].as_str().unwrap().to_owned();
    assert!(url.contains("/logout/go?to="), "{url}");
    two.at_other().await;
    let gone = world.browser.navigate(&url).stop_before("/logout/end").await;
    assert!(gone.location().as_str().contains("state="), "it went through the provider: {}", gone.describe());
    for _ in 0..2 {
        let again = world.browser.navigate(&url).stay().await;
        assert!(!again.location().as_str().contains("id_token_hint"), "{}", again.describe());
        two.at_own().await;
    }
    two.finish().await;
}

/// PX-15 and PX-16 across processes: the token endpoint is slower than a lease lasts, clients leave, and it is one
/// refresh all the same.
#[tokio::test]
async fn px_15_px_16_one_refresh_at_a_time_across_processes() {
    needs_redis!();
    let two = Replicas::start().await;
    let world = &two.world;
    world.browser.login("alice").await;
    two.both(async |_| drop(world.browser.get("/api/me").await.is(200))).await;
    world.provider.delay(Endpoint::Token, Duration::from_secs(4));
    world.clock.shift(301);
    let begun = world.provider.count(Endpoint::Token);
    let impatient = world.browser.clone();
    let left = tokio::spawn(async move { impatient.get("/api/me").await });
    eventually("the refresh", || world.provider.count(Endpoint::Token) == begun + 1).await;
    left.abort();
    let mut all = JoinSet::new();
    for at_other in [true, false] {
        if at_other {
            two.at_other().await
        } else {
            two.at_own().await
        }
        (0..25).for_each(|_| drop(all.spawn(world.browser.get("/api/me").into_future())));
        // Each has chosen its process when it is first polled.
        tokio::task::yield_now().await;
    }
    for answer in all.join_all().await {
        answer.is(200);
    }
    assert_eq!(world.provider.count(Endpoint::Token), begun + 1);
    assert_eq!(world.provider.reuses(), 0);
    // The next one is fast and belongs to the other process.
    world.provider.delay(Endpoint::Token, Duration::ZERO);
    world.clock.shift(301);
    two.both(async |_| drop(world.browser.get("/api/me").await.is(200))).await;
    assert_eq!((world.provider.count(Endpoint::Token), world.provider.reuses()), (begun + 2, 0));
    two.finish().await;
}

#[tokio::test]
async fn the_operator_at_one_process_sees_and_ends_all() {
    needs_redis!();
    let two = Replicas::start().await;
    let world = &two.world;
    let bob = world.new_browser();
    world.browser.login("alice").await;
    two.at_other().await;
    bob.login("bob").await;
    let sessions = &two.other.lasting().shared.sessions;
    let (idle, now) = (Duration::from_secs(1800), world.clock.now());
    let page = sessions.page(&Filter::default(), (None, 10), (idle, now)).await.unwrap();
    assert_eq!(page.sessions.len(), 2);
    let alice = Filter { subject: Some("alice-0001".to_owned()), ..Filter::default() };
    assert_eq!(sessions.end_by_hand(&alice, now).await.unwrap(), 1);
    two.at_own().await;
    is_out_soon(&world.browser).await;
    assert!(two.is_in(&bob).await);
    two.finish().await;
}

#[tokio::test]
async fn sc_3_sc_12_whoever_has_the_server_alone_has_nothing() {
    needs_redis!();
    let two = Replicas::start().await;
    let world = &two.world;
    world.browser.login("alice").await;
    world.browser.get("/api/me").await.is(200);
    let written = std::fs::read_dir(two.redis.folder().join("appendonlydir")).unwrap();
    let written: Vec<u8> = written.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(written.len() > 500, "it writes everything down");
    let has = |text: &str| written.windows(text.len()).any(|window| window == text.as_bytes());
    for (kind, token) in world.provider.issued() {
        assert!(!has(&token), "{kind:?}");
    }
    for cookie in world.browser.cookies() {
        assert!(!has(&cookie.value), "{}", cookie.name);
    }
    assert!(!has("alice") && has("vestibule:s:"));
    two.finish().await;
}

#[tokio::test]
async fn s24_a_process_without_the_key_lets_nobody_in_and_breaks_nothing() {
    needs_redis!();
    let two = Replicas::start().await;
    let world = &two.world;
    world.browser.login("alice").await;
    world.browser.get("/api/me").await.is(200);
    let key = world.dir().join("other.key");
    std::fs::write(&key, "another key, and as long as it has to be at least").unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let keys = format!("[{{ file = \"{}\" }}]", key.display());
    assert_eq!(world.edit(|toml| toml.set("sessions", "keys", &keys)).await, Edit::Served);
    world.browser.get("/api/me").await.refused(401, "login_required");
    world.browser.navigate("/login/start").await.is(200);
    world.browser.get("/api/me").await.is(200);
    two.finish().await;
}

#[tokio::test]
async fn cf_11_sessions_move_into_redis_and_out_again_by_an_edit() {
    needs_redis!();
    let redis = RedisServer::start();
    let world = World::start().await;
    world.browser.login("alice").await;
    let url = redis.url();
    assert_eq!(
        world
            .edit(move |toml| {
                shares(toml, &url);
                toml
            })
            .await,
        Edit::Served
    );
    world.browser.get("/api/me").await.is(200);
    assert_eq!(world.metric("vestibule_sessions_active", &[("store", "redis")]).await, 1.0);
    assert_eq!(world.edit(|toml| toml.text("sessions", "store", "memory")).await, Edit::Served);
    world.browser.get("/api/me").await.is(200);
    eventually("an empty server", || redis.raw("ZCARD vestibule:used").starts_with(":0")).await;
    assert!(json!(redis.raw("KEYS vestibule:s:*")).as_str().unwrap().starts_with("*0"));
    world.finish().await;
}
