//! Every number we export, declared once. Labels come from closed sets only, never from a request.

mod families;
mod family;
mod handle;
#[cfg(test)]
mod shipped;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::TextEncoder;
use prometheus::core::Collector as _;
use prometheus::process_collector::ProcessCollector;

use crate::time::Timestamp;

use families::Families;
pub use handle::{InFlight, RouteMetrics, StreamKind, UpstreamMetrics, UpstreamResult};

/// All metric families; lives as long as the process, across reloads.
///
/// Names of routes, providers and upstreams come from the config, every other label value is `&'static str`; so the
/// number of series is bounded by the config, whatever strangers send.
pub struct Metrics {
    families: Arc<Families>,
    process: ProcessCollector,
    routes: Mutex<HashMap<Box<str>, RouteMetrics>>,
    upstreams: Mutex<HashMap<Box<str>, UpstreamMetrics>>,
}

/// The names in a configuration, which are label values.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Routes.
    pub routes: BTreeSet<String>,
    /// Providers.
    pub providers: BTreeSet<String>,
    /// Upstreams.
    pub upstreams: BTreeSet<String>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A set of its own, all at zero.
    #[must_use]
    pub fn new() -> Self {
        let families = Arc::new(Families::new());
        families.build_info.with([env!("CARGO_PKG_VERSION")]).set(1);
        families.config_last_reload_successful.with([]).set(0);
        let process = ProcessCollector::for_self();
        Self { families, process, routes: Mutex::default(), upstreams: Mutex::default() }
    }

    /// The text exposition format, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        let mut families = self.families.collect();
        families.extend(self.process.collect());
        // The encoder refuses malformed names and empty families only, and neither can be here.
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }

    /// The series of `route`, to be resolved once per snapshot. Two calls with one name share their series.
    #[must_use]
    pub fn route(&self, route: &str) -> RouteMetrics {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = routes.entry(route.into());
        entry.or_insert_with(|| RouteMetrics::new(Arc::clone(&self.families), route)).clone()
    }

    /// The series of `upstream`, to be resolved once per pool. Two calls with one name share their series.
    #[must_use]
    pub fn upstream(&self, upstream: &str) -> UpstreamMetrics {
        let mut upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = upstreams.entry(upstream.into());
        entry.or_insert_with(|| UpstreamMetrics::new(Arc::clone(&self.families), upstream)).clone()
    }

    /// Takes out all series of routes, providers and upstreams that are not among `names`. Requests of a route or to an
    /// upstream that are still on their way count into the void.
    pub fn keep_only(&self, names: &Names) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.retain(|name, handle| {
            let stays = names.routes.contains(&**name);
            if !stays {
                handle.forget();
            }
            stays
        });
        let mut upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        upstreams.retain(|name, handle| {
            let stays = names.upstreams.contains(&**name);
            if !stays {
                handle.forget();
            }
            stays
        });
        self.families.keep("route", &names.routes);
        self.families.keep("upstream", &names.upstreams);
        self.families.keep("provider", &names.providers);
    }

    /// Takes out all series of a session store that was left.
    pub fn forget_store(&self, store: &'static str) {
        self.families.forget("store", store);
    }

    /// Counts a reload. `result` is `"success"`, `"unchanged"` or `"failure"`; all but the last mean that what runs is
    /// what the file says.
    pub fn config_reload(&self, result: &'static str, now: Timestamp) {
        let families = &self.families;
        families.config_reloads.with([result]).inc();
        families.config_last_reload_successful.with([]).set(i64::from(result != "failure"));
        if result != "failure" {
            families.config_last_reload_success_timestamp.with([]).set(now.unix());
        }
    }

    /// Counts a login that was sent to the provider.
    pub fn login_started(&self, route: &str, provider: &str) {
        self.families.logins_started.with([route, provider]).inc();
    }

    /// Counts a refused request; `route` is empty where none was found.
    pub fn refusal(&self, route: &str, reason: &'static str) {
        self.families.refusals.with([route, reason]).inc();
    }

    /// Counts a login loop that was broken.
    pub fn login_loop(&self, route: &str) {
        self.families.login_loops.with([route]).inc();
    }

    /// Counts a finished login; `result` is `"success"` or a reason code.
    pub fn login(&self, route: &str, provider: &str, result: &'static str) {
        self.families.logins.with([route, provider, result]).inc();
    }

    /// Counts an ended session; `kind` says who ended it.
    pub fn logout(&self, provider: &str, kind: &'static str) {
        self.families.logouts.with([provider, kind]).inc();
    }

    /// Counts a refresh of tokens.
    pub fn refresh(&self, provider: &str, result: &'static str) {
        self.families.token_refreshes.with([provider, result]).inc();
    }

    /// Observes how long a request waited for a refresh, its own or another's.
    pub fn refresh_wait(&self, seconds: f64) {
        self.families.token_refresh_wait.with([]).observe(seconds);
    }

    /// Counts a request to a provider and observes its duration.
    pub fn provider_request(&self, provider: &str, operation: &'static str, result: &'static str, seconds: f64) {
        self.families.provider_requests.with([provider, operation, result]).inc();
        self.families.provider_request_duration.with([provider, operation]).observe(seconds);
    }

    /// Says whether the provider's metadata and keys could be fetched at the last try.
    pub fn provider_up(&self, provider: &str, up: bool) {
        self.families.provider_up.with([provider]).set(i64::from(up));
    }

    /// Says how far the provider's clock is ahead of ours, at least.
    pub fn provider_clock_skew(&self, provider: &str, seconds: f64) {
        self.families.provider_clock_skew.with([provider]).set(seconds);
    }

    /// Says how many keys of the provider are usable.
    pub fn jwks_keys(&self, provider: &str, keys: usize) {
        self.families.jwks_keys.with([provider]).set(count(keys));
    }

    /// Counts a fetch of the provider's keys.
    pub fn jwks_fetch(&self, provider: &str, trigger: &'static str, result: &'static str) {
        self.families.jwks_fetches.with([provider, trigger, result]).inc();
    }

    /// Says how many sessions live in the store.
    pub fn sessions_active(&self, store: &'static str, sessions: usize) {
        self.families.sessions_active.with([store]).set(count(sessions));
    }

    /// Observes an operation of the session store.
    pub fn store_operation(&self, store: &'static str, operation: &'static str, seconds: f64) {
        self.families.session_store_operation_duration.with([store, operation]).observe(seconds);
    }
}

