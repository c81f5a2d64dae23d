//! Table X: what a refresh may bring, and what ends a session.

use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::json;
use vestibule::demo::provider::JwtMutation::{RemoveClaim, SetClaim, Sign};
use vestibule::demo::provider::Kind::{Close, HeaderSet, IdToken, JsonRemove, JsonSet, Status};
use vestibule::demo::provider::{Endpoint, Kind, Mutation, Options, SignWith};
use vestibule::provider::Error;

use super::stage::{Stage, refused};

#[tokio::test]
async fn x01_px_17_tokens_rotate() {
    let stage = Stage::new().await;
    let grant = stage.login().await.unwrap();
    let renewal = stage.refresh(&grant).await.unwrap();
    assert_ne!(renewal.access_token, grant.access_token);
    assert_ne!(renewal.access_token.fingerprint(), grant.access_token.fingerprint());
    let rotated = renewal.refresh_token.unwrap();
    assert_ne!(rotated.fingerprint(), grant.refresh_token.as_ref().unwrap().fingerprint());
    let (_, claims) = renewal.id_token.unwrap();
    assert_eq!(claims.get("sub"), Some(&json!("alice-0001")));
    stage.client.refresh(&rotated, &grant.claims, stage.now()).await.unwrap();
    assert_eq!(stage.op.reuses(), 0);
}

#[tokio::test]
async fn x05_px_16_invalid_grant_is_told_apart() {
    let stage = Stage::new().await;
    let grant = stage.login().await.unwrap();
    stage.op.revoke_all();
    assert!(matches!(stage.refresh(&grant).await, Err(Error::InvalidGrant)));
}

