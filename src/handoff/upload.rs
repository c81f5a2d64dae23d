//! The body of a request on its way to the upstream: counted, without trailers, and given up in the middle when the
//! answer is there before its end.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use crate::handoff::body::{BodyError, Timed};
use crate::web::{Body, BoxError};

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
    state: Mutex<State>,
}

struct State {
    /// `None` once it was taken back.
    body: Option<Timed>,
    failure: Option<BodyError>,
    /// Who waits for more.
    waker: Option<Waker>,
    /// Nobody will send more, and the connection may go.
    given_up: bool,
}

impl Shared {
    // Poison is ignored: a body that panicked is never polled again.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, turn: Turn) {
        let moved = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(moved, Ordering::Relaxed);
        self.turn.store(turn as u8, Ordering::Release);
    }
}

impl Upload {
    /// Wraps the body of a request, which may be silent for `idle` and `max` bytes long.
    pub(super) fn wrap(body: Body, idle: Duration, max: Option<u64>) -> (Body, Self) {
        let body = Some(Timed::new(body, idle));
        let state = Mutex::new(State { body, failure: None, waker: None, given_up: false });
        let (moved, turn) = (AtomicU64::new(0), AtomicU8::new(Turn::Upstream as u8));
        let shared = Arc::new(Shared { started: Instant::now(), moved, turn, state });
        let sending = Sending { left: max.unwrap_or(u64::MAX), shared: Arc::clone(&shared) };
        (Body::boxed(sending), Self(shared))
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
        self.0.state().failure
    }

    /// Sends nothing more, because the answer is there: what the client still sends is left to whoever reads bodies
    /// away. The connection to the upstream, on which the answer comes, stays until the guard is dropped. `None` when
    /// everything was sent.
    pub(super) fn stop(&self) -> Option<Stopped> {
        if self.turn().0 == Turn::Answer {
            return None;
        }
        let body = self.0.state().body.take();
        body.map(|_| Stopped(Arc::clone(&self.0)))
    }
}

/// An upload that was stopped before its end. Dropping it gives the connection up, which could not be used again.
pub(super) struct Stopped(Arc<Shared>);

impl Drop for Stopped {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.0.state();
            state.given_up = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A request's body on its way to the upstream.
struct Sending {
    left: u64,
    shared: Arc<Shared>,
}

impl Sending {
    /// The next frame, or what ended the body.
    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.shared.state();
        let given_up = state.given_up;
        let polled = match &mut state.body {
            Some(body) => body.poll(context),
            None if given_up => Poll::Ready(Some(Err(BodyError::Unwanted))),
            None => Poll::Pending,
        };
        if polled.is_pending() && !state.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            state.waker = Some(context.waker().clone());
        }
        polled
    }

    fn fail(&self, error: BodyError) -> BoxError {
        self.shared.state().failure = Some(error);
        error.into()
    }

    fn is_over(&self) -> bool {
        self.shared.state().body.as_ref().is_some_and(Timed::is_end_stream)
    }
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        this.shared.turn(Turn::Client);
        // Trailers are not passed on (RFC 9110 6.5.1): nobody upstream asked for them, and they are no headers.
        let data = ready!(this.poll(context)).map(|frame| frame.map(Frame::into_data));
        Poll::Ready(match data {
            None | Some(Ok(Err(_))) => {
                this.shared.turn(Turn::Answer);
                None
            }
            Some(Err(error)) => Some(Err(this.fail(error))),
            Some(Ok(Ok(data))) => match this.left.checked_sub(data.len() as u64) {
                None => Some(Err(this.fail(BodyError::TooLarge))),
                Some(left) => {
                    this.left = left;
                    this.shared.turn(if this.is_over() { Turn::Answer } else { Turn::Upstream });
                    Some(Ok(Frame::data(data)))
                }
            },
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        self.shared.state().body.as_ref().map_or_else(SizeHint::default, Timed::size_hint)
    }
}
