//! Sockets that a service manager opened before us (systemd's socket activation). They stay open while we restart:
//! whoever connects meanwhile waits in their queue and is served by the next process.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::config::Listen;

/// All that were handed over. They are matched with the configuration by their addresses, and kept for the life of the
/// process, so that a listener which a reload takes away can come back.
#[derive(Debug, Default)]
pub struct Inherited {
    tcp: Vec<(SocketAddr, std::net::TcpListener)>,
    unix: Vec<(PathBuf, UnixListener)>,
}

impl Inherited {
    /// Takes a TCP socket in.
    ///
    /// # Errors
    /// The system's, when it has no address.
    pub fn tcp(&mut self, listener: std::net::TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        self.tcp.push((listener.local_addr()?, listener));
        Ok(())
    }

    /// Takes a unix socket in.
    ///
    /// # Errors
    /// The system's; `InvalidInput` when it has no path, since no configuration can name it.
    pub fn unix(&mut self, listener: UnixListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let path =
            address.as_pathname().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no path"))?;
        self.unix.push((path.to_owned(), listener));
        Ok(())
    }

    /// Their addresses.
    pub fn addresses(&self) -> impl Iterator<Item = Listen> {
        let tcp = self.tcp.iter().map(|(address, _)| Listen::Tcp(*address));
        tcp.chain(self.unix.iter().map(|(path, _)| Listen::Unix(path.clone())))
    }

    /// The TCP socket at `address`, to be served.
    pub(super) fn at(&self, address: SocketAddr) -> Option<io::Result<tokio::net::TcpListener>> {
        let (_, listener) = self.tcp.iter().find(|(held, _)| *held == address)?;
        Some(listener.try_clone().and_then(tokio::net::TcpListener::from_std))
    }

    /// The unix socket at `path`, to be served.
    pub(super) fn behind(&self, path: &Path) -> Option<io::Result<tokio::net::UnixListener>> {
        let (_, listener) = self.unix.iter().find(|(held, _)| held == path)?;
        Some(listener.try_clone().and_then(tokio::net::UnixListener::from_std))
    }
}

/// Whoever made a socket has set its mode, and we may not be able to change it. Where it should keep others out, it must.
pub(super) fn keeps_out(path: &Path, mode: u32) -> io::Result<()> {
    let found = std::fs::metadata(path)?.permissions().mode() & 0o777;
    if mode == 0o600 && found & 0o077 != 0 {
        let why = format!("the service manager made this socket with mode {found:03o}; set SocketMode=0600 for it");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(())
}
