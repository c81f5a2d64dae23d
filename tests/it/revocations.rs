//! Refresh tokens of sessions that an operator ends (RFC 7009): whose are revoked, where, and that nothing waits for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use vestibule::demo::provider::{Client, Endpoint, Seen};
use vestibule::session::Selector;

use crate::farewells::delete;
use crate::world::{World, eventually};

const FILE: &str = "{ file = \"state/sessions.redb\" }";
const SECRET: &str = "a secret of the second client's own";

/// The refresh tokens that `world` holds of somebody, and the client of each.
async fn tokens(world: &World, subject: &str) -> BTreeMap<String, String> {
    let sessions = &world.sidecar().lasting().shared.sessions;
    let found = sessions.find(Selector::Subject { issuer: world.provider.issuer(), subject }).await.unwrap();
    let token = |session: &vestibule::session::Session| session.tokens.refresh.as_ref().unwrap().expose().to_owned();
    found.iter().map(|session| (token(session), session.binding.client_id.clone())).collect()
}

/// The tokens that were to be revoked, and who said so.
fn revoked(world: &World) -> BTreeMap<String, String> {
    let client = |seen: &Seen| {
        let basic = seen.headers["authorization"].to_str().unwrap().strip_prefix("Basic ").unwrap();
        let pair = String::from_utf8(STANDARD.decode(basic).unwrap()).unwrap();
        pair.split_once(':').unwrap().0.to_owned()
    };
    let journal = world.provider.journal();
    let asked = journal.iter().filter(|seen| seen.endpoint == Endpoint::Revocation);
    asked.map(|seen| (seen.parameter("token").unwrap().to_owned(), client(seen))).collect()
}

/// A world in which `count` people are logged in, with its sessions in a file.
async fn crowd(count: usize, drain_timeout: &'static str) -> World {
    let world = World::builder()
        .config(move |toml| toml.set("sessions", "store", FILE).text("server", "drain_timeout", drain_timeout));
    let world = world.start().await;
    for _ in 0..count {
        world.new_browser().login("alice").await;
    }
    world
}

/// Waits until the next process could open the store.
async fn is_free(world: &World) {
    let file = File::open(world.dir().join("state/sessions.redb")).unwrap();
    eventually("the store to be closed", || file.try_lock().is_ok()).await;
}

#[tokio::test]
async fn bc_9_each_token_is_revoked_by_the_client_of_its_own_session() {
    let world = World::builder()
        .provider(|options| {
            options
                .clients
                .push(Client::confidential("wiki", SECRET).redirect_uri("https://wiki.test/login/end"));
        })
        .config(|toml| {
            toml.text("routes.wiki", "mode", "auth-code")
                .text("routes.wiki", "public_url", "https://wiki.test")
                .text("routes.wiki", "upstream", "api")
                .text("routes.wiki", "client_id", "wiki")
                .text("routes.wiki", "client_secret", SECRET)
        })
        .start()
        .await;
    world.add_host("wiki.test", false).await;
    for _ in 0..3 {
        world.new_browser().login("alice").await;
        let browser = world.new_browser();
        browser.navigate("https://wiki.test/login/start?redirect=/api/page&login_hint=alice").await.is(200);
    }
    let held = tokens(&world, "alice-0001").await;
    let of = |client: &str| held.values().filter(|known| *known == client).count();
    assert_eq!((of("web"), of("wiki")), (3, 3));
    assert_eq!(delete(&world, "sub=alice-0001").await, 6);
    eventually("all of them", || revoked(&world).len() == 6).await;
    assert_eq!(revoked(&world), held);
    world.finish().await;
}

/// OpenID Connect Back-Channel Logout 1.0, 2.7: what was asked for to outlive the session does.
#[tokio::test]
async fn bc_9_offline_access_outlives_an_end_by_an_operator() {
    let world = World::builder()
        .config(|toml| toml.set("providers.corp", "scopes", "[\"openid\", \"offline_access\"]"))
        .start()
        .await;
    world.browser.login("alice").await;
    assert_eq!(tokens(&world, "alice-0001").await.len(), 1);
    assert_eq!(delete(&world, "all=true").await, 1);
    world.browser.get("/api/me").await.refused(401, "login_required");
    // Whatever was to be revoked would be by the time that the next one's is.
    let scopes = "[\"openid\", \"profile\"]";
    world.edit(|toml| toml.set("providers.corp", "scopes", scopes)).await;
    world.clock.shift(1);
    world.new_browser().login("bob").await;
    let bobs = tokens(&world, "bob-0001").await;
    assert_eq!(delete(&world, "all=true").await, 1);
    eventually("bob's", || revoked(&world).len() == 1).await;
    assert_eq!(revoked(&world), bobs);
    world.finish().await;
}

/// The store is closed while they are revoked, and the process ends when they all are.
#[tokio::test]
async fn l15_bc_9_the_store_does_not_wait_for_revocations_and_the_process_does() {
    let mut world = crowd(20, "30s").await;
    let held = tokens(&world, "alice-0001").await;
    world.provider.delay(Endpoint::Revocation, Duration::from_millis(1500));
    assert_eq!(delete(&world, "all=true").await, 20);
    let leaving = tokio::spawn(world.leave().shutdown());
    is_free(&world).await;
    assert!(world.provider.count(Endpoint::Revocation) <= 8, "a few at a time, and the store was closed meanwhile");
    leaving.await.unwrap();
    assert_eq!(revoked(&world), held);
    world.enter().await;
    world.finish().await;
}

/// A provider that is slow holds up the end of a process for `drain_timeout` and no longer.
#[tokio::test]
async fn l15_bc_9_what_is_not_revoked_in_time_is_left_and_told() {
    let mut world = crowd(21, "1s").await;
    world.provider.delay(Endpoint::Revocation, Duration::from_secs(60));
    assert_eq!(delete(&world, "all=true").await, 21);
    let begun = Instant::now();
    world.leave().shutdown().await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "the end took {took:?}");
    is_free(&world).await;
    let log = world.log();
    let told = |line: &&str| line.contains("refresh tokens are not revoked") && line.contains("\"left\":21");
    assert!(log.lines().any(|line| told(&line)), "nobody was told");
    world.provider.delay(Endpoint::Revocation, Duration::ZERO);
    world.enter().await;
    world.finish().await;
}

/// Whoever logs out does not wait behind all those whom an operator has logged out.
#[tokio::test]
async fn lo_9_a_logout_goes_first() {
    let world = crowd(30, "30s").await;
    world.browser.login("bob").await;
    let [bobs] = tokens(&world, "bob-0001").await.into_keys().collect::<Vec<_>>().try_into().unwrap();
    world.provider.delay(Endpoint::Revocation, Duration::from_millis(1500));
    assert_eq!(delete(&world, "sub=alice-0001").await, 30);
    world.browser.post("/logout").await.is(200);
    eventually("bob's", || revoked(&world).contains_key(&bobs)).await;
    assert!(revoked(&world).len() <= 17, "{} of alice's went first", revoked(&world).len() - 1);
    world.provider.delay(Endpoint::Revocation, Duration::ZERO);
    world.finish().await;
}
