//! Sessions in this process: a sharded map of compact records, with an index by user and by the provider's session.
//!
//! A lookup takes one shared lock on one shard and touches one atomic; nothing is copied but an `Arc`. Only sessions in
//! use are held decoded: a million of them would take several times the memory of their records.

use std::collections::BTreeSet;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::session::index::{self, IndexKey};
use crate::session::shards::{ById, HOT_PER_SHARD, Ring, Shards};
use crate::session::span::{First, Span};
use crate::session::{Error, Found, Selector, Session, SessionId, Swap, Touch, record};
use crate::time::Timestamp;

/// Up to this many sessions are all looked at to find the longest unused one; in fewer, one shard is no fair sample.
const SMALL: usize = 10_000;

#[derive(Default)]
struct Shard {
    kept: ById<Kept>,
    ring: Ring,
}

struct Kept {
    record: Zeroizing<Box<[u8]>>,
    /// The same decoded, while it is in use.
    hot: Option<Arc<Session>>,
    last_used_at: AtomicI64,
}

impl Kept {
    fn last_used_at(&self) -> Timestamp {
        Timestamp::from_unix(self.last_used_at.load(Ordering::Relaxed))
    }

    fn is_over(&self, idle_timeout: Duration, now: Timestamp) -> bool {
        let head = record::head(&self.record);
        head.is_none_or(|head| now >= head.expires_at) || now >= self.last_used_at().plus(idle_timeout)
    }

    fn session(&self, id: SessionId) -> Option<Arc<Session>> {
        self.hot.clone().or_else(|| record::decode(id, &self.record).map(Arc::new))
    }

    fn found(&self, session: Arc<Session>, touch: Touch, now: Timestamp) -> Found {
        if touch == Touch::Use {
            self.last_used_at.fetch_max(now.unix(), Ordering::Relaxed);
        }
        Found { session, last_used_at: self.last_used_at() }
    }
}

impl Shard {
    /// Holds `session` decoded from now on, and forgets another one that is not in use.
    fn heat(&mut self, session: &Arc<Session>) {
        let Some(kept) = self.kept.get_mut(&session.id) else { return };
        kept.hot = Some(Arc::clone(session));
        let used_at = kept.last_used_at().unix();
        let last_use = |id| self.kept.get(&id).filter(|kept| kept.hot.is_some()).map(|kept| kept.last_used_at().unix());
        let cold = self.ring.admit((session.id, used_at), HOT_PER_SHARD, last_use);
        if let Some(kept) = cold.and_then(|id| self.kept.get_mut(&id)) {
            kept.hot = None;
        }
    }
}

/// The store `memory`.
pub struct Memory {
    shards: Shards<Shard>,
    index: Mutex<BTreeSet<(IndexKey, SessionId)>>,
    count: AtomicUsize,
    capacity: AtomicUsize,
}

impl Memory {
    /// A store for at most `capacity` sessions.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = AtomicUsize::new(capacity.max(1));
        Self { shards: Shards::new(), index: Mutex::default(), count: AtomicUsize::new(0), capacity }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// From now on for at most `capacity` sessions; what is too many goes with the next logins.
    pub(super) fn resize(&self, capacity: usize) {
        self.capacity.store(capacity.max(1), Ordering::Relaxed);
    }

    /// Takes `session` in; returns what had to go for it.
    pub(super) fn insert(&self, session: &Arc<Session>, now: Timestamp) -> Result<Vec<Arc<Session>>, Error> {
        let mut evicted = Vec::new();
        while self.count() >= self.capacity.load(Ordering::Relaxed) {
            match self.longest_unused(session.id) {
                Some(oldest) => evicted.extend(self.take(oldest)),
                None => break,
            }
        }
        self.keep(session, now)?;
        if let Some(mut shard) = self.shards.write(session.id) {
            shard.heat(session);
        }
        Ok(evicted)
    }

