//! Opaque tokens over the wire (RFC 7662): only their issuer knows them, so it is asked, and what it says is held against
//! the same rules as a token that can be read. JV-20, and B36 of table B.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use vestibule::demo::provider::Kind::{BodyReplace, Close, HeaderSet, JsonRaw, JsonRemove, JsonSet, Status};
use vestibule::demo::provider::{Authentication, Client, Endpoint, Kind, Mutation};

use super::program::Program;
use super::{API, call, challenge, header, status, token, verdict};
use crate::world::World;
use crate::world::toml::Toml;

/// A world whose provider gives the program `robot` opaque tokens, with a verify route that asks about them.
async fn world(edit: impl FnOnce(&mut Toml) -> &mut Toml + Send + 'static) -> World {
    let builder = super::builder(|toml| edit(toml.set("providers.corp", "introspection", "true")));
    let world = builder
        .provider(|options| {
            options.clients.push(Client::public("robot").with_device_flow().with_opaque_tokens());
        })
        .start()
        .await;
    world.add_host("api.test", false).await;
    world
}

/// A token of alice's for `robot`, as the provider gives it.
async fn opaque(world: &World) -> String {
    let tokens = Program { world, client_id: "robot" }.log_in("alice").await;
    tokens["access_token"].as_str().unwrap().to_owned()
}

fn asked(world: &World) -> u64 {
    world.provider.count(Endpoint::Introspection)
}

/// JV-20; RFC 7662 2.1: the issuer is asked by us as the client that we are, and once for many calls.
#[tokio::test]
async fn jv_20_b36_an_opaque_token_is_good_for_what_its_issuer_says() {
    let world = world(|toml| toml.set("routes.things", "required_scopes", "[\"read\"]")).await;
    let token = opaque(&world).await;
    call(&world, &token).await.is(200);
    let seen = world.provider.journal().into_iter().rfind(|seen| seen.endpoint == Endpoint::Introspection).unwrap();
    assert_eq!((seen.method.as_str(), seen.authentication), ("POST", Authentication::Basic));
    assert_eq!(seen.parameter("token"), Some(token.as_str()));
    assert_eq!(seen.parameter("token_type_hint"), Some("access_token"));
    assert_eq!(world.upstream.last().header("authorization"), Some(format!("Bearer {token}").as_str()));

    let line = [format!("Authorization: Bearer {token}")];
    for _ in 0..3 {
        let told = verdict(&world, "/things/1", &line).await;
        assert_eq!((status(&told), header(&told, "vestibule-verdict")), (204, Some("allow")), "{told}");
        assert_eq!(header(&told, "vestibule-subject"), Some("alice-0001"), "{told}");
        assert_eq!(header(&told, "vestibule-groups"), Some("staff,admins"), "{told}");
    }
    assert_eq!(asked(&world), 1, "it is remembered");
    // What is not there need not be asked for twice, but nobody remembers what strangers make up.
    for made_up in ["made-up", "made-up", "canary-of-somebody-else"] {
        let refused = call(&world, made_up).await.refused(401, "invalid_token");
        assert!(challenge(&refused).contains("error=\"invalid_token\""));
    }
    assert_eq!(asked(&world), 4);
    world.finish().await;
}

/// JV-20: only opaque tokens are shown to the issuer, because a JWT may be another issuer's.
#[tokio::test]
async fn jv_20_what_can_be_read_is_never_sent_to_anybody() {
    let world = world(|toml| toml).await;
    call(&world, &token(&world, &[])).await.is(200);
    for jwt in ["eyJ.a.b", "eyJhbGciOiJub25lIn0.e30.", "ey"] {
        call(&world, jwt).await.refused(401, "invalid_token");
    }
    assert_eq!(asked(&world), 0);
    world.finish().await;
}

/// B36: without introspection an opaque token is no token, and nobody is asked.
#[tokio::test]
async fn b36_where_nobody_introspects_an_opaque_token_is_none() {
    let world = world(|toml| toml.set("providers.corp", "introspection", "false")).await;
    let token = opaque(&world).await;
    call(&world, &token).await.refused(401, "invalid_token");
    assert_eq!((asked(&world), world.upstream.recorded().len()), (0, 0));
    world.finish().await;
}

