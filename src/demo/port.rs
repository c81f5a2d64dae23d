//! Free ports, for those who must be told theirs before they listen.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use super::Trouble;

/// Ports that are held until all are known, so that they differ. Nobody can hand a held port to another program, so
/// between the release and the other's bind it is free for anybody; on a developer's machine that is good enough.
#[derive(Default)]
pub(super) struct Ports(Vec<TcpListener>);

impl Ports {
    /// Exactly this port.
    ///
    /// # Errors
    /// [`Trouble::Port`] when it is not free.
    pub(super) fn exactly(&mut self, port: u16) -> Result<u16, Trouble> {
        self.hold(port).map_err(|error| Trouble::Port(port, error))
    }

    /// This port, or any other that is free.
    ///
    /// # Errors
    /// [`Trouble::System`] when there is no free port at all.
    pub(super) fn rather(&mut self, port: u16) -> Result<u16, Trouble> {
        self.hold(port)
            .or_else(|_| self.hold(0))
            .map_err(|error| Trouble::System("find a free port", error))
    }

    fn hold(&mut self, port: u16) -> io::Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let port = listener.local_addr()?.port();
        // A browser asks `localhost` by IPv6 first: whoever has the port there would get our visitors.
        let other = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        if let Err(error) = TcpListener::bind(other)
            && error.kind() == io::ErrorKind::AddrInUse
        {
            return Err(error);
        }
        self.0.push(listener);
        Ok(port)
    }
}
