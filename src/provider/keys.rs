//! The issuer's published keys (RFC 7517): read one by one, so that one odd key cannot take the others down.
//!
//! A key is kept only if it can be nothing but a public key for signatures of an algorithm that we know. What a token's
//! header says never widens what a key is for.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::jwt::algorithm;
use crate::config::SigningAlg;
use crate::web::strict_object;

/// Most members a key set may have; a provider signs with two or three.
const MAX_KEYS: usize = 100;

/// Longest `kid` in bytes.
const MAX_KID: usize = 256;

/// Usable keys, never empty. Two are equal when they verify the same tokens.
#[derive(Debug, PartialEq)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// Whether the provider published a private key; somebody must be told.
    pub(super) private_key_published: bool,
}

struct Key {
    kid: Option<String>,
    /// The key parsed once for each algorithm that it is for, because parsing costs a third of a verification; never
    /// empty.
    verifiers: Vec<(SigningAlg, ParsedPublicKey)>,
}

impl KeySet {
    /// Reads a JWK set, dropping what is not usable.
    ///
    /// # Errors
    /// A set that is malformed, has more than 100 keys, or has none that is usable.
    pub(super) fn parse(body: &[u8]) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        struct Members<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        let members: Members<'_> = serde_json::from_slice(body).map_err(|_| "it is not a JWK set")?;
        if members.keys.len() > MAX_KEYS {
            return Err("it has too many keys");
        }
        let mut private_key_published = false;
        let mut keys: Vec<Key> = Vec::new();
        for member in members.keys {
            match strict_object(member.get().as_bytes()).map_err(|_| Unusable::Odd).and_then(|jwk| Key::parse(&jwk)) {
                Ok(key) => keys.push(key),
                Err(Unusable::Private) => private_key_published = true,
                Err(Unusable::Odd) => {}
            }
        }
        let keys = without_ambiguous(keys);
        if keys.is_empty() { Err("it has no usable key") } else { Ok(Self { keys, private_key_published }) }
    }

    /// The key for a token signed with `alg` by the key named `kid`; without `kid`, the only key that fits
    /// (OpenID Connect Core 10.1).
    pub(super) fn select(&self, alg: SigningAlg, kid: Option<&str>) -> Option<&ParsedPublicKey> {
        let mut fitting = self.keys.iter().filter_map(|key| Some((key, key.verifier(alg)?)));
        if let Some(kid) = kid {
            return fitting.find(|(key, _)| key.kid.as_deref() == Some(kid)).map(|(_, verifier)| verifier);
        }
        match (fitting.next(), fitting.next()) {
            (Some((_, only)), None) => Some(only),
            _ => None,
        }
    }

    /// How many keys are usable.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

enum Unusable {
    /// Not for signatures, not of a kind that we know, too weak, or malformed.
    Odd,
    /// It has private members: whoever read the set can sign with it.
    Private,
}

