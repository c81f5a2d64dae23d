//! The processes that take part: this program in other roles, and Vestibule as it is released.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::instructions;

/// A process that ends with this.
pub(crate) struct Process(Child);

impl Process {
    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How `program` is started: as it is, or so that its instructions are counted into `profile`.
fn command(program: impl AsRef<OsStr>, profile: Option<&Path>) -> Command {
    let Some(profile) = profile else { return Command::new(program) };
    let [valgrind, tool] = instructions::COUNTED;
    let mut command = Command::new(valgrind);
    command
        .arg(tool)
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg("--quiet")
        .arg(program.as_ref());
    command
}

/// Starts this program in another role and waits for its port.
pub(crate) fn role(words: &[&str], profile: Option<&Path>) -> (Process, SocketAddr) {
    let mut command = command(std::env::current_exe().unwrap(), profile);
    let mut child = command.arg("role").args(words).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Process(child), SocketAddr::from(([127, 0, 0, 1], line.trim().parse().unwrap())))
}

/// Starts Vestibule itself, as released, and waits until it listens at `addresses`.
pub(crate) fn vestibule(config: &Path, addresses: &[SocketAddr], profile: Option<&Path>) -> Process {
    let mut command = command(env!("CARGO_BIN_EXE_vestibule"), profile);
    let command = command.arg("run").arg("--config").arg(config).stdout(Stdio::null());
    let process = Process(command.spawn().unwrap());
    let begun = Instant::now();
    while !addresses.iter().all(|address| TcpStream::connect(address).is_ok()) {
        assert!(begun.elapsed() < Duration::from_secs(60), "vestibule does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    process
}

/// An address that is free now.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap().local_addr().unwrap()
}
