//! The life of an edit: notice, read, resolve, build, bind, publish. Whatever fails before the last step changes nothing,
//! and the last step cannot fail.

mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::config::{self, Listen, Log, Report, Severity};
use crate::mode::auth_code::Shared;
use crate::runtime::{Current, Lasting, Snapshot};
use crate::server::{Admin, Asked, Control, Listeners, Readiness, Reload, Standing};
use crate::session;
use crate::time::Clock;
use watch::{POLL, Watch};

/// How often sessions whose time is over are cleared away.
const SWEEP: Duration = Duration::from_secs(60);

/// How often open streams are held against the time of their sessions.
const WATCH: Duration = Duration::from_millis(500);

/// Applies `[log]` at start and at each reload.
pub type ApplyLog = Box<dyn Fn(&Log) + Send + Sync>;

/// What a process is started with.
pub struct Options {
    /// The configuration file.
    pub config_path: PathBuf,
    /// The clock; tests bring one that they can move.
    pub clock: Clock,
    /// Applies `[log]`.
    pub apply_log: ApplyLog,
}

/// Why a process did not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration cannot be used.
    Config(Box<Report>),
    /// A part cannot be built.
    Build(String),
    /// A listener cannot be bound.
    Bind(Listen, std::io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(report) => formatter.write_str(&report.render(Severity::Error, false)),
            Self::Build(why) => formatter.write_str(why),
            Self::Bind(listen, error) => write!(formatter, "cannot listen on {listen}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A running Vestibule.
pub struct Sidecar {
    house: Arc<House>,
    loops: TaskTracker,
}

/// What the loops and the listeners share.
struct House {
    config_path: PathBuf,
    apply_log: ApplyLog,
    current: Current,
    lasting: Lasting,
    readiness: Arc<Readiness>,
    standing: Arc<Standing>,
    listeners: Mutex<Listeners>,
    stop: CancellationToken,
}

impl Sidecar {
    /// Reads the configuration, binds, and serves. Needs no provider to be up.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let Options { config_path, clock, apply_log } = options;
        let loaded = load_first(&config_path)?;
        apply_log(&loaded.config.log);
        warn_of(&loaded.report);
        let followed = Followed::new(&config_path, &loaded.report);
        let config = Arc::new(loaded.config);
        let lasting = Lasting::new(&config, clock).map_err(StartError::Build)?;
        let snapshot = Snapshot::build(Arc::clone(&config), None, &lasting).map_err(StartError::Build)?;
        lasting.adopt(&snapshot);
        let current = Current::new(snapshot);
        let readiness = Arc::new(Readiness::default());
        let standing = Arc::new(Standing::new(config_path.clone(), &loaded.report, lasting.clock.now()));
        let admin = Admin::new(current.clone(), lasting.clone(), Arc::clone(&readiness), Arc::clone(&standing));
        let (control, asked) = Control::new(current.clone(), lasting.clone(), Arc::clone(&standing));
        let mut listeners = Listeners::new(current.clone(), lasting.clone(), (admin, control));
        let prepared = listeners
            .prepare(&current.load())
            .await
            .map_err(|(listen, error)| StartError::Bind(listen, error))?;
        listeners.commit(prepared);
        lasting.metrics.config_reload("success", lasting.clock.now());
        readiness.set_ready();
        let house = Arc::new(House {
            config_path,
            apply_log,
            current,
            lasting,
            readiness,
            standing,
            listeners: Mutex::new(listeners),
            stop: CancellationToken::new(),
        });
        let loops = TaskTracker::new();
        loops.spawn(follow(Arc::clone(&house), followed, asked));
        loops.spawn(sweep(Arc::clone(&house)));
        loops.spawn(watch_streams(Arc::clone(&house)));
        info!(config = %house.config_path.display(), version = env!("CARGO_PKG_VERSION"), poll_seconds = POLL.as_secs(), "started");
        Ok(Self { house, loops })
    }

    /// The bound address of each configured one; they differ where port 0 was asked for.
    pub async fn addresses(&self) -> BTreeMap<Listen, Listen> {
        self.house.listeners.lock().await.addresses()
    }

    /// What is running now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.house.current.load()
    }

    /// What outlives snapshots.
    #[must_use]
    pub fn lasting(&self) -> &Lasting {
        &self.house.lasting
    }

    /// Stops accepting, lets requests in flight finish within `drain_timeout`, then the work they left behind.
    pub async fn shutdown(self) {
        let drain = self.house.current.load().config.server.drain_timeout;
        info!(drain_seconds = drain.as_secs(), "shutting down");
        self.house.readiness.set_draining();
        self.house.stop.cancel();
        self.loops.close();
        self.loops.wait().await;
        self.house.lasting.shared.streams.close();
        let begun = Instant::now();
        self.house.listeners.lock().await.shutdown(drain).await;
        let tasks = &self.house.lasting.tasks;
        tasks.close();
        // A code exchange or a refresh that has begun gets what is left, and at least the time of one provider call.
        let rest = drain.saturating_sub(begun.elapsed()).max(Duration::from_secs(10));
        if tokio::time::timeout(rest, tasks.wait()).await.is_err() {
            warn!(tasks = tasks.len(), "unfinished work was left behind");
        }
        self.house.lasting.shared.sessions.close().await;
        info!("stopped");
    }
}

