//! Table K, key by key: what is dropped, and that the good key beside it stays.
#![expect(clippy::string_slice, reason = "tests fail by panicking")]

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value, json};

use super::KeySet;
use crate::config::SigningAlg;
use crate::provider::testing::{Signer, set};

/// `base` with these members set; null leaves one out.
fn with(base: &Map<String, Value>, changes: &Value) -> Map<String, Value> {
    let mut key = base.clone();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(key.remove(name)),
            value => drop(key.insert(name.clone(), value.clone())),
        }
    }
    key
}

#[test]
fn jv_8_table_k_unusable_keys_are_dropped_one_by_one() {
    let good = Signer::new(Algorithm::ES256).jwk;
    let rsa = with(&Signer::new(Algorithm::RS256).jwk, &json!({"kid": "bad", "alg": null}));
    let ec = with(&Signer::new(Algorithm::ES256).jwk, &json!({"kid": "bad"}));
    let okp = with(&Signer::new(Algorithm::EdDSA).jwk, &json!({"kid": "bad"}));
    let modulus = rsa["n"].as_str().unwrap();
    let rows = [
        ("K06", with(&rsa, &json!({"n": null}))),
        ("K06", with(&rsa, &json!({"e": null}))),
        ("K06", with(&ec, &json!({"y": null}))),
        ("K07 secp256k1", with(&ec, &json!({"crv": "secp256k1", "alg": null}))),
        ("K07 P-521", with(&ec, &json!({"crv": "P-521", "alg": null}))),
        ("K07 X25519", with(&okp, &json!({"crv": "X25519", "alg": null}))),
        ("K07 Ed448", with(&okp, &json!({"crv": "Ed448", "alg": null}))),
        ("K07 AKP", with(&okp, &json!({"kty": "AKP", "crv": null, "alg": "ML-DSA-44", "pub": "AAAA"}))),
        ("K07 unknown kty", with(&okp, &json!({"kty": "XYZ"}))),
        ("K07 no kty", with(&okp, &json!({"kty": null}))),
        ("K09", with(&rsa, &json!({"use": "enc"}))),
        ("K09 use is a list", with(&rsa, &json!({"use": ["sig"]}))),
        ("K10 HS256", with(&rsa, &json!({"alg": "HS256"}))),
        ("K10 RSA-OAEP", with(&rsa, &json!({"alg": "RSA-OAEP"}))),
        ("K10 another family", with(&rsa, &json!({"alg": "ES256"}))),
        ("K10 alg is a number", with(&rsa, &json!({"alg": 256}))),
        ("K11", with(&rsa, &json!({"key_ops": ["encrypt"]}))),
        ("K11", with(&rsa, &json!({"key_ops": []}))),
        ("K11", with(&rsa, &json!({"key_ops": "verify"}))),
        ("K11 use and key_ops", with(&rsa, &json!({"use": "enc", "key_ops": ["verify"]}))),
        ("K12 1024 bits", with(&rsa, &json!({"n": &modulus[..171]}))),
        ("K12 512 bits", with(&rsa, &json!({"n": &modulus[..86]}))),
        ("K12 zeros before 2040 bits", with(&rsa, &json!({"n": format!("AAAA{}", &modulus[..340])}))),
        ("K12 nothing", with(&rsa, &json!({"n": ""}))),
        ("K13 e = 1", with(&rsa, &json!({"e": "AQ"}))),
        ("K13 e is even", with(&rsa, &json!({"e": "AQAA"}))),
        ("K13 e = 0", with(&rsa, &json!({"e": "AA"}))),
        ("K13 e is huge", with(&rsa, &json!({"e": "AQAAAAAAAAAB"}))),
        ("K14 off the curve", with(&ec, &json!({"x": "A".repeat(42) + "E"}))),
        ("K14 at infinity", with(&ec, &json!({"x": "A".repeat(43), "y": "A".repeat(43)}))),
        ("K14 short", with(&ec, &json!({"x": "AAAA"}))),
        ("K15 Ed25519 short", with(&okp, &json!({"x": "AAAA"}))),
        ("K16 standard alphabet", with(&rsa, &json!({"n": modulus.replace(['-', '_'], "+") + "=="}))),
        ("K19 long kid", with(&rsa, &json!({"kid": "x".repeat(100_000)}))),
        ("K19 NUL", with(&rsa, &json!({"kid": "a\u{0}"}))),
        ("K19 traversal", with(&rsa, &json!({"kid": "../../etc/passwd"}))),
        ("K19 number", with(&rsa, &json!({"kid": 5}))),
        ("K19 list", with(&rsa, &json!({"kid": ["bad"]}))),
        ("K27", with(&rsa, &json!({"n": null, "e": null, "x5u": "http://127.0.0.1:9/", "x5c": ["AA=="]}))),
    ];
    for (id, bad) in rows {
        for keys in [[bad.clone(), good.clone()], [good.clone(), bad]] {
            let keys = KeySet::parse(&set(&keys)).unwrap_or_else(|rule| panic!("{id}: {rule}"));
            assert_eq!(keys.len(), 1, "{id}");
            assert!(keys.select(SigningAlg::ES256, Some("k")).is_some(), "{id}");
            assert!(!keys.private_key_published, "{id}");
        }
    }
}

