//! Table T: what the token endpoint may answer, and what becomes of it.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde_json::json;
use vestibule::demo::provider::Kind::{
    BodyReplace, Close, DelayBefore, Endless, HeaderRemove, HeaderSet, JsonRaw, JsonRemove, JsonSet, Redirect, Status,
    Truncate,
};
use vestibule::demo::provider::{Endpoint, Kind};
use vestibule::provider::Error;

use crate::world::log;

use super::stage::{SECRET, Stage, refused};

fn body(text: &'static str) -> Kind {
    BodyReplace(Bytes::from_static(text.as_bytes()))
}

fn kind(text: &'static str) -> Kind {
    HeaderSet(CONTENT_TYPE, HeaderValue::from_static(text))
}

#[tokio::test]
async fn table_t_answers_that_log_nobody_in() {
    let stage = Stage::new().await;
    let rows: Vec<(&str, Vec<Kind>, &str)> = vec![
        ("T02", vec![body(r#"{"error":"invalid_grant"}"#)], "reports an error with status 200"),
        ("T03", vec![Status(StatusCode::BAD_REQUEST), body(r#"{"error":"invalid_grant"}"#)], "refused the grant"),
        ("T04", vec![Status(StatusCode::UNAUTHORIZED), body(r#"{"error":"invalid_client"}"#)], "invalid_client"),
        ("T05", vec![Status(StatusCode::INTERNAL_SERVER_ERROR), kind("text/html"), body("<h1>no</h1>")], "status 500"),
        ("T06", vec![Status(StatusCode::BAD_REQUEST), kind("text/html"), body("<h1>no</h1>")], "status 400"),
        ("T06", vec![Status(StatusCode::BAD_REQUEST), body("not json")], "status 400"),
        ("OG-4", vec![Status(StatusCode::CREATED)], "status 201"),
        ("OG-4", vec![Status(StatusCode::NO_CONTENT)], "status 204"),
        ("OG-1", vec![Redirect(StatusCode::TEMPORARY_REDIRECT, "http://127.0.0.1:9/".to_owned())], "status 307"),
        ("T07", vec![JsonRemove("access_token")], "access_token is missing"),
        ("T08", vec![JsonSet("access_token", json!(""))], "access_token is empty"),
        ("T09", vec![JsonSet("access_token", json!(5))], "access_token is not a string"),
        ("T09", vec![JsonSet("access_token", json!(null))], "access_token is missing"),
        ("T09", vec![JsonSet("access_token", json!(["x"]))], "access_token is not a string"),
        ("PX-21", vec![JsonSet("token_type", json!("DPoP"))], "token_type is not Bearer"),
        ("PX-21", vec![JsonSet("token_type", json!("mac"))], "token_type is not Bearer"),
        ("PX-21", vec![JsonRemove("token_type")], "token_type is missing"),
        ("PX-21", vec![JsonSet("token_type", json!(1))], "token_type is not a string"),
        ("T13", vec![JsonRemove("id_token")], "id_token is missing"),
        ("T13", vec![JsonSet("id_token", json!(null))], "id_token is missing"),
        ("T14", vec![JsonSet("access_token", json!("canary\r\nSet-Cookie: x"))], "characters that no token has"),
        ("T14", vec![JsonSet("access_token", json!("canary\u{0}"))], "characters that no token has"),
        ("T14", vec![JsonSet("access_token", json!("canary canary"))], "characters that no token has"),
        ("T14", vec![JsonSet("access_token", json!("canäry"))], "characters that no token has"),
        ("T15", vec![JsonSet("access_token", json!("x".repeat(16_385)))], "too long"),
        ("T15", vec![JsonSet("access_token", json!("x".repeat(1_000_000)))], "body is too large"),
        ("T16", vec![JsonSet("refresh_token", json!("canary\n"))], "refresh_token"),
        ("T20", vec![JsonRaw(r#""access_token":"x","#.to_owned())], "not one strict JSON object"),
        ("T20", vec![JsonRaw(r#""id_token":"x","#.to_owned())], "not one strict JSON object"),
        ("T22", vec![JsonSet("id_token", json!(5))], "id_token is not a string"),
        ("T22", vec![JsonSet("id_token", json!({"a": 1}))], "id_token is not a string"),
        ("T23", vec![kind("application/x-www-form-urlencoded"), body("access_token=x")], "content type"),
        ("T24", vec![kind("text/plain")], "content type"),
        ("OG-4", vec![HeaderRemove(CONTENT_TYPE)], "content type"),
        ("T25", vec![body("{} {}")], "not one strict JSON object"),
        ("T25", vec![body("{}x")], "not one strict JSON object"),
        ("T27", vec![body("\u{feff}{}")], "not one strict JSON object"),
        ("T27", vec![BodyReplace(Bytes::from_static(b"{\"a\":\"\xff\"}"))], "not one strict JSON object"),
        ("T27", vec![BodyReplace(Bytes::from_static(b"{\0\"\0a\0\"\0"))], "not one strict JSON object"),
        ("T28", vec![body("[]")], "not one strict JSON object"),
        ("T28", vec![body("")], "not one strict JSON object"),
        ("D25", vec![HeaderSet(CONTENT_ENCODING, HeaderValue::from_static("gzip"))], "encoded"),
        ("T29", vec![Truncate(10)], "not available"),
        ("Z05", vec![Endless], "too large"),
        ("T30", vec![Close], "cannot be reached"),
    ];
    for (id, kinds, expected) in rows {
        let before = stage.op.count(Endpoint::Token);
        kinds.iter().cloned().for_each(|kind| stage.lie(Endpoint::Token, kind));
        refused(&format!("{id} {kinds:?}"), stage.login().await, expected);
        assert_eq!(stage.op.count(Endpoint::Token), before + 1, "{id}: the code goes out once (CB-19)");
    }
    assert_eq!(stage.op.count(Endpoint::Userinfo), 0);
    stage.login().await.unwrap();
}

#[tokio::test]
async fn t17_t18_t19_lifetimes_are_clamped_and_never_wrap() {
    const TEN_YEARS: u64 = 10 * 365 * 24 * 3600;
    let stage = Stage::new().await;
    for (value, expected) in [
        (None, 3600),
        (Some(json!(120)), 120),
        (Some(json!("3600")), 3600),
        (Some(json!("3600.9")), 3600),
        (Some(json!(3.7)), 3),
        (Some(json!(0)), 0),
        (Some(json!(-1)), 0),
        (Some(json!(1e300)), TEN_YEARS),
        (Some(json!(-1e300)), 0),
        (Some(json!(9_223_372_036_854_775_808_u64)), TEN_YEARS),
        (Some(json!(u64::MAX)), TEN_YEARS),
        (Some(json!(null)), 3600),
        (Some(json!("soon")), 3600),
        (Some(json!([1])), 3600),
    ] {
        let lie = value.clone().map_or(JsonRemove("expires_in"), |value| JsonSet("expires_in", value));
        stage.lie(Endpoint::Token, lie);
        let before = stage.now();
        let ends = stage.login().await.unwrap().access_expires_at;
        let (least, most) = (before.plus(Duration::from_secs(expected)), Duration::from_secs(expected + 5));
        assert!(ends >= least && ends <= before.plus(most), "{value:?}: {ends}");
    }
}

#[tokio::test]
async fn table_t_answers_that_log_in() {
    let stage = Stage::new().await;
    for (id, lie) in [
        ("FAPI2 token_type", JsonSet("token_type", json!("bEARER"))),
        ("T21", JsonSet("scope", json!("openid"))),
        ("T26 unknown member", JsonSet("not_before", json!({"a": [1, 2]}))),
        ("no refresh token", JsonRemove("refresh_token")),
        ("empty refresh token", JsonSet("refresh_token", json!(""))),
        ("charset", kind("Application/JSON; charset=utf-8")),
    ] {
        stage.lie(Endpoint::Token, lie);
        stage.login().await.unwrap_or_else(|error| panic!("{id}: {error}"));
    }
    // T15: up to the cap. The ID token's at_hash is for another one then, and goes.
    let long = "x".repeat(16_384);
    stage.lie(Endpoint::Token, JsonSet("access_token", json!(long)));
    let remove = vestibule::demo::provider::JwtMutation::RemoveClaim("at_hash");
    stage.lie(Endpoint::Token, Kind::IdToken(remove));
    stage.lie(Endpoint::Userinfo, Status(StatusCode::OK));
    stage.lie(Endpoint::Userinfo, body(r#"{"sub":"alice-0001"}"#));
    stage.lie(Endpoint::Userinfo, kind("application/json"));
    assert_eq!(stage.login().await.unwrap().access_token.expose(), long);
}

#[tokio::test]
async fn t34_an_echoed_secret_is_neither_shown_nor_logged() {
    log::capture();
    let before = log::position();
    let stage = Stage::new().await;
    stage.lie(Endpoint::Token, Status(StatusCode::BAD_REQUEST));
    let echo = json!({"error": "invalid_request", "error_description": format!("bad {SECRET}")}).to_string();
    stage.lie(Endpoint::Token, BodyReplace(Bytes::from(echo)));
    refused("T34", stage.login().await, "invalid_request");
    let logged = log::since(before);
    assert!(logged.contains("[echoes a secret]") && !logged.contains(SECRET), "{logged}");
    stage.lie(Endpoint::Token, Status(StatusCode::BAD_REQUEST));
    let odd = json!({"error": format!("\u{1b}[31m\u{202e}{}", "x".repeat(300))}).to_string();
    stage.lie(Endpoint::Token, BodyReplace(Bytes::from(odd)));
    let Err(Error::Refused(code)) = stage.login().await else { panic!("not refused") };
    assert!(code.len() < 300 && code.bytes().all(|byte| byte.is_ascii_graphic()), "{code}");
    stage.lie(Endpoint::Token, Status(StatusCode::BAD_REQUEST));
    let explained = json!({"error": "invalid_scope", "error_description": "no scope\nof this name"}).to_string();
    stage.lie(Endpoint::Token, BodyReplace(Bytes::from(explained)));
    refused("T34", stage.login().await, "invalid_scope");
    assert!(log::since(before).contains("no scope"), "what echoes nothing helps whoever reads the log");
}

#[tokio::test]
async fn t33_og_3_an_answer_after_the_deadline_is_none() {
    let stage = Stage::new().await;
    stage.lie(Endpoint::Token, DelayBefore(Duration::from_secs(30)));
    let begun = std::time::Instant::now();
    assert!(matches!(stage.login().await, Err(Error::Timeout("token"))));
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}
