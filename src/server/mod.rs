//! Who is knocking: sockets, connections, the one door, and the listener for operators.

mod admin;
mod complaint;
mod connection;
mod control;
mod edge;
mod explain;
mod inherited;
mod hand;
mod leftover;
mod lines;
mod listener;
mod listeners;
mod pace;
mod standing;
mod verdict;

use std::net::{IpAddr, SocketAddr};

pub use admin::{Admin, Readiness};
pub use control::{Asked, Control, Reload};
pub use edge::Edge;
pub use explain::{Explained, Outcome, explain};
pub use inherited::Inherited;
pub use listener::{Bound, Running};
pub use listeners::{Connections, Listeners, Prepared};
pub use standing::Standing;
pub use verdict::Verdicts;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a unix socket, whose permissions decide who may come.
    Unix,
}

impl Peer {
    /// Its address, if it has one.
    #[must_use]
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }
}

#[cfg(test)]
mod tests;
