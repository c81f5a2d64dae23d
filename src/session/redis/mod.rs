//! The store `redis`: sessions in a Redis or Valkey server, shared by several processes.
//!
//! A login, a new version and an end are answered after the server has done them; each is one script there, so that no
//! process sees half of it. Sessions in use are held decoded here too, and believed for as long as the server gives signs
//! of life on the connection that tells of what other processes did (`link`). Only the last use is written down late, by
//! at most [`LAG`], and whoever judges a session by what is written allows for that. Records are sealed with the key ring
//! under the session's id, so that whoever has the server alone has nothing.

mod board;
mod dial;
mod lease;
mod link;
mod moving;
mod records;
mod scripts;
mod told;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::Cmd;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::config;
use crate::metrics::Metrics;
use crate::session::cache::{Cache, Lookup, Use};
use crate::session::sessions::Hooks;
use crate::session::{EndKind, Error, Found, Selector, Session, SessionId, State, Swap, Touch};
use crate::time::Timestamp;
use crate::web::KeyRing;

use link::Link;
use scripts::Name;
use told::Told;

pub(super) use lease::{LATE, LEASE, RedisLease, Word};

/// Last uses are written down this often.
const FLUSH: Duration = Duration::from_secs(5);
/// How much later than written down a session may have been used, in this process or another.
const LAG: Duration = Duration::from_secs(10);
/// How long the server may take to answer on a connection that is only tried.
const TRY: Duration = Duration::from_secs(2);
/// How many sessions make room at once, when `max_sessions` has become less.
const ROOM: usize = 64;
/// How many sessions end, or are looked at, in one script: others wait for so long.
const AT_ONCE: usize = 128;

/// What a Redis store is opened with.
#[derive(Clone)]
pub struct RedisOptions {
    /// Where it is.
    pub server: Arc<config::Redis>,
    /// How many sessions it holds before the longest unused ones make room.
    pub capacity: usize,
    /// What seals the records.
    pub keys: Arc<KeyRing>,
}

/// The store `redis`.
#[derive(Clone)]
pub(super) struct Redis {
    shared: Arc<Shared>,
    link: Arc<Link>,
}

/// What calls and news have in common.
struct Shared {
    cache: Cache,
    keys: ArcSwap<KeyRing>,
    capacity: AtomicUsize,
    hooks: Hooks,
    metrics: Arc<Metrics>,
    closed: CancellationToken,
    /// Changes that are made although their caller may have gone.
    tasks: TaskTracker,
    /// Whether sessions have moved elsewhere: then news of them mean nothing here.
    left: AtomicBool,
    /// What a move has brought that was not here.
    brought: Mutex<BTreeSet<SessionId>>,
}

/// A session that was taken out; `None` when its key is not in the ring.
type Gone = (SessionId, Option<Arc<Session>>);

/// A record and when its session was last used, as the server has them.
type Row = (Option<Vec<u8>>, Option<i64>);

impl Redis {
    /// Connects beside whatever else happens. Must be called within a runtime.
    pub(super) fn open(options: RedisOptions, hooks: Hooks, metrics: Arc<Metrics>) -> Self {
        let RedisOptions { server, capacity, keys } = options;
        let shared = Arc::new(Shared {
            cache: Cache::new(),
            keys: ArcSwap::new(keys),
            capacity: AtomicUsize::new(capacity.max(1)),
            hooks,
            metrics,
            closed: CancellationToken::new(),
            tasks: TaskTracker::new(),
            left: AtomicBool::new(false),
            brought: Mutex::default(),
        });
        let link = Link::start(server, Box::new(Told(Arc::clone(&shared))));
        let store = Self { shared, link };
        let (writes, closed) = (store.clone(), store.shared.closed.clone());
        tokio::spawn(closed.run_until_cancelled_owned(async move {
            loop {
                tokio::time::sleep(FLUSH).await;
                // What is not written now will be the next time; the link tells of its trouble itself.
                let _ = writes.flush().await;
            }
        }));
        store
    }

    pub(super) fn state(&self) -> State {
        self.link.state()
    }

