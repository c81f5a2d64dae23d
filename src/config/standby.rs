//! Where a process answers its operators, also while the file that it once read is broken: it goes on serving then.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::schema::{Kind, Need, ROOT, key};
use super::{Environment, Listen, load};

/// `server.metrics_listen` of the config at `path`, or what it most likely is when that cannot be used; `None`: it is off.
#[must_use]
pub fn metrics_listen(path: &Path, environment: &dyn Environment) -> Option<Listen> {
    if let Ok(loaded) = load(path, environment) {
        return loaded.config.server.metrics_listen;
    }
    let bytes = environment.read(path).map(|file| file.bytes).unwrap_or_default();
    let (table, _) = DeTable::parse_recoverable(std::str::from_utf8(&bytes).unwrap_or_default());
    let written = table.get_ref().get("server").and_then(|server| match server.get_ref() {
        DeValue::Table(server) => server.get("metrics_listen"),
        _ => None,
    });
    match written.map(|value| value.get_ref()) {
        Some(DeValue::String(text)) if text == "off" => None,
        Some(DeValue::String(text)) => Listen::parse(text).ok().or_else(usual),
        Some(_) | None => usual(),
    }
}

/// The default.
fn usual() -> Option<Listen> {
    let Some(Kind::Table(server)) = key(ROOT, "server").map(|key| key.kind) else { return None };
    match key(server, "metrics_listen")?.need {
        Need::Default(written) => Listen::parse(written.trim_matches('"')).ok(),
        _ => None,
    }
}
