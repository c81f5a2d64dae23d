//! `config/reference.toml`: the schema as an operator reads it.

use std::fmt::Write;

use super::schema::{Key, Keys, Kind, Need, ROOT};

const HEAD: &str = "\
#:schema ./vestibule.schema.json
#
# Every key of Vestibule's config, its default and its meaning. A key that is commented out has no default: what its
# absence means is said above it, and the value is an example. Written from the program's own table of keys.
#
# Durations are strings such as \"500ms\", \"30s\", \"5m 30s\" or \"10h\".
# Secrets are { file = \"/path\" }, { env = \"NAME\" } or { credential = \"name\" } (systemd). A secret in this file itself
# works too, with a warning. Relative paths begin at the config's directory.
#
# Every key takes effect when the file is saved; no key needs a restart. Secrets in files, and the ca_file of a
# provider or an upstream, are watched like it; what is in the environment or a credential changes with a restart only.
";

const WIDTH: usize = 118;

/// The whole reference. It is a config that works: the smallest one, with every default written out.
#[must_use]
pub fn reference() -> String {
    let mut reference = Reference { text: HEAD.to_owned(), told: Vec::new() };
    reference.table(ROOT, "");
    reference.text
}

struct Reference {
    text: String,
    /// Groups of keys that were explained already; they are the same wherever they stand.
    told: Vec<&'static str>,
}

impl Reference {
    fn table(&mut self, keys: Keys, path: &str) {
        for group in keys {
            if let Some(first) = group.first() {
                if self.told.contains(&first.doc) {
                    self.refer_to(group);
                    continue;
                }
                self.told.push(first.doc);
            }
            group.iter().filter(|key| !is_table(key)).for_each(|key| self.key(key));
        }
        // Tables come last: in TOML what follows a header belongs to it.
        for key in keys.iter().copied().flatten().filter(|key| is_table(key)) {
            let example = match key.need {
                Need::Required(name) | Need::Optional(name) | Need::Usual(name) | Need::Default(name) => name,
            };
            let (inner, path) = match key.kind {
                Kind::Table(inner) => (inner, join(path, key.name)),
                Kind::Map(Kind::Table(inner)) => (*inner, join(&join(path, key.name), example)),
                _ => continue,
            };
            self.text.push('\n');
            self.comment(key.doc);
            self.line(&format!("[{path}]"));
            self.table(inner, &path);
        }
    }

    fn key(&mut self, key: &Key) {
        self.text.push('\n');
        self.comment(&format!("{}{}", key.doc, values(&key.kind)));
        match key.need {
            Need::Required(value) | Need::Default(value) | Need::Usual(value) => {
                self.line(&format!("{} = {value}", key.name))
            }
            Need::Optional(value) => self.line(&format!("# {} = {value}", key.name)),
        }
        let Kind::Either(kinds) = key.kind else { return };
        // What may stand in an inline table.
        for inner in kinds.iter().filter_map(|kind| if let Kind::Table(keys) = kind { Some(*keys) } else { None }) {
            for key in inner.iter().copied().flatten() {
                let (Need::Required(value) | Need::Default(value) | Need::Usual(value) | Need::Optional(value)) =
                    key.need;
                self.comment(&format!("{{ {} = {value} }}: {}", key.name, key.doc));
            }
        }
    }

    fn refer_to(&mut self, group: &[Key]) {
        let names: Vec<&str> = group.iter().map(|key| key.name).collect();
        self.text.push('\n');
        self.comment(&format!(
            "Or a whole client of its own, which inherits only the issuer; the keys are those of the provider: {}.",
            names.join(", ")
        ));
        if let Some(first) = group.first() {
            self.line(&format!("# {} = \"app\"", first.name));
        }
    }

    fn comment(&mut self, text: &str) {
        let mut width = 0;
        for word in text.split_whitespace() {
            if width == 0 || width + 1 + word.chars().count() > WIDTH {
                self.text.push_str(if width == 0 { "#" } else { "\n#" });
                width = 1;
            }
            width += 1 + word.chars().count();
            self.text.push(' ');
            self.text.push_str(word);
        }
        self.text.push('\n');
    }

    fn line(&mut self, line: &str) {
        // Writing to a string cannot fail.
        let _written = writeln!(self.text, "{line}");
    }
}

/// The values to choose from, if there is a choice.
fn values(kind: &Kind) -> String {
    match kind {
        Kind::Choice(values) => {
            let offered: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
            if offered.len() > 1 { format!(" Values: {}.", offered.join(", ")) } else { String::new() }
        }
        Kind::Either(kinds) => kinds.iter().map(values).collect(),
        _ => String::new(),
    }
}

const fn is_table(key: &Key) -> bool {
    matches!(key.kind, Kind::Table(_) | Kind::Map(Kind::Table(_)))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
