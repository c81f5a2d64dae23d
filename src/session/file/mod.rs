//! The store `file`: sessions in one database file, which survive a restart and a `kill -9`.
//!
//! A login, a new version and an end are answered after their commit has reached the disk; one thread commits for all
//! who wait. Reads never wait for it: sessions in use are held decoded, all others are one look into the file away. Only
//! the last use is written down late, and an opening after a crash allows for that. Records are sealed with the key ring
//! under the session's id, so that whoever has the file alone has nothing.

mod board;
mod book;
mod closing;
mod finding;
mod moving;
mod opening;
mod room;
mod sweep;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;
use tracing::error;

use crate::metrics::Metrics;
use crate::session::cache::{Cache, Lookup, Use};
use crate::session::sessions::Hooks;
use crate::session::{EndKind, Error, Found, Journal, Session, SessionId, State, Swap, Touch, index, record};
use crate::time::Timestamp;
use crate::web::{KeyRing, Purpose};

use book::{Book, Fault, Row, Tables};
use writer::{After, Job, Message};

/// Last uses are written down this often.
const FLUSH: Duration = Duration::from_secs(30);
/// How much later than written down a session may have been used when the process was killed: one interval, and time
/// for a slow commit.
const SLACK: Duration = Duration::from_secs(60);
/// Longest wait for the file to be open, for a place in the queue, and for a commit.
const WAIT: Duration = Duration::from_secs(10);
/// Most jobs that wait for their commit.
const QUEUE: usize = 4096;
/// What a store file is opened with.
#[derive(Clone)]
pub struct FileOptions {
    /// Where it is.
    pub path: PathBuf,
    /// How many sessions it holds before the longest unused ones make room.
    pub capacity: usize,
    /// What seals the records.
    pub keys: Arc<KeyRing>,
}

/// The store `file`.
pub(super) struct File {
    shared: Arc<Shared>,
    inbox: Sender<Message>,
    places: Arc<Semaphore>,
}

/// What readers and the writer have in common.
struct Shared {
    path: PathBuf,
    cache: Cache,
    gate: watch::Sender<Gate>,
    keys: ArcSwap<KeyRing>,
    count: AtomicUsize,
    capacity: AtomicUsize,
    /// Whether sessions have moved elsewhere: then this is not their number any more.
    left: AtomicBool,
    /// The longest unused sessions as of the last look, the longest one last.
    longest_unused: Mutex<Vec<(Timestamp, SessionId)>>,
    hooks: Hooks,
    metrics: Arc<Metrics>,
}

/// Whether the file can be read.
enum Gate {
    Opening,
    Open(Arc<Book>),
    /// And why.
    Down(Arc<str>),
}

/// A session that was taken out; `None` inside when its key is not in the ring any more.
type Gone = (SessionId, Option<Arc<Session>>);

impl File {
    /// Opens the file beside whatever else happens; until it is open, requests wait.
    pub(super) fn open(options: FileOptions, hooks: Hooks, metrics: Arc<Metrics>) -> Self {
        let FileOptions { path, capacity, keys } = options;
        let shared = Arc::new(Shared {
            path,
            cache: Cache::new(),
            gate: watch::Sender::new(Gate::Opening),
            keys: ArcSwap::new(keys),
            count: AtomicUsize::new(0),
            capacity: AtomicUsize::new(capacity.max(1)),
            left: AtomicBool::new(false),
            longest_unused: Mutex::default(),
            hooks,
            metrics,
        });
        let (inbox, outbox) = std::sync::mpsc::channel();
        let writers = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("session-store".to_owned());
        if let Err(error) = thread.spawn(move || writer::run(&writers, &outbox)) {
            error!(%error, "session store has no thread");
            shared.gate.send_replace(Gate::Down(error.to_string().into()));
        }
        Self { shared, inbox, places: Arc::new(Semaphore::new(QUEUE)) }
    }

