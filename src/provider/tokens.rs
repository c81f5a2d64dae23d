//! Tokens in the only forms in which we hold them: checked once, masked ever after, and ready to be sent.
//!
//! A token that is not fit for a header would break whoever puts it into one, so the check happens where a token enters
//! (the token endpoint, a stored session) and the type is the proof.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Map, Value};

use crate::config::Secret;
use crate::web::strict_object;

const SCHEME: &str = "Bearer ";

/// Longest access or refresh token, in bytes. Heads of 32 KiB must have room for it and for everything else.
const MAX_TOKEN: usize = 16 * 1024;

/// An access token that is fit for a header; the value is `Bearer <token>`, marked sensitive (RFC 6750 2.1).
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(HeaderValue);

/// A refresh token (RFC 6749 A.17).
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken(Secret);

/// The compact form of a verified ID token; kept for `id_token_hint` only.
#[derive(Clone, PartialEq, Eq)]
pub struct IdToken(Secret);

impl AccessToken {
    /// Checks `text`: 1 to 16384 visible ASCII characters (RFC 6749 A.12 without the space, which would end the token
    /// in a header). `None` when it is anything else.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > MAX_TOKEN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let mut value = HeaderValue::from_maybe_shared(Bytes::from([SCHEME, text].concat())).ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }

    /// The value for `Authorization`; a cheap clone.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// The token itself. Grep for this name to audit who reads tokens.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.to_str().ok().and_then(|value| value.strip_prefix(SCHEME)).unwrap_or_default()
    }

    /// SHA-256 of the token: tells tokens apart without holding one.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(self.expose())
    }

    /// The payload when the token is a JWT, **not verified**: the token came from the token endpoint over TLS and is
    /// meant for somebody else, so its signature is none of our business. `None` when it is no JWT.
    #[must_use]
    pub fn claims(&self) -> Option<Map<String, Value>> {
        payload(self.expose())
    }
}

impl RefreshToken {
    /// Checks `text`: 1 to 16384 printable ASCII characters (RFC 6749 A.17). `None` when it is anything else.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        let printable = text.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
        (!text.is_empty() && text.len() <= MAX_TOKEN && printable).then(|| Self(Secret::new(text.to_owned())))
    }

    /// The token itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// SHA-256 of the token: tells tokens apart without holding one.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(self.expose())
    }
}

impl IdToken {
    /// A token that is already known to have been verified: by us just now, or before it was stored.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(Secret::new(text.to_owned()))
    }

    /// The token itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// The payload. `None` when it is no JWT, which no provider can have sent.
    #[must_use]
    pub fn claims(&self) -> Option<Map<String, Value>> {
        payload(self.expose())
    }

    /// SHA-256 of the token: tells tokens apart without holding one.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(self.expose())
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[access token]")
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[refresh token]")
    }
}

impl fmt::Debug for IdToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[id token]")
    }
}

/// The claims of a compact JWT, its signature left aside.
fn payload(jwt: &str) -> Option<Map<String, Value>> {
    let mut parts = jwt.splitn(4, '.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    strict_object(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

fn fingerprint(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn og_10_t14_t16_only_what_a_header_can_carry_is_a_token() {
        let long = "x".repeat(MAX_TOKEN);
        for good in ["x", "eyJ.e30.sig", "a+b/c==", "~!*'()", long.as_str()] {
            assert_eq!(AccessToken::from_stored(good).map(|token| token.expose().to_owned()).as_deref(), Some(good));
            assert!(RefreshToken::from_stored(good).is_some());
        }
        let longer = "x".repeat(MAX_TOKEN + 1);
        for bad in ["", "a\r\nb", "a\0", "a\x7f", "ä", "\u{2028}", longer.as_str()] {
            assert!(AccessToken::from_stored(bad).is_none(), "{bad:?}");
            assert!(RefreshToken::from_stored(bad).is_none(), "{bad:?}");
        }
        assert!(AccessToken::from_stored("a b").is_none());
    }

    #[test]
    fn tokens_are_masked_and_their_header_is_sensitive() {
        let token = AccessToken::from_stored("canary").map(|token| (format!("{token:?}"), token.header()));
        let (text, header) = token.unwrap_or_else(|| panic!("a token"));
        assert_eq!(text, "[access token]");
        assert!(header.is_sensitive());
        assert_eq!(header.as_bytes(), b"Bearer canary");
        assert!(!format!("{header:?}").contains("canary"));
    }

    #[test]
    fn claims_are_read_from_jwts_only() {
        let claims = |text: &str| AccessToken::from_stored(text).and_then(|token| token.claims());
        assert_eq!(claims("e30.eyJhIjoxfQ.sig").map(|map| map.len()), Some(1));
        for opaque in ["opaque", "a.b", "a.b.c", "e30.W10.x", "e30.eyJhIjoxfQ.x.y", "e30.eyJhIjoxLCJhIjoxfQ.x"] {
            assert!(claims(opaque).is_none(), "{opaque}");
        }
    }
}
