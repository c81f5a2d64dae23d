//! What strangers try at the doors that are open to everybody: forged identities, second spellings of a path, answers
//! that come by another way, links that act by themselves.

use std::time::{Duration, Instant};

use url::Url;
use vestibule::demo::provider::{Endpoint, JwtMutation, Kind, Mutation};

use crate::world::raw::Raw;
use crate::world::upstream::Reply;
use crate::world::{Edit, World};

/// A route that serves a whole app, which is at the world's upstream; `rules` are raw path rules.
async fn app(rules: &'static [(&'static str, &'static str)]) -> World {
    let world = World::builder().without_front_end().config(|toml| {
        let toml = toml.text("routes.web", "base_path", "/.vestibule");
        rules
            .iter()
            .fold(toml, |toml, (prefix, rule)| toml.set("routes.web.paths", &format!("\"{prefix}\""), rule))
    });
    world.start().await
}

/// `url` with other parameters in its query; `None` leaves one out.
fn with(mut url: Url, changes: &[(&str, Option<&str>)]) -> Url {
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .into_owned()
        .filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name))
        .collect();
    let set = changes.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
    url.query_pairs_mut().clear().extend_pairs(kept).extend_pairs(set);
    url
}

#[tokio::test]
async fn px_7_h01_identity_headers_are_dropped_on_every_path_of_an_app_that_believes_them() {
    let world = app(&[
        ("/", r#"{ upstream = "api", unauthenticated = "login", identity_headers = { X-Auth-User = "sub" } }"#),
        ("/static/", r#"{ upstream = "api", unauthenticated = "pass" }"#),
    ])
    .await;
    let forged = world.browser.get("/static/x").header("x-auth-user", "admin").header("x_auth_user", "admin");
    forged.header("x-auth-groups", "admins").header("x-other", "1").await.is(200);
    let seen = world.upstream.last();
    for name in ["x-auth-user", "x_auth_user", "x-auth-groups"] {
        assert!(seen.all(name).is_empty(), "{}", seen.head);
    }
    assert_eq!(seen.header("x-other"), Some("1"));
    world.finish().await;
}

#[tokio::test]
async fn px_10_r31_no_escape_leads_past_the_rule_that_a_path_belongs_to() {
    let world = app(&[
        ("/", r#"{ upstream = "api", unauthenticated = "pass" }"#),
        ("/v1.0/", r#"{ upstream = "api" }"#),
        ("/@staff/", r#"{ upstream = "api" }"#),
    ])
    .await;
    for path in ["/v1.0/x", "/@staff/x"] {
        world.browser.get(path).await.refused(401, "login_required");
    }
    for path in ["/v1%2e0/x", "/v1%2E0/x", "/%40staff/x", "/v1%2e0"] {
        world.browser.get(path).await.refused(400, "ambiguous_path");
    }
    assert_eq!(world.upstream.count(), 0);
    world.browser.get("/users/a%40b.test").await.is(200);
    assert_eq!(world.upstream.last().target(), "/users/a%40b.test");
    world.finish().await;
}

#[tokio::test]
async fn px_8_h10_forged_hops_do_not_push_the_real_ones_out() {
    let world = app(&[("/", r#"{ upstream = "api", unauthenticated = "pass" }"#)]).await;
    let forged = ["6.6.6.6"; 40].join(", ");
    let request = format!("GET /x HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-For: {forged}, 203.0.113.9\r\n\r\n");
    let mut raw = world.raw().await;
    raw.write(request).await;
    raw.read_answer().await;
    let seen = world.upstream.last();
    let hops: Vec<&str> = seen.header("x-forwarded-for").unwrap().split(", ").collect();
    assert_eq!(hops.len(), 17);
    assert_eq!(hops[15..], ["203.0.113.9", "127.0.0.1"]);
    world.finish().await;
}

#[tokio::test]
async fn lo_3_what_a_browser_fetches_in_advance_logs_nobody_out() {
    let world = World::start().await;
    world.browser.login("alice").await;
    for purpose in ["prefetch", "prefetch;prerender"] {
        world.browser.click("/", "/logout").header("sec-purpose", purpose).await.is(200).says("Sign out?");
    }
    world.browser.get("/api/me").await.is(200);
    world.browser.click("/", "/logout").await.is(200);
    world.browser.get("/api/me").await.is(401);
    world.finish().await;
}

#[tokio::test]
async fn cb_6_with_several_providers_an_answer_comes_by_the_path_of_the_one_that_was_asked() {
    let world = World::builder()
        .provider(|options| options.clients[0].redirect_uris = vec!["https://app.test/login/end/corp".to_owned()])
        .config(|toml| {
            toml.set("routes.web", "providers", r#"["corp", "other"]"#)
                .text("providers.other", "issuer", "http://127.0.0.1:1/other")
                .text("providers.other", "client_id", "web")
        })
        .start()
        .await;
    let callback = async || {
        let picker = world.browser.navigate("/login/start?provider=corp&prompt=login").await;
        world.browser.submit(&picker, &[("user", "alice")]).stop_before("/login/end/corp").await.location()
    };
    for path in ["/login/end", "/login/end/other"] {
        let mut callback = callback().await;
        callback.set_path(path);
        world.browser.call_back(world.provider.issuer(), &callback).await.refused(400, "issuer_mismatch");
    }
    assert_eq!(world.provider.count(Endpoint::Token), 0);
    let callback = callback().await;
    world.browser.call_back(world.provider.issuer(), &callback).await.is(200).at("https://app.test/");
    world.finish().await;
}

#[tokio::test]
async fn cb_8_only_login_required_is_401() {
    let world = World::start().await;
    for (error, status, code) in [
        ("login_required", 401, "login_required"),
        ("interaction_required", 400, "access_denied"),
        ("consent_required", 400, "access_denied"),
        ("account_selection_required", 400, "access_denied"),
        ("server_error", 400, "provider_refused"),
    ] {
        let start = world.browser.navigate("/login/start?prompt=login").await;
        let callback = world.browser.callback_for(&start, "alice").await;
        let callback = with(callback, &[("code", None), ("error", Some(error))]);
        let request = serde_json::json!({ "request_url": callback.as_str() });
        let answer = world.browser.post("/login/end").json(&request).await.is(status);
        assert_eq!(answer.header("vestibule-error"), Some(code), "{error}");
    }
    world.finish().await;
}

#[tokio::test]
async fn ls_4_login_cookies_stay_below_8_kib_together() {
    let world = World::start().await;
    for (redirect, failure) in [(1_500, 1), (1_500, 1), (1_900, 700), (10, 1), (1_900, 700), (1_900, 1), (1_000, 1)] {
        let (redirect, failure) = ("a".repeat(redirect), "b".repeat(failure));
        let start = format!("/login/start?redirect=/{redirect}&failure=/{failure}");
        world.browser.navigate(&start).stay().await.is(302);
        let weight = |cookie: &crate::world::jar::Cookie| cookie.name.len() + cookie.value.len() + "=; ".len();
        let weight: usize = world.browser.cookies().iter().map(weight).sum();
        assert!(weight < 8 * 1024, "{weight} bytes of cookies");
    }
    world.finish().await;
}

#[tokio::test]
async fn cb_21_the_way_to_log_in_is_not_stored() {
    let world = app(&[("/", r#"{ upstream = "api", unauthenticated = "login" }"#)]).await;
    world.browser.navigate("/x").stay().await.is(302).has("cache-control", "no-store");
    world.finish().await;
}

#[tokio::test]
async fn px_15_a_provider_that_dawdles_holds_nobody_up_whose_token_has_life_left() {
    let world = World::start().await;
    world.browser.login("alice").await;
    world.provider.delay(Endpoint::Token, Duration::from_secs(3));
    world.clock.shift(280);
    let begun = Instant::now();
    world.browser.get("/api/me").await.is(200);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let first = world.upstream.last().header("authorization").unwrap().to_owned();
    // Begun refreshes finish: the next request after that has the new token.
    let start = Instant::now();
    loop {
        world.browser.get("/api/me").await.is(200);
        if world.upstream.last().header("authorization") != Some(first.as_str()) {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "the token was never renewed");
    }
    assert_eq!(world.provider.reuses(), 0);
    world.finish().await;
}

#[tokio::test]
async fn an_answer_of_our_own_before_the_end_of_a_large_body_ends_the_connection() {
    let world = World::start().await;
    let body = "x".repeat(1_500_000);
    let head = format!("Host: app.test\r\nOrigin: https://app.test\r\nContent-Length: {}\r\n\r\n", body.len() + 1);
    let mut raw = world.raw().await;
    raw.write(format!("POST /login/start HTTP/1.1\r\n{head}")).await;
    raw.write(&body).await;
    let answer = raw.read_answer().await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 200 ") && answer.contains("connection: close"), "{answer}");
    world.finish().await;
}

#[tokio::test]
async fn an_edit_that_is_taken_back_mends_the_metric() {
    let world = World::start().await;
    let good = std::fs::read_to_string(world.dir().join("vestibule.toml")).unwrap();
    assert_eq!(world.write("nonsense").await, Edit::Refused);
    assert_eq!(world.metric("vestibule_config_last_reload_successful", &[]).await, 0.0);
    assert_eq!(world.write(&good).await, Edit::Served);
    assert_eq!(world.metric("vestibule_config_last_reload_successful", &[]).await, 1.0);
    world.finish().await;
}

#[tokio::test]
async fn claims_show_a_groups_claim_that_has_dots_in_its_name() {
    let name = "https://app.test/groups";
    let world = World::builder().config(|toml| toml.text("routes.web", "groups_claim", name)).start().await;
    let lie = JwtMutation::SetClaim(name, serde_json::json!(["staff"]));
    world.provider.mutate(Mutation::next(Endpoint::Token, Kind::IdToken(lie)));
    world.browser.login("alice").await;
    assert_eq!(world.browser.get("/claims").await.is(200).json()[name][0], "staff");
    world.finish().await;
}

#[tokio::test]
async fn operators_see_that_it_drains() {
    let mut world = app(&[("/", r#"{ upstream = "api", unauthenticated = "pass" }"#)]).await;
    world.upstream.on("/slow", Reply::text("at last").after(Duration::from_millis(2500)));
    let mut slow = world.raw().await;
    slow.write("GET /slow HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    world.upstream.wait_for(1).await;
    let operators = world.bound("127.0.0.2:0").await;
    let ask = format!("GET /readyz HTTP/1.1\r\nHost: {operators}\r\nConnection: close\r\n\r\n");
    let watch = tokio::spawn(async move {
        let start = Instant::now();
        let mut seen = None;
        // Not only in the instant before the doors close, but for as long as the slow request is under way.
        while seen.is_none_or(|seen: Instant| seen.elapsed() < Duration::from_millis(300)) {
            match Raw::status(operators, &ask).await {
                503 => drop(seen.get_or_insert_with(Instant::now)),
                status => assert_eq!((status, seen), (200, None)),
            }
            assert!(start.elapsed() < Duration::from_secs(5), "never seen to drain");
        }
    });
    world.restart().await;
    watch.await.unwrap();
    assert!(slow.read_answer().await.contains("at last"));
    world.finish().await;
}