    pub(super) fn count(&self) -> usize {
        self.link.count()
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

    /// Whether the server can be reached as `server` says, too; with nothing that works to be lost, it may be so.
    pub(super) async fn try_reach(&self, server: &config::Redis) -> Result<(), String> {
        if self.link.state() != State::Up || *self.link.options() == *server {
            return Ok(());
        }
        let deaf = |_: redis::PushInfo| Ok::<(), redis::aio::SendError>(());
        dial::dial(server, deaf, TRY).await.map(drop).map_err(|error| error.to_string())
    }

    /// From now on, the same sessions are reached as `server` says.
    pub(super) fn follow(&self, server: &Arc<config::Redis>) {
        self.link.follow(server);
    }

    pub(super) async fn insert(&self, session: Arc<Session>, now: Timestamp) -> Result<(), Error> {
        let row = self.shared.row(&session)?;
        let store = self.clone();
        // In a task of its own: who made room is told although the caller has gone.
        let insert = async move {
            let epoch = store.shared.cache.epoch(session.id);
            let capacity = store.shared.capacity.load(Ordering::Relaxed);
            let mut insert = store.script(Name::Insert);
            row.write_new(&mut insert, now);
            let gone = store.gone(insert.arg(capacity).arg(ROOM)).await?;
            store.link.counted(1, gone.len());
            store.shared.ended(&gone, EndKind::Evicted);
            let use_ = Use { touch: Touch::Look, idle_timeout: Duration::MAX, now };
            store.shared.cache.take_in(session, now, epoch, use_);
            Ok(())
        };
        self.shared.tasks.spawn(insert).await.map_err(|_| Error::Failed)?
    }

    /// What is held decoded, while that is believed. One that seems to be over may have been used elsewhere: then nothing
    /// is known.
    pub(super) fn known(&self, id: SessionId, idle_timeout: Duration, touch: Touch, now: Timestamp) -> Option<Found> {
        let use_ = Use { touch, idle_timeout, now };
        match self.shared.cache.find(id, use_) {
            Lookup::Hit(found) if self.link.is_believed() => Some(found),
            Lookup::Hit(_) | Lookup::Over | Lookup::Miss(_) => None,
        }
    }

    /// Asks the server, whatever is known here.
    pub(super) async fn load(
        &self,
        id: SessionId,
        idle_timeout: Duration,
        touch: Touch,
        now: Timestamp,
    ) -> Result<Option<Found>, Error> {
        let use_ = Use { touch, idle_timeout, now };
        let epoch = self.shared.cache.epoch(id);
        let rows = self.rows(&[id]).await?;
        let Some((Some(sealed), used_at)) = rows.into_iter().next() else { return Ok(None) };
        let Some(session) = self.shared.unseal(id, &sealed) else { return Ok(None) };
        // Without a last use its time is what the record says.
        let noted = used_at.map_or(session.created_at, Timestamp::from_unix);
        let lenient = Use { idle_timeout: use_.idle_timeout.saturating_add(lag(use_.idle_timeout)), ..use_ };
        Ok(self.shared.cache.take_in(session, noted, epoch, lenient))
    }

    /// Records and last uses of `ids`, in their order, in one round trip.
    async fn rows(&self, ids: &[SessionId]) -> Result<Vec<Row>, Error> {
        let prefix = &self.link.options().prefix;
        let mut asked = redis::pipe();
        for id in ids {
            let id = id.hex();
            asked.cmd("HGET").arg(format!("{prefix}:s:{id}")).arg("r");
            asked.cmd("ZSCORE").arg(format!("{prefix}:used")).arg(id);
        }
        let rows: Result<_, _> = self.link.call_all(&asked).await?.chunks(2).map(row).collect();
        rows.map_err(|error: redis::ParsingError| self.link.unexpected(&error))
    }

    pub(super) async fn replace(&self, session: Arc<Session>, lease: Option<&RedisLease>) -> Result<Swap, Error> {
        let (id, row) = (session.id, self.shared.row(&session)?);
        let (owner, fence) = lease.map_or(("", ""), |lease| (&lease.owner, &lease.fence));
        let mut replace = self.script(Name::Replace);
        row.write(&mut replace);
        let answer = self.link.call::<Vec<Vec<u8>>>(replace.arg(owner).arg(fence)).await;
        // Even when what came of it is not known, whoever asks next must not meet what was before.
        self.shared.cache.outdate(id);
        let mut answer = answer?.into_iter();
        let (word, kept) = (answer.next().unwrap_or_default(), answer.next());
        let kept = kept.and_then(|sealed| self.shared.unseal(id, &sealed));
        Ok(match (word.as_slice(), kept) {
            (b"done", _) => Swap::Done(session),
            (b"fenced", _) => Swap::Fenced,
            (b"gone", _) => Swap::Gone,
            // Its answer was lost, and it has been asked again.
            (b"stale", Some(kept)) if kept.is_same_version(&session) => Swap::Done(session),
            (b"stale", Some(kept)) => Swap::Stale(kept),
            (b"stale", None) => Swap::Sealed,
            (word, _) => return Err(self.link.unexpected(&String::from_utf8_lossy(word))),
        })
    }

    pub(super) async fn find(&self, selector: Selector<'_>) -> Result<Vec<Arc<Session>>, Error> {
        let found = self.candidates(selector).await?;
        Ok(found
            .into_iter()
            .filter_map(|(_, session)| session)
            .filter(|session| selector.selects(session))
            .collect())
    }

    async fn candidates(&self, selector: Selector<'_>) -> Result<Vec<Gone>, Error> {
        let Some(key) = selector.key() else {
            let Selector::Id(id) = selector else { return Ok(Vec::new()) };
            let row = self.rows(&[id]).await?.into_iter().next();
            let sealed = row.and_then(|(sealed, _)| sealed);
            return Ok(sealed.map(|sealed| (id, self.shared.unseal(id, &sealed))).into_iter().collect());
        };
        self.gone(self.script(Name::Find).arg(format!("{key:016x}"))).await
    }

    pub(super) async fn end(&self, selector: Selector<'_>, kind: EndKind) -> Result<Vec<Arc<Session>>, Error> {
        let candidates = match selector {
            Selector::Id(id) => vec![id],
            Selector::Subject { .. } | Selector::Sid { .. } => {
                // One that cannot be opened is meant all the same, or it would be back with its key.
                let meant = |(_, session): &Gone| session.as_ref().is_none_or(|session| selector.selects(session));
                self.candidates(selector).await?.into_iter().filter(meant).map(|(id, _)| id).collect()
            }
        };
        self.take_out(candidates, kind).await
    }

    pub(super) async fn end_these(&self, ids: Vec<SessionId>, kind: EndKind) -> Result<usize, Error> {
        Ok(self.take_out(ids, kind).await?.len())
    }

    /// Ends `ids`, and tells those who have to know even if nobody waits for the answer any more.
    async fn take_out(&self, ids: Vec<SessionId>, kind: EndKind) -> Result<Vec<Arc<Session>>, Error> {
        let store = self.clone();
        let take_out = async move {
            let mut ended = Vec::new();
            for some in ids.chunks(AT_ONCE) {
                let some: Vec<String> = some.iter().map(SessionId::hex).collect();
                let gone = store.gone(store.script(Name::End).arg(some)).await?;
                store.link.counted(0, gone.len());
                store.shared.ended(&gone, kind);
                ended.extend(gone.into_iter().filter_map(|(_, session)| session));
            }
            Ok(ended)
        };
        self.shared.tasks.spawn(take_out).await.map_err(|_| Error::Failed)?
    }

    /// Ends what is over; answers how many sessions that were. Whichever process comes first ends them for all.
    pub(super) async fn sweep(&self, idle_timeout: Duration, now: Timestamp) -> Result<usize, Error> {
        self.flush().await?;
        let store = self.clone();
        let sweep = async move {
            let unused_since = now.minus(idle_timeout.saturating_add(lag(idle_timeout))).unix();
            let mut ended = 0;
            loop {
                let mut sweep = store.script(Name::Sweep);
                sweep.arg(unused_since).arg(now.unix()).arg(AT_ONCE);
                let answer: Vec<redis::Value> = store.link.call(&sweep).await?;
                let (looked, gone) = answer.split_first().ok_or(Error::Failed)?;
                let gone = store.shared.opened(gone)?;
                store.link.counted(0, gone.len());
                store.shared.ended(&gone, EndKind::Expired);
                ended += gone.len();
                if matches!(looked, redis::Value::Int(0)) {
                    return Ok(ended);
                }
            }
        };
        self.shared.tasks.spawn(sweep).await.map_err(|_| Error::Failed)?
    }

    /// Writes down the last uses that are not.
    async fn flush(&self) -> Result<(), Error> {
        self.note_uses(&self.shared.cache.all_unnoted()).await
    }

    /// Writes down when these were last used.
    pub(super) async fn note_uses(&self, uses: &[(SessionId, Timestamp)]) -> Result<(), Error> {
        let prefix = &self.link.options().prefix;
        for some in uses.chunks(AT_ONCE) {
            let mut note = redis::cmd("ZADD");
            note.arg(format!("{prefix}:used")).arg("XX").arg("GT");
            for (id, used_at) in some {
                note.arg(used_at.unix()).arg(id.hex());
            }
            self.link.call::<()>(&note).await?;
            self.shared.cache.noted(some);
        }
        Ok(())
    }

    /// Writes down what is not, and lets go of the connection.
    pub(super) async fn close(&self) {
        self.shared.closed.cancel();
        if !self.link.is_closed() && self.flush().await.is_err() {
            warn!("the last uses of some sessions are not written down");
        }
        self.link.close().await;
    }

    /// Runs a script that answers ids and records.
    async fn gone(&self, script: &Cmd) -> Result<Vec<Gone>, Error> {
        self.shared.opened(&self.link.call::<Vec<redis::Value>>(script).await?)
    }

    fn script(&self, name: Name) -> Cmd {
        scripts::call(name, &self.link.options().prefix)
    }
}

/// How late a last use may be written down for this limit.
fn lag(idle_timeout: Duration) -> Duration {
    LAG.min(idle_timeout / 4)
}

fn row(pair: &[redis::Value]) -> Result<Row, redis::ParsingError> {
    let [sealed, used_at] = pair else { return Ok((None, None)) };
    let used_at: Option<f64> = redis::from_redis_value_ref(used_at)?;
    // Seconds, which the server keeps as doubles: exact up to 2^53.
    #[expect(clippy::cast_possible_truncation, reason = "a score that we wrote is a whole number")]
    Ok((redis::from_redis_value_ref(sealed)?, used_at.map(|seconds| seconds as i64)))
}

impl fmt::Debug for Redis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Redis({:?})", self.link)
    }
}

#[cfg(test)]
mod tests;
