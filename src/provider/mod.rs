//! The OpenID provider, seen from our side: metadata, keys, tokens, and the requests of the code flow.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio_util::task::TaskTracker;
use url::Url;

use crate::config;
use crate::metrics::Metrics;
use crate::time::{Clock, Timestamp};

/// Why the provider's side failed. No variant carries a token, a code or a text of the provider's that was not
/// shortened and escaped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Metadata or keys were never fetched, or are too old to trust.
    #[error("provider is not available: {0}")]
    Unavailable(String),
    /// No answer within the deadline.
    #[error("provider did not answer in time: {0}")]
    Timeout(&'static str),
    /// The token endpoint answered `invalid_grant` (RFC 6749 5.2).
    #[error("provider refused the grant")]
    InvalidGrant,
    /// The token endpoint answered with another error code of RFC 6749 5.2 or an unknown one (escaped, shortened).
    #[error("provider answered {0}")]
    Refused(String),
    /// An answer or a token that is not acceptable, and the rule that it breaks.
    #[error("provider's answer is not acceptable: {0}")]
    Unacceptable(String),
    /// A callback that is not acceptable; see [`CallbackError`].
    #[error(transparent)]
    Callback(#[from] CallbackError),
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] crate::web::RandomError),
}

/// Why a callback was refused before anything was sent to the provider.
#[derive(Debug, thiserror::Error)]
pub enum CallbackError {
    /// `state` is not the attempt's.
    #[error("state does not match")]
    State,
    /// `iss` is missing though announced, or is not the issuer (RFC 9207 2.4).
    #[error("iss is missing or is not the issuer")]
    Issuer,
    /// The attempt is older than its lifetime, or client, issuer or redirect URI changed since.
    #[error("the attempt is too old, or the client changed since")]
    Expired,
    /// Duplicate or contradicting parameters.
    #[error("malformed callback: {0}")]
    Malformed(&'static str),
    /// The provider reports an error; the code is one of a fixed list or `unknown`.
    #[error("the provider reports {0}")]
    Provider(&'static str),
}

/// What a running provider needs from its surroundings.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The clock for background loops.
    pub clock: Clock,
    /// Where provider metrics go.
    pub metrics: Arc<Metrics>,
    /// Tasks that a shutdown waits for.
    pub tasks: TaskTracker,
}

/// The running part of one issuer: metadata, keys, and the loop that keeps both fresh. The loop ends with the last
/// `Arc`.
#[derive(Debug)]
pub struct Provider {}

impl Provider {
    /// Starts the loop; does no network I/O itself, so that a provider that is down blocks nothing.
    #[must_use]
    pub fn start(_config: Arc<config::Provider>, _surroundings: Surroundings) -> Arc<Self> {
        unimplemented!()
    }

    /// The configuration that it runs with.
    #[must_use]
    pub fn config(&self) -> &Arc<config::Provider> {
        unimplemented!()
    }

    /// Whether metadata and keys are there.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        unimplemented!()
    }
}

/// One registration at one running provider.
#[derive(Clone, Debug)]
pub struct Client {
    /// The issuer.
    pub provider: Arc<Provider>,
    /// What we are there.
    pub registration: Arc<config::Client>,
}

/// What a login asks for, beyond what the registration says.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Where the provider sends the browser back.
    pub redirect_uri: String,
    /// `prompt`, already checked against the values of OpenID Connect Core 3.1.2.1.
    pub prompt: Option<String>,
    /// `login_hint`.
    pub login_hint: Option<String>,
    /// `ui_locales`.
    pub ui_locales: Option<String>,
    /// `acr_values` that the ID token must then satisfy.
    pub acr_values: Vec<String>,
    /// `max_age` that `auth_time` must then satisfy.
    pub max_age: Option<Duration>,
}

/// One login between its start and its callback. Sealed into the browser's login cookie, hence serde; the AEAD tag is
/// the evidence that we wrote it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Attempt {
    state: String,
    nonce: String,
    code_verifier: String,
    issuer: String,
    client_id: String,
    redirect_uri: String,
    acr_values: Vec<String>,
    max_age: Option<u64>,
    started_at: Timestamp,
}