/// JV-19, JV-20; RFC 7662 4: what is remembered ends with `exp`, and with a minute.
#[tokio::test]
async fn jv_20_what_was_said_about_a_token_dies_with_exp_and_after_a_minute() {
    let world = world(|toml| toml).await;
    world.provider.set_access_token_lifetime(Duration::from_secs(30));
    let short = opaque(&world).await;
    call(&world, &short).await.is(200);
    world.clock.shift(28);
    call(&world, &short).await.is(200);
    assert_eq!(asked(&world), 1);
    world.clock.shift(3);
    call(&world, &short).await.refused(401, "invalid_token");
    assert_eq!(asked(&world), 2, "its issuer was asked again");

    world.provider.set_access_token_lifetime(Duration::from_secs(3600));
    let long = opaque(&world).await;
    call(&world, &long).await.is(200);
    world.provider.revoke_all();
    world.clock.shift(58);
    call(&world, &long).await.is(200);
    world.clock.shift(3);
    call(&world, &long).await.refused(401, "invalid_token");
    world.finish().await;
}

/// JV-20; RFC 7662 2.2: `active` is a boolean, and what is active for others is not for us.
#[tokio::test]
async fn jv_20_every_answer_is_held_against_the_rules() {
    let world = world(|toml| {
        toml.set("routes.things", "required_scopes", "[\"read\"]").set(
            "routes.things",
            "authorized_parties",
            "[\"robot\"]",
        )
    })
    .await;
    let now = world.clock.now().unix();
    let set = |name: &'static str, value: Value| vec![JsonSet(name, value)];
    let rows = vec![
        ("nothing odd", vec![], 200, ""),
        ("no iss", vec![JsonRemove("iss")], 200, ""),
        ("no exp", vec![JsonRemove("exp")], 200, ""),
        ("aud among others", set("aud", json!(["x", "api"])), 200, ""),
        ("not active", set("active", json!(false)), 401, "invalid_token"),
        ("active is text", set("active", json!("true")), 503, "provider_unavailable"),
        ("active is 1", set("active", json!(1)), 503, "provider_unavailable"),
        ("active is null", set("active", json!(null)), 503, "provider_unavailable"),
        ("active is missing", vec![JsonRemove("active")], 503, "provider_unavailable"),
        ("active twice", vec![JsonRaw("\"active\":true,".into())], 503, "provider_unavailable"),
        ("iss of another", set("iss", json!("https://evil.example")), 401, "invalid_token"),
        ("iss a list", set("iss", json!([world.provider.issuer()])), 401, "invalid_token"),
        ("aud of another", set("aud", json!("another-api")), 401, "invalid_token"),
        ("aud missing", vec![JsonRemove("aud")], 401, "invalid_token"),
        ("aud a number", set("aud", json!(5)), 401, "invalid_token"),
        ("exp past", set("exp", json!(now - 120)), 401, "invalid_token"),
        ("exp a string", set("exp", json!("9999999999")), 401, "invalid_token"),
        ("nbf to come", set("nbf", json!(now + 600)), 401, "invalid_token"),
        ("iat to come", set("iat", json!(now + 600)), 401, "invalid_token"),
        ("sub missing", vec![JsonRemove("sub")], 401, "invalid_token"),
        ("sub empty", set("sub", json!("")), 401, "invalid_token"),
        ("bound to a key", set("cnf", json!({"jkt": "x"})), 401, "invalid_token"),
        ("another party", set("client_id", json!("other")), 401, "invalid_token"),
        ("too little scope", set("scope", json!("write")), 403, "insufficient_scope"),
        ("no scope", vec![JsonRemove("scope")], 403, "insufficient_scope"),
    ];
    for (id, changes, expected, code) in rows {
        let token = opaque(&world).await;
        hold(&world, id, &token, changes, (expected, code)).await;
    }
    world.finish().await;
}

