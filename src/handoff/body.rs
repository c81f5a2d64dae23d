//! Bodies on their way through: timed, counted, and without trailers where those may not pass.

use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::web::{Body, BoxError};

/// Why a body ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// Nothing came for too long.
    Silent,
    /// More came than the limit allows.
    TooLarge,
    /// The connection it came from broke.
    Broken,
}

impl fmt::Display for BodyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Silent => "nothing came for too long",
            Self::TooLarge => "the body is larger than the limit",
            Self::Broken => "the connection broke",
        })
    }
}

impl std::error::Error for BodyError {}

/// A body whose silence has a limit. The timer exists only while something is waited for, so that a body that is
/// already there costs none.
struct Timed {
    inner: Body,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Timed {
    const fn new(inner: Body, limit: Duration) -> Self {
        Self { inner, limit, timer: None }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            self.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(|_| BodyError::Broken)));
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer.as_mut().poll(context).map(|()| Some(Err(BodyError::Silent)))
    }
}

/// An answer's body on its way to the client.
pub(super) struct Download(Timed);

impl Download {
    /// Wraps `body`; `idle` is the longest silence.
    pub(super) fn wrap(body: Body, idle: Duration) -> Body {
        if body.is_end_stream() { Body::Empty } else { Body::boxed(Self(Timed::new(body, idle))) }
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.get_mut().0.poll(context).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.0.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.inner.size_hint()
    }
}

/// Who has to move next in an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The client: it sent nothing yet, or not enough. The body times that itself.
    Client = 0,
    /// The upstream, which has to take what is there.
    Upstream = 1,
    /// The upstream, which has everything and owes the answer.
    Answer = 2,
}

/// What the body of a request tells whoever waits for the answer.
pub(super) struct Upload(Arc<Shared>);

struct Shared {
    started: Instant,
    /// Milliseconds after `started` of the last move.
    moved: AtomicU64,
    turn: AtomicU8,
    failure: Mutex<Option<BodyError>>,
}

impl Upload {
    /// Wraps the body of a request, which may be silent for `idle` and `max` bytes long.
    pub(super) fn wrap(body: Body, idle: Duration, max: Option<u64>) -> (Body, Self) {
        let shared = Arc::new(Shared {
            started: Instant::now(),
            moved: AtomicU64::new(0),
            turn: AtomicU8::new(Turn::Upstream as u8),
            failure: Mutex::default(),
        });
        let left = max.unwrap_or(u64::MAX);
        let body = Sending { body: Timed::new(body, idle), left, shared: Arc::clone(&shared) };
        (Body::boxed(body), Self(shared))
    }

    /// Whose turn it is, and since when.
    pub(super) fn turn(&self) -> (Turn, Instant) {
        let turn = match self.0.turn.load(Ordering::Acquire) {
            0 => Turn::Client,
            1 => Turn::Upstream,
            _ => Turn::Answer,
        };
        (turn, self.0.started + Duration::from_millis(self.0.moved.load(Ordering::Relaxed)))
    }

    /// Why the body ended early, if it did.
    pub(super) fn failure(&self) -> Option<BodyError> {
        *self.0.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's body on its way to the upstream.
struct Sending {
    body: Timed,
    left: u64,
    shared: Arc<Shared>,
}

impl Sending {
    fn turn(&self, turn: Turn) {
        let moved = u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.moved.store(moved, Ordering::Relaxed);
        self.shared.turn.store(turn as u8, Ordering::Release);
    }

    fn fail(&self, error: BodyError) -> BoxError {
        *self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        error.into()
    }
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        this.turn(Turn::Client);
        // Trailers are not passed on (RFC 9110 6.5.1): nobody upstream asked for them, and they are no headers.
        let data = ready!(this.body.poll(context)).map(|frame| frame.map(Frame::into_data));
        Poll::Ready(match data {
            None | Some(Ok(Err(_))) => {
                this.turn(Turn::Answer);
                None
            }
            Some(Err(error)) => Some(Err(this.fail(error))),
            Some(Ok(Ok(data))) => match this.left.checked_sub(data.len() as u64) {
                None => Some(Err(this.fail(BodyError::TooLarge))),
                Some(left) => {
                    this.left = left;
                    this.turn(if this.body.inner.is_end_stream() { Turn::Answer } else { Turn::Upstream });
                    Some(Ok(Frame::data(data)))
                }
            },
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.inner.size_hint()
    }
}
