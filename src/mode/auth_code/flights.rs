//! Logins whose code is being exchanged, or was a moment ago: a repeated callback of the same browser gets the same
//! answer from one token request; everybody else gets nothing.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::error::{Reason, Refusal};
use crate::mode::auth_code::attempt;
use crate::session::{Handle, Sessions, Touch};
use crate::time::Timestamp;

/// How long a repeated callback gets the same answer.
pub(super) const REPEAT: Duration = Duration::from_secs(60);
/// How often flights that nobody can ask for any more are thrown out.
const SWEEP: Duration = Duration::from_secs(60);
/// More are not remembered: each is a request to the provider.
const MAX: usize = 100_000;
/// How often room is looked for when there is none.
const LOOK: Duration = Duration::from_secs(1);

/// How a login ended.
#[derive(Clone, Debug)]
pub(super) enum Landing {
    /// With this session, and on to where the login was begun for.
    LoggedIn(Handle, Arc<str>),
    /// For this reason.
    Failed(Failure),
}

impl Landing {
    /// The same, told once more. A session that has ended since, by logout or by another login, is not told of as if it were
    /// there.
    pub(super) async fn still(
        self,
        sessions: &Sessions,
        idle_timeout: Duration,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        if let Self::LoggedIn(handle, _) = &self {
            let found = sessions.load(handle.id(), idle_timeout, Touch::Look, now).await?;
            found.ok_or_else(|| Refusal::new(Reason::LoginUsed).because("its session has ended"))?;
        }
        Ok(self)
    }
}

/// Why a login failed, for whoever asks how it ended.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) reason: Reason,
    /// What the page says where the reason alone would not help.
    pub(super) words: Option<Cow<'static, str>>,
}

impl From<Refusal> for Failure {
    fn from(Refusal { reason, words, .. }: Refusal) -> Self {
        Self { reason, words }
    }
}

/// One exchange.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    begun_at: Timestamp,
    landing: watch::Receiver<Option<Landing>>,
}

/// What a callback finds.
pub(super) enum Claim {
    /// It is the first: exchange the code and report.
    First(watch::Sender<Option<Landing>>, Flight),
    /// Another one was first.
    Again(Flight),
    /// It was used, and the time for repetitions is over.
    Used,
    /// Too many at once.
    Full,
}

/// All of them; outlives snapshots.
#[derive(Debug, Default)]
pub struct Logins(Mutex<Board>);

#[derive(Debug, Default)]
struct Board {
    flights: HashMap<String, Flight>,
    swept_at: Timestamp,
}

impl Logins {
    /// Claims the login called `name`; exactly one caller ever is the first.
    pub(super) fn claim(&self, name: &str, now: Timestamp) -> Claim {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = board.flights.get(name) {
            return if now.since(flight.begun_at) <= REPEAT { Claim::Again(flight.clone()) } else { Claim::Used };
        }
        let is_full = board.flights.len() >= MAX;
        if now.since(board.swept_at) >= if is_full { LOOK } else { SWEEP } {
            // An attempt older than its lifetime is refused by its own age, so its flight need not be remembered. Nor, when
            // there is no room, one whose code has brought nothing: anybody can begin logins and make up their ends, and who
            // does so many is not to keep others out.
            board.flights.retain(|_, flight| {
                let age = now.since(flight.begun_at);
                age <= attempt::LIFETIME && !(is_full && age > REPEAT && flight.has_failed())
            });
            board.swept_at = now;
        }
        if board.flights.len() >= MAX {
            return Claim::Full;
        }
        let (sender, landing) = watch::channel(None);
        let flight = Flight { begun_at: now, landing };
        board.flights.insert(name.to_owned(), flight.clone());
        Claim::First(sender, flight)
    }

    /// The flight called `name`, while repetitions are answered.
    pub(super) fn find(&self, name: &str, now: Timestamp) -> Option<Flight> {
        let board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        board.flights.get(name).filter(|flight| now.since(flight.begun_at) <= REPEAT).cloned()
    }
}

impl Flight {
    /// Whether it has landed, and with nothing.
    fn has_failed(&self) -> bool {
        matches!(*self.landing.borrow(), Some(Landing::Failed(_)))
    }

    /// Waits for the landing.
    pub(super) async fn landing(mut self) -> Landing {
        let landing = self.landing.wait_for(Option::is_some).await.ok().and_then(|landing| landing.clone());
        // The task is gone without a word: it panicked.
        landing.unwrap_or(Landing::Failed(Failure { reason: Reason::Internal, words: None }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn land(logins: &Logins, name: &str, landing: Landing, now: Timestamp) {
        let Claim::First(sender, _) = logins.claim(name, now) else { panic!("{name} is the first") };
        sender.send_replace(Some(landing));
    }

    /// CB-4, CB-10: what has succeeded is remembered for as long as it could come again, whatever strangers make up.
    #[test]
    fn cb_10_made_up_ends_of_logins_keep_nobody_out_for_long() {
        let (logins, begun) = (Logins::default(), Timestamp::from_unix(1_000));
        let failed = || Landing::Failed(Failure { reason: Reason::LoginFailed, words: None });
        land(&logins, "alice", Landing::LoggedIn(Handle::new().unwrap(), "/".into()), begun);
        for number in 1..MAX {
            land(&logins, &format!("made up {number}"), failed(), begun);
        }
        assert!(matches!(logins.claim("bob", begun), Claim::Full));
        let later = begun.plus(REPEAT + LOOK);
        assert!(matches!(logins.claim("bob", later), Claim::First(..)));
        assert!(matches!(logins.claim("alice", later), Claim::Used));
        assert!(matches!(logins.claim("made up 7", later), Claim::First(..)));
    }
}
