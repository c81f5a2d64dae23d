//! The issuer's keys as bearers meet them: unknown ones, replaced ones, none at all; and what is remembered meanwhile.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::json;
use vestibule::demo::provider::{Endpoint, JwtMutation, Kind, Mutation, SignWith};

use super::{call, fresh_token, header, status, token, usual, verdict};
use crate::world::{Edit, World};

async fn verifications(world: &World, result: &str) -> f64 {
    let labels = [("route", "things"), ("result", result)];
    world.metric("vestibule_jwt_verifications_total", &labels).await
}

/// JV-14; K20, B38: a thousand tokens with keys that nobody has cost at most four looks at the issuer's keys.
#[tokio::test]
async fn jv_14_k20_a_flood_of_unknown_kids_costs_a_handful_of_fetches() {
    let world = usual().await;
    call(&world, &token(&world, &[])).await.is(200);
    let before = world.provider.count(Endpoint::Jwks);
    for batch in 0..20 {
        let asked = (0..50).map(|number| {
            let kid = JwtMutation::SetHeader("kid", json!(format!("kid-{batch}-{number}")));
            let token = token(&world, &[kid]);
            let world = &world;
            async move { call(world, &token).await.refused(401, "invalid_token") }
        });
        futures(asked.collect()).await;
    }
    let fetched = world.provider.count(Endpoint::Jwks) - before;
    assert!(fetched <= 4, "{fetched} fetches");
    call(&world, &fresh_token(&world)).await.is(200);
    world.finish().await;
}

/// Runs all of them at once.
pub(super) async fn futures<F: Future>(all: Vec<F>) {
    let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        all.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// JV-14, JV-16; K23, K24: new keys are found within the call that needs them, and old ones are not believed for long.
#[tokio::test]
async fn jv_14_k23_k24_replaced_keys_are_found_by_the_first_token_and_end_the_old_ones() {
    let world = usual().await;
    let old = token(&world, &[]);
    call(&world, &old).await.is(200);
    call(&world, &old).await.is(200);
    assert_eq!(verifications(&world, "remembered").await, 1.0);
    let before = world.provider.count(Endpoint::Jwks);
    world.provider.rotate_keys().unwrap();
    call(&world, &token(&world, &[])).await.is(200);
    assert_eq!(world.provider.count(Endpoint::Jwks) - before, 1);
    // JV-19: with the keys went what they had verified.
    call(&world, &old).await.refused(401, "invalid_token");
    world.finish().await;
}

/// JV-16; B37: without keys nobody can tell; with known ones all goes on until they are too old.
#[tokio::test]
async fn jv_16_b37_keys_that_cannot_be_had_are_nobodys_fault_who_calls() {
    let mut world = super::world(|toml| toml.text("providers.corp", "max_stale", "1h")).await;
    call(&world, &fresh_token(&world)).await.is(200);
    world.provider.go_down().await.unwrap();
    call(&world, &fresh_token(&world)).await.is(200);
    let before = fresh_token(&world);
    call(&world, &before).await.is(200);
    world.clock.shift(3700);
    let (live, long) = (fresh_token(&world), JwtMutation::SetClaim("exp", json!(world.clock.now().unix() + 9000)));
    let refused = call(&world, &live).await.refused(503, "provider_unavailable");
    assert!(refused.header("retry-after").is_some() && refused.header("www-authenticate").is_none());
    assert_eq!(status(&verdict(&world, "/x", &[format!("Authorization: Bearer {live}")]).await), 503);
    // Cold: nothing was ever fetched.
    world.restart().await;
    world.add_host("api.test", false).await;
    let begun = Instant::now();
    call(&world, &token(&world, &[long])).await.refused(503, "provider_unavailable");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    world.provider.come_up().unwrap();
    let begun = Instant::now();
    while call(&world, &fresh_token(&world)).await.status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10), "the provider is back, and nobody noticed");
    }
    world.finish().await;
}

