//! Sessions in a file (promise 3): what a browser was given survives a restart, a `kill -9` and a new key; what was
//! ended stays ended; and a store that fails lets nobody in and nobody out.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use http::Method;
use vestibule::demo::provider::{Endpoint, Secret};
use vestibule::reload::{Managed, Options, Sidecar};
use vestibule::session::{SessionId, State};

use crate::world::browser::Browser;
use crate::world::builder::Builder;
use crate::world::{Edit, World, eventually};

/// A world whose sessions are in a file.
fn with_file() -> Builder {
    World::builder().config(|toml| toml.set("sessions", "store", "{ file = \"state/sessions.redb\" }"))
}

fn file(world: &World) -> PathBuf {
    world.dir().join("state/sessions.redb")
}

fn id(browser: &Browser) -> SessionId {
    let cookies = browser.cookies();
    let cookie = cookies.iter().find(|cookie| cookie.name.contains("vestibule-web")).unwrap();
    SessionId::of_cookie(cookie.value.as_bytes()).unwrap()
}

async fn ready(world: &World) -> String {
    world.admin("/readyz?verbose").await.text()
}

#[tokio::test]
async fn a_restart_keeps_sessions_and_a_logout_stays_one() {
    let mut world = with_file().start().await;
    let (alice, bob) = (world.new_browser(), world.new_browser());
    alice.login("alice").await;
    bob.login("bob").await;
    let thief = bob.copy();
    bob.post("/logout").await.is(200);
    world.restart().await;
    alice.get("/api/me").await.is(200);
    assert_eq!(alice.get("/userinfo").await.is(200).json()["preferred_username"], "alice");
    thief.get("/api/me").await.refused(401, "login_required");
    assert!(ready(&world).await.contains("store file: up"), "{}", ready(&world).await);
    assert_eq!(world.metric("vestibule_sessions_active", &[("store", "file")]).await, 1.0);
    world.still_works().await;
    let commits = "vestibule_session_store_operation_duration_seconds_count";
    assert!(world.metric(commits, &[("store", "file"), ("operation", "commit")]).await > 0.0);
    world.finish().await;
}

#[tokio::test]
async fn the_key_is_made_at_the_first_start_and_kept() {
    let mut world = with_file().start().await;
    let key = world.dir().join("state/session.key");
    let first = std::fs::read_to_string(&key).unwrap();
    let mode = |path: &PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
    world.browser.login("alice").await;
    assert_eq!((mode(&key), mode(&file(&world))), (0o600, 0o600));
    let bytes = std::fs::read(file(&world)).unwrap();
    let tokens = world.provider.issued().into_iter().map(|(_, secret)| secret);
    for plain in tokens.chain(["alice".to_owned(), "corp".to_owned()]) {
        assert!(!bytes.windows(plain.len()).any(|window| window == plain.as_bytes()), "the file shows {plain}");
    }
    world.restart().await;
    assert_eq!(std::fs::read_to_string(&key).unwrap(), first);
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}

/// PX-15, X01: the refreshed tokens are what a restart finds, and no token is used twice.
#[tokio::test]
async fn a_refresh_survives_a_restart() {
    let mut world = with_file().start().await;
    world.browser.login("alice").await;
    for _ in 0..3 {
        world.clock.shift(301);
        world.browser.get("/api/me").await.is(200);
        world.restart().await;
        world.browser.get("/api/me").await.is(200);
    }
    assert_eq!(world.provider.reuses(), 0);
    assert_eq!(world.metric("vestibule_token_refreshes_total", &[("result", "lost_at_crash")]).await, 0.0);
    world.finish().await;
}

#[tokio::test]
async fn sc_5_the_idle_time_goes_on_over_a_restart() {
    let mut world = with_file().start().await;
    world.browser.login("alice").await;
    world.clock.shift(1_700);
    world.browser.get("/api/me").await.is(200);
    world.restart().await;
    world.clock.shift(1_700);
    world.browser.get("/api/me").await.is(200);
    world.restart().await;
    world.clock.shift(1_801);
    world.browser.get("/api/me").await.refused(401, "login_required");
    world.finish().await;
}

#[tokio::test]
async fn sc_12_a_new_key_in_front_opens_and_a_key_taken_away_is_a_login_and_no_error() {
    let world = with_file().start().await;
    let key = |name: &str, text: &str| {
        let path = world.dir().join(name);
        std::fs::write(&path, text.repeat(48)).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    };
    key("new.key", "n");
    world.browser.login("alice").await;
    let both = "[{ file = \"new.key\" }, { file = \"state/session.key\" }]";
    assert_eq!(world.edit(|toml| toml.set("sessions", "keys", both)).await, Edit::Served);
    world.browser.get("/api/me").await.is(200);
    let bob = world.new_browser();
    bob.login("bob").await;
    assert_eq!(world.edit(|toml| toml.set("sessions", "keys", "[{ file = \"new.key\" }]")).await, Edit::Served);
    // Alice's session is held decoded; its record is not opened again before the next start.
    bob.get("/api/me").await.is(200);
    let mut world = world;
    world.restart().await;
    bob.get("/api/me").await.is(200);
    world.browser.get("/api/me").await.refused(401, "login_required");
    world.browser.navigate("/login/start").await.is(200).at("https://app.test/");
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}

