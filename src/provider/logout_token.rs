//! Logout tokens: the provider says, from server to server, that a user or one of its own sessions has logged out
//! (OpenID Connect Back-Channel Logout 1.0, 2.4 and 2.6).

use std::time::Duration;

use serde_json::{Map, Value};

use super::claims::{self, Broken, Rules};
use super::jwt::{Unverified, Verified};
use super::{Client, Denied};
use crate::time::Timestamp;

/// Longest logout token in bytes; it names one user and one session (BC-10).
const MAX_LEN: usize = 16 * 1024;

/// How old a logout token may be, and so how long its `jti` has to be remembered, whatever its `exp` says.
const MAX_AGE: Duration = Duration::from_secs(600);

/// The member of `events` that makes a JWT a logout token.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// A logout token that was verified and judged; nothing else makes one.
#[derive(Debug)]
pub struct LogoutToken {
    /// `sub`. There, or else `sid` is.
    pub subject: Option<String>,
    /// `sid`, the provider's name for its own session.
    pub sid: Option<String>,
    /// `jti`, by which one that comes twice is known.
    pub jti: String,
    /// From when on it would be refused for its age, so that its `jti` need not be remembered any longer.
    pub over_at: Timestamp,
}

impl LogoutToken {
    /// Verifies `token` as one for one of `clients`, chosen by the issuer that it names.
    ///
    /// # Errors
    /// [`Denied::Token`] for one that is not good, [`Denied::Provider`] when nobody can tell now.
    pub async fn verify<'c>(
        token: &str,
        mut clients: impl Iterator<Item = &'c Client>,
        now: Timestamp,
    ) -> Result<(Self, &'c Client), Denied> {
        // What it says of itself decides nothing but whose keys are tried.
        let unverified = Unverified::parse(token, MAX_LEN)?.read()?;
        let said = unverified.get("iss").and_then(Value::as_str).ok_or("iss is missing or no string")?;
        let client = clients.find(|client| client.provider.config().issuer == said);
        let client = client.ok_or("iss is no issuer of this route, byte for byte")?;
        let verified = client.provider.verify(token, MAX_LEN, now).await?;
        Ok((judge(&verified, client, now)?, client))
    }
}

/// The rules of 2.6; the signature was checked with an algorithm that is good for ID tokens.
fn judge(token: &Verified, client: &Client, now: Timestamp) -> Result<LogoutToken, Broken> {
    let provider = client.provider.config();
    let rules = Rules { issuer: &provider.issuer, skew: provider.clock_skew, now };
    let claims = &token.claims;
    // RFC 8725 3.11. The type is only recommended, so one that says nothing passes, but none of another kind.
    let kinds = ["jwt", "logout+jwt", "application/logout+jwt"];
    if token.typ.as_ref().is_some_and(|typ| !kinds.contains(&typ.to_ascii_lowercase().as_str())) {
        return Err("typ is that of another kind of token".into());
    }
    rules.issuer(claims)?;
    if !claims::audiences(claims)?.contains(&client.registration.client_id.as_str()) {
        return Err("aud does not name the client".into());
    }
    rules.not_expired(claims)?;
    rules.already_valid(claims)?;
    let issued = rules.issued_at(claims)?.ok_or("iat is missing")?;
    let over_at = issued.plus(MAX_AGE).plus(rules.skew);
    if over_at <= now {
        return Err("iat is too old".into());
    }
    if !is_event(claims.get("events")) {
        return Err("events does not say that it is about a logout".into());
    }
    // An ID token must never pass for one of these (2.4).
    if claims.contains_key("nonce") {
        return Err("it has a nonce, as ID tokens have".into());
    }
    let name = |name| claims::text(claims, name).map(|text| text.filter(|text| !text.is_empty()));
    let jti = name("jti")?.ok_or("jti is missing")?.to_owned();
    let (subject, sid) = (name("sub")?.map(str::to_owned), name("sid")?.map(str::to_owned));
    if subject.is_none() && sid.is_none() {
        return Err("neither sub nor sid says who logged out".into());
    }
    Ok(LogoutToken { subject, sid, jti, over_at })
}

fn is_event(events: Option<&Value>) -> bool {
    let members: Option<&Map<String, Value>> = events.and_then(Value::as_object);
    members.and_then(|members| members.get(EVENT)).is_some_and(Value::is_object)
}
