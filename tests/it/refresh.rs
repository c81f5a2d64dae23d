//! Refreshing (spec 4.1 and promise 2; PX-15 to PX-17, table X): one at a time, and nobody is logged out by it.

use std::future::IntoFuture as _;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;
use vestibule::demo::provider::{Endpoint, JwtMutation, Kind, Mutation, Nth, Secret};

use crate::clients::{Spa, go, spa_world};
use crate::world::{World, eventually};

/// How often the provider was asked to refresh.
fn refreshes(world: &World) -> usize {
    let journal = world.provider.journal();
    let refresh = |seen: &&vestibule::demo::provider::Seen| seen.parameter("grant_type") == Some("refresh_token");
    journal.iter().filter(|seen| seen.endpoint == Endpoint::Token).filter(refresh).count()
}

/// The bearer that the upstream saw last.
fn bearer(world: &World) -> String {
    world.upstream.last().header("authorization").unwrap().to_owned()
}

#[tokio::test]
async fn px_15_two_hundred_requests_at_expiry_are_one_refresh() {
    let world = World::start().await;
    world.browser.login("alice").await;
    world.browser.get("/api/me").await.is(200);
    let old = bearer(&world);
    world.provider.delay(Endpoint::Token, Duration::from_millis(100));
    for round in 1..=2 {
        world.clock.shift(301);
        let all = (0..200).map(|_| world.browser.get("/api/me").into_future()).collect::<JoinSet<_>>();
        for answer in all.join_all().await {
            answer.is(200);
        }
        assert_eq!(refreshes(&world), round);
    }
    let seen = world.upstream.recorded();
    assert!(seen[1..].iter().all(|request| request.header("authorization") != Some(&old)), "an old token went out");
    assert_eq!(world.provider.reuses(), 0);
    assert!(world.metric("vestibule_token_refreshes_total", &[("result", "success")]).await >= 2.0);
    world.finish().await;
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_and_left_alone_until_then() {
    let world = World::start().await;
    world.browser.login("alice").await;
    world.clock.shift(200);
    world.browser.get("/api/me").await.is(200);
    assert_eq!(refreshes(&world), 0);
    world.clock.shift(75);
    world.browser.get("/api/me").await.is(200);
    world.browser.get("/api/me").await.is(200);
    assert_eq!(refreshes(&world), 1);
    world.finish().await;
}

#[tokio::test]
async fn px_16_a_provider_that_is_down_costs_nothing_while_the_token_lives() {
    let world = World::start().await;
    world.browser.login("alice").await;
    world.browser.get("/api/me").await.is(200);
    let old = bearer(&world);
    world.provider.go_down().await.unwrap();
    world.clock.shift(280);
    world.browser.get("/api/me").await.is(200);
    assert_eq!(bearer(&world), old);
    world.browser.post("/refresh").await.is(204);
    // When it is over, the upstream cannot be asked; the session waits for the provider.
    world.clock.shift(30);
    let answer = world.browser.get("/api/me").await.refused(503, "provider_unavailable");
    assert!(answer.header("retry-after").is_some() && answer.all("set-cookie").is_empty(), "{}", answer.describe());
    world.browser.post("/refresh").await.refused(503, "provider_unavailable");
    world.browser.navigate("/api/me").await.refused(503, "provider_unavailable");
    world.browser.get("/userinfo").await.is(200);
    assert_eq!(world.browser.get("/check_auth").await.json()["logged_in"], true);
    world.provider.come_up().unwrap();
    world.clock.shift(6);
    world.browser.get("/api/me").await.is(200);
    assert_ne!(bearer(&world), old);
    assert_eq!(world.provider.reuses(), 0);
    world.finish().await;
}

#[tokio::test]
async fn px_16_x05_invalid_grant_ends_the_session() {
    let world = World::start().await;
    world.browser.login("alice").await;
    world.provider.revoke_all();
    world.clock.shift(301);
    let all = (0..20).map(|_| world.browser.get("/api/me").into_future()).collect::<JoinSet<_>>();
    for answer in all.join_all().await {
        answer.refused(401, "login_required").lacks("location");
    }
    assert_eq!(refreshes(&world), 1);
    assert_eq!(world.upstream.count(), 0);
    assert_eq!(world.sidecar().lasting().shared.sessions.count(), 0);
    world.browser.post("/refresh").await.refused(401, "login_required");
    world.finish().await;
}

#[tokio::test]
async fn px_16_a_session_that_cannot_be_renewed_is_none_wherever_people_can_log_in() {
    let world = World::builder()
        .config(|toml| {
            toml.set("routes.web.paths", "\"/api/\"", "{ unauthenticated = \"login\" }").set(
                "routes.web.paths",
                "\"/api/open/\"",
                "{ unauthenticated = \"pass\" }",
            )
        })
        .start()
        .await;
    for gone in [true, false] {
        // Either the provider refuses, or it never gave a refresh token.
        if !gone {
            world.provider.mutate(Mutation::always(Endpoint::Token, Kind::JsonRemove("refresh_token")));
        }
        for (path, passes) in [("/api/open/logo", true), ("/api/page", false)] {
            let browser = world.new_browser();
            browser.login("alice").await;
            if gone {
                world.provider.revoke_all();
            }
            world.clock.shift(301);
            let before = world.upstream.count();
            let answer = browser.navigate(path).stay().await;
            if passes {
                answer.is(200);
                assert_eq!(world.upstream.last().header("authorization"), None);
            } else {
                assert_eq!(answer.is(302).location().path(), "/login/start");
                browser.get(path).await.refused(401, "login_required");
                assert_eq!(world.upstream.count(), before);
            }
        }
    }
    world.finish().await;
}

#[tokio::test]
async fn px_17_a_client_that_leaves_does_not_cost_the_rotated_token() {
    let world = World::start().await;
    world.browser.login("alice").await;
    world.clock.shift(301);
    world.provider.delay(Endpoint::Token, Duration::from_millis(200));
    let cookies = world.browser.cookies();
    let pairs: Vec<String> = cookies.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
    let mut raw = world.raw().await;
    raw.write(format!("GET /api/me HTTP/1.1\r\nHost: app.test\r\nCookie: {}\r\n\r\n", pairs.join("; ")))
        .await;
    eventually("the refresh", || refreshes(&world) == 1).await;
    drop(raw);
    world.browser.get("/api/me").await.is(200);
    assert_eq!(refreshes(&world), 1);
    world.clock.shift(301);
    world.browser.get("/api/me").await.is(200);
    assert_eq!((refreshes(&world), world.provider.reuses()), (2, 0));
    world.finish().await;
}

#[tokio::test]
async fn x15_a_logout_that_races_a_refresh_wins() {
    let world = World::start().await;
    world.browser.login("alice").await;
    world.clock.shift(301);
    world.provider.delay(Endpoint::Token, Duration::from_millis(800));
    world.provider.delay(Endpoint::Revocation, Duration::from_millis(1200));
    let late = world.browser.copy();
    let waiting = tokio::spawn(late.get("/api/me").into_future());
    eventually("the refresh", || refreshes(&world) == 1).await;
    world.browser.post("/logout").await.is(200);
    waiting.await.unwrap().refused(401, "login_required");
    late.get("/api/me").await.refused(401, "login_required");
    assert_eq!(world.upstream.count(), 0);
    assert_eq!(world.sidecar().lasting().shared.sessions.count(), 0);
    // What was issued in between is given back, too.
    eventually("both revocations", || world.provider.count(Endpoint::Revocation) == 2).await;
    let newest = world.provider.issued().into_iter().rfind(|(kind, _)| *kind == Secret::RefreshToken).unwrap().1;
    let revoked: Vec<_> =
        world.provider.journal().into_iter().filter(|seen| seen.endpoint == Endpoint::Revocation).collect();
    assert!(revoked.iter().any(|seen| seen.parameter("token") == Some(&newest)));
    world.finish().await;
}

#[tokio::test]
async fn the_refresh_manager_of_the_spa_is_told_that_all_is_well() {
    let world = spa_world().await;
    let spa = Spa::new(&world.browser);
    let refresh = || spa.fetch(Method::POST, "/refresh").json(&json!({ "refresh_token": null }));
    refresh().await.refused(401, "login_required").has("content-type", "application/problem+json");
    spa.log_in("alice").await;
    // Every ninety seconds; the provider is asked when the token's time has come and not before.
    for asked in [0, 0, 0, 1, 1, 1, 2] {
        let answer = refresh().await.is(204).has("access-control-allow-credentials", "true").lacks("set-cookie");
        assert!(answer.body.is_empty(), "{}", answer.describe());
        assert_eq!(refreshes(&world), asked);
        world.clock.shift(90);
    }
    let empty = spa.fetch(Method::POST, "/refresh");
    empty.await.is(204);
    go(&world.browser, Method::POST, "/web/refresh").await.refused(403, "cross_site");
    world.finish().await;
}

#[tokio::test]
async fn refresh_asks_the_provider_at_most_once_a_minute() {
    let world = World::start().await;
    world.provider.set_access_token_lifetime(Duration::from_secs(4));
    world.browser.login("alice").await;
    for _ in 0..5 {
        world.clock.shift(10);
        world.browser.post("/refresh").await.is(204);
    }
    assert_eq!(refreshes(&world), 0);
    world.clock.shift(11);
    world.browser.post("/refresh").await.is(204);
    world.browser.post("/refresh").await.is(204);
    assert_eq!(refreshes(&world), 1);
    // A call to the API renews what it needs all the same.
    world.clock.shift(5);
    world.browser.get("/api/me").await.is(200);
    assert_eq!(refreshes(&world), 2);
    world.finish().await;
}

/// However a session is renewed, it is a page of ours that has it done: no link, no other site and no image.
#[tokio::test]
async fn x19_a_refresh_is_asked_for_by_post_and_from_where_pages_may_ask() {
    let world = World::builder()
        .config(|toml| toml.set("routes.web", "allowed_origins", "[\"https://front.app.test\"]"))
        .start()
        .await;
    world.browser.login("alice").await;
    world.clock.shift(301);
    for get in [
        world.browser.get("/refresh"),
        world.browser.navigate("/refresh"),
        world.browser.click("https://evil.test/", "/refresh"),
        world.browser.get("/refresh").without_metadata(),
    ] {
        let answer = get.stay().await;
        assert!(matches!(answer.status.as_u16(), 403 | 405), "{}", answer.describe());
        assert!(answer.header("location").is_none(), "{}", answer.describe());
    }
    world.browser.get("/refresh").await.is(405).has("allow", "POST");
    // Neither Origin nor Fetch Metadata; then each of them with a stranger's word.
    world.browser.post("/refresh").like_a_program().await.refused(403, "cross_site");
    world
        .browser
        .post("/refresh")
        .like_a_program()
        .header("origin", "null")
        .await
        .refused(403, "cross_site");
    for from in ["https://evil.test/", "https://wiki.app.test/"] {
        world.browser.fetch_from(from, Method::POST, "/refresh").await.refused(403, "cross_site");
    }
    assert_eq!(refreshes(&world), 0);
    world.browser.fetch_from("https://front.app.test/", Method::POST, "/refresh").await.is(204);
    assert_eq!(refreshes(&world), 1);
    world.finish().await;
}

#[tokio::test]
async fn px_17_a_refresh_token_that_is_not_rotated_stays() {
    let world = World::builder().provider(|options| options.rotate_refresh_tokens = false).start().await;
    world.browser.login("alice").await;
    for round in 1..=3 {
        world.clock.shift(301);
        world.browser.get("/api/me").await.is(200);
        assert_eq!(refreshes(&world), round);
    }
    world.finish().await;
}

#[tokio::test]
async fn without_a_refresh_token_the_session_outlives_its_access_token() {
    let world = World::start().await;
    world.provider.mutate(Mutation::always(Endpoint::Token, Kind::JsonRemove("refresh_token")));
    world.browser.login("alice").await;
    world.browser.get("/api/me").await.is(200);
    world.clock.shift(301);
    world.browser.get("/api/me").await.refused(401, "login_required");
    world.browser.get("/userinfo").await.is(200);
    world.browser.post("/refresh").await.refused(401, "login_required");
    assert_eq!(refreshes(&world), 0);
    world.finish().await;
}

#[tokio::test]
async fn t19_x18_a_token_that_is_over_at_once_does_not_make_every_request_a_refresh() {
    let world = World::start().await;
    world.provider.mutate(Mutation::always(Endpoint::Token, Kind::JsonSet("expires_in", json!(0))));
    world.browser.login("alice").await;
    let begun = std::time::Instant::now();
    let all = (0..50).map(|_| world.browser.get("/api/me").into_future()).collect::<JoinSet<_>>();
    for answer in all.join_all().await {
        answer.is(200);
    }
    // A token is used for a second at least, and the last of them may already be due again.
    let most = 2 + begun.elapsed().as_secs() as usize;
    assert!(refreshes(&world) <= most, "{} refreshes in {:?}", refreshes(&world), begun.elapsed());
    assert_eq!(world.provider.reuses(), 0);
    world.finish().await;
}

#[tokio::test]
async fn fa_16_x14_rules_judge_the_claims_of_the_latest_refresh() {
    let world = World::builder()
        .config(|toml| toml.set("routes.web.paths", "\"/api/\"", "{ allowed_groups = [\"admins\"] }"))
        .start()
        .await;
    world.browser.login("alice").await;
    world.browser.get("/api/me").await.is(200);
    let lie = JwtMutation::SetClaim("groups", json!(["staff"]));
    world.provider.mutate(Mutation::always(Endpoint::Token, Kind::IdToken(lie)));
    world.clock.shift(301);
    world.browser.get("/api/me").await.refused(403, "forbidden");
    assert_eq!(world.browser.get("/claims").await.is(200).json()["groups"], json!(["staff"]));
    world.finish().await;
}

#[tokio::test]
async fn table_x_a_refreshed_id_token_of_somebody_else_ends_the_session() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let lie = JwtMutation::SetClaim("sub", json!("bob-0001"));
    world.provider.mutate(Mutation::always(Endpoint::Token, Kind::IdToken(lie)));
    world.clock.shift(301);
    world.browser.get("/api/me").await.refused(401, "login_required");
    world.browser.get("/userinfo").await.refused(401, "login_required");
    assert_eq!(world.upstream.count(), 0);
    world.finish().await;
}

