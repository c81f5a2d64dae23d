//! All sessions, whichever store keeps them: one surface, its metrics, and the hooks on the end of each session.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::metrics::Metrics;
use crate::session::file::{File, FileOptions};
use crate::session::{
    EndHook, EndKind, Error, Found, Journal, Memory, Selector, Session, SessionId, State, Swap, Touch,
};
use crate::time::Timestamp;
use crate::web::KeyRing;

/// The closed set of stores.
enum Store {
    Memory(Memory),
    File(File),
}

impl Store {
    const fn label(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::File(_) => "file",
        }
    }
}

/// Who is told when a session has ended.
#[derive(Clone)]
pub(super) struct Hooks(Arc<[EndHook]>);

impl Hooks {
    pub(super) fn new(hooks: Vec<EndHook>) -> Self {
        Self(hooks.into())
    }

    pub(super) fn ended(&self, session: &Session, kind: EndKind) {
        for hook in self.0.iter() {
            hook(session, kind);
        }
    }
}

/// All sessions: the store, its clockwork of idle and absolute limits, and the hooks on the end of each.
pub struct Sessions {
    store: Store,
    hooks: Hooks,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Sessions({})", self.store.label())
    }
}

impl Sessions {
    /// Sessions in memory.
    #[must_use]
    pub fn in_memory(memory: Memory, hooks: Vec<EndHook>, metrics: Arc<Metrics>) -> Self {
        Self { store: Store::Memory(memory), hooks: Hooks::new(hooks), metrics }
    }

    /// Sessions in a file, which is opened in a thread of its own: requests wait for it, this call does not.
    #[must_use]
    pub fn in_file(options: FileOptions, hooks: Vec<EndHook>, metrics: Arc<Metrics>) -> Self {
        let hooks = Hooks::new(hooks);
        let file = File::open(options, hooks.clone(), Arc::clone(&metrics));
        Self { store: Store::File(file), hooks, metrics }
    }

    /// Takes a new session in. When the store is full, the longest unused one ends. Where sessions outlive the process,
    /// this one does from now on.
    ///
    /// # Errors
    /// [`Error`] when the store cannot keep it; then nobody is logged in.
    pub async fn insert(&self, session: Session, now: Timestamp) -> Result<Arc<Session>, Error> {
        let begun = Instant::now();
        let session = Arc::new(session);
        match &self.store {
            Store::Memory(memory) => self.ended(&memory.insert(&session, now)?, EndKind::Evicted),
            Store::File(file) => file.insert(Arc::clone(&session), now).await?,
        }
        self.done("insert", begun);
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
        let found = match &self.store {
            Store::Memory(memory) => memory.load(id, touch, limit, now),
            Store::File(file) => file.load(id, limit, touch, now).await?,
        };
        self.done("load", begun);
        Ok(found)
    }

    /// Replaces version `session.version - 1` of a session; the last use stays.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer.
    pub async fn replace(&self, session: Arc<Session>) -> Result<Swap, Error> {
        let begun = Instant::now();
        let swap = match &self.store {
            Store::Memory(memory) => memory.replace(session)?,
            Store::File(file) => file.replace(session).await?,
        };
        self.done("replace", begun);
        Ok(swap)
    }

    /// Ends sessions at once and returns them. The hooks are run although the caller has gone meanwhile.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer.
    pub async fn end(&self, selector: Selector<'_>, kind: EndKind) -> Result<Vec<Arc<Session>>, Error> {
        let begun = Instant::now();
        let ended = match &self.store {
            Store::Memory(memory) => {
                let ended = memory.remove(selector);
                self.ended(&ended, kind);
                ended
            }
            Store::File(file) => file.end(selector, kind).await?,
        };
        self.done("end", begun);
        Ok(ended)
    }

    /// Ends all sessions whose time is over; called by a background loop.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer.
    pub async fn sweep(&self, idle_timeout: Duration, now: Timestamp) -> Result<usize, Error> {
        let begun = Instant::now();
        let ended = match &self.store {
            Store::Memory(memory) => {
                let ended = memory.sweep(idle_timeout, now);
                self.ended(&ended, EndKind::Expired);
                ended.len()
            }
            Store::File(file) => file.sweep(idle_timeout, now).await?,
        };
        self.done("sweep", begun);
        Ok(ended)
    }

    /// Notes that the refresh token of `session` is about to be sent, where that must survive a crash; `None`: the
    /// session has ended. [`replace`](Self::replace) and [`end`](Self::end) take the note back.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer; then nothing may be sent.
    pub async fn begin_refresh(&self, session: &Session) -> Result<Option<Journal>, Error> {
        match &self.store {
            Store::Memory(_) => Ok(Some(Journal::Begun)),
            Store::File(file) => {
                let begun = Instant::now();
                let journal = file.begin_refresh(session).await?;
                self.done("begin_refresh", begun);
                Ok(journal)
            }
        }
    }

    /// Takes the note back: the provider has not renewed the tokens, or did not say so. Does not wait.
    pub fn end_refresh(&self, id: SessionId) {
        match &self.store {
            Store::Memory(_) => {}
            Store::File(file) => file.end_refresh(id),
        }
    }

    /// How many sessions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        match &self.store {
            Store::Memory(memory) => memory.count(),
            Store::File(file) => file.count(),
        }
    }

    /// The name of the store, and whether it can be asked.
    #[must_use]
    pub fn state(&self) -> (&'static str, State) {
        let state = match &self.store {
            Store::Memory(_) => State::Up,
            Store::File(file) => file.state(),
        };
        (self.store.label(), state)
    }

    /// From now on, records are sealed with the first key of `keys` and opened with any of them, and there is room for
    /// `capacity` sessions.
    pub fn adopt(&self, keys: Arc<KeyRing>, capacity: usize) {
        match &self.store {
            // Nothing is sealed in the memory that holds the keys as well.
            Store::Memory(memory) => memory.resize(capacity),
            Store::File(file) => {
                file.use_keys(keys);
                file.resize(capacity);
            }
        }
    }

    /// Lets go of the store; whoever asks it from now on is refused.
    pub async fn close(&self) {
        match &self.store {
            Store::Memory(_) => {}
            Store::File(file) => file.close().await,
        }
    }

    fn ended(&self, sessions: &[Arc<Session>], kind: EndKind) {
        for session in sessions {
            self.hooks.ended(session, kind);
        }
    }

    fn done(&self, operation: &'static str, begun: Instant) {
        let store = self.store.label();
        self.metrics.store_operation(store, operation, begun.elapsed().as_secs_f64());
        if operation != "load" && operation != "replace" {
            self.metrics.sessions_active(store, self.count());
        }
    }
}
