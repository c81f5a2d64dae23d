//! Refreshing: one at a time per session, in a task of its own, and nobody is logged out by it.
//!
//! A provider that rotates refresh tokens has burnt the old one as soon as it reads the request, so a refresh that
//! has begun must finish although the client that caused it is gone, and its result must be stored before it is used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::metrics::Metrics;
use crate::provider::{self, Client};
use crate::session::{EndKind, Journal, Selector, Session, SessionId, Sessions, Swap};
use crate::time::{Clock, Timestamp};

/// An access token is renewed this long before its end, or in the last quarter of its life if that is shorter.
const EARLY: Duration = Duration::from_secs(30);
/// A token younger than this is used as it is, so that `expires_in: 0` cannot make every request a refresh.
const MIN_AGE: Duration = Duration::from_secs(1);
/// After a failure that does not end the session, the provider is left alone for this long.
const COOL_DOWN: Duration = Duration::from_secs(5);
/// Longest wait for a refresh; the request to the provider itself ends earlier.
const WAIT: Duration = Duration::from_secs(15);
/// Longest wait for a refresh while the old token has life left: it serves when the provider dawdles.
const GRACE: Duration = Duration::from_secs(1);
/// How often, and after which pauses, a store that failed is asked again to keep what was refreshed.
const KEEP_TRYING: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];
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

#[derive(Clone, Debug)]
enum Outcome {
    Renewed(Arc<Session>),
    Ended,
    Failed(Cause),
}

enum Flight {
    Running(watch::Receiver<Option<Outcome>>),
    Cooling { until: Timestamp, cause: Cause },
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
        let id = session.id;
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        match flights.get(&id) {
            Some(Flight::Running(flight)) => {
                self.metrics.refresh(client.registration.provider.name.as_str(), "shared");
                return Ok(flight.clone());
            }
            Some(Flight::Cooling { until, cause }) if now < *until => return Err(*cause),
            Some(Flight::Cooling { .. }) | None => {}
        }
        if flights.len() > MAX_COOLING {
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
        let strip = Strip { flights, id, land };
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
    land: watch::Sender<Option<Outcome>>,
}

impl Strip {
    fn land(self, outcome: Outcome, now: Timestamp) {
        if let Outcome::Failed(cause) = outcome {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            flights.insert(self.id, Flight::Cooling { until: now.plus(COOL_DOWN), cause });
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

/// Everything that one refresh needs after its request is gone.
struct Work {
    sessions: Arc<Sessions>,
    metrics: Arc<Metrics>,
    client: Client,
    clock: Clock,
}

impl Work {
    async fn renew(&self, seen: Arc<Session>) -> Outcome {
        let now = self.clock.now();
        // The request may carry an older version than the store: then somebody has renewed it meanwhile.
        let current = match self.sessions.load(seen.id, Duration::MAX, super::Touch::Look, now).await {
            Ok(Some(found)) => found.session,
            Ok(None) => return Outcome::Ended,
            Err(_) => return self.counted("error", Outcome::Failed(Cause::Unavailable)),
        };
        if current.version > seen.version && !is_due(&current, now) {
            return self.counted("shared", Outcome::Renewed(current));
        }
        let Some(token) = current.tokens.refresh.clone() else { return Outcome::Failed(Cause::NoRefreshToken) };
        let journal = match self.sessions.begin_refresh(&current).await {
            Ok(Some(journal)) => journal,
            Ok(None) => return Outcome::Ended,
            Err(_) => return self.counted("error", Outcome::Failed(Cause::Unavailable)),
        };
        match self.client.refresh(&token, &current.claims, now).await {
            Ok(renewal) => self.keep(Arc::new(current.renewed(renewal, self.clock.now()))).await,
            Err(error) if error.ends_session() => self.give_up(&current, &error, journal).await,
            Err(error) => {
                warn!(session = %current.id, provider = %current.binding.provider, %error, "token refresh failed");
                self.sessions.end_refresh(current.id);
                let timeout = matches!(error, provider::Error::Timeout(_));
                let (result, cause) = if timeout { ("timeout", Cause::Timeout) } else { ("error", Cause::Unavailable) };
                self.counted(result, Outcome::Failed(cause))
            }
        }
    }

    /// Ends a session whose token will never be renewed.
    async fn give_up(&self, session: &Session, error: &provider::Error, journal: Journal) -> Outcome {
        let result = match (error, journal) {
            // The process that was killed had sent this token, and took the answer with it.
            (provider::Error::InvalidGrant, Journal::Interrupted) => "lost_at_crash",
            (provider::Error::InvalidGrant, Journal::Begun) => "invalid_grant",
            _ => "unacceptable",
        };
        let super::Binding { route, provider, .. } = &*session.binding;
        info!(session = %session.id, %route, %provider, %error, result, "session ends: its token was not refreshed");
        // When even this fails, the session is still useless: its next refresh ends it.
        let _ = self.sessions.end(Selector::Id(session.id), EndKind::RefreshFailed).await;
        self.counted(result, Outcome::Ended)
    }

    /// Stores what the provider has issued. The old token is burnt, so a store that fails is asked again for a while.
    async fn keep(&self, renewed: Arc<Session>) -> Outcome {
        let mut pauses = KEEP_TRYING.iter();
        let swap = loop {
            match (self.sessions.replace(Arc::clone(&renewed)).await, pauses.next()) {
                (Ok(swap), _) => break swap,
                (Err(_), Some(pause)) => tokio::time::sleep(*pause).await,
                (Err(error), None) => {
                    error!(session = %renewed.id, %error, "refreshed tokens are lost: they cannot be stored");
                    return self.counted("error", Outcome::Failed(Cause::Unavailable));
                }
            }
        };
        match swap {
            Swap::Done(session) | Swap::Stale(session) => self.counted("success", Outcome::Renewed(session)),
            Swap::Gone => {
                // Logged out meanwhile: nobody may use what was just issued.
                if let Some(token) = &renewed.tokens.refresh {
                    self.client.revoke(token).await;
                }
                self.counted("success", Outcome::Ended)
            }
        }
    }

    fn counted(&self, result: &'static str, outcome: Outcome) -> Outcome {
        self.metrics.refresh(self.client.registration.provider.name.as_str(), result);
        outcome
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
fn is_due(session: &Session, now: Timestamp) -> bool {
    let tokens = &session.tokens;
    let lifetime = tokens.access_expires_at.since(tokens.obtained_at);
    let early = EARLY.min(lifetime / 4);
    now >= tokens.access_expires_at.minus(early) && now.since(tokens.obtained_at) >= MIN_AGE
}
