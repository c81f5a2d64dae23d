//! `[routes.NAME]`: one kind of client of one site.

use std::sync::Arc;

use super::keys::PATH_RULE;
use super::mode_name::ModeName;
use super::path_rule::{Callers, ENDPOINTS, Surroundings};
use super::prefix::judge_path;
use super::providers::Providers;
use super::report::{At, Wrong};
use super::section::Section;
use super::upstream::Upstreams;
use super::{AuthCode, Bearer, Device, Listen, Name, Origin, PathRule, Upstream, Verify};

/// `[routes.NAME]`.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    /// The route's identity.
    pub name: Name,
    /// The listener that Caddy dials for this route.
    pub listen: Listen,
    /// The site's public URLs; the first is the main one. Gives hosts, origins and every absolute URL.
    pub public_urls: Vec<Origin>,
    /// Where the endpoints live: empty, or starting with `/` and not ending with it.
    pub base_path: String,
    /// What is done for this kind of client.
    pub mode: Mode,
    /// Path rules, longest segment prefix first.
    pub paths: Vec<Arc<PathRule>>,
    /// The claim that holds a user's groups; dots descend into objects. Default `groups`.
    pub groups_claim: String,
}

/// `mode`, with what only that mode has.
#[derive(Debug, PartialEq, Eq)]
pub enum Mode {
    /// Browsers log in with the authorization code flow; the session holds the tokens.
    AuthCode(Box<AuthCode>),
    /// CLIs learn where to log in, and bring bearers of their own.
    Device(Box<Device>),
    /// Clients bring bearers of their own.
    Verify(Box<Verify>),
}

/// What tells a route from all others, also from one that had its name and did something else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteKey {
    name: Name,
    mode: &'static str,
}

impl Mode {
    /// What the configuration calls it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AuthCode(_) => "auth-code",
            Self::Device(_) => "device",
            Self::Verify(_) => "verify",
        }
    }

    /// What bearers are held against, where they are verified.
    #[must_use]
    pub fn bearer(&self) -> Option<&Bearer> {
        match self {
            Self::AuthCode(_) => None,
            Self::Device(device) => device.bearer.as_ref(),
            Self::Verify(verify) => Some(&verify.bearer),
        }
    }

    /// The identifier of the resource whose metadata RFC 9728 clients look up.
    #[must_use]
    pub fn resource(&self) -> Option<&str> {
        match self {
            Self::AuthCode(_) => None,
            Self::Device(device) => Some(&device.resource),
            Self::Verify(verify) => Some(&verify.resource),
        }
    }
}

impl Route {
    /// What tells it from all others.
    #[must_use]
    pub fn key(&self) -> RouteKey {
        RouteKey { name: self.name.clone(), mode: self.mode.name() }
    }

    /// The upstreams that this route's rules name.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.paths.iter().filter_map(|rule| rule.upstream.as_ref())
    }
}

/// What is there for all routes.
pub(super) struct Declared {
    pub(super) providers: Providers,
    pub(super) upstreams: Upstreams,
    /// `server.listen`.
    pub(super) listen: Option<Listen>,
    /// Whether verdicts are given, so that a path rule may do without an upstream.
    pub(super) verdicts: bool,
}

impl Route {
    pub(super) fn resolve((name, at): (&str, &At), section: &Section<'_>, declared: &Declared) -> Option<Self> {
        let name = Name::judge(name).map_err(|wrong| section.cx.error(at, wrong)).ok();
        let listen =
            if section.has("listen") { section.parse("listen", Listen::parse) } else { declared.listen.clone() };
        let kind = section.choice("mode", ModeName::named);
        let of_others = kind.is_some_and(|kind| kind.refuse_keys_of_others(section));
        let base_path = section.parse("base_path", base_path);
        let public_urls = public_urls(section, kind);
        let mode = kind.and_then(|kind| kind.resolve(section, declared, public_urls.as_deref().unwrap_or_default()));
        let groups_claim = section.parse("groups_claim", |text| match text {
            "" => Err(Wrong::new("this names no claim")),
            text => Ok(text.to_owned()),
        });
        let surroundings = Surroundings {
            base_path: base_path.as_deref().unwrap_or_default(),
            groups_claim: groups_claim.as_deref().unwrap_or_default(),
            endpoints: kind.map_or(ENDPOINTS, ModeName::endpoints),
            callers: kind.map_or(Callers::Session, |kind| kind.callers(section)),
        };
        let default_prefix = if kind == Some(ModeName::Verify) { "/" } else { "/api/" };
        let paths = paths((name.as_ref(), default_prefix), section, declared, &surroundings);
        if of_others {
            return None;
        }
        Some(Self {
            name: name?,
            listen: listen?,
            public_urls: public_urls?,
            base_path: base_path?,
            mode: mode?,
            paths: paths?,
            groups_claim: groups_claim?,
        })
    }
}

