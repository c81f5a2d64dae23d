//! JWTs as the development provider makes them: right by default, and wrong in any part on request.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Map, Value, json};

use super::Broken;
use super::key::{self, Key, Ring};
use super::mutation::{JwtMutation, SignWith};

/// A JWT before it is signed.
pub(super) struct Draft {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    raw_header: Option<String>,
    raw_payload: Option<String>,
    signature: Option<SignWith>,
}

impl Draft {
    /// A JWT of this `typ`.
    pub(super) fn new(typ: &str, claims: Map<String, Value>) -> Self {
        let mut header = Map::new();
        header.insert("typ".to_owned(), json!(typ));
        Self { header, claims, raw_header: None, raw_payload: None, signature: None }
    }

    /// The compact form (RFC 7515 7.1), with `changes` in their order.
    ///
    /// # Errors
    /// [`Broken`] when it cannot be signed.
    pub(super) fn sign(mut self, ring: &Ring, changes: &[JwtMutation]) -> Result<String, Broken> {
        self.signature = changes.iter().rev().find_map(|change| match change {
            JwtMutation::Sign(with) => Some(with.clone()),
            _ => None,
        });
        let (algorithm, key) = self.signer(ring)?;
        self.header.insert("alg".to_owned(), json!(algorithm));
        self.header.insert("kid".to_owned(), json!(key.kid));
        changes.iter().for_each(|change| self.change(change));
        let token = self.compact(key)?;
        changes.iter().try_fold(token, tamper)
    }

    /// `alg` and the published key whose `kid` goes into the header.
    fn signer<'a>(&self, ring: &'a Ring) -> Result<(String, &'a Key), Broken> {
        let key = match &self.signature {
            Some(SignWith::Published(algorithm)) => ring.key(*algorithm)?,
            _ => ring.key(ring.algorithm())?,
        };
        let algorithm = match &self.signature {
            Some(SignWith::Nothing) => "none".to_owned(),
            Some(SignWith::Hs256(_)) => "HS256".to_owned(),
            _ => format!("{:?}", key.algorithm),
        };
        Ok((algorithm, key))
    }

    /// Changes of the content.
    fn change(&mut self, change: &JwtMutation) {
        match change {
            JwtMutation::SetHeader(name, value) => drop(self.header.insert((*name).to_owned(), value.clone())),
            JwtMutation::RemoveHeader(name) => drop(self.header.remove(*name)),
            JwtMutation::SetClaim(name, value) => drop(self.claims.insert((*name).to_owned(), value.clone())),
            JwtMutation::RemoveClaim(name) => drop(self.claims.remove(*name)),
            JwtMutation::RawHeader(text) => self.raw_header = Some(text.clone()),
            JwtMutation::RawPayload(text) => self.raw_payload = Some(text.clone()),
            JwtMutation::Sign(_) | JwtMutation::FlipBit(_) | JwtMutation::Segment(..) | JwtMutation::Text(_) => {}
        }
    }

    /// Encodes and signs.
    fn compact(self, key: &Key) -> Result<String, Broken> {
        let header = self.raw_header.unwrap_or_else(|| Value::Object(self.header).to_string());
        let payload = self.raw_payload.unwrap_or_else(|| Value::Object(self.claims).to_string());
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let sign = |private: &EncodingKey, algorithm| crypto::sign(input.as_bytes(), private, algorithm);
        let signature = match &self.signature {
            Some(SignWith::Nothing) => Ok(String::new()),
            Some(SignWith::Hs256(secret)) => sign(&EncodingKey::from_secret(secret), Algorithm::HS256),
            Some(SignWith::Stranger) => sign(&key::stranger(key.algorithm)?, key.algorithm),
            Some(SignWith::Published(_)) | None => sign(&key.private, key.algorithm),
        };
        Ok(format!("{input}.{}", signature.map_err(|_| Broken)?))
    }
}

/// Changes of the signed text.
fn tamper(token: String, change: &JwtMutation) -> Result<String, Broken> {
    let mut segments: Vec<String> = token.split('.').map(str::to_owned).collect();
    match change {
        JwtMutation::Text(text) => return Ok(text.clone()),
        JwtMutation::Segment(position, text) => {
            *segments.get_mut(*position).ok_or(Broken)? = text.clone();
        }
        JwtMutation::FlipBit(position) => {
            let segment = segments.get_mut(*position).ok_or(Broken)?;
            let mut bytes = URL_SAFE_NO_PAD.decode(segment.as_bytes()).map_err(|_| Broken)?;
            // In the middle, where JSON has text and a signature has no structure.
            let middle = bytes.len() / 2;
            *bytes.get_mut(middle).ok_or(Broken)? ^= 1;
            *segment = URL_SAFE_NO_PAD.encode(bytes);
        }
        JwtMutation::SetHeader(..)
        | JwtMutation::RemoveHeader(_)
        | JwtMutation::SetClaim(..)
        | JwtMutation::RemoveClaim(_)
        | JwtMutation::RawHeader(_)
        | JwtMutation::RawPayload(_)
        | JwtMutation::Sign(_) => return Ok(token),
    }
    Ok(segments.join("."))
}

/// `at_hash`: the left half of the hash that goes with the algorithm (OpenID Connect Core 3.1.3.6).
pub(super) fn at_hash(access_token: &str, algorithm: Algorithm) -> String {
    use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
    let hash = match algorithm {
        Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => &SHA384,
        // Ed25519 hashes with SHA-512 inside, and that is what providers use here.
        Algorithm::RS512 | Algorithm::PS512 | Algorithm::EdDSA => &SHA512,
        _ => &SHA256,
    };
    let value = digest(hash, access_token.as_bytes());
    let half = value.as_ref().iter().take(value.as_ref().len() / 2).copied().collect::<Vec<_>>();
    URL_SAFE_NO_PAD.encode(half)
}
