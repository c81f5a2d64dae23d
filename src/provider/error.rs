//! Why the provider's side failed: the words that `error` turns into answers. Nothing here can hold a secret.

use std::time::Duration;

use super::Skew;

/// Why the provider's side failed. No variant carries a token, a code or a text of the provider's that was not
/// shortened and escaped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Metadata or keys were never fetched, or are too old to trust; or the provider cannot be reached or is broken.
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
    /// A token that was made just now is not valid by our clock.
    #[error(
        "provider's answer is not acceptable: ID token: {rule}: by its times the provider's clock {skew}, and `clock_skew` \
         tolerates {} s: have both set by NTP",
        tolerated.as_secs()
    )]
    Clock {
        /// The rule that it breaks.
        rule: &'static str,
        /// How far its time is off.
        skew: Skew,
        /// How far it may be.
        tolerated: Duration,
    },
    /// The ID token is good, and says of another or an older authentication than the login asked for.
    #[error("the login is not what was asked for: {0}")]
    NotSteppedUp(&'static str),
    /// A callback that is not acceptable; see [`CallbackError`].
    #[error(transparent)]
    Callback(#[from] CallbackError),
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] crate::web::RandomError),
}

impl Error {
    /// Whether a refresh that failed so will never succeed, so that the session has no future.
    #[must_use]
    pub const fn ends_session(&self) -> bool {
        matches!(self, Self::InvalidGrant | Self::Unacceptable(_) | Self::Clock { .. })
    }
}

/// Why a callback was refused before anything was sent to the provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
    /// The provider reports an error.
    #[error("the provider answered {words}")]
    Provider {
        /// One of a fixed list, or `unknown`.
        code: &'static str,
        /// What it said, code and description (escaped, shortened); for the log only.
        words: String,
    },
}

/// A text of the provider's as it may stand in a log line: printable ASCII, everything else escaped, and short.
pub(super) fn escaped(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    text.chars().take(MAX_CHARS).flat_map(char::escape_default).collect()
}
