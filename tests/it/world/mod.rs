//! The kit: a world of provider, upstream, sidecar and browser on loopback, and what must hold after every story.
//!
//! ```ignore
//! let world = World::start().await;
//! world.browser.login("alice").await;
//! world.browser.get("/api/me").await.is(200);
//! world.finish().await;
//! ```

pub mod answer;
pub mod ask;
pub mod browser;
pub mod builder;
pub mod caddy;
pub mod canary;
pub mod jar;
pub mod live;
pub mod log;
pub mod observe;
mod oracle;
pub mod port;
pub mod process;
pub mod raw;
pub mod redis;
pub mod site;
pub mod toml;
pub mod upstream;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vestibule::config::Listen;
use vestibule::demo::provider::DemoProvider;
use vestibule::reload::{Managed, Options, Sidecar};
use vestibule::time::Clock;

use answer::Answer;
use browser::{Browser, Destination, Surroundings};
use builder::Builder;
use process::Process;
use raw::Raw;
use toml::Toml;
use upstream::EchoUpstream;

/// Where the routes of a world listen, as its config file says.
pub const ROUTES: &str = "127.0.0.1:0";

/// Where its metrics listen; another address, because one listener is one address and port.
const METRICS: &str = "127.0.0.2:0";

/// Provider, upstream, sidecar and browser.
pub struct World {
    /// The provider; drive it through its handle.
    pub provider: DemoProvider,
    /// The API behind `/api/`.
    pub upstream: EchoUpstream,
    /// A user's browser, without cookies yet.
    pub browser: Browser,
    /// The clock of all of them.
    pub clock: Clock,
    around: Surroundings,
    sidecar: Option<Sidecar>,
    /// The program in a process of its own, in the sidecar's place.
    process: Option<Process>,
    /// What processes before it logged.
    past: String,
    /// Sockets that stay open when a process ends, for the next one.
    held: Option<(std::net::TcpListener, UnixListener)>,
    toml: Mutex<Toml>,
    dir: TempDir,
    canary: String,
    panics: usize,
    finished: bool,
}

/// What came of an edit of the config file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The new one serves.
    Served,
    /// The old one still does.
    Refused,
}

impl World {
    /// A world with one auth-code route at `https://app.test`.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A world that differs from that.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Another browser, of another person or of a thief.
    pub fn new_browser(&self) -> Browser {
        Browser::new(self.around.clone())
    }

    /// Puts another host in front of the sidecar.
    pub async fn add_host(&self, host: &str, front_end: bool) {
        let sidecar = self.address().await;
        self.around.hosts.put(host, Destination::Caddy { sidecar, front_end });
    }

    /// Puts the same behind a balancer that ends TLS and does not tell.
    pub async fn add_balancer(&self, host: &str) {
        let sidecar = self.address().await;
        self.around.hosts.put(host, Destination::Balancer { sidecar });
    }

    /// Another process, as far as anybody can tell: a second sidecar on the same config file.
    pub async fn start_replica(&self) -> Sidecar {
        start_sidecar(&self.config_path(), &self.clock).await
    }

    /// From now on, the front end sends everything for app.test to `replica`; `None`: to the world's own sidecar.
    pub async fn balance_to(&self, replica: Option<&Sidecar>) {
        let Some(replica) = replica else { return self.add_host("app.test", true).await };
        let asked = Listen::Tcp(ROUTES.parse().unwrap());
        let Some(Listen::Tcp(sidecar)) = replica.addresses().await.get(&asked).cloned() else {
            panic!("the replica does not listen")
        };
        self.around.hosts.put("app.test", Destination::Caddy { sidecar, front_end: true });
    }

    /// Puts a server without anything in front on the browsers' map.
    pub fn add_server(&self, host: &str, address: SocketAddr) {
        self.around.hosts.put(host, Destination::Direct(address));
    }

    /// The running sidecar.
    pub fn sidecar(&self) -> &Sidecar {
        self.sidecar.as_ref().expect("the sidecar runs")
    }

