//! The list of everything exported: one line per family.

use std::collections::BTreeSet;

use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Histogram, IntCounter, IntGauge};

use crate::metrics::family::{Family, Head};

/// For families that are no histograms.
const NONE: &[f64] = &[];

/// From a memory lookup to a slow page; seconds.
const REQUEST: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// From a provider next door to the longest deadline that we give one; seconds.
const PROVIDER: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// From a map in memory to a store that is about to be given up; seconds.
const STORE: &[f64] = &[0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0];

macro_rules! families {
    ($($field:ident: $kind:ty, $count:literal = $name:literal, [$($label:literal),*], $buckets:ident, $help:literal;)*) => {
        /// All families.
        pub(super) struct Families { $(pub(super) $field: Family<$kind, $count>,)* }

        /// All names.
        #[cfg(test)]
        pub(super) const NAMES: &[&str] = &[$(concat!("vestibule_", $name),)*];

        impl Families {
            pub(super) const fn new() -> Self {
                Self { $($field: Family::new(Head {
                    name: concat!("vestibule_", $name),
                    help: $help,
                    labels: [$($label),*],
                    buckets: $buckets,
                }),)* }
            }

            /// Every family that has a series.
            pub(super) fn collect(&self) -> Vec<MetricFamily> {
                [$(self.$field.collect(),)*].into_iter().flatten().collect()
            }

            /// Takes out every series, of any family, whose value of `label` is none of `values`; the empty one, for
            /// what belongs nowhere, stays.
            pub(super) fn keep(&self, label: &str, values: &BTreeSet<String>) {
                $(self.$field.keep(label, |value| value.is_empty() || values.contains(value));)*
            }

            /// Takes out every series, of any family, whose value of `label` is `value`.
            pub(super) fn forget(&self, label: &str, value: &str) {
                $(self.$field.keep(label, |held| held != value);)*
            }
        }
    };
}

families! {
    build_info: IntGauge, 1 = "build_info", ["version"], NONE,
        "Always 1; the version is in the label.";
    config_last_reload_successful: IntGauge, 0 = "config_last_reload_successful", [], NONE,
        "Whether what runs is what the config file says.";
    config_last_reload_success_timestamp: IntGauge, 0 = "config_last_reload_success_timestamp_seconds", [], NONE,
        "When the config was last loaded without a problem.";
    config_reloads: IntCounter, 1 = "config_reloads_total", ["result"], NONE,
        "Loads of the config, the first one included.";
    http_requests: IntCounter, 3 = "http_requests_total", ["route", "endpoint", "code"], NONE,
        "Requests answered.";
    http_request_duration: Histogram, 2 = "http_request_duration_seconds", ["route", "endpoint"], REQUEST,
        "Time from a request's head to the head of its answer.";
    http_requests_in_flight: IntGauge, 1 = "http_requests_in_flight", ["route"], NONE,
        "Requests that are not answered yet.";
    verdicts: IntCounter, 2 = "verdicts_total", ["route", "result"], NONE,
        "Answers to Caddy's forward_auth: allow, login, or the reason of the refusal.";
    refusals: IntCounter, 2 = "refusals_total", ["route", "reason"], NONE,
        "Requests refused, by the reason in their answer; without a route where none was found.";
    logins_started: IntCounter, 2 = "logins_started_total", ["route", "provider"], NONE,
        "Browsers sent to a provider to log in.";
    logins: IntCounter, 3 = "logins_total", ["route", "provider", "result"], NONE,
        "Logins that came back, by how they ended.";
    login_loops: IntCounter, 1 = "login_loops_total", ["route"], NONE,
        "Login loops that were broken.";
    logouts: IntCounter, 2 = "logouts_total", ["provider", "kind"], NONE,
        "Sessions ended, by who ended them.";
    token_refreshes: IntCounter, 2 = "token_refreshes_total", ["provider", "result"], NONE,
        "Uses of a refresh token.";
    token_refresh_wait: Histogram, 0 = "token_refresh_wait_seconds", [], PROVIDER,
        "Time that requests waited for a refresh.";
    provider_requests: IntCounter, 3 = "provider_requests_total", ["provider", "operation", "result"], NONE,
        "Requests to a provider.";
    provider_request_duration: Histogram, 2 = "provider_request_duration_seconds", ["provider", "operation"], PROVIDER,
        "Time until a provider had answered.";
    provider_up: IntGauge, 1 = "provider_up", ["provider"], NONE,
        "Whether metadata and keys could be fetched at the last try.";
    provider_clock_skew: Gauge, 1 = "provider_clock_skew_seconds", ["provider"], NONE,
        "How far the provider's clock is ahead of ours, at least; 0 where both may agree.";
    jwks_keys: IntGauge, 1 = "jwks_keys", ["provider"], NONE,
        "Usable keys in the provider's set.";
    jwks_fetches: IntCounter, 3 = "jwks_fetches_total", ["provider", "trigger", "result"], NONE,
        "Fetches of the provider's keys, by what caused them.";
    jwt_verifications: IntCounter, 2 = "jwt_verifications_total", ["route", "result"], NONE,
        "Bearer tokens judged: ok, remembered from a moment ago, or why not.";
    sessions_active: IntGauge, 1 = "sessions_active", ["store"], NONE,
        "Sessions in the store.";
    session_store_operation_duration: Histogram, 2 =
        "session_store_operation_duration_seconds", ["store", "operation"], STORE,
        "Time that an operation of the session store took.";
    streams_open: IntGauge, 2 = "streams_open", ["upstream", "kind"], NONE,
        "WebSockets, event streams and other answers of unknown length that have not ended.";
    upstream_requests: IntCounter, 2 = "upstream_requests_total", ["upstream", "code"], NONE,
        "Requests to an upstream, by status or by how they failed.";
    upstream_request_duration: Histogram, 1 = "upstream_request_duration_seconds", ["upstream"], REQUEST,
        "Time from a request to an upstream to the head of its answer.";
}
