//! The first pass over a parsed config: every key is known, every value has its type, nothing required is missing.
//!
//! Nothing here judges what a string says; that is done where the value is read. On its way the walk collects where
//! secrets stand, so that the report can mask them.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::SECRET;
use super::report::{At, Problem, Severity, Wrong, join, nearest, quote};
use super::schema::{self, Key, Keys, Kind, Need, ROOT};
use super::{mask, schema::one_of};

/// What the walk found.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub(super) problems: Vec<Problem>,
    /// Where secrets stand, or what might be some.
    pub(super) secrets: Vec<Range<usize>>,
    /// Where all strings stand.
    pub(super) strings: Vec<Range<usize>>,
}

/// Where the walk is: the key as the operator sees it, and its place in the schema, where chosen names are `*`.
struct Here {
    at: At,
    place: String,
}

impl Here {
    fn child(&self, name: &str, place: &str, span: Range<usize>) -> Self {
        let place = if self.place.is_empty() { place.to_owned() } else { format!("{}.{place}", self.place) };
        Self { at: At { key: join(&self.at.key, name), span: Some(span) }, place }
    }
}

impl Walk {
    /// Walks the whole file. A text with syntax errors is not `complete`: what is missing may only be unread.
    pub(super) fn over(table: &DeTable<'_>, complete: bool) -> Self {
        let mut walk = Self::default();
        walk.table(ROOT, table, &Here { at: At::default(), place: String::new() });
        table.values().for_each(|value| walk.collect_strings(value));
        if !complete {
            walk.problems.retain(|problem| !problem.is_about_absence());
        }
        walk
    }

    fn table(&mut self, keys: Keys, table: &DeTable<'_>, here: &Here) {
        for (name, value) in table {
            let inner = here.child(name.get_ref(), name.get_ref(), name.span());
            match schema::key(keys, name.get_ref()) {
                None => self.unknown(keys, name, value, &inner),
                Some(key) => self.value(&key.kind, value, &inner),
            }
        }
        for key in keys.iter().copied().flatten() {
            if let (Need::Required(example), false) = (key.need, table.contains_key(key.name)) {
                self.missing(key, example, here);
            }
        }
    }

    fn value(&mut self, kind: &Kind, value: &Spanned<DeValue<'_>>, here: &Here) {
        let here = &Here { at: At { key: here.at.key.clone(), span: Some(value.span()) }, place: here.place.clone() };
        match (kind, value.get_ref()) {
            (Kind::Either(kinds), found) => match kinds.iter().find(|kind| looks_like(kind, found)) {
                Some(kind) => self.value(kind, value, here),
                None => self.mismatch(kind, value, here),
            },
            (Kind::Choice(values), DeValue::String(text)) => self.choice(values, text, here),
            (Kind::Secret, DeValue::String(_)) => self.secrets.push(value.span()),
            (Kind::Secret, DeValue::Table(table)) => self.secret(table, here),
            (Kind::List(inner), DeValue::Array(items)) => {
                for item in items.iter() {
                    self.value(inner, item, here);
                }
            }
            (Kind::Map(inner), DeValue::Table(table)) => {
                for (name, value) in table {
                    self.hide_if(mask::is_secretive(name.get_ref()) && matches!(inner, Kind::Text), value);
                    self.value(inner, value, &here.child(name.get_ref(), "*", name.span()));
                }
            }
            (Kind::Table(keys), DeValue::Table(table)) => self.table(keys, table, here),
            (kind, found) if looks_like(kind, found) => {}
            _ => self.mismatch(kind, value, here),
        }
    }

    fn choice(&mut self, values: &[&str], text: &str, here: &Here) {
        if values.contains(&text) {
            return;
        }
        let key = here.at.key.rsplit('.').next().unwrap_or_default();
        let wrong = Wrong::new(format!("`{key}` cannot be {}", quote(text)));
        let wrong = match (nearest(text, values.iter().copied()), values) {
            (Some(near), [_]) => wrong.hint(format!("did you mean `\"{near}\"`?")),
            (Some(near), _) => wrong.label(one_of(values)).hint(format!("did you mean `\"{near}\"`?")),
            (None, _) => wrong.hint(format!("write {}", one_of(values))),
        };
        self.error(&here.at, wrong);
    }

    /// A table that says where a secret is read. What is not understood in it may be the secret itself.
    fn secret(&mut self, table: &DeTable<'_>, here: &Here) {
        for (name, value) in table {
            let understood = SECRET.iter().any(|key| key.name == name.get_ref()) && value.get_ref().is_str();
            self.hide_if(!understood, value);
        }
        self.table(&[SECRET], table, here);
    }

