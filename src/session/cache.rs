//! The sessions in use, decoded, in front of a store that keeps all; and the last uses that are not written down yet.
//!
//! What is here is committed: a change is published only after its commit. A reader that fetched a session
//! while a change was published must not bring the old state in, so it shows the epoch that it began in.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::session::shards::{ById, HOT_PER_SHARD, Ring, Shards};
use crate::session::{Found, Session, SessionId, Touch};
use crate::time::Timestamp;

#[derive(Default)]
struct Shard {
    hot: ById<Hot>,
    ring: Ring,
    /// Last uses of sessions that are not hot any more.
    touched: ById<Timestamp>,
    /// Counts the changes published here.
    epoch: u64,
}

struct Hot {
    session: Arc<Session>,
    last_used_at: AtomicI64,
    /// What is written down of it.
    noted: Timestamp,
}

impl Hot {
    fn last_used_at(&self) -> Timestamp {
        Timestamp::from_unix(self.last_used_at.load(Ordering::Relaxed))
    }

    /// The last use, when it is not written down.
    fn unnoted(&self) -> Option<Timestamp> {
        Some(self.last_used_at()).filter(|used_at| *used_at > self.noted)
    }

    fn use_at(&self, use_: Use) -> Option<Found> {
        let over = now_is_past(&self.session, self.last_used_at(), use_);
        if !over && use_.touch == Touch::Use {
            self.last_used_at.fetch_max(use_.now.unix(), Ordering::Relaxed);
        }
        (!over).then(|| Found { session: Arc::clone(&self.session), last_used_at: self.last_used_at() })
    }
}

/// How a session is asked for.
#[derive(Clone, Copy)]
pub(super) struct Use {
    pub(super) touch: Touch,
    pub(super) idle_timeout: Duration,
    pub(super) now: Timestamp,
}

fn now_is_past(session: &Session, last_used_at: Timestamp, use_: Use) -> bool {
    use_.now >= session.expires_at || use_.now >= last_used_at.plus(use_.idle_timeout)
}

/// What the cache knows.
pub(super) enum Lookup {
    /// The session.
    Hit(Found),
    /// Its time is over.
    Over,
    /// Nothing; it is in the file, or nowhere.
    Miss(Epoch),
}

/// When a reader looked here last.
#[derive(Clone, Copy)]
pub(super) struct Epoch(u64);

pub(super) struct Cache(Shards<Shard>);

impl Cache {
    pub(super) fn new() -> Self {
        Self(Shards::new())
    }

    pub(super) fn find(&self, id: SessionId, use_: Use) -> Lookup {
        let Some(shard) = self.0.read(id) else { return Lookup::Over };
        match shard.hot.get(&id) {
            Some(hot) => hot.use_at(use_).map_or(Lookup::Over, Lookup::Hit),
            None => Lookup::Miss(Epoch(shard.epoch)),
        }
    }

    /// Takes in what a reader found in the file, unless something changed meanwhile; answers what its caller gets.
    pub(super) fn admit(&self, session: Arc<Session>, noted: Timestamp, epoch: Epoch, use_: Use) -> Option<Found> {
        let id = session.id;
        let mut shard = self.0.write(id)?;
        if let Some(hot) = shard.hot.get(&id) {
            return hot.use_at(use_);
        }
        let last_used_at = shard.touched.get(&id).map_or(noted, |touched| noted.max(*touched));
        let hot = Hot { session, last_used_at: AtomicI64::new(last_used_at.unix()), noted };
        let found = hot.use_at(use_)?;
        if shard.epoch == epoch.0 {
            shard.touched.remove(&id);
            shard.heat(hot);
        } else if let Some(used_at) = hot.unnoted() {
            shard.touched.insert(id, used_at);
        }
        Some(found)
    }

