//! Table U: what the userinfo endpoint may say.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::json;
use vestibule::config::Userinfo;
use vestibule::demo::provider::Kind::{
    BodyReplace, Close, Endless, HeaderSet, JsonRaw, JsonRemove, JsonSet, Redirect, Status,
};
use vestibule::demo::provider::{Authentication, Endpoint, Kind, Options};

use super::stage::{Stage, claim, refused};

#[tokio::test]
async fn table_u_answers_that_end_the_login() {
    let stage = Stage::new().await;
    let rows: Vec<(&str, Kind, &str)> = vec![
        ("U02 CB-18", JsonSet("sub", json!("mallory")), "sub is not that of the ID token"),
        ("U03", JsonRemove("sub"), "sub is not that of the ID token"),
        ("U03", JsonSet("sub", json!(["alice-0001"])), "sub is not that of the ID token"),
        ("U04", Status(StatusCode::UNAUTHORIZED), "status 401"),
        ("U04", Status(StatusCode::FORBIDDEN), "status 403"),
        ("U05", Status(StatusCode::INTERNAL_SERVER_ERROR), "status 500"),
        ("U06", BodyReplace(Bytes::from_static(b"[{\"sub\":\"alice-0001\"}]")), "not a JSON object"),
        ("U08", HeaderSet(CONTENT_TYPE, HeaderValue::from_static("text/html")), "content type"),
        ("U10", JsonRaw(r#""sub":"alice-0001","#.to_owned()), "not acceptable JSON"),
        ("U11", Endless, "too large"),
        ("OG-1", Redirect(StatusCode::FOUND, "http://127.0.0.1:9/".to_owned()), "status 302"),
        ("U15", Close, "cannot be reached"),
        ("U07", HeaderSet(CONTENT_TYPE, HeaderValue::from_static("application/jwt")), "three parts"),
    ];
    for (id, kind, expected) in rows {
        stage.lie(Endpoint::Userinfo, kind);
        refused(id, stage.login().await, expected);
    }
}

#[tokio::test]
async fn u01_the_token_goes_in_the_header_and_nowhere_else() {
    let stage = Stage::new().await;
    let grant = stage.login().await.unwrap();
    let seen = stage.op.journal().into_iter().find(|seen| seen.endpoint == Endpoint::Userinfo).unwrap();
    assert_eq!(seen.authentication, Authentication::Bearer);
    assert!(seen.parameters.is_empty());
    assert_eq!(claim(&grant.userinfo, "given_name"), Some("Alice"));
}

#[tokio::test]
async fn u13_u14_u16_protocol_claims_and_tokens_do_not_come_from_userinfo() {
    let stage = Stage::new().await;
    let names = ["iss", "aud", "exp", "nonce", "sid", "acr", "auth_time", "access_token", "refresh_token", "id_token"];
    for name in names {
        stage.lie(Endpoint::Userinfo, JsonSet(name, json!("canary")));
    }
    let sources = json!({"src": {"endpoint": "http://127.0.0.1:9/", "access_token": "canary"}});
    stage.lie(Endpoint::Userinfo, JsonSet("_claim_sources", sources.clone()));
    let in_token = vestibule::demo::provider::JwtMutation::SetClaim("_claim_sources", sources);
    stage.lie(Endpoint::Token, Kind::IdToken(in_token));
    let grant = stage.login().await.unwrap();
    for name in names.into_iter().chain(["_claim_sources"]) {
        assert_eq!(grant.userinfo.get(name), None, "{name}");
    }
    assert_eq!(grant.claims.get("_claim_sources"), None);
    assert_ne!(grant.sid.as_deref(), Some("canary"));
}

#[tokio::test]
async fn u07_a_signed_answer_is_verified() {
    let stage = Stage::new().await;
    let jwt = || HeaderSet(CONTENT_TYPE, HeaderValue::from_static("application/jwt"));
    let first = stage.login().await.unwrap();
    // A JWT of the issuer's for this client and user: the ID token of an earlier login will do.
    stage.lie(Endpoint::Userinfo, jwt());
    stage.lie(Endpoint::Userinfo, BodyReplace(Bytes::from(first.id_token.expose().to_owned())));
    let second = stage.login().await.unwrap();
    assert_eq!(claim(&second.userinfo, "email"), Some("alice@example.com"));
    // One of another kind, or for somebody else, will not.
    stage.lie(Endpoint::Userinfo, jwt());
    stage.lie(Endpoint::Userinfo, BodyReplace(Bytes::from(first.access_token.expose().to_owned())));
    refused("U07 kind", stage.login().await, "typ is that of another kind");
    let mut forged = first.id_token.expose().to_owned().into_bytes();
    let last = forged.len() - 10;
    forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
    stage.lie(Endpoint::Userinfo, jwt());
    stage.lie(Endpoint::Userinfo, BodyReplace(Bytes::from(forged)));
    refused("U07 signature", stage.login().await, "signature is wrong");
}

#[tokio::test]
async fn the_registration_decides_whether_userinfo_is_asked() {
    let asked = |userinfo: Userinfo, scopes: &'static [&'static str]| async move {
        let stage = Stage::with(Options::default(), |script| {
            script.userinfo = userinfo;
            script.scopes = scopes.to_vec();
        })
        .await;
        stage.login().await.unwrap();
        stage.op.count(Endpoint::Userinfo)
    };
    assert_eq!(asked(Userinfo::Auto, &["openid", "profile"]).await, 1);
    assert_eq!(asked(Userinfo::Auto, &["openid"]).await, 0);
    assert_eq!(asked(Userinfo::Required, &["openid"]).await, 1);
    assert_eq!(asked(Userinfo::Off, &["openid", "profile"]).await, 0);
    let stage = Stage::with(Options::default(), |script| script.userinfo = Userinfo::Required).await;
    stage.lie(Endpoint::Discovery, JsonRemove("userinfo_endpoint"));
    refused("U09", stage.login().await, "has no userinfo endpoint");
    let stage = Stage::new().await;
    stage.lie(Endpoint::Discovery, JsonSet("userinfo_endpoint", json!("")));
    assert!(stage.login().await.unwrap().userinfo.is_empty());
}
