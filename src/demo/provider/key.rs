//! The development provider's signing keys and the set that it publishes of them.

use std::sync::OnceLock;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
pub use jsonwebtoken::Algorithm;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::jwk::Jwk;
use serde_json::{Value, json};

use super::Broken;
use crate::web;

/// PEM of an RSA key. Making one takes a tenth of a second, so all providers of a process share it; a rotation
/// publishes it under another `kid`.
static SHARED_RSA: OnceLock<String> = OnceLock::new();

/// PEM of the RSA key that is never published.
static STRANGE_RSA: OnceLock<String> = OnceLock::new();

/// One key pair.
#[derive(Clone)]
pub(super) struct Key {
    /// `kid`.
    pub(super) kid: String,
    /// What it signs with.
    pub(super) algorithm: Algorithm,
    /// The private half.
    pub(super) private: EncodingKey,
    /// The public half (RFC 7517).
    public: Value,
}

/// All keys of one provider.
pub(super) struct Ring {
    keys: Vec<Key>,
    signing: Algorithm,
    odd: bool,
}

impl Ring {
    /// A ring that signs with `signing`; RS256 and ES256 keys are always published beside it. With `odd`, the set also
    /// has keys that a client must pass over without dropping the rest.
    ///
    /// # Errors
    /// [`Broken`] when no key can be made.
    pub(super) fn generate(signing: Algorithm, odd: bool) -> Result<Self, Broken> {
        let mut algorithms = vec![Algorithm::RS256, Algorithm::ES256];
        if !algorithms.contains(&signing) {
            algorithms.push(signing);
        }
        let keys = algorithms.into_iter().map(Key::generate).collect::<Result<_, _>>()?;
        Ok(Self { keys, signing, odd })
    }

    /// A ring that publishes nothing but its signing key.
    ///
    /// # Errors
    /// [`Broken`] when no key can be made.
    pub(super) fn single(signing: Algorithm) -> Result<Self, Broken> {
        Ok(Self { keys: vec![Key::generate(signing)?], signing, odd: false })
    }

    /// The same kind of ring with other keys.
    ///
    /// # Errors
    /// [`Broken`] when no key can be made.
    pub(super) fn rotated(&self) -> Result<Self, Broken> {
        let keys = self.keys.iter().map(|key| Key::generate(key.algorithm)).collect::<Result<_, _>>()?;
        Ok(Self { keys, signing: self.signing, odd: self.odd })
    }

    /// The algorithm that tokens are signed with.
    pub(super) const fn algorithm(&self) -> Algorithm {
        self.signing
    }

    /// The key for `algorithm`.
    ///
    /// # Errors
    /// [`Broken`] when the ring has none.
    pub(super) fn key(&self, algorithm: Algorithm) -> Result<&Key, Broken> {
        self.keys.iter().find(|key| key.algorithm == algorithm).ok_or(Broken)
    }

    /// The published set.
    pub(super) fn published(&self) -> Value {
        let mut keys: Vec<Value> = self.keys.iter().map(|key| key.public.clone()).collect();
        if self.odd {
            // Curves and uses that a client need not know, and one type that nobody knows.
            keys.push(json!({"kty": "EC", "crv": "secp256k1", "kid": "odd-curve", "use": "sig",
                "x": "eb5mfvncu6xVoGKVzocLBwKb_NstzijZWfKBWxb4F5g", "y": "SDradyajxGVdpPv8DhEIqP0XtEimhVQZnEfQj_sQ1Lg"}));
            keys.push(json!({"kty": "OKP", "crv": "X25519", "kid": "odd-agreement", "use": "enc",
                "x": "hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo"}));
            keys.push(json!({"kty": "AKP", "alg": "ML-DSA-44", "kid": "odd-type", "pub": "AAAA"}));
            if let Some(Value::Object(mut encryption)) = keys.first().cloned() {
                encryption.insert("kid".to_owned(), json!("odd-use"));
                encryption.insert("use".to_owned(), json!("enc"));
                encryption.insert("alg".to_owned(), json!("RSA-OAEP"));
                keys.insert(0, Value::Object(encryption));
            }
        }
        json!({ "keys": keys })
    }
}

impl Key {
    /// A new key; RSA ones share their material.
    fn generate(algorithm: Algorithm) -> Result<Self, Broken> {
        let private = private_key(algorithm, &SHARED_RSA)?;
        let kid = web::token().map_err(|_| Broken)?;
        let jwk = Jwk::from_encoding_key(&private, algorithm).map_err(|_| Broken)?;
        let Value::Object(mut public) = serde_json::to_value(jwk).map_err(|_| Broken)? else { return Err(Broken) };
        public.insert("kid".to_owned(), json!(kid));
        public.insert("use".to_owned(), json!("sig"));
        // Half of the providers out there leave `alg` out, so half of these keys do.
        if algorithm == Algorithm::RS256 {
            public.remove("alg");
        }
        Ok(Self { kid, algorithm, private, public: Value::Object(public) })
    }
}

/// A private key that is in no set.
///
/// # Errors
/// [`Broken`] when no key can be made.
pub(super) fn stranger(algorithm: Algorithm) -> Result<EncodingKey, Broken> {
    private_key(algorithm, &STRANGE_RSA)
}

/// A new private key, or the one of `rsa`.
fn private_key(algorithm: Algorithm, rsa: &OnceLock<String>) -> Result<EncodingKey, Broken> {
    let random = SystemRandom::new();
    match algorithm {
        Algorithm::ES256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .map(|key| EncodingKey::from_ec_der(key.as_ref()))
            .map_err(|_| Broken),
        Algorithm::ES384 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random)
            .map(|key| EncodingKey::from_ec_der(key.as_ref()))
            .map_err(|_| Broken),
        Algorithm::EdDSA => Ed25519KeyPair::generate_pkcs8v1(&random)
            .map(|key| EncodingKey::from_ed_der(key.as_ref()))
            .map_err(|_| Broken),
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => {
            let pem = rsa.get_or_init(|| rsa_pem().unwrap_or_default());
            EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| Broken)
        }
        _ => Err(Broken),
    }
}

/// PEM of a new RSA key of 2048 bits.
fn rsa_pem() -> Option<String> {
    let key = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).ok()?;
    let der = key.as_der().ok()?;
    let text = STANDARD.encode(der.as_ref());
    Some(format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"))
}