    /// Publishes a new login.
    pub(super) fn enter(&self, session: &Arc<Session>, now: Timestamp) {
        if let Some(mut shard) = self.0.write(session.id) {
            shard.epoch = shard.epoch.wrapping_add(1);
            let last_used_at = AtomicI64::new(now.unix());
            shard.heat(Hot { session: Arc::clone(session), last_used_at, noted: now });
        }
    }

    /// Publishes a new version.
    pub(super) fn renew(&self, session: &Arc<Session>) {
        if let Some(mut shard) = self.0.write(session.id) {
            shard.epoch = shard.epoch.wrapping_add(1);
            if let Some(hot) = shard.hot.get_mut(&session.id) {
                hot.session = Arc::clone(session);
            }
        }
    }

    /// How far changes have been published, as of now.
    pub(super) fn epoch(&self, id: SessionId) -> Epoch {
        Epoch(self.0.read(id).map_or(0, |shard| shard.epoch))
    }

    /// Takes in what the store has just said, in the place of what was known, unless something changed meanwhile; answers
    /// what its caller gets.
    pub(super) fn take_in(&self, session: Arc<Session>, noted: Timestamp, epoch: Epoch, use_: Use) -> Option<Found> {
        let id = session.id;
        let mut shard = self.0.write(id)?;
        let known = shard.hot.get(&id).map(Hot::last_used_at).or_else(|| shard.touched.get(&id).copied());
        let last_used_at = known.map_or(noted, |known| noted.max(known));
        let hot = Hot { session, last_used_at: AtomicI64::new(last_used_at.unix()), noted };
        let found = hot.use_at(use_);
        if shard.epoch == epoch.0 {
            shard.touched.remove(&id);
            match shard.hot.get_mut(&id) {
                Some(known) => *known = hot,
                None => shard.heat(hot),
            }
        } else if let Some(used_at) = hot.unnoted() {
            shard.touched.insert(id, used_at);
        }
        found
    }

    /// Publishes that there is another version, which is not known here.
    pub(super) fn outdate(&self, id: SessionId) {
        if let Some(mut shard) = self.0.write(id) {
            shard.epoch = shard.epoch.wrapping_add(1);
            if let Some(used_at) = shard.hot.remove(&id).and_then(|hot| hot.unnoted()) {
                shard.touched.insert(id, used_at);
            }
        }
    }

    /// Publishes an end.
    pub(super) fn forget(&self, id: SessionId) {
        if let Some(mut shard) = self.0.write(id) {
            shard.epoch = shard.epoch.wrapping_add(1);
            shard.hot.remove(&id);
            shard.touched.remove(&id);
        }
    }

    /// Forgets everything but last uses: nobody knows what the file says now, or what still opens.
    pub(super) fn clear(&self) {
        for mut shard in self.0.each_mut() {
            let shard = &mut *shard;
            shard.epoch = shard.epoch.wrapping_add(1);
            let unnoted = shard.hot.drain().filter_map(|(id, hot)| hot.unnoted().map(|used_at| (id, used_at)));
            shard.touched.extend(unnoted);
            shard.ring = Ring::default();
        }
    }

    /// The last use of `id`, as far as it is newer than what is written down.
    pub(super) fn unnoted(&self, id: SessionId) -> Option<Timestamp> {
        let shard = self.0.read(id)?;
        shard.hot.get(&id).and_then(Hot::unnoted).or_else(|| shard.touched.get(&id).copied())
    }

    /// All last uses that are not written down.
    pub(super) fn all_unnoted(&self) -> Vec<(SessionId, Timestamp)> {
        let mut all = Vec::new();
        for shard in self.0.each() {
            all.extend(shard.hot.iter().filter_map(|(id, hot)| hot.unnoted().map(|used_at| (*id, used_at))));
            all.extend(shard.touched.iter().map(|(id, used_at)| (*id, *used_at)));
        }
        all
    }

