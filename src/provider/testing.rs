//! What the tests of this module share: a config, keys that sign, and a server that says what it is told to, byte for
//! byte.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use super::Surroundings;
use super::transport::{Limits, Transport};
use crate::config::{self, Name, SigningAlg};
use crate::metrics::Metrics;
use crate::time::Clock;

/// The config of a provider with this issuer.
pub(super) fn provider(issuer: &str) -> config::Provider {
    config::Provider {
        name: Name::parse("corp").unwrap(),
        issuer: issuer.to_owned(),
        backchannel: None,
        jwks_uri: None,
        introspection: false,
        clock_skew: Duration::from_secs(60),
        ca: None,
        signing_algs: vec![
            SigningAlg::RS256,
            SigningAlg::PS256,
            SigningAlg::ES256,
            SigningAlg::ES384,
            SigningAlg::EdDSA,
        ],
        max_stale: Duration::from_secs(24 * 60 * 60),
        required_for_ready: false,
    }
}

/// Limits that a test can wait for.
pub(super) const LIMITS: Limits = Limits {
    queue: Duration::from_millis(100),
    connect: Duration::from_millis(300),
    head: Duration::from_millis(600),
    whole: Duration::from_millis(900),
};

/// A client for that provider.
pub(super) fn transport(provider: config::Provider, limits: Limits) -> Transport {
    Transport::new(Arc::new(provider), surroundings(), limits)
}

/// Surroundings of one provider alone.
pub(super) fn surroundings() -> Surroundings {
    Surroundings {
        clock: Clock::default(),
        metrics: Arc::new(Metrics::new()),
        tasks: TaskTracker::new(),
        clocks: Arc::default(),
    }
}

/// A key pair of a provider.
pub(super) struct Signer {
    alg: Algorithm,
    private: EncodingKey,
    /// The public half, with the `kid` `k`.
    pub(super) jwk: Map<String, Value>,
}

impl Signer {
    /// A key for `alg`; RSA ones are all the same, because making one takes long.
    pub(super) fn new(alg: Algorithm) -> Self {
        static RSA: OnceLock<String> = OnceLock::new();
        let random = SystemRandom::new();
        let private = match alg {
            Algorithm::ES256 => EncodingKey::from_ec_der(
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap().as_ref(),
            ),
            Algorithm::ES384 => EncodingKey::from_ec_der(
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random).unwrap().as_ref(),
            ),
            Algorithm::EdDSA => EncodingKey::from_ed_der(Ed25519KeyPair::generate_pkcs8v1(&random).unwrap().as_ref()),
            _ => EncodingKey::from_rsa_pem(RSA.get_or_init(|| rsa_pem(KeySize::Rsa2048)).as_bytes()).unwrap(),
        };
        let jwk = Jwk::from_encoding_key(&private, alg).unwrap();
        let Value::Object(mut jwk) = serde_json::to_value(jwk).unwrap() else { panic!("a JWK is an object") };
        jwk.insert("kid".to_owned(), "k".into());
        Self { alg, private, jwk }
    }

    /// Signs a text as it is: the two first parts of a token.
    pub(super) fn sign(&self, message: &str) -> String {
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.private, self.alg).unwrap();
        format!("{message}.{signature}")
    }

    /// A token with this header and payload, as texts.
    pub(super) fn token(&self, header: &str, payload: &str) -> String {
        self.sign(&format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload)))
    }
}

fn rsa_pem(size: KeySize) -> String {
    let key = aws_lc_rs::rsa::KeyPair::generate(size).unwrap();
    let der = STANDARD.encode(key.as_der().unwrap().as_ref());
    format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n")
}

/// A key set of these keys.
pub(super) fn set(keys: &[Map<String, Value>]) -> Vec<u8> {
    serde_json::json!({ "keys": keys }).to_string().into_bytes()
}

/// What the scripted server does with a connection after it has read a request head.
#[derive(Clone, Copy)]
pub(super) enum Act {
    /// Writes this and closes.
    Say(&'static str),
    /// Writes the first, then the second again and again, this long apart.
    Drip(&'static str, &'static [u8], Duration),
    /// Nothing, until the other side leaves.
    Hang,
}

/// Serves `act` to every connection. Returns its base URL.
pub(super) async fn serve(act: Act) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(play(stream, act));
        }
    });
    base
}

async fn play(mut stream: TcpStream, act: Act) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    match act {
        Act::Say(text) => drop(stream.write_all(text.as_bytes()).await),
        Act::Drip(first, then, pause) => {
            let mut result = stream.write_all(first.as_bytes()).await;
            while result.is_ok() {
                tokio::time::sleep(pause).await;
                result = stream.write_all(then).await;
            }
        }
        Act::Hang => drop(stream.read_u8().await),
    }
}
