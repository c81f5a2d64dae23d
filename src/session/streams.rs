//! Open streams and the sessions that they belong to: what has no end of its own ends with its session.
//!
//! A WebSocket or an answer of unknown length can outlive every check that was made when it began. So each is written
//! down here with a token that cuts it: by the hook on the end of a session, by the clock when a session's time is
//! over before anybody asks for it again, and by a shutdown. There are at most as many as there are connections.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

use crate::config::RouteKey;
use crate::metrics::StreamKind;
use crate::session::{Binding, Error, Found, SessionId, Sessions, State, Touch};
use crate::time::Timestamp;

/// What a client says on a stream is noted as use of its session at most this often.
const NOTED: Duration = Duration::from_secs(30);

/// The session that a stream will belong to.
#[derive(Clone, Debug)]
pub struct Member {
    /// The session.
    pub session: SessionId,
    /// Where it is kept.
    pub sessions: Arc<Sessions>,
    /// Unused for this long, it is over.
    pub idle_timeout: Duration,
    /// The instant of the request that asks for the stream.
    pub now: Timestamp,
}

/// All open streams of the process; outlives snapshots.
pub struct Streams {
    register: Mutex<Register>,
    tasks: TaskTracker,
}

/// Streams without a session stand under `None`; the number tells those of one session apart.
type Key = (Option<SessionId>, u64);

#[derive(Default)]
struct Register {
    next: u64,
    closing: bool,
    /// The routes that there are; all, until that is said.
    routes: Option<BTreeSet<RouteKey>>,
    open: BTreeMap<Key, Entry>,
}

impl Register {
    /// Whether a route is not there any more.
    fn has_lost(&self, route: Option<&RouteKey>) -> bool {
        route.is_some_and(|route| self.routes.as_ref().is_some_and(|routes| !routes.contains(route)))
    }
}

struct Entry {
    kind: StreamKind,
    /// Whether nothing has to be asked any more before it begins.
    settled: bool,
    cut: CancellationToken,
    /// Whether the client said something since that was last noted.
    spoke: Arc<AtomicBool>,
    /// When the session was last used, as far as is known here.
    used_at: Timestamp,
    /// When the session is over if it is not used again; meaningless without one.
    ends_at: Timestamp,
    /// Whether what became of the session has to be asked for.
    unknown: bool,
    /// What the session belongs to, once that is known.
    binding: Option<Arc<Binding>>,
    /// The route that it was opened on.
    route: Option<RouteKey>,
}

/// How a session is looked at, and whether its time is over as far as is known here.
struct Due {
    touch: Touch,
    is_over: bool,
}

/// One open stream. Dropping it says that it has ended.
pub struct Stream {
    streams: Arc<Streams>,
    key: Key,
    cut: CancellationToken,
    spoke: Arc<AtomicBool>,
}

