//! The program itself as a process of its own, for stories that a process does not survive.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Longest time to start or to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running `vestibule run`. Killed when it is dropped.
pub struct Process {
    child: Child,
    told: Arc<Told>,
}

/// What it logged so far.
#[derive(Default)]
struct Told {
    lines: Mutex<Lines>,
    news: Condvar,
}

#[derive(Default)]
struct Lines {
    text: String,
    /// What was bound, by what was asked for.
    bound: HashMap<String, SocketAddr>,
    started: bool,
    ended: bool,
}

impl Process {
    /// Starts the program with the config file at `path` and waits until its listeners are bound.
    pub fn start(path: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
        Self::launch(command.args(["run", "--config"]).arg(path).stdin(Stdio::null()).stdout(Stdio::null()))
    }

    /// The same under a service manager that has opened two sockets, and may listen at `notify`.
    pub fn start_managed(path: &Path, sockets: [OwnedFd; 2], notify: Option<&Path>) -> Self {
        // A shell puts the sockets where they are looked for: what Rust opens is closed in a child, but for its standard
        // streams.
        let script = "exec 3<&0 4<&1 0</dev/null 1>/dev/null; export LISTEN_PID=$$ LISTEN_FDS=2; exec \"$@\"";
        let [first, second] = sockets;
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "sh", env!("CARGO_BIN_EXE_vestibule"), "run", "--config"])
            .arg(path)
            .env("LISTEN_FDNAMES", "web:second");
        if let Some(notify) = notify {
            command.env("NOTIFY_SOCKET", notify).env("WATCHDOG_USEC", "1000000");
        }
        Self::launch(command.stdin(first).stdout(second))
    }

    fn launch(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let told = Arc::new(Told::default());
        let (stderr, listener) = (child.stderr.take().unwrap(), Arc::clone(&told));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                listener.hear(&line);
            }
            listener.lines.lock().unwrap().ended = true;
            listener.news.notify_all();
        });
        let process = Self { child, told };
        let lines = process.told.wait(|lines| lines.started || lines.ended);
        assert!(lines.started, "it does not start:\n{}", lines.text);
        drop(lines);
        process
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where a listener of the config file was bound.
    pub fn bound(&self, listen: &str) -> SocketAddr {
        *self.told.lines.lock().unwrap().bound.get(listen).expect("it listens there")
    }

    /// Its log.
    pub fn log(&self) -> String {
        self.told.lines.lock().unwrap().text.clone()
    }

    /// Waits until the log has `text`.
    pub fn says(&self, text: &str) {
        drop(self.told.wait(|lines| lines.text.contains(text)));
    }

    /// `kill -9`.
    pub fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.rest()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name]).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// SIGTERM; gives how it ended, and its log.
    pub fn stop(self) -> (ExitStatus, String) {
        self.signal("TERM");
        self.ended()
    }

    /// Waits for its end; gives how it ended, and its log.
    pub fn ended(mut self) -> (ExitStatus, String) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.rest());
            }
            assert!(begun.elapsed() < PATIENCE, "it does not stop:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The whole log of a process that has ended.
    fn rest(&self) -> String {
        self.told.wait(|lines| lines.ended).text.clone()
    }
}

impl Told {
    fn hear(&self, line: &str) {
        let mut lines = self.lines.lock().unwrap();
        lines.text.push_str(line);
        lines.text.push('\n');
        if let Ok(event) = serde_json::from_str::<serde_json::Value>(line) {
            match event["message"].as_str() {
                Some("listening") => {
                    let (listen, bound) = (event["listen"].as_str().unwrap(), event["bound"].as_str().unwrap());
                    if let Ok(bound) = bound.parse() {
                        lines.bound.insert(listen.to_owned(), bound);
                    }
                }
                Some("started") => lines.started = true,
                _ => {}
            }
        }
        drop(lines);
        self.news.notify_all();
    }

    fn wait(&self, done: impl Fn(&Lines) -> bool) -> std::sync::MutexGuard<'_, Lines> {
        let lines = self.lines.lock().unwrap();
        let (lines, waited) = self.news.wait_timeout_while(lines, PATIENCE, |lines| !done(lines)).unwrap();
        assert!(!waited.timed_out(), "waited in vain:\n{}", lines.text);
        lines
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already, where the story went as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
