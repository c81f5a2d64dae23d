//! A connection that may not dawdle: each phase of HTTP/1.1 has its own patience.
//!
//! hyper knows one timer for both a slow head and an idle connection. Caddy keeps idle connections for two minutes, so
//! that ours must last longer; a head that trickles in must end much earlier. Hence the clock is kept here, below
//! hyper, where the bytes pass.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::server::lines::Lines;

/// How long each phase may last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// From accepting a connection to its first byte, and from the first byte of a head to its end.
    pub(super) head: Duration,
    /// From the end of an answer to the next request's first byte.
    pub(super) idle: Duration,
    /// For the client to take some of what is written.
    pub(super) write: Duration,
    /// For the client to stop sending once we have said the last word.
    pub(super) part: Duration,
    /// For the client of an idle connection to say what it was about to, when the listener closes.
    pub(super) linger: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        // Idle: more than the two minutes after which Caddy closes first, so that it never picks a dying connection.
        Self {
            head: Duration::from_secs(10),
            idle: Duration::from_secs(180),
            write: Duration::from_secs(60),
            part: Duration::from_secs(2),
            linger: Duration::from_millis(500),
        }
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Between an answer and the next request.
    Idle,
    /// A head is awaited or coming in.
    Head,
    /// A request is being served, and whoever serves it watches its body; or the connection left HTTP behind.
    Busy,
}

/// The phase of one connection, set from above (a request began, an answer ended) and from below (bytes came). All
/// of it happens in the connection's own task; atomics only make it shareable.
#[derive(Debug)]
pub(super) struct Gate {
    entry: AtomicU64,
    /// Whether the next answer is the last one.
    closing: AtomicBool,
}

impl Gate {
    /// A new connection owes its first head.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { entry: AtomicU64::new(1), closing: AtomicBool::new(false) })
    }

    /// A head is complete.
    pub(super) fn begin(&self) {
        self.enter(Phase::Busy);
    }

    /// The answer is complete, or given up.
    pub(super) fn end(&self) {
        self.enter(Phase::Idle);
    }

    /// Whether the answer that is made now has to be the last one.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// From now on each answer is the last one. Ready once there was nothing to answer for `linger`.
    ///
    /// A client that keeps connections may have picked this one just now, and a request that crosses our end of the
    /// connection on the wire fails, unless it is one that may be sent twice. A pool in use tries each of its
    /// connections within milliseconds, finds that it is the last time, and closes it by itself.
    pub(super) async fn closed(&self, linger: Duration) {
        self.closing.store(true, Ordering::Relaxed);
        loop {
            let (before, phase) = self.now();
            tokio::time::sleep(linger).await;
            if phase != Phase::Busy && self.now().0 == before {
                return;
            }
        }
    }

    /// Each entry is told apart by a count in the upper bits, so that a phase entered anew has a fresh clock.
    fn enter(&self, phase: Phase) {
        let entered = self.entry.load(Ordering::Relaxed) & !3;
        let bits = match phase {
            Phase::Idle => 0,
            Phase::Head => 1,
            Phase::Busy => 2,
        };
        self.entry.store(entered.wrapping_add(4) | bits, Ordering::Relaxed);
    }

    fn now(&self) -> (u64, Phase) {
        let entry = self.entry.load(Ordering::Relaxed);
        let phase = match entry & 3 {
            0 => Phase::Idle,
            1 => Phase::Head,
            _ => Phase::Busy,
        };
        (entry, phase)
    }
}

/// A connection and its seat, if seats are counted.
pub(super) type Seated<S> = (S, Option<OwnedSemaphorePermit>);

/// One clock. It is set forward without touching the timer wheel, and looked at only when something is waited for:
/// a request on a busy connection costs no timer.
#[derive(Default)]
struct Clock {
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    /// Ready once `deadline` has passed.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        ready!(timer.as_mut().poll(context));
        if timer.deadline() >= deadline {
            return Poll::Ready(());
        }
        // It was set for an earlier deadline that did not come to pass.
        timer.as_mut().reset(deadline);
        timer.as_mut().poll(context)
    }
}

/// The wrapped connection.
pub(super) struct Paced<S> {
    stream: S,
    /// Its seat among all connections, which a WebSocket keeps when HTTP is over.
    _seat: Option<OwnedSemaphorePermit>,
    gate: Arc<Gate>,
    patience: Patience,
    /// The entry into a phase that the read clock was set for.
    entry: Option<u64>,
    lines: Lines,
    reading: Clock,
    writing: Clock,
    /// Whether our side is closed.
    parting: bool,
}

impl<S> Paced<S> {
    pub(super) fn new((stream, seat): Seated<S>, gate: Arc<Gate>, patience: Patience) -> Self {
        let (reading, writing) = (Clock::default(), Clock::default());
        let parting = false;
        Self { stream, _seat: seat, gate, patience, entry: None, lines: Lines::default(), reading, writing, parting }
    }

    /// Bytes came in.
    fn came(&mut self, bytes: &mut [u8]) {
        match self.gate.now().1 {
            Phase::Busy => return,
            Phase::Head => {}
            Phase::Idle if bytes.is_empty() => return,
            Phase::Idle => {
                self.gate.enter(Phase::Head);
                self.lines = Lines::default();
            }
        }
        self.lines.judge(bytes);
    }

    /// Nothing to read: how long may that go on?
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (entry, phase) = self.gate.now();
        let patience = match phase {
            Phase::Busy => return Poll::Pending,
            Phase::Head => self.patience.head,
            Phase::Idle => self.patience.idle,
        };
        if self.entry != Some(entry) {
            self.entry = Some(entry);
            self.reading.deadline = Some(Instant::now() + patience);
        }
        self.reading
            .poll(context)
            .map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "no request in time")))
    }

    /// The result of a write, or the end of patience with a client that takes nothing.
    fn paced<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.writing.deadline = None;
            return written;
        }
        let patience = self.patience.write;
        self.writing.deadline.get_or_insert_with(|| Instant::now() + patience);
        self.writing
            .poll(context)
            .map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")))
    }
}

impl<S: AsyncRead + Unpin> Paced<S> {
    /// Reads away what still comes after our last word (RFC 9112 9.6): a socket that is closed over unread bytes is
    /// reset, and the reset may overtake an answer that refuses an upload.
    fn poll_parting(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut scrap = [0; 16 * 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut scrap);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                // The runtime lets nobody read for ever, so that the clock is looked at even when bytes never end.
                Poll::Pending => return self.reading.poll(context),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            this.came(buffer.filled_mut().get_mut(before..).unwrap_or_default());
            return Poll::Ready(read);
        }
        this.poll_patience(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.paced(context, written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(context))?;
        // hyper flushes after every answer, but may not try to read again before something wakes it. So the clock of
        // an idle connection is set here; once it runs out, the next try to read tells.
        let (entry, phase) = this.gate.now();
        if phase == Phase::Idle && this.entry != Some(entry) {
            let _ = this.poll_patience(context);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.parting {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            this.parting = true;
            this.reading.deadline = Some(Instant::now() + this.patience.part);
        }
        this.poll_parting(context).map(Ok)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.paced(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
