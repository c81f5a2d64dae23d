//! Table K: key sets that are not believed, keys that rotate, and floods that do not multiply.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use vestibule::demo::provider::JwtMutation::SetHeader;
use vestibule::demo::provider::Kind::{
    BodyReplace, Close, DelayBefore, Endless, HeaderSet, IdToken, JsonRemove, JsonSet, Redirect, RotateKeys, Status,
};
use vestibule::demo::provider::{Endpoint, Kind, Mutation};

use super::stage::{Stage, ask, eventually, refused};

/// A few of the many ways in which a set can be bad.
pub fn bad_sets() -> Vec<(&'static str, Kind)> {
    let many: Vec<_> = (0..10_000).map(|_| json!({})).collect();
    vec![
        ("K02 empty", JsonSet("keys", json!([]))),
        ("K03 missing", JsonRemove("keys")),
        ("K03 null", JsonSet("keys", json!(null))),
        ("K03 object", JsonSet("keys", json!({}))),
        ("K02 no JSON", BodyReplace(Bytes::from_static(b"<h1>keys</h1>"))),
        ("K04 404", Status(StatusCode::NOT_FOUND)),
        ("K04 500", Status(StatusCode::INTERNAL_SERVER_ERROR)),
        ("K04 reset", Close),
        ("K05", Redirect(StatusCode::FOUND, "http://127.0.0.1:9/".to_owned())),
        ("K18", JsonSet("keys", json!(many))),
        ("K29", Endless),
        ("OG-4", HeaderSet(CONTENT_TYPE, "text/html".parse().unwrap())),
        ("K07 oct", JsonSet("keys", json!([{"kty": "oct", "k": "c2VjcmV0", "kid": "a", "alg": "HS256"}]))),
        ("K27", JsonSet("keys", json!([{"kty": "RSA", "kid": "a", "x5u": "http://127.0.0.1:9/", "x5c": ["AA=="]}]))),
    ]
}

#[tokio::test]
async fn jv_16_without_a_good_set_no_token_is_believed() {
    let mut stage = Stage::new().await;
    for (id, kind) in bad_sets() {
        stage.op.mutate(Mutation::always(Endpoint::Jwks, kind));
        stage.restart();
        refused(id, stage.login().await, "not available");
        assert!(!stage.client.provider.is_ready(), "{id}");
        stage.op.clear_mutations();
    }
    eventually("it recovers", || stage.client.provider.is_ready()).await;
    stage.login().await.unwrap();
}

#[tokio::test]
async fn jv_16_a_bad_set_never_replaces_a_good_one() {
    let stage = Stage::new().await;
    for (id, kind) in bad_sets() {
        stage.ready().await;
        // The clock moves so that every row may force a fetch.
        stage.clock.shift(60);
        let before = stage.op.count(Endpoint::Jwks);
        stage.lie(Endpoint::Jwks, kind);
        stage.lie(Endpoint::Token, IdToken(SetHeader("kid", json!("unknown"))));
        refused(id, stage.login().await, "no published key fits");
        assert_eq!(stage.op.count(Endpoint::Jwks), before + 1, "{id}");
        stage.login().await.unwrap_or_else(|error| panic!("{id}: {error}"));
    }
}

#[tokio::test]
async fn k23_keys_rotate_between_two_logins() {
    let stage = Stage::new().await;
    stage.login().await.unwrap();
    let before = stage.op.count(Endpoint::Jwks);
    stage.op.rotate_keys().unwrap();
    stage.login().await.unwrap();
    assert_eq!(stage.op.count(Endpoint::Jwks), before + 1);
    // K24: what the old keys signed is refused now.
    let kid = json!("gone");
    stage.lie(Endpoint::Token, IdToken(SetHeader("kid", kid)));
    refused("K24", stage.login().await, "no published key fits");
}

#[tokio::test]
async fn keys_rotate_just_before_they_sign_and_again() {
    let stage = Stage::new().await;
    for _ in 0..3 {
        stage.lie(Endpoint::Token, RotateKeys);
        stage.login().await.unwrap();
    }
}

