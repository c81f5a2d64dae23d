//! `[routes.NAME]`: one kind of client of one site.

use std::sync::Arc;

use super::auth_code::Sites;
use super::keys::PATH_RULE;
use super::path_rule::{Surroundings, judge_path};
use super::providers::Providers;
use super::report::{At, Wrong};
use super::section::Section;
use super::upstream::Upstreams;
use super::{AuthCode, Listen, Name, Origin, PathRule, Upstream};

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
}

impl Route {
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
        let clients = declared.providers.clients_of(section);
        let base_path = section.parse("base_path", base_path);
        let public_urls = public_urls(section);
        let several = clients.as_ref().is_some_and(|clients| clients.len() > 1);
        let sites = Sites { public_urls: public_urls.as_deref().unwrap_or_default(), several_providers: several };
        let auth_code = AuthCode::resolve(section, clients, &sites);
        let groups_claim = section.parse("groups_claim", |text| match text {
            "" => Err(Wrong::new("this names no claim")),
            text => Ok(text.to_owned()),
        });
        let surroundings = Surroundings {
            base_path: base_path.as_deref().unwrap_or_default(),
            groups_claim: groups_claim.as_deref().unwrap_or_default(),
        };
        let paths = paths(name.as_ref(), section, declared, &surroundings);
        let mode = section.choice("mode", |text| (text == "auth-code").then_some(()));
        mode?;
        Some(Self {
            name: name?,
            listen: listen?,
            public_urls: public_urls?,
            base_path: base_path?,
            mode: Mode::AuthCode(Box::new(auth_code?)),
            paths: paths?,
            groups_claim: groups_claim?,
        })
    }
}

/// The path rules, longest prefix first. When the table is absent, `/api/` goes to the route's upstream.
fn paths(
    route: Option<&Name>,
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
        vec![rule(("/api/", section.header()), &unwritten)]
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

fn public_urls(section: &Section<'_>) -> Option<Vec<Origin>> {
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
