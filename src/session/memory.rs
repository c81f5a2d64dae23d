//! Sessions in this process: a sharded map, with an index by user and by the provider's session.
//!
//! A lookup takes one shared lock on one of 64 shards and touches one atomic; nothing is copied but an `Arc`.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use aws_lc_rs::digest;

use crate::session::{Found, Selector, Session, SessionId, Swap, Touch};
use crate::time::Timestamp;

/// A power of two, so that a byte of the id picks the shard evenly.
const SHARDS: usize = 64;

/// Up to this many sessions are all looked at to find the longest unused one; in fewer, one shard is no fair sample.
const SMALL: usize = 10_000;

/// The hash is in the key already: ids are SHA-256 of random handles, which no client can choose.
#[derive(Default)]
struct IdHasher(u64);

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

type Condition<'a> = Box<dyn Fn(&Session) -> bool + 'a>;
type Shard = HashMap<SessionId, Kept, BuildHasherDefault<IdHasher>>;

struct Kept {
    session: Arc<Session>,
    last_used_at: AtomicI64,
}

impl Kept {
    fn last_used_at(&self) -> Timestamp {
        Timestamp::from_unix(self.last_used_at.load(Ordering::Relaxed))
    }

    fn is_over(&self, idle_timeout: Duration, now: Timestamp) -> bool {
        now >= self.session.expires_at || now >= self.last_used_at().plus(idle_timeout)
    }
}

/// First half of SHA-256 over kind, issuer and name: what the index is ordered by. A hit is compared with the session
/// itself, so that a collision would do no harm.
type IndexKey = [u8; 16];

/// The store `memory`.
pub struct Memory {
    shards: Vec<RwLock<Shard>>,
    index: Mutex<BTreeSet<(IndexKey, SessionId)>>,
    count: AtomicUsize,
    capacity: usize,
}

impl Memory {
    /// A store for at most `capacity` sessions.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Self { shards, index: Mutex::default(), count: AtomicUsize::new(0), capacity: capacity.max(1) }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Takes `session` in; returns what had to go for it.
    pub(super) fn insert(&self, session: &Arc<Session>, now: Timestamp) -> Vec<Arc<Session>> {
        let mut evicted = Vec::new();
        while self.count() >= self.capacity {
            match self.longest_unused(session.id) {
                Some(oldest) => evicted.extend(self.take(oldest)),
                None => break,
            }
        }
        {
            let mut index = self.index();
            for key in keys(session) {
                index.insert((key, session.id));
            }
        }
        let kept = Kept { last_used_at: AtomicI64::new(now.unix()), session: Arc::clone(session) };
        if let Some(mut shard) = self.write(session.id)
            && shard.insert(session.id, kept).is_none()
        {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        evicted
    }

    pub(super) fn load(&self, id: SessionId, touch: Touch, idle_timeout: Duration, now: Timestamp) -> Option<Found> {
        let shard = self.read(id)?;
        let kept = shard.get(&id).filter(|kept| !kept.is_over(idle_timeout, now))?;
        if touch == Touch::Use {
            kept.last_used_at.fetch_max(now.unix(), Ordering::Relaxed);
        }
        Some(Found { session: Arc::clone(&kept.session), last_used_at: kept.last_used_at() })
    }

    pub(super) fn replace(&self, session: Arc<Session>) -> Swap {
        let Some(mut shard) = self.write(session.id) else { return Swap::Gone };
        match shard.get_mut(&session.id) {
            None => Swap::Gone,
            Some(kept) if kept.session.version.checked_add(1) == Some(session.version) => {
                kept.session = Arc::clone(&session);
                Swap::Done(session)
            }
            Some(kept) => Swap::Stale(Arc::clone(&kept.session)),
        }
    }

    pub(super) fn remove(&self, selector: Selector<'_>) -> Vec<Arc<Session>> {
        let (key, matches): (IndexKey, Condition<'_>) = match selector {
            Selector::Id(id) => return self.take(id).into_iter().collect(),
            Selector::Subject { issuer, subject } => (
                index_key(b"sub", issuer, subject),
                Box::new(move |session| session.binding.issuer == issuer && session.subject == subject),
            ),
            Selector::Sid { issuer, sid } => (
                index_key(b"sid", issuer, sid),
                Box::new(move |session| session.binding.issuer == issuer && session.sid.as_deref() == Some(sid)),
            ),
        };
        let range = (key, SessionId([0; 32]))..=(key, SessionId([0xff; 32]));
        let candidates: Vec<SessionId> = self.index().range(range).map(|(_, id)| *id).collect();
        candidates
            .into_iter()
            .filter(|id| self.peek(*id).is_some_and(|session| matches(&session)))
            .filter_map(|id| self.take(id))
            .collect()
    }

    pub(super) fn sweep(&self, idle_timeout: Duration, now: Timestamp) -> Vec<Arc<Session>> {
        let mut over = Vec::new();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            over.extend(shard.iter().filter(|(_, kept)| kept.is_over(idle_timeout, now)).map(|(id, _)| *id));
        }
        over.into_iter().filter_map(|id| self.take_if(id, |kept| kept.is_over(idle_timeout, now))).collect()
    }

