//! Two configs compared: which keys say something else, and what that means for a process that is running.

use std::path::PathBuf;

use super::effects::{Effect, effects};
use super::environment::Environment;
use super::flat::{Likeness, flatten};
use super::{Config, Report, load, load_text};

/// A config as it lies somewhere.
#[derive(Clone, Debug)]
pub struct Written {
    /// The file; relative paths in it begin at its directory.
    pub path: PathBuf,
    /// Its text, when that came from elsewhere.
    pub text: Option<String>,
}

/// One key that says something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key's full path.
    pub key: String,
    /// What it said, as TOML; `None` when it was not there. Of a secret, only where it is read.
    pub old: Option<String>,
    /// What it says.
    pub new: Option<String>,
    /// The secret is read from elsewhere, and is the same.
    pub same_secret: bool,
}

/// How one config differs from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Every key that differs, in alphabetical order; defaults count as written.
    pub changes: Vec<Change>,
    /// What that means for a running process.
    pub effects: Vec<Effect>,
}

/// Compares `old` and `new`.
///
/// # Errors
/// The reports of those that are broken: the old one's, then the new one's.
pub fn difference(old: &Written, new: &Written, environment: &dyn Environment) -> Result<Difference, Vec<Report>> {
    let (before, after) = match (read(old, environment), read(new, environment)) {
        (Ok(before), Ok(after)) => (before, after),
        (before, after) => {
            return Err([before.err(), after.err()].into_iter().flatten().map(|report| *report).collect());
        }
    };
    let (old_flat, mut new_flat) =
        (flatten(&old.path, &before.1, environment), flatten(&new.path, &after.1, environment));
    let mut changes = Vec::new();
    for (key, old) in old_flat {
        let change = match new_flat.remove(&key) {
            // A default of a table that is gone as a whole says nothing.
            None if !old.is_written() => continue,
            None => Change { key, old: Some(old.shown()), new: None, same_secret: false },
            Some(new) => match new.likeness(&old) {
                Likeness::Same => continue,
                likeness => {
                    let same_secret = likeness == Likeness::SameSecret;
                    Change { key, old: Some(old.shown()), new: Some(new.shown()), same_secret }
                }
            },
        };
        changes.push(change);
    }
    let added = new_flat.into_iter().filter(|(_, new)| new.is_written());
    changes.extend(added.map(|(key, new)| Change { key, old: None, new: Some(new.shown()), same_secret: false }));
    changes.sort_by(|one, other| one.key.cmp(&other.key));
    Ok(Difference { changes, effects: effects(&before.0, &after.0) })
}

fn read(written: &Written, environment: &dyn Environment) -> Result<(Config, String), Box<Report>> {
    if let Some(text) = &written.text {
        return load_text(&written.path, text, environment).map(|loaded| (loaded.config, text.clone()));
    }
    let config = load(&written.path, environment)?.config;
    let file = environment.read(&written.path).map(|file| String::from_utf8_lossy(&file.bytes).into_owned());
    Ok((config, file.unwrap_or_default()))
}
