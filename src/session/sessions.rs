//! All sessions, whichever store keeps them: one surface, its metrics, and the hooks on the end of each session.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::metrics::Metrics;
use crate::session::{EndHook, EndKind, Error, Found, Memory, Selector, Session, SessionId, Swap, Touch};
use crate::time::Timestamp;

/// The closed set of stores.
enum Store {
    Memory(Memory),
}

impl Store {
    const fn label(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
        }
    }
}

/// All sessions: the store, its clockwork of idle and absolute limits, and the hooks on the end of each.
pub struct Sessions {
    store: Store,
    hooks: Vec<EndHook>,
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
        Self { store: Store::Memory(memory), hooks, metrics }
    }

    /// Takes a new session in. When the store is full, the longest unused one ends.
    ///
    /// # Errors
    /// [`Error`] when the store cannot keep it; then nobody is logged in.
    pub async fn insert(&self, session: Session, now: Timestamp) -> Result<Arc<Session>, Error> {
        let begun = Instant::now();
        let session = Arc::new(session);
        let Store::Memory(memory) = &self.store;
        let evicted = memory.insert(&session, now)?;
        self.ended(evicted.as_slice(), EndKind::Evicted);
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
        let Store::Memory(memory) = &self.store;
        let found = memory.load(id, touch, limit, now);
        self.done("load", begun);
        Ok(found)
    }

    /// Replaces version `session.version - 1` of a session; the last use stays.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer.
    pub async fn replace(&self, session: Session) -> Result<Swap, Error> {
        let begun = Instant::now();
        let Store::Memory(memory) = &self.store;
        let swap = memory.replace(Arc::new(session))?;
        self.done("replace", begun);
        Ok(swap)
    }

    /// Ends sessions at once and returns them.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer.
    pub async fn end(&self, selector: Selector<'_>, kind: EndKind) -> Result<Vec<Arc<Session>>, Error> {
        let begun = Instant::now();
        let Store::Memory(memory) = &self.store;
        let ended = memory.remove(selector);
        self.ended(&ended, kind);
        self.done("end", begun);
        Ok(ended)
    }

    /// Ends all sessions whose time is over; called by a background loop.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer.
    pub async fn sweep(&self, idle_timeout: Duration, now: Timestamp) -> Result<usize, Error> {
        let begun = Instant::now();
        let Store::Memory(memory) = &self.store;
        let ended = memory.sweep(idle_timeout, now);
        self.ended(&ended, EndKind::Expired);
        self.done("sweep", begun);
        Ok(ended.len())
    }

    /// How many sessions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        let Store::Memory(memory) = &self.store;
        memory.count()
    }

    fn ended(&self, sessions: &[Arc<Session>], kind: EndKind) {
        for session in sessions {
            for hook in &self.hooks {
                hook(session, kind);
            }
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
