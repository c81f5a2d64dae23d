//! The one connection to the server: commands go out on it, and news of what other processes did comes in.
//!
//! What this process holds in memory was true when the server answered the last beat: news come in order on the same
//! connection, so the answer to a beat follows everything that happened before. While beats are answered, memory is at
//! most [`TRUST`] behind; when they are not, every look goes to the server, and after a new connection memory begins
//! empty. A session that ends in another process is therefore gone here within a second, or nobody gets in.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use redis::aio::{MultiplexedConnection, SendError};
use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, PushInfo, PushKind, RedisError, ServerErrorKind, Value};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config;
use crate::session::redis::dial::dial;
use crate::session::redis::scripts;
use crate::session::{Error, SessionId, State};

/// How often the server is asked for a sign of life.
const BEAT: Duration = Duration::from_millis(200);
/// How old a sign of life may be for memory to be believed.
const TRUST: Duration = Duration::from_millis(800);
/// A connection on which nothing is answered for so long is given up.
const SILENCE: Duration = Duration::from_secs(3);
/// How long a call waits for a connection, and how long after the loss of one calls still wait at all.
const PATIENCE: Duration = Duration::from_secs(3);
/// The pause before another attempt to connect, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What the link tells the store.
pub(super) trait Listener: Send + Sync + 'static {
    /// A new connection: whatever is known is of an earlier time.
    fn begins_anew(&self);
    /// Another process has ended this session.
    fn ended(&self, id: SessionId);
    /// Another process has changed this session.
    fn changed(&self, id: SessionId);
    /// There are so many.
    fn counted(&self, count: usize);
}

