//! Sockets: bound first, so that a config that cannot bind changes nothing; served then; closed without losing what
//! was begun.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::config::Listen;
use crate::server::Peer;
use crate::server::connection::{self, Signals};
use crate::server::inherited::{self, Inherited};
use crate::server::pace::Patience;
use crate::web::Body;

/// Connections served at once on one listener. Further ones wait in the kernel's queue until others close; idle ones
/// do within minutes, silent ones within seconds.
const MAX_CONNECTIONS: usize = 16_384;

/// Length of the kernel's queue of connections that are not accepted yet.
const BACKLOG: u32 = 1024;

/// Longest pause after a failed accept, such as one without a free file descriptor.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// How long somebody behind an existing unix socket may take to answer before the socket counts as dead.
const ANSWER: Duration = Duration::from_secs(1);

/// How listeners treat connections; other than default only in tests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manners {
    pub(super) patience: Patience,
    pub(super) max_connections: usize,
}

impl Default for Manners {
    fn default() -> Self {
        Self { patience: Patience::default(), max_connections: MAX_CONNECTIONS }
    }
}

/// A socket that is bound and queues connections, but serves none yet. Dropping it closes it.
#[derive(Debug)]
pub struct Bound {
    socket: Arc<Socket>,
    address: Listen,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    /// The file is ours to remove, unless the socket was inherited.
    Unix {
        listener: UnixListener,
        path: PathBuf,
        file: Option<SocketFile>,
    },
}

impl Bound {
    /// Takes `listen` over from the service manager, or binds it, a unix socket with `mode`. Must be called within the runtime that will serve it.
    ///
    /// # Errors
    /// Whatever the system says; `AddrInUse` too when somebody answers behind an existing unix socket.
    pub async fn prepare(listen: &Listen, mode: u32, inherited: &Inherited) -> io::Result<Self> {
        if let Some(socket) = take_over(listen, mode, inherited) {
            return Ok(Self { socket: Arc::new(socket?), address: listen.clone() });
        }
        match listen {
            Listen::Tcp(address) => Self::listen(tcp(*address)?, *address),
            Listen::Unix(path) => {
                clear_stale(path).await?;
                let socket = UnixSocket::new_stream()?;
                socket.bind(path)?;
                let file = SocketFile::of(path)?;
                // Before it listens, nobody can connect: there is no moment with a mode that the umask chose.
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
                let listener = socket.listen(BACKLOG)?;
                let socket = Arc::new(Socket::Unix { listener, path: path.clone(), file: Some(file) });
                Ok(Self { socket, address: listen.clone() })
            }
        }
    }

    /// Binds `address` while `own`, which close when this one serves, have its port: all addresses instead of one, say.
    ///
    /// # Errors
    /// Whatever the system says.
    pub(super) fn prepare_beside(own: &[Self], address: SocketAddr) -> io::Result<Self> {
        let socket = tcp(address)?;
        socket.set_reuseport(true)?;
        let shared = own.iter().try_for_each(|own| own.share_port(true));
        let bound = shared.and_then(|()| Self::listen(socket, address));
        // For this moment and no longer, or another process of the same user could listen there, too.
        let alone = own.iter().chain(&bound).map(|one| one.share_port(false)).fold(Ok(()), io::Result::and);
        bound.and_then(|bound| alone.map(|()| bound))
    }

    fn listen(socket: TcpSocket, address: SocketAddr) -> io::Result<Self> {
        socket.bind(address)?;
        let socket = socket.listen(BACKLOG)?;
        let address = Listen::Tcp(socket.local_addr()?);
        Ok(Self { socket: Arc::new(Socket::Tcp(socket)), address })
    }

    fn share_port(&self, share: bool) -> io::Result<()> {
        match &*self.socket {
            Socket::Tcp(listener) => SockRef::from(listener).set_reuse_port(share),
            Socket::Unix { .. } => Ok(()),
        }
    }

    /// Where it listens, with the port that was picked for port 0.
    #[must_use]
    pub const fn address(&self) -> &Listen {
        &self.address
    }

    /// Gives a unix socket that served something else `mode`.
    ///
    /// # Errors
    /// The system's.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        match &*self.socket {
            Socket::Unix { path, file: None, .. } => inherited::keeps_out(path, mode),
            Socket::Unix { path, .. } => std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)),
            Socket::Tcp(_) => Ok(()),
        }
    }

    /// Begins to serve every connection with `service`. Cannot fail.
    pub fn commit<F, Fut>(self, service: F) -> Running
    where
        F: Fn(Request<Incoming>, Peer) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
    {
        self.commit_with(service, Manners::default())
    }

    pub(super) fn commit_with<F, Fut>(self, service: F, manners: Manners) -> Running
    where
        F: Fn(Request<Incoming>, Peer) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
    {
        let socket = Arc::downgrade(&self.socket);
        let running = Running { socket, address: self.address, signals: Signals::default(), tasks: TaskTracker::new() };
        let (signals, tasks) = (running.signals.clone(), running.tasks.clone());
        running.tasks.spawn(accept(self.socket, service, manners, (signals, tasks)));
        running
    }
}

