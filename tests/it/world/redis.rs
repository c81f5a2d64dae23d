//! A real Redis server, or Sentinel, in a folder of its own: started, killed, started again.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::port;

/// The program, under whichever name Debian has it: the package `redis-tools` holds it without starting a service.
const PROGRAMS: &[&str] = &["/usr/bin/redis-server", "/usr/local/bin/redis-server", "/usr/bin/redis-check-rdb"];

/// A running server. It ends with the test.
pub struct RedisServer {
    folder: TempDir,
    port: u16,
    lines: Vec<String>,
    child: Option<Child>,
}

/// Whether this machine has Redis. `tests/run` sees to it; a plain `cargo test` may be without.
#[expect(clippy::print_stderr, reason = "what is skipped is said")]
pub fn is_here() -> bool {
    let here = program().is_some();
    assert!(here || std::env::var_os("CI").is_none(), "there is no Redis on this machine: install redis-tools");
    if !here {
        eprintln!("skipped: there is no Redis on this machine");
    }
    here
}

fn program() -> Option<PathBuf> {
    let named = std::env::var_os("REDIS_BIN").map(PathBuf::from);
    named.or_else(|| PROGRAMS.iter().map(PathBuf::from).find(|path| path.exists()))
}

impl RedisServer {
    /// A server that writes everything down before it answers, as one that keeps sessions should.
    pub fn start() -> Self {
        Self::with(&["appendonly yes", "appendfsync always"])
    }

    /// A server with these lines in its configuration.
    pub fn with(lines: &[&str]) -> Self {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        let mut server = Self { folder: TempDir::new().unwrap(), port: port::free().port(), lines, child: None };
        server.run();
        server
    }

    /// A server that speaks TLS alone, with the certificates of these lines, and whatever else they say.
    pub fn with_tls(lines: &[String]) -> Self {
        let port = port::free().port();
        let tls = ["port 0".to_owned(), format!("tls-port {port}")];
        let lines = [tls.as_slice(), lines].concat();
        let mut server = Self { folder: TempDir::new().unwrap(), port, lines, child: None };
        server.run();
        server
    }

    /// The URL without a user.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts it again after a [`kill`](Self::kill), with what it has written down.
    pub fn run(&mut self) {
        let config = self.folder.path().join("redis.conf");
        // Sentinel writes into its own.
        if !config.exists() {
            let own = [
                format!("port {}", self.port),
                "bind 127.0.0.1".to_owned(),
                format!("dir {}", self.folder.path().display()),
                "save \"\"".to_owned(),
            ];
            let is_sentinel = self.lines.iter().any(|line| line.starts_with("sentinel "));
            let own = own.iter().take(if is_sentinel { 3 } else { 4 });
            let text: String = own.chain(&self.lines).map(|line| format!("{line}\n")).collect();
            std::fs::write(&config, text).unwrap();
        }
        let mut command = Command::new(program().expect("Redis is here"));
        // The program asks its own name what it is to be.
        command.arg0("redis-server").arg(&config);
        if self.lines.iter().any(|line| line.starts_with("sentinel ")) {
            command.arg("--sentinel");
        }
        let log = File::create(self.folder.path().join("log")).unwrap();
        self.child = Some(command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null()).spawn().unwrap());
        let begun = Instant::now();
        while !self.answers() {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(10), "Redis does not start:\n{}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn answers(&self) -> bool {
        if self.lines.iter().any(|line| line.starts_with("tls-port")) {
            return TcpStream::connect(("127.0.0.1", self.port)).is_ok();
        }
        let answer = self.try_raw("PING\r\n").unwrap_or_default();
        answer.starts_with("+PONG") || answer.starts_with("-NOAUTH")
    }

    /// What the server answers to an inline command, as it stands on the wire.
    pub fn raw(&self, command: &str) -> String {
        self.try_raw(&format!("{command}\r\n")).expect("Redis answers")
    }

    fn try_raw(&self, command: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(command.as_bytes())?;
        // Everything is said; the server closes when it has answered.
        stream.shutdown(Shutdown::Write)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
