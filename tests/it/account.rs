//! `userinfo`, `claims`, `check_auth` and `session` (spec 4.1): what front ends and the Go client learn of their user.

use http::Method;
use serde_json::{Value, json};
use vestibule::demo::provider::{Endpoint, JwtMutation, Kind, Mutation};

use crate::clients::{Spa, go, spa_world};
use crate::world::World;

/// A member of a JSON object as an `int64` of the generated Go models reads it.
fn int64(value: &Value, name: &str) -> i64 {
    value[name].as_i64().unwrap_or_else(|| panic!("{name} is no int64 in {value}"))
}

#[tokio::test]
async fn px_1_strangers_get_401_and_nothing_else() {
    let world = World::start().await;
    for path in ["/userinfo", "/user_info", "/claims", "/session", "/api/me"] {
        let answer = world.browser.get(path).await.refused(401, "login_required");
        let answer = answer.has("content-type", "application/problem+json").lacks("location").lacks("set-cookie");
        let body = answer.json();
        assert_eq!((&body["status"], &body["error"]), (&json!(401), &json!("login_required")), "{path}");
        assert_eq!(body["login_url"], "https://app.test/login/start", "{path}");
        let page = world.browser.navigate(path).await.refused(401, "login_required");
        page.has("content-type", "text/html; charset=utf-8").says("Sign in").lacks("location");
    }
    let answer = world.browser.get("/check_auth").await.is(200).has("cache-control", "no-store");
    assert_eq!(answer.json(), json!({ "logged_in": false }));
    assert_eq!(world.upstream.count(), 0);
    world.finish().await;
}

#[tokio::test]
async fn the_spa_that_posts_reads_its_user() {
    let world = spa_world().await;
    let spa = Spa::new(&world.browser);
    spa.fetch(Method::GET, "/user_info").await.refused(401, "login_required");
    spa.log_in("alice").await;
    let user = spa.fetch(Method::GET, "/user_info").await.is(200).has("content-type", "application/json").json();
    assert_eq!(user["sub"], "alice-0001");
    assert_eq!(user["preferred_username"], "alice");
    assert_eq!(user["picture"], "https://pictures.test/alice.png");
    world.finish().await;
}

#[tokio::test]
async fn px_20_userinfo_is_what_the_go_client_can_decode() {
    let world = World::start().await;
    go(&world.browser, Method::GET, "/userinfo")
        .await
        .refused(401, "login_required")
        .has("content-type", "application/json");
    world.browser.login("alice").await;
    for path in ["/userinfo", "/user_info"] {
        let answer = go(&world.browser, Method::GET, path).await.is(200).has("content-type", "application/json");
        let user = answer.has("cache-control", "no-store").json();
        for (name, value) in [
            ("sub", "alice-0001"),
            ("preferred_username", "alice"),
            ("given_name", "Alice"),
            ("family_name", "Adams"),
            ("picture", "https://pictures.test/alice.png"),
            ("email", "alice@example.com"),
        ] {
            assert_eq!(user[name], value, "{name}");
        }
        assert_eq!(user["email_verified"], true);
        assert_eq!(int64(&user, "updated_at"), 1_700_000_000);
        for name in ["nonce", "sid", "groups", "realm_access", "exp"] {
            assert!(user.get(name).is_none(), "{name} in {user}");
        }
    }
    world.finish().await;
}

#[tokio::test]
async fn updated_at_is_a_number_whatever_the_provider_says() {
    let world = World::start().await;
    for (said, shown) in [
        (json!("2023-11-14T22:13:20Z"), Some(1_700_000_000)),
        (json!("1700000000"), Some(1_700_000_000)),
        (json!(1_700_000_000.9), Some(1_700_000_000)),
        (json!("last week"), None),
        (json!({ "seconds": 1 }), None),
    ] {
        world.provider.clear_mutations();
        world
            .provider
            .mutate(Mutation::always(Endpoint::Userinfo, Kind::JsonSet("updated_at", said.clone())));
        let lie = JwtMutation::SetClaim("updated_at", said.clone());
        world.provider.mutate(Mutation::always(Endpoint::Token, Kind::IdToken(lie)));
        let browser = world.new_browser();
        browser.login("alice").await;
        let user = go(&browser, Method::GET, "/userinfo").await.is(200).json();
        assert_eq!(user.get("updated_at").and_then(Value::as_i64), shown, "{said}");
    }
    world.finish().await;
}

#[tokio::test]
async fn px_20_u14_claims_are_a_list_and_never_a_token() {
    let world = World::start().await;
    let lies = ["access_token", "refresh_token", "id_token", "code", "client_secret", "department"];
    for name in lies {
        let lie = JwtMutation::SetClaim(name, json!("a-value-that-looks-secret"));
        world.provider.mutate(Mutation::always(Endpoint::Token, Kind::IdToken(lie)));
        world
            .provider
            .mutate(Mutation::always(Endpoint::Userinfo, Kind::JsonSet(name, json!("a-value-that-looks-secret"))));
    }
    world.browser.login("alice").await;
    let claims = world.browser.get("/claims").await.is(200).has("content-type", "application/json").json();
    assert_eq!(claims["sub"], "alice-0001");
    assert_eq!(claims["iss"], world.provider.issuer());
    assert_eq!(claims["groups"], json!(["staff", "admins"]));
    assert_eq!(claims["email"], "alice@example.com");
    for name in lies.iter().chain(&["nonce", "at_hash", "realm_access"]) {
        assert!(claims.get(*name).is_none(), "{name} in {claims}");
    }
    let user = world.browser.get("/userinfo").await.is(200).json();
    assert!(lies.iter().all(|name| user.get(*name).is_none()), "{user}");

    // The provider marks its `jti` as the secrets that must not show, which it is not.
    world
        .provider
        .mutate(Mutation::always(Endpoint::Token, Kind::IdToken(JwtMutation::RemoveClaim("jti"))));
    world.edit(|toml| toml.text("routes.web", "claims", "all")).await;
    let browser = world.new_browser();
    browser.login("alice").await;
    let claims = browser.get("/claims").await.is(200).json();
    assert_eq!(claims["department"], "a-value-that-looks-secret");
    assert_eq!(claims["realm_access"]["roles"][0], "staff");
    assert!(lies[..5].iter().chain(&["nonce"]).all(|name| claims.get(*name).is_none()), "{claims}");
    world.finish().await;
}

