//! All sessions, whichever store keeps them: one surface, its metrics, and the hooks on the end of each session.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{RwLock, RwLockReadGuard};

use crate::config;
use crate::metrics::Metrics;
use crate::session::file::{File, FileOptions};
use crate::session::moving::Notes;
use crate::session::redis::{Redis, RedisOptions};
use crate::session::served::Served;
use crate::session::{
    EndHook, EndKind, Error, Found, Lease, Memory, News, NewsHook, Selector, Session, SessionId, State, Swap, Touch,
};
use crate::time::Timestamp;
use crate::web::KeyRing;

/// The closed set of stores.
pub(super) enum Store {
    Memory(Memory),
    File(File),
    Redis(Redis),
}

impl Store {
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::File(_) => "file",
            Self::Redis(_) => "redis",
        }
    }

    pub(super) fn count(&self) -> usize {
        match self {
            Self::Memory(memory) => memory.count(),
            Self::File(file) => file.count(),
            Self::Redis(redis) => redis.count(),
        }
    }
}

/// Who is told when a session has ended.
#[derive(Clone)]
pub(super) struct Hooks {
    ends: Arc<[EndHook]>,
    news: Arc<OnceLock<NewsHook>>,
}

impl Hooks {
    pub(super) fn new(hooks: Vec<EndHook>) -> Self {
        Self { ends: hooks.into(), news: Arc::default() }
    }

    pub(super) fn ended(&self, session: &Session, kind: EndKind) {
        for hook in self.ends.iter() {
            hook(session, kind);
        }
    }

    pub(super) fn news(&self, news: News) {
        if let Some(hook) = self.news.get() {
            hook(news);
        }
    }
}

/// All sessions: the store, its clockwork of idle and absolute limits, and the hooks on the end of each.
pub struct Sessions {
    /// Another one after a move.
    pub(super) store: ArcSwap<Store>,
    /// Held by whoever changes something, and alone by a move that is about to exchange the store.
    pub(super) changes: RwLock<()>,
    /// Held by what goes through all sessions, and by a move from its begin to its end.
    pub(super) rounds: Arc<tokio::sync::Mutex<()>>,
    pub(super) notes: Arc<Notes>,
    pub(super) served: Served,
    pub(super) hooks: Hooks,
    pub(super) metrics: Arc<Metrics>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Sessions({})", self.store.load().label())
    }
}

impl Sessions {
    /// Sessions in memory.
    #[must_use]
    pub fn in_memory(memory: Memory, hooks: Vec<EndHook>, metrics: Arc<Metrics>) -> Self {
        Self::of(|_| Store::Memory(memory), hooks, metrics)
    }

    /// Sessions in a file, which is opened in a thread of its own: requests wait for it, this call does not.
    #[must_use]
    pub fn in_file(options: FileOptions, hooks: Vec<EndHook>, metrics: Arc<Metrics>) -> Self {
        let opened = Arc::clone(&metrics);
        Self::of(|hooks| Store::File(File::open(options, hooks, opened)), hooks, metrics)
    }

    /// Sessions in Redis, which is connected to beside everything else: requests wait a moment for it, this call does not.
    /// Must be called within a runtime.
    #[must_use]
    pub fn in_redis(options: RedisOptions, hooks: Vec<EndHook>, metrics: Arc<Metrics>) -> Self {
        let counted = Arc::clone(&metrics);
        Self::of(|hooks| Store::Redis(Redis::open(options, hooks, counted)), hooks, metrics)
    }

    /// Has `hook` told what other processes do; only the first one given is.
    pub fn tell_news(&self, hook: NewsHook) {
        let _ = self.hooks.news.set(hook);
    }