    fn unknown(&mut self, keys: Keys, name: &Spanned<Cow<'_, str>>, value: &Spanned<DeValue<'_>>, here: &Here) {
        let known = keys.iter().copied().flatten().map(|key| key.name);
        let near = nearest(name.get_ref(), known);
        // An exact name in the wrong table is more than a resemblance, but `provider` for `providers` is a slip.
        let slip = near.is_some_and(|near| near.strip_suffix('s') == Some(name.get_ref()));
        let elsewhere = if slip { Vec::new() } else { schema::homes_of(name.get_ref()) };
        // A misspelt `client_secret` still holds the secret, and so may a key that resembles nothing.
        let meant = if elsewhere.is_empty() { near } else { Some(name.get_ref().as_ref()) };
        let harmless = meant.and_then(schema::anywhere).is_some_and(|key| !key.kind.holds_secret());
        self.hide_if(!harmless, value);
        let wrong = Wrong::new(format!("there is no key {} here", quote(name.get_ref()))).label("unknown key");
        let wrong = match (near, elsewhere.as_slice()) {
            _ if name.get_ref().contains("insecure") || name.get_ref().contains("skip_verif") => {
                wrong.hint("certificates are always verified; trust a private CA with `ca_file`")
            }
            (Some(near), []) => wrong.hint(format!("did you mean `{near}`?")),
            (None, []) => wrong,
            (_, homes) => wrong.hint(format!("it belongs into {}", homes.join(" or "))),
        };
        self.error(&here.at, wrong);
    }

    fn missing(&mut self, key: &Key, example: &str, here: &Here) {
        let wrong = match key.kind {
            Kind::Map(_) => Wrong::new(format!("there is no `[{}.NAME]`", key.name))
                .hint(format!("begin with `[{}.{example}]`", key.name)),
            _ => Wrong::new(format!("`{}` is missing", key.name))
                .hint(format!("add a line such as `{} = {example}`", key.name)),
        };
        self.error(&here.at, wrong.absence());
    }

    fn mismatch(&mut self, kind: &Kind, value: &Spanned<DeValue<'_>>, here: &Here) {
        self.hide_if(kind.holds_secret(), value);
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "a truth value",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let wrong = Wrong::new(format!("this must be {}, not {found}", kind.describe()));
        let hint = match (kind, value.get_ref()) {
            (Kind::Duration, DeValue::Integer(number)) => Some(format!("say the unit: `\"{number}s\"`")),
            (Kind::Map(_), DeValue::Array(_)) => Some(format!("write `[{}.NAME]` with single brackets", here.at.key)),
            (Kind::List(Kind::Text), DeValue::String(_)) => Some("put it into `[` and `]`".to_owned()),
            (Kind::Bool, DeValue::String(_)) => Some("leave the quotes out".to_owned()),
            (Kind::Text | Kind::Choice(_), DeValue::Integer(_) | DeValue::Boolean(_)) => {
                Some("put it into quotes".to_owned())
            }
            _ => None,
        };
        self.error(
            &here.at,
            match hint {
                Some(hint) => wrong.hint(hint),
                None => wrong,
            },
        );
    }

    /// Masks what stands in `value`; the place of a table is its header, so tables are masked from within.
    fn hide_if(&mut self, secret: bool, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            _ if !secret => {}
            DeValue::Table(table) => table.values().for_each(|value| self.hide_if(true, value)),
            DeValue::Array(items) => items.iter().for_each(|item| self.hide_if(true, item)),
            _ => self.secrets.push(value.span()),
        }
    }

    fn collect_strings(&mut self, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::String(_) => self.strings.push(value.span()),
            DeValue::Array(items) => items.iter().for_each(|item| self.collect_strings(item)),
            DeValue::Table(table) => table.values().for_each(|value| self.collect_strings(value)),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
        }
    }

    fn error(&mut self, at: &At, wrong: Wrong) {
        self.problems.push(Problem::new(Severity::Error, at.clone(), wrong));
    }
}

/// Whether `value` has the TOML type of `kind`.
pub(super) fn looks_like(kind: &Kind, value: &DeValue<'_>) -> bool {
    match value {
        DeValue::String(_) => {
            matches!(kind, Kind::Text | Kind::Duration | Kind::Size | Kind::Choice(_) | Kind::Secret)
        }
        DeValue::Integer(_) => matches!(kind, Kind::Count | Kind::Size),
        DeValue::Boolean(_) => matches!(kind, Kind::Bool),
        DeValue::Array(_) => matches!(kind, Kind::List(_)),
        DeValue::Table(_) => matches!(kind, Kind::Map(_) | Kind::Table(_) | Kind::Secret),
        DeValue::Float(_) | DeValue::Datetime(_) => false,
    }
}
