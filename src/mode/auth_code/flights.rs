//! Logins whose code is being exchanged, or was a moment ago: a repeated callback of the same browser gets the same
//! answer from one token request; everybody else gets nothing.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::error::{Reason, Refusal};
use crate::mode::auth_code::attempt;
use crate::session::Handle;
use crate::time::Timestamp;

/// How long a repeated callback gets the same answer.
pub(super) const REPEAT: Duration = Duration::from_secs(60);
/// How often flights that nobody can ask for any more are thrown out.
const SWEEP: Duration = Duration::from_secs(60);
/// More at once are not begun: each is a request to the provider.
const MAX: usize = 100_000;

/// How a login ended.
#[derive(Clone, Debug)]
pub(super) enum Landing {
    /// With this session, and on to where the login was begun for.
    LoggedIn(Handle, Arc<str>),
    /// For this reason.
    Failed(Failure),
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
        if now.since(board.swept_at) >= SWEEP {
            // An attempt older than its lifetime is refused by its own age, so its flight need not be remembered.
            board.flights.retain(|_, flight| now.since(flight.begun_at) <= attempt::LIFETIME);
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
    /// Waits for the landing.
    pub(super) async fn landing(mut self) -> Landing {
        let landing = self.landing.wait_for(Option::is_some).await.ok().and_then(|landing| landing.clone());
        // The task is gone without a word: it panicked.
        landing.unwrap_or(Landing::Failed(Failure { reason: Reason::Internal, words: None }))
    }
}
