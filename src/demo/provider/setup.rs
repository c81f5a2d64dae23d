//! How a development provider is set up, and what stays as it is while it runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::HeaderMap;
use url::{Host, Url};

use super::Broken;
use super::client::Client;
use super::journal::Endpoint;
use super::key::{Algorithm, Ring};
use super::server::host_of;
use super::user::User;
use crate::time::Clock;
use crate::web;

/// What a provider is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; loopback only. Default: a free port of 127.0.0.1.
    pub listen: SocketAddr,
    /// The issuer, when it is not where the provider listens: that of a provider reached by a back channel.
    pub issuer: Option<String>,
    /// The issuer's path, when `issuer` is not given. Default `/realms/corp`.
    pub path: String,
    /// The clock that all lifetimes go by.
    pub clock: Clock,
    /// The middle of the marker in every secret, `canary-<this>-<kind>-<number>-<random>`.
    pub canary: String,
    /// Who is registered.
    pub clients: Vec<Client>,
    /// Who can log in.
    pub users: Vec<User>,
    /// What tokens are signed with. Default RS256, which every client knows (OpenID Connect Core 15.1).
    pub signing: Algorithm,
    /// Which keys are published.
    pub keys: KeySet,
    /// How long access tokens are good for. Default five minutes.
    pub access_token_lifetime: Duration,
    /// `aud` of access tokens.
    pub audience: String,
    /// Whether a refresh token is good for one use only, and a second use ends all. Default true.
    pub rotate_refresh_tokens: bool,
    /// How long a device waits between two polls (RFC 8628 3.2). Default five seconds.
    pub device_interval: Duration,
    /// The authentication contexts that a login can have (`acr`); the first is that of a login which asks for none of
    /// them. Default `1` and `2`.
    pub acr_values: Vec<String>,
}

/// Which keys are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySet {
    /// The signing key alone.
    Single,
    /// An RSA and an EC key.
    Usual,
    /// Beside them keys of unknown types, curves and uses, as a provider may have them for others (the default).
    Odd,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            issuer: None,
            path: "/realms/corp".to_owned(),
            clock: Clock::default(),
            canary: "demo".to_owned(),
            clients: Vec::new(),
            users: User::samples(),
            signing: Algorithm::RS256,
            keys: KeySet::Odd,
            access_token_lifetime: Duration::from_secs(300),
            audience: "api".to_owned(),
            rotate_refresh_tokens: true,
            device_interval: Duration::from_secs(5),
            acr_values: vec!["1".to_owned(), "2".to_owned()],
        }
    }
}

impl Options {
    /// New keys.
    pub(super) fn ring(&self) -> Result<Ring, Broken> {
        match self.keys {
            KeySet::Single => Ring::single(self.signing),
            KeySet::Usual => Ring::generate(self.signing, false),
            KeySet::Odd => Ring::generate(self.signing, true),
        }
    }
}

/// What does not change while the provider runs.
pub(super) struct Setup {
    pub(super) issuer: String,
    pub(super) clock: Clock,
    pub(super) clients: Vec<Client>,
    pub(super) users: Vec<User>,
    pub(super) audience: String,
    pub(super) rotate_refresh_tokens: bool,
    pub(super) device_interval: Duration,
    pub(super) acr_values: Vec<String>,
    path: String,
    host: Option<String>,
    keys_tail: String,
}

impl Setup {
    /// The setup of a provider that listens at `address`.
    ///
    /// # Errors
    /// [`Broken`] without randomness.
    pub(super) fn new(options: Options, address: SocketAddr) -> Result<Self, Broken> {
        let issuer = options.issuer.unwrap_or_else(|| format!("http://{address}{}", options.path));
        let url = Url::parse(&issuer).ok();
        Ok(Self {
            path: url.as_ref().map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default(),
            host: url.and_then(|url| url.host_str().map(str::to_owned)),
            issuer,
            clock: options.clock,
            clients: options.clients,
            users: options.users,
            audience: options.audience,
            rotate_refresh_tokens: options.rotate_refresh_tokens,
            device_interval: options.device_interval,
            acr_values: options.acr_values,
            keys_tail: web::token().map_err(|_| Broken)?,
        })
    }

    /// The authentication context of a login that asks for `acr_values`: the first of them that there is, since they
    /// stand in the order of preference (OpenID Connect Core 3.1.2.1), or else the usual one. What is unknown is ignored.
    pub(super) fn acr(&self, acr_values: &str) -> String {
        let known = acr_values.split(' ').find(|value| self.acr_values.iter().any(|known| known == value));
        known.map(str::to_owned).or_else(|| self.acr_values.first().cloned()).unwrap_or_default()
    }

    /// The URL of an endpoint, under the issuer.
    pub(super) fn url(&self, endpoint: Endpoint) -> String {
        let base = self.issuer.trim_end_matches('/');
        let tail = if endpoint == Endpoint::Jwks { self.keys_tail.as_str() } else { "" };
        format!("{base}{}{tail}", endpoint.path())
    }

    /// The endpoint that a path names.
    pub(super) fn endpoint(&self, path: &str) -> Option<Endpoint> {
        let below = path.strip_prefix(&self.path)?;
        Endpoint::ALL.into_iter().find(|endpoint| match endpoint {
            Endpoint::Jwks => below.strip_prefix(endpoint.path()) == Some(self.keys_tail.as_str()),
            _ => below == endpoint.path(),
        })
    }

    /// Whether a request is meant for us: its host is a loopback one or the issuer's. Any other name means that some
    /// page on the web made a name of its own point here (DNS rebinding).
    pub(super) fn knows_host(&self, headers: &HeaderMap) -> bool {
        let Some(host) = host_of(headers) else { return false };
        let loopback = match Host::parse(host) {
            Ok(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Ok(Host::Ipv4(address)) => address.is_loopback(),
            Ok(Host::Ipv6(address)) => address.is_loopback(),
            Err(_) => false,
        };
        loopback || self.host.as_deref() == Some(host)
    }
}