#[tokio::test]
async fn claims_and_groups_come_from_where_the_route_says() {
    let world = World::builder()
        .config(|toml| {
            toml.text("routes.web", "claims_source", "access_token").text(
                "routes.web",
                "groups_claim",
                "realm_access.roles",
            )
        })
        .start()
        .await;
    world.browser.login("bob").await;
    let claims = world.browser.get("/claims").await.is(200).json();
    assert_eq!(claims["aud"], "api");
    assert_eq!(claims["realm_access"], json!({ "roles": ["staff", "user"] }));
    assert!(claims.get("jti").is_none(), "{claims}");
    world.finish().await;
}

#[tokio::test]
async fn check_auth_tells_strangers_from_users() {
    let world = World::start().await;
    world.browser.login("alice").await;
    assert_eq!(world.browser.get("/check_auth").await.is(200).json(), json!({ "logged_in": true }));
    assert_eq!(go(&world.browser, Method::GET, "/check_auth").await.is(200).json(), json!({ "logged_in": true }));
    world.provider.revoke_all();
    world.browser.post("/logout").await.is(200);
    assert_eq!(world.browser.get("/check_auth").await.is(200).json(), json!({ "logged_in": false }));
    world.finish().await;
}

#[tokio::test]
async fn session_tells_its_times_and_is_not_kept_alive_by_that() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let unix = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
    let begun = world.clock.now().unix();
    let times = world.browser.get("/session").await.is(200).has("content-type", "application/json").json();
    assert!((unix(&times["server_time"]) - begun).abs() <= 2, "{times}");
    assert!((unix(&times["created_at"]) - begun).abs() <= 2, "{times}");
    assert_eq!(unix(&times["expires_at"]) - unix(&times["created_at"]), 10 * 3600);
    assert!((unix(&times["idle_expires_at"]) - begun - 1800).abs() <= 2, "{times}");
    assert!((290..=300).contains(&int64(&times, "access_token_expires_in")), "{times}");
    assert_eq!(times["sub"], "alice-0001");
    assert_eq!(times["logout_url"], "https://app.test/logout");
    assert_eq!(times.as_object().unwrap().len(), 7, "{times}");
    // Looking every ten minutes does not keep it alive; nor does asking whether anybody is there.
    for _ in 0..2 {
        world.clock.shift(600);
        assert_eq!(world.browser.get("/session").await.is(200).json()["idle_expires_at"], times["idle_expires_at"]);
        world.browser.get("/check_auth").await.is(200);
    }
    world.clock.shift(590);
    world.browser.get("/session").await.is(200);
    world.clock.shift(15);
    world.browser.get("/session").await.refused(401, "login_required");
    world.finish().await;
}

#[tokio::test]
async fn use_keeps_a_session_alive_until_its_absolute_end() {
    let world = World::builder().config(|toml| toml.text("sessions", "max_lifetime", "2h")).start().await;
    world.browser.login("alice").await;
    for _ in 0..5 {
        world.clock.shift(1400);
        world.browser.get("/api/me").await.is(200);
    }
    let last = world.browser.get("/session").await.is(200).json();
    assert_eq!(last["idle_expires_at"], last["expires_at"]);
    world.clock.shift(201);
    world.browser.get("/api/me").await.refused(401, "login_required");
    world.finish().await;
}

#[tokio::test]
async fn px_12_each_endpoint_names_its_methods() {
    let world = World::start().await;
    world.browser.login("alice").await;
    for (path, allowed, wrong) in [
        ("/userinfo", "GET", [Method::POST, Method::HEAD, Method::DELETE]),
        ("/user_info", "GET", [Method::POST, Method::HEAD, Method::DELETE]),
        ("/claims", "GET", [Method::POST, Method::HEAD, Method::PUT]),
        ("/check_auth", "GET", [Method::POST, Method::HEAD, Method::PUT]),
        ("/session", "GET", [Method::POST, Method::HEAD, Method::DELETE]),
        ("/refresh", "POST", [Method::GET, Method::HEAD, Method::PUT]),
        ("/logout", "GET, POST", [Method::PUT, Method::HEAD, Method::DELETE]),
        ("/logout/end", "GET", [Method::POST, Method::HEAD, Method::PUT]),
    ] {
        for method in wrong {
            world.browser.fetch(method, path).await.is(405).has("allow", allowed);
        }
        let mut raw = world.raw().await;
        raw.write(format!("TRACE {path} HTTP/1.1\r\nHost: app.test\r\n\r\n")).await;
        assert!(raw.read_answer().await.starts_with("HTTP/1.1 405"));
    }
    world.finish().await;
}

#[tokio::test]
async fn what_is_no_endpoint_is_not_found() {
    let world = World::builder().without_front_end().start().await;
    for path in
        ["/", "/login", "/login/", "/login/begin", "/userinfo/", "/Userinfo", "/logout/x", "/login/end/", "/apis"]
    {
        world.browser.get(path).await.refused(404, "not_found").lacks("set-cookie");
        world
            .browser
            .navigate(path)
            .await
            .refused(404, "not_found")
            .has("content-type", "text/html; charset=utf-8");
    }
    world.finish().await;
}