#[tokio::test]
async fn k25_the_same_kid_with_new_material() {
    let stage = Stage::new().await;
    let stale: Value = serde_json::from_str(&get(&stage.op.url(Endpoint::Jwks)).await).unwrap();
    let mut stale = stale["keys"].clone();
    for key in stale.as_array_mut().unwrap().iter_mut().filter(|key| key["kty"] == "RSA") {
        let modulus = key["n"].as_str().unwrap();
        let middle = if &modulus[100..104] == "AAAA" { "BBBB" } else { "AAAA" };
        key["n"] = json!(format!("{}{middle}{}", &modulus[..100], &modulus[104..]));
    }
    stage.lie(Endpoint::Jwks, JsonSet("keys", stale));
    stage.ready().await;
    let before = stage.op.count(Endpoint::Jwks);
    stage.login().await.unwrap();
    assert_eq!(stage.op.count(Endpoint::Jwks), before + 1);
}

#[tokio::test]
async fn k20_jv_14_a_flood_of_unknown_keys_is_a_handful_of_fetches() {
    let stage = Stage::new().await;
    stage.ready().await;
    let before = stage.op.count(Endpoint::Jwks);
    for number in 0..40 {
        stage.lie(Endpoint::Token, IdToken(SetHeader("kid", json!(format!("made-up-{number}")))));
        refused("K20", stage.login().await, "no published key fits");
    }
    let fetches = stage.op.count(Endpoint::Jwks) - before;
    assert!((1..=4).contains(&fetches), "{fetches}");
    // Whoever signs with a known key is not held up by it.
    stage.login().await.unwrap();
}

#[tokio::test]
async fn k21_many_wait_for_a_fetch_that_dies() {
    let stage = Stage::new().await;
    stage.ready().await;
    let mut logins = Vec::new();
    for _ in 0..50 {
        let (attempt, query) = stage.arrive(&ask()).await.unwrap();
        let callback = stage.client.accept(attempt, &query, stage.now()).unwrap();
        let (client, now) = (stage.client.clone(), stage.now());
        logins.push(async move { client.exchange(callback, now).await });
    }
    let unknown = Mutation::always(Endpoint::Token, IdToken(SetHeader("kid", json!("unknown"))));
    stage.op.mutate(unknown);
    stage.op.mutate(Mutation::always(Endpoint::Jwks, DelayBefore(Duration::from_millis(1_500))));
    stage.op.mutate(Mutation::always(Endpoint::Jwks, Close));
    let begun = Instant::now();
    let before = stage.op.count(Endpoint::Jwks);
    let logins: Vec<_> = logins.into_iter().map(tokio::spawn).collect();
    for login in logins {
        refused("K21", login.await.unwrap(), "no published key fits");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(stage.op.count(Endpoint::Jwks) - before, 1, "the fetch that died is the answer for all who waited");
    stage.op.clear_mutations();
    stage.clock.shift(60);
    stage.op.rotate_keys().unwrap();
    stage.login().await.unwrap();
}

#[tokio::test]
async fn jv_16_keys_grow_too_old_to_trust() {
    let stage = Stage::new().await;
    let grant = stage.login().await.unwrap();
    stage.op.mutate(Mutation::always(Endpoint::Jwks, Status(StatusCode::INTERNAL_SERVER_ERROR)));
    stage.clock.shift(23 * 3600);
    assert!(stage.client.provider.is_ready());
    stage.refresh(&grant).await.unwrap();
    stage.clock.shift(2 * 3600);
    assert!(!stage.client.provider.is_ready());
    refused("JV-16", stage.login().await, "not available");
    stage.op.clear_mutations();
    let begun = Instant::now();
    while stage.login().await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The body of a document of the provider's.
async fn get(url: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let url: url::Url = url.parse().unwrap();
    let address = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let request = format!("GET {} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n", url.path());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}
