//! The OpenID Foundation's modules for relying parties (plans "Basic RP" and "Config RP"), one test a module, by name.
//!
//! The suite judges by which endpoints are called: what must be refused is refused before userinfo is asked. Here it
//! also leaves no session and no cookie (G4), and a clean login afterwards succeeds (G2).

use serde_json::json;
use vestibule::demo::provider::{
    Algorithm, Authentication, Endpoint, JwtMutation, KeySet, Kind, Mutation, Options, SignWith,
};

use crate::world::World;
use crate::world::answer::Answer;

async fn world_with(adjust: impl FnOnce(&mut Options) + Send + 'static) -> World {
    World::builder().provider(adjust).start().await
}

/// A login without the picker, wherever it ends.
async fn login(world: &World) -> Answer {
    world.browser.navigate("/login/start?login_hint=alice").await
}

/// A login that succeeds.
async fn logs_in(world: &World) {
    login(world).await.is(200).at("https://app.test/");
    world.browser.get("/userinfo").await.is(200);
}

/// Asserts that a lie told at `at` is refused, with nothing left behind.
async fn refuses(world: &World, at: Endpoint, lie: Kind) {
    world.provider.mutate(Mutation::next(at, lie));
    login(world).await.refused(502, "login_failed");
    assert_eq!(world.browser.cookies(), [], "a refused login leaves a cookie");
    world.browser.get("/api/me").await.refused(401, "login_required");
    assert_eq!(world.upstream.count(), 0);
    assert_eq!(world.metric("vestibule_sessions_active", &[]).await, 0.0, "a refused login leaves a session");
}

/// A world in which a lie in the ID token is refused before userinfo is asked.
async fn refuses_id_token(lies: impl IntoIterator<Item = JwtMutation>) {
    let world = World::start().await;
    for lie in lies {
        refuses(&world, Endpoint::Token, Kind::IdToken(lie)).await;
        assert_eq!(world.provider.count(Endpoint::Userinfo), 0);
    }
    world.still_works().await;
    world.finish().await;
}

/// oidcc-client-test
#[tokio::test]
async fn oidcc_client_test() {
    let world = World::start().await;
    logs_in(&world).await;
    for endpoint in [Endpoint::Authorize, Endpoint::Token, Endpoint::Userinfo] {
        assert_eq!(world.provider.count(endpoint), 1, "{endpoint:?}");
    }
    world.finish().await;
}

/// oidcc-client-test-invalid-iss
#[tokio::test]
async fn invalid_iss() {
    refuses_id_token([JwtMutation::SetClaim("iss", json!("https://evil.test"))]).await;
}

/// oidcc-client-test-missing-sub
#[tokio::test]
async fn missing_sub() {
    refuses_id_token([JwtMutation::RemoveClaim("sub")]).await;
}

/// oidcc-client-test-invalid-aud
#[tokio::test]
async fn invalid_aud() {
    refuses_id_token([JwtMutation::SetClaim("aud", json!("another"))]).await;
}

/// oidcc-client-test-missing-iat
#[tokio::test]
async fn missing_iat() {
    refuses_id_token([JwtMutation::RemoveClaim("iat")]).await;
}

/// oidcc-client-test-kid-absent-single-jwks
#[tokio::test]
async fn kid_absent_single_jwks() {
    let world = world_with(|options| options.keys = KeySet::Single).await;
    world
        .provider
        .mutate(Mutation::next(Endpoint::Token, Kind::IdToken(JwtMutation::RemoveHeader("kid"))));
    logs_in(&world).await;
    world.finish().await;
}

/// oidcc-client-test-kid-absent-multiple-jwks: one of the keys fits the algorithm and is tried.
#[tokio::test]
async fn kid_absent_multiple_jwks() {
    let world = world_with(|options| options.keys = KeySet::Usual).await;
    world
        .provider
        .mutate(Mutation::next(Endpoint::Token, Kind::IdToken(JwtMutation::RemoveHeader("kid"))));
    logs_in(&world).await;
    world.finish().await;
}

/// oidcc-client-test-idtoken-sig-rs256, and the other algorithms that are accepted by default (I01).
#[tokio::test]
async fn idtoken_sig_rs256() {
    use Algorithm::{ES256, ES384, EdDSA, PS256, RS256};
    for signing in [RS256, PS256, ES256, ES384, EdDSA] {
        let world = world_with(move |options| options.signing = signing).await;
        logs_in(&world).await;
        world.finish().await;
    }
}

/// oidcc-client-test-idtoken-sig-none, in both plans: we refuse, which the suite allows.
#[tokio::test]
async fn idtoken_sig_none() {
    refuses_id_token([JwtMutation::Sign(SignWith::Nothing)]).await;
}

