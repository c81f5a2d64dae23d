//! One refresh, from its lease to the new version in the store. It runs in a task of its own and finishes although the
//! request that caused it is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use crate::metrics::Metrics;
use crate::provider::{self, Client, RefreshToken};
use crate::session::leasing::WAIT_FOR_LATE;
use crate::session::refresh::{Cause, Outcome, WAIT, is_due};
use crate::session::{
    Begin, Binding, EndKind, Error, Journal, Lease, Selector, Session, SessionId, Sessions, Swap, Touch,
};
use crate::time::Clock;

/// How often, and after which pauses, a store that failed is asked again to keep what was refreshed.
const KEEP_TRYING: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];
/// How often another process's refresh is looked after: at first and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// Everything that one refresh needs.
pub(super) struct Work {
    pub(super) sessions: Arc<Sessions>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) client: Client,
    pub(super) clock: Clock,
}

impl Work {
    /// Renews the token of a session that was `seen` with one which is due.
    pub(super) async fn renew(&self, seen: Arc<Session>) -> Outcome {
        let (begun, mut pause) = (Instant::now(), LOOK.0);
        loop {
            // The request may carry an older version than the store: then somebody has renewed it meanwhile.
            let current = match self.current(seen.id).await {
                Ok(Some(current)) => current,
                Ok(None) => return Outcome::Ended,
                Err(_) => return self.counted("error", Outcome::Failed(Cause::Unavailable)),
            };
            if current.version > seen.version && !is_due(&current, self.clock.now()) {
                return self.counted("shared", Outcome::Renewed(current));
            }
            let Some(token) = current.tokens.refresh.clone() else { return Outcome::Failed(Cause::NoRefreshToken) };
            match self.sessions.begin_refresh(&current).await {
                Ok(Begin::Begun(lease)) => {
                    if let Some(outcome) = self.send(&current, &token, &lease).await {
                        return outcome;
                    }
                }
                Ok(Begin::Elsewhere) => {}
                Ok(Begin::Gone) => return Outcome::Ended,
                Err(_) => return self.counted("error", Outcome::Failed(Cause::Unavailable)),
            }
            // Another process has the lease.
            if begun.elapsed() >= WAIT {
                return self.counted("timeout", Outcome::Failed(Cause::Timeout));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK.1);
        }
    }

    async fn current(&self, id: SessionId) -> Result<Option<Arc<Session>>, Error> {
        let found = self.sessions.load(id, Duration::MAX, Touch::Look, self.clock.now()).await?;
        Ok(found.map(|found| found.session))
    }

    /// Sends the token; `None` when another holder of the lease has done so since, and it is theirs to finish.
    async fn send(&self, current: &Arc<Session>, token: &RefreshToken, lease: &Lease) -> Option<Outcome> {
        let answer = self.client.refresh(token, &current.claims, self.clock.now());
        match self.sessions.holding(lease, answer).await {
            Ok(renewal) => self.keep(Arc::new(current.renewed(renewal, self.clock.now())), lease).await,
            Err(error) if error.ends_session() => Some(self.give_up(current, &error, lease).await),
            Err(error) => {
                warn!(session = %current.id, provider = %current.binding.provider, %error, "token refresh failed");
                self.sessions.end_refresh(current.id, lease).await;
                let timeout = matches!(error, provider::Error::Timeout(_));
                let (result, cause) = if timeout { ("timeout", Cause::Timeout) } else { ("error", Cause::Unavailable) };
                Some(self.counted(result, Outcome::Failed(cause)))
            }
        }
    }

    /// Ends a session whose token will never be renewed, unless the store says that it was.
    async fn give_up(&self, session: &Arc<Session>, error: &provider::Error, lease: &Lease) -> Outcome {
        if matches!(error, provider::Error::InvalidGrant) {
            self.sessions.deny_refresh(lease).await;
            if let Some(renewed) = self.renewed_elsewhere(session, lease).await {
                return self.counted("shared", renewed);
            }
        }
        let result = match (error, lease.journal) {
            // The process that was killed had sent this token, and took the answer with it.
            (provider::Error::InvalidGrant, Journal::Interrupted) => "lost_at_crash",
            (provider::Error::InvalidGrant, Journal::Begun) => "invalid_grant",
            _ => "unacceptable",
        };
        let Binding { route, provider, .. } = &*session.binding;
        info!(session = %session.id, %route, %provider, %error, result, "session ends: its token was not refreshed");
        // When even this fails, the session is still useless: its next refresh ends it.
        let _ = self.sessions.end(Selector::Id(session.id), EndKind::RefreshFailed).await;
        self.counted(result, Outcome::Ended)
    }

    /// Whether somebody else has renewed a token that the provider refuses. An earlier holder of the lease, who stood still
    /// for a while, may still bring what the provider gave it.
    async fn renewed_elsewhere(&self, session: &Session, lease: &Lease) -> Option<Outcome> {
        let (begun, mut pause) = (Instant::now(), LOOK.0);
        loop {
            match self.current(session.id).await {
                Ok(Some(current)) if current.version > session.version => return Some(Outcome::Renewed(current)),
                Ok(None) => return Some(Outcome::Ended),
                Ok(Some(_)) | Err(_) => {}
            }
            if lease.journal == Journal::Begun || lease.redis.is_none() || begun.elapsed() >= WAIT_FOR_LATE {
                return None;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK.1);
        }
    }

    /// Stores what the provider has issued. The old token is burnt, so a store that fails is asked again for a while.
    async fn keep(&self, renewed: Arc<Session>, lease: &Lease) -> Option<Outcome> {
        let mut pauses = KEEP_TRYING.iter();
        let swap = loop {
            match (self.sessions.replace(Arc::clone(&renewed), Some(lease)).await, pauses.next()) {
                (Ok(swap), _) => break swap,
                (Err(_), Some(pause)) => tokio::time::sleep(*pause).await,
                (Err(error), None) => {
                    error!(session = %renewed.id, %error, "refreshed tokens are lost: they cannot be stored");
                    return Some(self.counted("error", Outcome::Failed(Cause::Unavailable)));
                }
            }
        };
        Some(match swap {
            Swap::Done(session) | Swap::Stale(session) => self.counted("success", Outcome::Renewed(session)),
            Swap::Fenced => {
                warn!(session = %renewed.id, "refreshed too late: another process has taken over");
                return None;
            }
            Swap::Gone => {
                // Logged out meanwhile: nobody may use what was just issued.
                if let Some(token) = &renewed.tokens.refresh {
                    self.client.revoke(token).await;
                }
                self.counted("success", Outcome::Ended)
            }
        })
    }

    fn counted(&self, result: &'static str, outcome: Outcome) -> Outcome {
        self.metrics.refresh(self.client.registration.provider.name.as_str(), result);
        outcome
    }
}
