//! Bodies on their way through: timed, and cut when that on which they depend has ended.

use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::handoff::upload::Stopped;
use crate::metrics::InFlight;
use crate::session::Stream;
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
    /// Nobody wants the rest: the answer is already there.
    Unwanted,
    /// The session that it belongs to has ended, or the process is going down.
    Cut,
}

impl fmt::Display for BodyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Silent => "nothing came for too long",
            Self::TooLarge => "the body is larger than the limit",
            Self::Broken => "the connection broke",
            Self::Unwanted => "the answer came before the end of the body",
            Self::Cut => "the session has ended",
        })
    }
}

impl std::error::Error for BodyError {}

/// A body whose silence has a limit. The timer exists only while something is waited for, so that a body that is
/// already there costs none.
pub(super) struct Timed {
    inner: Body,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Timed {
    pub(super) const fn new(inner: Body, limit: Duration) -> Self {
        Self { inner, limit, timer: None }
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            self.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(|_| BodyError::Broken)));
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer.as_mut().poll(context).map(|()| Some(Err(BodyError::Silent)))
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body on its way to the client.
pub(super) struct Download {
    body: Timed,
    /// Present on a stream.
    open: Option<Open>,
    /// The upload that this is the early answer to; it ends with the answer.
    _stopped: Option<Stopped>,
}

/// What makes an answer a stream: it is counted, and it can be cut.
pub(super) struct Open {
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _stream: Stream,
    _counted: Option<InFlight>,
}

impl Open {
    pub(super) fn new(stream: Stream, counted: Option<InFlight>) -> Self {
        Self { cut: Box::pin(stream.cut()), _stream: stream, _counted: counted }
    }
}

impl Download {
    /// Wraps `body`; `idle` is the longest silence.
    pub(super) fn wrap(body: Body, idle: Duration, open: Option<Open>, stopped: Option<Stopped>) -> Body {
        if body.is_end_stream() {
            return Body::Empty;
        }
        Body::boxed(Self { body: Timed::new(body, idle), open, _stopped: stopped })
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Some(open) = &mut this.open
            && open.cut.as_mut().poll(context).is_ready()
        {
            // As an error, never as an end: nobody may take what has come so far for the whole.
            return Poll::Ready(Some(Err(BodyError::Cut.into())));
        }
        this.body.poll(context).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
