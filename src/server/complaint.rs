//! What becomes of a refusal beside its answer: one counter and at most one log line, both by its stable reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tracing::{debug, error, info, warn};

use crate::error::{Fault, Reason, Refusal};
use crate::metrics::Metrics;
use crate::time::Clock;

/// Counts and logs refusals. A flood of one reason is one line a second, with the number of those left out (LG-5).
#[derive(Debug)]
pub(super) struct Complaints {
    metrics: Arc<Metrics>,
    clock: Clock,
    floods: Vec<Flood>,
}

/// When a reason was logged last, and how many of its kind were left out since.
#[derive(Debug, Default)]
struct Flood {
    last: AtomicI64,
    left_out: AtomicU64,
}

/// Which request was refused, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) request_id: &'a str,
    pub(super) route: Option<&'a str>,
    pub(super) endpoint: Option<&'static str>,
}

impl Complaints {
    pub(super) fn new(metrics: Arc<Metrics>, clock: Clock) -> Self {
        Self { metrics, clock, floods: Reason::ALL.iter().map(|_| Flood::default()).collect() }
    }

    /// Counts and logs `refusal`.
    pub(super) fn take(&self, refusal: &Refusal, subject: Subject<'_>) {
        let Subject { request_id, route, endpoint } = subject;
        let reason = refusal.reason.code();
        self.metrics.refusal(route.unwrap_or_default(), reason);
        let (detail, status) = (refusal.detail.as_deref(), refusal.reason.status().as_u16());
        let noteworthy = match refusal.reason.fault() {
            _ if refusal.told => false,
            Fault::Caller => is_suspicious(refusal.reason),
            Fault::Provider | Fault::Upstream | Fault::Vestibule => true,
        };
        let left_out = if noteworthy { self.turn(refusal.reason) } else { None };
        let Some(left_out) = left_out else {
            debug!(request_id, route, endpoint, status, reason, detail, "request refused");
            return;
        };
        let left_out = (left_out > 0).then_some(left_out);
        match refusal.reason.fault() {
            Fault::Caller => info!(request_id, route, endpoint, status, reason, detail, left_out, "request refused"),
            Fault::Provider | Fault::Upstream => {
                warn!(request_id, route, endpoint, status, reason, detail, left_out, "request failed");
            }
            Fault::Vestibule => error!(request_id, route, endpoint, status, reason, detail, left_out, "request failed"),
        }
    }

    /// Whether it is this reason's turn to be logged, and how many were left out before.
    fn turn(&self, reason: Reason) -> Option<u64> {
        let at = Reason::ALL.iter().position(|known| *known == reason)?;
        let flood = self.floods.get(at)?;
        let now = self.clock.now().unix();
        if flood.last.swap(now, Ordering::Relaxed) == now {
            flood.left_out.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(flood.left_out.swap(0, Ordering::Relaxed))
    }
}

/// Refusals of callers that an operator wants to see: somebody else's page, host or machine is knocking (LG-2).
const fn is_suspicious(reason: Reason) -> bool {
    matches!(reason, Reason::CrossSite | Reason::CsrfHeaderMissing | Reason::HostMismatch | Reason::UntrustedPeer)
}
