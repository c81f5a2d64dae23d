//! The second pass: typed reading of a table that was walked, with the schema's defaults, collecting what is wrong.
//!
//! Every reader answers `None` when there is no legal value; by then the reason is recorded, here or by the walk. So a
//! caller first reads everything, and only then puts it together with `?`: that is how all problems come at once.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::environment::{Environment, File, Unreadable};
use super::report::{At, Problem, Severity, Sources, Wrong, join};
use super::schema::{self, Keys, Need};

/// What all sections share: the surroundings, and what was found.
pub(super) struct Context<'a> {
    pub(super) environment: &'a dyn Environment,
    /// Where the config file is: relative paths begin there.
    directory: PathBuf,
    pub(super) problems: RefCell<Vec<Problem>>,
    sources: RefCell<(Sources, DefaultHasher)>,
}

impl<'a> Context<'a> {
    pub(super) fn new(environment: &'a dyn Environment, file: &Path, text: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let directory = file.parent().unwrap_or_else(|| Path::new("")).to_owned();
        let sources = RefCell::new((Sources::default(), hasher));
        Self { environment, directory, problems: RefCell::default(), sources }
    }

    pub(super) fn error(&self, at: &At, wrong: Wrong) {
        self.push(Severity::Error, at, wrong);
    }

    pub(super) fn warn(&self, at: &At, wrong: Wrong) {
        self.push(Severity::Warning, at, wrong);
    }

    /// Tells `check --strict` that a setting is weaker than its default.
    pub(super) fn weaker(&self, at: &At, wrong: Wrong) {
        self.push(Severity::Weaker, at, wrong);
    }

    fn push(&self, severity: Severity, at: &At, wrong: Wrong) {
        self.problems.borrow_mut().push(Problem::new(severity, at.clone(), wrong));
    }

    /// Where `path` is, as seen from the config file.
    pub(super) fn place(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }

    /// Reads a file that the config refers to, and remembers it as one to watch.
    pub(super) fn read(&self, path: &Path) -> Result<File, Unreadable> {
        let path = self.place(path);
        let read = self.environment.read(&path);
        let (sources, hasher) = &mut *self.sources.borrow_mut();
        path.hash(hasher);
        match &read {
            Ok(file) => (file.bytes.as_slice(), file.mode).hash(hasher),
            Err(why) => why.hash(hasher),
        }
        sources.files.insert(path);
        read
    }

    /// What was read so far.
    pub(super) fn sources(&self) -> Sources {
        let (sources, hasher) = &*self.sources.borrow();
        Sources { fingerprint: hasher.finish(), ..sources.clone() }
    }
}

