//! One reading of the configuration, and what follows from it: it serves, or everything stays as it was.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{self, Effect, Report, Severity};
use crate::mode::auth_code::Shared;
use crate::reload::{ApplyLog, Phase, Tell};
use crate::runtime::{Current, Lasting, Snapshot};
use crate::server::{Listeners, Readiness, Reload, Standing};
use crate::session;
use crate::time;

/// How often open streams are held against the time of their sessions.
pub(super) const WATCH: Duration = Duration::from_millis(500);

/// What the loops and the listeners share.
pub(super) struct House {
    pub(super) config_path: PathBuf,
    pub(super) apply_log: ApplyLog,
    pub(super) tell: Tell,
    pub(super) current: Current,
    pub(super) lasting: Lasting,
    pub(super) readiness: Arc<Readiness>,
    pub(super) standing: Arc<Standing>,
    pub(super) listeners: Mutex<Listeners>,
    pub(super) stop: CancellationToken,
}

/// What is known of the files: which they are, what serves, and what was refused.
pub(super) struct Followed {
    pub(super) files: BTreeSet<PathBuf>,
    serving: u64,
    /// What was complained about last, so that a poll does not complain again.
    refused: Option<String>,
}

impl Followed {
    pub(super) fn new(config_path: &Path, report: &Report) -> Self {
        let mut followed = Self { files: BTreeSet::new(), serving: report.sources().fingerprint, refused: None };
        followed.watch(config_path, report);
        followed
    }

    /// How many milliseconds ago the last of the files was saved. By the time of its inode, which a rename changes too:
    /// an editor may have written it long before it took the name, and `mv` keeps the other time.
    fn since_save(&self) -> Option<u64> {
        let stamps = self.files.iter().flat_map(|file| [file.symlink_metadata(), file.metadata()]);
        let stamps = stamps.flatten().filter_map(|metadata| {
            let seconds = Duration::from_secs(u64::try_from(metadata.ctime()).ok()?);
            Some(SystemTime::UNIX_EPOCH + seconds + Duration::from_nanos(u64::try_from(metadata.ctime_nsec()).ok()?))
        });
        stamps.max().map(|saved| milliseconds(time::age(saved)))
    }

    /// Whatever was read, or should have been, is watched: also while it is wrong, so that mending it is noticed.
    fn watch(&mut self, config_path: &Path, report: &Report) {
        self.files.clone_from(&report.sources().files);
        self.files.insert(config_path.to_owned());
    }
}