/// JV-16, JV-20; G1: an issuer that cannot be asked, or does not know us, is nobody's fault who calls, and no permission.
#[tokio::test]
async fn jv_20_an_issuer_that_cannot_be_asked_is_503() {
    let world = world(|toml| toml).await;
    let token = opaque(&world).await;
    let text = |text: &'static str| BodyReplace(Bytes::from_static(text.as_bytes()));
    let rows = [
        ("500", vec![Status(StatusCode::INTERNAL_SERVER_ERROR)]),
        ("it does not know us", vec![Status(StatusCode::UNAUTHORIZED)]),
        ("400", vec![Status(StatusCode::BAD_REQUEST)]),
        ("204", vec![Status(StatusCode::NO_CONTENT)]),
        ("a redirect", vec![Kind::Redirect(StatusCode::FOUND, format!("{API}/"))]),
        ("a page", vec![HeaderSet(CONTENT_TYPE, "text/html".parse().unwrap())]),
        ("no JSON", vec![text("{\"active\":true")]),
        ("a list", vec![text("[true]")]),
        ("nothing", vec![text("")]),
        ("too much", vec![Kind::Endless]),
        ("half of it", vec![Kind::Truncate(20)]),
        ("it hangs up", vec![Close]),
    ];
    for (id, changes) in rows {
        hold(&world, id, &token, changes, (503, "provider_unavailable")).await;
    }
    world.provider.go_down().await.unwrap();
    hold(&world, "it is down", &token, vec![], (503, "provider_unavailable")).await;
    world.provider.come_up().unwrap();
    call(&world, &token).await.is(200);
    // What was said before holds for its minute, whatever becomes of the issuer.
    world.provider.go_down().await.unwrap();
    call(&world, &token).await.is(200);
    world.clock.shift(61);
    hold(&world, "it is down", &token, vec![], (503, "provider_unavailable")).await;
    world.finish().await;
}

/// A provider that says nowhere where to ask, or takes nothing by which we could say who asks: that is for the operator
/// to mend, and nobody gets in meanwhile.
#[tokio::test]
async fn jv_20_an_issuer_that_offers_no_way_to_ask_is_503_and_the_log_says_why() {
    let mut world = world(|toml| toml).await;
    for (change, why) in [
        (JsonRemove("introspection_endpoint"), "it has no introspection endpoint"),
        (
            JsonSet("token_endpoint_auth_methods_supported", json!(["private_key_jwt"])),
            "it offers no token_endpoint_auth_method that we know",
        ),
    ] {
        world.provider.mutate(Mutation::always(Endpoint::Discovery, change));
        world.restart().await;
        world.add_host("api.test", false).await;
        let refused = call(&world, "opaque").await.refused(503, "provider_unavailable");
        assert!(refused.header("retry-after").is_some() && world.log().contains(why), "{why}: {}", world.log());
        world.provider.clear_mutations();
    }
    assert_eq!(asked(&world), 0);
    world.finish().await;
}

/// Calls and asks for a verdict while the issuer answers with `changes`; what is refused never reaches the upstream, and
/// is asked for anew each time.
async fn hold(world: &World, id: &str, token: &str, changes: Vec<Kind>, (expected, code): (u16, &str)) {
    let (before, reached) = (asked(world), world.upstream.recorded().len());
    for change in changes {
        world.provider.mutate(Mutation::always(Endpoint::Introspection, change));
    }
    let answer = call(world, token).await;
    let told = verdict(world, "/things/1", &[format!("Authorization: Bearer {token}")]).await;
    world.provider.clear_mutations();
    assert_eq!(answer.status.as_u16(), expected, "{id}: {}", answer.describe());
    let reached = world.upstream.recorded().len() - reached;
    if expected == 200 {
        assert_eq!((status(&told), reached, asked(world) - before), (204, 1, 1), "{id}: {told}");
        return;
    }
    assert_eq!((status(&told), header(&told, "vestibule-verdict"), reached), (expected, None, 0), "{id}: {told}");
    assert_eq!(header(&told, "retry-after").is_some(), expected == 503, "{id}: {told}");
    assert_eq!(header(&told, "www-authenticate").is_some(), expected != 503, "{id}: {told}");
    answer.refused(expected, code);
}
