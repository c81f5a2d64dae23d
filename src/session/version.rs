//! One version of a session: whose it is, how long it lasts, what the provider said, and the tokens.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use crate::config::{Name, Route};
use crate::provider::{AccessToken, Grant, IdToken, RefreshToken, Renewal};
use crate::session::{Handle, SessionId};
use crate::time::Timestamp;

/// What a session belongs to. It opens nothing on another route, and nothing after its client changed.
#[derive(Debug, PartialEq, Eq)]
pub struct Binding {
    /// The route that it was made on.
    pub route: Name,
    /// The provider's name, for logs and metrics.
    pub provider: Name,
    /// The issuer.
    pub issuer: String,
    /// The client.
    pub client_id: String,
}

impl Binding {
    /// Whether a session bound to `other` is one of ours: same route, issuer and client. The provider's name is the
    /// operator's to change.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.route == other.route && self.issuer == other.issuer && self.client_id == other.client_id
    }
}

/// The tokens of one version of a session.
#[derive(Clone)]
pub struct Tokens {
    /// For upstreams.
    pub access: AccessToken,
    /// When the access token ends.
    pub access_expires_at: Timestamp,
    /// When this set was received.
    pub obtained_at: Timestamp,
    /// For the next refresh.
    pub refresh: Option<RefreshToken>,
    /// The latest ID token, for `id_token_hint`.
    pub id_token: IdToken,
}

/// One version of one login.
pub struct Session {
    /// Hash of the handle.
    pub id: SessionId,
    /// Counts up with each replacement.
    pub version: u64,
    /// What it belongs to.
    pub binding: Arc<Binding>,
    /// `sub`; with the issuer, the key of a user.
    pub subject: String,
    /// `sid`, the provider's name for its own session.
    pub sid: Option<String>,
    /// The login.
    pub created_at: Timestamp,
    /// The end, used or not.
    pub expires_at: Timestamp,
    /// Claims of the latest ID token; those that a refreshed one leaves out are kept.
    pub claims: Map<String, Value>,
    /// Claims of the userinfo endpoint at login.
    pub userinfo: Map<String, Value>,
    /// The tokens.
    pub tokens: Tokens,
    /// What its route has worked out about this version.
    pub profile: OnceLock<Arc<Profile>>,
}

/// What a route works out about a version of a session, once for all requests that come with it.
#[derive(Debug)]
pub struct Profile {
    /// For whom: the same route under another configuration works it out anew.
    route: Arc<Route>,
    /// The groups of the user.
    pub groups: Vec<String>,
    /// The headers of a verdict, once they were asked for.
    pub told: OnceLock<Vec<(HeaderName, HeaderValue)>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Session")
            .field("id", &self.id)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// The first version, from a verified grant.
    #[must_use]
    pub fn open(handle: &Handle, binding: Arc<Binding>, grant: Grant, lifetime: Duration, now: Timestamp) -> Self {
        Self {
            id: handle.id(),
            version: 0,
            binding,
            subject: grant.subject,
            sid: grant.sid,
            created_at: now,
            expires_at: now.plus(lifetime),
            claims: grant.claims,
            userinfo: grant.userinfo,
            tokens: Tokens {
                access: grant.access_token,
                access_expires_at: grant.access_expires_at,
                obtained_at: now,
                refresh: grant.refresh_token,
                id_token: grant.id_token,
            },
            profile: OnceLock::new(),
        }
    }

    /// The next version, with refreshed tokens. A refresh token that was not rotated stays (RFC 6749 6).
    #[must_use]
    pub fn renewed(&self, renewal: Renewal, now: Timestamp) -> Self {
        let mut claims = self.claims.clone();
        let id_token = match renewal.id_token {
            Some((token, fresh)) => {
                claims.extend(fresh);
                token
            }
            None => self.tokens.id_token.clone(),
        };
        Self {
            id: self.id,
            version: self.version.saturating_add(1),
            binding: Arc::clone(&self.binding),
            subject: self.subject.clone(),
            sid: self.sid.clone(),
            created_at: self.created_at,
            expires_at: self.expires_at,
            claims,
            userinfo: self.userinfo.clone(),
            tokens: Tokens {
                access: renewal.access_token,
                access_expires_at: renewal.access_expires_at,
                obtained_at: now,
                refresh: renewal.refresh_token.or_else(|| self.tokens.refresh.clone()),
                id_token,
            },
            profile: OnceLock::new(),
        }
    }

    /// What `route` knows about this version; `groups` gives those of the user, where that has to be worked out.
    pub fn profile(&self, route: &Arc<Route>, groups: impl Fn() -> Vec<String>) -> Arc<Profile> {
        let profile = || Arc::new(Profile { route: Arc::clone(route), groups: groups(), told: OnceLock::new() });
        let known = self.profile.get_or_init(profile);
        if Arc::ptr_eq(&known.route, route) { Arc::clone(known) } else { profile() }
    }

    /// Whether `other` is this very version, and not another one with its number.
    pub(super) fn is_same_version(&self, other: &Self) -> bool {
        self.id == other.id
            && self.version == other.version
            && self.tokens.access.expose() == other.tokens.access.expose()
    }

    /// A claim by its path; dots descend into objects, after a member of the full name was looked for. The ID token
    /// goes before userinfo.
    #[must_use]
    pub fn claim(&self, path: &str) -> Option<&Value> {
        claim(&self.claims, path).or_else(|| claim(&self.userinfo, path))
    }
}

/// Finds `path` in `claims`: a member of that very name, else step by step at the dots.
#[must_use]
pub fn claim<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (head, rest) = path.split_once('.')?;
    claim(claims.get(head)?.as_object()?, rest)
}