    fn keep(&self, session: &Session, last_used_at: Timestamp) -> Result<(), Error> {
        let record = Zeroizing::new(record::encode(session).ok_or(Error::Unwritable)?.as_slice().into());
        self.index().extend(index_entries(session));
        let kept = Kept { record, hot: None, last_used_at: AtomicI64::new(last_used_at.unix()) };
        if let Some(mut shard) = self.shards.write(session.id)
            && shard.kept.insert(session.id, kept).is_none()
        {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(super) fn load(&self, id: SessionId, touch: Touch, idle_timeout: Duration, now: Timestamp) -> Option<Found> {
        {
            let shard = self.shards.read(id)?;
            let kept = shard.kept.get(&id).filter(|kept| !kept.is_over(idle_timeout, now))?;
            if let Some(session) = &kept.hot {
                return Some(kept.found(Arc::clone(session), touch, now));
            }
        }
        let mut shard = self.shards.write(id)?;
        let kept = shard.kept.get(&id)?;
        let found = kept.found(kept.session(id)?, touch, now);
        shard.heat(&found.session);
        Some(found)
    }

    pub(super) fn replace(&self, session: Arc<Session>) -> Result<Swap, Error> {
        let record = Zeroizing::new(record::encode(&session).ok_or(Error::Unwritable)?.as_slice().into());
        let Some(mut shard) = self.shards.write(session.id) else { return Ok(Swap::Gone) };
        let Some(kept) = shard.kept.get_mut(&session.id) else { return Ok(Swap::Gone) };
        let version = record::head(&kept.record).map(|head| head.version);
        if version.and_then(|version| version.checked_add(1)) != Some(session.version) {
            return Ok(kept.session(session.id).map_or(Swap::Gone, Swap::Stale));
        }
        kept.record = record;
        if kept.hot.is_some() {
            kept.hot = Some(Arc::clone(&session));
        }
        Ok(Swap::Done(session))
    }

    pub(super) fn remove(&self, selector: Selector<'_>) -> Vec<Arc<Session>> {
        if let Selector::Id(id) = selector {
            return self.take(id).into_iter().collect();
        }
        self.find(selector).into_iter().filter_map(|session| self.take(session.id)).collect()
    }

    pub(super) fn find(&self, selector: Selector<'_>) -> Vec<Arc<Session>> {
        let candidates: Vec<SessionId> = match (selector, selector.key()) {
            (Selector::Id(id), _) => vec![id],
            (_, None) => Vec::new(),
            (_, Some(key)) => {
                let range = (key, SessionId([0; 32]))..=(key, SessionId([0xff; 32]));
                self.index().range(range).map(|(_, id)| *id).collect()
            }
        };
        let known = candidates.into_iter().filter_map(|id| self.peek(id));
        known.filter(|session| selector.selects(session)).collect()
    }

    pub(super) fn sweep(&self, idle_timeout: Duration, now: Timestamp) -> Vec<Arc<Session>> {
        let mut over = Vec::new();
        for shard in self.shards.each() {
            over.extend(shard.kept.iter().filter(|(_, kept)| kept.is_over(idle_timeout, now)).map(|(id, _)| *id));
        }
        over.into_iter().filter_map(|id| self.take_if(id, |kept| kept.is_over(idle_timeout, now))).collect()
    }

    /// The first `most` of those in `span`, in their order. Others get the thread between two shards.
    pub(super) async fn ids_within(&self, span: Span, most: usize) -> Vec<SessionId> {
        let (mut first, mut shards) = (First::of(span, most), self.shards.each());
        let mut look = || shards.next().map(|shard| shard.kept.keys().for_each(|id| first.show(*id)));
        while look().is_some() {
            tokio::task::yield_now().await;
        }
        first.ids()
    }

    /// This session as it is, over or not.
    pub(super) fn fetch(&self, id: SessionId) -> Option<Found> {
        let shard = self.shards.read(id)?;
        let kept = shard.kept.get(&id)?;
        Some(Found { session: kept.session(id)?, last_used_at: kept.last_used_at() })
    }

    /// Takes `ids` out, and puts those that are in `sessions` back as they are, however many there are.
    pub(super) fn put(&self, ids: Vec<SessionId>, sessions: Vec<Found>) -> Result<(), Error> {
        for id in ids {
            self.take(id);
        }
        sessions
            .into_iter()
            .try_for_each(|Found { session, last_used_at }| self.keep(&session, last_used_at))
    }

    /// The longest unused session. In a large store that of the shard that `id` belongs to, which keeps a login into a
    /// full store cheap and is fair, because ids are spread evenly; of all when that shard is empty.
    fn longest_unused(&self, id: SessionId) -> Option<SessionId> {
        let oldest = |shard: &Shard| shard.kept.iter().map(|(id, kept)| (kept.last_used_at(), *id)).min();
        if self.capacity.load(Ordering::Relaxed) > SMALL
            && let Some((_, id)) = self.shards.read(id).and_then(|shard| oldest(&shard))
        {
            return Some(id);
        }
        self.shards.each().filter_map(|shard| oldest(&shard)).min().map(|(_, id)| id)
    }

    fn peek(&self, id: SessionId) -> Option<Arc<Session>> {
        self.shards.read(id)?.kept.get(&id).and_then(|kept| kept.session(id))
    }

    pub(super) fn take(&self, id: SessionId) -> Option<Arc<Session>> {
        self.take_if(id, |_| true)
    }

    fn take_if(&self, id: SessionId, condition: impl FnOnce(&Kept) -> bool) -> Option<Arc<Session>> {
        let kept = match self.shards.write(id)?.kept.entry(id) {
            Entry::Occupied(entry) if condition(entry.get()) => entry.remove(),
            Entry::Occupied(_) | Entry::Vacant(_) => return None,
        };
        self.count.fetch_sub(1, Ordering::Relaxed);
        let session = kept.session(id)?;
        let mut index = self.index();
        for entry in index_entries(&session) {
            index.remove(&entry);
        }
        Some(session)
    }

    fn index(&self) -> MutexGuard<'_, BTreeSet<(IndexKey, SessionId)>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn index_entries(session: &Session) -> impl Iterator<Item = (IndexKey, SessionId)> {
    let (subject, sid) = index::keys(session);
    let id = session.id;
    std::iter::once(subject).chain(sid).map(move |key| (key, id))
}
