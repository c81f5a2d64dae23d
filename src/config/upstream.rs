//! `[upstreams.NAME]`: where requests are handed on to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::Authority;

use super::Name;
use super::keys::UPSTREAM;
use super::later;
use super::origin::{absolute, plain};
use super::report::{At, Wrong, nearest, quote};
use super::section::Section;
use super::walk::later_version;

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
    /// Longest silence within a body, either way; an unfinished answer has no total timeout. Default 5 min.
    pub idle_timeout: Duration,
}

/// How an upstream is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// `http://host:port`.
    Http(Authority),
    /// `https://host:port`.
    Https(Authority),
}

/// `upstreams.NAME.host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamHost {
    /// The upstream's own authority.
    Upstream,
    /// The host the client asked for (the default for apps that build absolute URLs).
    Client,
}

impl Target {
    /// The target as the start of an absolute URI.
    #[must_use]
    pub fn uri(&self) -> Uri {
        let (scheme, authority) = match self {
            Self::Http(authority) => ("http", authority),
            Self::Https(authority) => ("https", authority),
        };
        Uri::builder()
            .scheme(scheme)
            .authority(authority.clone())
            .path_and_query("/")
            .build()
            .unwrap_or_default()
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
    if let Some((scheme, _)) = text.split_once(':').filter(|(scheme, _)| later::scheme(scheme)) {
        return Err(later_version(&format!("an upstream on `{scheme}:`")));
    }
    let url = plain(absolute(text)?)?;
    let host = url.host_str().unwrap_or_default();
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let authority: Authority = authority.parse().map_err(|_| Wrong::new("this URL has no usable host"))?;
    let target = if url.scheme() == "https" { Target::Https(authority) } else { Target::Http(authority) };
    Ok((target, url.path().trim_end_matches('/').to_owned()))
}
