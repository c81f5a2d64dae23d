//! Rules that claims of every kind of token share, each read with its type: a claim of the wrong type is never taken
//! for one that is absent.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::time::Timestamp;

/// A rule about what a claim is, in our words.
pub(super) type Rule = &'static str;

/// A broken rule, in our words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// Which.
    pub(super) rule: Rule,
    /// By how many seconds the issuer's clock is ahead of ours if the token is as it should be; behind when negative, 0
    /// when the rule is not about time.
    pub(super) ahead: i64,
}

impl From<Rule> for Broken {
    fn from(rule: Rule) -> Self {
        Self { rule, ahead: 0 }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.rule)
    }
}

/// What the issuer's tokens are held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    /// Must be `iss`, byte for byte.
    pub(super) issuer: &'a str,
    /// Tolerance for the issuer's clock.
    pub(super) skew: Duration,
    /// When the token is judged.
    pub(super) now: Timestamp,
}

impl Rules<'_> {
    /// `iss` is a string and equal to the issuer (RFC 7519 4.1.1, RFC 8725 3.8).
    pub(super) fn issuer(&self, claims: &Map<String, Value>) -> Result<(), Broken> {
        match claims.get("iss") {
            Some(Value::String(issuer)) if issuer == self.issuer => Ok(()),
            _ => Err("iss is not the issuer".into()),
        }
    }

    /// `exp` is a number and not past (RFC 7519 4.1.4).
    pub(super) fn not_expired(&self, claims: &Map<String, Value>) -> Result<(), Broken> {
        let expires = date(claims, "exp")?.ok_or("exp is missing")?;
        if expires > self.now.minus(self.skew) { Ok(()) } else { Err(self.off("exp is past", expires)) }
    }

    /// `nbf`, when present, is a number and has come (RFC 7519 4.1.5).
    pub(super) fn already_valid(&self, claims: &Map<String, Value>) -> Result<(), Broken> {
        match date(claims, "nbf")? {
            Some(start) if start > self.now.plus(self.skew) => Err(self.off("nbf has not come", start)),
            _ => Ok(()),
        }
    }

    /// `iat`, when present, is a number and not in the future (RFC 7519 4.1.6).
    pub(super) fn issued_at(&self, claims: &Map<String, Value>) -> Result<Option<Timestamp>, Broken> {
        match date(claims, "iat")? {
            Some(issued) if issued > self.now.plus(self.skew) => Err(self.off("iat is in the future", issued)),
            issued => Ok(issued),
        }
    }

    /// A broken rule about the time `said`.
    pub(super) fn off(&self, rule: Rule, said: Timestamp) -> Broken {
        Broken { rule, ahead: said.unix().saturating_sub(self.now.unix()) }
    }
}

/// A string claim, `None` when absent.
pub(super) fn text<'m>(claims: &'m Map<String, Value>, name: &'static str) -> Result<Option<&'m str>, Rule> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err("a claim that must be a string is none"),
    }
}

/// `aud` as a list: a string or a list of strings (RFC 7519 4.1.3).
pub(super) fn audiences(claims: &Map<String, Value>) -> Result<Vec<&str>, Rule> {
    match claims.get("aud") {
        Some(Value::String(one)) => Ok(vec![one]),
        Some(Value::Array(list)) => list.iter().map(Value::as_str).collect::<Option<_>>().ok_or("aud is malformed"),
        _ => Err("aud is missing or malformed"),
    }
}

/// `sub`: a non-empty string of at most 255 ASCII characters without controls (OpenID Connect Core 2).
pub(super) fn subject(claims: &Map<String, Value>) -> Result<&str, Rule> {
    let subject = text(claims, "sub")?.ok_or("sub is missing")?;
    let printable = subject.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
    let sound = !subject.is_empty() && subject.len() <= 255 && printable;
    if sound { Ok(subject) } else { Err("sub is not 1 to 255 printable ASCII characters") }
}

/// A NumericDate (RFC 7519 2), which may have a fraction. What no calendar holds is clamped, never wrapped.
pub(super) fn date(claims: &Map<String, Value>, name: &'static str) -> Result<Option<Timestamp>, Rule> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => Ok(Some(seconds(number))),
        Some(_) => Err("a claim that must be a number is none"),
    }
}

/// When the user authenticated, as a token that was verified says; `None` when it does not (OpenID Connect Core 2, RFC
/// 9470 6.1).
///
/// # Errors
/// `auth_time` is no number.
pub fn auth_time(claims: &Map<String, Value>) -> Result<Option<Timestamp>, &'static str> {
    date(claims, "auth_time")
}

/// Whole seconds of a JSON number, clamped to 64 bits.
pub(super) fn seconds(number: &serde_json::Number) -> Timestamp {
    let whole = number.as_i64().or_else(|| number.as_u64().map(|_| i64::MAX));
    #[expect(clippy::cast_possible_truncation, reason = "saturates, which is what is wanted of 1e300")]
    let rounded = || number.as_f64().map_or(0, |float| float.floor() as i64);
    Timestamp::from_unix(whole.unwrap_or_else(rounded))
}

/// Claims without what is about tokens of other parties: sources of aggregated and distributed claims (OpenID Connect
/// Core 5.6.2) are never fetched and may hold access tokens.
pub(super) fn without_sources(mut claims: Map<String, Value>) -> Map<String, Value> {
    claims.remove("_claim_sources");
    claims.remove("_claim_names");
    claims
}
