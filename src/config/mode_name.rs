//! The value of `mode`, and what follows from it for the other keys of a route.

use super::auth_code::{AuthCode, Sites};
use super::bearer::VERIFYING;
use super::path_rule::{Callers, ENDPOINTS};
use super::report::Wrong;
use super::route::Declared;
use super::section::Section;
use super::{Device, Mode, Origin, Verify};

/// The value of `mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModeName {
    AuthCode,
    Device,
    Verify,
}

/// What only browsers have a use for.
const OF_BROWSERS: &[&str] =
    &["redirect_uri", "home_url", "allowed_origins", "expose_headers", "allowed_redirects", "claims_source", "claims"];

/// What only those have a use for who log in by redirect, of the keys of a client.
const OF_LOGINS: &[&str] = &[
    "scopes",
    "authorization_params",
    "forwarded_params",
    "userinfo",
    "additional_audiences",
    "require_at_hash",
    "id_token_hint",
];

impl ModeName {
    pub(super) fn named(text: &str) -> Option<Self> {
        match text {
            "auth-code" => Some(Self::AuthCode),
            "device" => Some(Self::Device),
            "verify" => Some(Self::Verify),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::AuthCode => "auth-code",
            Self::Device => "device",
            Self::Verify => "verify",
        }
    }

    /// Reads what only this mode has. `public_urls` is empty when they are not legal.
    pub(super) fn resolve(self, section: &Section<'_>, declared: &Declared, public_urls: &[Origin]) -> Option<Mode> {
        let providers = &declared.providers;
        match self {
            Self::AuthCode => {
                let clients = providers.clients_of(section);
                let several_providers = clients.as_ref().is_some_and(|clients| clients.len() > 1);
                let sites = Sites { public_urls, several_providers };
                AuthCode::resolve(section, clients, &sites).map(|mode| Mode::AuthCode(Box::new(mode)))
            }
            Self::Device => Device::resolve(section, providers, public_urls).map(|mode| Mode::Device(Box::new(mode))),
            Self::Verify => Verify::resolve(section, providers, public_urls).map(|mode| Mode::Verify(Box::new(mode))),
        }
    }

    /// The first segments below `base_path` that are ours.
    pub(super) const fn endpoints(self) -> &'static [&'static str] {
        match self {
            Self::AuthCode => ENDPOINTS,
            Self::Device => &["login"],
            Self::Verify => &[],
        }
    }

    pub(super) fn callers(self, section: &Section<'_>) -> Callers {
        match self {
            Self::AuthCode => Callers::Session,
            Self::Device if section.has("verify") && section.bool("verify") == Some(false) => Callers::Unknown,
            Self::Device | Self::Verify => Callers::Bearer,
        }
    }

    /// Refuses keys that mean nothing in this mode, and says whether there were any.
    pub(super) fn refuse_keys_of_others(self, section: &Section<'_>) -> bool {
        let of_bearers = VERIFYING.iter().chain(&["verify", "resource"]);
        let foreign: Vec<&str> = match self {
            Self::AuthCode => of_bearers.copied().collect(),
            Self::Device => {
                OF_BROWSERS.iter().chain(OF_LOGINS).chain(&["token_endpoint_auth_method"]).copied().collect()
            }
            Self::Verify => OF_BROWSERS.iter().chain(OF_LOGINS).chain(&["verify", "base_path"]).copied().collect(),
        };
        let written: Vec<&str> = foreign.into_iter().filter(|key| section.has(key)).collect();
        for key in &written {
            let wrong = Wrong::new(format!("`{key}` means nothing with `mode = \"{}\"`", self.as_str()));
            section.cx.error(&section.at(key), wrong.hint("leave it out"));
        }
        !written.is_empty()
    }
}
