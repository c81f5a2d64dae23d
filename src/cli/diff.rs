//! `vestibule diff`: what an edit would change, before it is made.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::{complain, say};
use crate::config::{self, Change, Difference, Severity, Written};

/// Both mean the same.
const SAME: u8 = 0;
/// They differ.
const DIFFERS: u8 = 1;
/// One of them cannot be used; also clap's code for a command line that is wrong.
const BROKEN: u8 = 2;

#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 when both mean the same, 1 when they differ, 2 when one of them is broken.\n\n\
                        A default counts as written, and comments and spelling (\"30m\", \"1800s\") do not count. Secrets are\n\
                        compared and never shown.")]
pub(super) struct DiffArgs {
    /// The configuration as it was; - reads standard input
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The configuration as it shall be; - reads standard input
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Answer as JSON: {"same", "changes": [{"key", "old", "new", "same_secret"}], "effects": [{"about", "text"}]}
    #[arg(long)]
    json: bool,
}

/// Compares two files, without binding or calling anything.
pub(super) fn diff(args: &DiffArgs) -> ExitCode {
    let (old, new) = match (written(&args.old, &args.new), written(&args.new, &args.old)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(why), _) | (_, Err(why)) => {
            complain(&format!("error: {why}"));
            return ExitCode::from(BROKEN);
        }
    };
    let difference = match config::difference(&old, &new, &config::System) {
        Ok(difference) => difference,
        Err(reports) => {
            reports.iter().for_each(|report| complain(&report.render(Severity::Error, false)));
            return ExitCode::from(BROKEN);
        }
    };
    let same = difference.changes.is_empty();
    say(&if args.json { as_json(&difference) } else { in_words(&difference) });
    ExitCode::from(if same { SAME } else { DIFFERS })
}

/// The file at `path`; what comes from standard input stands where the other one does.
fn written(path: &Path, other: &Path) -> Result<Written, String> {
    if path != Path::new("-") {
        return Ok(Written { path: path.to_owned(), text: None });
    }
    if other == Path::new("-") {
        return Err("standard input can be read only once".to_owned());
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot read standard input: {error}"))?;
    Ok(Written { path: other.with_file_name("standard input"), text: Some(text) })
}

fn in_words(difference: &Difference) -> String {
    if difference.changes.is_empty() {
        return "Both mean the same.".to_owned();
    }
    let change = |Change { key, old, new, same_secret }: &Change| {
        let note = if *same_secret { " (the same secret)" } else { "" };
        match (old, new) {
            (Some(old), Some(new)) => format!("~ {key} = {old} -> {new}{note}"),
            (Some(old), None) => format!("- {key} = {old}"),
            (None, Some(new)) => format!("+ {key} = {new}"),
            (None, None) => String::new(),
        }
    };
    let mut lines: Vec<String> = difference.changes.iter().map(change).collect();
    if !difference.effects.is_empty() {
        lines.push("\nWhat a running process makes of it:".to_owned());
        lines.extend(difference.effects.iter().map(|effect| format!("  {effect}")));
    }
    lines.join("\n")
}

fn as_json(difference: &Difference) -> String {
    let change = |change: &Change| json!({ "key": change.key, "old": change.old, "new": change.new, "same_secret": change.same_secret });
    let value = json!({
        "same": difference.changes.is_empty(),
        "changes": difference.changes.iter().map(change).collect::<Vec<_>>(),
        "effects": difference.effects.iter()
            .map(|effect| json!({ "about": effect.about, "text": effect.text }))
            .collect::<Vec<_>>(),
    });
    format!("{value:#}")
}