/// A count as a gauge holds it.
fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn lines(metrics: &Metrics, needle: &str) -> Vec<String> {
        let held = |line: &&str| !line.starts_with('#') && line.contains(needle);
        metrics.render().lines().filter(held).map(str::to_owned).collect()
    }

    /// Touches every family, so that a malformed constant fails here and not in production.
    pub(super) fn touch_all(metrics: &Metrics) {
        let now = Timestamp::from_unix(1_700_000_000);
        metrics.config_reload("success", now);
        let route = metrics.route("web");
        drop(route.in_flight());
        route.observe("proxy", StatusCode::OK, 0.001);
        route.verdict("allow");
        route.jwt_verification("ok");
        metrics.refusal("web", "login_required");
        metrics.login_loop("web");
        metrics.upstream("api").observe(UpstreamResult::Answered(StatusCode::OK), 0.001);
        drop(metrics.upstream("api").stream(StreamKind::WebSocket));
        metrics.login_started("web", "corp");
        metrics.login("web", "corp", "success");
        metrics.logout("corp", "user");
        metrics.refresh("corp", "success");
        metrics.refresh_wait(0.01);
        metrics.provider_request("corp", "token", "success", 0.1);
        metrics.provider_up("corp", true);
        metrics.provider_clock_skew("corp", -0.5);
        metrics.jwks_keys("corp", 2);
        metrics.jwks_fetch("corp", "start", "success");
        metrics.sessions_active("memory", 3);
        metrics.store_operation("memory", "load", 0.000_02);
    }

    #[test]
    fn shows_every_family_under_its_name() {
        let metrics = Metrics::new();
        touch_all(&metrics);
        let text = metrics.render();
        for name in families::NAMES {
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
        for line in [
            "vestibule_config_last_reload_success_timestamp_seconds 1700000000",
            "vestibule_http_requests_total{code=\"200\",endpoint=\"proxy\",route=\"web\"} 1",
            "vestibule_http_requests_in_flight{route=\"web\"} 0",
            "vestibule_logins_total{provider=\"corp\",result=\"success\",route=\"web\"} 1",
            "vestibule_provider_clock_skew_seconds{provider=\"corp\"} -0.5",
            "vestibule_sessions_active{store=\"memory\"} 3",
            "vestibule_streams_open{kind=\"websocket\",upstream=\"api\"} 0",
            "vestibule_upstream_requests_total{code=\"200\",upstream=\"api\"} 1",
            "vestibule_session_store_operation_duration_seconds_bucket{operation=\"load\",store=\"memory\",le=\"0.00005\"} 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    }

    #[test]
    fn ad_3_series_of_a_removed_route_disappear_even_while_its_last_request_runs() {
        let metrics = Metrics::new();
        touch_all(&metrics);
        let (route, upstream) = (metrics.route("web"), metrics.upstream("api"));
        let guard = route.in_flight();
        metrics.keep_only(&Names::default());
        route.observe("proxy", StatusCode::OK, 0.1);
        route.observe("proxy", StatusCode::NOT_FOUND, 0.1);
        upstream.observe(UpstreamResult::Timeout, 60.0);
        assert!(upstream.stream(StreamKind::Stream).is_none());
        drop(guard);
        for gone in ["\"web\"", "\"api\"", "\"corp\""] {
            assert_eq!(lines(&metrics, gone), [""; 0]);
        }
        metrics.route("web").observe("proxy", StatusCode::OK, 0.1);
        assert_eq!(
            lines(&metrics, "http_requests_total"),
            ["vestibule_http_requests_total{code=\"200\",endpoint=\"proxy\",route=\"web\"} 1"]
        );
    }

    #[test]
    fn ad_3_operator_chosen_pairs_never_run_together() {
        let metrics = Metrics::new();
        metrics.login_started("a", "bc");
        metrics.login_started("ab", "c");
        assert_eq!(lines(&metrics, "logins_started_total").len(), 2);
    }

    #[test]
    fn a_failed_reload_keeps_the_time_of_the_last_good_one() {
        let metrics = Metrics::new();
        metrics.config_reload("success", Timestamp::from_unix(10));
        metrics.config_reload("failure", Timestamp::from_unix(20));
        assert_eq!(
            lines(&metrics, "config_last"),
            ["vestibule_config_last_reload_successful 0", "vestibule_config_last_reload_success_timestamp_seconds 10"]
        );
    }

    #[test]
    fn guards_of_a_route_count_what_is_in_flight() {
        let metrics = Metrics::new();
        let one = metrics.route("web").in_flight();
        let two = metrics.route("web").in_flight();
        assert_eq!(lines(&metrics, "in_flight"), ["vestibule_http_requests_in_flight{route=\"web\"} 2"]);
        drop((one, two));
        assert_eq!(lines(&metrics, "in_flight"), ["vestibule_http_requests_in_flight{route=\"web\"} 0"]);
        let stream = metrics.upstream("api").stream(StreamKind::EventStream);
        assert_eq!(lines(&metrics, "streams_open"), ["vestibule_streams_open{kind=\"sse\",upstream=\"api\"} 1"]);
        drop(stream);
        assert_eq!(lines(&metrics, "streams_open"), ["vestibule_streams_open{kind=\"sse\",upstream=\"api\"} 0"]);
    }
}