    pub(super) fn state(&self) -> State {
        match *self.shared.gate.borrow() {
            Gate::Opening => State::Opening,
            Gate::Open(_) => State::Up,
            Gate::Down(_) => State::Down,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.shared.count.load(Ordering::Relaxed)
    }

    pub(super) fn resize(&self, capacity: usize) {
        self.shared.capacity.store(capacity.max(1), Ordering::Relaxed);
    }

    pub(super) fn use_keys(&self, keys: Arc<KeyRing>) {
        let all_open = keys.opens_all_of(&self.shared.keys.load());
        self.shared.keys.store(keys);
        // What is held decoded does not say which key it was sealed by; what is still good is one look away.
        if !all_open {
            self.shared.cache.clear();
        }
    }

    pub(super) async fn insert(&self, session: Arc<Session>, now: Timestamp) -> Result<(), Error> {
        let sealed = self.shared.seal(&session)?;
        let (shared, told) = (Arc::clone(&self.shared), Arc::clone(&self.shared));
        let new = Arc::clone(&session);
        let insert = move |tables: &mut Tables<'_>| {
            let gone = shared.make_room(tables)?;
            let row = Row {
                version: new.version,
                expires_at: new.expires_at,
                last_used_at: now,
                run: tables.run(),
                keys: index::keys(&new),
            };
            tables.put(new.id, row, &sealed)?;
            Ok(gone)
        };
        let publish = move |gone: &Vec<Gone>| {
            told.ended(gone, EndKind::Evicted);
            told.cache.enter(&session, now);
        };
        self.commit(insert, publish).await.map(drop)
    }

    pub(super) async fn load(
        &self,
        id: SessionId,
        idle_timeout: Duration,
        touch: Touch,
        now: Timestamp,
    ) -> Result<Option<Found>, Error> {
        let use_ = Use { touch, idle_timeout, now };
        let epoch = match self.shared.cache.find(id, use_) {
            Lookup::Hit(found) => return Ok(Some(found)),
            Lookup::Over => return Ok(None),
            Lookup::Miss(epoch) => epoch,
        };
        let book = self.book().await?;
        let open = |row, sealed: &[u8]| self.shared.unseal(id, sealed).map(|session| (book.last_used_at(row), session));
        let read = guarded(|| book.read(id, open)).map_err(|why| self.shared.unreadable(&why))?;
        let Some((noted, session)) = read.flatten() else { return Ok(None) };
        Ok(self.shared.cache.admit(session, noted, epoch, use_))
    }

    pub(super) async fn replace(&self, session: Arc<Session>) -> Result<Swap, Error> {
        let sealed = self.shared.seal(&session)?;
        let (shared, told) = (Arc::clone(&self.shared), Arc::clone(&self.shared));
        let replace = move |tables: &mut Tables<'_>| {
            let id = session.id;
            let Some(row) = tables.row(id)? else { return Ok(Swap::Gone) };
            if row.version.checked_add(1) == Some(session.version) {
                let row = Row { version: session.version, expires_at: session.expires_at, ..row };
                tables.put(id, row, &sealed)?;
                return Ok(Swap::Done(session));
            }
            let kept = tables.record(id)?.and_then(|sealed| shared.unseal(id, &sealed));
            Ok(kept.map_or(Swap::Gone, Swap::Stale))
        };
        let publish = move |swap: &Swap| {
            if let Swap::Done(session) = swap {
                told.cache.renew(session);
            }
        };
        self.commit(replace, publish).await
    }

    /// Commits what ends sessions, and tells those who have to know even if nobody waits for the answer any more.
    async fn take_out(
        &self,
        end: impl FnOnce(&mut Tables<'_>) -> Result<Vec<Gone>, Fault> + Send + 'static,
        kind: EndKind,
    ) -> Result<Vec<Arc<Session>>, Error> {
        let told = Arc::clone(&self.shared);
        let gone = self.commit(end, move |gone: &Vec<Gone>| told.ended(gone, kind)).await?;
        Ok(gone.into_iter().filter_map(|(_, session)| session).collect())
    }

    /// Notes durably that the refresh token of `session` is about to be sent.
    pub(super) async fn begin_refresh(&self, session: &Session) -> Result<Option<Journal>, Error> {
        let (id, version) = (session.id, session.version);
        let begin = move |tables: &mut Tables<'_>| {
            if tables.row(id)?.is_none() {
                return Ok(None);
            }
            let run = tables.run();
            let before = tables.begin_refresh(id, version)?;
            let interrupted = before.is_some_and(|before| before != run);
            Ok(Some(if interrupted { Journal::Interrupted } else { Journal::Begun }))
        };
        self.commit(begin, |_| {}).await
    }

    /// Notes that the outcome of a refresh is known. Nobody waits for that.
    pub(super) fn end_refresh(&self, id: SessionId) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
        let end: Job = Box::new(move |tables| {
            tables.end_refresh(id)?;
            Ok(Box::new(|| drop(place)))
        });
        // Without a writer there is nothing to note it in, and nothing that would be misread later.
        let _ = self.inbox.send(Message::Job(end));
    }

    /// Writes down what is not, and lets go of the file.
    pub(super) async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.inbox.send(Message::Close(reply)).is_ok() {
            // Never answered, only dropped.
            let _ = closed.await;
        }
    }

    /// Has `step` committed with whatever else waits, then `publish` run, and answers what came of it.
    async fn commit<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut Tables<'_>) -> Result<T, Fault> + Send + 'static,
        publish: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, Error> {
        let place = timeout(WAIT, Arc::clone(&self.places).acquire_owned()).await;
        let place = place.map_err(|_| Error::Busy)?.map_err(|_| Error::Failed)?;
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |tables| {
            let value = step(tables)?;
            let after: After = Box::new(move || {
                publish(&value);
                // Whoever asked may be gone; it is done all the same.
                let _ = reply.send(value);
                drop(place);
            });
            Ok(after)
        });
        self.inbox.send(Message::Job(job)).map_err(|_| Error::Failed)?;
        timeout(WAIT, answer).await.map_err(|_| Error::Busy)?.map_err(|_| Error::Failed)
    }

    /// The open file. Waits while it is being opened, but not while it cannot be.
    async fn book(&self) -> Result<Arc<Book>, Error> {
        if let Gate::Open(book) = &*self.shared.gate.borrow() {
            return Ok(Arc::clone(book));
        }
        let mut gate = self.shared.gate.subscribe();
        let opened = timeout(WAIT, gate.wait_for(|gate| !matches!(gate, Gate::Opening))).await;
        match &*opened.map_err(|_| Error::Busy)?.map_err(|_| Error::Failed)? {
            Gate::Open(book) => Ok(Arc::clone(book)),
            Gate::Opening | Gate::Down(_) => Err(Error::Failed),
        }
    }
}

