//! A connection to an upstream, of whatever kind: one type, so that one pool serves them all.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

/// An open connection.
///
/// An upstream may answer an upload early and hang up. A write that fails then must not end the connection before what
/// the upstream said is read: so it passes for done, and what can or cannot be read decides how the request ended.
pub(super) struct Link {
    wire: Wire,
    /// The other side does not listen any more.
    deaf: bool,
}

enum Wire {
    /// With or without TLS; boxed, because the state of TLS is a kilobyte.
    Tcp(Box<MaybeHttpsStream<TokioIo<TcpStream>>>),
    Unix(TokioIo<UnixStream>),
}

impl Link {
    /// Over TCP, with or without TLS.
    pub(super) fn tcp(stream: MaybeHttpsStream<TokioIo<TcpStream>>) -> Self {
        Self { wire: Wire::Tcp(Box::new(stream)), deaf: false }
    }

    /// Over a unix socket.
    pub(super) fn unix(stream: UnixStream) -> Self {
        Self { wire: Wire::Unix(TokioIo::new(stream)), deaf: false }
    }

    /// The result of a write of `length` bytes.
    fn written(&mut self, length: usize, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(error)) if is_hang_up(&error) => {
                self.deaf = true;
                Poll::Ready(Ok(length))
            }
            written => written,
        }
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        match &self.wire {
            Wire::Tcp(stream) => stream.connected(),
            Wire::Unix(stream) => stream.connected(),
        }
    }
}

impl Read for Link {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Wire::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl Write for Link {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = match &mut this.wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        };
        this.written(bytes.len(), written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.deaf {
            return Poll::Ready(Ok(()));
        }
        let flushed = match &mut this.wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Wire::Unix(stream) => Pin::new(stream).poll_flush(context),
        };
        // TLS writes when it is flushed.
        this.written(0, flushed.map_ok(|()| 0)).map_ok(|_| ())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Tcp(stream) => stream.is_write_vectored(),
            Wire::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = slices.iter().map(|slice| slice.len()).sum();
        if this.deaf {
            return Poll::Ready(Ok(length));
        }
        let written = match &mut this.wire {
            Wire::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Wire::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        };
        this.written(length, written)
    }
}
