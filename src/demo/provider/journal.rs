//! What the development provider was asked, so that tests can count requests and read how they were made.

use std::collections::VecDeque;

use http::{HeaderMap, Method};

use crate::time::Timestamp;

/// How many requests and issued secrets are remembered; the oldest go first, so that a demo may run for weeks.
pub(super) const REMEMBERED: usize = 50_000;

/// What the provider offers. A new one is a file with an `answer`, a row here, and a path in [`Endpoint::path`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/.well-known/openid-configuration` (OpenID Connect Discovery 4).
    Discovery,
    /// The key set (RFC 7517 5).
    Jwks,
    /// Authorization endpoint (RFC 6749 3.1).
    Authorize,
    /// Token endpoint (RFC 6749 3.2).
    Token,
    /// Userinfo endpoint (OpenID Connect Core 5.3).
    Userinfo,
    /// Revocation endpoint (RFC 7009).
    Revocation,
    /// End-session endpoint (OpenID Connect RP-Initiated Logout 2).
    EndSession,
    /// Device authorization endpoint (RFC 8628 3.1).
    DeviceAuthorization,
    /// The page where a person types a device's code in (RFC 8628 3.3).
    DevicePage,
    /// Introspection endpoint (RFC 7662 2).
    Introspection,
}

impl Endpoint {
    /// Every endpoint.
    pub const ALL: [Self; 10] = [
        Self::Discovery,
        Self::Jwks,
        Self::Authorize,
        Self::Token,
        Self::Userinfo,
        Self::Revocation,
        Self::EndSession,
        Self::DeviceAuthorization,
        Self::DevicePage,
        Self::Introspection,
    ];

    /// The path under the issuer. That of the keys has a random tail, because clients must learn it from the metadata.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Discovery => "/.well-known/openid-configuration",
            Self::Jwks => "/keys/",
            Self::Authorize => "/authorize",
            Self::Token => "/token",
            Self::Userinfo => "/userinfo",
            Self::Revocation => "/revoke",
            Self::EndSession => "/end-session",
            Self::DeviceAuthorization => "/device/authorize",
            Self::DevicePage => "/device",
            Self::Introspection => "/introspect",
        }
    }
}

/// How a request to the provider authenticated itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Authentication {
    /// Not at all.
    None,
    /// `client_secret_basic`.
    Basic,
    /// `client_secret_post`.
    Post,
    /// `Authorization: Bearer`.
    Bearer,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What was asked.
    pub endpoint: Endpoint,
    /// When, by the provider's clock.
    pub at: Timestamp,
    /// The method.
    pub method: Method,
    /// How it authenticated itself, before that was judged.
    pub authentication: Authentication,
    /// All headers.
    pub headers: HeaderMap,
    /// Parameters of the query and then of the form, decoded, in their order.
    pub parameters: Vec<(String, String)>,
}

impl Seen {
    /// The first value of a parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What a secret that the provider knows is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Secret {
    /// An authorization code.
    Code,
    /// An access token.
    AccessToken,
    /// A refresh token.
    RefreshToken,
    /// An ID token.
    IdToken,
    /// A client secret.
    ClientSecret,
    /// A `state` that a client sent.
    State,
    /// A `nonce` that a client sent.
    Nonce,
    /// A `code_verifier` that a client sent.
    CodeVerifier,
    /// A device code.
    DeviceCode,
}

impl Secret {
    /// The word in a marker.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::AccessToken => "access",
            Self::RefreshToken => "refresh",
            Self::IdToken => "id",
            Self::ClientSecret => "secret",
            Self::State => "state",
            Self::Nonce => "nonce",
            Self::CodeVerifier => "verifier",
            Self::DeviceCode => "device",
        }
    }
}

/// A list that forgets its oldest entries.
#[derive(Debug)]
pub(super) struct Bounded<T>(VecDeque<T>);

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Clone> Bounded<T> {
    /// Adds `entry`, at the price of the oldest.
    pub(super) fn push(&mut self, entry: T) {
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(entry);
    }

    /// Whether some entry is `wanted`; newest first.
    pub(super) fn contains(&self, wanted: impl Fn(&T) -> bool) -> bool {
        self.0.iter().rev().any(wanted)
    }

    /// A copy of all entries, oldest first.
    pub(super) fn to_vec(&self) -> Vec<T> {
        self.0.iter().cloned().collect()
    }
}
