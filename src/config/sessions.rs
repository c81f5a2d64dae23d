//! `[sessions]`: where sessions live, what seals them, and how long they last.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::Secret;
use super::report::Wrong;
use super::section::Section;

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
    section.value("store", |value, at| {
        let table = match value {
            DeValue::Table(table) => table,
            memory => return (memory.as_str()? == "memory").then_some(Store::Memory),
        };
        let Some(file) = table.get("file") else {
            // What else stands there, the walk has refused.
            if table.is_empty() {
                let wrong = Wrong::new("this names no store");
                section.cx.error(at, wrong.hint("write `{ file = \"/var/lib/vestibule/sessions.redb\" }`"));
            }
            return None;
        };
        let path = file.get_ref().as_str()?;
        if path.is_empty() || path.ends_with('/') || path.contains('\0') {
            section.cx.error(at, Wrong::new("this is no path of a file"));
            return None;
        }
        Some(Store::File(section.cx.place(Path::new(path))))
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
