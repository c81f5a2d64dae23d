//! Refreshing: one at a time per session, in a task of its own, and nobody is logged out by it.
//!
//! A provider that rotates refresh tokens has burnt the old one as soon as it reads the request, so a refresh that
//! has begun must finish although the client that caused it is gone, and its result must be stored before it is used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;
use crate::provider::Client;
use crate::session::renewal::Work;
use crate::session::{Session, SessionId, Sessions};
use crate::time::{Clock, Timestamp};

/// An access token is renewed this long before its end, or in the last quarter of its life if that is shorter.
const EARLY: Duration = Duration::from_secs(30);
/// A token younger than this is used as it is, so that `expires_in: 0` cannot make every request a refresh.
const MIN_AGE: Duration = Duration::from_secs(1);
/// After a failure that does not end the session, the provider is left alone for this long; after each further one twice as
/// long, up to the limit.
const COOL_DOWN: Duration = Duration::from_secs(5);
/// While the old token serves, nobody misses anything.
const LONGEST_COOL_DOWN: Duration = Duration::from_secs(60);
/// Longest wait for a refresh; the request to the provider itself ends earlier.
pub(super) const WAIT: Duration = Duration::from_secs(15);
/// Longest wait for a refresh while the old token has life left: it serves when the provider dawdles.
const GRACE: Duration = Duration::from_secs(1);
/// Above this many cool-downs, those that are over are thrown out before a new one is noted.
const MAX_COOLING: usize = 10_000;

/// What a request gets to work with.
#[derive(Debug)]
pub enum Freshness {
    /// A session whose access token has life left.
    Fresh(Arc<Session>),
    /// The session lives, but its access token is over and could not be renewed for now.
    Stale(Arc<Session>, Cause),
    /// The session has ended.
    Ended,
}

/// Why a token could not be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The session has no refresh token: the user must log in again to reach the upstream.
    NoRefreshToken,
    /// The provider or the store does not answer.
    Unavailable,
    /// The provider took too long.
    Timeout,
}

/// What came of a refresh.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The session has a token with life left, by this refresh or another.
    Renewed(Arc<Session>),
    /// The session has ended.
    Ended,
    /// Nothing for now.
    Failed(Cause),
}

enum Flight {
    Running(watch::Receiver<Option<Outcome>>),
    /// It failed `times` times in a row.
    Cooling {
        until: Timestamp,
        times: u32,
        cause: Cause,
    },
}

/// Refreshes in flight; outlives snapshots.
pub struct Refresher {
    sessions: Arc<Sessions>,
    flights: Arc<Mutex<HashMap<SessionId, Flight>>>,
    tasks: TaskTracker,
    metrics: Arc<Metrics>,
    clock: Clock,
}

impl std::fmt::Debug for Refresher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Refresher")
    }
}

impl Refresher {
    /// Refreshes sessions of `sessions` in tasks of `tasks`.
    #[must_use]
    pub fn new(sessions: Arc<Sessions>, tasks: TaskTracker, metrics: Arc<Metrics>, clock: Clock) -> Self {
        Self { sessions, flights: Arc::default(), tasks, metrics, clock }
    }

    /// Gives `session` back as it is while its token has life left, else with a renewed one.
    pub async fn fresh(&self, session: Arc<Session>, client: &Client, now: Timestamp) -> Freshness {
        if !is_due(&session, now) {
            return Freshness::Fresh(session);
        }
        // Once in minutes for a session; a future that is part of every request should not have room for it.
        Box::pin(self.refreshed(session, client, now)).await
    }

    /// [`fresh`](Self::fresh), for a session whose token is due.
    async fn refreshed(&self, session: Arc<Session>, client: &Client, now: Timestamp) -> Freshness {
        let alive = now < session.tokens.access_expires_at;
        if session.tokens.refresh.is_none() {
            return if alive { Freshness::Fresh(session) } else { Freshness::Stale(session, Cause::NoRefreshToken) };
        }
        let begun = Instant::now();
        let outcome = match self.join(&session, client, now) {
            Ok(flight) => landed(flight, if alive { GRACE } else { WAIT }).await,
            Err(cause) => Outcome::Failed(cause),
        };
        self.metrics.refresh_wait(begun.elapsed().as_secs_f64());
        match outcome {
            Outcome::Renewed(renewed) => Freshness::Fresh(renewed),
            Outcome::Ended => Freshness::Ended,
            Outcome::Failed(_) if alive => Freshness::Fresh(session),
            Outcome::Failed(cause) => Freshness::Stale(session, cause),
        }
    }