    /// They have been written down.
    pub(super) fn noted(&self, all: &[(SessionId, Timestamp)]) {
        for (id, used_at) in all {
            let Some(mut shard) = self.0.write(*id) else { continue };
            if let Some(hot) = shard.hot.get_mut(id) {
                hot.noted = hot.noted.max(*used_at);
            }
            if shard.touched.get(id).is_some_and(|touched| touched <= used_at) {
                shard.touched.remove(id);
            }
        }
    }
}

impl Shard {
    fn heat(&mut self, hot: Hot) {
        let (id, used_at) = (hot.session.id, hot.last_used_at().unix());
        self.hot.insert(id, hot);
        let last_use = |id| self.hot.get(&id).map(|hot| hot.last_used_at().unix());
        let cold = self.ring.admit((id, used_at), HOT_PER_SHARD, last_use);
        if let Some(cold) = cold
            && let Some(used_at) = self.hot.remove(&cold).and_then(|hot| hot.unnoted())
        {
            self.touched.insert(cold, used_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::{IDLE, at, session};

    const fn looked(seconds: i64, touch: Touch) -> Use {
        Use { touch, idle_timeout: IDLE, now: Timestamp::from_unix(1_700_000_000 + seconds) }
    }

    fn missed(cache: &Cache, id: SessionId) -> Epoch {
        match cache.find(id, looked(0, Touch::Look)) {
            Lookup::Miss(epoch) => epoch,
            Lookup::Hit(_) | Lookup::Over => panic!("it should not be here"),
        }
    }

    #[test]
    fn s21_what_was_read_before_an_end_is_not_kept_after_it() {
        let (cache, session) = (Cache::new(), Arc::new(session("alice", None, at(0)).1));
        let epoch = missed(&cache, session.id);
        cache.forget(session.id);
        // The reader began before the end, so it may go on; nobody after it may.
        assert!(cache.admit(Arc::clone(&session), at(0), epoch, looked(1, Touch::Use)).is_some());
        missed(&cache, session.id);
    }

    #[test]
    fn px_17_what_was_read_before_a_new_version_does_not_hide_it() {
        let (cache, old) = (Cache::new(), Arc::new(session("alice", None, at(0)).1));
        let epoch = missed(&cache, old.id);
        cache.renew(&old);
        cache.admit(Arc::clone(&old), at(0), epoch, looked(1, Touch::Look));
        missed(&cache, old.id);
    }

    #[test]
    fn sc_5_a_use_is_not_lost_with_the_place_in_the_cache() {
        let (cache, session) = (Cache::new(), Arc::new(session("alice", None, at(0)).1));
        let epoch = missed(&cache, session.id);
        cache.admit(Arc::clone(&session), at(0), epoch, looked(100, Touch::Use));
        assert_eq!(cache.unnoted(session.id), Some(at(100)));
        cache.clear();
        assert_eq!(cache.all_unnoted(), [(session.id, at(100))]);
        let epoch = missed(&cache, session.id);
        let found = cache.admit(Arc::clone(&session), at(0), epoch, looked(1_850, Touch::Look));
        assert_eq!(found.map(|found| found.last_used_at), Some(at(100)), "the file does not know of it yet");
        cache.noted(&[(session.id, at(100))]);
        assert_eq!(cache.all_unnoted(), []);
    }

    #[test]
    fn sc_11_the_cache_is_bounded_and_what_it_forgets_keeps_its_last_use() {
        let cache = Cache::new();
        for number in 0..20_000 {
            let session = Arc::new(session("alice", None, at(0)).1);
            let epoch = missed(&cache, session.id);
            let touch = if number % 2 == 0 { Touch::Use } else { Touch::Look };
            cache.admit(session, at(0), epoch, looked(1, touch));
        }
        let hot: usize = cache.0.each().map(|shard| shard.hot.len()).sum();
        assert!(hot <= HOT_PER_SHARD * cache.0.each().count(), "{hot}");
        assert_eq!(cache.all_unnoted().len(), 10_000);
    }
}
