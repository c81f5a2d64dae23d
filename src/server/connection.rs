//! One connection from its first byte to its last: HTTP/1.1 only, bounded heads, no panic that ends more than its own
//! request.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::error::Reason;
use crate::server::Peer;
use crate::server::pace::{Gate, Paced, Patience, Seated};
use crate::web::{Body, BoxError};

/// The largest head, request line included (IN-2). The number of headers is bounded by hyper: 100.
const MAX_HEAD: usize = 32 * 1024;

/// The code of a refusal, as on every refused answer.
const VESTIBULE_ERROR: HeaderName = HeaderName::from_static("vestibule-error");

/// When a connection ends before its time.
#[derive(Clone, Debug, Default)]
pub(super) struct Signals {
    /// Finish what was begun, then close.
    pub(super) stop: CancellationToken,
    /// Close now.
    pub(super) cut: CancellationToken,
}

/// Serves one connection until it closes or `signals` end it.
pub(super) async fn serve<S, F, Fut>(
    stream: Seated<S>,
    peer: Peer,
    service: F,
    (patience, signals): (Patience, Signals),
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>, Peer) -> Fut,
    Fut: Future<Output = Result<Response<Body>, Infallible>>,
{
    let gate = Gate::new();
    let io = TokioIo::new(Paced::new(stream, Arc::clone(&gate), patience));
    let service = service_fn(|request: Request<Incoming>| {
        gate.begin();
        answer(request, &service, peer, Ending(Some(Arc::clone(&gate))))
    });
    let mut builder = http1::Builder::new();
    // Time is kept by `Paced`; the timer is for hyper's own small waits.
    builder.timer(TokioTimer::new()).header_read_timeout(None).max_header_size(MAX_HEAD);
    let mut connection = pin!(builder.serve_connection(io, service).with_upgrades());
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = signals.stop.cancelled() => {
            let farewell = async {
                tokio::select! {
                    biased;
                    ended = connection.as_mut() => return ended,
                    () = gate.closed(patience.linger) => {}
                }
                connection.as_mut().graceful_shutdown();
                connection.await
            };
            tokio::select! {
                ended = farewell => ended,
                () = signals.cut.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
}

/// The answer to one request, whatever the service does.
async fn answer<F, Fut>(
    request: Request<Incoming>,
    service: &F,
    peer: Peer,
    mut ending: Ending,
) -> Result<Response<Answer>, Infallible>
where
    F: Fn(Request<Incoming>, Peer) -> Fut,
    Fut: Future<Output = Result<Response<Body>, Infallible>>,
{
    let upgrades = request.headers().contains_key(UPGRADE);
    let mut response = if is_clear(request.headers()) {
        // Pinned where it is made: hyper moves this future once for each request, and every local that another future
        // passes through would make it larger by the size of that one.
        let mut answering = pin!(service(request, peer));
        match poll_fn(|context| unpanicked(|| answering.as_mut().poll(context))).await {
            Some(Ok(response)) => response,
            None => bare(Reason::Internal),
        }
    } else {
        bare(Reason::BadRequest)
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // What comes now is no head of a request, whatever it looks like.
        ending.0 = None;
    } else if upgrades || ending.0.as_ref().is_some_and(|gate| gate.is_closing()) {
        // The listener closes; or: what a client said too early, in a protocol that it did not get, must not be read as its next request.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| Answer { body, _ending: ending }))
}

/// Whether the body's length can be read in one way only (RFC 9112 6.1): `Transfer-Encoding` is `chunked`, once, or
/// absent. Beside it, hyper has already dropped a `Content-Length` and will close after the answer.
fn is_clear(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    encodings.next().is_none_or(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"chunked"))
        && encodings.next().is_none()
}

/// A refusal below the edge, which closes the connection: who asks is unknown or not to be believed.
fn bare(reason: Reason) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = reason.status();
    response.headers_mut().insert(VESTIBULE_ERROR, HeaderValue::from_static(reason.code()));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// What one poll of a service gave, or `None` when it panicked. It must not be polled again then, so that no half-changed
/// state of its own is seen; what it shares with others is behind locks whose poison is ignored on purpose, or swapped
/// whole. The panic itself was reported by the panic hook.
fn unpanicked<T>(poll: impl FnOnce() -> Poll<T>) -> Poll<Option<T>> {
    match catch_unwind(AssertUnwindSafe(poll)) {
        Ok(polled) => polled.map(Some),
        Err(_) => {
            tracing::error!("a request panicked");
            Poll::Ready(None)
        }
    }
}

/// Tells the connection that the request is over, however it ended.
struct Ending(Option<Arc<Gate>>);

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(gate) = &self.0 {
            gate.end();
        }
    }
}

/// A body that knows when its answer is over: hyper drops it with the last frame.
struct Answer {
    body: Body,
    _ending: Ending,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