/// Reads the configuration, and makes the session key that it implies when there is none yet.
fn load_first(config_path: &Path) -> Result<config::Loaded, StartError> {
    let load = || config::load(config_path, &config::System).map_err(StartError::Config);
    let loaded = load()?;
    let Some(missing) = &loaded.config.sessions.missing_key else { return Ok(loaded) };
    session::make_key(missing).map_err(StartError::Build)?;
    info!(path = %missing.display(), "made a session key");
    load()
}

/// What is known of the files: which they are, what serves, and what was refused.
struct Followed {
    files: BTreeSet<PathBuf>,
    serving: u64,
    /// What was complained about last, so that a poll does not complain again.
    refused: Option<String>,
}

impl Followed {
    fn new(config_path: &Path, report: &Report) -> Self {
        let mut followed = Self { files: BTreeSet::new(), serving: report.sources().fingerprint, refused: None };
        followed.watch(config_path, report);
        followed
    }

    /// Whatever was read, or should have been, is watched: also while it is wrong, so that mending it is noticed.
    fn watch(&mut self, config_path: &Path, report: &Report) {
        self.files.clone_from(&report.sources().files);
        self.files.insert(config_path.to_owned());
    }
}

/// Follows the configuration until the process stops.
async fn follow(house: Arc<House>, mut followed: Followed, mut asked: mpsc::Receiver<Asked>) {
    let mut watch = Watch::new();
    let mut hangup = signal(SignalKind::hangup()).inspect_err(|error| warn!(%error, "SIGHUP is not heard")).ok();
    let mut waiting: Vec<Asked> = Vec::new();
    loop {
        watch.arm(&followed.files);
        let mut outcome = house.reload(&mut followed).await;
        // What was read may name further files: they are watched before anybody waits for them, and read once more for
        // what fell between.
        if watch.arm(&followed.files) {
            outcome = outcome.then(house.reload(&mut followed).await);
        }
        // Whoever asked while the files were read is answered by the next turn: they may have changed since.
        for tell in waiting.drain(..) {
            let _ = tell.send(outcome.clone());
        }
        tokio::select! {
            () = watch.changed() => {}
            () = heard(hangup.as_mut()) => info!("SIGHUP: reading the configuration"),
            Some(tell) = asked.recv() => waiting.push(tell),
            () = house.stop.cancelled() => return,
        }
        while let Ok(tell) = asked.try_recv() {
            waiting.push(tell);
        }
    }
}

/// The next signal; never, when there is none to hear.
async fn heard(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Clears ended sessions away.
async fn sweep(house: Arc<House>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            () = house.stop.cancelled() => return,
        }
        let idle_timeout = house.current.load().config.sessions.idle_timeout;
        match house.lasting.shared.sessions.sweep(idle_timeout, house.lasting.clock.now()).await {
            Ok(0) => {}
            Ok(ended) => info!(ended, "sessions expired"),
            Err(error) => warn!(%error, "sessions were not swept"),
        }
    }
}