/// oidcc-client-test-invalid-sig-rs256
#[tokio::test]
async fn invalid_sig_rs256() {
    refuses_id_token([JwtMutation::FlipBit(2), JwtMutation::Sign(SignWith::Stranger)]).await;
}

/// oidcc-client-test-userinfo-invalid-sub: userinfo is asked, and the login refused for what it says (CB-18).
#[tokio::test]
async fn userinfo_invalid_sub() {
    let world = World::start().await;
    refuses(&world, Endpoint::Userinfo, Kind::JsonSet("sub", json!("bob-0001"))).await;
    assert_eq!(world.provider.count(Endpoint::Userinfo), 1);
    world.still_works().await;
    world.finish().await;
}

/// oidcc-client-test-nonce-invalid
#[tokio::test]
async fn nonce_invalid() {
    refuses_id_token([JwtMutation::SetClaim("nonce", json!("another")), JwtMutation::RemoveClaim("nonce")]).await;
}

/// oidcc-client-test-scope-userinfo-claims
#[tokio::test]
async fn scope_userinfo_claims() {
    let world = World::start().await;
    logs_in(&world).await;
    assert_eq!(world.browser.get("/userinfo").await.is(200).json()["email"], "alice@example.com");
    let journal = world.provider.journal();
    let asked = |endpoint| journal.iter().find(|seen| seen.endpoint == endpoint).unwrap();
    assert_eq!(asked(Endpoint::Authorize).parameter("scope"), Some("openid profile email"));
    let userinfo = asked(Endpoint::Userinfo);
    assert_eq!((userinfo.authentication, userinfo.parameters.len()), (Authentication::Bearer, 0));
    world.finish().await;
}

/// oidcc-client-test-client-secret-basic (OG-8): the provider takes nothing else here.
#[tokio::test]
async fn client_secret_basic() {
    let world = world_with(|options| options.clients[0].methods = vec![Authentication::Basic]).await;
    logs_in(&world).await;
    let seen = world.provider.journal().into_iter().find(|seen| seen.endpoint == Endpoint::Token).unwrap();
    assert_eq!(seen.authentication, Authentication::Basic);
    assert_eq!(seen.parameter("client_secret"), None);
    world.finish().await;
}

/// oidcc-client-test-discovery-openid-config
#[tokio::test]
async fn discovery_openid_config() {
    let world = World::start().await;
    logs_in(&world).await;
    assert_eq!(world.provider.count(Endpoint::Discovery), 1);
    world.finish().await;
}

/// oidcc-client-test-discovery-jwks-uri-keys: the path of the keys is another in every run.
#[tokio::test]
async fn discovery_jwks_uri_keys() {
    let mut tails = Vec::new();
    for _ in 0..2 {
        let world = World::start().await;
        logs_in(&world).await;
        assert_eq!(world.provider.count(Endpoint::Jwks), 1);
        tails.push(world.provider.url(Endpoint::Jwks).rsplit_once('/').unwrap().1.to_owned());
        world.finish().await;
    }
    assert_ne!(tails[0], tails[1]);
}

/// oidcc-client-test-discovery-issuer-mismatch (OG-5): no login is begun.
#[tokio::test]
async fn discovery_issuer_mismatch() {
    let world = World::start().await;
    let lie = json!(format!("{}/", world.provider.issuer()));
    world.provider.mutate(Mutation::always(Endpoint::Discovery, Kind::JsonSet("issuer", lie)));
    world.edit(|toml| toml.set("providers.corp", "clock_skew", "\"59s\"")).await;
    login(&world).await.refused(503, "provider_unavailable");
    assert_eq!(world.provider.count(Endpoint::Authorize), 0);
    world.finish().await;
}

/// oidcc-client-test-signing-key-rotation-just-before-signing
#[tokio::test]
async fn signing_key_rotation_just_before_signing() {
    let world = World::start().await;
    world.provider.mutate(Mutation::next(Endpoint::Token, Kind::RotateKeys));
    logs_in(&world).await;
    world.finish().await;
}

/// oidcc-client-test-signing-key-rotation (K23): the second login costs one more fetch, the third none.
#[tokio::test]
async fn signing_key_rotation() {
    let world = World::start().await;
    logs_in(&world).await;
    let fetched = world.provider.count(Endpoint::Jwks);
    world.provider.rotate_keys().unwrap();
    logs_in(&world).await;
    logs_in(&world).await;
    assert_eq!(world.provider.count(Endpoint::Jwks), fetched + 1);
    assert_eq!(world.provider.count(Endpoint::Userinfo), 3);
    world.finish().await;
}
