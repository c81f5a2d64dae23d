//! The ID token: the numbered rules of OpenID Connect Core 3.1.3.7 for a login, and of 12.2 for a refresh.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::claims::{self, Broken, Rule, Rules};
use super::flow::Attempt;
use super::jwt::Verified;
use super::tokens::AccessToken;
use super::{Error, Skew};
use crate::config::{self, SigningAlg};
use crate::time::Timestamp;

/// Longest ID token in bytes: what fits into an answer of the token endpoint. A user may be in thousands of groups.
pub(super) const MAX_LEN: usize = 256 * 1024;

/// Claims of an ID token that was verified and judged; the only way to a [`Grant`](super::Grant).
#[derive(Debug)]
pub(super) struct Claims {
    claims: Map<String, Value>,
    subject: String,
    sid: Option<String>,
}

impl Claims {
    /// All claims.
    pub(super) fn into_map(self) -> Map<String, Value> {
        self.claims
    }

    /// `sub`.
    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    /// `sid`.
    pub(super) fn sid(&self) -> Option<&str> {
        self.sid.as_deref()
    }
}

/// Why the ID token of a login is not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It breaks a rule that holds for every one.
    Broken(Broken),
    /// It is good, and says of another or an older authentication than this login asked for.
    Short(&'static str),
}

impl From<Broken> for Flaw {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<Rule> for Flaw {
    fn from(rule: Rule) -> Self {
        Self::Broken(rule.into())
    }
}

/// What an ID token is judged by, whenever it comes.
#[derive(Clone, Copy)]
pub(super) struct Judge<'a> {
    /// Whom it must be for.
    pub(super) client: &'a config::Client,
    /// The access token that came with it.
    pub(super) access_token: &'a AccessToken,
    /// When it came.
    pub(super) now: Timestamp,
}

