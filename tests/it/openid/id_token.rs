//! Table I: ID tokens that must not log anybody in, and some that must.

use serde_json::{Value, json};
use vestibule::config::SigningAlg;
use vestibule::demo::provider::JwtMutation::{
    FlipBit, RawHeader, RawPayload, RemoveClaim, RemoveHeader, Segment, SetClaim, SetHeader, Sign, Text,
};
use vestibule::demo::provider::{Algorithm, Endpoint, JwtMutation, KeySet, Kind, Options, Secret, SignWith};
use vestibule::provider::Ask;

use super::stage::{Stage, ask, refused};

/// `{"alg":"RSA-OAEP","enc":"A128GCM","zip":"DEF"}`: what stands behind it would grow when it is opened.
const ENCRYPTED: &str = "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkExMjhHQ00iLCJ6aXAiOiJERUYifQ";

/// What table I names: each token is bent, and the login must fail for that reason, before userinfo is asked.
#[expect(clippy::too_many_lines, reason = "a table")]
#[tokio::test]
async fn table_i_bad_id_tokens() {
    let stage = Stage::new().await;
    let now = stage.now().unix();
    let issuer = stage.op.issuer().to_owned();
    let rows: Vec<(&str, JwtMutation, &str)> = vec![
        ("I02", Sign(SignWith::Nothing), "alg is not an asymmetric one"),
        ("I03", RemoveHeader("alg"), "no alg"),
        ("I03", SetHeader("alg", json!(5)), "alg is not a string"),
        ("D18 I04", Sign(SignWith::Hs256(super::stage::SECRET.into())), "alg is not an asymmetric one"),
        ("I05", Sign(SignWith::Hs256(Vec::new())), "alg is not an asymmetric one"),
        ("I06", Sign(SignWith::Published(Algorithm::ES256)), "alg is not allowed"),
        ("I08 signature", FlipBit(2), "signature is wrong"),
        ("I08 payload", FlipBit(1), "signature is wrong"),
        ("I09", Segment(2, String::new()), "signature is wrong"),
        ("I10", Text("a".to_owned()), "three parts"),
        ("I10", Text("a.b".to_owned()), "three parts"),
        ("I10", Text("a.b.c.d".to_owned()), "three parts"),
        ("I10", Text("a.b.c.d.e".to_owned()), "three parts"),
        ("I10", Text(".".repeat(999)), "three parts"),
        ("Z14", Text(format!("{ENCRYPTED}.a.b.{}.d", "A".repeat(1000))), "three parts"),
        ("I11", RawHeader("[1]".to_owned()), "header is not a JSON object"),
        ("I11", RawHeader(r#"{"alg":"RS256","alg":"RS256"}"#.to_owned()), "header is not a JSON object"),
        ("I11", RawHeader("x".to_owned()), "header is not a JSON object"),
        ("I11", Segment(0, "!!".to_owned()), "header is not a JSON object"),
        ("I12", SetHeader("kid", json!("mine")), "no published key fits"),
        ("I13", Sign(SignWith::Stranger), "signature is wrong"),
        ("I14", SetHeader("crit", json!(["x"])), "extension"),
        ("I14", SetHeader("crit", json!([])), "extension"),
        ("I14", SetHeader("crit", json!(["b64"])), "extension"),
        ("JV-10", SetHeader("b64", json!(true)), "extension"),
        ("JV-10", SetHeader("zip", json!("DEF")), "extension"),
        ("JV-10", SetHeader("enc", json!("A128GCM")), "extension"),
        ("I15", SetHeader("kid", json!(7)), "kid is not a string"),
        ("I17", SetHeader("typ", json!("at+jwt")), "typ is not"),
        ("I17", SetHeader("typ", json!("logout+jwt")), "typ is not"),
        ("I17", SetHeader("typ", json!("dpop+jwt")), "typ is not"),
        ("I17", SetHeader("typ", json!(1)), "typ is not a string"),
        ("I18", SetClaim("iss", json!("https://evil.example")), "iss is not the issuer"),
        ("I18 slash", SetClaim("iss", json!(format!("{issuer}/"))), "iss is not the issuer"),
        ("I18 case", SetClaim("iss", json!(issuer.replace("http", "HTTP"))), "iss is not the issuer"),
        ("I18 array", SetClaim("iss", json!([issuer])), "iss is not the issuer"),
        ("I18 number", SetClaim("iss", json!(1)), "iss is not the issuer"),
        ("I18 missing", RemoveClaim("iss"), "iss is not the issuer"),
        ("I19 I41", SetClaim("aud", json!("other")), "aud does not name the client"),
        ("I19", RemoveClaim("aud"), "aud is missing"),
        ("I19", SetClaim("aud", json!(null)), "aud is missing"),
        ("I19", SetClaim("aud", json!([])), "aud does not name the client"),
        ("I19", SetClaim("aud", json!(["web", 5])), "aud is malformed"),
        ("I20", SetClaim("aud", json!(["web", "stranger"])), "aud names somebody unknown"),
        ("I23", SetClaim("azp", json!("other")), "azp is not the client"),
        ("I23", SetClaim("azp", json!(["web"])), "must be a string"),
        ("I26", RemoveClaim("exp"), "exp is missing"),
        ("I26", SetClaim("exp", json!((now + 300).to_string())), "must be a number"),
        ("I26", SetClaim("exp", json!(null)), "must be a number"),
        ("I27", SetClaim("exp", json!(-1)), "exp is past"),
        ("I27", SetClaim("exp", json!(now - 61)), "exp is past"),
        ("I27 NaN", RawPayload(r#"{"exp":NaN}"#.to_owned()), "payload is not a JSON object"),
        ("I28", SetClaim("nbf", json!(now + 120)), "nbf has not come"),
        ("I28", SetClaim("nbf", json!("0")), "must be a number"),
        ("I29", RemoveClaim("iat"), "iat is missing"),
        ("I29", SetClaim("iat", json!(now.to_string())), "must be a number"),
        ("I29", SetClaim("iat", json!(now + 600)), "iat is in the future"),
        ("I29", SetClaim("iat", json!(now - 315_360_000)), "iat is too old"),
        ("I30", RemoveClaim("nonce"), "nonce is missing"),
        ("I30 I42", SetClaim("nonce", json!("x".repeat(43))), "nonce is not the attempt's"),
        ("I30", SetClaim("nonce", json!(["x"])), "must be a string"),
        ("I30", SetClaim("nonce", json!(5)), "must be a string"),
        ("I32", RemoveClaim("sub"), "sub is missing"),
        ("I32", SetClaim("sub", json!("")), "sub is not"),
        ("I32", SetClaim("sub", json!(5)), "must be a string"),
        ("I32", SetClaim("sub", json!("x".repeat(256))), "sub is not"),
        ("I32", SetClaim("sub", json!("a\u{0}b")), "sub is not"),
        ("I33", SetClaim("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA")), "at_hash does not match"),
        ("I33 truncated", SetClaim("at_hash", json!("AAAA")), "at_hash does not match"),
        ("I33", SetClaim("at_hash", json!(1)), "must be a string"),
        ("I37", RawPayload(r#"[1,null,"s","iss","aud"]"#.to_owned()), "payload is not a JSON object"),
        ("I38", RawPayload(r#"{"iss":"a","iss":"a"}"#.to_owned()), "payload is not a JSON object"),
        ("I40 padding", Segment(1, "e30=".to_owned()), "signature is wrong"),
        ("I40 newline", Segment(1, "e3\n0".to_owned()), "signature is wrong"),
        ("I40 stray bits", Segment(2, "QQB".to_owned()), "signature is wrong"),
        ("I47", RawPayload(r#"{"sub":"\ud800"}"#.to_owned()), "payload is not a JSON object"),
        ("CB-15 sid", SetClaim("sid", json!(5)), "must be a string"),
    ];
    for (id, mutation, expected) in rows {
        stage.lie(Endpoint::Token, Kind::IdToken(mutation.clone()));
        refused(&format!("{id} {mutation:?}"), stage.login().await, expected);
        stage.op.clear_mutations();
    }
    assert_eq!(stage.op.count(Endpoint::Userinfo), 0, "no userinfo after a bad ID token");
    // Forced fetches stay within the bucket, however many tokens named unknown keys (JV-14).
    assert!(stage.op.count(Endpoint::Jwks) <= 1 + 3 + 1, "{}", stage.op.count(Endpoint::Jwks));
    stage.login().await.unwrap();
}

/// A provider that speaks in the name of another: its keys prove nothing there.
#[tokio::test]
async fn i16_a_token_that_another_provider_has_signed() {
    let (stage, other) = (Stage::new().await, Stage::new().await);
    other.lie(Endpoint::Token, Kind::IdToken(SetClaim("iss", json!(stage.op.issuer()))));
    refused("I16", other.login().await, "iss is not the issuer");
    let issued = other.op.issued().into_iter().rev().find(|(kind, _)| *kind == Secret::IdToken);
    let (_, token) = issued.unwrap();
    stage.lie(Endpoint::Token, Kind::IdToken(Text(token)));
    refused("I16", stage.login().await, "no published key fits");
}

#[tokio::test]
async fn table_i_good_id_tokens() {
    let stage = Stage::with(Options::default(), |script| script.additional_audiences.push("listed".to_owned())).await;
    let now = stage.now().unix();
    let listed = [SetClaim("aud", json!(["web", "listed"])), SetClaim("azp", json!("web"))];
    let many: Vec<Value> = (0..5_000).map(|number| json!(format!("group-{number}"))).collect();
    let rows: Vec<(&str, Vec<JwtMutation>)> = vec![
        ("I21", vec![SetClaim("aud", json!(["web"]))]),
        ("I22", listed.to_vec()),
        ("I23", vec![SetClaim("azp", json!("web"))]),
        ("I27", vec![SetClaim("exp", json!(1e300))]),
        ("I27", vec![SetClaim("exp", json!(u64::MAX))]),
        ("I27", vec![SetClaim("exp", json!(now - 45))]),
        ("I29", vec![SetClaim("iat", json!(now as f64 + 0.5))]),
        ("I34", vec![RemoveClaim("at_hash")]),
        ("I46", vec![SetClaim("groups", json!(many))]),
        ("typ absent", vec![RemoveHeader("typ")]),
        ("typ", vec![SetHeader("typ", json!("jwt"))]),
        ("unknown header", vec![SetHeader("ver", json!(1)), SetHeader("jku", json!("http://127.0.0.1:9/"))]),
        ("JV-9", vec![SetHeader("x5u", json!(["x"])), SetHeader("jwk", json!({"kty": "oct"}))]),
    ];
    for (id, mutations) in rows {
        for mutation in mutations {
            stage.lie(Endpoint::Token, Kind::IdToken(mutation));
        }
        if let Err(error) = stage.login().await {
            panic!("{id}: {error}");
        }
        stage.op.clear_mutations();
    }
    stage.lie(Endpoint::Token, Kind::IdToken(SetClaim("aud", json!(["web", "listed"]))));
    refused("I20 azp", stage.login().await, "azp is missing");
}

#[tokio::test]
async fn i01_every_algorithm_that_is_allowed() {
    for (algorithm, allowed) in [
        (Algorithm::RS256, SigningAlg::RS256),
        (Algorithm::PS256, SigningAlg::PS256),
        (Algorithm::ES256, SigningAlg::ES256),
        (Algorithm::ES384, SigningAlg::ES384),
        (Algorithm::EdDSA, SigningAlg::EdDSA),
    ] {
        let options = || Options { signing: algorithm, ..Options::default() };
        let stage = Stage::with(options(), |script| {
            script.provider.signing_algs = vec![allowed];
            script.require_at_hash = true;
        })
        .await;
        stage.login().await.unwrap_or_else(|error| panic!("{algorithm:?}: {error}"));
        let other = if allowed == SigningAlg::ES384 { SigningAlg::RS256 } else { SigningAlg::ES384 };
        let stage = Stage::with(options(), |script| script.provider.signing_algs = vec![other]).await;
        refused("JV-7 CF-12", stage.login().await, "none of the allowed algorithms");
    }
}

#[tokio::test]
async fn jv_15_without_kid_the_only_key_that_fits() {
    let single = Options { keys: KeySet::Single, ..Options::default() };
    let stage = Stage::with(single, |_| {}).await;
    stage.lie(Endpoint::Token, Kind::IdToken(RemoveHeader("kid")));
    stage.login().await.unwrap();
}

#[tokio::test]
async fn cb_17_i34_at_hash_can_be_required() {
    let stage = Stage::with(Options::default(), |script| script.require_at_hash = true).await;
    stage.lie(Endpoint::Token, Kind::IdToken(RemoveClaim("at_hash")));
    refused("I34", stage.login().await, "at_hash is missing");
    stage.login().await.unwrap();
}

#[tokio::test]
async fn cb_16_i36_what_was_asked_for_must_be_there() {
    let stage = Stage::new().await;
    let acr = Ask { acr_values: vec!["1".to_owned()], ..ask() };
    stage.login_as(&acr).await.unwrap();
    stage.lie(Endpoint::Token, Kind::IdToken(SetClaim("acr", json!("0"))));
    refused("I36", stage.login_as(&acr).await, "acr is not one of those asked for");
    stage.lie(Endpoint::Token, Kind::IdToken(RemoveClaim("acr")));
    refused("I36", stage.login_as(&acr).await, "acr is missing");
    let fresh = Ask { max_age: Some(std::time::Duration::from_secs(300)), ..ask() };
    stage.login_as(&fresh).await.unwrap();
    let old = stage.now().unix() - 400;
    stage.lie(Endpoint::Token, Kind::IdToken(SetClaim("auth_time", json!(old))));
    refused("CB-16", stage.login_as(&fresh).await, "auth_time is older");
    stage.lie(Endpoint::Token, Kind::IdToken(RemoveClaim("auth_time")));
    refused("CB-16", stage.login_as(&fresh).await, "auth_time is missing");
}
