//! Who is knocking: sockets, connections, and the listener for operators.

mod connection;
mod lines;
mod listener;
mod pace;

use std::net::SocketAddr;

pub use listener::{Bound, Running};

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a unix socket, whose permissions decide who may come.
    Unix,
}

#[cfg(test)]
mod tests;
