//! A demo that runs, and the proof that nothing of it is left when it does not.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use url::Url;
use vestibule::time::Clock;

use crate::world::browser::{Browser, Destination, Hosts, Surroundings};
use crate::world::{eventually, log};

/// All demos would rather have the same ports. One after the other, so that the end of one is not taken for the begin of
/// another.
pub static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A running demo.
pub struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
    /// What the browser opens.
    pub origin: String,
    /// The provider's issuer.
    pub issuer: String,
    _alone: tokio::sync::MutexGuard<'static, ()>,
}

/// The program with the arguments of a demo.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    command.arg("demo").args(arguments).env_remove("CADDY_BIN").stdin(Stdio::null()).kill_on_drop(true);
    command
}

impl Running {
    /// Starts it, and waits for the line to open.
    pub async fn start(arguments: &[&str]) -> Self {
        let alone = ALONE.lock().await;
        let mut child = command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        listen(child.stdout.take().unwrap(), &said);
        listen(child.stderr.take().unwrap(), &said);
        let demo = Self { child, said, origin: String::new(), issuer: String::new(), _alone: alone };
        eventually("the demo is open", || demo.said("Ctrl-C stops everything")).await;
        Self { origin: demo.word_after("browser:"), issuer: demo.word_after("provider").replace(';', ""), ..demo }
    }

    /// Whether it said `words` so far.
    pub fn said(&self, words: &str) -> bool {
        self.said.lock().unwrap().contains(words)
    }

    /// The word behind `label` in a line of its banner.
    pub fn word_after(&self, label: &str) -> String {
        let said = self.said.lock().unwrap().clone();
        let line = said.lines().find(|line| line.starts_with("  ") && line.contains(&format!("{label} ")));
        let rest = line.and_then(|line| line.split_once(label)).unwrap_or_else(|| panic!("no {label} in:\n{said}")).1;
        rest.split_whitespace().next().unwrap().to_owned()
    }

    /// The config file that it tells of.
    pub fn config(&self) -> PathBuf {
        PathBuf::from(self.word_after("Edit"))
    }

    /// A browser on this machine that has been nowhere yet.
    pub fn browser(&self) -> Browser {
        let around = Surroundings {
            hosts: Hosts::default(),
            clock: Clock::default(),
            transcript: Default::default(),
            log_position: log::position(),
            home: Url::parse(&self.origin).unwrap(),
            jars: Default::default(),
        };
        let browser = Browser::new(around);
        direct(&browser, &self.origin);
        direct(&browser, &self.issuer);
        browser
    }

    /// Sends a signal, as a person or a terminal would, and asserts that nothing is left. Gives its last words.
    pub async fn stop(mut self, signal: &str) -> String {
        let folder = self.config().parent().unwrap().to_owned();
        assert!(folder.is_dir(), "{} is not there", folder.display());
        let children = children(self.child.id().unwrap());
        assert_eq!(children.len(), 1, "Caddy, and nothing else: {children:?}");
        let pid = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status().await.unwrap();
        assert!(sent.success());
        let status = tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await;
        let status = status.expect("the demo does not stop").unwrap();
        assert!(status.success(), "SIG{signal}: {status}\n{}", self.said.lock().unwrap());
        eventually("its last words", || self.said("What to do next")).await;

        assert!(!folder.exists(), "{} is still there", folder.display());
        for child in children {
            assert!(!Path::new(&format!("/proc/{child}")).exists(), "process {child} still runs");
        }
        for url in [&self.origin, &self.issuer] {
            let port = Url::parse(url).unwrap().port().unwrap();
            assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "somebody still listens on {port}");
        }
        self.said.lock().unwrap().split_once("The demo is over").unwrap().1.to_owned()
    }
}

/// The processes that a process has started and that still run.
fn children(pid: u32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Keeps what a pipe says.
fn listen(pipe: impl AsyncRead + Unpin + Send + 'static, said: &Arc<Mutex<String>>) {
    let said = Arc::clone(said);
    tokio::spawn(async move {
        let mut lines = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            said.lock().unwrap().push_str(&format!("{line}\n"));
        }
    });
}

/// Puts a server of this machine on the map of a browser.
pub fn direct(browser: &Browser, url: &str) {
    let url = Url::parse(url).unwrap();
    let port = url.port().unwrap();
    let host = format!("{}:{port}", url.host_str().unwrap());
    browser.hosts().put(&host, Destination::Direct(([127, 0, 0, 1], port).into()));
}
