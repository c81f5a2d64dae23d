//! How an API knows a caller: it verifies the bearer token by the provider's published keys (RFC 9068 4).

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use url::Url;

use super::fetch;
use crate::web::BoxError;

/// Verifies access tokens of one issuer for one audience.
pub(super) struct Verifier {
    issuer: String,
    audience: String,
    /// Read when they are first needed, and again when a token names a key that is not among them.
    keys: Mutex<JwkSet>,
}

impl Verifier {
    /// Knows no key yet.
    pub(super) fn new(issuer: &str, audience: &str) -> Self {
        let keys = Mutex::new(JwkSet { keys: Vec::new() });
        Self { issuer: issuer.to_owned(), audience: audience.to_owned(), keys }
    }

    /// The claims of a token that is right in signature, issuer, audience and time.
    ///
    /// # Errors
    /// Why it is not; the text never holds the token.
    pub(super) async fn claims(&self, token: &str) -> Result<Map<String, Value>, BoxError> {
        let header = decode_header(token)?;
        let kid = header.kid.ok_or("the token names no key")?;
        let key = self.key(&kid).await?;
        // The provider signs with this one; what the token says about it is not asked.
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = 0;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "exp"]);
        Ok(decode(token, &key, &validation)?.claims)
    }

    async fn key(&self, kid: &str) -> Result<DecodingKey, BoxError> {
        let mut keys = self.keys.lock().await;
        if keys.find(kid).is_none() {
            *keys = self.fetch().await?;
        }
        let key = keys.find(kid).ok_or("the provider has no such key")?;
        Ok(DecodingKey::from_jwk(key)?)
    }

    /// The provider's key set, by way of its metadata (OpenID Connect Discovery 4).
    async fn fetch(&self) -> Result<JwkSet, BoxError> {
        let metadata = Url::parse(&format!("{}/.well-known/openid-configuration", self.issuer))?;
        let metadata: Value = serde_json::from_slice(fetch::get(&metadata, "application/json").await?.body())?;
        let keys = metadata.get("jwks_uri").and_then(Value::as_str).ok_or("the provider names no key set")?;
        Ok(serde_json::from_slice(fetch::get(&Url::parse(keys)?, "application/json").await?.body())?)
    }
}
