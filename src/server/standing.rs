//! What operators are told of the configuration: which one serves and since when, and what became of the last edit.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest;

use crate::config::Report;
use crate::time::Timestamp;

/// The configuration that serves, and the edit that does not. Written by reloads, read by the listeners for operators.
#[derive(Debug)]
pub struct Standing(Mutex<State>);

#[derive(Debug)]
struct State {
    path: PathBuf,
    /// The file's text without its secrets.
    text: String,
    since: Timestamp,
    /// Counts the configurations that this process has served.
    generation: u64,
    refused: Option<Refused>,
}

/// An edit that was refused.
#[derive(Clone, Debug)]
struct Refused {
    at: Timestamp,
    headline: String,
}

impl Standing {
    /// The configuration at `path` is the first that serves, from `now` on.
    #[must_use]
    pub fn new(path: PathBuf, report: &Report, now: Timestamp) -> Self {
        let text = report.text().to_owned();
        Self(Mutex::new(State { path, text, since: now, generation: 1, refused: None }))
    }

    /// The configuration that `report` is about serves from `now` on.
    pub fn serves(&self, report: &Report, now: Timestamp) {
        let mut state = self.state();
        report.text().clone_into(&mut state.text);
        (state.since, state.refused) = (now, None);
        state.generation = state.generation.saturating_add(1);
    }

    /// An edit was refused, for a reason of one line.
    pub fn refuses(&self, headline: String, now: Timestamp) {
        self.state().refused = Some(Refused { at: now, headline });
    }

    /// The refused edit was taken back.
    pub fn is_as_written(&self) {
        self.state().refused = None;
    }

    /// Which one serves, and why the last edit does not.
    #[must_use]
    pub fn in_a_line(&self) -> String {
        let state = self.state();
        let refused = state.refused.as_ref().map(|refused| format!("; the last edit is refused: {}", refused.headline));
        let (version, generation) = (state.version(), state.generation);
        format!("serving config version {version}, generation {generation}{}", refused.unwrap_or_default())
    }

    /// Version, age and last error: a line for each that there is.
    #[must_use]
    pub fn describe(&self, now: Timestamp) -> String {
        let state = self.state();
        let age = now.since(state.since).as_secs();
        let serving = format!("config: version {}, generation {}, {age} s old\n", state.version(), state.generation);
        serving + &state.refused_line("last edit: ", now)
    }

    /// The configuration that serves as its operator wrote it, with every secret cut out, under a comment that says
    /// which one it is.
    #[must_use]
    pub fn redacted(&self, now: Timestamp) -> String {
        let state = self.state();
        let refused = state.refused_line("# The last edit does not serve: ", now);
        format!(
            "# {}, version {}, generation {}, serving since {}.\n{refused}{}",
            state.path.display(),
            state.version(),
            state.generation,
            state.since,
            state.text
        )
    }

    // Every change is one assignment, so a panic elsewhere leaves the state whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Equal on every replica that serves the same text. Taken from the text without its secrets: a hash over those
    /// would let a reader try guesses.
    fn version(&self) -> String {
        let hash = digest::digest(&digest::SHA256, self.text.as_bytes());
        hash.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }

    fn refused_line(&self, before: &str, now: Timestamp) -> String {
        let line = |Refused { at, headline }: &Refused| {
            format!("{before}refused {} s ago: {headline}\n", now.since(*at).as_secs())
        };
        self.refused.as_ref().map(line).unwrap_or_default()
    }
}