/// A socket of the family of `address`.
fn tcp(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of a former process that linger in TIME_WAIT must not keep this one from starting.
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

/// The socket for `listen` that the service manager holds, if it does.
fn take_over(listen: &Listen, mode: u32, inherited: &Inherited) -> Option<io::Result<Socket>> {
    match listen {
        Listen::Tcp(address) => inherited.at(*address).map(|listener| listener.map(Socket::Tcp)),
        Listen::Unix(path) => inherited.behind(path).map(|listener| {
            inherited::keeps_out(path, mode)?;
            Ok(Socket::Unix { listener: listener?, path: path.clone(), file: None })
        }),
    }
}

/// A listener at work. Dropping it stops it as [`close`](Self::close) does, without waiting.
#[derive(Debug)]
pub struct Running {
    /// Held by those who accept on it: it closes with the last of them.
    socket: Weak<Socket>,
    address: Listen,
    signals: Signals,
    tasks: TaskTracker,
}

impl Running {
    /// What counts its connections, and one more while it accepts.
    pub(super) fn connections(&self) -> TaskTracker {
        self.tasks.clone()
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> &Listen {
        &self.address
    }

    /// The same socket once more, for somebody else to serve: whoever waits in its queue is not lost. `None` once it is
    /// closed.
    #[must_use]
    pub fn shared(&self) -> Option<Bound> {
        let socket = self.socket.upgrade()?;
        Some(Bound { socket, address: self.address.clone() })
    }

    /// Stops accepting, closes idle connections, lets requests finish for at most `within`, and cuts the rest.
    pub async fn close(self, within: Duration) {
        self.signals.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(within, self.tasks.wait()).await.is_err() {
            tracing::warn!(address = %self.address, "requests were cut off: they did not finish in time");
            self.signals.cut.cancel();
            self.tasks.wait().await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signals.stop.cancel();
    }
}

/// Accepts until told to stop.
async fn accept<F, Fut>(socket: Arc<Socket>, service: F, manners: Manners, (signals, tasks): (Signals, TaskTracker))
where
    F: Fn(Request<Incoming>, Peer) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    let seats = Arc::new(Semaphore::new(manners.max_connections));
    let mut pause = Duration::ZERO;
    while !signals.stop.is_cancelled() {
        let next = async {
            let seat = seat(&seats).await;
            (socket.accept().await, seat)
        };
        let (accepted, seat) = tokio::select! {
            () = signals.stop.cancelled() => return,
            next = next => next,
        };
        match accepted {
            Ok(accepted) => {
                pause = Duration::ZERO;
                // A child of the signal for each connection: they do not meet at one lock.
                let signals = Signals { stop: signals.stop.child_token(), cut: signals.cut.clone() };
                let service = service.clone();
                tasks.spawn(accepted.serve(seat, service, (manners.patience, signals)));
            }
            Err(error) => {
                pause = (pause * 2).clamp(Duration::from_millis(10), MAX_PAUSE);
                tracing::warn!(%error, "accepting a connection failed");
                tokio::select! {
                    () = signals.stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}

async fn seat(seats: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    if let Ok(seat) = Arc::clone(seats).try_acquire_owned() {
        return Some(seat);
    }
    tracing::warn!("all connections are taken; new ones wait until others close");
    Arc::clone(seats).acquire_owned().await.ok()
}

enum Accepted {
    Tcp(tokio::net::TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Socket {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Fails only on a connection that is already dead, which its first read will tell.
                let _ = stream.set_nodelay(true);
                Ok(Accepted::Tcp(stream, peer))
            }
            Self::Unix { listener, .. } => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

impl Accepted {
    async fn serve<F, Fut>(self, seat: Option<OwnedSemaphorePermit>, service: F, terms: (Patience, Signals))
    where
        F: Fn(Request<Incoming>, Peer) -> Fut,
        Fut: Future<Output = Result<Response<Body>, Infallible>>,
    {
        match self {
            Self::Tcp(stream, peer) => connection::serve((stream, seat), Peer::Tcp(peer), service, terms).await,
            Self::Unix(stream) => connection::serve((stream, seat), Peer::Unix, service, terms).await,
        }
    }
}

/// The file of a unix socket; removed with the listener, unless somebody has put another one in its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Removes a socket that a dead process left behind. Anything else at the path stays, and binding will fail.
async fn clear_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        _ => return Ok(()),
    }
    match tokio::time::timeout(ANSWER, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers on this socket")),
    }
}
