//! Ports for programs that cannot choose one themselves.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// An address on loopback where nobody listens. It is none of those that the system chooses (`ip_local_port_range` begins at
/// 32768), so that nobody else gets it before it is used, or while whoever had it is down.
pub fn free() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = (std::process::id() % 400) * 50;
    loop {
        let number = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(10_000 + (own + number) % 20_000).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
