//! The issuer's published keys (RFC 7517): read one by one, so that one odd key cannot take the others down.
//!
//! A key is kept only if it can be nothing but a public key for signatures of an algorithm that we know. What a token's
//! header says never widens what a key is for.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
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

/// Usable keys, never empty.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// Whether the provider published a private key; somebody must be told.
    pub(super) private_key_published: bool,
}

struct Key {
    kid: Option<String>,
    algs: &'static [SigningAlg],
    decoding: DecodingKey,
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
    pub(super) fn select(&self, alg: SigningAlg, kid: Option<&str>) -> Option<&DecodingKey> {
        let mut fitting = self.keys.iter().filter(|key| key.algs.contains(&alg));
        if let Some(kid) = kid {
            return fitting.find(|key| key.kid.as_deref() == Some(kid)).map(|key| &key.decoding);
        }
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => Some(&only.decoding),
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
        let (family, decoding) = Self::material(jwk).ok_or(Unusable::Odd)?;
        let algs = match jwk.get("alg") {
            None => family,
            Some(Value::String(name)) => {
                let alg = algorithm(name).ok_or(Unusable::Odd)?;
                let at = family.iter().position(|member| *member == alg).ok_or(Unusable::Odd)?;
                family.get(at..=at).ok_or(Unusable::Odd)?
            }
            Some(_) => return Err(Unusable::Odd),
        };
        let kid = match jwk.get("kid") {
            None => None,
            Some(Value::String(kid)) if plausible(kid) => Some(kid.clone()),
            Some(_) => return Err(Unusable::Odd),
        };
        Ok(Self { kid, algs, decoding })
    }

    /// The algorithms of the key's type, and the key itself.
    fn material(jwk: &Map<String, Value>) -> Option<(&'static [SigningAlg], DecodingKey)> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        match (text("kty")?, text("crv")) {
            ("RSA", None) => Some((RSA, rsa(text("n")?, text("e")?)?)),
            ("EC", Some("P-256")) => Some((P256, ec(text("x")?, text("y")?, &ECDSA_P256_SHA256_FIXED, 32)?)),
            ("EC", Some("P-384")) => Some((P384, ec(text("x")?, text("y")?, &ECDSA_P384_SHA384_FIXED, 48)?)),
            ("OKP", Some("Ed25519")) => {
                let x = text("x")?;
                let fits = URL_SAFE_NO_PAD.decode(x).is_ok_and(|bytes| bytes.len() == 32);
                fits.then(|| DecodingKey::from_ed_components(x).ok()).flatten().map(|key| (ED25519, key))
            }
            _ => None,
        }
    }

    /// Whether two keys are the same one, published twice.
    fn same(&self, other: &Self) -> bool {
        use jsonwebtoken::DecodingKeyKind;
        match (self.decoding.kind(), other.decoding.kind()) {
            (DecodingKeyKind::SecretOrDer(a), DecodingKeyKind::SecretOrDer(b)) => a == b,
            (
                DecodingKeyKind::RsaModulusExponent { n: n1, e: e1 },
                DecodingKeyKind::RsaModulusExponent { n: n2, e: e2 },
            ) => n1 == n2 && e1 == e2,
            _ => false,
        }
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Key")
            .field("kid", &self.kid)
            .field("algs", &self.algs)
            .finish_non_exhaustive()
    }
}

const RSA: &[SigningAlg] =
    &[SigningAlg::RS256, SigningAlg::RS384, SigningAlg::RS512, SigningAlg::PS256, SigningAlg::PS384, SigningAlg::PS512];
const P256: &[SigningAlg] = &[SigningAlg::ES256];
const P384: &[SigningAlg] = &[SigningAlg::ES384];
const ED25519: &[SigningAlg] = &[SigningAlg::EdDSA];

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
fn rsa(n: &str, e: &str) -> Option<DecodingKey> {
    let modulus = URL_SAFE_NO_PAD.decode(n).ok()?;
    let leading = modulus.iter().position(|byte| *byte != 0)?;
    let significant = modulus.get(leading..)?;
    let bits = significant.len() * 8 - usize::try_from(significant.first()?.leading_zeros()).ok()?;
    let exponent = URL_SAFE_NO_PAD.decode(e).ok().filter(|bytes| bytes.len() <= 8)?;
    let value = exponent.iter().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
    let sound = (2048..=8192).contains(&bits) && value % 2 == 1 && (3..1 << 33).contains(&value);
    let exponent = exponent.get(exponent.iter().position(|byte| *byte != 0)?..)?;
    sound.then(|| DecodingKey::from_rsa_raw_components(significant, exponent))
}

/// A point on the curve of `verification`, whose coordinates have `size` bytes.
fn ec(x: &str, y: &str, verification: &'static dyn VerificationAlgorithm, size: usize) -> Option<DecodingKey> {
    let coordinate = |text: &str| URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == size);
    let point = [vec![4], coordinate(x)?, coordinate(y)?].concat();
    ParsedPublicKey::new(verification, &point).ok()?;
    Some(DecodingKey::from_ec_der(&point))
}

/// Without keys of which a `kid` cannot choose one: two keys that are not the same, named alike, for one algorithm.
fn without_ambiguous(keys: Vec<Key>) -> Vec<Key> {
    let clash = |a: &Key, b: &Key| a.kid.is_some() && a.kid == b.kid && a.algs.iter().any(|alg| b.algs.contains(alg));
    let ambiguous: Vec<bool> =
        keys.iter().map(|key| keys.iter().any(|other| clash(key, other) && !key.same(other))).collect();
    let mut kept: Vec<Key> = Vec::with_capacity(keys.len());
    for (key, ambiguous) in keys.into_iter().zip(ambiguous) {
        let repeated = kept.iter().any(|other| other.kid == key.kid && other.algs == key.algs && other.same(&key));
        if !ambiguous && !repeated {
            kept.push(key);
        }
    }
    kept
}

#[cfg(test)]
mod tests;