/// Promise 1: the store itself changes by reload. Nobody is logged out, and a login that has begun comes to its end.
#[tokio::test]
async fn sessions_move_with_the_store_and_so_do_logins_on_their_way() {
    let mut world = World::start().await;
    world.browser.login("alice").await;
    let stores = ["{ file = \"state/sessions.redb\" }", "{ file = \"state/other.redb\" }", "\"memory\""];
    for store in [0, 1, 0, 2, 1].map(|index| stores[index]) {
        let begun = world.new_browser();
        let callback = begun.callback_for(&begun.begin_login().await, "bob").await;
        assert_eq!(world.edit(|toml| toml.set("sessions", "store", store)).await, Edit::Served, "{store}");
        world.browser.get("/api/me").await.is(200);
        // Memory without `keys` seals with a key of the process: logins on their way begin anew, as `diff` says.
        if store != stores[2] {
            begun.call_back(world.provider.issuer(), &callback).await.is(200);
            begun.get("/api/me").await.is(200);
        }
        let label = if store.contains("file") { "file" } else { "memory" };
        assert!(ready(&world).await.contains(&format!("store {label}: up")), "{}", ready(&world).await);
        let all = world.metric("vestibule_sessions_active", &[]).await;
        assert_eq!(
            all,
            world.metric("vestibule_sessions_active", &[("store", label)]).await,
            "no series of the old one"
        );
        assert!(all >= 1.0);
    }
    // What is there survives a restart, a refresh goes on, and what was left knows nobody.
    world.clock.shift(301);
    world.browser.get("/api/me").await.is(200);
    world.restart().await;
    world.browser.get("/api/me").await.is(200);
    let thief = world.browser.copy();
    world.browser.post("/logout").await.is(200);
    assert_eq!(world.edit(|toml| toml.set("sessions", "store", stores[0])).await, Edit::Served);
    thief.get("/api/me").await.refused(401, "login_required");
    assert_eq!(world.provider.reuses(), 0);
    world.finish().await;
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_or_a_vanished_key_is_refused_in_words() {
    let world = with_file().start().await;
    world.browser.login("alice").await;
    std::fs::write(world.dir().join("garbage"), "no database").unwrap();
    assert_eq!(world.edit(|toml| toml.set("sessions", "store", "{ file = \"garbage\" }")).await, Edit::Refused);
    assert!(world.log().contains("/garbage is no session store"), "{}", world.log());
    world.browser.get("/api/me").await.is(200);
    // Sockets that cannot be bound stop a move that has begun.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let refused = world.edit(|toml| {
        toml.set("sessions", "store", "{ file = \"state/next.redb\" }")
            .text("server", "verdict_listen", &listen)
    });
    assert_eq!(refused.await, Edit::Refused);
    assert!(ready(&world).await.contains("store file: up"));
    world.browser.get("/api/me").await.is(200);
    drop(taken);
    assert_eq!(world.edit(|toml| toml.unset("server", "verdict_listen")).await, Edit::Served);
    world.browser.get("/api/me").await.is(200);
    let key = world.dir().join("state/session.key");
    let aside = key.with_extension("aside");
    std::fs::rename(&key, &aside).unwrap();
    eventually("the refusal", || world.log().contains("session.key is gone: put it back")).await;
    assert!(!key.exists(), "a new key would lock everybody out");
    world.browser.get("/api/me").await.is(200);
    std::fs::rename(&aside, &key).unwrap();
    assert_eq!(world.edit(|toml| toml.text("sessions", "idle_timeout", "20m")).await, Edit::Served);
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}

#[tokio::test]
async fn a_second_process_is_told_and_serves_nobody_until_the_first_has_gone() {
    let world = with_file().start().await;
    world.browser.login("alice").await;
    let options = Options {
        config_path: world.dir().join("vestibule.toml"),
        clock: world.clock.clone(),
        apply_log: Box::new(|_| {}),
        managed: Managed::default(),
    };
    let second = Sidecar::start(options).await.unwrap_or_else(|error| panic!("{error}"));
    eventually("the complaint", || world.log().contains("another process has")).await;
    let sessions = &second.lasting().shared.sessions;
    assert_eq!(sessions.state(), ("file", State::Down));
    let asked = sessions.load(id(&world.browser), Duration::MAX, vestibule::session::Touch::Look, world.clock.now());
    assert!(asked.await.is_err());
    world.browser.get("/api/me").await.is(200);
    second.shutdown().await;
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}

