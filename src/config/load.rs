//! From a file to a `Config`, or to a report of everything that is wrong with it.

use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use super::environment::Environment;
use super::mask::Masked;
use super::providers::Providers;
use super::report::{At, Problem, Report, Severity, Sources, Wrong};
use super::route::Declared;
use super::section::{Context, Section};
use super::upstream::Upstreams;
use super::walk::Walk;
use super::{Config, Listen, Log, Route, Server, Sessions, conflicts, shadows};

/// A config that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// The config.
    pub config: Config,
    /// What the operator should know all the same: warnings, and what `check --strict` tells.
    pub report: Report,
}

/// Reads the config at `path` and everything it refers to. Relative paths in it begin at its own directory.
///
/// # Errors
/// A [`Report`] with at least one error. Its [`Sources`] tell what to watch until the operator has mended it.
pub fn load(path: &Path, environment: &dyn Environment) -> Result<Loaded, Box<Report>> {
    let wrong = match environment.read(path) {
        Err(why) => Wrong::new(format!("cannot read the config: {why}")),
        Ok(file) => match std::str::from_utf8(&file.bytes) {
            Ok(text) => return load_text(path, text, environment),
            Err(error) => {
                let good = file.bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
                Wrong::new(format!("the config is not text: line {line} is not UTF-8"))
            }
        },
    };
    let problem = Problem::new(Severity::Error, At::default(), wrong);
    Err(Box::new(Report::new(path.display().to_string(), Masked::default(), vec![problem], Sources::default())))
}

/// [`load`] for a text that was read already; `path` is where it came from.
///
/// # Errors
/// As for [`load`].
pub fn load_text(path: &Path, text: &str, environment: &dyn Environment) -> Result<Loaded, Box<Report>> {
    let (table, syntax) = DeTable::parse_recoverable(text);
    let parsed = syntax.is_empty();
    let mut problems: Vec<Problem> = syntax.iter().map(|error| syntax_error(error, text)).collect();
    let walk = Walk::over(table.get_ref(), parsed);
    // A value that is no TOML is anything to the walk, so what it says about that line means nothing.
    problems.extend(walk.problems.into_iter().filter(|problem| !is_on_a_line_of(problem, &syntax, text)));
    let cx = Context::new(environment, path, text.as_bytes());
    let config = if parsed { resolve(&Section::root(&cx, table.get_ref())) } else { None };
    problems.extend(cx.problems.take());
    let masked = Masked::new(text, walk.secrets, parsed.then_some(walk.strings));
    let report = Report::new(path.display().to_string(), masked, problems, cx.sources());
    match config {
        Some(config) if !report.has_errors() => Ok(Loaded { config, report }),
        _ => Err(Box::new(report)),
    }
}

fn resolve(root: &Section<'_>) -> Option<Config> {
    let server_section = root.table("server")?;
    let server = Server::resolve(&server_section);
    let sessions = root.table("sessions").and_then(|section| Sessions::resolve(&section));
    let log = root.table("log").and_then(|section| Log::resolve(&section));
    let declared = Declared {
        providers: Providers::resolve(root),
        upstreams: Upstreams::resolve(root),
        listen: server_section.parse("listen", Listen::parse),
        verdicts: server_section.has("verdict_listen"),
    };
    let tables = root.tables("routes");
    let routes: Vec<_> = tables
        .iter()
        .map(|(name, at, section)| {
            Route::resolve((name, at), section, &declared).map(|route| (Arc::new(route), section))
        })
        .collect();
    let legal: Vec<_> = routes.iter().flatten().cloned().collect();
    conflicts::find(&server_section, server.as_ref(), &legal);
    shadows::find(&legal);
    let routes: Option<Vec<_>> = routes.into_iter().collect();
    Some(Config {
        server: server?,
        sessions: sessions?,
        log: log?,
        providers: declared.providers.all()?,
        routes: routes?.into_iter().map(|(route, _)| (route.name.clone(), route)).collect(),
        files: root.cx.sources().files,
    })
}

/// What `toml` says, in its own words but without what it expected: that helps only those who know its grammar.
fn syntax_error(error: &toml::de::Error, text: &str) -> Problem {
    let (message, expected) = match error.message().split_once(", expected ") {
        Some((message, expected)) => (message, Some(expected)),
        None => (error.message(), None),
    };
    let mut wrong = Wrong::new(message);
    if message == "duplicate key" {
        wrong = wrong.label("this was given before");
    }
    if let Some(expected) = expected.filter(|expected| expected.starts_with('`')) {
        wrong = wrong.label(format!("expected {expected}"));
    }
    if message == "string values must be quoted" {
        wrong = wrong.hint("put the value into quotes");
    }
    let span = error.span().map(|span| span.start.min(text.len())..span.end.min(text.len()));
    Problem::new(Severity::Error, At { key: String::new(), span }, wrong)
}

fn is_on_a_line_of(problem: &Problem, syntax: &[toml::de::Error], text: &str) -> bool {
    let line = |offset: usize| text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
    let Some(span) = problem.span() else { return false };
    syntax.iter().filter_map(toml::de::Error::span).any(|error| line(error.start) == line(span.start))
}
