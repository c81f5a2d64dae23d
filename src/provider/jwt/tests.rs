//! Tokens that are odd in ways that a well-meaning provider's library cannot produce.
#![expect(clippy::string_slice, reason = "tests fail by panicking")]

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::json;

use super::{Invalid, Unverified};
use crate::config::SigningAlg;
use crate::provider::keys::KeySet;
use crate::provider::testing::{Signer, set};

const ALL: &[SigningAlg] =
    &[SigningAlg::RS256, SigningAlg::PS256, SigningAlg::ES256, SigningAlg::ES384, SigningAlg::EdDSA];

/// Parses and verifies with a set of one key.
fn verify(signer: &Signer, token: &str) -> Result<usize, Invalid> {
    let keys = KeySet::parse(&set(std::slice::from_ref(&signer.jwk))).unwrap();
    let token = Unverified::parse(token, 8192)?;
    let signed = token.check(&keys, ALL)?;
    let claims = token.read()?;
    Ok(token.verified(claims, signed).claims.len())
}

#[test]
fn jv_7_what_is_signed_by_the_key_is_accepted() {
    for (alg, name) in [
        (Algorithm::RS256, "RS256"),
        (Algorithm::PS256, "PS256"),
        (Algorithm::ES256, "ES256"),
        (Algorithm::ES384, "ES384"),
        (Algorithm::EdDSA, "EdDSA"),
        (Algorithm::EdDSA, "Ed25519"),
    ] {
        let signer = Signer::new(alg);
        let token = signer.token(&format!(r#"{{"alg":"{name}","kid":"k"}}"#), r#"{"a":1}"#);
        assert_eq!(verify(&signer, &token), Ok(1), "{name}");
        assert!(verify(&Signer::new(Algorithm::ES256), &token).is_err(), "{name}");
    }
}

#[test]
fn i02_i05_b03_symmetric_and_no_algorithms_do_not_exist() {
    let signer = Signer::new(Algorithm::RS256);
    for alg in ["none", "None", "NONE", "", "HS256", "HS384", "HS512", "rs256", "RS256 ", "ES512", "ES256K", "Ed448"] {
        let token = signer.token(&json!({"alg": alg, "kid": "k"}).to_string(), "{}");
        assert_eq!(
            verify(&signer, &token),
            Err(Invalid::Rule("its alg is not an asymmetric one that we know")),
            "{alg}"
        );
    }
}

#[test]
fn b17_b25_the_algorithm_is_the_keys() {
    // An ES256 header over a P-384 key, an ES384 header over a P-256 key, RS256 over either.
    for (key, alg) in [(Algorithm::ES384, "ES256"), (Algorithm::ES256, "ES384"), (Algorithm::ES256, "RS256")] {
        let signer = Signer::new(key);
        let token = signer.token(&json!({"alg": alg, "kid": "k"}).to_string(), "{}");
        assert_eq!(verify(&signer, &token), Err(Invalid::NoKey), "{alg}");
    }
    // A key that says RS256 does not verify PS256 although it could (K10).
    let mut signer = Signer::new(Algorithm::PS256);
    signer.jwk.insert("alg".to_owned(), json!("RS256"));
    let token = signer.token(r#"{"alg":"PS256","kid":"k"}"#, "{}");
    assert_eq!(verify(&signer, &token), Err(Invalid::NoKey));
}

#[test]
fn i40_only_the_canonical_encoding_is_read() {
    let signer = Signer::new(Algorithm::ES256);
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"k"}"#);
    let payload = URL_SAFE_NO_PAD.encode(r#"{"a":"~~~???"}"#);
    assert_eq!(verify(&signer, &signer.sign(&format!("{header}.{payload}"))), Ok(1));
    // Each of these is signed as it stands, so nothing but the encoding is wrong with it.
    for (header, payload) in [
        (format!("{header}="), payload.clone()),
        (format!(" {header}"), payload.clone()),
        (header.clone(), format!("{payload}==")),
        (header.clone(), format!("{payload}\n")),
        (header.clone(), payload.replace(['-', '_'], "/")),
        // The last character has bits that encode nothing; here they are set.
        (header.clone(), "e31".to_owned()),
        (header, String::new()),
    ] {
        let token = signer.sign(&format!("{header}.{payload}"));
        assert!(matches!(verify(&signer, &token), Err(Invalid::Rule(_))), "{token}");
    }
}

#[test]
fn i40_i44_only_the_canonical_signature_is_read() {
    let signer = Signer::new(Algorithm::ES256);
    let token = signer.token(r#"{"alg":"ES256","kid":"k"}"#, "{}");
    let (message, signature) = token.rsplit_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = raw.split_at(32);
    let der = [&[0x30, 70, 2, 33, 0][..], r, &[2, 33, 0], s].concat();
    let order = "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551";
    let order: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&order[at * 2..at * 2 + 2], 16).unwrap()).collect();
    for (id, forged) in [
        ("DER", der),
        ("zero", vec![0; 64]),
        ("r = n", [&order, s].concat()),
        ("s = n", [r, &order].concat()),
        ("63", raw[..63].to_vec()),
        ("65", [&raw[..], &[0]].concat()),
        ("empty", Vec::new()),
    ] {
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(forged));
        assert_eq!(verify(&signer, &token), Err(Invalid::Signature), "{id}");
    }
    assert_eq!(verify(&signer, &format!("{token}=")), Err(Invalid::Signature));
    assert_eq!(verify(&signer, &format!("{token}\n")), Err(Invalid::Signature));
}

#[test]
fn i08_no_bit_can_change() {
    let signer = Signer::new(Algorithm::EdDSA);
    let token = signer.token(r#"{"alg":"EdDSA","kid":"k"}"#, r#"{"a":1}"#);
    for at in 0..token.len() {
        for bit in 0..7 {
            let mut bytes = token.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(verify(&signer, &changed).is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn jv_17_z13_what_is_too_long_costs_nothing() {
    let signer = Signer::new(Algorithm::ES256);
    let begun = Instant::now();
    for text in [".".repeat(1_000_000), "a".repeat(1_000_000), ".".repeat(8_192)] {
        for _ in 0..1_000 {
            assert!(matches!(Unverified::parse(&text, 8192), Err(Invalid::Rule(_))));
        }
    }
    assert!(begun.elapsed().as_millis() < 500, "{:?}", begun.elapsed());
    let long = signer.token(r#"{"alg":"ES256","kid":"k"}"#, &json!({"a": "x".repeat(8_192)}).to_string());
    assert_eq!(verify(&signer, &long), Err(Invalid::Rule("it is too long")));
}

#[test]
fn i11_b24_header_and_payload_are_objects() {
    let signer = Signer::new(Algorithm::ES256);
    for header in ["[]", "\"x\"", "5", "null", "", "{", r#"{"alg":"ES256","kid":"k","kid":"k"}"#] {
        assert!(matches!(verify(&signer, &signer.token(header, "{}")), Err(Invalid::Rule(_))), "{header}");
    }
    for payload in ["[]", "\"x\"", "5", "null", "", "{", r#"{"a":1,"a":1}"#, r#"{"a":{"b":1,"b":2}}"#, "\u{feff}{}"] {
        let token = signer.token(r#"{"alg":"ES256","kid":"k"}"#, payload);
        assert_eq!(verify(&signer, &token), Err(Invalid::Rule("its payload is not a JSON object")), "{payload}");
    }
}
