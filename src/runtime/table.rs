//! Which route a request belongs to: host, then the longest prefix on a segment boundary, on the path as it came.
//!
//! Where rules differ by path, a path that two readers could understand differently is refused instead of guessed at
//! (the router would protect one path and the upstream serve another). A host with one rule for everything has nothing
//! to guess, and its paths go on byte for byte.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;

use crate::config::{self, Mode, resource_metadata_path};
use crate::error::{Reason, Refusal};
use crate::metrics::{Metrics, RouteMetrics};
use crate::mode::{Endpoint, Place, Route};

/// The routes of one listener.
#[derive(Debug)]
pub struct Table {
    routes: Vec<Entry>,
    hosts: HashMap<String, Host>,
}

#[derive(Debug)]
struct Entry {
    route: Route,
    metrics: RouteMetrics,
}

#[derive(Debug, Default)]
struct Host {
    /// Exact paths where the metadata of a resource are; found before any rule, since clients look nowhere else.
    resources: Vec<Resource>,
    prefixes: Vec<Prefix>,
    reading: Reading,
}

#[derive(Debug)]
struct Prefix {
    /// Without the trailing slash.
    text: String,
    route: usize,
    site: usize,
    kind: PrefixKind,
}

#[derive(Debug)]
struct Resource {
    path: String,
    route: usize,
    site: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PrefixKind {
    Endpoints,
    Rule(usize),
}

/// How strictly a path is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reading {
    /// One rule for everything: as it came.
    #[default]
    Raw,
    /// One rule for a part of the paths: nothing may lead out of it.
    Confined,
    /// Several rules: only one spelling of each path.
    Canonical,
}

/// A request's route.
#[derive(Clone, Copy, Debug)]
pub struct Match<'a> {
    /// The route.
    pub route: &'a Route,
    /// Its counters.
    pub metrics: &'a RouteMetrics,
    /// Which of its public URLs was asked.
    pub site: usize,
    /// The endpoint or rule; `None` when the route has neither at this path, or when that is in doubt.
    pub place: Option<Place>,
    /// Why the path could be read in two ways. The route is known all the same, so that its scripts may read the refusal.
    pub doubt: Option<&'static str>,
}

impl Match<'_> {
    /// Why there is no place.
    #[must_use]
    pub fn nowhere(&self) -> Refusal {
        nowhere(self.doubt)
    }
}

/// Nothing is at a path, or it is in doubt what is.
fn nowhere(doubt: Option<&'static str>) -> Refusal {
    match doubt {
        Some(why) => Refusal::new(Reason::AmbiguousPath).because(why),
        None => Refusal::new(Reason::NotFound),
    }
}

impl Table {
    /// A table of `routes`, with their metric series resolved.
    #[must_use]
    pub fn new(routes: Vec<Route>, metrics: &Metrics) -> Self {
        let routes: Vec<Entry> = routes
            .into_iter()
            .map(|route| Entry { metrics: metrics.route(route.config().name.as_str()), route })
            .collect();
        let mut hosts: HashMap<String, Host> = HashMap::new();
        for (index, Entry { route, .. }) in routes.iter().enumerate() {
            for (site, origin) in route.config().public_urls.iter().enumerate() {
                let host = hosts.entry(origin.host.clone()).or_default();
                host.prefixes.extend(prefixes(route.config(), index, site));
                let path = route.config().mode.resource().map(resource_metadata_path);
                host.resources.extend(path.map(|path| Resource { path, route: index, site }));
            }
        }
        for host in hosts.values_mut() {
            host.prefixes.sort_by_key(|prefix| std::cmp::Reverse(prefix.text.len()));
            host.reading = host.reading();
        }
        Self { routes, hosts }
    }