/// What is asked in one round trip.
#[derive(Clone, Copy)]
enum Ask<'a> {
    One(&'a Cmd),
    All(&'a Pipeline),
}

/// A connection that works as far as is known.
struct Line {
    connection: MultiplexedConnection,
    broken: CancellationToken,
}

/// The connection, whichever it is.
pub(super) struct Link {
    line: ArcSwapOption<Line>,
    /// Whether there is a line, and since when.
    state: watch::Sender<(State, Instant)>,
    options: Mutex<Arc<config::Redis>>,
    redial: Notify,
    epoch: Instant,
    /// In milliseconds since `epoch`: until when memory is believed.
    believed: AtomicU64,
    count: AtomicUsize,
    closed: CancellationToken,
    /// Whether it has been said that there is no connection.
    told: AtomicBool,
    listener: Box<dyn Listener>,
}

impl Link {
    /// Connects beside whatever else happens, again and again; until it succeeds, calls wait a moment and then fail.
    pub(super) fn start(options: Arc<config::Redis>, listener: Box<dyn Listener>) -> Arc<Self> {
        let link = Arc::new(Self {
            line: ArcSwapOption::empty(),
            state: watch::Sender::new((State::Opening, Instant::now())),
            options: Mutex::new(options),
            redial: Notify::new(),
            epoch: Instant::now(),
            believed: AtomicU64::new(0),
            count: AtomicUsize::new(0),
            closed: CancellationToken::new(),
            told: AtomicBool::new(false),
            listener,
        });
        let keeper = Arc::clone(&link);
        tokio::spawn(async move {
            tokio::select! {
                () = keeper.closed.cancelled() => {}
                () = keeper.keep() => {}
            }
            keeper.line.store(None);
            keeper.believed.store(0, Ordering::Release);
            keeper.state.send_replace((State::Down, Instant::now()));
        });
        link
    }

    /// Whether memory may be believed.
    pub(super) fn is_believed(&self) -> bool {
        self.epoch.elapsed() < Duration::from_millis(self.believed.load(Ordering::Acquire))
    }

    pub(super) fn state(&self) -> State {
        self.state.borrow().0
    }

    /// How old the connection is.
    pub(super) fn up_for(&self) -> Duration {
        let (state, since) = *self.state.borrow();
        if state == State::Up { since.elapsed() } else { Duration::ZERO }
    }

    /// How many sessions there were at the last beat.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// So many more are there by what was done here; the next beat knows of what others did.
    pub(super) fn counted(&self, more: usize, fewer: usize) {
        let count = |count: usize| Some(count.saturating_add(more).saturating_sub(fewer));
        let _ = self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
    }

    /// From now on, connects as `options` say.
    pub(super) fn follow(&self, options: &Arc<config::Redis>) {
        let mut current = self.options.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != *options {
            *current = Arc::clone(options);
            self.redial.notify_one();
        }
    }

    pub(super) fn options(&self) -> Arc<config::Redis> {
        Arc::clone(&self.options.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Waits, `limit` at most, for what comes of the first attempt to connect.
    pub(super) async fn settled(&self, limit: Duration) -> State {
        let mut changes = self.state.subscribe();
        let settled = timeout(limit, changes.wait_for(|(state, _)| *state != State::Opening)).await;
        settled.ok().and_then(Result::ok).map_or(State::Opening, |state| state.0)
    }

    /// Lets go of the connection for good.
    pub(super) async fn close(&self) {
        self.closed.cancel();
        let mut state = self.state.subscribe();
        // The sender lives in `self`, so this ends only when the keeper has.
        let _ = state.wait_for(|(state, _)| *state == State::Down && self.line.load().is_none()).await;
    }

    /// Has `command` done; once more on the next connection when this one breaks meanwhile, so it must not mind being done
    /// twice.
    pub(super) async fn call<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        let value = self.ask(Ask::One(command)).await?;
        redis::from_redis_value(value).map_err(|error| self.unexpected(&error))
    }

    /// Has all of `commands` done in one round trip, in the same way.
    pub(super) async fn call_all(&self, commands: &Pipeline) -> Result<Vec<Value>, Error> {
        match self.ask(Ask::All(commands)).await? {
            Value::Array(values) => Ok(values),
            _ => Err(self.unexpected(&"no list")),
        }
    }

    /// An answer that nothing of ours is answered with.
    pub(super) fn unexpected(&self, error: &dyn fmt::Display) -> Error {
        error!(redis = %self.options(), %error, "the session store gave an unexpected answer");
        Error::Failed
    }

    async fn ask(&self, ask: Ask<'_>) -> Result<Value, Error> {
        let begun = Instant::now();
        loop {
            let line = self.line(begun).await?;
            let mut connection = line.connection.clone();
            let answer = match ask {
                Ask::One(command) => connection.send_packed_command(command).await,
                Ask::All(commands) => {
                    connection.send_packed_commands(commands, 0, commands.len()).await.map(Value::Array)
                }
            };
            let error = match answer.and_then(Value::extract_error) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if !is_of_the_line(&error) {
                error!(redis = %self.options(), %error, "session store failed");
                return Err(Error::Failed);
            }
            warn!(redis = %self.options(), %error, "lost the connection to the session store");
            line.broken.cancel();
            if self.line.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, &line)) {
                self.line.store(None);
            }
            if begun.elapsed() >= PATIENCE {
                return Err(Error::Failed);
            }
        }
    }

    /// The connection. Waits for one that is expected soon.
    async fn line(&self, begun: Instant) -> Result<Arc<Line>, Error> {
        loop {
            if let Some(line) = self.line.load_full() {
                return Ok(line);
            }
            let (state, since) = *self.state.borrow();
            let lost = if state == State::Up { Duration::ZERO } else { since.elapsed() };
            let patience = PATIENCE.saturating_sub(begun.elapsed().max(lost));
            if patience.is_zero() || self.closed.is_cancelled() {
                return Err(Error::Failed);
            }
            let mut changes = self.state.subscribe();
            if state == State::Up {
                // It has just been lost, and the keeper does not know yet.
                let _ = timeout(patience.min(BEAT), changes.changed()).await;
                continue;
            }
            let up = timeout(patience, changes.wait_for(|(state, _)| *state == State::Up)).await;
            up.map_err(|_| Error::Failed)?.map_err(|_| Error::Failed)?;
        }
    }

    /// Connects, and keeps the connection for as long as it works, forever.
    async fn keep(self: &Arc<Self>) {
        let mut pause = PAUSE.0;
        loop {
            match self.connect().await {
                Ok(line) => {
                    pause = PAUSE.0;
                    self.beats(&line).await;
                    line.broken.cancel();
                    self.believed.store(0, Ordering::Release);
                    self.line.store(None);
                    self.state.send_replace((State::Down, Instant::now()));
                }
                Err(why) => {
                    if !self.told.swap(true, Ordering::Relaxed) {
                        error!(redis = %self.options(), why, "no connection to the session store; connecting goes on");
                    }
                    self.state.send_if_modified(|(state, _)| std::mem::replace(state, State::Down) != State::Down);
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.redial.notified() => {}
                    }
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    async fn connect(self: &Arc<Self>) -> Result<Arc<Line>, String> {
        let options = self.options();
        let broken = CancellationToken::new();
        let (hears, breaks) = (Arc::downgrade(self), broken.clone());
        let hear = move |news: PushInfo| {
            if news.kind == PushKind::Disconnection {
                breaks.cancel();
            }
            hears.upgrade().map_or(Err(SendError), |link| {
                link.hear(&news);
                Ok(())
            })
        };
        let mut connection = dial(&options, hear, SILENCE).await.map_err(|error| error.to_string())?;
        connection.subscribe(news(&options.prefix)).await.map_err(|error| error.to_string())?;
        scripts::load(&mut connection).await.map_err(|error| error.to_string())?;
        // Nothing that was heard of before is believed; everything from here on is heard.
        self.listener.begins_anew();
        let line = Arc::new(Line { connection, broken });
        self.beat(&line, &options.prefix).await.map_err(|error| error.to_string())?;
        self.line.store(Some(Arc::clone(&line)));
        self.state.send_replace((State::Up, Instant::now()));
        self.told.store(false, Ordering::Relaxed);
        info!(redis = %options, sessions = self.count(), "session store is open");
        Ok(line)
    }

    /// Asks for signs of life until there are none, or other options.
    async fn beats(&self, line: &Line) {
        let prefix = self.options().prefix.clone();
        loop {
            tokio::select! {
                () = tokio::time::sleep(BEAT) => {}
                () = line.broken.cancelled() => return,
                () = self.redial.notified() => return,
            }
            if let Err(error) = self.beat(line, &prefix).await {
                warn!(redis = %self.options(), %error, "lost the connection to the session store");
                return;
            }
        }
    }

    async fn beat(&self, line: &Line, prefix: &str) -> Result<(), RedisError> {
        let asked = self.epoch.elapsed();
        let mut connection = line.connection.clone();
        let count: usize = redis::cmd("ZCARD").arg(format!("{prefix}:used")).query_async(&mut connection).await?;
        self.count.store(count, Ordering::Relaxed);
        self.listener.counted(count);
        let until = u64::try_from((asked + TRUST).as_millis()).unwrap_or(u64::MAX);
        // A line that was given up meanwhile proves nothing any more.
        if !line.broken.is_cancelled() {
            self.believed.store(until, Ordering::Release);
        }
        Ok(())
    }

    /// Runs where the connection is read, so that the answer to a beat comes after it.
    fn hear(&self, news: &PushInfo) {
        if news.kind != PushKind::Message {
            return;
        }
        let Some(Value::BulkString(text)) = news.data.get(1) else { return };
        let id = |text: &[u8]| std::str::from_utf8(text).ok().and_then(SessionId::from_hex);
        match text.split_first() {
            Some((b'E', rest)) => id(rest).into_iter().for_each(|id| self.listener.ended(id)),
            Some((b'C', rest)) => id(rest).into_iter().for_each(|id| self.listener.changed(id)),
            Some(_) | None => {}
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Link({})", self.options())
    }
}

/// The channel that processes tell each other on.
fn news(prefix: &str) -> String {
    format!("{prefix}:news")
}

/// Whether another connection may do better: this one is gone, leads to a server that is not the master any more or not
/// yet ready, or to one that has forgotten our scripts.
fn is_of_the_line(error: &RedisError) -> bool {
    let server = matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::ReadOnly
                | ServerErrorKind::MasterDown
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::NoScript
        )
    );
    server || error.is_io_error() || error.is_connection_dropped()
}