    fn of(store: impl FnOnce(Hooks) -> Store, mut hooks: Vec<EndHook>, metrics: Arc<Metrics>) -> Self {
        let notes = Arc::new(Notes::default());
        let noted = Arc::clone(&notes);
        hooks.insert(0, Arc::new(move |session, _| noted.changes(session.id)));
        let hooks = Hooks::new(hooks);
        let store = ArcSwap::from_pointee(store(hooks.clone()));
        Self {
            store,
            changes: RwLock::default(),
            rounds: Arc::default(),
            notes,
            served: Served::default(),
            hooks,
            metrics,
        }
    }

    /// The store, for a change of session `id`. It stays the store until the guard is dropped.
    pub(super) async fn to_change(&self, id: Option<SessionId>) -> (Arc<Store>, RwLockReadGuard<'_, ()>) {
        let stays = self.changes.read().await;
        if let Some(id) = id {
            self.notes.changes(id);
        }
        (self.store.load_full(), stays)
    }

    /// Takes a new session in. When the store is full, the longest unused one ends. Where sessions outlive the process,
    /// this one does from now on.
    ///
    /// # Errors
    /// [`Error`] when the store cannot keep it; then nobody is logged in.
    pub async fn insert(&self, session: Session, now: Timestamp) -> Result<Arc<Session>, Error> {
        let begun = Instant::now();
        let session = Arc::new(session);
        let (store, _stays) = self.to_change(Some(session.id)).await;
        match &*store {
            Store::Memory(memory) => self.ended(&memory.insert(&session, now)?, EndKind::Evicted),
            Store::File(file) => file.insert(Arc::clone(&session), now).await?,
            Store::Redis(redis) => Box::pin(redis.insert(Arc::clone(&session), now)).await?,
        }
        self.done(&store, "insert", begun);
        Ok(session)
    }

    /// Finds a session that has not reached `idle_timeout` or its absolute end.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer: fail closed.
    pub async fn load(
        &self,
        id: SessionId,
        limit: Duration,
        touch: Touch,
        now: Timestamp,
    ) -> Result<Option<Found>, Error> {
        let begun = Instant::now();
        let mut store = self.store.load();
        let found = loop {
            let asked = match &**store {
                Store::Memory(memory) => Ok(memory.load(id, touch, limit, now)),
                Store::File(file) => file.load(id, limit, touch, now).await,
                // What is known here takes no future; one that asks the server is too large to be part of every request.
                Store::Redis(redis) => match redis.known(id, limit, touch, now) {
                    Some(found) => Ok(Some(found)),
                    None => Box::pin(redis.load(id, limit, touch, now)).await,
                },
            };
            let error = match asked {
                Ok(found) => break found,
                Err(error) => error,
            };
            // One that was left while it was asked does not answer any more; the one in its place does.
            let moved_to = self.store.load();
            if Arc::ptr_eq(&store, &moved_to) {
                return Err(error);
            }
            store = moved_to;
        };
        if touch == Touch::Use && found.is_some() {
            self.notes.uses(id, now);
        }
        self.done(&store, "load", begun);
        Ok(found)
    }

    /// Replaces version `session.version - 1` of a session; the last use stays. `lease` is that of the refresh which made
    /// the new version.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer.
    pub async fn replace(&self, session: Arc<Session>, lease: Option<&Lease>) -> Result<Swap, Error> {
        let begun = Instant::now();
        let (store, _stays) = self.to_change(Some(session.id)).await;
        let swap = match &*store {
            Store::Memory(memory) => memory.replace(session)?,
            Store::File(file) => file.replace(session).await?,
            Store::Redis(redis) => {
                Box::pin(redis.replace(session, lease.and_then(|lease| lease.redis.as_ref()))).await?
            }
        };
        self.done(&store, "replace", begun);
        Ok(swap)
    }

    /// The sessions that `selector` means, as they are now; no use of them.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer.
    pub async fn find(&self, selector: Selector<'_>) -> Result<Vec<Arc<Session>>, Error> {
        match &*self.store.load_full() {
            Store::Memory(memory) => Ok(memory.find(selector)),
            Store::File(file) => file.find(selector).await,
            Store::Redis(redis) => Box::pin(redis.find(selector)).await,
        }
    }

