//! Noticing that a file changed, however it was changed: written in place, renamed over, swapped by a symlink, or
//! deleted and made anew.
//!
//! inotify watches inodes, not names, so the file, its directory, and both again behind every symlink are watched, and
//! all of it anew after each event. What inotify cannot see (network file systems, exhausted watches) a slow poll sees.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

/// A change is read once nothing more has happened for this long.
const QUIET: Duration = Duration::from_millis(150);
/// And at the latest this long after the first event, so that a file that is written again and again cannot hold a change
/// back.
const PATIENCE: Duration = Duration::from_millis(600);
/// Whoever has a file open is waited for for longer, as a copy over the network may stall; not for ever, as it may never
/// be closed.
const OPEN: Duration = Duration::from_secs(5);
/// How often files are looked at without an event.
pub(super) const POLL: Duration = Duration::from_secs(10);

/// Watches a set of files.
pub(super) struct Watch {
    events: mpsc::Receiver<()>,
    notice: mpsc::Sender<()>,
    /// Whether a file was written and not closed yet: half of a config may be a config, but not the one that is meant.
    writing: Arc<AtomicBool>,
    watcher: Option<RecommendedWatcher>,
    /// What the watcher watches; empty when it has to be made anew.
    armed: BTreeSet<PathBuf>,
    /// Whether watching failed, which was said.
    blind: bool,
    next_poll: Instant,
}

impl Watch {
    pub(super) fn new() -> Self {
        // One event is as good as many: the file is read anew whatever happened.
        let (notice, events) = mpsc::channel(1);
        let (writing, next_poll) = (Arc::default(), Instant::now() + POLL);
        Self { events, notice, writing, watcher: None, armed: BTreeSet::new(), blind: false, next_poll }
    }

    /// Watches `files` from now on. To be called before they are read, so that no change falls between. False when
    /// they were watched already.
    pub(super) fn arm(&mut self, files: &BTreeSet<PathBuf>) -> bool {
        let places = places(files);
        if places == self.armed {
            return false;
        }
        match self.watcher(&places) {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                self.armed = places;
                self.blind = false;
            }
            Err(error) => {
                self.watcher = None;
                self.armed.clear();
                if !std::mem::replace(&mut self.blind, true) {
                    warn!(%error, poll_seconds = POLL.as_secs(), "cannot watch the configuration; it is polled instead");
                }
            }
        }
        true
    }

    fn watcher(&self, places: &BTreeSet<PathBuf>) -> notify::Result<RecommendedWatcher> {
        let (notice, writing, names) = (self.notice.clone(), Arc::clone(&self.writing), places.clone());
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // A directory tells of all that is in it: of logs, or of sessions, that are written all the time.
            let is_of_others =
                |event: &notify::Event| !event.paths.is_empty() && !event.paths.iter().any(|path| names.contains(path));
            if event.as_ref().is_ok_and(is_of_others) {
                return;
            }
            match event.map(|event| event.kind) {
                Ok(EventKind::Modify(ModifyKind::Data(_))) => writing.store(true, Ordering::Relaxed),
                Ok(EventKind::Access(AccessKind::Close(AccessMode::Write))) => writing.store(false, Ordering::Relaxed),
                // Reading a file is an event too; our own reading must not wake us.
                Ok(EventKind::Access(_)) => return,
                Ok(_) | Err(_) => {}
            }
            // Full means that a notice waits already.
            let _ = notice.try_send(());
        })?;
        let mut directories = 0;
        for path in places {
            // A file may be missing just now; its directory tells when it is back.
            if watcher.watch(path, RecursiveMode::NonRecursive).is_ok() && path.is_dir() {
                directories += 1;
            }
        }
        if directories == 0 { Err(notify::Error::path_not_found()) } else { Ok(watcher) }
    }

    /// Waits until something happened and is over, or until it is time to look anyway.
    pub(super) async fn changed(&mut self) {
        let event = tokio::select! {
            event = self.events.recv() => event,
            () = sleep_until(self.next_poll) => None,
        };
        if event.is_some() {
            // What was watched may be another file, or gone: inotify follows the old one.
            self.armed.clear();
            let begun = Instant::now();
            loop {
                let is_quiet = timeout(QUIET, self.events.recv()).await.is_err();
                let is_open = self.writing.load(Ordering::Relaxed);
                let patience = if is_open { OPEN } else { PATIENCE };
                if is_quiet && !is_open || begun.elapsed() >= patience {
                    break;
                }
            }
            self.writing.store(false, Ordering::Relaxed);
        }
        self.next_poll = Instant::now() + POLL;
    }
}

/// Each file, its directory, and both again for every name that it is reached by.
fn places(files: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let mut places = BTreeSet::new();
    for file in files {
        let mut name = std::path::absolute(file).unwrap_or_else(|_| file.clone());
        // The kernel follows at most 40 links, too.
        for _ in 0..40 {
            add(&mut places, &name);
            let Ok(target) = std::fs::read_link(&name) else { break };
            name = name.parent().unwrap_or_else(|| Path::new("/")).join(target);
        }
        if let Ok(canonical) = std::fs::canonicalize(file) {
            add(&mut places, &canonical);
        }
    }
    places
}

fn add(places: &mut BTreeSet<PathBuf>, file: &Path) {
    places.insert(file.to_owned());
    places.extend(file.parent().map(Path::to_owned));
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The config may stand where logs are written, or sessions.
    #[tokio::test]
    async fn what_else_happens_in_the_directory_is_no_reason_to_read_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("vestibule.toml"), dir.path().join("sessions.redb"));
        fs::write(&file, "a").unwrap();
        fs::write(&other, "b").unwrap();
        let mut watch = Watch::new();
        assert!(watch.arm(&BTreeSet::from([file.clone()])));
        for number in 0..50 {
            fs::write(&other, format!("{number}")).unwrap();
            fs::rename(&other, dir.path().join("moved")).unwrap();
            fs::rename(dir.path().join("moved"), &other).unwrap();
        }
        let waits = timeout(PATIENCE + QUIET, watch.changed());
        assert!(waits.await.is_err(), "nothing has happened to it");
        let changes: [&dyn Fn(); 3] =
            [&|| fs::write(&file, "c").unwrap(), &|| fs::rename(&other, &file).unwrap(), &|| {
                fs::remove_file(&file).unwrap()
            }];
        for change in changes {
            watch.arm(&BTreeSet::from([file.clone()]));
            change();
            timeout(Duration::from_secs(5), watch.changed()).await.expect("it was noticed");
        }
    }

    #[test]
    fn a_file_behind_symlinks_is_watched_under_every_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir(root.join("..2026")).unwrap();
        fs::write(root.join("..2026/vestibule.toml"), "").unwrap();
        std::os::unix::fs::symlink("..2026", root.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/vestibule.toml", root.join("vestibule.toml")).unwrap();
        let places = places(&BTreeSet::from([root.join("vestibule.toml")]));
        for expected in ["", "vestibule.toml", "..data", "..data/vestibule.toml", "..2026", "..2026/vestibule.toml"] {
            let expected = if expected.is_empty() { root.clone() } else { root.join(expected) };
            assert!(places.contains(&expected), "{} not in {places:?}", expected.display());
        }
    }
}
