//! What is wrong with a config, all of it at once, shown as rustc would: file, line, the line itself, a caret, a hint.
//!
//! A report never shows the value of a secret: it holds a copy of the text in which they are already masked.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::mask::Masked;

/// More problems than this are counted, not shown: nobody reads them, and each costs a pass over the text.
const SHOWN: usize = 100;

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The config cannot be used.
    Error,
    /// The config can be used, and the operator should know.
    Warning,
    /// Weaker than the default by choice: told by `check --strict` only.
    Weaker,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug)]
pub struct Problem {
    severity: Severity,
    at: At,
    wrong: Wrong,
}

impl Problem {
    pub(super) const fn new(severity: Severity, at: At, wrong: Wrong) -> Self {
        Self { severity, at, wrong }
    }

    /// How bad it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        self.severity
    }

    /// The key it is about, such as `routes.web.provider`; empty for the file as a whole.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.at.key
    }

    /// What is wrong, in one sentence without a full stop. Never holds the value of a secret.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.wrong.message
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.wrong.hint.as_deref()
    }

    pub(super) const fn span(&self) -> Option<&Range<usize>> {
        self.at.span.as_ref()
    }

    /// Whether it is about something that is not there.
    pub(super) const fn is_about_absence(&self) -> bool {
        self.wrong.absence
    }

    fn start(&self) -> usize {
        self.at.span.as_ref().map_or(0, |span| span.start)
    }
}

/// A place in the config: the key's full path, and where its value stands when it was written at all.
#[derive(Clone, Debug, Default)]
pub(super) struct At {
    pub(super) key: String,
    pub(super) span: Option<Range<usize>>,
}

/// What is wrong with a value, before anybody knows where the value stands.
#[derive(Clone, Debug)]
pub(super) struct Wrong {
    message: String,
    label: Option<String>,
    hint: Option<String>,
    also: Option<Box<(At, &'static str)>>,
    absence: bool,
}

impl Wrong {
    /// The sentence.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// `message` is one sentence without a full stop.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), label: None, hint: None, also: None, absence: false }
    }

    /// What to do about it.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A few words beside the caret.
    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// It is about something that is not there.
    pub(super) const fn absence(mut self) -> Self {
        self.absence = true;
        self
    }

    /// A second place that has to do with it.
    pub(super) fn also(mut self, at: At, label: &'static str) -> Self {
        self.also = Some(Box::new((at, label)));
        self
    }
}

/// The operator's own words inside a message: control characters escaped, and not longer than a glance. A text of
/// several lines is not repeated: it was meant to end earlier, and may have swallowed a secret.
pub(super) fn quote(text: &str) -> String {
    if text.contains(['\n', '\r']) {
        return "`…`".to_owned();
    }
    let mut short: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        short.push('…');
    }
    format!("`{short}`")
}

/// The path of `key` within the table `path`, quoted as TOML needs it.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-'));
    let key = if bare { key.to_owned() } else { format!("\"{}\"", key.escape_debug()) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The candidate that `name` was probably meant to be.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |candidate: &str| strsim::normalized_damerau_levenshtein(&name.to_lowercase(), candidate);
    candidates
        .map(|candidate| (likeness(candidate), candidate))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

/// What a load read besides the environment, whether it succeeded or not: what to watch, and whether it changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The files that the config refers to, also those that could not be read. The config file is not among them.
    pub files: BTreeSet<PathBuf>,
    /// A hash over the config file and [`files`](Self::files); equal to the last one means that nothing changed.
    pub fingerprint: u64,
}

/// Every problem of one config file, in the order of its lines.
#[derive(Debug)]
pub struct Report {
    file: String,
    text: Masked,
    problems: Vec<Problem>,
    sources: Sources,
}

impl Report {
    pub(super) fn new(file: String, text: Masked, mut problems: Vec<Problem>, sources: Sources) -> Self {
        problems.sort_by_key(|problem| (problem.severity, problem.start()));
        Self { file, text, problems, sources }
    }

    /// The problems: errors first, then by line.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The config file's text with every secret cut out.
    #[must_use]
    pub fn text(&self) -> &str {
        self.text.as_str()
    }

    /// What is wrong in one line, for where a whole report has no room; empty when nothing is.
    #[must_use]
    pub fn headline(&self) -> String {
        let Some(first) = self.problems.first().filter(|problem| problem.severity == Severity::Error) else {
            return String::new();
        };
        let line = first.at.span.as_ref().map(|span| {
            let before = self.text.as_str().get(..self.text.span(span).start).unwrap_or_default();
            format!(":{}", 1 + before.matches('\n').count())
        });
        let key = if first.key().is_empty() { String::new() } else { format!("{}: ", first.key()) };
        let more = match self.count(Severity::Error) {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        format!("{}{}: {key}{}{more}", self.file, line.unwrap_or_default(), first.message())
    }

    /// Whether something forbids to use the config.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// What was read.
    #[must_use]
    pub const fn sources(&self) -> &Sources {
        &self.sources
    }

    /// How many problems of `severity` there are.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|problem| problem.severity == severity).count()
    }

    /// The report for a person: every problem up to `least` in severity, then a line that counts them. Colours are ANSI
    /// escapes. Empty when there is nothing to tell.
    #[must_use]
    pub fn render(&self, least: Severity, coloured: bool) -> String {
        let renderer = if coloured { Renderer::styled().hyperlink(false) } else { Renderer::plain() };
        let told: Vec<&Problem> = self.problems.iter().filter(|problem| problem.severity <= least).collect();
        let mut out = String::new();
        for problem in told.iter().take(SHOWN) {
            out.push_str(&renderer.render(&[self.group(problem)]));
            out.push_str("\n\n");
        }
        if !told.is_empty() {
            out.push_str(&self.summary(least, told.len()));
            out.push('\n');
        }
        out
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Weaker => Level::WARNING.with_name("weaker than default"),
        };
        let mut title = level.primary_title(problem.message());
        if !problem.key().is_empty() {
            title = title.id(problem.key());
        }
        let mut group = match &problem.at.span {
            None => title.element(Origin::path(&self.file)),
            Some(span) => {
                let label = problem.wrong.label.as_deref();
                let primary = AnnotationKind::Primary.span(self.text.span(span)).label(label);
                let also = problem.wrong.also.iter().filter_map(|also| {
                    let (at, label) = also.as_ref();
                    let span = self.text.span(at.span.as_ref()?);
                    Some(AnnotationKind::Context.span(span).label(*label))
                });
                let snippet = Snippet::source(self.text.as_str()).path(&self.file).annotation(primary);
                title.element(snippet.annotations(also))
            }
        };
        if let Some(hint) = problem.hint() {
            group = group.element(Level::HELP.message(hint));
        }
        group
    }

    fn summary(&self, least: Severity, told: usize) -> String {
        let counts = [
            (Severity::Error, "error", "errors"),
            (Severity::Warning, "warning", "warnings"),
            (Severity::Weaker, "setting weaker than its default", "settings weaker than their defaults"),
        ];
        let parts = counts.iter().filter(|(severity, ..)| *severity <= least).filter_map(|(severity, one, many)| {
            match self.count(*severity) {
                0 => None,
                1 => Some(format!("1 {one}")),
                count => Some(format!("{count} {many}")),
            }
        });
        let parts: Vec<String> = parts.collect();
        let more = if told > SHOWN { format!(", only the first {SHOWN} are shown") } else { String::new() };
        format!("{}: {}{more}", self.file, parts.join(", "))
    }
}

/// Errors and warnings, without colours.
impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render(Severity::Warning, false))
    }
}

impl std::error::Error for Report {}