impl Shared {
    fn capacity(&self) -> usize {
        self.capacity.load(Ordering::Relaxed)
    }

    /// A commit that began at `begun` left so many sessions.
    fn committed(&self, count: usize, begun: Instant) {
        if !self.left.load(Ordering::Relaxed) {
            self.metrics.store_operation("file", "commit", begun.elapsed().as_secs_f64());
        }
        self.counted(count);
    }

    fn counted(&self, count: usize) {
        self.count.store(count, Ordering::Relaxed);
        if !self.left.load(Ordering::Relaxed) {
            self.metrics.sessions_active("file", count);
        }
    }

    /// A failure to read, told to the operator.
    fn unreadable(&self, why: &str) -> Error {
        error!(path = %self.path.display(), why, "session store cannot be read");
        Error::Failed
    }

    fn seal(&self, session: &Session) -> Result<Vec<u8>, Error> {
        let plain = record::encode(session).ok_or(Error::Unwritable)?;
        Ok(self.keys.load().seal_bytes(Purpose::Session, session.id.as_bytes(), &plain)?)
    }

    /// The session in a record; `None` when it was sealed by no key of the ring, for another session, or was changed.
    fn unseal(&self, id: SessionId, sealed: &[u8]) -> Option<Arc<Session>> {
        let plain = self.keys.load().open_bytes(Purpose::Session, id.as_bytes(), sealed).ok()?;
        record::decode(id, &zeroize::Zeroizing::new(plain)).map(Arc::new)
    }

    fn gone(&self, id: SessionId, sealed: &[u8]) -> Gone {
        (id, self.unseal(id, sealed))
    }

    /// Tells the end of sessions that have been taken out.
    fn ended(&self, gone: &[Gone], kind: EndKind) {
        for (id, session) in gone {
            self.cache.forget(*id);
            if let Some(session) = session {
                self.hooks.ended(session, kind);
            }
        }
    }
}

/// How long ago `begun` is, for the log.
fn milliseconds(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Runs `work` on the database. What a file holds that is not as it was written may show as an error or break a proof
/// inside of the library; neither may become anything but an error here.
fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|fault| fault.to_string()),
        Err(_) => Err("the file is damaged".to_owned()),
    }
}

#[cfg(test)]
mod tests;