impl Streams {
    /// None yet; what runs beside requests runs in `tasks`.
    #[must_use]
    pub fn new(tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self { register: Mutex::default(), tasks })
    }

    /// Where work that a stream needs is to run, so that a shutdown waits for it.
    #[must_use]
    pub const fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Writes a stream down. `None` when its session has ended since the request came: then there must be no stream.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer.
    pub async fn open(
        self: &Arc<Self>,
        kind: StreamKind,
        member: Option<&Member>,
        route: Option<&RouteKey>,
    ) -> Result<Option<Stream>, Error> {
        let stream = self.enter(kind, member.map(|member| member.session), route);
        let Some(member) = member else { return Ok(Some(stream)) };
        // Only now, when the end of the session would find the stream, is it worth asking whether there is one.
        let found = member.sessions.load(member.session, member.idle_timeout, Touch::Look, member.now).await?;
        let Some(found) = found else { return Ok(None) };
        self.note(&found, member.idle_timeout);
        if let Some(entry) = self.register().open.get_mut(&stream.key) {
            entry.settled = true;
        }
        // And only now would a reload that takes its route away.
        Ok(member.sessions.is_served(&found.session.binding).then_some(stream))
    }

    fn enter(self: &Arc<Self>, kind: StreamKind, session: Option<SessionId>, route: Option<&RouteKey>) -> Stream {
        let mut register = self.register();
        let key = (session, register.next);
        register.next += 1;
        let (cut, spoke) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        if register.closing && kind.is_endless() || register.has_lost(route) {
            cut.cancel();
        }
        let (used_at, ends_at) = (Timestamp::default(), Timestamp::from_unix(i64::MAX));
        register.open.insert(
            key,
            Entry {
                kind,
                settled: session.is_none(),
                cut: cut.clone(),
                spoke: Arc::clone(&spoke),
                used_at,
                ends_at,
                unknown: false,
                binding: None,
                route: route.cloned(),
            },
        );
        Stream { streams: Arc::clone(self), key, cut, spoke }
    }

    /// Ends all streams of a session that has ended.
    pub fn cut(&self, session: SessionId) {
        for entry in self.register().open.range(keys_of(session)).map(|(_, entry)| entry) {
            entry.cut.cancel();
        }
    }

    /// From now on, these are the routes. Ends all streams of others, and of sessions that nobody is there for any more.
    pub fn cut_unserved(&self, sessions: &Sessions, routes: BTreeSet<RouteKey>) {
        let mut register = self.register();
        register.routes = Some(routes);
        for entry in register.open.values() {
            let unserved = entry.binding.as_ref().is_some_and(|binding| !sessions.is_served(binding));
            if unserved || register.has_lost(entry.route.as_ref()) {
                entry.cut.cancel();
            }
        }
    }

    /// The process goes down: nothing that would never end by itself begins any more.
    pub fn begin_no_more(&self) {
        self.register().closing = true;
    }

    /// How many are open that would never end by themselves, and how many of those are all that a connection of the server's
    /// is kept for.
    #[must_use]
    pub fn endless(&self) -> (usize, usize) {
        let register = self.register();
        let endless = || register.open.values().filter(|entry| entry.kind.is_endless());
        (endless().count(), endless().filter(|entry| entry.settled && entry.kind != StreamKind::WebSocket).count())
    }

    /// What would never end by itself ends now, and nothing of that kind begins any more.
    pub fn close(&self) {
        let mut register = self.register();
        register.closing = true;
        for entry in register.open.values().filter(|entry| entry.kind.is_endless()) {
            entry.cut.cancel();
        }
    }

    /// Notes what clients said as use of their sessions, and cuts the streams of sessions whose time is over. Called
    /// every second or so by a background loop.
    pub async fn watch(&self, sessions: &Sessions, idle_timeout: Duration, now: Timestamp) {
        let due = self.due(NOTED.min(idle_timeout / 4), now);
        self.look(due, (sessions, idle_timeout), now).await;
    }

    /// The same before the store closes: nothing that was said waits for its time to be noted.
    pub async fn watch_once_more(&self, sessions: &Sessions, idle_timeout: Duration, now: Timestamp) {
        let due = self.due(Duration::ZERO, now);
        self.look(due, (sessions, idle_timeout), now).await;
    }

    async fn look(
        &self,
        due: BTreeMap<SessionId, Due>,
        (sessions, idle_timeout): (&Sessions, Duration),
        now: Timestamp,
    ) {
        let mut is_silent = false;
        for (session, Due { touch, is_over }) in due {
            // A store that does not answer is not waited for once more for each of them.
            let found = match is_silent {
                false => sessions.load(session, idle_timeout, touch, now).await.ok(),
                true => None,
            };
            is_silent = found.is_none() && sessions.state().1 != State::Up;
            match found {
                Some(Some(found)) => self.note(&found, idle_timeout),
                Some(None) => self.cut(session),
                // It prolongs nothing.
                None if is_over => self.cut(session),
                None => self.look_again_at(session, touch),
            }
        }
    }

    /// What was to be noted is still to be noted.
    fn look_again_at(&self, session: SessionId, touch: Touch) {
        for entry in self.register().open.range(keys_of(session)).map(|(_, entry)| entry).take(1) {
            entry.spoke.fetch_or(touch == Touch::Use, Ordering::Relaxed);
        }
    }

    /// The sessions that have to be looked at now, or that were used and noted less recently than `interval` ago.
    fn due(&self, interval: Duration, now: Timestamp) -> BTreeMap<SessionId, Due> {
        let mut due = BTreeMap::new();
        for ((session, _), entry) in &self.register().open {
            let Some(session) = session else { continue };
            let is_over = now >= entry.ends_at;
            if now >= entry.used_at.plus(interval) && entry.spoke.swap(false, Ordering::Relaxed) {
                due.insert(*session, Due { touch: Touch::Use, is_over });
            } else if is_over || entry.unknown {
                due.entry(*session).or_insert(Due { touch: Touch::Look, is_over });
            }
        }
        due
    }

    /// Has [`watch`](Self::watch) look at all sessions the next time: what became of them is not known.
    pub fn look_again(&self) {
        for ((session, _), entry) in &mut self.register().open {
            entry.unknown = session.is_some();
        }
    }

    /// Notes when a session is over if nothing happens.
    fn note(&self, found: &Found, idle_timeout: Duration) {
        let (used_at, ends_at) =
            (found.last_used_at, found.session.expires_at.min(found.last_used_at.plus(idle_timeout)));
        for entry in self.register().open.range_mut(keys_of(found.session.id)).map(|(_, entry)| entry) {
            (entry.used_at, entry.ends_at, entry.unknown) = (used_at, ends_at, false);
            entry.binding.get_or_insert_with(|| Arc::clone(&found.session.binding));
        }
    }

    // Every change of the register is one call to the map, so a panic elsewhere leaves it whole.
    fn register(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn keys_of(session: SessionId) -> std::ops::RangeInclusive<Key> {
    (Some(session), 0)..=(Some(session), u64::MAX)
}

impl Stream {
    /// Ready once the stream has to end.
    pub fn cut(&self) -> WaitForCancellationFutureOwned {
        self.cut.clone().cancelled_owned()
    }

    /// What is set whenever the client says something.
    #[must_use]
    pub const fn spoke(&self) -> &Arc<AtomicBool> {
        &self.spoke
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.register().open.remove(&self.key);
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Streams({} open)", self.register().open.len())
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Stream({})", self.key.1)
    }
}
