//! A config as one setting per key, with the defaults filled in, so that two of them can be compared as an operator
//! would: by what they say and not by how it is written. No secret is ever shown.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::Environment;
use super::keys::CLIENT;
use super::mask::{self, MASK};
use super::report::join;
use super::schema::{Key, Keys, Kind, Need, ROOT};
use super::section::Context;
use super::walk::looks_like;
use super::{Secret, measure, secret};

/// What one key says.
pub(super) struct Setting {
    /// For people; a secret is only where it is read.
    shown: String,
    /// Equal for two texts that mean the same. Never shown, for it may hold what is masked.
    meaning: String,
    secret: Option<Secret>,
    written: bool,
}

/// How a setting differs from the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Likeness {
    Same,
    /// It is read from elsewhere, and is the same secret.
    SameSecret,
    Different,
}

impl Setting {
    /// The value, and whether it is only the default.
    pub(super) fn shown(&self) -> String {
        if self.written { self.shown.clone() } else { format!("{} (default)", self.shown) }
    }

    pub(super) const fn is_written(&self) -> bool {
        self.written
    }

    pub(super) fn likeness(&self, other: &Self) -> Likeness {
        match (&self.secret, &other.secret) {
            (Some(one), Some(two)) if one != two => Likeness::Different,
            _ if self.meaning == other.meaning => Likeness::Same,
            (Some(_), Some(_)) => Likeness::SameSecret,
            _ => Likeness::Different,
        }
    }
}

/// All settings of `text`, which has been loaded from `path` without an error.
pub(super) fn flatten(path: &Path, text: &str, environment: &dyn Environment) -> BTreeMap<String, Setting> {
    let (table, _) = DeTable::parse_recoverable(text);
    let cx = Context::new(environment, path, text.as_bytes());
    let mut flat = Flat { cx: &cx, settings: BTreeMap::new() };
    flat.table(ROOT, Some(table.get_ref()), ("", ""));
    flat.settings
}

struct Flat<'a> {
    cx: &'a Context<'a>,
    settings: BTreeMap<String, Setting>,
}

impl Flat<'_> {
    /// `path` is the table's name as the operator sees it, `place` that in the schema.
    fn table(&mut self, keys: Keys, table: Option<&DeTable<'_>>, (path, place): (&str, &str)) {
        for key in keys.iter().copied().flatten() {
            let place = if place.is_empty() { key.name.to_owned() } else { format!("{place}.{}", key.name) };
            let path = join(path, key.name);
            match (table.and_then(|table| table.get(key.name)), key.need, &key.kind) {
                (Some(value), ..) => self.value(&key.kind, value.get_ref(), (&path, &place), true),
                _ if is_inherited(key, &place) => {}
                (None, _, Kind::Table(inner)) if place != "sessions.store" => self.table(inner, None, (&path, &place)),
                (None, Need::Default(text), kind) => {
                    if let Ok(value) = DeValue::parse(text) {
                        self.value(kind, value.get_ref(), (&path, &place), false);
                    }
                }
                (None, Need::Required(_) | Need::Optional(_) | Need::Usual(_), _) => {}
            }
        }
    }

    fn value(&mut self, kind: &Kind, value: &DeValue<'_>, (path, place): (&str, &str), written: bool) {
        match (kind, value) {
            (Kind::Either(kinds), value) => {
                if let Some(kind) = kinds.iter().find(|kind| looks_like(kind, value)) {
                    self.value(kind, value, (path, place), written);
                }
            }
            (Kind::Table(keys), DeValue::Table(table)) => self.table(keys, Some(table), (path, place)),
            (Kind::Map(inner @ Kind::Table(_)), DeValue::Table(table)) => {
                for (name, value) in table {
                    let place = format!("{place}.*");
                    self.value(inner, value.get_ref(), (&join(path, name.get_ref()), &place), written);
                }
            }
            (Kind::List(inner @ Kind::Secret), DeValue::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(inner, item.get_ref(), (&format!("{path}[{index}]"), place), written);
                }
            }
            (Kind::Secret, value) => {
                let shown = if matches!(value, DeValue::String(_)) { MASK.to_owned() } else { show(value, "") };
                let secret = secret::quietly(self.cx, value);
                self.put(path, Setting { meaning: shown.clone(), shown, secret, written });
            }
            (kind, value) => {
                let meaning = meaning(kind, value);
                self.put(path, Setting { shown: show(value, ""), meaning, secret: None, written });
            }
        }
    }

    fn put(&mut self, path: &str, setting: Setting) {
        self.settings.insert(path.to_owned(), setting);
    }
}

/// A route's client is the provider's unless the route brings its own, so a key that is not there says nothing.
fn is_inherited(key: &Key, place: &str) -> bool {
    place.starts_with("routes.*") && CLIENT.iter().any(|client| std::ptr::eq(client, key))
}

/// What `value` means, however it is written.
fn meaning(kind: &Kind, value: &DeValue<'_>) -> String {
    let measured = match (kind, value) {
        (Kind::Duration, DeValue::String(text)) => {
            measure::duration(text).ok().map(|duration| duration.as_millis().to_string())
        }
        (Kind::Size, DeValue::String(text)) => measure::size(text).ok().map(|size| size.to_string()),
        _ => None,
    };
    measured.unwrap_or_else(|| raw(value))
}

/// `value` as TOML, without what may be a secret. `name` is the key that it has in a table of names.
fn show(value: &DeValue<'_>, name: &str) -> String {
    match value {
        _ if mask::is_secretive(name) => MASK.to_owned(),
        DeValue::String(text) => format!("\"{}\"", mask::url(text).escape_debug()),
        DeValue::Array(items) => format!("[{}]", list(items.iter().map(|item| show(item.get_ref(), "")))),
        DeValue::Table(table) if table.is_empty() => "{}".to_owned(),
        DeValue::Table(table) => {
            let entry = |(name, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
                format!("{} = {}", join("", name.get_ref()), show(value.get_ref(), name.get_ref()))
            };
            format!("{{ {} }}", list(table.iter().map(entry)))
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => raw(value),
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// `value` with everything in it.
fn raw(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("\"{text}\""),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| number.as_str().to_owned(), |number| number.to_string()),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Array(items) => format!("[{}]", list(items.iter().map(|item| raw(item.get_ref())))),
        DeValue::Table(table) => {
            list(table.iter().map(|(name, value)| format!("{:?} = {}", name.get_ref(), raw(value.get_ref()))))
        }
    }
}
