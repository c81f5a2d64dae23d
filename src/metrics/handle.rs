//! Series resolved once and kept by those who count on every request: no name is compared with a map, nothing is
//! allocated, and what is kept dies quietly when its route or upstream is taken out of the config.

use std::sync::{Arc, PoisonError, RwLock};

use http::StatusCode;
use prometheus::{Histogram, IntCounter, IntGauge};

use crate::metrics::Families;

/// Series found by a small key. `None` once the name was forgotten: whoever still holds the handle then counts into
/// the void instead of bringing the name back.
struct Known<K, V>(RwLock<Option<Vec<(K, V)>>>);

impl<K: PartialEq, V: Clone> Known<K, V> {
    const fn new() -> Self {
        Self(RwLock::new(Some(Vec::new())))
    }

    /// Runs `count` on the series of `key`, which `make` makes when it is new.
    fn count(&self, key: K, make: impl FnOnce() -> V, count: impl FnOnce(&V)) {
        // A handful of keys: looking at each beats hashing.
        let find = |known: &[(K, V)]| known.iter().find(|(held, _)| *held == key).map(|(_, series)| series.clone());
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(list) = &*known else { return };
        if let Some((_, series)) = list.iter().find(|(held, _)| *held == key) {
            return count(series);
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Some(list) = &mut *known else { return };
        let series = find(list).unwrap_or_else(|| {
            let made = make();
            list.push((key, made.clone()));
            made
        });
        count(&series);
    }

    fn forget(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The series of one route.
#[derive(Clone)]
pub struct RouteMetrics(Arc<RouteSeries>);

struct RouteSeries {
    families: Arc<Families>,
    route: Box<str>,
    in_flight: IntGauge,
    known: Known<(&'static str, StatusCode), (IntCounter, Histogram)>,
    verdicts: Known<&'static str, IntCounter>,
    jwt_verifications: Known<&'static str, IntCounter>,
}

/// Counts something as in flight, or open, for as long as it lives.
#[must_use]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl RouteMetrics {
    pub(super) fn new(families: Arc<Families>, route: &str) -> Self {
        let in_flight = families.http_requests_in_flight.with([route]);
        Self(Arc::new(RouteSeries {
            families,
            route: route.into(),
            in_flight,
            known: Known::new(),
            verdicts: Known::new(),
            jwt_verifications: Known::new(),
        }))
    }

    /// Counts a request as in flight until the guard is dropped.
    pub fn in_flight(&self) -> InFlight {
        self.0.in_flight.inc();
        InFlight(self.0.in_flight.clone())
    }

    /// Counts a finished request. `endpoint` comes from a closed set, never from the request; `seconds` is the time
    /// from its head to the head of the answer.
    pub fn observe(&self, endpoint: &'static str, status: StatusCode, seconds: f64) {
        let RouteSeries { families, route, known, .. } = &*self.0;
        let make = || {
            (
                families.http_requests.with([route, endpoint, status.as_str()]),
                families.http_request_duration.with([route, endpoint]),
            )
        };
        known.count((endpoint, status), make, |(requests, duration)| {
            requests.inc();
            duration.observe(seconds);
        });
    }

    /// Counts a verdict; `result` is `allow`, `login` or a reason code.
    pub fn verdict(&self, result: &'static str) {
        let RouteSeries { families, route, verdicts, .. } = &*self.0;
        verdicts.count(result, || families.verdicts.with([route, result]), IntCounter::inc);
    }

    /// Counts a bearer token that was judged; `result` is `ok`, `remembered` or why not.
    pub fn jwt_verification(&self, result: &'static str) {
        let RouteSeries { families, route, jwt_verifications, .. } = &*self.0;
        jwt_verifications.count(result, || families.jwt_verifications.with([route, result]), IntCounter::inc);
    }

    pub(super) fn forget(&self) {
        self.0.known.forget();
        self.0.verdicts.forget();
        self.0.jwt_verifications.forget();
    }
}

/// How a request to an upstream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamResult {
    /// With an answer.
    Answered(StatusCode),
    /// No connection could be made.
    Unreachable,
    /// No answer within the deadline.
    Timeout,
    /// The connection broke, or what came was not HTTP.
    Broken,
    /// The client's part broke: it left, was too slow or sent too much.
    Client,
}

/// What has no end that is known when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// A WebSocket.
    WebSocket,
    /// `text/event-stream`.
    EventStream,
    /// Any other answer of unknown length.
    Stream,
}

impl StreamKind {
    /// The label value.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::EventStream => "sse",
            Self::Stream => "stream",
        }
    }

    /// Whether it is not meant to end by itself.
    #[must_use]
    pub const fn is_endless(self) -> bool {
        match self {
            Self::WebSocket | Self::EventStream => true,
            Self::Stream => false,
        }
    }
}

/// The series of one upstream.
#[derive(Clone)]
pub struct UpstreamMetrics(Arc<UpstreamSeries>);

struct UpstreamSeries {
    families: Arc<Families>,
    upstream: Box<str>,
    known: Known<UpstreamResult, (IntCounter, Histogram)>,
    streams: Known<StreamKind, IntGauge>,
}

impl UpstreamMetrics {
    pub(super) fn new(families: Arc<Families>, upstream: &str) -> Self {
        Self(Arc::new(UpstreamSeries {
            families,
            upstream: upstream.into(),
            known: Known::new(),
            streams: Known::new(),
        }))
    }

    /// Counts a request and the time from its start to the answer's head, or to the failure.
    pub fn observe(&self, result: UpstreamResult, seconds: f64) {
        let UpstreamSeries { families, upstream, known, .. } = &*self.0;
        let make = || {
            let code = match &result {
                UpstreamResult::Answered(status) => status.as_str(),
                UpstreamResult::Unreachable => "unreachable",
                UpstreamResult::Timeout => "timeout",
                UpstreamResult::Broken => "broken",
                UpstreamResult::Client => "client",
            };
            (families.upstream_requests.with([upstream, code]), families.upstream_request_duration.with([upstream]))
        };
        known.count(result, make, |(requests, duration)| {
            requests.inc();
            duration.observe(seconds);
        });
    }

    /// Counts a stream as open until the guard is dropped; `None` once the upstream was forgotten.
    #[must_use]
    pub fn stream(&self, kind: StreamKind) -> Option<InFlight> {
        let UpstreamSeries { families, upstream, streams, .. } = &*self.0;
        let mut open = None;
        streams.count(
            kind,
            || families.streams_open.with([upstream, kind.label()]),
            |gauge| {
                gauge.inc();
                open = Some(InFlight(gauge.clone()));
            },
        );
        open
    }

    pub(super) fn forget(&self) {
        self.0.known.forget();
        self.0.streams.forget();
    }
}

impl std::fmt::Debug for RouteMetrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "RouteMetrics({})", self.0.route)
    }
}

impl std::fmt::Debug for UpstreamMetrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "UpstreamMetrics({})", self.0.upstream)
    }
}