impl Judge<'_> {
    /// Judges the ID token of a login (OpenID Connect Core 3.1.3.7; the numbers are the specification's).
    pub(super) fn login(&self, token: Verified, attempt: &Attempt) -> Result<Claims, Flaw> {
        let rules = self.rules();
        let issued = self.always(&token)?;
        // (10) `iat` says whether it was made for this login at all; a login lasts no longer than its attempt.
        if issued < self.now.minus(Attempt::LIFETIME).minus(rules.skew) {
            return Err(rules.off("iat is too old", issued).into());
        }
        // (11) The nonce ties the token to the browser that began.
        let nonce = claims::text(&token.claims, "nonce")?.ok_or("nonce is missing")?;
        if !equal(nonce, attempt.nonce()) {
            return Err("nonce is not the attempt's".into());
        }
        // (12) An authentication context that was asked for must be one of those.
        let wanted = attempt.acr_values();
        if !wanted.is_empty() {
            let acr = claims::text(&token.claims, "acr")?.ok_or(Flaw::Short("acr is missing though asked for"))?;
            if !wanted.iter().any(|value| value == acr) {
                return Err(Flaw::Short("acr is not one of those asked for"));
            }
        }
        // (13) So must a recent authentication.
        if let Some(max_age) = attempt.max_age() {
            let at = claims::auth_time(&token.claims)?.ok_or(Flaw::Short("auth_time is missing though asked for"))?;
            if at < self.now.minus(max_age).minus(rules.skew) || at > self.now.plus(rules.skew) {
                return Err(Flaw::Short("auth_time is older than asked for"));
            }
        }
        Ok(finish(token)?)
    }

    /// Judges the ID token of a refresh against the claims of the session's (OpenID Connect Core 12.2).
    pub(super) fn refreshed(&self, token: Verified, before: &Map<String, Value>) -> Result<Claims, Broken> {
        self.always(&token)?;
        for name in ["iss", "sub"] {
            if token.claims.get(name) != before.get(name) {
                return Err("iss or sub is another than at login".into());
            }
        }
        let audiences = claims::audiences(&token.claims)?;
        if !claims::audiences(before)?.iter().all(|audience| audiences.contains(audience)) {
            return Err("aud lacks one that it had at login".into());
        }
        // `azp` must not change, and must not appear.
        if token.claims.get("azp") != before.get("azp") {
            return Err("azp is another than at login".into());
        }
        // The others may be left out, but not change. Every login had a nonce; not every one had `auth_time`.
        let changed = |name: &str| token.claims.get(name).is_some_and(|value| before.get(name) != Some(value));
        if changed("nonce") || (before.contains_key("auth_time") && changed("auth_time")) {
            return Err("auth_time or nonce is another than at login".into());
        }
        finish(token)
    }

    /// The rules that hold at any time. Returns `iat`.
    fn always(&self, token: &Verified) -> Result<Timestamp, Broken> {
        let rules = self.rules();
        let claims = &token.claims;
        // RFC 8725 3.11: a token of another kind is not an ID token, however well signed.
        if token.typ.as_deref().is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
            return Err("typ is not that of an ID token".into());
        }
        // (2) Issuer.
        rules.issuer(claims)?;
        // (3) Audience: we, and nobody whom the operator did not name.
        let audiences = claims::audiences(claims)?;
        let client_id = self.client.client_id.as_str();
        if !audiences.contains(&client_id) {
            return Err("aud does not name the client".into());
        }
        let known = |audience: &&str| {
            *audience == client_id || self.client.additional_audiences.iter().any(|listed| listed == audience)
        };
        if !audiences.iter().all(known) {
            return Err("aud names somebody unknown".into());
        }
        // (4), (5) Authorized party: we, and named when there are several audiences.
        match claims::text(claims, "azp")? {
            Some(azp) if azp != client_id => return Err("azp is not the client".into()),
            None if audiences.len() > 1 => return Err("azp is missing though aud names several".into()),
            _ => {}
        }
        // (6) to (8) are the signature, which `jwt` checked. (9), (10) Times.
        rules.not_expired(claims)?;
        rules.already_valid(claims)?;
        let issued = rules.issued_at(claims)?.ok_or("iat is missing")?;
        claims::subject(claims)?;
        // 3.1.3.8: the access token that came with it.
        match claims::text(claims, "at_hash")? {
            Some(hash) if !equal(hash, &at_hash(token.alg, self.access_token)) => Err("at_hash does not match".into()),
            None if self.client.require_at_hash => Err("at_hash is missing".into()),
            _ => Ok(issued),
        }
    }

    /// What a broken rule means for whoever asked for the token. It has just been made, so that times which are not ours
    /// are those of another clock.
    pub(super) fn error(&self, broken: Broken) -> Error {
        let Broken { rule, ahead } = broken;
        if ahead == 0 {
            return Error::Unacceptable(format!("ID token: {rule}"));
        }
        Error::Clock { rule, skew: Skew::from_seconds(ahead), tolerated: self.client.provider.clock_skew }
    }

    fn rules(&self) -> Rules<'_> {
        let provider = &self.client.provider;
        Rules { issuer: &provider.issuer, skew: provider.clock_skew, now: self.now }
    }
}

fn finish(token: Verified) -> Result<Claims, Broken> {
    let subject = claims::subject(&token.claims)?.to_owned();
    let sid = claims::text(&token.claims, "sid")?.map(str::to_owned);
    Ok(Claims { claims: claims::without_sources(token.claims), subject, sid })
}

/// The left half of the token's hash, by the hash that the signature uses (OpenID Connect Core 3.1.3.6; SHA-512 for
/// Ed25519, as RFC 8032 5.1 does).
pub(super) fn at_hash(alg: SigningAlg, token: &AccessToken) -> String {
    let algorithm = match alg {
        SigningAlg::RS256 | SigningAlg::PS256 | SigningAlg::ES256 => &digest::SHA256,
        SigningAlg::RS384 | SigningAlg::PS384 | SigningAlg::ES384 => &digest::SHA384,
        SigningAlg::RS512 | SigningAlg::PS512 | SigningAlg::EdDSA => &digest::SHA512,
    };
    let hash = digest::digest(algorithm, token.expose().as_bytes());
    let (left, _) = hash.as_ref().split_at(hash.as_ref().len() / 2);
    URL_SAFE_NO_PAD.encode(left)
}

/// Equality in constant time.
fn equal(a: &str, b: &str) -> bool {
    verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok()
}