/// Ends the streams of sessions whose time is over, and notes what clients say on streams as use of their sessions.
async fn watch_streams(house: Arc<House>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(WATCH) => {}
            () = house.stop.cancelled() => return,
        }
        let idle_timeout = house.current.load().config.sessions.idle_timeout;
        let Shared { sessions, streams, .. } = &house.lasting.shared;
        streams.watch(sessions, idle_timeout, house.lasting.clock.now()).await;
    }
}

impl House {
    /// Reads the files; where they say something new, it serves when this returns, or the log says why not.
    async fn reload(&self, followed: &mut Followed) -> Reload {
        let begun = Instant::now();
        let loaded = match config::load(&self.config_path, &config::System) {
            Ok(loaded) => loaded,
            Err(report) => {
                followed.watch(&self.config_path, &report);
                return self.refuse((report.headline(), report.render(Severity::Error, false)), followed);
            }
        };
        followed.watch(&self.config_path, &loaded.report);
        let fingerprint = loaded.report.sources().fingerprint;
        if fingerprint == followed.serving {
            if followed.refused.take().is_some() {
                info!("the refused edit was taken back");
                self.standing.is_as_written();
                self.lasting.metrics.config_reload("unchanged", self.lasting.clock.now());
            }
            return Reload::Unchanged;
        }
        let config = Arc::new(loaded.config);
        match self.apply(&config).await {
            Ok(()) => {
                followed.serving = fingerprint;
                followed.refused = None;
                warn_of(&loaded.report);
                self.standing.serves(&loaded.report, self.lasting.clock.now());
                self.lasting.metrics.config_reload("success", self.lasting.clock.now());
                let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                let path = self.config_path.display();
                info!(config = %path, milliseconds, routes = config.routes.len(), "configuration reloaded");
                Reload::Served
            }
            Err(why) => self.refuse((why.clone(), why), followed),
        }
    }

    async fn apply(&self, config: &Arc<config::Config>) -> Result<(), String> {
        let before = self.current.load();
        let snapshot = Snapshot::build(Arc::clone(config), Some(&before), &self.lasting)?;
        let mut listeners = self.listeners.lock().await;
        let prepared = listeners.prepare(&snapshot).await;
        let prepared = prepared.map_err(|(listen, error)| format!("cannot listen on {listen}: {error}"))?;
        // From here on nothing can fail: the new doors exist, and the pointer swaps in one step.
        self.lasting.adopt(&snapshot);
        self.current.publish(snapshot);
        listeners.commit(prepared);
        (self.apply_log)(&config.log);
        self.forget(&before.config, config);
        Ok(())
    }

    /// Removes the series of what is gone.
    fn forget(&self, before: &config::Config, after: &config::Config) {
        let metrics = &self.lasting.metrics;
        for name in before.routes.keys().filter(|name| !after.routes.contains_key(*name)) {
            metrics.forget_route(name.as_str());
        }
        for name in before.providers.keys().filter(|name| !after.providers.contains_key(*name)) {
            metrics.forget_provider(name.as_str());
        }
        let names = |config: &config::Config| -> BTreeSet<String> {
            let upstreams = config.routes.values().flat_map(|route| route.upstreams());
            upstreams.map(|upstream| upstream.name.to_string()).collect()
        };
        for name in names(before).difference(&names(after)) {
            metrics.forget_upstream(name);
        }
    }

    /// Says once why an edit does not serve: in a line where operators look, and whole in the log.
    fn refuse(&self, (headline, why): (String, String), followed: &mut Followed) -> Reload {
        if followed.refused.as_ref() != Some(&why) {
            error!(config = %self.config_path.display(), report = %why, "configuration refused, the old one stays");
            self.standing.refuses(headline, self.lasting.clock.now());
            self.lasting.metrics.config_reload("failure", self.lasting.clock.now());
            followed.refused = Some(why.clone());
        }
        Reload::Refused(why)
    }
}

/// Warnings of a configuration that serves.
fn warn_of(report: &Report) {
    for problem in report.problems().iter().filter(|problem| problem.severity() == Severity::Warning) {
        warn!(key = problem.key(), hint = problem.hint(), "{}", problem.message());
    }
}