impl Key {
    fn parse(jwk: &Map<String, Value>) -> Result<Self, Unusable> {
        // RFC 7518 6: members that only private and symmetric keys have.
        if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|name| jwk.contains_key(*name)) {
            return Err(Unusable::Private);
        }
        let signs = match (jwk.get("use"), jwk.get("key_ops")) {
            (None, None) => true,
            (Some(Value::String(usage)), None) => usage == "sig",
            (None, Some(operations)) => verifies(operations),
            (Some(Value::String(usage)), Some(operations)) => usage == "sig" && verifies(operations),
            (Some(_), _) => false,
        };
        if !signs {
            return Err(Unusable::Odd);
        }
        let mut verifiers = Self::material(jwk).ok_or(Unusable::Odd)?;
        match jwk.get("alg") {
            None => {}
            Some(Value::String(name)) => {
                let only = algorithm(name).ok_or(Unusable::Odd)?;
                verifiers.retain(|(alg, _)| *alg == only);
            }
            Some(_) => return Err(Unusable::Odd),
        }
        let kid = match jwk.get("kid") {
            None => None,
            Some(Value::String(kid)) if plausible(kid) => Some(kid.clone()),
            Some(_) => return Err(Unusable::Odd),
        };
        if verifiers.is_empty() { Err(Unusable::Odd) } else { Ok(Self { kid, verifiers }) }
    }

    /// The key, for each algorithm of its type.
    fn material(jwk: &Map<String, Value>) -> Option<Vec<(SigningAlg, ParsedPublicKey)>> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        match (text("kty")?, text("crv")) {
            ("RSA", None) => rsa(text("n")?, text("e")?),
            ("EC", Some("P-256")) => {
                Some(vec![(SigningAlg::ES256, ec(text("x")?, text("y")?, &ECDSA_P256_SHA256_FIXED, 32)?)])
            }
            ("EC", Some("P-384")) => {
                Some(vec![(SigningAlg::ES384, ec(text("x")?, text("y")?, &ECDSA_P384_SHA384_FIXED, 48)?)])
            }
            ("OKP", Some("Ed25519")) => {
                let key = coordinate(text("x")?, 32)?;
                Some(vec![(SigningAlg::EdDSA, ParsedPublicKey::new(&ED25519, key).ok()?)])
            }
            _ => None,
        }
    }

    fn verifier(&self, wanted: SigningAlg) -> Option<&ParsedPublicKey> {
        self.verifiers.iter().find(|(alg, _)| *alg == wanted).map(|(_, verifier)| verifier)
    }

    fn algs(&self) -> impl Iterator<Item = SigningAlg> {
        self.verifiers.iter().map(|(alg, _)| *alg)
    }

    /// Whether two keys are the same one, published twice: aws-lc keeps the encoded key.
    fn same(&self, other: &Self) -> bool {
        let material = |key: &Self| key.verifiers.first().map(|(_, verifier)| verifier.as_ref().to_vec());
        material(self) == material(other)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.kid == other.kid && self.algs().eq(other.algs()) && self.same(other)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Key")
            .field("kid", &self.kid)
            .field("algs", &self.algs().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

const RSA: [(SigningAlg, &RsaParameters); 6] = [
    (SigningAlg::RS256, &RSA_PKCS1_2048_8192_SHA256),
    (SigningAlg::RS384, &RSA_PKCS1_2048_8192_SHA384),
    (SigningAlg::RS512, &RSA_PKCS1_2048_8192_SHA512),
    (SigningAlg::PS256, &RSA_PSS_2048_8192_SHA256),
    (SigningAlg::PS384, &RSA_PSS_2048_8192_SHA384),
    (SigningAlg::PS512, &RSA_PSS_2048_8192_SHA512),
];

fn verifies(operations: &Value) -> bool {
    operations.as_array().is_some_and(|list| list.iter().any(|operation| operation == "verify"))
}

/// A `kid` is only compared, but it is also what people paste into file names and queries, so what is certainly no
/// identifier is dropped.
fn plausible(kid: &str) -> bool {
    let visible = kid.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    !kid.is_empty() && kid.len() <= MAX_KID && visible && !kid.contains("..")
}

/// An RSA key of 2048 to 8192 bits with an odd public exponent above 1 (RFC 8725 3.5). The upper bounds are
/// what the verifier takes; they keep a giant key from costing us seconds.
fn rsa(n: &str, e: &str) -> Option<Vec<(SigningAlg, ParsedPublicKey)>> {
    let modulus = URL_SAFE_NO_PAD.decode(n).ok()?;
    let leading = modulus.iter().position(|byte| *byte != 0)?;
    let significant = modulus.get(leading..)?;
    let bits = significant.len() * 8 - usize::try_from(significant.first()?.leading_zeros()).ok()?;
    let exponent = URL_SAFE_NO_PAD.decode(e).ok().filter(|bytes| bytes.len() <= 8)?;
    let value = exponent.iter().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
    let sound = (2048..=8192).contains(&bits) && value % 2 == 1 && (3..1 << 33).contains(&value);
    let exponent = exponent.get(exponent.iter().position(|byte| *byte != 0)?..)?;
    let components = RsaPublicKeyComponents { n: significant, e: exponent };
    let parsed = |(alg, parameters)| Some((alg, components.to_parsed_public_key(parameters).ok()?));
    sound.then(|| RSA.into_iter().map(parsed).collect()).flatten()
}

/// A point on the curve of `verification`, whose coordinates have `size` bytes.
fn ec(x: &str, y: &str, verification: &'static dyn VerificationAlgorithm, size: usize) -> Option<ParsedPublicKey> {
    let point = [vec![4], coordinate(x, size)?, coordinate(y, size)?].concat();
    ParsedPublicKey::new(verification, point).ok()
}

fn coordinate(text: &str, size: usize) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == size)
}

/// Without keys of which a `kid` cannot choose one: two keys that are not the same, named alike, for one algorithm.
fn without_ambiguous(keys: Vec<Key>) -> Vec<Key> {
    let clash = |a: &Key, b: &Key| a.kid.is_some() && a.kid == b.kid && a.algs().any(|alg| b.verifier(alg).is_some());
    let ambiguous: Vec<bool> =
        keys.iter().map(|key| keys.iter().any(|other| clash(key, other) && !key.same(other))).collect();
    let mut kept: Vec<Key> = Vec::with_capacity(keys.len());
    for (key, ambiguous) in keys.into_iter().zip(ambiguous) {
        let repeated = kept.contains(&key);
        if !ambiguous && !repeated {
            kept.push(key);
        }
    }
    kept
}

#[cfg(test)]
mod tests;
