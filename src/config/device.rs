//! What a route with `mode = "device"` has: CLIs that ask where to log in, and keep their own tokens.

use std::sync::Arc;

use super::bearer::{self, VERIFYING};
use super::providers::Providers;
use super::report::Wrong;
use super::section::Section;
use super::{Bearer, Client, Origin};

/// What a device route has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What the CLI is at the provider: a public client (RFC 8628 3.1).
    pub client: Arc<Client>,
    /// What bearers are held against; `None` with `verify = false`: they are handed on byte for byte.
    pub bearer: Option<Bearer>,
    /// The resource identifier (RFC 9728 1.2).
    pub resource: String,
}

impl Device {
    pub(super) fn resolve(section: &Section<'_>, providers: &Providers, public_urls: &[Origin]) -> Option<Self> {
        let client = client(section, providers);
        let verify = section.optional("verify", Section::bool);
        let bearer = if verify == Some(Some(false)) {
            unverified(section)
        } else {
            // What is wrong with the providers has been said when there is no client.
            let issuers = client.as_ref().and_then(|_| bearer::issuers(section, providers, None));
            Bearer::resolve(section, issuers).map(Some)
        };
        let resource = bearer::resource(section, public_urls);
        verify?;
        Some(Self { client: client?, bearer: bearer?, resource: resource? })
    }
}

/// A route's own client, or the only provider's. A CLI is in the hands of its users, so it cannot keep a secret.
fn client(section: &Section<'_>, providers: &Providers) -> Option<Arc<Client>> {
    if section.has("providers") {
        let wrong = Wrong::new("a CLI is told of one provider").hint("use `provider`, and a route for each");
        section.cx.error(&section.at("providers"), wrong);
        return None;
    }
    let client = providers.clients_of(section)?.into_iter().next()?;
    if client.client_secret.is_none() {
        return Some(client);
    }
    let wrong = Wrong::new("a CLI cannot keep a secret: everybody who has the program has it");
    let (at, hint) = if section.has("client_secret") {
        (section.at("client_secret"), "register a public client for it, and leave this out")
    } else {
        (
            section.header().clone(),
            "the provider's client has one: register a public client and name it here by `client_id`",
        )
    };
    section.cx.error(&at, wrong.hint(hint));
    None
}

/// `verify = false`.
fn unverified(section: &Section<'_>) -> Option<Option<Bearer>> {
    let wrong = Wrong::new("whatever a client sends as its bearer reaches the upstream, which must verify it itself");
    section.cx.weaker(&section.at("verify"), wrong);
    let mut legal = true;
    for key in VERIFYING.iter().filter(|key| section.has(key)) {
        let wrong = Wrong::new(format!("with `verify = false` nobody looks at `{key}`"));
        section.cx.error(&section.at(key), wrong.hint("drop one of the two"));
        legal = false;
    }
    legal.then_some(None)
}
