//! A session as bytes: what memory and disk keep, and in what format. Tokens are packed, and claims that the ID token
//! holds are not written twice.
//!
//! The first byte names the format. A reader knows all formats that a release ever wrote; whatever else comes, or does
//! not add up, is no session.

mod claims;
mod token;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::config::Name;
use crate::provider::{AccessToken, IdToken, RefreshToken};
use crate::session::{Binding, Session, SessionId, Tokens};
use crate::time::Timestamp;

use claims::Likeness;
use token::Packed;

/// The format that is written.
const FORMAT: u8 = 1;

/// What stands at the front of a record, so that it can be read alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// [`Session::version`].
    pub(super) version: u64,
    /// [`Session::expires_at`].
    pub(super) expires_at: Timestamp,
}

/// Format 1.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    head: Head,
    created_at: Timestamp,
    route: &'a str,
    provider: &'a str,
    issuer: &'a str,
    client_id: &'a str,
    #[serde(borrow)]
    subject: Named<'a>,
    #[serde(borrow)]
    sid: Named<'a>,
    #[serde(borrow)]
    access: Packed<'a>,
    access_expires_at: Timestamp,
    obtained_at: Timestamp,
    #[serde(borrow)]
    refresh: Option<Packed<'a>>,
    #[serde(borrow)]
    id_token: Packed<'a>,
    /// Relative to the payload of the ID token.
    #[serde(borrow)]
    claims: Likeness<'a>,
    /// Relative to the claims.
    #[serde(borrow)]
    userinfo: Likeness<'a>,
}

/// A name that is usually a claim as well.
#[derive(Serialize, Deserialize)]
enum Named<'a> {
    Nothing,
    /// It is what the claim says.
    Claimed,
    Other(#[serde(borrow)] Cow<'a, str>),
}

impl<'a> Named<'a> {
    fn new(name: Option<&'a str>, claim: Option<&Value>) -> Self {
        match name {
            None => Self::Nothing,
            Some(name) if claim.and_then(Value::as_str) == Some(name) => Self::Claimed,
            Some(name) => Self::Other(Cow::Borrowed(name)),
        }
    }

    /// The name, if there is one; `None` when the claim that it refers to is not there.
    fn name(&self, claim: Option<&Value>) -> Option<Option<String>> {
        match self {
            Self::Nothing => Some(None),
            Self::Claimed => claim.and_then(Value::as_str).map(|name| Some(name.to_owned())),
            Self::Other(name) => Some(Some(name.clone().into_owned())),
        }
    }
}

/// Writes `session`; `None` only for what no provider can say, such as claims that are no JSON.
pub(super) fn encode(session: &Session) -> Option<Zeroizing<Vec<u8>>> {
    let Session { binding, claims, tokens, .. } = session;
    let said = tokens.id_token.claims().unwrap_or_default();
    let record = Record {
        head: Head { version: session.version, expires_at: session.expires_at },
        created_at: session.created_at,
        route: binding.route.as_str(),
        provider: binding.provider.as_str(),
        issuer: &binding.issuer,
        client_id: &binding.client_id,
        subject: Named::new(Some(&session.subject), claims.get("sub")),
        sid: Named::new(session.sid.as_deref(), claims.get("sid")),
        access: Packed::new(tokens.access.expose()),
        access_expires_at: tokens.access_expires_at,
        obtained_at: tokens.obtained_at,
        refresh: tokens.refresh.as_ref().map(|token| Packed::new(token.expose())),
        id_token: Packed::new(tokens.id_token.expose()),
        claims: Likeness::of(claims, &said)?,
        userinfo: Likeness::of(&session.userinfo, claims)?,
    };
    postcard::to_extend(&record, vec![FORMAT]).ok().map(Zeroizing::new)
}

/// Reads the session `id`.
pub(super) fn decode(id: SessionId, bytes: &[u8]) -> Option<Session> {
    let record: Record<'_> = postcard::from_bytes(body(bytes)?).ok()?;
    let id_token = IdToken::from_stored(&record.id_token.text()?);
    let claims = record.claims.claims(&id_token.claims().unwrap_or_default())?;
    let refresh = match &record.refresh {
        Some(token) => Some(RefreshToken::from_stored(&token.text()?)?),
        None => None,
    };
    Some(Session {
        id,
        version: record.head.version,
        binding: Arc::new(Binding {
            route: Name::parse(record.route)?,
            provider: Name::parse(record.provider)?,
            issuer: record.issuer.to_owned(),
            client_id: record.client_id.to_owned(),
        }),
        subject: record.subject.name(claims.get("sub"))??,
        sid: record.sid.name(claims.get("sid"))?,
        created_at: record.created_at,
        expires_at: record.head.expires_at,
        userinfo: record.userinfo.claims(&claims)?,
        tokens: Tokens {
            access: AccessToken::from_stored(&record.access.text()?)?,
            access_expires_at: record.access_expires_at,
            obtained_at: record.obtained_at,
            refresh,
            id_token,
        },
        claims,
        profile: OnceLock::new(),
    })
}

/// Reads only the front.
pub(super) fn head(bytes: &[u8]) -> Option<Head> {
    postcard::take_from_bytes(body(bytes)?).ok().map(|(head, _)| head)
}

/// What follows the name of the one format that there is.
fn body(bytes: &[u8]) -> Option<&[u8]> {
    bytes.split_first().and_then(|(format, body)| (*format == FORMAT).then_some(body))
}

#[cfg(test)]
mod tests;
