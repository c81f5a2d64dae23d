//! Revoking the refresh tokens of sessions that have ended, a few at a time and beside everything else (RFC 7009).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::provider::{Client, RefreshToken};
use crate::session::{Party, Session};

/// How many are revoked at once: an operator may end a hundred thousand sessions in one call.
const AT_ONCE: usize = 8;
/// Most that wait. Each takes its token and 24 bytes.
const MAX_WAITING: usize = 100_000;

/// Revokes in the background; outlives snapshots. Nothing but the very end of the process waits for it.
pub struct Revoker {
    clients: RwLock<BTreeMap<Party, Client>>,
    desk: Arc<Desk>,
    tasks: TaskTracker,
    /// Whoever ends a session may be a thread of the store's.
    runtime: Option<Handle>,
}

/// Where the tokens wait, and those who revoke them.
struct Desk {
    queue: Mutex<Queue<(Client, RefreshToken)>>,
    /// One for each worker; there is none while nothing waits.
    places: Arc<Semaphore>,
}

/// What waits, with an end to it.
struct Queue<T> {
    waiting: VecDeque<T>,
    most: usize,
    /// How many found no room since it was empty.
    left_out: usize,
}

impl Revoker {
    /// Revokes on the runtime that this is called on; without one, nothing is revoked.
    #[must_use]
    pub fn new() -> Self {
        let desk = Desk { queue: Mutex::new(Queue::new(MAX_WAITING)), places: Arc::new(Semaphore::new(AT_ONCE)) };
        let runtime = Handle::try_current().ok();
        Self { clients: RwLock::default(), desk: Arc::new(desk), tasks: TaskTracker::new(), runtime }
    }

    /// From now on, these are the clients of sessions.
    pub fn adopt(&self, clients: BTreeMap<Party, Client>) {
        *self.clients.write().unwrap_or_else(PoisonError::into_inner) = clients;
    }

    /// Revokes the refresh token of a session that somebody else than its user has ended, at its own client, unless it was
    /// asked for to outlive the session (OpenID Connect Back-Channel Logout 1.0, 2.7).
    pub fn revoke(&self, session: &Session) {
        let Some(token) = session.tokens.refresh.clone() else { return };
        let client = {
            let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
            clients.get(&Party::from(&*session.binding)).cloned()
        };
        let Some(client) = client else { return };
        if client.registration.scopes.iter().any(|scope| scope == "offline_access") {
            return;
        }
        self.work(|queue| queue.push_last((client, token)));
    }

    /// Revokes the token of somebody who has logged out: before those of all others, who do not know of it.
    pub(super) fn revoke_first(&self, client: &Client, token: RefreshToken) {
        self.work(|queue| queue.push_first((client.clone(), token)));
    }

    /// Gives what still waits `left` of time, as nothing comes any more, and says how many that was too short for.
    pub async fn finish(&self, left: Duration) {
        self.tasks.close();
        if tokio::time::timeout(left, self.tasks.wait()).await.is_ok() {
            return;
        }
        let waiting = std::mem::take(&mut self.desk.queue().waiting);
        let left = waiting.len() + self.tasks.len();
        warn!(left, "refresh tokens are not revoked: the process has no time left for it");
    }

    /// Has something wait, and somebody work on it. The lock is held until both are done, as whoever finds nothing to do
    /// gives the place back under it.
    fn work(&self, push: impl FnOnce(&mut Queue<(Client, RefreshToken)>) -> bool) {
        let Some(runtime) = &self.runtime else { return };
        let mut queue = self.desk.queue();
        let is_first_left_out = push(&mut queue) && queue.left_out == 1;
        if let Ok(place) = Arc::clone(&self.desk.places).try_acquire_owned() {
            self.tasks.spawn_on(Arc::clone(&self.desk).revoke_all(place), runtime);
        }
        drop(queue);
        if is_first_left_out {
            warn!(waiting = MAX_WAITING, "too many refresh tokens wait to be revoked: some are left out");
        }
    }
}

impl Desk {
    fn queue(&self) -> MutexGuard<'_, Queue<(Client, RefreshToken)>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn revoke_all(self: Arc<Self>, place: OwnedSemaphorePermit) {
        let mut place = Some(place);
        while let Some((client, token)) = self.next(&mut place) {
            client.revoke(&token).await;
        }
    }

    /// The next one, or the place is free again.
    fn next(&self, place: &mut Option<OwnedSemaphorePermit>) -> Option<(Client, RefreshToken)> {
        let mut queue = self.queue();
        let next = queue.waiting.pop_front();
        let mut left_out = 0;
        if next.is_none() {
            place.take();
            left_out = queue.end();
        }
        drop(queue);
        if left_out > 0 {
            warn!(left_out, "refresh tokens are not revoked: too many waited");
        }
        next
    }
}

impl<T> Queue<T> {
    const fn new(most: usize) -> Self {
        Self { waiting: VecDeque::new(), most, left_out: 0 }
    }

    /// Has `one` wait behind all others; false: there was room for it.
    fn push_last(&mut self, one: T) -> bool {
        let full = self.waiting.len() >= self.most;
        if full {
            self.left_out += 1;
        } else {
            self.waiting.push_back(one);
        }
        full
    }

    /// Has `one` wait before all others, of whom the last may have to go for it; false: there was room.
    fn push_first(&mut self, one: T) -> bool {
        let full = self.waiting.len() >= self.most;
        if full {
            self.waiting.pop_back();
            self.left_out += 1;
        }
        self.waiting.push_front(one);
        full
    }

    /// Nothing waits any more: gives its memory back, and answers how many were left out.
    fn end(&mut self) -> usize {
        self.waiting = VecDeque::new();
        std::mem::take(&mut self.left_out)
    }
}

impl Default for Revoker {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Revoker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Revoker")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lo_9_a_queue_has_an_end_and_counts_who_is_left_out() {
        let mut queue = Queue::new(3);
        let full: Vec<bool> = (1..=5).map(|one| queue.push_last(one)).collect();
        assert_eq!(full, [false, false, false, true, true]);
        assert!(queue.push_first(9), "the last one goes for whoever comes first");
        assert_eq!(queue.waiting, [9, 1, 2]);
        queue.waiting.clear();
        assert_eq!((queue.end(), queue.end(), queue.waiting.capacity()), (3, 0, 0));
        assert_eq!(size_of::<(Client, RefreshToken)>(), 24, "as it says at `MAX_WAITING`");
    }
}