    /// Ends sessions at once and returns them. The hooks are run although the caller has gone meanwhile.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer.
    pub async fn end(&self, selector: Selector<'_>, kind: EndKind) -> Result<Vec<Arc<Session>>, Error> {
        let begun = Instant::now();
        let (store, _stays) = self.to_change(None).await;
        let ended = match &*store {
            Store::Memory(memory) => {
                let ended = memory.remove(selector);
                self.ended(&ended, kind);
                ended
            }
            Store::File(file) => file.end(selector, kind).await?,
            Store::Redis(redis) => Box::pin(redis.end(selector, kind)).await?,
        };
        self.done(&store, "end", begun);
        Ok(ended)
    }

    /// Ends all sessions whose time is over; called by a background loop.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer.
    pub async fn sweep(&self, idle_timeout: Duration, now: Timestamp) -> Result<usize, Error> {
        let begun = Instant::now();
        let Ok(_round) = self.rounds.try_lock() else { return Ok(0) };
        let store = self.store.load_full();
        let ended = match &*store {
            Store::Memory(memory) => {
                let ended = memory.sweep(idle_timeout, now);
                self.ended(&ended, EndKind::Expired);
                ended.len()
            }
            Store::File(file) => file.sweep(idle_timeout, now).await?,
            Store::Redis(redis) => redis.sweep(idle_timeout, now).await?,
        };
        self.done(&store, "sweep", begun);
        Ok(ended)
    }

    /// How many sessions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.store.load().count()
    }

    /// The name of the store, and whether it can be asked.
    #[must_use]
    pub fn state(&self) -> (&'static str, State) {
        let store = self.store.load();
        let state = match &**store {
            Store::Memory(_) => State::Up,
            Store::File(file) => file.state(),
            Store::Redis(redis) => redis.state(),
        };
        (store.label(), state)
    }

    /// From now on, records are sealed with the first key of `keys` and opened with any of them, and there is room for
    /// `capacity` sessions.
    pub fn adopt(&self, keys: Arc<KeyRing>, capacity: usize) {
        match &**self.store.load() {
            // Nothing is sealed in the memory that holds the keys as well.
            Store::Memory(memory) => memory.resize(capacity),
            Store::File(file) => {
                file.use_keys(keys);
                file.resize(capacity);
            }
            Store::Redis(redis) => {
                redis.use_keys(keys);
                redis.resize(capacity);
            }
        }
    }

    /// Whether a store in Redis that is reached now can be reached as `server` says, too.
    ///
    /// # Errors
    /// Why not, for the operator.
    pub async fn try_reach(&self, server: &config::Redis) -> Result<(), String> {
        let store = self.store.load_full();
        let Store::Redis(redis) = &*store else { return Ok(()) };
        redis
            .try_reach(server)
            .await
            .map_err(|why| format!("sessions cannot be reached at {server}: {why}"))
    }

    /// From now on, a store in Redis is reached as `server` says.
    pub fn reach(&self, server: &Arc<config::Redis>) {
        if let Store::Redis(redis) = &**self.store.load() {
            redis.follow(server);
        }
    }

    /// Lets go of the store; whoever asks it from now on is refused.
    pub async fn close(&self) {
        let store = self.store.load_full();
        store.close().await;
    }

    pub(super) fn ended(&self, sessions: &[Arc<Session>], kind: EndKind) {
        for session in sessions {
            self.hooks.ended(session, kind);
        }
    }

    pub(super) fn done(&self, store: &Store, operation: &'static str, begun: Instant) {
        self.metrics.store_operation(store.label(), operation, begun.elapsed().as_secs_f64());
        if operation != "load" && operation != "replace" {
            self.metrics.sessions_active(store.label(), store.count());
        }
    }
}
