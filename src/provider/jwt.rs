//! The one door for JSON Web Tokens (RFC 7519, RFC 7515, RFC 8725): what is not taken apart, verified and read here is
//! not a token to us.
//!
//! Order: size and shape, a strict header, a key chosen by what *we* know about the key, the signature, and only then
//! the payload. (Of an access token the payload is read before, to find out whose keys to try; nothing in it is believed
//! until the signature was checked.) What the claims must say differs by kind of token and stands with each kind.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::keys::KeySet;
use crate::config::SigningAlg;
use crate::web::strict_object;

/// Why a token is not accepted. Names the rule and no part of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Invalid {
    /// It breaks a rule, and would break it with any key.
    #[error("{0}")]
    Rule(&'static str),
    /// No published key fits it; a newer key set might have one.
    #[error("no published key fits it")]
    NoKey,
    /// The key that fits did not sign it; the key may have been replaced.
    #[error("its signature is wrong")]
    Signature,
}

/// A token taken apart, its header read. Nothing in it is believed yet.
#[derive(Debug)]
pub(super) struct Unverified<'t> {
    alg: SigningAlg,
    kid: Option<String>,
    typ: Option<String>,
    message: &'t str,
    payload: &'t str,
    signature: &'t str,
}

/// A token whose signature one of the issuer's keys made. Its claims are not judged yet.
#[derive(Debug)]
pub(super) struct Verified {
    /// The algorithm it was signed with.
    pub(super) alg: SigningAlg,
    /// `typ` of the header, as it came.
    pub(super) typ: Option<String>,
    /// The payload.
    pub(super) claims: Map<String, Value>,
}

impl<'t> Unverified<'t> {
    /// Takes apart a JWS in compact form of at most `max_len` bytes.
    pub(super) fn parse(token: &'t str, max_len: usize) -> Result<Self, Invalid> {
        // The length comes first and the split stops at the fourth part: a megabyte of dots costs nothing (JV-17).
        if token.len() > max_len {
            return Err(Invalid::Rule("it is too long"));
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Invalid::Rule(SHAPE))?;
        let mut parts = token.splitn(4, '.');
        let (Some(header), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Invalid::Rule(SHAPE));
        };
        let header = object(header, "its header is not a JSON object")?;
        // RFC 7515 4.1.11: an extension that must be understood, and we understand none. The other three change what
        // the signature covers or wrap the payload, with or without `crit`.
        if ["crit", "b64", "zip", "enc"].iter().any(|name| header.contains_key(*name)) {
            return Err(Invalid::Rule("its header asks for an extension"));
        }
        let text = |name, wrong| match header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Invalid::Rule(wrong)),
        };
        // `jku`, `jwk`, `x5u` and `x5c` are not read: keys come from the issuer's metadata and from nowhere else.
        let alg = text("alg", "its alg is not a string")?.ok_or(Invalid::Rule("it has no alg"))?;
        Ok(Self {
            alg: algorithm(&alg).ok_or(Invalid::Rule("its alg is not an asymmetric one that we know"))?,
            kid: text("kid", "its kid is not a string")?,
            typ: text("typ", "its typ is not a string")?,
            message,
            payload,
            signature,
        })
    }

    /// Checks the signature with the key of `keys` that fits, if the algorithm is among `allowed`.
    pub(super) fn check(&self, keys: &KeySet, allowed: &[SigningAlg]) -> Result<Signed, Invalid> {
        // RFC 8725 3.1: the algorithm must be one that we chose, and the key must be made for it.
        if !allowed.contains(&self.alg) {
            return Err(Invalid::Rule("its alg is not allowed"));
        }
        let key = keys.select(self.alg, self.kid.as_deref()).ok_or(Invalid::NoKey)?;
        let signature = URL_SAFE_NO_PAD.decode(self.signature).map_err(|_| Invalid::Signature)?;
        key.verify_sig(self.message.as_bytes(), &signature).map_err(|_| Invalid::Signature)?;
        Ok(Signed(()))
    }

    /// The payload as it stands there, whoever wrote it.
    pub(super) fn read(&self) -> Result<Map<String, Value>, Invalid> {
        object(self.payload, "its payload is not a JSON object")
    }

    /// The token with its claims, now that its signature was checked.
    pub(super) fn verified(self, claims: Map<String, Value>, _: Signed) -> Verified {
        Verified { alg: self.alg, typ: self.typ, claims }
    }
}

/// That a signature was checked; nothing else makes one.
#[derive(Debug)]
pub(super) struct Signed(());

const SHAPE: &str = "it has not three parts";

/// Base64url without padding, whitespace or stray bits, around one strict JSON object.
fn object(part: &str, wrong: &'static str) -> Result<Map<String, Value>, Invalid> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Invalid::Rule(wrong))?;
    strict_object(&bytes).map_err(|_| Invalid::Rule(wrong))
}

/// The algorithm of that registered name (RFC 7518 3.1, RFC 8037 3.1, RFC 9864 2.2), if it is one of ours.
pub(super) fn algorithm(name: &str) -> Option<SigningAlg> {
    Some(match name {
        "RS256" => SigningAlg::RS256,
        "RS384" => SigningAlg::RS384,
        "RS512" => SigningAlg::RS512,
        "PS256" => SigningAlg::PS256,
        "PS384" => SigningAlg::PS384,
        "PS512" => SigningAlg::PS512,
        "ES256" => SigningAlg::ES256,
        "ES384" => SigningAlg::ES384,
        "EdDSA" | "Ed25519" => SigningAlg::EdDSA,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
