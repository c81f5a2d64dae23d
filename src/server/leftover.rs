//! What is left of a request body that nobody read. Caddy 2.11 reads the rest of an upload that was answered early as
//! the next request; so a refusal first reads the body away, up to a limit, and beyond it closes the connection.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::web::{Body, BoxError};

/// How much is read away.
const MAX_BYTES: usize = 1024 * 1024;
/// How long that may take.
const MAX_TIME: Duration = Duration::from_secs(5);

type Slot = Arc<Mutex<State>>;

/// How far somebody has come with a body.
#[derive(Default)]
pub(super) enum State {
    /// Somewhere in it, perhaps still reading.
    #[default]
    Reading,
    /// To its end.
    Whole,
    /// It was dropped before.
    Left(Incoming),
}

/// Where a body that was dropped before its end can be found.
pub(super) enum Leftover {
    /// There was no body.
    None,
    /// There was one.
    Slot(Slot),
}

/// A body that leaves itself behind when it is dropped early.
struct Watched {
    incoming: Option<Incoming>,
    slot: Slot,
}

impl Leftover {
    /// Watches `incoming`.
    pub(super) fn watch(incoming: Incoming) -> (Self, Body) {
        if incoming.is_end_stream() {
            return (Self::None, Body::Empty);
        }
        let slot = Slot::default();
        let watched = Watched { incoming: Some(incoming), slot: Arc::clone(&slot) };
        (Self::Slot(slot), Body::boxed(watched))
    }

    /// Reads away what is left. False when there is, or may be, still something on its way.
    pub(super) async fn settle(self) -> bool {
        let Self::Slot(slot) = self else { return true };
        let state = std::mem::take(&mut *slot.lock().unwrap_or_else(PoisonError::into_inner));
        let mut incoming = match state {
            State::Whole => return true,
            State::Reading => return false,
            State::Left(incoming) => incoming,
        };
        let drain = async {
            let mut total = 0;
            while let Some(frame) = incoming.frame().await {
                let Ok(frame) = frame else { return false };
                total += frame.data_ref().map_or(0, Bytes::len);
                if total > MAX_BYTES {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(MAX_TIME, drain).await.unwrap_or(false)
    }
}

impl Watched {
    fn reached(&self, state: State) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *incoming).poll_frame(context).map_err(Into::into);
        if matches!(polled, Poll::Ready(None)) || incoming.is_end_stream() {
            self.reached(State::Whole);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(SizeHint::default, Incoming::size_hint)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take().filter(|incoming| !incoming.is_end_stream()) {
            self.reached(State::Left(incoming));
        }
    }
}