    /// Where the routes are served.
    pub async fn address(&self) -> SocketAddr {
        match &self.held {
            Some((web, _)) => web.local_addr().unwrap(),
            None => self.bound(ROUTES).await,
        }
    }

    /// Where a listener of the config file was bound.
    pub async fn bound(&self, listen: &str) -> SocketAddr {
        if let Some(process) = &self.process {
            return process.bound(listen);
        }
        let asked = Listen::Tcp(listen.parse().unwrap());
        match self.sidecar().addresses().await.get(&asked) {
            Some(Listen::Tcp(address)) => *address,
            other => panic!("{listen} is bound to {other:?}"),
        }
    }

    /// A connection to the sidecar for bytes of one's own.
    pub async fn raw(&self) -> Raw {
        Raw::connect(self.address().await).await
    }

    /// A path of the metrics listener.
    pub async fn admin(&self, path: &str) -> Answer {
        let host = self.bound(METRICS).await;
        self.around.hosts.put(&host.to_string(), Destination::Direct(host));
        self.new_browser().navigate(&format!("http://{host}{path}")).without_metadata().stay().await
    }

    /// The sum of a metric's samples whose labels include all of `labels`; 0 when there is none.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = self.admin("/metrics").await.is(200).text();
        let wanted: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let samples = text.lines().filter(|line| {
            let rest = line.strip_prefix(name).unwrap_or("x");
            rest.starts_with([' ', '{']) && wanted.iter().all(|label| rest.contains(label.as_str()))
        });
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// The log of this world's time.
    pub fn log(&self) -> String {
        let process = self.process.as_ref().map(Process::log);
        [log::since(self.around.log_position), self.past.clone(), process.unwrap_or_default()].concat()
    }

    /// The lines of the log that say `what` of this world's config file.
    pub fn log_lines(&self, what: &str) -> Vec<String> {
        let path = self.config_path().display().to_string();
        let log = self.log();
        log.lines().filter(|line| line.contains(what) && line.contains(&path)).map(str::to_owned).collect()
    }

