//! What a route with `mode = "verify"` has: clients that bring tokens of their own, verified against the keys of their
//! issuer.

use std::sync::Arc;

use super::bearer;
use super::providers::{Providers, refuse_orphans};
use super::report::Wrong;
use super::section::Section;
use super::{Bearer, Client, Origin};

/// What a verify route has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verify {
    /// What bearers are held against.
    pub bearer: Bearer,
    /// The resource identifier (RFC 9728 1.2).
    pub resource: String,
}

impl Verify {
    pub(super) fn resolve(section: &Section<'_>, providers: &Providers, public_urls: &[Origin]) -> Option<Self> {
        let own = introspector(section, providers);
        let issuers = own.as_ref().and_then(|own| bearer::issuers(section, providers, own.as_ref()));
        let bearer = Bearer::resolve(section, issuers);
        let resource = bearer::resource(section, public_urls);
        Some(Self { bearer: bearer?, resource: resource? })
    }
}

/// The route's own client, which is there to introspect and for nothing else; `Some(None)` when it has none.
fn introspector(section: &Section<'_>, providers: &Providers) -> Option<Option<Arc<Client>>> {
    if !section.has("client_id") {
        refuse_orphans(section);
        return Some(None);
    }
    let client = providers.own_client(section)?;
    if !client.provider.introspection {
        let wrong = Wrong::new("nobody logs in here, so this client has nothing to do");
        let hint = "leave it out, or set `introspection` of the provider, which opaque tokens need";
        section.cx.error(&section.at("client_id"), wrong.hint(hint));
        return None;
    }
    Some(Some(client))
}
