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

/// How long a store that failed is asked again to keep what was refreshed; a failover takes less.
const KEEP_TRYING: Duration = Duration::from_secs(120);
/// The pause before it is asked again, at first and at most: short enough to be first when a shared store is back.
const TRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How often another process's refresh is looked after: at first and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// Everything that one refresh needs.
pub(super) struct Work {
    pub(super) sessions: Arc<Sessions>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) client: Client,
    pub(super) clock: Clock,
}

/// What came of one attempt.
enum Attempt {
    Over(Outcome),
    Again,
}

/// What the provider gave under a lease that another process has taken over since.
struct Spare {
    session: Arc<Session>,
    lease: Lease,
}

impl Work {
    /// Renews the token of a session that was `seen` with one which is due.
    pub(super) async fn renew(&self, seen: Arc<Session>) -> Outcome {
        let (mut begun, mut pause, mut spare) = (Instant::now(), LOOK.0, None);
        loop {
            let had_spare = spare.is_some();
            match self.attempt(&seen, &mut spare).await {
                Attempt::Over(outcome) => return outcome,
                // It may have taken long to bring it, and the holder who decides has just begun.
                Attempt::Again if spare.is_some() && !had_spare => begun = Instant::now(),
                // Another process is at it, or what it does decides what was brought here.
                Attempt::Again if begun.elapsed() < WAIT => {}
                Attempt::Again => return self.counted("timeout", Outcome::Failed(Cause::Timeout)),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK.1);
        }
    }

    async fn attempt(&self, seen: &Session, spare: &mut Option<Spare>) -> Attempt {
        // The request may carry an older version than the store: then somebody has renewed it meanwhile.
        let current = match self.current(seen.id).await {
            Ok(Some(current)) => current,
            Ok(None) => return Attempt::Over(Outcome::Ended),
            Err(_) => return self.without_store(spare.is_some()),
        };
        if current.version > seen.version && !is_due(&current, self.clock.now()) {
            return Attempt::Over(self.counted("shared", Outcome::Renewed(current)));
        }
        // What came too late may be good by now: the later holder of the lease was refused.
        if let Some(brought) = spare.take() {
            match self.keep(brought, spare).await {
                Attempt::Over(outcome) => return Attempt::Over(outcome),
                Attempt::Again => {}
            }
        }
        let Some(token) = current.tokens.refresh.clone() else {
            return Attempt::Over(Outcome::Failed(Cause::NoRefreshToken));
        };
        match self.sessions.begin_refresh(&current).await {
            Ok(Begin::Begun(lease)) => self.send(&current, &token, lease, spare).await,
            Ok(Begin::Elsewhere) => Attempt::Again,
            Ok(Begin::Gone) => Attempt::Over(Outcome::Ended),
            Err(_) => self.without_store(spare.is_some()),
        }
    }

    /// Whoever has brought something does not drop it because the store is away.
    fn without_store(&self, has_spare: bool) -> Attempt {
        if has_spare {
            return Attempt::Again;
        }
        Attempt::Over(self.counted("error", Outcome::Failed(Cause::Unavailable)))
    }

    async fn current(&self, id: SessionId) -> Result<Option<Arc<Session>>, Error> {
        let found = self.sessions.load(id, Duration::MAX, Touch::Look, self.clock.now()).await?;
        Ok(found.map(|found| found.session))
    }

    async fn send(
        &self,
        current: &Arc<Session>,
        token: &RefreshToken,
        lease: Lease,
        spare: &mut Option<Spare>,
    ) -> Attempt {
        // Whoever stood still in between must not send what another has sent since.
        if lease.is_over() {
            return Attempt::Again;
        }
        let answer = self.client.refresh(token, &current.claims, self.clock.now());
        let error = match self.sessions.holding(&lease, answer).await {
            Ok(renewal) => {
                let session = Arc::new(current.renewed(renewal, self.clock.now()));
                return self.keep(Spare { session, lease }, spare).await;
            }
            Err(error) => error,
        };
        if error.ends_session() {
            return self.give_up(current, &error, (&lease, spare.is_some())).await;
        }
        warn!(session = %current.id, provider = %current.binding.provider, %error, "token refresh failed");
        self.sessions.end_refresh(current.id, &lease).await;
        if spare.is_some() {
            return Attempt::Again;
        }
        let timeout = matches!(error, provider::Error::Timeout(_));
        let (result, cause) = if timeout { ("timeout", Cause::Timeout) } else { ("error", Cause::Unavailable) };
        Attempt::Over(self.counted(result, Outcome::Failed(cause)))
    }

    /// Ends a session whose token will never be renewed, unless it was: the store may know, or an earlier holder of the
    /// lease still bring it.
    async fn give_up(
        &self,
        session: &Arc<Session>,
        error: &provider::Error,
        (lease, has_spare): (&Lease, bool),
    ) -> Attempt {
        if matches!(error, provider::Error::InvalidGrant) {
            let others = !self.sessions.deny_refresh(lease).await || lease.journal == Journal::Interrupted;
            if has_spare {
                return Attempt::Again;
            }
            if let Some(renewed) = self.renewed_elsewhere(session, others && lease.is_shared()).await {
                return Attempt::Over(self.counted("shared", renewed));
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
        Attempt::Over(self.counted(result, Outcome::Ended))
    }

    /// Whether somebody else has renewed a token that the provider refuses; those who stood still for a while are waited
    /// for, when there may be such.
    async fn renewed_elsewhere(&self, session: &Session, wait: bool) -> Option<Outcome> {
        let (begun, mut pause) = (Instant::now(), LOOK.0);
        loop {
            match self.current(session.id).await {
                Ok(Some(current)) if current.version > session.version => return Some(Outcome::Renewed(current)),
                Ok(None) => return Some(Outcome::Ended),
                Ok(Some(_)) | Err(_) => {}
            }
            if !wait || begun.elapsed() >= WAIT_FOR_LATE {
                return None;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK.1);
        }
    }

    /// Stores what the provider has issued. The old token is burnt, so a store that fails is asked again for a while.
    async fn keep(&self, brought: Spare, spare: &mut Option<Spare>) -> Attempt {
        let Spare { session: renewed, lease } = &brought;
        let (begun, mut pause) = (Instant::now(), TRY.0);
        let swap = loop {
            match self.sessions.replace(Arc::clone(renewed), Some(lease)).await {
                Ok(swap) => break swap,
                Err(error) if begun.elapsed() >= KEEP_TRYING || error == Error::Unwritable => {
                    error!(session = %renewed.id, %error, "refreshed tokens are lost: they cannot be stored");
                    return Attempt::Over(self.counted("error", Outcome::Failed(Cause::Unavailable)));
                }
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(TRY.1);
        };
        Attempt::Over(match swap {
            Swap::Done(session) | Swap::Stale(session) => self.counted("success", Outcome::Renewed(session)),
            Swap::Fenced => {
                *spare = Some(brought);
                return Attempt::Again;
            }
            // The session lives, but nobody is let in with it here.
            Swap::Sealed => self.counted("shared", Outcome::Ended),
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
