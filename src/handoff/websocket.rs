//! WebSocket (RFC 6455): the handshake passes like any request, and after 101 bytes go both ways, unread, until one
//! side ends, both are silent for too long, or the session ends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Method, request, response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::error::{Reason, Refusal};
use crate::metrics::InFlight;
use crate::session::Stream;

/// How long the 101 may take to its reader.
const OPENING: Duration = Duration::from_secs(30);

/// Whether the client asks for a WebSocket.
///
/// # Errors
/// A [`Refusal`] for a handshake that is none, and for any other protocol than those that clients offer everywhere and
/// go on without (`h2c`, RFC 9110 7.8).
pub(super) fn is_asked(head: &request::Parts) -> Result<bool, Refusal> {
    if !head.headers.contains_key(UPGRADE) || !has(&head.headers, &CONNECTION, b"upgrade") {
        return Ok(false);
    }
    if !has(&head.headers, &UPGRADE, b"websocket") {
        let refused = members(&head.headers, &UPGRADE).any(|protocol| !protocol.eq_ignore_ascii_case(b"h2c"));
        return if refused { Err(Refusal::new(Reason::UpgradeUnsupported)) } else { Ok(false) };
    }
    let keys = head.headers.get_all(SEC_WEBSOCKET_KEY).iter().count();
    if head.method != Method::GET || keys != 1 {
        return Err(Refusal::new(Reason::BadRequest).because("no WebSocket handshake"));
    }
    Ok(true)
}

/// Whether the upstream switches to what it was asked for.
pub(super) fn is_granted(head: &response::Parts) -> bool {
    has(&head.headers, &CONNECTION, b"upgrade") && has(&head.headers, &UPGRADE, b"websocket")
}

/// Says on this hop, too, that the protocol changes.
pub(super) fn mark(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

fn has(headers: &HeaderMap, name: &HeaderName, wanted: &[u8]) -> bool {
    members(headers, name).any(|member| member.eq_ignore_ascii_case(wanted))
}

fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).iter();
    lines.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// A tunnel about to open.
pub(super) struct Tunnel {
    /// The client's side, which opens when the 101 is written.
    pub(super) client: OnUpgrade,
    /// The upstream's side.
    pub(super) upstream: OnUpgrade,
    /// Its entry among the open streams.
    pub(super) stream: Stream,
    /// Longest silence of both.
    pub(super) idle: Duration,
    /// The count that it is part of.
    pub(super) counted: Option<InFlight>,
}

impl Tunnel {
    /// Carries bytes until the end. Dropping both sides closes them.
    pub(super) async fn run(self) {
        let Self { client, upstream, stream, idle, counted: _counted } = self;
        tokio::select! {
            ended = carry((client, upstream), stream.spoke(), idle) => {
                tracing::debug!(?ended, "WebSocket ended");
            }
            () = stream.cut() => tracing::debug!("WebSocket cut"),
        }
    }
}

async fn carry((client, upstream): (OnUpgrade, OnUpgrade), spoke: &Arc<AtomicBool>, idle: Duration) -> io::Result<()> {
    let opening = async { tokio::try_join!(client, upstream).map_err(io::Error::other) };
    let (client, upstream) = tokio::time::timeout(OPENING, opening).await??;
    let (began, moved) = (Instant::now(), AtomicU64::new(0));
    let mut client = Heard { side: TokioIo::new(client), spoke, began, moved: &moved };
    let mut upstream = TokioIo::new(upstream);
    let silent = async {
        // Looked at once in a while, so that a frame costs no timer.
        let mut last = began;
        while Instant::now() < last + idle {
            tokio::time::sleep_until(last + idle).await;
            last = began + Duration::from_millis(moved.load(Ordering::Relaxed));
        }
    };
    tokio::select! {
        carried = tokio::io::copy_bidirectional(&mut client, &mut upstream) => carried.map(|_| ()),
        () = silent => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// The client's side, which notes when bytes pass, and when they are the client's own words.
struct Heard<'a> {
    side: TokioIo<Upgraded>,
    spoke: &'a AtomicBool,
    began: Instant,
    /// Milliseconds after `began` of the last byte, either way.
    moved: &'a AtomicU64,
}

impl Heard<'_> {
    fn moved(&self) {
        let moved = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(moved, Ordering::Relaxed);
    }
}

impl AsyncRead for Heard<'_> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.side).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            this.spoke.store(true, Ordering::Relaxed);
            this.moved();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Heard<'_> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.side).poll_write(context, bytes));
        this.moved();
        Poll::Ready(written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().side).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().side).poll_shutdown(context)
    }
}
