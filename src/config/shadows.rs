//! Prefixes of one route that would take the place of another route's endpoints: on the same host of the same listener the
//! longest prefix wins, whoever it belongs to.

use std::sync::Arc;

use super::mode_name::ModeName;
use super::report::{At, Wrong};
use super::section::Section;
use super::{Mode, Route};

/// Checks each legal route against all others.
pub(super) fn find(routes: &[(Arc<Route>, &Section<'_>)]) {
    for (owner, owners) in routes {
        for (route, section) in routes.iter().filter(|(route, _)| meet(owner, route)) {
            for (prefix, at) in prefixes(route, section) {
                let Some(endpoint) = shadowed(owner, &prefix) else { continue };
                let base = &owner.base_path;
                let wrong =
                    Wrong::new(format!("this would shadow `{base}/{endpoint}`, an endpoint of route `{}`", owner.name))
                        .also(owners.at("public_url"), "which is on the same host and listener");
                let hint = format!(
                    "choose another path, or give `{}` another `base_path`, such as `\"/.vestibule\"`",
                    owner.name
                );
                section.cx.error(&at, wrong.hint(hint));
            }
        }
    }
}

/// Whether two routes answer for one host on one listener.
fn meet(one: &Route, other: &Route) -> bool {
    let shares = |host: &str| other.public_urls.iter().any(|url| url.host == host);
    one.name != other.name && one.listen == other.listen && one.public_urls.iter().any(|url| shares(&url.host))
}

/// What a route claims, each with where that is written.
fn prefixes(route: &Route, section: &Section<'_>) -> Vec<(String, At)> {
    let tables = section.tables("paths");
    let written = |prefix: &str| tables.iter().find(|(name, ..)| name == prefix).map(|(_, at, _)| at.clone());
    let rule = |prefix: &String| (prefix.clone(), written(prefix).unwrap_or_else(|| section.at("public_url")));
    let endpoints = (!endpoints(&route.mode).is_empty() && !route.base_path.is_empty())
        .then(|| (format!("{}/", route.base_path), section.at("base_path")));
    route.paths.iter().map(|path| rule(&path.prefix)).chain(endpoints).collect()
}

/// The endpoint of `owner` at or below `prefix`. A shorter prefix than that of the endpoints does not matter.
fn shadowed(owner: &Route, prefix: &str) -> Option<&'static str> {
    let below = prefix.strip_prefix(owner.base_path.as_str())?.strip_prefix('/')?;
    let first = below.split('/').next()?;
    endpoints(&owner.mode).iter().find(|endpoint| **endpoint == first).copied()
}

/// The first segments of a mode's endpoints.
const fn endpoints(mode: &Mode) -> &'static [&'static str] {
    match mode {
        Mode::AuthCode(_) => ModeName::AuthCode.endpoints(),
        Mode::Device(_) => ModeName::Device.endpoints(),
        Mode::Verify(_) => ModeName::Verify.endpoints(),
    }
}