#[test]
fn k17_private_and_symmetric_keys_are_dropped_and_told() {
    let good = Signer::new(Algorithm::ES256).jwk;
    for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        let bad = with(&good, &json!({"kid": "bad", name: "AAAA"}));
        let keys = KeySet::parse(&set(&[bad.clone(), good.clone()])).unwrap();
        assert_eq!(keys.len(), 1);
        assert!(keys.private_key_published, "{name}");
        assert!(KeySet::parse(&set(&[bad])).is_err());
    }
}

#[test]
fn k07_members_that_are_no_objects_and_members_twice_are_dropped() {
    let good = json!(Signer::new(Algorithm::ES256).jwk).to_string();
    let twice = good.replacen('{', r#"{"use":"sig","use":"sig","#, 1);
    for odd in ["5", "null", "[]", "\"x\"", "{}", twice.as_str()] {
        let keys = KeySet::parse(format!(r#"{{"keys":[{odd},{good}]}}"#).as_bytes()).unwrap();
        assert_eq!(keys.len(), 1, "{odd}");
    }
    assert!(KeySet::parse(format!(r#"{{"keys":[{good}],"keys":[]}}"#).as_bytes()).is_err());
    assert!(KeySet::parse(format!(r#"{{"keys":[{good}]}} x"#).as_bytes()).is_err());
}

#[test]
fn k18_a_set_has_a_hundred_members_at_most() {
    let good = Signer::new(Algorithm::ES256).jwk;
    let many =
        |count: usize| set(&(0..count).map(|at| with(&good, &json!({"kid": format!("{at}")}))).collect::<Vec<_>>());
    assert_eq!(KeySet::parse(&many(100)).unwrap().len(), 100);
    assert!(KeySet::parse(&many(101)).is_err());
}

#[test]
fn jv_8_a_kid_that_names_two_keys_names_none() {
    let (a, b) = (Signer::new(Algorithm::ES256).jwk, Signer::new(Algorithm::ES256).jwk);
    let other = with(&Signer::new(Algorithm::ES256).jwk, &json!({"kid": "other"}));
    let keys = KeySet::parse(&set(&[a.clone(), b, other])).unwrap();
    assert!(keys.select(SigningAlg::ES256, Some("k")).is_none());
    assert!(keys.select(SigningAlg::ES256, Some("other")).is_some());
    // The same key twice is one key, and keys for different algorithms do not compete.
    let rsa = Signer::new(Algorithm::RS256).jwk;
    let keys = KeySet::parse(&set(&[a.clone(), a, rsa])).unwrap();
    assert_eq!(keys.len(), 2);
    assert!(keys.select(SigningAlg::ES256, Some("k")).is_some() && keys.select(SigningAlg::RS256, Some("k")).is_some());
}

#[test]
fn jv_15_without_kid_one_key_must_fit_alone() {
    let one = Signer::new(Algorithm::ES256).jwk;
    let two = with(&Signer::new(Algorithm::ES256).jwk, &json!({"kid": "k2"}));
    let rsa = with(&Signer::new(Algorithm::RS256).jwk, &json!({"alg": null}));
    let keys = KeySet::parse(&set(&[one.clone(), rsa.clone()])).unwrap();
    assert!(keys.select(SigningAlg::ES256, None).is_some() && keys.select(SigningAlg::PS256, None).is_some());
    let keys = KeySet::parse(&set(&[one, two, rsa])).unwrap();
    assert!(keys.select(SigningAlg::ES256, None).is_none());
    assert!(keys.select(SigningAlg::ES384, None).is_none() && keys.select(SigningAlg::ES256, Some("K")).is_none());
}

#[test]
fn a_leading_zero_does_not_make_a_key_another() {
    let rsa = Signer::new(Algorithm::RS256);
    let padded = with(&rsa.jwk, &json!({"e": "AAAAAAEAAQ"}));
    let keys = KeySet::parse(&set(&[padded])).unwrap();
    let token = rsa.token(r#"{"alg":"RS256","kid":"k"}"#, "{}");
    let token = crate::provider::jwt::Unverified::parse(&token, 8192).unwrap();
    assert!(token.check(&keys, &[SigningAlg::RS256]).is_ok());
}