    /// The flight that renews this session: the one under way, or a new one; or why there is none now.
    fn join(
        &self,
        session: &Arc<Session>,
        client: &Client,
        now: Timestamp,
    ) -> Result<watch::Receiver<Option<Outcome>>, Cause> {
        let (id, mut failed) = (session.id, 0);
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        match flights.get(&id) {
            Some(Flight::Running(flight)) => {
                self.metrics.refresh(client.registration.provider.name.as_str(), "shared");
                return Ok(flight.clone());
            }
            Some(Flight::Cooling { until, cause, times }) => {
                // Whoever has no token that serves does not wait for as long.
                let alive = now < session.tokens.access_expires_at;
                let until = if alive { *until } else { (*until).min(until.minus(cool_down(*times)).plus(COOL_DOWN)) };
                if now < until {
                    return Err(*cause);
                }
                failed = *times;
            }
            None => {}
        }
        // When it would grow, and not at each of many that are not over.
        if flights.len() > MAX_COOLING && flights.len() == flights.capacity() {
            flights.retain(|_, flight| !matches!(flight, Flight::Cooling { until, .. } if *until <= now));
        }
        let (land, flight) = watch::channel(None);
        flights.insert(id, Flight::Running(flight.clone()));
        let work = Work {
            sessions: Arc::clone(&self.sessions),
            metrics: Arc::clone(&self.metrics),
            client: client.clone(),
            clock: self.clock.clone(),
        };
        let (flights, seen) = (Arc::clone(&self.flights), Arc::clone(session));
        let strip = Strip { flights, id, failed, land };
        self.tasks.spawn(async move {
            let outcome = work.renew(seen).await;
            strip.land(outcome, work.clock.now());
        });
        Ok(flight)
    }
}

/// The entry of a running flight. Dropped without landing (a panic), it frees the session for the next attempt.
struct Strip {
    flights: Arc<Mutex<HashMap<SessionId, Flight>>>,
    id: SessionId,
    /// How often it has failed before.
    failed: u32,
    land: watch::Sender<Option<Outcome>>,
}

impl Strip {
    fn land(self, outcome: Outcome, now: Timestamp) {
        if let Outcome::Failed(cause) = outcome {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            let times = self.failed.saturating_add(1);
            flights.insert(self.id, Flight::Cooling { until: now.plus(cool_down(times)), times, cause });
        }
        self.land.send_replace(Some(outcome));
    }
}

impl Drop for Strip {
    fn drop(&mut self) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(flights.get(&self.id), Some(Flight::Running(_))) {
            flights.remove(&self.id);
        }
    }
}

/// Waits for a flight to land, at most `limit` long.
async fn landed(mut flight: watch::Receiver<Option<Outcome>>, limit: Duration) -> Outcome {
    match tokio::time::timeout(limit, flight.wait_for(Option::is_some)).await {
        Ok(Ok(outcome)) => outcome.clone().unwrap_or(Outcome::Failed(Cause::Unavailable)),
        Ok(Err(_)) => Outcome::Failed(Cause::Unavailable),
        Err(_) => Outcome::Failed(Cause::Timeout),
    }
}

/// Whether the access token should be renewed before it is used.
pub(super) fn is_due(session: &Session, now: Timestamp) -> bool {
    let tokens = &session.tokens;
    let lifetime = tokens.access_expires_at.since(tokens.obtained_at);
    let early = EARLY.min(lifetime / 4);
    now >= tokens.access_expires_at.minus(early) && now.since(tokens.obtained_at) >= MIN_AGE
}

/// How long the provider is left alone after `times` failures in a row.
fn cool_down(times: u32) -> Duration {
    COOL_DOWN.saturating_mul(1 << times.saturating_sub(1).min(8)).min(LONGEST_COOL_DOWN)
}