/// The path rules, longest prefix first. When the table is absent, the default prefix goes to the route's upstream.
fn paths(
    (route, default_prefix): (Option<&Name>, &str),
    section: &Section<'_>,
    declared: &Declared,
    surroundings: &Surroundings<'_>,
) -> Option<Vec<Arc<PathRule>>> {
    let upstreams = &declared.upstreams;
    // The name in upstreams written in place; a route without a legal one comes to nothing anyway.
    let nameless = Name::parse("route")?;
    let route = route.unwrap_or(&nameless);
    let upstream = section.optional("upstream", |section, key| upstreams.find(route, section, key));
    let rule = |prefix: (&str, &At), rule: &Section<'_>| {
        let own = rule.optional("upstream", |rule, key| upstreams.find(route, rule, key));
        let upstream = match own {
            Some(None) if declared.verdicts => upstream.clone(),
            Some(None) => upstream.clone().map(|upstream| need(upstream, rule)),
            own => own,
        };
        PathRule::resolve(prefix, rule, upstream, surroundings).map(Arc::new)
    };
    let mut rules: Vec<Option<Arc<PathRule>>> = if section.has("paths") {
        section.tables("paths").iter().map(|(prefix, at, table)| rule((prefix, at), table)).collect()
    } else {
        let unwritten = Section::unwritten(section.cx, &[PATH_RULE], section.header().clone());
        vec![rule((default_prefix, section.header()), &unwritten)]
    };
    rules.sort_by_key(|rule| std::cmp::Reverse(rule.as_ref().map_or(0, |rule| rule.prefix.len())));
    rules.into_iter().collect()
}

/// Without verdicts, a rule whose requests go nowhere is a mistake.
fn need(upstream: Option<Arc<Upstream>>, rule: &Section<'_>) -> Option<Arc<Upstream>> {
    if upstream.is_none() {
        let wrong = Wrong::new("there is no upstream for these requests");
        let hint = "give the route or this path rule an `upstream`, or the server a `verdict_listen`";
        rule.cx.error(rule.header(), wrong.hint(hint));
    }
    upstream
}

fn base_path(text: &str) -> Result<String, Wrong> {
    if text == "/" || text.ends_with('/') {
        let right = format!("write `\"{}\"`", text.trim_end_matches('/'));
        return Err(Wrong::new("a base_path does not end with `/`").hint(right));
    }
    if !text.is_empty() && !text.starts_with('/') {
        return Err(Wrong::new("a base_path begins with `/`").hint(format!("write `\"/{text}\"`")));
    }
    judge_path(text).map(|()| text.to_owned())
}

/// `public_url`; on a verify route, where nobody logs in, the resource says as much.
fn public_urls(section: &Section<'_>, mode: Option<ModeName>) -> Option<Vec<Origin>> {
    if !section.has("public_url") {
        if mode == Some(ModeName::Verify) && section.has("resource") {
            // What is wrong with a resource is said where it is read.
            let url = section.text("resource").and_then(|text| super::origin::site(&text).ok())?;
            return Origin::of(&url).ok().map(|origin| vec![origin]);
        }
        let wrong = Wrong::new("`public_url` is missing").absence();
        let hint = "add a line such as `public_url = \"https://app.example.com\"`";
        section.cx.error(section.header(), wrong.hint(hint));
        return None;
    }
    let urls = section.list("public_url", |text| {
        Origin::parse(text).map_err(|wrong| match url::Url::parse(text) {
            Ok(url) if url.path() != "/" => wrong.hint("a path goes into `base_path`, or into `paths`"),
            _ => wrong,
        })
    })?;
    let twice = urls
        .iter()
        .enumerate()
        .find(|(index, url)| urls.iter().take(*index).any(|other| other.host == url.host));
    let wrong = match twice {
        Some((_, url)) => Wrong::new(format!("the host `{}` is named twice", url.host)),
        None if urls.is_empty() => Wrong::new("this list is empty"),
        None => return Some(urls),
    };
    section.cx.error(&section.at("public_url"), wrong);
    None
}