#[tokio::test]
async fn px_16_trouble_is_not_the_end_of_a_session() {
    let stage = Stage::new().await;
    let grant = stage.login().await.unwrap();
    let rows: Vec<(&str, Vec<Kind>)> = vec![
        ("500", vec![Status(StatusCode::INTERNAL_SERVER_ERROR)]),
        ("503", vec![Status(StatusCode::SERVICE_UNAVAILABLE)]),
        ("429", vec![Status(StatusCode::TOO_MANY_REQUESTS)]),
        ("302", vec![Kind::Redirect(StatusCode::FOUND, "http://127.0.0.1:9/".to_owned())]),
        ("a page", vec![HeaderSet(CONTENT_TYPE, "text/html".parse().unwrap())]),
        ("no JSON", vec![Kind::BodyReplace("<h1>".into())]),
        ("reset", vec![Close]),
        ("cut", vec![Kind::Truncate(7)]),
    ];
    for (id, kinds) in rows {
        kinds.into_iter().for_each(|kind| stage.lie(Endpoint::Token, kind));
        let result = stage.refresh(&grant).await;
        assert!(matches!(result, Err(Error::Unavailable(_))), "{id}: {result:?}");
    }
    stage.lie(Endpoint::Token, Status(StatusCode::UNAUTHORIZED));
    stage.lie(Endpoint::Token, Kind::BodyReplace(r#"{"error":"invalid_client"}"#.into()));
    assert!(matches!(stage.refresh(&grant).await, Err(Error::Refused(code)) if code == "invalid_client"));
    stage.op.go_down().await.unwrap();
    assert!(matches!(stage.refresh(&grant).await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn table_x_answers_that_end_a_session() {
    let stage = Stage::with(Options { rotate_refresh_tokens: false, ..Options::default() }, |script| {
        script.additional_audiences.push("second".to_owned());
    })
    .await;
    let grant = stage.login().await.unwrap();
    let now = stage.now().unix();
    let rows: Vec<(&str, Kind, &str)> = vec![
        ("X09", IdToken(SetClaim("iss", json!("https://evil.example"))), "iss is not the issuer"),
        ("X10", IdToken(SetClaim("sub", json!("bob-0001"))), "iss or sub is another"),
        ("X11 aud", IdToken(SetClaim("aud", json!("second"))), "aud does not name the client"),
        ("X11 azp", IdToken(SetClaim("azp", json!("web"))), "azp is another than at login"),
        ("X11 nonce", IdToken(SetClaim("nonce", json!("x"))), "auth_time or nonce is another"),
        ("X11 auth_time", IdToken(SetClaim("auth_time", json!(now - 7))), "auth_time or nonce is another"),
        ("PX-18 signature", IdToken(Sign(SignWith::Stranger)), "signature is wrong"),
        ("PX-18 none", IdToken(Sign(SignWith::Nothing)), "alg is not"),
        ("PX-18 exp", IdToken(SetClaim("exp", json!(now - 3600))), "exp is past"),
        ("PX-18 iat", IdToken(RemoveClaim("iat")), "iat is missing"),
        ("PX-18 at_hash", IdToken(SetClaim("at_hash", json!("AAAA"))), "at_hash does not match"),
        ("X13", JsonSet("access_token", json!("canary\r\n")), "access_token"),
        ("X13", JsonRemove("access_token"), "access_token is missing"),
        ("X13", JsonSet("refresh_token", json!("canary\n")), "refresh_token"),
        ("T22", JsonSet("id_token", json!(5)), "id_token is not a string"),
        ("PX-21", JsonSet("token_type", json!("DPoP")), "token_type is not Bearer"),
    ];
    for (id, kind, expected) in rows {
        stage.lie(Endpoint::Token, kind);
        let result = stage.refresh(&grant).await;
        assert!(result.as_ref().err().is_some_and(Error::ends_session), "{id}: {result:?}");
        refused(id, result, expected);
        stage.op.clear_mutations();
    }
}

#[tokio::test]
async fn table_x_answers_that_renew() {
    let stage = Stage::with(Options { rotate_refresh_tokens: false, ..Options::default() }, |_| {}).await;
    let grant = stage.login().await.unwrap();
    let nonce = grant.claims.get("nonce").cloned().unwrap();
    // X03: none new, so the old one stays.
    assert!(stage.refresh(&grant).await.unwrap().refresh_token.is_none());
    for (id, kind) in [
        ("PX-18 the same nonce", IdToken(SetClaim("nonce", nonce))),
        ("PX-18 no auth_time", IdToken(RemoveClaim("auth_time"))),
        ("X18", JsonSet("expires_in", json!(0))),
    ] {
        stage.lie(Endpoint::Token, kind);
        stage.refresh(&grant).await.unwrap_or_else(|error| panic!("{id}: {error}"));
    }
    stage.lie(Endpoint::Token, JsonRemove("id_token"));
    assert!(stage.refresh(&grant).await.unwrap().id_token.is_none(), "X12");
}

#[tokio::test]
async fn a_rotated_refresh_token_is_not_lost_for_want_of_keys() {
    let stage = Stage::new().await;
    let grant = stage.login().await.unwrap();
    stage.op.rotate_keys().unwrap();
    stage.op.mutate(Mutation::always(Endpoint::Jwks, Status(StatusCode::INTERNAL_SERVER_ERROR)));
    let renewal = stage.refresh(&grant).await.unwrap();
    assert!(renewal.id_token.is_none(), "what could not be verified is left out");
    let rotated = renewal.refresh_token.unwrap();
    stage.op.clear_mutations();
    stage.clock.shift(60);
    let renewal = stage.client.refresh(&rotated, &grant.claims, stage.now()).await.unwrap();
    assert!(renewal.id_token.is_some());
    assert_eq!(stage.op.reuses(), 0);
}

#[tokio::test]
async fn px_18_an_auth_time_that_login_did_not_say_may_come_later() {
    let stage = Stage::new().await;
    stage.lie(Endpoint::Token, IdToken(RemoveClaim("auth_time")));
    let grant = stage.login().await.unwrap();
    assert!(stage.refresh(&grant).await.unwrap().id_token.is_some());
}
