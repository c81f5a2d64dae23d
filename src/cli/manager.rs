//! The service manager, where there is one: sockets that it has opened for us, and what it is told of our life
//! (sd_notify(3), sd_listen_fds(3)). Without one, nothing here does anything.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tracing::{info, warn};

use crate::reload::Phase;
use crate::server::Inherited;

/// Takes over what the manager has opened. To be called while the process has one thread.
pub(super) fn inherited() -> Inherited {
    let mut inherited = Inherited::default();
    let names = std::env::var_os("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.to_string_lossy();
    let mut names = names.split(':');
    let mut sockets = ListenFd::from_env();
    for index in 0..sockets.len() {
        let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown").to_owned();
        if let Err(error) = take(&mut sockets, index, &mut inherited) {
            warn!(name, %error, "a socket of the service manager cannot be used");
        }
    }
    for address in inherited.addresses() {
        info!(%address, "the service manager holds this socket");
    }
    inherited
}

fn take(sockets: &mut ListenFd, index: usize, inherited: &mut Inherited) -> io::Result<()> {
    if let Ok(Some(unix)) = sockets.take_unix_listener(index) {
        return inherited.unix(unix);
    }
    match sockets.take_tcp_listener(index)? {
        Some(tcp) => inherited.tcp(tcp),
        None => Ok(()),
    }
}

/// Whom the manager listens through; `None` when there is none.
pub(super) struct Manager(Option<OsString>);

impl Manager {
    /// As the environment says.
    pub(super) fn of_environment() -> Self {
        Self(std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()))
    }

    /// How long the manager waits for a sign of life before it ends us; `None`: for ever.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.0.as_ref().and_then(|_| sd_notify::watchdog_enabled())
    }

    /// Tells the manager. One that cannot be reached is none.
    pub(super) fn tell(&self, phase: &Phase<'_>) {
        let Some(socket) = &self.0 else { return };
        let states = match phase {
            Phase::Ready(status) => vec![NotifyState::Ready, NotifyState::Status(status)],
            // Without the time, the manager would not know which of two reloads we speak of.
            Phase::Reloading => [Ok(NotifyState::Reloading), NotifyState::monotonic_usec_now()]
                .into_iter()
                .filter_map(Result::ok)
                .collect(),
            Phase::Stopping => vec![NotifyState::Stopping, NotifyState::Status("finishing what was begun")],
            Phase::Alive => vec![NotifyState::Watchdog],
        };
        let text: String = states.iter().map(|state| format!("{state}\n")).collect();
        let sent = address(socket).and_then(|address| UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address));
        if let Err(error) = sent {
            warn!(%error, "the service manager does not hear us");
        }
    }
}

/// A path, or behind an `@` a name in the abstract namespace.
fn address(socket: &OsString) -> io::Result<SocketAddr> {
    match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(socket),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let length = listener.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_manager_is_told_by_path_and_by_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("vestibule-test-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let abstract_name = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let by_name = UnixDatagram::bind_addr(&abstract_name).unwrap();
        for (socket, listener) in [(path.into_os_string(), by_path), (format!("@{name}").into(), by_name)] {
            let manager = Manager(Some(socket));
            manager.tell(&Phase::Ready("serving 2 routes"));
            assert_eq!(heard(&listener), "READY=1\nSTATUS=serving 2 routes\n");
            manager.tell(&Phase::Reloading);
            let reloading = heard(&listener);
            let (first, time) = reloading.trim_end().split_once('\n').unwrap();
            let time: u64 = time.strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
            assert!(first == "RELOADING=1" && time > 0);
            manager.tell(&Phase::Alive);
            assert_eq!(heard(&listener), "WATCHDOG=1\n");
            manager.tell(&Phase::Stopping);
            assert!(heard(&listener).starts_with("STOPPING=1\nSTATUS="));
        }
        Manager(Some("/no/such/socket".into())).tell(&Phase::Alive);
        Manager(None).tell(&Phase::Alive);
    }
}