/// A callback whose `state`, `iss` and age were checked. The only way to the token endpoint.
pub struct Callback {
    attempt: Attempt,
    code: String,
}

/// An access token that is fit for a header; the value is `Bearer <token>`, marked sensitive (RFC 6750 2.1).
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(HeaderValue);

/// A refresh token (RFC 6749 A.17).
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken(config::Secret);

/// The compact form of a verified ID token; kept for `id_token_hint` only.
#[derive(Clone, PartialEq, Eq)]
pub struct IdToken(config::Secret);

/// What the token endpoint gave for a login, with the ID token verified.
pub struct Grant {
    /// For upstreams.
    pub access_token: AccessToken,
    /// When the access token ends; clamped to [now, now + 10 years]; an hour when the provider does not say.
    pub access_expires_at: Timestamp,
    /// For the next refresh.
    pub refresh_token: Option<RefreshToken>,
    /// The ID token as it came.
    pub id_token: IdToken,
    /// Verified claims of the ID token.
    pub claims: Map<String, Value>,
    /// Claims of the userinfo endpoint whose `sub` was equal; empty when it was not asked.
    pub userinfo: Map<String, Value>,
    /// `sub`.
    pub subject: String,
    /// `sid`, for logout from outside.
    pub sid: Option<String>,
}

/// What a refresh gave.
pub struct Renewal {
    /// For upstreams.
    pub access_token: AccessToken,
    /// When the access token ends.
    pub access_expires_at: Timestamp,
    /// The rotated refresh token; `None`: the old one stays.
    pub refresh_token: Option<RefreshToken>,
    /// A new ID token that passed OpenID Connect Core 12.2, and its claims.
    pub id_token: Option<(IdToken, Map<String, Value>)>,
}

impl Client {
    /// Begins a login: the authorization URL to send the browser to (RFC 6749 4.1.1, RFC 7636 4.3) and the attempt
    /// to seal into its cookie.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while metadata are unknown; [`Error::Random`].
    pub fn begin(&self, _ask: &Ask, _now: Timestamp) -> Result<(Url, Attempt), Error> {
        unimplemented!()
    }

    /// Judges a callback: duplicates, `state`, age, `iss` (RFC 9207), error answers. Sends nothing.
    ///
    /// # Errors
    /// [`CallbackError`].
    pub fn accept(
        &self,
        _attempt: Attempt,
        _query: &crate::web::Query,
        _now: Timestamp,
    ) -> Result<Callback, CallbackError> {
        unimplemented!()
    }

    /// Exchanges the code and verifies the ID token, then userinfo where the registration asks for it. Must run in a
    /// task of its own: it may not die with the request.
    ///
    /// # Errors
    /// [`Error`]; the code is never sent twice.
    pub async fn exchange(&self, _callback: Callback, _now: Timestamp) -> Result<Grant, Error> {
        unimplemented!()
    }

    /// Uses a refresh token once. `before` are the claims of the session's ID token (OpenID Connect Core 12.2).
    ///
    /// # Errors
    /// [`Error::InvalidGrant`] and [`Error::Unacceptable`] end the session; all others leave it.
    pub async fn refresh(
        &self,
        _token: &RefreshToken,
        _before: &Map<String, Value>,
        _now: Timestamp,
    ) -> Result<Renewal, Error> {
        unimplemented!()
    }

    /// Revokes a refresh token, best effort within two seconds (RFC 7009).
    pub async fn revoke(&self, _token: &RefreshToken) {
        unimplemented!()
    }

    /// The end-session URL (OpenID Connect RP-Initiated Logout 2), or `None` when the provider has none.
    #[must_use]
    pub fn end_session(&self, _hint: Option<&IdToken>, _return_to: &str, _state: &str) -> Option<Url> {
        unimplemented!()
    }
}