/// Promise 4: a store that cannot be opened is 503 for whoever has a cookie, and nobody is logged out.
#[tokio::test]
async fn a_store_that_cannot_be_opened_lets_nobody_in_and_forgets_nobody() {
    let mut world = with_file().start().await;
    world.browser.login("alice").await;
    let aside = file(&world).with_extension("aside");
    world.sidecar().lasting().shared.sessions.close().await;
    std::fs::rename(file(&world), &aside).unwrap();
    std::fs::write(file(&world), "no database at all").unwrap();
    world.restart().await;
    eventually("the store to be down", || world.sidecar().lasting().shared.sessions.state().1 == State::Down).await;
    world.browser.get("/api/me").await.refused(503, "store_unavailable");
    world.browser.post("/logout").await.refused(503, "store_unavailable");
    world.new_browser().get("/api/me").await.refused(401, "login_required");
    assert!(ready(&world).await.contains("store file: down"), "{}", ready(&world).await);
    assert!(world.log().contains("is no session store"), "{}", world.log());
    std::fs::rename(&aside, file(&world)).unwrap();
    eventually("the store to be up", || world.sidecar().lasting().shared.sessions.state().1 == State::Up).await;
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}

/// S24: a file from another machine, without its key.
#[tokio::test]
async fn s24_a_file_without_its_key_knows_nobody_and_says_so_politely() {
    let mut world = with_file().start().await;
    world.browser.login("alice").await;
    world.sidecar().lasting().shared.sessions.close().await;
    std::fs::remove_file(world.dir().join("state/session.key")).unwrap();
    world.restart().await;
    world.browser.get("/api/me").await.refused(401, "login_required");
    world.still_works().await;
    world.finish().await;
}

/// Promise 3, at its sharpest: the process dies the moment that the browser has its cookie.
#[tokio::test]
async fn a_kill_right_after_the_cookie_loses_no_login() {
    let mut world = with_file().start().await;
    world.become_process().await;
    for user in ["alice", "bob", "carol"] {
        let browser = world.new_browser();
        let callback = browser.callback_for(&browser.begin_login().await, user).await;
        let answer = browser.click(world.provider.issuer(), callback.as_str()).stay().await.is(303);
        assert!(answer.headers.contains_key("set-cookie"));
        world.kill();
        let begun = Instant::now();
        world.revive().await;
        assert_eq!(browser.get("/userinfo").await.is(200).json()["preferred_username"], user);
        assert!(begun.elapsed() < Duration::from_secs(2), "it took {:?}", begun.elapsed());
        browser.get("/api/me").await.is(200);
    }
    assert_eq!(world.metric("vestibule_sessions_active", &[("store", "file")]).await, 3.0);
    world.finish().await;
}

#[tokio::test]
async fn a_kill_right_after_a_logout_brings_nobody_back() {
    let mut world = with_file().start().await;
    world.become_process().await;
    world.browser.login("alice").await;
    let thief = world.browser.copy();
    world.browser.fetch(Method::POST, "/logout").await.is(200);
    world.kill();
    world.revive().await;
    thief.get("/api/me").await.refused(401, "login_required");
    world.finish().await;
}

/// Promise 2: a refresh is on the wire when the process dies. The old token is tried once; a provider that rotates has
/// burnt it, and that is counted apart.
#[tokio::test]
async fn px_17_a_refresh_that_a_kill_interrupts_is_tried_once_and_counted_apart() {
    let mut world =
        with_file().provider(|options| options.access_token_lifetime = Duration::from_secs(3)).start().await;
    world.become_process().await;
    world.browser.login("alice").await;
    world.browser.get("/api/me").await.is(200);
    let token_requests = world.provider.count(Endpoint::Token);
    world.provider.delay(Endpoint::Token, Duration::from_secs(1));
    let ask = {
        let browser = world.browser.copy();
        async move {
            loop {
                // The last one is cut off, and that ends this task.
                browser.get("/api/me").await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    let asking = tokio::spawn(ask);
    eventually("the refresh to be on the wire", || world.provider.count(Endpoint::Token) > token_requests).await;
    asking.abort();
    world.kill();
    // The provider goes on: it rotates, and its answer finds nobody.
    let issued = || world.provider.issued().iter().filter(|(kind, _)| *kind == Secret::RefreshToken).count();
    eventually("the provider to rotate", || issued() == 2).await;
    world.provider.delay(Endpoint::Token, Duration::ZERO);
    world.revive().await;
    let before = world.provider.count(Endpoint::Token);
    world.browser.get("/api/me").await.refused(401, "login_required");
    assert_eq!(world.provider.count(Endpoint::Token), before + 1, "tried once");
    world.browser.get("/api/me").await.refused(401, "login_required");
    assert_eq!(world.provider.count(Endpoint::Token), before + 1);
    assert_eq!(world.metric("vestibule_token_refreshes_total", &[("result", "lost_at_crash")]).await, 1.0);
    assert_eq!(world.metric("vestibule_token_refreshes_total", &[("result", "invalid_grant")]).await, 0.0);
    world.browser.navigate("/login/start").await.is(200);
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}

#[tokio::test]
async fn a_stop_in_order_leaves_nothing_to_allow_for() {
    let mut world = with_file().start().await;
    world.become_process().await;
    world.browser.login("alice").await;
    world.browser.get("/api/me").await.is(200);
    world.stop().await;
    assert!(world.log().contains("session store is closed"), "{}", world.log());
    world.revive().await;
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}
