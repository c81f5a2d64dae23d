//! How a request fails: one refusal type with a stable reason code, from which answer, log line and metric follow.
//!
//! Lower layers have errors of their own and know no status codes; here they are summed up. The public text of a
//! refusal is its code alone, so nothing internal can leak: detail and source go to the log.

mod answer;
mod from;
pub mod page;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};

pub use answer::{Asker, answer};

/// Why a request was refused. The snake_case code of each is part of our API: answers, logs, metrics and `explain`
/// all use it.
macro_rules! reasons {
    ($(#[doc = $meaning:literal] $name:ident = $code:literal, $status:ident, $fault:ident;)*) => {
        /// Why a request was refused; a closed set.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $(#[doc = $meaning] $name,)* }

        impl Reason {
            /// Every reason, for tests and pre-made metric series.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable snake_case code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What it means, in one sentence for an operator.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning.trim_ascii(),)* }
            }

            /// The status of the answer; always 4xx or 5xx.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// Who has to mend it.
            #[must_use]
            pub const fn fault(self) -> Fault {
                match self { $(Self::$name => Fault::$fault,)* }
            }
        }
    };
}

/// Who is at fault; decides the log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The one who asked: logged at debug.
    Caller,
    /// The OpenID provider: logged as a warning.
    Provider,
    /// The upstream: logged as a warning.
    Upstream,
    /// We: logged as an error.
    Vestibule,
}

reasons! {
    /// Malformed request: framing, target, host, duplicate parameters.
    BadRequest = "bad_request", BAD_REQUEST, Caller;
    /// The path is not in canonical form where rules differ by path.
    AmbiguousPath = "ambiguous_path", BAD_REQUEST, Caller;
    /// `redirect` or `failure` names a place that is not allowed.
    BadRedirect = "bad_redirect", BAD_REQUEST, Caller;
    /// The callback's `state` belongs to no login of this browser.
    UnknownLogin = "unknown_login", BAD_REQUEST, Caller;
    /// The login was begun too long ago, or under a config or key that is gone.
    LoginExpired = "login_expired", BAD_REQUEST, Caller;
    /// The callback does not come from the provider that was asked (RFC 9207).
    IssuerMismatch = "issuer_mismatch", BAD_REQUEST, Caller;
    /// The callback URL was used before.
    LoginUsed = "login_used", BAD_REQUEST, Caller;
    /// The bearer is not in the form of one, or comes more than once (RFC 6750 3.1).
    InvalidRequest = "invalid_request", BAD_REQUEST, Caller;
    /// There is no bearer.
    BearerRequired = "bearer_required", UNAUTHORIZED, Caller;
    /// The bearer has expired, is malformed or revoked, or is meant for others (RFC 6750 3.1).
    InvalidToken = "invalid_token", UNAUTHORIZED, Caller;
    /// Nobody is logged in.
    LoginRequired = "login_required", UNAUTHORIZED, Caller;
    /// Whoever is logged in has to log in more strongly, or once more (RFC 9470 3).
    InsufficientUserAuthentication = "insufficient_user_authentication", UNAUTHORIZED, Caller;
    /// The provider says that the user must interact, or denied the login.
    AccessDenied = "access_denied", BAD_REQUEST, Caller;
    /// The provider answered the login with another error.
    ProviderRefused = "provider_refused", BAD_REQUEST, Provider;
    /// Origin or Fetch Metadata say that another site asks.
    CrossSite = "cross_site", FORBIDDEN, Caller;
    /// The path asks for a CSRF header that is missing.
    CsrfHeaderMissing = "csrf_header_missing", FORBIDDEN, Caller;
    /// The browser logs in again and again.
    LoginLoop = "login_loop", FORBIDDEN, Caller;
    /// The login at the provider was not as strong, or not as recent, as was asked for.
    StepUpFailed = "step_up_failed", FORBIDDEN, Provider;
    /// The bearer lacks a scope (RFC 6750 3.1).
    InsufficientScope = "insufficient_scope", FORBIDDEN, Caller;
    /// The user is in none of the path's groups, domains or claims.
    Forbidden = "forbidden", FORBIDDEN, Caller;
    /// The peer is not among `trusted_proxies`.
    UntrustedPeer = "untrusted_peer", FORBIDDEN, Caller;
    /// The host belongs to no route of this listener.
    HostMismatch = "host_mismatch", FORBIDDEN, Caller;
    /// The provider has no endpoint where devices could begin (RFC 8628 4).
    NoDeviceEndpoint = "no_device_endpoint", NOT_FOUND, Provider;
    /// No route or endpoint has this path.
    NotFound = "not_found", NOT_FOUND, Caller;
    /// The endpoint or the path rule does not know this method.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, Caller;
    /// The caller did not send its request in time.
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, Caller;
    /// The body is larger than the limit.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, Caller;
    /// The request target is longer than the limit.
    UriTooLong = "uri_too_long", URI_TOO_LONG, Caller;
    /// The content type is not the one that the endpoint reads.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, Caller;
    /// Too much that was bad came from this address lately.
    TooManyRequests = "too_many_requests", TOO_MANY_REQUESTS, Caller;
    /// The head is larger than the limit.
    HeadTooLarge = "head_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, Caller;
    /// Something of ours broke.
    Internal = "internal_error", INTERNAL_SERVER_ERROR, Vestibule;
    /// The upgrade is not one that we pass on.
    UpgradeUnsupported = "upgrade_unsupported", NOT_IMPLEMENTED, Caller;
    /// The provider's token answer or ID token was not acceptable.
    LoginFailed = "login_failed", BAD_GATEWAY, Provider;
    /// The upstream cannot be reached.
    UpstreamUnreachable = "upstream_unreachable", BAD_GATEWAY, Upstream;
    /// The upstream's answer was not HTTP, or broke off.
    UpstreamBroken = "upstream_broken", BAD_GATEWAY, Upstream;
    /// The provider's metadata or keys are not known yet, or it cannot be reached.
    ProviderUnavailable = "provider_unavailable", SERVICE_UNAVAILABLE, Provider;
    /// The session store does not answer, or is full.
    StoreUnavailable = "store_unavailable", SERVICE_UNAVAILABLE, Vestibule;
    /// The process is going down.
    ShuttingDown = "shutting_down", SERVICE_UNAVAILABLE, Vestibule;
    /// The upstream did not answer in time.
    UpstreamTimeout = "upstream_timeout", GATEWAY_TIMEOUT, Upstream;
    /// The provider did not answer in time.
    ProviderTimeout = "provider_timeout", GATEWAY_TIMEOUT, Provider;
}