    /// Finds the route for a `Host` value and a raw path.
    ///
    /// # Errors
    /// `host_mismatch` when no route has this host, `not_found` when no route of the host has anything there,
    /// `ambiguous_path` when even that is in doubt.
    pub fn find(&self, host: &str, path: &str) -> Result<Match<'_>, Refusal> {
        let host = self
            .host(host)
            .ok_or_else(|| Refusal::new(Reason::HostMismatch).because("no route has this host"))?;
        let resource = host.resources.iter().find(|resource| resource.path == path);
        if let Some((resource, entry)) = resource.and_then(|found| Some((found, self.routes.get(found.route)?))) {
            let place = Some(Place::Endpoint(Endpoint::ProtectedResource));
            return Ok(Match { route: &entry.route, metrics: &entry.metrics, site: resource.site, place, doubt: None });
        }
        let doubt = host.reading.refuses(path).or_else(|| host.decodes_elsewhere(path));
        let nowhere = || nowhere(doubt);
        let prefix = host.above(path).and_then(|at| host.prefixes.get(at)).ok_or_else(nowhere)?;
        let entry = self.routes.get(prefix.route).ok_or_else(nowhere)?;
        let place = match prefix.kind {
            _ if doubt.is_some() => None,
            PrefixKind::Rule(rule) => Some(Place::Rule(rule)),
            PrefixKind::Endpoints => {
                let rest = path.strip_prefix(&prefix.text).and_then(|rest| rest.strip_prefix('/'));
                rest.and_then(Endpoint::at).map(Place::Endpoint)
            }
        };
        Ok(Match { route: &entry.route, metrics: &entry.metrics, site: prefix.site, place, doubt })
    }

    /// Hosts are compared in lower case, as they are in the table; most arrive so, and then nothing is copied.
    fn host(&self, host: &str) -> Option<&Host> {
        if let Some(found) = self.hosts.get(host) {
            return Some(found);
        }
        let lower = host.to_ascii_lowercase();
        let bare = lower.strip_suffix(":443").or_else(|| lower.strip_suffix(":80")).unwrap_or(&lower);
        self.hosts.get(lower.as_str()).or_else(|| self.hosts.get(bare.strip_suffix('.').unwrap_or(bare)))
    }
}

fn prefixes(config: &config::Route, route: usize, site: usize) -> impl Iterator<Item = Prefix> {
    let has_endpoints = !matches!(config.mode, Mode::Verify(_));
    let endpoints = Prefix { text: config.base_path.clone(), route, site, kind: PrefixKind::Endpoints };
    let rules = config.paths.iter().enumerate().map(move |(index, rule)| Prefix {
        text: rule.prefix.trim_end_matches('/').to_owned(),
        route,
        site,
        kind: PrefixKind::Rule(index),
    });
    rules.chain(has_endpoints.then_some(endpoints))
}

/// Whether `path` is `prefix` itself or below it.
fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Host {
    /// The index of the longest prefix above `path`.
    fn above(&self, path: &str) -> Option<usize> {
        self.prefixes.iter().position(|prefix| is_under(path, &prefix.text))
    }

    /// Why an upstream that decodes the path would see it under another prefix.
    fn decodes_elsewhere(&self, path: &str) -> Option<&'static str> {
        if self.reading == Reading::Raw || !path.contains('%') {
            return None;
        }
        let decoded = percent_decode_str(path).decode_utf8_lossy();
        (self.above(&decoded) != self.above(path)).then_some("decoded, it belongs to another rule")
    }

    fn reading(&self) -> Reading {
        let mut rules = self.prefixes.iter().filter(|prefix| prefix.kind != PrefixKind::Endpoints);
        match (rules.next(), rules.next()) {
            (Some(only), None) if only.text.is_empty() => Reading::Raw,
            (_, None) => Reading::Confined,
            (_, Some(_)) => Reading::Canonical,
        }
    }
}