/// One table of the config, or none at all: then every key has its default.
pub(super) struct Section<'a> {
    pub(super) cx: &'a Context<'a>,
    keys: Keys,
    table: Option<&'a DeTable<'a>>,
    at: At,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn root(cx: &'a Context<'a>, table: &'a DeTable<'a>) -> Self {
        Self { cx, keys: schema::ROOT, table: Some(table), at: At::default() }
    }

    /// A table that nobody wrote, with all defaults of `keys`, for something that stands at `at`.
    pub(super) const fn unwritten(cx: &'a Context<'a>, keys: Keys, at: At) -> Self {
        Self { cx, keys, table: None, at }
    }

    /// Where the table's header is.
    pub(super) const fn header(&self) -> &At {
        &self.at
    }

    /// Where the value of `name` is; the table's header when it was not written.
    pub(super) fn at(&self, name: &str) -> At {
        let span = self.written(name).map(Spanned::span).or_else(|| self.at.span.clone());
        At { key: self.path(name), span }
    }

    /// Whether `name` was written.
    pub(super) fn has(&self, name: &str) -> bool {
        self.written(name).is_some()
    }

    fn written(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.and_then(|table| table.get(name))
    }

    fn path(&self, name: &str) -> String {
        join(&self.at.key, name)
    }

    /// The written value, or else the schema's default.
    pub(super) fn value<T>(&self, name: &str, read: impl FnOnce(&DeValue<'_>, &At) -> Option<T>) -> Option<T> {
        let at = self.at(name);
        if let Some(value) = self.written(name) {
            return read(value.get_ref(), &at);
        }
        match schema::key(self.keys, name)?.need {
            Need::Default(text) => read(DeValue::parse(text).ok()?.get_ref(), &at),
            Need::Required(_) | Need::Optional(_) | Need::Usual(_) => None,
        }
    }

    /// What `read` makes of `name`; `Some(None)` when it is absent and has no default.
    pub(super) fn optional<T>(&self, name: &str, read: impl FnOnce(&Self, &str) -> Option<T>) -> Option<Option<T>> {
        if self.has(name) { read(self, name).map(Some) } else { Some(None) }
    }

    /// A string, judged by `parse`.
    pub(super) fn parse<T>(&self, name: &str, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        self.value(name, |value, at| self.judge(at, parse(value.as_str()?)))
    }

    /// A string, whatever it says.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.parse(name, |text| Ok(text.to_owned()))
    }

    /// One of the strings that the schema offers; `meaning` knows them all.
    pub(super) fn choice<T>(&self, name: &str, meaning: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        self.value(name, |value, _| meaning(value.as_str()?))
    }

    /// A list of strings, or one string alone, each judged by `parse`.
    pub(super) fn list<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, Wrong>) -> Option<Vec<T>> {
        self.items(name, |value, at| self.judge(at, parse(value.as_str()?)))
    }

    /// A list of values, or one value alone.
    pub(super) fn items<T>(&self, name: &str, read: impl Fn(&DeValue<'_>, &At) -> Option<T>) -> Option<Vec<T>> {
        self.value(name, |value, at| match value {
            DeValue::Array(items) => {
                let read = items.iter().map(|item| {
                    let span = self.has(name).then(|| item.span()).or_else(|| at.span.clone());
                    read(item.get_ref(), &At { key: at.key.clone(), span })
                });
                // All items are read before the first bad one counts.
                read.collect::<Vec<Option<T>>>().into_iter().collect()
            }
            // That a list must be one has been said.
            _ if schema::key(self.keys, name).is_some_and(|key| matches!(key.kind, schema::Kind::List(_))) => None,
            single => read(single, at).map(|item| vec![item]),
        })
    }

    /// A list that means nothing when it is empty.
    pub(super) fn nonempty<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, Wrong>) -> Option<Vec<T>> {
        let list = self.list(name, parse)?;
        if list.is_empty() {
            let wrong = Wrong::new("an empty list would refuse everybody").hint("leave the key out instead");
            self.cx.error(&self.at(name), wrong);
            return None;
        }
        Some(list)
    }

    pub(super) fn bool(&self, name: &str) -> Option<bool> {
        self.value(name, |value, _| value.as_bool())
    }

    /// A whole number that is not zero.
    pub(super) fn count(&self, name: &str) -> Option<u64> {
        self.value(name, |value, at| self.judge(at, number(value.as_integer()?)))
    }

    /// A duration longer than zero.
    pub(super) fn duration(&self, name: &str) -> Option<Duration> {
        let duration = self.duration_or_zero(name)?;
        if duration.is_zero() {
            self.cx.error(&self.at(name), Wrong::new("this duration must be longer than zero"));
            return None;
        }
        Some(duration)
    }

    /// A duration.
    pub(super) fn duration_or_zero(&self, name: &str) -> Option<Duration> {
        self.parse(name, super::measure::duration)
    }

    /// A number of bytes.
    pub(super) fn size(&self, name: &str) -> Option<u64> {
        self.value(name, |value, at| match value {
            DeValue::String(text) => self.judge(at, super::measure::size(text)),
            value => self.judge(at, number(value.as_integer()?)),
        })
    }

    /// The entries of a table whose keys the operator chose: key, its place, value.
    pub(super) fn entries(&self, name: &str) -> Vec<(String, At, &'a DeValue<'a>)> {
        let Some(table) = self.written(name).and_then(|value| value.get_ref().as_table()) else { return Vec::new() };
        let entry = |(key, value): (&Spanned<Cow<'_, str>>, &'a Spanned<DeValue<'a>>)| {
            let at = At { key: join(&self.path(name), key.get_ref()), span: Some(key.span()) };
            (key.get_ref().clone().into_owned(), at, value.get_ref())
        };
        table.iter().map(entry).collect()
    }

    /// The table `name`; all defaults when it was not written.
    pub(super) fn table(&self, name: &str) -> Option<Self> {
        let keys = match schema::key(self.keys, name)?.kind {
            schema::Kind::Table(keys) => keys,
            // One that may be something else as well.
            schema::Kind::Either(kinds) => kinds.iter().find_map(|kind| match kind {
                schema::Kind::Table(keys) => Some(*keys),
                _ => None,
            })?,
            _ => return None,
        };
        let table = match self.written(name) {
            None => None,
            Some(value) => Some(value.get_ref().as_table()?),
        };
        Some(Self { cx: self.cx, keys, table, at: self.at(name) })
    }

    /// The tables below `name` in the order of the file: the names that the operator chose, with their places.
    pub(super) fn tables(&self, name: &str) -> Vec<(String, At, Self)> {
        let Some(schema::Kind::Map(schema::Kind::Table(keys))) = schema::key(self.keys, name).map(|key| key.kind)
        else {
            return Vec::new();
        };
        let Some(tables) = self.written(name).and_then(|value| value.get_ref().as_table()) else { return Vec::new() };
        let section = |(key, value): (&Spanned<Cow<'_, str>>, &'a Spanned<DeValue<'a>>)| {
            let path = join(&self.path(name), key.get_ref());
            let at = |span: Range<usize>| At { key: path.clone(), span: Some(span) };
            let table = Some(value.get_ref().as_table()?);
            let section = Self { cx: self.cx, keys, table, at: at(value.span()) };
            Some((key.get_ref().clone().into_owned(), at(key.span()), section))
        };
        let mut tables: Vec<_> = tables.iter().filter_map(section).collect();
        tables.sort_by_key(|(_, at, _)| at.span.as_ref().map(|span| span.start));
        tables
    }

    fn judge<T>(&self, at: &At, result: Result<T, Wrong>) -> Option<T> {
        result.map_err(|wrong| self.cx.error(at, wrong)).ok()
    }
}

fn number(written: &DeInteger<'_>) -> Result<u64, Wrong> {
    let number = u64::from_str_radix(written.as_str(), written.radix()).ok().filter(|number| *number > 0);
    number.ok_or_else(|| Wrong::new("this number must be one or more"))
}
