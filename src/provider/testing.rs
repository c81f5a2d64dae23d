//! What the tests of this module share.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Duration;

use crate::config::{self, Name, SigningAlg};

/// The config of a provider with this issuer.
pub(super) fn provider(issuer: &str) -> config::Provider {
    config::Provider {
        name: Name::parse("corp").unwrap(),
        issuer: issuer.to_owned(),
        backchannel: None,
        clock_skew: Duration::from_secs(60),
        ca: None,
        signing_algs: vec![
            SigningAlg::RS256,
            SigningAlg::PS256,
            SigningAlg::ES256,
            SigningAlg::ES384,
            SigningAlg::EdDSA,
        ],
        max_stale: Duration::from_secs(24 * 60 * 60),
        required_for_ready: false,
    }
}
