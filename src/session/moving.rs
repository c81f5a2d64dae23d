//! Moving all sessions to another store while they are in use: nobody is logged out, and nothing that is written
//! meanwhile is lost.
//!
//! The new store is opened and filled beside the old one, which serves on; what changes meanwhile is noted. At the end
//! changes wait for a moment, what was noted is carried over once more, and the new store takes the old one's place.
//! Reads never wait. Whatever fails before that last step changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;
use tracing::{info, warn};

use crate::session::file::{File, FileOptions};
use crate::session::redis::{Redis, RedisOptions};
use crate::session::sessions::Store;
use crate::session::{Error, Memory, SessionId, Sessions, State, Touch};
use crate::time::Timestamp;

/// How many sessions are carried over at once.
const SLICE: usize = 1024;
/// How often at most what changed meanwhile is carried over before the end.
const ROUNDS: usize = 8;
/// What an operator is told whose sessions are not this process' alone. To leave with a copy would bring back who logs out
/// at the others, and have both send the same refresh tokens.
const ALSO_THERE: &str = "other process(es) have them, too: end those first, or end all and start them with the new store, \
     where everybody logs in again";
/// How many of them are read or sealed before others get the thread.
pub(super) const AT_ONCE: usize = 64;

/// Where sessions move to.
pub enum Destination {
    /// This process, with room for so many.
    Memory(usize),
    /// A file that holds no sessions of its own.
    File(FileOptions),
    /// A server, which may have sessions of other processes.
    Redis(RedisOptions),
}

impl fmt::Display for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(_) => formatter.write_str("memory"),
            Self::File(options) => write!(formatter, "{}", options.path.display()),
            Self::Redis(options) => write!(formatter, "{}", options.server),
        }
    }
}

/// A move that has begun: the new store has what the old one had.
pub struct Move {
    to: Arc<Store>,
    place: String,
    begun: Instant,
    /// Nobody goes through all sessions meanwhile.
    round: OwnedMutexGuard<()>,
}

/// A store that sessions have moved out of. No other move begins while it is there.
pub struct Left {
    store: Arc<Store>,
    _round: OwnedMutexGuard<()>,
}

/// What happens to sessions during a move; outside of one, nothing is noted.
#[derive(Default)]
pub(super) struct Notes {
    moving: AtomicBool,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    changed: BTreeSet<SessionId>,
    used: BTreeMap<SessionId, Timestamp>,
}

impl Notes {
    /// Session `id` is about to change, or has.
    pub(super) fn changes(&self, id: SessionId) {
        if self.moving.load(Ordering::Acquire) {
            self.noted().changed.insert(id);
        }
    }

    /// Session `id` was used.
    pub(super) fn uses(&self, id: SessionId, now: Timestamp) {
        if self.moving.load(Ordering::Acquire) {
            self.noted().used.insert(id, now);
        }
    }

    /// Whether what was noted is carried over in a moment.
    fn is_short(&self) -> bool {
        let noted = self.noted();
        noted.changed.len() <= AT_ONCE && noted.used.len() <= SLICE
    }

    fn take(&self) -> Noted {
        std::mem::take(&mut *self.noted())
    }

    fn note(&self, moving: bool) {
        self.moving.store(moving, Ordering::Release);
        if !moving {
            self.take();
        }
    }

