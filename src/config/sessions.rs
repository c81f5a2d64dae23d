//! `[sessions]`: where sessions live, what seals them, and how long they last.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::report::Wrong;
use super::section::Section;
use super::{Redis, Secret};

/// `[sessions]`.
#[derive(Debug, PartialEq, Eq)]
pub struct Sessions {
    /// Where sessions live.
    pub store: Store,
    /// Key ring for everything sealed: the first seals, all open. Empty with the memory store: a ring for this process
    /// is made.
    pub keys: Vec<Secret>,
    /// The key file beside the store, which has to be made before this configuration can serve; `keys` is empty then.
    pub missing_key: Option<PathBuf>,
    /// A session unused for this long is over. Default 30 min.
    pub idle_timeout: Duration,
    /// A session is over this long after its login, used or not. Default 10 h.
    pub max_lifetime: Duration,
    /// How many sessions the store holds before the longest unused one makes room. Default 1,000,000.
    pub max_sessions: usize,
}

/// `sessions.store`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// In this process; gone with it.
    Memory,
    /// In a database file at this path, which one process at a time has open.
    File(PathBuf),
    /// In a Redis or Valkey server, which several processes share.
    Redis(Arc<Redis>),
}

impl Store {
    /// Whether `other` has the same sessions, so that none has to move.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Redis(one), Self::Redis(other)) => one.is_same_place(other),
            (one, other) => one == other,
        }
    }
}

/// The key file that stands beside a store file when `keys` is absent.
const KEY_FILE: &str = "session.key";

impl Sessions {
    pub(super) fn resolve(section: &Section<'_>) -> Option<Self> {
        let store = store(section);
        let keys = match &store {
            Some(Store::File(path)) if !section.has("keys") => key_beside(section, path),
            Some(_) | None => section.sealing_keys("keys").map(|keys| (keys, None)),
        };
        if let (Some(Store::Redis(_)), false) = (&store, section.has("keys")) {
            let wrong = Wrong::new("sessions in Redis need `keys`: every process must have the same");
            let hint =
                "`(umask 077; openssl rand -base64 48 > session.key)`, then `keys = [{ file = \"session.key\" }]`";
            section.cx.error(&section.at("keys"), wrong.hint(hint));
            return None;
        }
        if !section.has("keys") && store == Some(Store::Memory) {
            let wrong =
                Wrong::new("there are no session keys, so one is made for this process: a restart logs everybody out");
            let hint =
                "`(umask 077; openssl rand -base64 48 > session.key)`, then `keys = [{ file = \"session.key\" }]`";
            section.cx.warn(&section.at("keys"), wrong.hint(hint));
        }
        let idle_timeout = section.duration("idle_timeout");
        let max_lifetime = section.duration("max_lifetime");
        if let (Some(idle), Some(life)) = (idle_timeout, max_lifetime)
            && idle > life
        {
            let wrong = Wrong::new("a session cannot be idle for longer than it lives");
            section
                .cx
                .error(&section.at("idle_timeout"), wrong.hint("idle_timeout must not exceed max_lifetime"));
            return None;
        }
        let max_sessions = section.count("max_sessions").and_then(|count| usize::try_from(count).ok());
        let (keys, missing_key) = keys?;
        Some(Self {
            store: store?,
            keys,
            missing_key,
            idle_timeout: idle_timeout?,
            max_lifetime: max_lifetime?,
            max_sessions: max_sessions?,
        })
    }
}

fn store(section: &Section<'_>) -> Option<Store> {
    if section.value("store", |value, _| Some(value.as_str().is_some()))? {
        return section.choice("store", |name| (name == "memory").then_some(Store::Memory));
    }
    let store = section.table("store")?;
    match (store.has("file"), store.has("redis")) {
        (true, false) => file(&store),
        (false, true) => Redis::resolve(&store).map(|redis| Store::Redis(Arc::new(redis))),
        (false, false) => {
            let wrong = Wrong::new("this names no store");
            section
                .cx
                .error(store.header(), wrong.hint("write `{ file = \"/var/lib/vestibule/sessions.redb\" }`"));
            None
        }
        (true, true) => {
            let wrong = Wrong::new("sessions live in a file or in Redis, not in both");
            section.cx.error(store.header(), wrong.hint("keep one of `file` and `redis`"));
            None
        }
    }
}

fn file(store: &Section<'_>) -> Option<Store> {
    for name in ["prefix", "ca_file", "sentinel_user", "sentinel_password"]
        .into_iter()
        .filter(|name| store.has(name))
    {
        let wrong = Wrong::new(format!("`{name}` is for sessions in Redis"));
        store.cx.error(&store.at(name), wrong.hint("leave it out"));
    }
    store.parse("file", |path| {
        if path.is_empty() || path.ends_with('/') || path.contains('\0') {
            return Err(Wrong::new("this is no path of a file"));
        }
        Ok(Store::File(store.cx.place(Path::new(path))))
    })
}

/// The key beside the store file, or the path where one has to be made.
fn key_beside(section: &Section<'_>, store: &Path) -> Option<(Vec<Secret>, Option<PathBuf>)> {
    let path = store.with_file_name(KEY_FILE);
    match section.sealing_key_at(&path, "store")? {
        Some(key) => Some((vec![key], None)),
        None => Some((Vec::new(), Some(path))),
    }
}
