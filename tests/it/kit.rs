//! The kit itself: that a world works from the first click to the last, and that its oracle is not blind.

use http::{Method, header};

use crate::world::upstream::Reply;
use crate::world::{Edit, World};

#[tokio::test]
async fn a_person_logs_in_uses_the_api_and_leaves() {
    let world = World::start().await;
    world.browser.get("/api/me").await.refused(401, "login_required");
    world.browser.login("alice").await;
    world.browser.get("/api/me").await.is(200).says("\"authorizations\":1");
    let seen = world.upstream.last();
    assert!(seen.header("authorization").is_some_and(|value| value.starts_with("Bearer ey")), "{}", seen.head);
    assert_eq!(seen.header("cookie"), None);
    let logout = world.browser.post("/logout").await.is(200).json()["logout_url"].as_str().unwrap().to_owned();
    world.browser.get("/api/me").await.is(401);
    world.browser.click("/", &logout).await.is(200);
    world.finish().await;
}

#[tokio::test]
async fn two_tabs_log_in_side_by_side_in_either_order() {
    let world = World::start().await;
    let (first, second) = (world.browser.begin_login().await, world.browser.begin_login().await);
    world.browser.choose(&second, "bob").await.is(200).at("https://app.test/");
    world.browser.choose(&first, "alice").await.is(200).at("https://app.test/");
    assert_eq!(world.browser.get("/userinfo").await.is(200).json()["preferred_username"], "alice");
    world.finish().await;
}

#[tokio::test]
async fn an_edit_serves_or_is_refused() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let served = world.edit(|toml| toml.text("routes.web", "home_url", "https://app.test/home")).await;
    assert_eq!(served, Edit::Served);
    world.browser.navigate("/login/start?login_hint=alice").await.is(200).at("https://app.test/home");
    let refused = world.edit(|toml| toml.text("routes.web", "home_urls", "https://app.test/")).await;
    assert_eq!(refused, Edit::Refused);
    assert_eq!(world.metric("vestibule_config_last_reload_successful", &[]).await, 0.0);
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}

#[tokio::test]
async fn one_clock_moves_sidecar_provider_and_browser() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let first = bearer(&world).await;
    world.clock.shift(299);
    assert_ne!(bearer(&world).await, first, "a token about to end is refreshed");
    assert_eq!(world.provider.reuses(), 0);
    world.clock.shift(11 * 3600);
    world.browser.get("/api/me").await.is(401);
    assert_eq!(world.browser.cookies(), [], "the cookie outlives the session");
    world.finish().await;
}

async fn bearer(world: &World) -> String {
    world.browser.get("/api/me").await.is(200);
    world.upstream.last().header("authorization").unwrap().to_owned()
}

/// S24: with sessions in memory, a restart ends them, and the old cookie is as good as none.
#[tokio::test]
async fn a_restart_forgets_sessions_in_memory_without_a_failure() {
    let mut world = World::start().await;
    world.browser.login("alice").await;
    world.restart().await;
    world.browser.get("/api/me").await.refused(401, "login_required");
    // The provider knows the browser still, so nobody is asked anything.
    world.browser.navigate("/login/start").await.is(200).at("https://app.test/");
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}

#[tokio::test]
async fn a_provider_that_is_down_costs_nobody_a_session() {
    let world = World::start().await;
    world.browser.login("alice").await;
    world.provider.go_down().await.unwrap();
    world.browser.get("/api/me").await.is(200);
    world.provider.come_up().unwrap();
    world.still_works().await;
    world.finish().await;
}

#[tokio::test]
#[should_panic(expected = "the story was not finished")]
async fn a_story_must_be_finished() {
    let _world = World::start().await;
}

#[tokio::test]
#[should_panic(expected = "an answer shows AccessToken")]
async fn the_oracle_sees_a_token_that_an_upstream_gives_away() {
    let world = World::start().await;
    world.browser.login("alice").await;
    world.browser.get("/api/me").await.is(200);
    let token = world.upstream.last().header("authorization").unwrap().to_owned();
    world.upstream.next(Reply::text(&token));
    world.browser.get("/api/token").await.is(200);
    world.finish().await;
}

#[tokio::test]
#[should_panic(expected = "the log shows")]
async fn the_oracle_sees_a_secret_in_the_log() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let (_, secret) = world.provider.issued().pop().unwrap();
    tracing::trace!(url = format!("/x?y={secret}"), "careless");
    world.finish().await;
}

#[tokio::test]
async fn the_browser_is_another_site_to_the_provider() {
    let world = World::start().await;
    let picker = world.browser.begin_login().await;
    let callback = world.browser.callback_for(&picker, "alice").await;
    let origin = picker.url.origin().ascii_serialization();
    world.browser.fetch_from(&origin, Method::GET, "/api/me").await.refused(403, "cross_site");
    let answer = world.browser.call_back(&origin, &callback).await.is(200);
    assert!(answer.headers.get(header::SET_COOKIE).is_none());
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}
