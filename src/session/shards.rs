//! A map by session id in 80 parts, so that requests for different sessions hardly ever wait for each other; and the
//! order in which decoded sessions are forgotten again.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::session::SessionId;

/// No power of two: tables grow by doubling, and a million sessions in 64 of them would leave each half empty, at 50 bytes
/// a session. In 80, each is filled to three quarters.
const SHARDS: usize = 80;

/// How many sessions are held decoded, ready for use: those of the users who are active now. A decoded session takes
/// some 5 kB; one that is not costs its next request some 20 µs.
const HOT: usize = 8_192;

/// How many of them a shard holds.
pub(super) const HOT_PER_SHARD: usize = HOT / SHARDS;

/// The hash is in the key already: ids are SHA-256 of random handles, which no client can choose.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(head) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*head);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

/// Values by session id.
pub(super) type ById<V> = HashMap<SessionId, V, BuildHasherDefault<IdHasher>>;

/// The parts, each behind a lock of its own.
pub(super) struct Shards<T>(Box<[RwLock<T>]>);

// A panic while a lock was held cannot leave a shard half changed: every change is one call. So poison is ignored.
impl<T: Default> Shards<T> {
    pub(super) fn new() -> Self {
        Self((0..SHARDS).map(|_| RwLock::default()).collect())
    }

    /// The shard of `id`, to read; there always is one.
    pub(super) fn read(&self, id: SessionId) -> Option<RwLockReadGuard<'_, T>> {
        self.of(id).map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The shard of `id`, to change.
    pub(super) fn write(&self, id: SessionId) -> Option<RwLockWriteGuard<'_, T>> {
        self.of(id).map(|shard| shard.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// All shards, one after the other, to read.
    pub(super) fn each(&self) -> impl Iterator<Item = RwLockReadGuard<'_, T>> {
        self.0.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// All shards, one after the other, to change.
    pub(super) fn each_mut(&self) -> impl Iterator<Item = RwLockWriteGuard<'_, T>> {
        self.0.iter().map(|shard| shard.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn of(&self, id: SessionId) -> Option<&RwLock<T>> {
        // Other bytes than those that the map hashes by, so that shards do not thin out its buckets; two, so that all
        // shards get the same share.
        let [.., first, second] = id.0;
        self.0.get(usize::from(u16::from_le_bytes([first, second])) % SHARDS)
    }
}

/// The decoded sessions of a shard in the order in which they are judged: one that was used since its turn came last
/// gets another turn, the first one that was not is forgotten.
#[derive(Default)]
pub(super) struct Ring(VecDeque<(SessionId, i64)>);

impl Ring {
    /// Takes `id` in, last used at `used_at`. When there are more than `limit`, answers which one to forget.
    /// `last_use` says when a session was last used; `None`: it is not decoded any more.
    pub(super) fn admit(
        &mut self,
        (id, used_at): (SessionId, i64),
        limit: usize,
        last_use: impl Fn(SessionId) -> Option<i64>,
    ) -> Option<SessionId> {
        self.0.push_back((id, used_at));
        // One turn each; when all were used, the one that had its turn first has to go all the same.
        for _ in 0..self.0.len() {
            if self.0.len() <= limit {
                return None;
            }
            let (oldest, then) = self.0.pop_front()?;
            match last_use(oldest) {
                None => {}
                Some(last) if last > then => self.0.push_back((oldest, last)),
                Some(_) => return Some(oldest),
            }
        }
        if self.0.len() > limit { self.0.pop_front().map(|(id, _)| id) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> SessionId {
        SessionId([byte; 32])
    }

    #[test]
    fn the_ring_forgets_what_was_not_used_since() {
        let mut ring = Ring::default();
        for byte in 0..3 {
            assert_eq!(ring.admit((id(byte), 10), 3, |_| Some(10)), None);
        }
        let last_use = |one: SessionId| Some(if one == id(0) { 20 } else { 10 });
        assert_eq!(ring.admit((id(3), 30), 3, last_use), Some(id(1)), "the first was used since, the second was not");
        assert_eq!(ring.admit((id(4), 30), 3, |one| (one != id(2)).then_some(10)), None, "one had ended");
    }

    #[test]
    fn the_ring_keeps_its_limit_although_all_are_in_use() {
        let mut ring = Ring::default();
        let forgotten: Vec<_> = (0..100).filter_map(|byte| ring.admit((id(byte), 0), 7, |_| Some(1))).collect();
        assert_eq!(forgotten.len(), 93);
        assert_eq!(ring.0.len(), 7);
    }
}