/// A request that is not served, with all that log and answer need to know.
#[derive(Debug)]
pub struct Refusal {
    /// The stable reason.
    pub reason: Reason,
    /// For the log only: what exactly, in our words. Never holds a secret.
    pub detail: Option<Box<str>>,
    /// Whether the log has this refusal already, from where more was known of it than at the door.
    pub told: bool,
    /// For the page and `detail` of problem+json, in our words, where the reason alone would not help.
    pub words: Option<Cow<'static, str>>,
    /// Where a login leads on from here, where its own URL is not it: the link of a page, and `login_url`. Absolute, and
    /// checked.
    pub way_on: Option<Box<str>>,
    /// `Retry-After`, for answers of 503.
    pub retry_after: Option<Duration>,
    /// `Allow`, for answers of 405.
    pub allow: Option<Arc<HeaderValue>>,
    /// `WWW-Authenticate`, where it says more than that somebody has to log in.
    pub challenge: Option<Arc<HeaderValue>>,
    /// `Set-Cookie` values that go with the refusal, such as the clearing of a stale cookie.
    pub cookies: Vec<HeaderValue>,
}

impl Refusal {
    /// A refusal for `reason`.
    #[must_use]
    pub const fn new(reason: Reason) -> Self {
        Self {
            reason,
            detail: None,
            told: false,
            words: None,
            way_on: None,
            retry_after: None,
            allow: None,
            challenge: None,
            cookies: Vec::new(),
        }
    }

    /// Adds what the log should say.
    #[must_use]
    pub fn because(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(detail.to_string().into());
        self
    }

    /// A 405 that lists what is `allowed`.
    #[must_use]
    pub fn method(allowed: &'static str) -> Self {
        let mut refusal = Self::new(Reason::MethodNotAllowed);
        refusal.allow = Some(Arc::new(HeaderValue::from_static(allowed)));
        refusal
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}
