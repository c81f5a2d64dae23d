//! What a config may say, as data: every key with its kind, its default and its meaning, in one table.
//!
//! This table is the only source for the check of unknown keys and types, for "did you mean", for the defaults that
//! `resolve` reads, for `config/reference.toml` and for the JSON schema.

use super::keys;

/// The groups of keys that a table may have.
pub(super) type Keys = &'static [&'static [Key]];

/// The keys of the whole file.
pub(super) const ROOT: Keys = &[keys::ROOT];

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) need: Need,
    /// The meaning, in the words of `config/reference.toml`.
    pub(super) doc: &'static str,
}

/// What happens when the key is left out. The texts are TOML values, or the example's name for a table of names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Need {
    /// Without it there is no config; an example.
    Required(&'static str),
    /// This value stands in.
    Default(&'static str),
    /// It may be absent, and absence means what the doc says; an example.
    Optional(&'static str),
    /// Like `Optional`, but the smallest useful config has it, so the reference does not comment it out.
    Usual(&'static str),
}

/// What a value must look like.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Any string; what it must say is judged where it is read.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number, zero or more.
    Count,
    /// A string such as `"5m 30s"`.
    Duration,
    /// A number of bytes, or a string such as `"10MiB"`.
    Size,
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// `{ file }`, `{ env }`, `{ credential }`, or the secret itself.
    Secret,
    /// An array.
    List(&'static Self),
    /// A table whose keys the operator chooses.
    Map(&'static Self),
    /// A table with these keys.
    Table(Keys),
    /// Any of these; no two of one TOML type.
    Either(&'static [Self]),
}

impl Kind {
    /// Whether a value of this kind, or anything in it, may be a secret.
    pub(super) fn holds_secret(&self) -> bool {
        match self {
            Self::Secret => true,
            Self::List(inner) | Self::Map(inner) => inner.holds_secret(),
            Self::Either(kinds) => kinds.iter().any(Self::holds_secret),
            Self::Table(keys) => keys.iter().copied().flatten().any(|key| key.kind.holds_secret()),
            Self::Text | Self::Bool | Self::Count | Self::Duration | Self::Size | Self::Choice(_) => false,
        }
    }

    /// The kind in words, as in "must be …".
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Text => "a string".to_owned(),
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Count => "a whole number".to_owned(),
            Self::Duration => "a duration such as `\"30s\"`".to_owned(),
            Self::Size => "a number of bytes, or a size such as `\"10MiB\"`".to_owned(),
            Self::Choice(values) => one_of(values),
            Self::Secret => "a secret such as `{ file = \"/etc/vestibule/web.secret\" }`".to_owned(),
            Self::List(Self::Secret) => "a list of secrets".to_owned(),
            Self::List(_) => "a list of strings".to_owned(),
            Self::Map(Self::Table(_)) => "a table of tables".to_owned(),
            Self::Map(_) => "a table of strings".to_owned(),
            Self::Table(_) => "a table".to_owned(),
            Self::Either(kinds) => {
                let kinds: Vec<String> = kinds.iter().map(Self::describe).collect();
                kinds.join(", or ")
            }
        }
    }
}

/// `"a"`, `"b"` or `"c"`.
pub(super) fn one_of(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("`\"{value}\"`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// The key `name` among `keys`.
pub(super) fn key(keys: &[&'static [Key]], name: &str) -> Option<&'static Key> {
    keys.iter().copied().flatten().find(|key| key.name == name)
}

/// The first key `name` in any table.
pub(super) fn anywhere(name: &str) -> Option<&'static Key> {
    within(ROOT, "", &mut |_, key| key.name == name).map(|(_, key)| key)
}

/// The tables that have a key `name`, as their headers are written; none when the top level has it.
pub(super) fn homes_of(name: &str) -> Vec<String> {
    let mut homes = Vec::new();
    within(ROOT, "", &mut |table, key| {
        if key.name == name && !table.is_empty() {
            homes.push(format!("`[{table}]`"));
        }
        false
    });
    homes
}

/// Walks all keys, with the name of the table that each stands in, until `stop` says so.
fn within(
    keys: &[&'static [Key]],
    table: &str,
    stop: &mut dyn FnMut(&str, &'static Key) -> bool,
) -> Option<(String, &'static Key)> {
    for key in keys.iter().copied().flatten() {
        if stop(table, key) {
            return Some((table.to_owned(), key));
        }
        let dot = if table.is_empty() { "" } else { "." };
        let (inner, table) = match key.kind {
            Kind::Table(inner) => (inner, format!("{table}{dot}{}", key.name)),
            Kind::Map(Kind::Table(inner)) => (*inner, format!("{table}{dot}{}.NAME", key.name)),
            _ => continue,
        };
        if let Some(found) = within(inner, &table, stop) {
            return Some(found);
        }
    }
    None
}
