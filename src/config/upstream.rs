//! `[upstreams.NAME]`: where requests are handed on to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};
use url::Url;

use super::Name;
use super::keys::UPSTREAM;
use super::origin::{absolute, plain};
use super::report::{At, Wrong, nearest, quote};
use super::section::Section;
use super::server::socket;

/// `[upstreams.NAME]`, or a URL written in place.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// The name in metrics and logs; for one written in place, the name of the route and a number.
    pub name: Name,
    /// How to connect.
    pub target: Target,
    /// Path that is put before the request's path; empty or starting with `/`, never ending with it.
    pub base_path: String,
    /// Whose `Host` the upstream sees.
    pub host: UpstreamHost,
    /// PEM of additional trust anchors for https.
    pub ca: Option<Arc<[u8]>>,
    /// Time to connect. Default 3 s.
    pub connect_timeout: Duration,
    /// Time from the end of the request to the response head. Default 60 s.
    pub response_timeout: Duration,
    /// Longest silence within a body, either way, or on a WebSocket; an unfinished answer has no total timeout.
    /// Default 5 min.
    pub idle_timeout: Duration,
}

/// How an upstream is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// `http://host:port`.
    Http(Authority),
    /// `https://host:port`.
    Https(Authority),
    /// `h2c://host:port`: HTTP/2 without TLS, with prior knowledge (RFC 9113 3.3).
    H2c(Authority),
    /// `unix:/path`: HTTP/1.1 over a socket.
    Unix(PathBuf),
}

/// `upstreams.NAME.host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamHost {
    /// The upstream's own authority.
    Upstream,
    /// The host the client asked for (the default for apps that build absolute URLs).
    Client,
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(authority) => write!(formatter, "http://{authority}"),
            Self::Https(authority) => write!(formatter, "https://{authority}"),
            Self::H2c(authority) => write!(formatter, "h2c://{authority}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl Target {
    /// The URI to dial, with the path `/`. That of a socket names this machine.
    #[must_use]
    pub fn uri(&self) -> Uri {
        let (scheme, authority) = match self {
            Self::Http(authority) | Self::H2c(authority) => (Scheme::HTTP, authority.clone()),
            Self::Https(authority) => (Scheme::HTTPS, authority.clone()),
            Self::Unix(_) => (Scheme::HTTP, Authority::from_static("localhost")),
        };
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(scheme);
        parts.authority = Some(authority);
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
        Uri::from_parts(parts).unwrap_or_default()
    }
}

/// All upstreams, as routes find them.
pub(super) struct Upstreams {
    /// Those of `[upstreams]`; `None` for one that is not legal, which has been said.
    declared: BTreeMap<String, Option<Arc<Upstream>>>,
    /// Those written in place, by route and text: a URL that a route names twice is one upstream.
    in_place: RefCell<BTreeMap<(Name, String), Arc<Upstream>>>,
}

impl Upstreams {
    pub(super) fn resolve(root: &Section<'_>) -> Self {
        let resolve = |(name, at, section): (String, At, Section<'_>)| {
            let legal = Name::judge(&name).map_err(|wrong| root.cx.error(&at, wrong)).ok();
            let upstream = Upstream::resolve(legal, section.parse("url", target), &section);
            (name, upstream.map(Arc::new))
        };
        let declared = root.tables("upstreams").into_iter().map(resolve).collect();
        Self { declared, in_place: RefCell::default() }
    }

    /// What `key` of `section`, which belongs to `route`, says: a name, or a URL in place.
    pub(super) fn find(&self, route: &Name, section: &Section<'_>, key: &str) -> Option<Arc<Upstream>> {
        let text = section.text(key)?;
        if let Some(declared) = self.declared.get(&text) {
            return declared.clone();
        }
        if !text.contains(':') {
            let wrong = Wrong::new(format!("there is no upstream named {}", quote(&text)));
            let hint = match nearest(&text, self.declared.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if Name::parse(&text).is_some() => format!("add `[upstreams.{text}]`, or write a URL"),
                None => "write a URL such as `http://127.0.0.1:8080`".to_owned(),
            };
            section.cx.error(&section.at(key), wrong.hint(hint));
            return None;
        }
        let known = (route.clone(), text);
        if let Some(upstream) = self.in_place.borrow().get(&known) {
            return Some(Arc::clone(upstream));
        }
        let defaults = Section::unwritten(section.cx, &[UPSTREAM], section.at(key));
        let url = section.parse(key, target);
        let upstream = Arc::new(Upstream::resolve(self.free_name(route), url, &defaults)?);
        self.in_place.borrow_mut().insert(known, Arc::clone(&upstream));
        Some(upstream)
    }

    /// A name for the next upstream written in place in `route`: the route's, and the first number that is free.
    fn free_name(&self, route: &Name) -> Option<Name> {
        let in_place = self.in_place.borrow();
        let taken = |name: &Name| {
            self.declared.contains_key(name.as_str()) || in_place.values().any(|upstream| upstream.name == *name)
        };
        let stem: String = route.as_str().chars().take(56).collect();
        (1..1_000_000)
            .filter_map(|number| Name::parse(&format!("{stem}-{number}")))
            .find(|name| !taken(name))
    }
}

impl Upstream {
    fn resolve(name: Option<Name>, url: Option<(Target, String)>, section: &Section<'_>) -> Option<Self> {
        let host = section.choice("host", |text| match text {
            "client" => Some(UpstreamHost::Client),
            "upstream" => Some(UpstreamHost::Upstream),
            _ => None,
        });
        let ca = section.certificates("ca_file");
        let connect_timeout = section.duration("connect_timeout");
        let response_timeout = section.duration("response_timeout");
        let idle_timeout = section.duration("idle_timeout");
        let (target, base_path) = url?;
        Some(Self {
            name: name?,
            target,
            base_path,
            host: host?,
            ca: ca?,
            connect_timeout: connect_timeout?,
            response_timeout: response_timeout?,
            idle_timeout: idle_timeout?,
        })
    }
}

/// What an upstream URL says: how to connect, and the path before the request's.
fn target(text: &str) -> Result<(Target, String), Wrong> {
    if let Some(rest) = text.strip_prefix("unix:") {
        // As in nginx: behind the socket, a colon and the path.
        let (path, base) = rest.split_once(":/").unwrap_or((rest, ""));
        let url = plain(absolute(&format!("http://localhost/{base}"))?)?;
        return Ok((Target::Unix(socket(path)?), base_path(&url)));
    }
    let h2c = text.strip_prefix("h2c://");
    let url = match h2c {
        Some(rest) => absolute(&format!("http://{rest}")),
        None => absolute(text),
    };
    let url = plain(url?)?;
    let host = url.host_str().unwrap_or_default();
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let authority: Authority = authority.parse().map_err(|_| Wrong::new("this URL has no usable host"))?;
    let target = match (h2c, url.scheme()) {
        (Some(_), _) => Target::H2c(authority),
        (None, "https") => Target::Https(authority),
        (None, _) => Target::Http(authority),
    };
    Ok((target, base_path(&url)))
}

fn base_path(url: &Url) -> String {
    url.path().trim_end_matches('/').to_owned()
}
