//! A path rule with the upstream it leads to: what holds before anybody is looked up, and what every upstream is told.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderValue};
use http::{HeaderName, Method};

use crate::config::{self, Authorization, Origin, Scheme};
use crate::error::{Reason, Refusal};
use crate::handoff::{Passage, Upstream};
use crate::mode::Call;

/// Most addresses that are taken over from `X-Forwarded-For`: the nearest ones, which trusted proxies wrote.
const MAX_HOPS: usize = 16;

/// One path rule with the running upstream it leads to.
#[derive(Debug)]
pub struct Rule {
    /// As configured.
    pub config: Arc<config::PathRule>,
    /// Where it leads.
    pub upstream: Option<Arc<Upstream>>,
    /// Identity headers that the upstream believes, from this rule or another; they never come from a client.
    pub owned: Arc<[HeaderName]>,
}

impl Rule {
    /// Method and CSRF header, before anybody is looked up.
    pub(super) fn admit(&self, call: &Call) -> Result<(), Refusal> {
        let method = &call.head.method;
        if matches!(method, &Method::TRACE | &Method::CONNECT) {
            return Err(Reason::MethodNotAllowed.into());
        }
        if self.config.methods.as_ref().is_some_and(|allowed| !allowed.contains(method)) {
            return Err(self.method_not_allowed());
        }
        match &self.config.csrf_header {
            Some(header) if !call.head.headers.contains_key(header) => {
                Err(Refusal::new(Reason::CsrfHeaderMissing).because(format!("{header} is missing")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A 405 that lists the methods of the rule.
    fn method_not_allowed(&self) -> Refusal {
        let allowed: Vec<&str> = self.config.methods.iter().flatten().map(Method::as_str).collect();
        let mut refusal = Refusal::new(Reason::MethodNotAllowed).because("not among the methods of this path");
        refusal.allow = HeaderValue::from_str(&allowed.join(", ")).ok().map(Arc::new);
        refusal
    }

    /// What the upstream is told of a request to `origin`, whoever made it. `host` is the origin's as a header.
    pub(super) fn passage(&self, call: &Call, origin: Option<&Origin>, host: Option<HeaderValue>) -> Passage {
        let plain = origin.is_some_and(|origin| origin.scheme == Scheme::Http);
        Passage {
            authorization: None,
            route: None,
            keep_authorization: self.config.authorization == Authorization::Pass,
            identity: Vec::new(),
            owned: Arc::clone(&self.owned),
            forwarded_for: forwarded_for(&call.head.headers, call.peer),
            forwarded_proto: if plain { "http" } else { "https" },
            forwarded_host: host,
            strip_prefix: self.config.strip_prefix.clone(),
            replace_cors: false,
            max_body: self.config.max_body,
            member: None,
        }
    }
}

/// `X-Forwarded-For` rebuilt: what the trusted proxy says, as far as it is addresses, and the proxy itself.
fn forwarded_for(headers: &HeaderMap, peer: Option<IpAddr>) -> Option<HeaderValue> {
    let said = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let hops = said.flat_map(|value| value.split(',')).map(str::trim);
    // What reads as an address is passed on as it was written: there is nothing in it but digits, dots and colons.
    let hops: Vec<&str> = hops.filter(|hop| hop.parse::<IpAddr>().is_ok()).collect();
    let mut text = String::with_capacity(64);
    for hop in hops.iter().skip(hops.len().saturating_sub(MAX_HOPS)) {
        text.extend([hop, ", "]);
    }
    match peer {
        // Writing to a string cannot fail.
        Some(peer) => drop(write!(text, "{peer}")),
        None => text.truncate(text.trim_end_matches(", ").len()),
    }
    HeaderValue::try_from(text).ok().filter(|value| !value.is_empty())
}
