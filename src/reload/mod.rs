//! The life of an edit: notice, read, resolve, build, bind, publish. Whatever fails before the last step changes nothing,
//! and the last step cannot fail.

mod drain;
mod house;
mod managed;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, mpsc};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::config::{self, Listen, Log, Report, Severity};
use crate::runtime::{Current, Lasting, Snapshot};
use crate::server::{Admin, Asked, Control, Listeners, Readiness, Standing};
use crate::session;
use crate::time::Clock;
use house::{Followed, House, WATCH, warn_of};
pub use managed::{Managed, Phase, Tell};
use watch::{POLL, Watch};

/// How often sessions whose time is over are cleared away.
const SWEEP: Duration = Duration::from_secs(60);

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
    /// The service manager.
    pub managed: Managed,
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
    /// What tells the service manager that the process lives.
    alive: Option<AbortHandle>,
}

impl Sidecar {
    /// Reads the configuration, binds, and serves. Needs no provider to be up.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let Options { config_path, clock, apply_log, managed } = options;
        let Managed { inherited, tell, watchdog } = managed;
        // From the very beginning: whoever is not heard yet ends the process.
        let hangup = signal(SignalKind::hangup()).inspect_err(|error| warn!(%error, "SIGHUP is not heard")).ok();
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
        let mut listeners = Listeners::new(current.clone(), lasting.clone(), (admin, control), inherited);
        let prepared = listeners
            .prepare(&current.load())
            .await
            .map_err(|(listen, error)| StartError::Bind(listen, error))?;
        listeners.commit(prepared);
        listeners.warn_of_unserved();
        lasting.metrics.config_reload("success", lasting.clock.now());
        readiness.set_ready();
        let house = Arc::new(House {
            config_path,
            apply_log,
            tell,
            current,
            lasting,
            readiness,
            standing,
            listeners: Mutex::new(listeners),
            stop: CancellationToken::new(),
        });
        let loops = TaskTracker::new();
        loops.spawn(follow(Arc::clone(&house), followed, (asked, hangup)));
        loops.spawn(sweep(Arc::clone(&house)));
        loops.spawn(watch_streams(Arc::clone(&house)));
        // Not one of the loops: it goes on until the very end.
        let alive = watchdog.map(|wait| tokio::spawn(live(Arc::clone(&house), wait)).abort_handle());
        info!(config = %house.config_path.display(), version = env!("CARGO_PKG_VERSION"), poll_seconds = POLL.as_secs(), "started");
        house.is_ready();
        Ok(Self { house, loops, alive })
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

    /// Clears away what is over. A loop does so every minute; tests that move the clock do not wait for it.
    pub async fn sweep(&self) {
        self.house.sweep().await;
    }

    /// Stops accepting, lets requests in flight finish within `drain_timeout`, then the work they left behind, closes the
    /// store, and last the streams.
    pub async fn shutdown(self) {
        let drain = self.house.current.load().config.server.drain_timeout;
        info!(drain_seconds = drain.as_secs(), "shutting down");
        self.house.readiness.set_draining();
        (self.house.tell)(&Phase::Stopping);
        self.house.stop.cancel();
        self.loops.close();
        self.loops.wait().await;
        drain::all(&self.house).await;
        if let Some(alive) = self.alive {
            alive.abort();
        }
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

/// Follows the configuration until the process stops.
async fn follow(
    house: Arc<House>,
    mut followed: Followed,
    (mut asked, mut hangup): (mpsc::Receiver<Asked>, Option<Signal>),
) {
    let mut watch = Watch::new();
    let mut waiting: Vec<Asked> = Vec::new();
    let mut is_asked = false;
    loop {
        watch.arm(&followed.files);
        let was_asked = std::mem::take(&mut is_asked);
        if was_asked {
            (house.tell)(&Phase::Reloading);
        }
        let mut outcome = house.reload(&mut followed).await;
        // What was read may name further files: they are watched before anybody waits for them, and read once more for
        // what fell between.
        if watch.arm(&followed.files) {
            outcome = outcome.then(house.reload(&mut followed).await);
        }
        if was_asked {
            house.is_ready();
        }
        // Whoever asked while the files were read is answered by the next turn: they may have changed since.
        for tell in waiting.drain(..) {
            let _ = tell.send(outcome.clone());
        }
        tokio::select! {
            () = watch.changed() => {}
            () = heard(hangup.as_mut()) => {
                info!("SIGHUP: reading the configuration");
                is_asked = true;
            }
            Some(tell) = asked.recv() => waiting.push(tell),
            () = house.stop.cancelled() => return,
        }
        while let Ok(tell) = asked.try_recv() {
            waiting.push(tell);
        }
    }
}

/// Tells the service manager that the process is not stuck, twice in the time that it waits for that.
async fn live(house: Arc<House>, wait: Duration) {
    loop {
        (house.tell)(&Phase::Alive);
        tokio::time::sleep(wait / 2).await;
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

/// Clears away what is over, every minute.
async fn sweep(house: Arc<House>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => house.sweep().await,
            () = house.stop.cancelled() => return,
        }
    }
}

/// Looks after streams; when the process goes down, `drain` does.
async fn watch_streams(house: Arc<House>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(WATCH) => {}
            () = house.stop.cancelled() => return,
        }
        // To its end: what a client has said is taken down only once.
        house.look_at_streams().await;
    }
}
