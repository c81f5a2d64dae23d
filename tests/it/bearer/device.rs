//! Device mode over the wire: a CLI is told where to log in, and brings its own tokens.

use http::Method;
use vestibule::demo::provider::{Endpoint, Kind, Mutation};

use super::token;
use crate::world::builder::Builder;
use crate::world::{Edit, World};

/// Where the device route is.
pub(super) const CLI: &str = "https://cli.test";

/// What makes a world with a device route at [`CLI`] beside the usual one.
pub(super) fn builder(verify: bool) -> Builder {
    World::builder().config(move |toml| {
        toml.text("routes.cli", "mode", "device")
            .text("routes.cli", "public_url", CLI)
            .text("routes.cli", "client_id", "cli")
            .text("routes.cli", "upstream", "api");
        if verify {
            toml.set("routes.cli", "audiences", "[\"api\"]")
        } else {
            toml.set("routes.cli", "verify", "false")
        }
    })
}

impl Builder {
    /// The world of such a builder, with the way to its device route.
    pub(super) async fn start_cli(self) -> World {
        let world = self.start().await;
        world.add_host("cli.test", false).await;
        world
    }
}

async fn world(verify: bool) -> World {
    builder(verify).start_cli().await
}

#[tokio::test]
async fn dv_1_v01_v02_a_cli_is_told_where_to_begin_and_as_whom() {
    let world = world(true).await;
    let cli = world.new_browser();
    let start = format!("{CLI}/login/start");
    for ask in [
        cli.fetch(Method::POST, &start),
        cli.fetch(Method::POST, &start).json(&serde_json::json!({})),
        cli.fetch(Method::POST, &start).header("content-type", "text/plain").body("x"),
        cli.get(&start),
        cli.get(&start).header("user-agent", "Mozilla/5.0"),
    ] {
        let answer = ask.without_metadata().await.is(200).has("content-type", "application/json");
        let answer = answer.has("cache-control", "no-store").lacks("set-cookie");
        let told = answer.json();
        assert_eq!(told["issuer"], world.provider.issuer());
        assert_eq!(told["client_id"], "cli");
        let endpoint = told["device_authorization_endpoint"].as_str().unwrap();
        assert!(endpoint.starts_with(world.provider.issuer()), "{endpoint}");
        let server_time: jiff::Timestamp = told["server_time"].as_str().unwrap().parse().unwrap();
        assert!((server_time.as_second() - world.clock.now().unix()).abs() <= 1, "{server_time}");
    }
    cli.fetch(Method::PUT, &start).without_metadata().await.refused(405, "method_not_allowed");
    for path in ["/login/end", "/userinfo", "/logout", "/session", "/refresh"] {
        cli.get(&format!("{CLI}{path}")).without_metadata().await.refused(404, "not_found");
    }
    world.finish().await;
}

#[tokio::test]
async fn dv_5_dv_6_v05_v07_a_bearer_is_verified_whoever_brings_it_and_passed_on_unchanged() {
    let world = world(true).await;
    let bearer = token(&world, &[]);
    call_at_cli(&world, &bearer).await.is(200);
    assert_eq!(world.upstream.last().header("authorization"), Some(format!("Bearer {bearer}").as_str()));
    let asked = world.upstream.count();
    call_at_cli(&world, "made.up.token").await.refused(401, "invalid_token");
    let browser = world.new_browser().get(&format!("{CLI}/api/me")).header("user-agent", "Mozilla/5.0");
    browser.without_metadata().await.refused(401, "bearer_required");
    assert_eq!(world.upstream.count(), asked, "nobody unproved reaches the upstream");
    world.finish().await;
}

#[tokio::test]
async fn dv_4_without_verification_authorization_passes_byte_for_byte_and_our_cookies_do_not() {
    let world = world(false).await;
    for line in ["Bearer  two  spaces", "Basic dXNlcjpwYXNz", "bearer x"] {
        let ask = world.new_browser().get(&format!("{CLI}/api/me")).without_metadata();
        let cookies = "a=1; __Host-Http-vestibule-web=secret; b=2";
        ask.header("authorization", line).header("cookie", cookies).await.is(200);
        let seen = world.upstream.last();
        assert_eq!(seen.header("authorization"), Some(line));
        assert_eq!(seen.header("cookie"), Some("a=1; b=2"));
    }
    // Somebody's session is of no use here: no token of it is added.
    world.browser.login("alice").await;
    let ask = world.new_browser().get(&format!("{CLI}/api/me")).without_metadata();
    ask.header("cookie", &crate::world::live::cookie(&world.browser)).await.is(200);
    let seen = world.upstream.last();
    assert_eq!((seen.header("authorization"), seen.header("cookie")), (None, None));
    world.finish().await;
}

#[tokio::test]
async fn dv_2_a_provider_without_a_device_endpoint_is_an_error_that_programs_can_read() {
    let world = world(true).await;
    world
        .provider
        .mutate(Mutation::always(Endpoint::Discovery, Kind::JsonRemove("device_authorization_endpoint")));
    // What was read before is believed until the provider is another one.
    assert_eq!(world.edit(|toml| toml.text("providers.corp", "clock_skew", "59s")).await, Edit::Served);
    let start = format!("{CLI}/login/start");
    for method in [Method::POST, Method::GET] {
        let ask = world.new_browser().fetch(method, &start).like_a_program();
        let answer = ask.await.refused(404, "no_device_endpoint").has("content-type", "application/problem+json");
        assert_eq!(answer.json()["device_authorization_endpoint"], serde_json::Value::Null);
    }
    // Who has a token from elsewhere is served all the same.
    call_at_cli(&world, &token(&world, &[])).await.is(200);
    assert!(world.log().contains("have no device_authorization_endpoint"));
    world.finish().await;
}

/// Calls the API behind the device route.
pub(super) async fn call_at_cli(world: &World, bearer: &str) -> crate::world::answer::Answer {
    let ask = world.new_browser().get(&format!("{CLI}/api/me")).without_metadata();
    ask.header("authorization", &format!("Bearer {bearer}")).await
}
