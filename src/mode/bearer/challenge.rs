//! `WWW-Authenticate` of refused bearers (RFC 6750 3, RFC 9470 3), each with the way to find the issuer (RFC 9728 5.1).

use std::sync::Arc;

use http::HeaderValue;

use crate::config::{self, PathRule, resource_metadata_url};
use crate::error::{Reason, Refusal};
use crate::mode::step_up::{Demand, ERROR};

/// The challenges of one route, made once.
#[derive(Debug)]
pub(super) struct Challenges {
    missing: Option<Arc<HeaderValue>>,
    invalid_request: Option<Arc<HeaderValue>>,
    invalid_token: Option<Arc<HeaderValue>>,
    insufficient_scope: Option<Arc<HeaderValue>>,
    /// What a challenge begins and ends with.
    frame: (String, String),
}

impl Challenges {
    pub(super) fn new(config: &config::Route) -> Self {
        let realm = config.public_urls.first().map_or("", |url| url.text.as_str());
        let scopes = config.mode.bearer().map(|bearer| bearer.required_scopes.join(" ")).unwrap_or_default();
        let scope = if scopes.is_empty() { String::new() } else { format!(", scope=\"{scopes}\"") };
        let metadata = config.mode.resource().and_then(resource_metadata_url);
        let metadata = metadata.map(|url| format!(", resource_metadata=\"{url}\"")).unwrap_or_default();
        // One text for everything that can be wrong with a token: the log knows which it was (JV-5).
        let challenge = |error: &str, scope: &str| {
            HeaderValue::try_from(format!("Bearer realm=\"{realm}\"{error}{scope}{metadata}"))
                .ok()
                .map(Arc::new)
        };
        let invalid =
            ", error=\"invalid_token\", error_description=\"expired, malformed, revoked, or meant for others\"";
        Self {
            // Whoever knew of no token at all is not told of an error (3.1).
            missing: challenge("", &scope),
            invalid_request: challenge(", error=\"invalid_request\"", ""),
            invalid_token: challenge(invalid, &scope),
            insufficient_scope: challenge(", error=\"insufficient_scope\"", &scope),
            frame: (format!("Bearer realm=\"{realm}\""), metadata),
        }
    }

    /// Adds to a refusal for want of a stronger or later authentication what `rule` asks for (RFC 9470 3); others stay.
    pub(super) fn step_up(&self, mut refusal: Refusal, rule: &PathRule) -> Refusal {
        if refusal.reason == Reason::InsufficientUserAuthentication {
            let (begin, end) = &self.frame;
            let description = "a stronger or more recent authentication is required";
            let parameters = Demand::of(rule).parameters();
            let challenge = format!("{begin}, error=\"{ERROR}\", error_description=\"{description}\"{parameters}{end}");
            refusal.challenge = HeaderValue::try_from(challenge).ok().map(Arc::new);
        }
        refusal
    }

    /// A refusal for `reason` with its challenge.
    pub(super) fn refuse(&self, reason: Reason) -> Refusal {
        let challenge = match reason {
            Reason::BearerRequired => &self.missing,
            Reason::InvalidRequest => &self.invalid_request,
            Reason::InsufficientScope => &self.insufficient_scope,
            _ => &self.invalid_token,
        };
        let mut refusal = Refusal::new(reason);
        refusal.challenge.clone_from(challenge);
        refusal
    }
}