/// JV-14, JV-16; K04, K20: who signed with a key that may be newer than ours is told to come again, not that the token is
/// bad, however often somebody asks; what the known keys can judge is judged.
#[tokio::test]
async fn jv_14_jv_16_a_key_that_cannot_be_looked_up_is_nobodys_fault_who_calls() {
    let world = usual().await;
    call(&world, &fresh_token(&world)).await.is(200);
    let unknown = || token(&world, &[JwtMutation::SetHeader("kid", json!(crate::world::unique()))]);
    let broken = Mutation::always(Endpoint::Jwks, Kind::Status(StatusCode::INTERNAL_SERVER_ERROR));
    for down in [true, false] {
        match down {
            true => world.provider.go_down().await.unwrap(),
            false => world.provider.mutate(broken.clone()),
        }
        let before = world.provider.count(Endpoint::Jwks);
        // More than may force a look.
        for _ in 0..6 {
            let refused = call(&world, &unknown()).await.refused(503, "provider_unavailable");
            assert!(refused.header("retry-after").is_some() && refused.header("www-authenticate").is_none());
        }
        let asked = verdict(&world, "/things/1", &[format!("Authorization: Bearer {}", unknown())]).await;
        assert_eq!((status(&asked), header(&asked, "retry-after")), (503, Some("5")), "{asked}");
        assert!(world.provider.count(Endpoint::Jwks) - before <= 3);
        call(&world, &fresh_token(&world)).await.is(200);
        let forged = token(&world, &[JwtMutation::Sign(SignWith::Stranger)]);
        call(&world, &forged).await.refused(401, "invalid_token");
        match down {
            true => world.provider.come_up().unwrap(),
            false => world.provider.clear_mutations(),
        }
        world.clock.shift(120);
        call(&world, &unknown()).await.refused(401, "invalid_token");
        // And the answer stays this when it may not look again.
        for _ in 0..4 {
            call(&world, &unknown()).await.refused(401, "invalid_token");
        }
        world.clock.shift(120);
    }
    world.provider.rotate_keys().unwrap();
    call(&world, &fresh_token(&world)).await.is(200);
    assert!(verifications(&world, "unavailable").await >= 14.0);
    world.finish().await;
}

/// JV-19: what is remembered ends with the token, with a minute, and with the config.
#[tokio::test]
async fn jv_19_a_verdict_about_a_token_dies_with_exp_a_minute_and_the_config() {
    let world = usual().await;
    let now = world.clock.now().unix();
    let short = token(&world, &[JwtMutation::SetClaim("exp", json!(now + 30))]);
    call(&world, &short).await.is(200);
    call(&world, &short).await.is(200);
    assert_eq!((verifications(&world, "ok").await, verifications(&world, "remembered").await), (1.0, 1.0));
    world.clock.shift(31);
    // Within the tolerance for clocks it is still good, but it is looked at again each time.
    call(&world, &short).await.is(200);
    call(&world, &short).await.is(200);
    assert_eq!((verifications(&world, "ok").await, verifications(&world, "remembered").await), (3.0, 1.0));
    world.clock.shift(60);
    call(&world, &short).await.refused(401, "invalid_token");

    let long = token(&world, &[JwtMutation::SetClaim("exp", json!(now + 9000))]);
    call(&world, &long).await.is(200);
    world.clock.shift(59);
    call(&world, &long).await.is(200);
    assert_eq!(verifications(&world, "remembered").await, 2.0);
    world.clock.shift(2);
    call(&world, &long).await.is(200);
    assert_eq!(verifications(&world, "remembered").await, 2.0);

    let edit = world.edit(|toml| toml.set("routes.things", "audiences", "[\"another-api\"]")).await;
    assert_eq!(edit, Edit::Served);
    call(&world, &long).await.refused(401, "invalid_token");
    world.finish().await;
}

/// JV-5, and §4.4 of what is promised: the log names the audience that came, those accepted, and the way out.
#[tokio::test]
async fn jv_5_the_log_explains_a_wrong_audience_and_the_answer_does_not() {
    let world = usual().await;
    let token = token(&world, &[JwtMutation::SetClaim("aud", json!(["account", "other"]))]);
    let answer = call(&world, &token).await.refused(401, "invalid_token");
    assert!(!answer.text().contains("account") && !super::challenge(&answer).contains("account"));
    let log = world.log();
    for word in ["account", "other", "this route accepts", "api", "audiences"] {
        assert!(log.contains(word), "{word} is not in: {log}");
    }
    assert_eq!(verifications(&world, "wrong_audience").await, 1.0);
    world.finish().await;
}
