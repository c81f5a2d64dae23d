//! Bearers whose user authenticated too weakly or too long ago (RFC 9470): the challenge by the letter.

use serde_json::json;
use vestibule::demo::provider::JwtMutation::{RemoveClaim, SetClaim};
use vestibule::demo::provider::{Client, JwtMutation};

use super::program::Program;
use super::{API, call_at, challenge, header, status, token, verdict, world};

const METADATA: &str = "resource_metadata=\"https://api.test/.well-known/oauth-protected-resource\"";

/// The challenge that ends so.
fn expected(parameters: &str) -> String {
    format!(
        "Bearer realm=\"{API}\", error=\"insufficient_user_authentication\", \
         error_description=\"a stronger or more recent authentication is required\", {parameters}, {METADATA}"
    )
}

/// RFC 9470 3: 401, `error`, and what would be enough; proxied and as a verdict.
#[tokio::test]
async fn rfc_9470_a_bearer_that_is_not_enough_is_told_what_would_be() {
    let world = world(|toml| {
        toml.set("routes.things.paths", "\"/\"", "{}")
            .set("routes.things.paths", "\"/strong/\"", "{ acr_values = [\"urn:example:mfa\", \"2\"] }")
            .set("routes.things.paths", "\"/recent/\"", "{ max_age = \"10m\" }")
            .set("routes.things.paths", "\"/both/\"", "{ acr_values = [\"2\"], max_age = \"10m\" }")
    })
    .await;
    let now = world.clock.now().unix();
    let acr = |acr: &str| SetClaim("acr", json!(acr));
    let ago = |seconds: i64| SetClaim("auth_time", json!(now - seconds));
    let (strong, recent) = ("acr_values=\"urn:example:mfa 2\"", "max_age=\"600\"");
    let both = format!("acr_values=\"2\", {recent}");
    let cases: Vec<(&str, Vec<JwtMutation>, &str)> = vec![
        ("/strong/x", vec![], strong),
        ("/strong/x", vec![RemoveClaim("acr")], strong),
        ("/strong/x", vec![acr("2 ")], strong),
        ("/strong/x", vec![SetClaim("acr", json!(2))], strong),
        ("/strong/x", vec![SetClaim("acr", json!(["2"]))], strong),
        ("/recent/x", vec![ago(700)], recent),
        ("/recent/x", vec![ago(-120)], recent),
        ("/recent/x", vec![RemoveClaim("auth_time")], recent),
        ("/recent/x", vec![SetClaim("auth_time", json!(now.to_string()))], recent),
        ("/recent/x", vec![SetClaim("auth_time", json!(null))], recent),
        ("/both/x", vec![acr("2"), ago(700)], &both),
        ("/both/x", vec![acr("1"), ago(0)], &both),
    ];
    let before = world.upstream.count();
    for (path, changes, parameters) in cases {
        let token = token(&world, &changes);
        // The second time it is a token that is known already.
        for _ in 0..2 {
            let refused = call_at(&world, path, &token).await.refused(401, "insufficient_user_authentication");
            assert_eq!(challenge(&refused), expected(parameters), "{path} {changes:?}");
            assert!(refused.json().get("login_url").is_none(), "{}", refused.describe());
        }
        let asked = verdict(&world, path, &[format!("Authorization: Bearer {token}")]).await;
        let told = (status(&asked), header(&asked, "www-authenticate").map(str::to_owned));
        assert_eq!(told, (401, Some(expected(parameters))), "{asked}");
    }
    assert_eq!(world.upstream.count(), before, "the upstream was asked");
    for (path, changes) in [
        ("/x", vec![RemoveClaim("acr"), RemoveClaim("auth_time")]),
        ("/strong/x", vec![acr("2")]),
        ("/strong/x", vec![acr("urn:example:mfa"), RemoveClaim("auth_time")]),
        ("/recent/x", vec![ago(0)]),
        ("/recent/x", vec![ago(650)]),
        ("/both/x", vec![acr("2"), ago(30)]),
    ] {
        call_at(&world, path, &token(&world, &changes)).await.is(200);
    }
    // A token that was good ages, however well it is remembered.
    let lasting = token(&world, &[SetClaim("exp", json!(now + 7200))]);
    call_at(&world, "/recent/x", &lasting).await.is(200);
    world.clock.shift(661);
    call_at(&world, "/recent/x", &lasting).await.refused(401, "insufficient_user_authentication");
    world.finish().await;
}

/// RFC 9470 6.2: of an opaque token its issuer says it.
#[tokio::test]
async fn rfc_9470_of_opaque_tokens_the_issuer_says_how_and_when() {
    let builder = super::builder(|toml| {
        toml.set("providers.corp", "introspection", "true")
            .set("routes.things.paths", "\"/\"", "{ max_age = \"10m\" }")
            .set("routes.things.paths", "\"/strong/\"", "{ acr_values = [\"2\"] }")
    });
    let robot = |options: &mut vestibule::demo::provider::Options| {
        options.access_token_lifetime = std::time::Duration::from_secs(7200);
        options.clients.push(Client::public("robot").with_device_flow().with_opaque_tokens());
    };
    let world = builder.provider(robot).start().await;
    world.add_host("api.test", false).await;
    let tokens = Program { world: &world, client_id: "robot" }.log_in("alice").await;
    let token = tokens["access_token"].as_str().unwrap().to_owned();
    call_at(&world, "/x", &token).await.is(200);
    let refused = call_at(&world, "/strong/x", &token).await.refused(401, "insufficient_user_authentication");
    assert_eq!(challenge(&refused), expected("acr_values=\"2\""));
    world.clock.shift(661);
    call_at(&world, "/x", &token).await.refused(401, "insufficient_user_authentication");
    world.finish().await;
}