/// PX-16: a provider that says 429 or 503 is left alone for longer and longer while the old token serves.
#[tokio::test]
async fn px_16_a_provider_that_is_busy_is_left_alone_while_the_old_token_serves() {
    for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
        let world = World::start().await;
        world.browser.login("alice").await;
        world.browser.get("/api/me").await.is(200);
        world.provider.mutate(Mutation { at: Endpoint::Token, nth: Nth::Every, kind: Kind::Status(status) });
        let old = bearer(&world);
        // Due from 270 s on; over at 300 s.
        for (shift, asked) in [(270, 1), (4, 1), (1, 2), (9, 2), (1, 3), (14, 3)] {
            world.clock.shift(shift);
            world.browser.get("/api/me").await.is(200);
            assert_eq!(refreshes(&world), asked, "{status}: {shift} s later");
        }
        assert_eq!(bearer(&world), old);
        // Without a token that serves, people wait no longer than before.
        world.clock.shift(2);
        world.browser.get("/api/me").await.is(503);
        assert_eq!(refreshes(&world), 4, "{status}");
        world.finish().await;
    }
}

/// PX-16, RFC 9110 10.2.3: and for as long as it says itself, by whomever's session it was told.
#[tokio::test]
async fn px_16_a_provider_that_says_when_to_come_again_is_not_asked_before() {
    // It has not looked at the token when it says so.
    let world = World::builder().provider(|options| options.rotate_refresh_tokens = false).start().await;
    let other = world.new_browser();
    world.browser.login("alice").await;
    other.login("bob").await;
    world.clock.shift(270);
    let status = Kind::Status(StatusCode::TOO_MANY_REQUESTS);
    let later = Kind::HeaderSet(RETRY_AFTER, HeaderValue::from_static("40"));
    for kind in [status, later] {
        world.provider.mutate(Mutation::next(Endpoint::Token, kind));
    }
    world.browser.get("/api/me").await.is(200);
    // The old tokens serve until they are over, and then people are told to wait.
    for (shift, status) in [(0, 200), (20, 200), (15, 503)] {
        world.clock.shift(shift);
        other.get("/api/me").await.is(status);
        world.browser.get("/api/me").await.is(status);
        assert_eq!(refreshes(&world), 1, "{shift} s later");
    }
    world.clock.shift(6);
    other.get("/api/me").await.is(200);
    world.browser.get("/api/me").await.is(200);
    assert_eq!(refreshes(&world), 3);
    world.finish().await;
}