    /// The longest unused session. In a large store that of the shard that `id` belongs to, which keeps a login into a
    /// full store cheap and is fair, because ids are spread evenly; of all when that shard is empty.
    fn longest_unused(&self, id: SessionId) -> Option<SessionId> {
        let oldest = |shard: &Shard| {
            shard
                .iter()
                .min_by_key(|(_, kept)| kept.last_used_at())
                .map(|(id, kept)| (kept.last_used_at(), *id))
        };
        if self.capacity > SMALL
            && let Some((_, id)) = self.read(id).and_then(|shard| oldest(&shard))
        {
            return Some(id);
        }
        let all = self.shards.iter().filter_map(|shard| oldest(&shard.read().unwrap_or_else(PoisonError::into_inner)));
        all.min().map(|(_, id)| id)
    }

    fn peek(&self, id: SessionId) -> Option<Arc<Session>> {
        self.read(id)?.get(&id).map(|kept| Arc::clone(&kept.session))
    }

    fn take(&self, id: SessionId) -> Option<Arc<Session>> {
        self.take_if(id, |_| true)
    }

    fn take_if(&self, id: SessionId, condition: impl FnOnce(&Kept) -> bool) -> Option<Arc<Session>> {
        let session = match self.write(id)?.entry(id) {
            Entry::Occupied(entry) if condition(entry.get()) => entry.remove().session,
            Entry::Occupied(_) | Entry::Vacant(_) => return None,
        };
        self.count.fetch_sub(1, Ordering::Relaxed);
        let mut index = self.index();
        for key in keys(&session) {
            index.remove(&(key, id));
        }
        Some(session)
    }

    fn shard(&self, id: SessionId) -> Option<&RwLock<Shard>> {
        // Another byte than those that the map hashes by, so that shards do not thin out its buckets.
        let [.., last] = id.0;
        self.shards.get(usize::from(last) % SHARDS)
    }

    // A panic while a lock was held cannot leave a map half changed: every change is one call. So poison is ignored.

    fn read(&self, id: SessionId) -> Option<RwLockReadGuard<'_, Shard>> {
        self.shard(id).map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, id: SessionId) -> Option<RwLockWriteGuard<'_, Shard>> {
        self.shard(id).map(|shard| shard.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn index(&self) -> MutexGuard<'_, BTreeSet<(IndexKey, SessionId)>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keys(session: &Session) -> impl Iterator<Item = IndexKey> {
    let issuer = &session.binding.issuer;
    let subject = index_key(b"sub", issuer, &session.subject);
    let sid = session.sid.as_ref().map(|sid| index_key(b"sid", issuer, sid));
    [Some(subject), sid].into_iter().flatten()
}

fn index_key(kind: &[u8; 3], issuer: &str, name: &str) -> IndexKey {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(kind);
    context.update(&(issuer.len() as u64).to_le_bytes());
    context.update(issuer.as_bytes());
    context.update(name.as_bytes());
    let mut key = [0; 16];
    for (to, from) in key.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    key
}