impl Reading {
    /// Why `path` cannot be read in one way only.
    fn refuses(self, path: &str) -> Option<&'static str> {
        if self == Self::Raw {
            return None;
        }
        // The common path has none of these bytes, and one pass finds that out.
        if !path.bytes().any(|byte| matches!(byte, b'%' | b'.' | b';' | b'\\')) && !path.contains("//") {
            return None;
        }
        if path.contains('\\') || path.contains("//") {
            return Some("backslash or empty segment");
        }
        if path.split('/').any(is_dots) {
            return Some("dot segment");
        }
        if self == Self::Canonical && path.contains(';') {
            return Some("path parameter where rules differ by path");
        }
        let mut escapes = path.split('%').skip(1);
        escapes.find_map(|escape| self.refuses_escape(escape.as_bytes()))
    }

    fn refuses_escape(self, escape: &[u8]) -> Option<&'static str> {
        let hex = |digit: u8| char::from(digit).to_digit(16);
        let (Some(high), Some(low)) = (escape.first().copied().and_then(hex), escape.get(1).copied().and_then(hex))
        else {
            return Some("broken percent-encoding");
        };
        match u8::try_from(high * 16 + low).unwrap_or_default() {
            b'/' | b'\\' => Some("encoded slash or backslash"),
            0..=0x1f | 0x7f => Some("encoded control character"),
            byte if self == Self::Canonical
                && (byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b';')) =>
            {
                Some("needless percent-encoding where rules differ by path")
            }
            _ => None,
        }
    }
}

/// Whether a segment means "here" or "up" to some reader: dots, plain or encoded, with or without a path parameter.
fn is_dots(segment: &str) -> bool {
    let name = segment.split(';').next().unwrap_or_default();
    let plain = name.replace("%2e", ".").replace("%2E", ".");
    let plain = plain.split("%3b").next().unwrap_or_default().split("%3B").next().unwrap_or_default();
    matches!(plain, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn px_10_r31_r33_a_confined_path_cannot_lead_out() {
        for path in [
            "/api/../admin",
            "/api/%2e%2e/admin",
            "/api/%2E./admin",
            "/api/..%2fadmin",
            "/api/..%5cadmin",
            "/api/./x",
            "/api/%5c..%5cadmin",
            "/api/..\\admin",
            "/api//x",
            "//api/x",
            "/api/..;/x",
            "/api/..;a=b/x",
            "/api/%00",
            "/api/%0d%0a",
            "/api/%",
            "/api/%2",
            "/api/%zz",
            "/api/..%3b/x",
        ] {
            assert!(Reading::Confined.refuses(path).is_some(), "{path}");
            assert!(Reading::Canonical.refuses(path).is_some(), "{path}");
            assert!(Reading::Raw.refuses(path).is_none(), "{path}");
        }
    }

    #[test]
    fn px_10_where_rules_differ_each_path_has_one_spelling() {
        for path in ["/%61dmin/x", "/admin;v=1/x", "/%7Euser", "/a%2Db", "/a%3Bb"] {
            assert!(Reading::Canonical.refuses(path).is_some(), "{path}");
            assert!(Reading::Confined.refuses(path).is_none(), "{path}");
        }
        for path in ["/", "/api/x.y", "/api/...", "/api/%252e%252e", "/a%20b", "/%C3%BC", "/a%25", "/.well-known/x"] {
            assert!(Reading::Canonical.refuses(path).is_none(), "{path}");
        }
    }

    #[test]
    fn px_10_a_path_that_belongs_elsewhere_once_decoded_is_refused() {
        let prefix = |text: &str| Prefix { text: text.to_owned(), route: 0, site: 0, kind: PrefixKind::Rule(0) };
        let prefixes = ["/v1.0", "/@staff", ""].map(prefix).into();
        let host = Host { prefixes, reading: Reading::Canonical, ..Host::default() };
        for path in ["/v1%2e0/x", "/v1%2E0", "/%40staff/x"] {
            assert!(host.decodes_elsewhere(path).is_some(), "{path}");
        }
        for (path, belongs) in [("/v1.0/a%40b", "/v1.0"), ("/users/a%40b", ""), ("/%C3%BC", ""), ("/%FF", "")] {
            assert!(host.decodes_elsewhere(path).is_none(), "{path}");
            let found = host.above(path).and_then(|at| host.prefixes.get(at));
            assert_eq!(found.map(|prefix| prefix.text.as_str()), Some(belongs), "{path}");
        }
    }

    #[test]
    fn prefixes_end_on_segment_boundaries() {
        assert!(is_under("/api", "/api"));
        assert!(is_under("/api/", "/api"));
        assert!(is_under("/api/x", "/api"));
        assert!(!is_under("/apis", "/api"));
        assert!(is_under("/anything", ""));
    }
}