    // Every change is one call to a collection, so a panic elsewhere leaves it whole.
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions {
    /// Opens the store at `to` and fills it beside the one that serves, which may take a while. `None` when it is the one
    /// that serves, under another name.
    ///
    /// # Errors
    /// Why not, for the operator; then nothing has changed.
    pub async fn begin_move(&self, to: Destination) -> Result<Option<Move>, String> {
        let (begun, place) = (Instant::now(), to.to_string());
        let round = Arc::clone(&self.rounds).lock_owned().await;
        let to = Arc::new(match to {
            Destination::Memory(capacity) => Store::Memory(Memory::new(capacity)),
            Destination::File(options) => {
                Store::File(File::open(options, self.hooks.clone(), Arc::clone(&self.metrics)))
            }
            Destination::Redis(options) => {
                Store::Redis(Redis::open(options, self.hooks.clone(), Arc::clone(&self.metrics)))
            }
        });
        let opened = match &*to {
            Store::Memory(_) => Ok(0),
            Store::File(file) => file.opened().await,
            Store::Redis(redis) => redis.opened().await,
        };
        let why = match opened {
            Ok(0) => None,
            Ok(held) => {
                to.close().await;
                Some(format!("it holds {held} of an earlier time: restart to go on with those, or move it away"))
            }
            Err(why) => Some(why),
        };
        if let Some(why) = why {
            self.show(&to);
            return Err(format!("sessions cannot move to {place}: {why}"));
        }
        let moving = Move { to, place, begun, round };
        let from = self.store.load_full();
        match from.is_same(&moving.to).await {
            Ok(false) => {}
            Ok(true) => {
                moving.to.close().await;
                return Ok(None);
            }
            Err(error) => return Err(self.failed(moving, error).await),
        }
        match from.others().await {
            Ok(0) => {}
            Ok(others) => {
                let why = format!("sessions cannot move to {}: {others} {ALSO_THERE}", moving.place);
                self.abandon_move(moving).await;
                return Err(why);
            }
            Err(error) => return Err(self.failed(moving, error).await),
        }
        info!(to = moving.place, sessions = self.count(), "sessions move to another store");
        match self.fill(&moving.to).await {
            Ok(()) => Ok(Some(moving)),
            Err(error) => Err(self.failed(moving, error).await),
        }
    }

    async fn fill(&self, to: &Store) -> Result<(), Error> {
        {
            // Whoever began to change something before it would be noted is waited for.
            let _all = self.changes.write().await;
            self.notes.note(true);
        }
        let from = self.store.load_full();
        from.settled().await?;
        let ids = from.ids().await?;
        for slice in ids.chunks(SLICE) {
            carry(&from, to, slice.to_vec()).await?;
        }
        // What changed meanwhile is carried over before the end, where everybody would wait for it.
        for _ in 0..ROUNDS {
            if self.notes.is_short() {
                break;
            }
            let noted = {
                // Only what has begun and is over: it is noted before it is done.
                let _all = self.changes.write().await;
                self.notes.take()
            };
            // Whoever asked for a change may have gone before it was done.
            from.settled().await?;
            catch_up(&from, to, noted).await?;
        }
        Ok(())
    }

    /// Puts the new store in the old one's place.
    ///
    /// # Errors
    /// Why not, for the operator; then nothing has changed.
    pub async fn finish_move(&self, moving: Move) -> Result<Left, String> {
        let all = self.changes.write().await;
        let from = self.store.load_full();
        let caught_up = match from.settled().await {
            Ok(()) => catch_up(&from, &moving.to, self.notes.take()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = caught_up {
            drop(all);
            return Err(self.failed(moving, error).await);
        }
        let Move { to, place, begun, round } = moving;
        self.store.store(Arc::clone(&to));
        drop(all);
        self.show(&from);
        // What was used in the last moment, by whoever had the old store in hand.
        carry_uses(&to, self.notes.take()).await;
        self.notes.note(false);
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        info!(to = place, sessions = to.count(), milliseconds, "sessions have moved");
        Ok(Left { store: from, _round: round })
    }

    async fn failed(&self, moving: Move, error: Error) -> String {
        let advice = match self.state().1 {
            State::Up => "",
            State::Opening | State::Down => {
                "; the store that they are in has to be up for that. Restart to begin anew in the other one"
            }
        };
        let why = format!("sessions cannot move to {}: {error}{advice}", moving.place);
        self.abandon_move(moving).await;
        why
    }

    /// Gives a move up: everything stays as it was.
    pub async fn abandon_move(&self, moving: Move) {
        if moving.to.give_up().await.is_err() {
            warn!(path = moving.place, "what was copied there already stays behind: remove it");
        }
        self.notes.note(false);
        self.show(&moving.to);
    }

    /// Empties and closes a store that was left, without an end for anybody.
    pub async fn forget(&self, left: Left) {
        if let Err(error) = left.store.leave().await {
            warn!(%error, "the store that sessions have moved out of could not be emptied: remove its file");
        }
        // What it was doing meanwhile may have been counted once more.
        self.show(&left.store);
    }

    /// Shows what is kept now, and of `left` nothing.
    fn show(&self, left: &Store) {
        let store = self.store.load();
        if store.label() != left.label() {
            self.metrics.forget_store(left.label());
        }
        self.metrics.sessions_active(store.label(), store.count());
    }
}

/// Carries over what was noted.
async fn catch_up(from: &Store, to: &Store, mut noted: Noted) -> Result<(), Error> {
    let changed: Vec<SessionId> = std::mem::take(&mut noted.changed).into_iter().collect();
    for slice in changed.chunks(SLICE) {
        carry(from, to, slice.to_vec()).await?;
    }
    carry_uses(to, noted).await;
    Ok(())
}

/// Makes `to` say of `ids` what `from` says.
async fn carry(from: &Store, to: &Store, ids: Vec<SessionId>) -> Result<(), Error> {
    let sessions = from.fetch(ids.clone()).await?;
    to.put(ids, sessions).await
}

/// Uses are not worth a failure: what one misses is the time since the copy.
async fn carry_uses(to: &Store, noted: Noted) {
    match to {
        Store::Redis(redis) => drop(redis.note_uses(&noted.used.into_iter().collect::<Vec<_>>()).await),
        Store::Memory(memory) => {
            noted.used.into_iter().for_each(|(id, at)| drop(memory.load(id, Touch::Use, Duration::MAX, at)));
        }
        Store::File(file) => {
            for (id, at) in noted.used {
                drop(file.load(id, Duration::MAX, Touch::Use, at).await);
            }
        }
    }
}

impl fmt::Debug for Move {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Move(to {})", self.place)
    }
}

impl fmt::Debug for Left {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Left({})", self.store.label())
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Destination({self})")
    }
}