impl House {
    /// Reads the files; where they say something new, it serves when this returns, or the log says why not.
    pub(super) async fn reload(&self, followed: &mut Followed) -> Reload {
        let begun = Instant::now();
        let loaded = match config::load(&self.config_path, &config::System) {
            Ok(loaded) => loaded,
            Err(report) => {
                followed.watch(&self.config_path, &report);
                return self.refuse((report.headline(), report.render(Severity::Error, false)), followed);
            }
        };
        let loaded = match self.make_key(loaded) {
            Ok(loaded) => loaded,
            Err(why) => return self.refuse((why.clone(), why), followed),
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
        (self.tell)(&Phase::Reloading);
        let reload = self.put_in_place(loaded, begun, followed).await;
        self.is_ready();
        reload
    }

    /// Tells the service manager what serves.
    pub(super) fn is_ready(&self) {
        (self.tell)(&Phase::Ready(&self.standing.in_a_line()));
    }

    /// Has `loaded` serve, or says why it does not.
    async fn put_in_place(&self, loaded: config::Loaded, begun: Instant, followed: &mut Followed) -> Reload {
        let fingerprint = loaded.report.sources().fingerprint;
        let config = Arc::new(loaded.config);
        let before = self.current.load();
        let mut listeners = self.listeners.lock().await;
        let applied = self.apply(&config, &mut listeners).await;
        // The series of what is gone go; so do those of an edit that was built and could not be bound.
        self.lasting.metrics.keep_only(&self.current.load().names());
        drop(listeners);
        match applied {
            Ok(()) => {
                followed.serving = fingerprint;
                followed.refused = None;
                warn_of(&loaded.report);
                self.standing.serves(&loaded.report, self.lasting.clock.now());
                self.lasting.metrics.config_reload("success", self.lasting.clock.now());
                let (path, routes) = (self.config_path.display(), config.routes.len());
                let (milliseconds, since_save) = (milliseconds(begun.elapsed()), followed.since_save());
                info!(config = %path, milliseconds, since_save, routes, "configuration reloaded");
                for Effect { about, text } in config::effects(&before.config, &config) {
                    info!(about, "{text}");
                }
                Reload::Served
            }
            Err(why) => self.refuse((why.clone(), why), followed),
        }
    }

    /// Makes the key that goes with a store file which sessions are to move to, as a start would.
    fn make_key(&self, loaded: config::Loaded) -> Result<config::Loaded, String> {
        let Some(missing) = &loaded.config.sessions.missing_key else { return Ok(loaded) };
        let before = self.current.load();
        let beside = |store: &config::Store| match store {
            config::Store::Memory | config::Store::Redis(_) => None,
            config::Store::File(path) => path.parent().map(Path::to_owned),
        };
        // One that is in use and gone is not made anew: that would lock out every session.
        if beside(&before.config.sessions.store) == beside(&loaded.config.sessions.store) {
            return Ok(loaded);
        }
        session::make_key(missing)?;
        info!(path = %missing.display(), "made a session key");
        config::load(&self.config_path, &config::System).map_err(|report| report.render(Severity::Error, false))
    }

    async fn apply(&self, config: &Arc<config::Config>, listeners: &mut Listeners) -> Result<(), String> {
        let before = self.current.load();
        let snapshot = Snapshot::build(Arc::clone(config), Some(&before), &self.lasting)?;
        let sessions = &self.lasting.shared.sessions;
        let prepared = listeners.prepare(&snapshot).await;
        let prepared = prepared.map_err(|(listen, error)| format!("cannot listen on {listen}: {error}"))?;
        // After what may fail at once: a refused edit is tried again and again.
        let moving = match self.begin_move(&before.config, &snapshot).await {
            Ok(moving) => moving,
            Err(why) => {
                listeners.abandon(&prepared);
                return Err(why);
            }
        };
        let left = match moving {
            Some(moving) => match sessions.finish_move(moving).await {
                Ok(left) => Some(left),
                Err(why) => {
                    listeners.abandon(&prepared);
                    return Err(why);
                }
            },
            None => None,
        };
        // From here on nothing can fail: the new doors exist, and the pointer swaps in one step.
        self.lasting.adopt(&snapshot);
        self.current.publish(snapshot);
        listeners.commit(prepared);
        (self.apply_log)(&config.log);
        if let Some(left) = left {
            let sessions = Arc::clone(sessions);
            self.lasting.tasks.spawn(async move { sessions.forget(left).await });
        }
        Ok(())
    }

    /// Whatever has to be done about sessions before `snapshot` serves, and may fail.
    async fn begin_move(&self, before: &config::Config, snapshot: &Snapshot) -> Result<Option<session::Move>, String> {
        let sessions = &self.lasting.shared.sessions;
        if let Some(to) = self.lasting.destination(&before.sessions, snapshot) {
            return sessions.begin_move(to).await;
        }
        if let config::Store::Redis(server) = &snapshot.config.sessions.store {
            sessions.try_reach(server).await?;
        }
        Ok(None)
    }

    /// Clears away sessions whose time is over, and what they leave in the metrics.
    pub(super) async fn sweep(&self) {
        let Lasting { shared, clock, metrics, .. } = &self.lasting;
        let idle_timeout = self.current.load().config.sessions.idle_timeout;
        match shared.sessions.sweep(idle_timeout, clock.now()).await {
            Ok(0) => {}
            Ok(ended) => info!(ended, "sessions expired"),
            Err(error) => warn!(%error, "sessions were not swept"),
        }
        match shared.sessions.end_unserved(clock.now()).await {
            Ok(0) => {}
            Ok(ended) => info!(ended, "sessions ended that no route has taken for ten minutes"),
            Err(error) => warn!(%error, "sessions of routes that are gone were not deleted"),
        }
        // What ended may have been counted under a name that is gone. Not while a reload makes new ones.
        let _still = self.listeners.lock().await;
        metrics.keep_only(&self.current.load().names());
    }

    /// Ends the streams of sessions whose time is over, and notes what clients say on streams as use of their sessions.
    pub(super) async fn look_at_streams(&self) {
        let idle_timeout = self.current.load().config.sessions.idle_timeout;
        let Shared { sessions, streams, .. } = &self.lasting.shared;
        streams.watch(sessions, idle_timeout, self.lasting.clock.now()).await;
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

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Warnings of a configuration that serves.
pub(super) fn warn_of(report: &Report) {
    for problem in report.problems().iter().filter(|problem| problem.severity() == Severity::Warning) {
        warn!(key = problem.key(), hint = problem.hint(), "{}", problem.message());
    }
}