    /// The folder of the config file.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn config_path(&self) -> PathBuf {
        self.dir.path().join("vestibule.toml")
    }

    /// Replaces the config file in one step, and waits until the new one serves or was refused.
    pub async fn edit(&self, edit: impl FnOnce(&mut Toml) -> &mut Toml) -> Edit {
        let text = self.edited(edit);
        self.write(&text).await
    }

    /// The text of an edited config file, which somebody else is to write.
    pub fn edited(&self, edit: impl FnOnce(&mut Toml) -> &mut Toml) -> String {
        let mut toml = self.toml.lock().unwrap();
        edit(&mut toml);
        toml.render()
    }

    /// The same with a text of one's own.
    pub async fn write(&self, text: &str) -> Edit {
        let before = self.reloads().await;
        let path = self.config_path();
        let new = path.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &path).unwrap();
        let start = Instant::now();
        loop {
            let now = self.reloads().await;
            if now.0 > before.0 {
                return Edit::Served;
            }
            if now.1 > before.1 {
                return Edit::Refused;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "nobody noticed the edit:\n{text}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Reloads that served, and all others.
    async fn reloads(&self) -> (f64, f64) {
        let all = self.metric("vestibule_config_reloads_total", &[]).await;
        let refused = self.metric("vestibule_config_reloads_total", &[("result", "failure")]).await;
        (all - refused, refused)
    }

    /// Stops the sidecar and starts it again on the same files.
    pub async fn restart(&mut self) {
        self.leave().shutdown().await;
        self.enter().await;
    }

    /// Takes the sidecar out of the world, for a story of its end.
    pub fn leave(&mut self) -> Sidecar {
        self.sidecar.take().expect("the sidecar runs")
    }

    /// Starts a sidecar on the same files.
    pub async fn enter(&mut self) {
        self.sidecar = Some(start_sidecar(&self.config_path(), &self.clock).await);
        self.add_host("app.test", true).await;
    }

    /// From now on, the program in a process of its own takes the sidecar's place.
    pub async fn become_process(&mut self) {
        self.sidecar.take().expect("the sidecar runs").shutdown().await;
        let text = {
            let mut toml = self.toml.lock().unwrap();
            toml.text("log", "format", "json").text("log", "level", "debug").render()
        };
        std::fs::write(self.config_path(), text).unwrap();
        self.revive().await;
    }

    /// The same under a service manager that holds the sockets of routes and of verdicts.
    pub async fn become_managed_process(&mut self) {
        let path = self.dir().join("verdict.sock");
        let (web, verdicts) = (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
        self.edited(|toml| {
            toml.text("server", "listen", &web.local_addr().unwrap().to_string()).text(
                "server",
                "verdict_listen",
                &format!("unix:{}", path.display()),
            )
        });
        self.held = Some((web, verdicts));
        self.become_process().await;
    }

    /// The process.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("a process runs")
    }

    /// Kills the process with `kill -9`.
    pub fn kill(&mut self) {
        self.past.push_str(&self.process.take().expect("a process runs").kill());
    }

    /// Stops the process in order.
    pub async fn stop(&mut self) {
        let process = self.process.take().expect("a process runs");
        let (status, log) = tokio::task::spawn_blocking(|| process.stop()).await.unwrap();
        assert!(status.success(), "{status}:\n{log}");
        self.past.push_str(&log);
    }

    /// Starts a process on the same files. It reads the system's clock, and so does everything else from now on.
    pub async fn revive(&mut self) {
        self.clock.run();
        let path = self.config_path();
        let held = self.held.as_ref().map(|(web, verdicts)| -> [OwnedFd; 2] {
            [web.try_clone().unwrap().into(), verdicts.try_clone().unwrap().into()]
        });
        let start = move || match held {
            Some(sockets) => Process::start_managed(&path, sockets, None),
            None => Process::start(&path),
        };
        self.process = Some(tokio::task::spawn_blocking(start).await.unwrap());
        self.add_host("app.test", true).await;
    }

    /// Asserts that nothing is stuck: a clean login of a fresh browser succeeds within two seconds (G2).
    pub async fn still_works(&self) {
        self.provider.clear_mutations();
        let browser = self.new_browser();
        let login = tokio::time::timeout(Duration::from_secs(2), browser.login("alice")).await;
        assert!(login.is_ok(), "a clean login took more than two seconds\n{}", log::tail(self.around.log_position, 20));
        browser.get("/api/after").await.is(200);
    }

    /// Ends the story: stops everything in order, and asks the oracle.
    pub async fn finish(mut self) {
        self.finished = true;
        let found = oracle::judge(&self).await;
        if self.process.is_some() {
            self.stop().await;
            assert!(found.is_empty(), "\n{}\n", found.join("\n"));
            return;
        }
        let sidecar = self.sidecar.take().expect("the sidecar runs");
        let stopped = tokio::time::timeout(Duration::from_secs(20), sidecar.shutdown()).await;
        assert!(stopped.is_ok(), "the sidecar does not stop");
        assert!(found.is_empty(), "\n{}\n", found.join("\n"));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        assert!(self.finished || std::thread::panicking(), "the story was not finished: `world.finish().await`");
    }
}

/// Starts the sidecar as `main` would.
async fn start_sidecar(config_path: &Path, clock: &Clock) -> Sidecar {
    let options = Options {
        config_path: config_path.to_owned(),
        clock: clock.clone(),
        apply_log: Box::new(|_| {}),
        managed: Managed::default(),
    };
    match Sidecar::start(options).await {
        Ok(sidecar) => sidecar,
        Err(error) => panic!("the sidecar does not start: {error}"),
    }
}

/// Waits until `done`, at most ten seconds.
#[track_caller]
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < Duration::from_secs(10), "{place}: waited in vain for {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A name for one world that is in no other.
pub fn unique() -> String {
    let token = vestibule::web::token().unwrap();
    token.chars().filter(char::is_ascii_alphanumeric).take(16).collect()
}
