//! Path rules: what happens to requests under a prefix.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::HeaderName;
use toml::de::DeValue;
use url::Host;

use super::identity_headers;
use super::prefix::{judge_prefix, strippable};
use super::report::{At, Wrong, quote};
use super::section::Section;
use super::{IdentityHeader, Upstream};

/// A path rule: what happens to requests under a prefix.
#[derive(Debug, PartialEq, Eq)]
pub struct PathRule {
    /// Starts and ends with `/`; matches itself without the last slash, and everything below.
    pub prefix: String,
    /// Where requests go; absent on a route that only answers verdicts.
    pub upstream: Option<Arc<Upstream>>,
    /// Cut from the front of the path before it is sent on; a prefix of `prefix`, without a trailing slash.
    pub strip_prefix: Option<String>,
    /// What a request without a session gets.
    pub unauthenticated: Unauthenticated,
    /// Methods allowed; absent: all but TRACE and CONNECT.
    pub methods: Option<Vec<Method>>,
    /// The user must be in one of these; empty: no rule.
    pub allowed_groups: BTreeSet<String>,
    /// The verified e-mail address must be in one of these domains (lower case); empty: no rule.
    pub allowed_email_domains: BTreeSet<String>,
    /// Each claim (dots descend) must have, or contain, one of these values.
    pub required_claims: BTreeMap<String, BTreeSet<String>>,
    /// Acceptable `acr`; empty: no rule.
    pub acr_values: Vec<String>,
    /// How long ago the user may have authenticated, in whole seconds; absent: no rule.
    pub max_age: Option<Duration>,
    /// Headers that tell the upstream who calls.
    pub identity_headers: Vec<IdentityHeader>,
    /// What happens to `Authorization`.
    pub authorization: Authorization,
    /// A header that every request must carry on top of the origin checks.
    pub csrf_header: Option<HeaderName>,
    /// Largest request body in bytes; absent: no limit of ours.
    pub max_body: Option<u64>,
}

/// `unauthenticated`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unauthenticated {
    /// 401, for navigations too.
    Refuse,
    /// Navigations are sent to log in, all else gets 401.
    Login,
    /// Goes on as nobody.
    Pass,
}

/// `authorization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// The session's access token replaces whatever the client sent.
    Bearer,
    /// The header is dropped.
    Remove,
    /// The client's header goes on untouched.
    Pass,
}

/// The first segments of the endpoints of auth-code mode (they live below `base_path`).
pub(super) const ENDPOINTS: &[&str] =
    &["login", "logout", "userinfo", "user_info", "claims", "check_auth", "session", "refresh"];

/// Headers that any page may send to another site unasked, or that browsers set themselves, prove nothing about who
/// sends them (Fetch 2.2.2).
const SENT_BY_ANYBODY: &[&str] = &[
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "connection",
    "content-language",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "origin",
    "range",
    "referer",
    "user-agent",
];

/// What a rule takes from its route.
pub(super) struct Surroundings<'a> {
    pub(super) base_path: &'a str,
    pub(super) groups_claim: &'a str,
    /// First segments that are the route's own below `base_path`.
    pub(super) endpoints: &'static [&'static str],
    pub(super) callers: Callers,
}

/// How callers prove who they are, which decides what a rule can say about them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Callers {
    /// By a session.
    Session,
    /// By a bearer that we verify.
    Bearer,
    /// By a bearer that somebody else verifies: nothing is known about them here.
    Unknown,
}

impl PathRule {
    /// Whether `path` is the prefix itself or below it.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        path.starts_with(&self.prefix) || self.prefix.strip_suffix('/') == Some(path)
    }

    /// The rule of `prefix` that `section` describes; requests go to `upstream` (an outer `None` is an illegal one).
    pub(super) fn resolve(
        prefix: (&str, &At),
        section: &Section<'_>,
        upstream: Option<Option<Arc<Upstream>>>,
        route: &Surroundings<'_>,
    ) -> Option<Self> {
        let (prefix, at) = prefix;
        let legal = judge_prefix(prefix, route).map_err(|wrong| section.cx.error(at, wrong)).is_ok();
        let strip_prefix =
            section.optional("strip_prefix", |section, name| section.parse(name, |strip| strippable(strip, prefix)));
        let unauthenticated = section.choice("unauthenticated", Unauthenticated::named);
        route.callers.judge(section, unauthenticated);
        let methods = section.optional("methods", |section, name| section.nonempty(name, method));
        let demands = Demands::resolve(section);
        if demands.written && unauthenticated == Some(Unauthenticated::Pass) {
            let wrong =
                Wrong::new("nobody passes here as well, so the rules about users would bind only those who log in");
            section
                .cx
                .error(&section.at("unauthenticated"), wrong.hint("use `\"401\"` or `\"login\"`, or drop the rules"));
        }
        let identity_headers = identity_headers::resolve(section, route.groups_claim);
        let authorization = authorization((prefix, route.callers), section, identity_headers.as_deref());
        let csrf_header = section.optional("csrf_header", |section, name| section.parse(name, csrf_header));
        let max_body = section.optional("max_body", |section, name| section.size(name));
        Some(Self {
            prefix: legal.then(|| prefix.to_owned())?,
            upstream: upstream?,
            strip_prefix: strip_prefix?,
            unauthenticated: unauthenticated?,
            methods: methods?,
            allowed_groups: demands.groups?,
            allowed_email_domains: demands.email_domains?,
            required_claims: demands.claims?,
            acr_values: demands.acr_values?,
            max_age: demands.max_age?,
            identity_headers: identity_headers?,
            authorization: authorization?,
            csrf_header: csrf_header?,
            max_body: max_body?,
        })
    }
}

/// The keys of [`Demands`].
const DEMANDS: &[&str] = &["allowed_groups", "allowed_email_domains", "required_claims", "acr_values", "max_age"];

/// What is demanded of a user.
struct Demands {
    /// Whether there is any.
    written: bool,
    groups: Option<BTreeSet<String>>,
    email_domains: Option<BTreeSet<String>>,
    claims: Option<BTreeMap<String, BTreeSet<String>>>,
    acr_values: Option<Vec<String>>,
    max_age: Option<Option<Duration>>,
}

impl Demands {
    fn resolve(section: &Section<'_>) -> Self {
        let texts = |name: &str| {
            let texts = section.optional(name, |section, name| section.nonempty(name, |text| Ok(text.to_owned())));
            texts.map(Option::unwrap_or_default)
        };
        let domains = section.optional("allowed_email_domains", |section, name| section.nonempty(name, email_domain));
        let contexts = section.optional("acr_values", |section, name| section.nonempty(name, acr_value));
        Self {
            written: DEMANDS.iter().any(|key| section.has(key)),
            groups: texts("allowed_groups").map(|groups| groups.into_iter().collect()),
            email_domains: domains.map(|domains| domains.unwrap_or_default().into_iter().collect()),
            claims: required_claims(section),
            acr_values: contexts.map(Option::unwrap_or_default),
            max_age: section.optional("max_age", max_age),
        }
    }
}

fn required_claims(section: &Section<'_>) -> Option<BTreeMap<String, BTreeSet<String>>> {
    let mut claims = BTreeMap::new();
    let entries = section.entries("required_claims");
    if section.has("required_claims") && entries.is_empty() {
        let wrong = Wrong::new("no claim is required here").hint("leave the key out if there is no such rule");
        section.cx.error(&section.at("required_claims"), wrong);
        return None;
    }
    let mut legal = true;
    for (claim, at, value) in entries {
        let values: BTreeSet<String> = match value {
            DeValue::Array(items) => {
                items.iter().filter_map(|item| item.get_ref().as_str()).map(str::to_owned).collect()
            }
            single => single.as_str().map(str::to_owned).into_iter().collect(),
        };
        if values.is_empty() {
            section.cx.error(&at, Wrong::new("an empty list would refuse everybody"));
            legal = false;
        }
        claims.insert(claim, values);
    }
    legal.then_some(claims)
}

impl Callers {
    /// What a rule cannot ask of callers like these.
    fn judge(self, section: &Section<'_>, unauthenticated: Option<Unauthenticated>) {
        if self != Self::Session && unauthenticated == Some(Unauthenticated::Login) {
            let wrong = Wrong::new("nobody can be sent to log in here: these clients bring their tokens themselves");
            section.cx.error(&section.at("unauthenticated"), wrong.hint("leave it out, and they get 401"));
        }
        if self != Self::Unknown {
            return;
        }
        for key in ["unauthenticated", "identity_headers", "authorization"].iter().chain(DEMANDS) {
            if section.has(key) {
                let wrong = Wrong::new("with `verify = false` nothing is known here about who calls");
                section.cx.error(&section.at(key), wrong.hint("leave it out, or let the route verify"));
            }
        }
    }
}

/// The default follows the path: what is below `/api/` gets the token, what is elsewhere does not. A bearer that the
/// client brought itself is meant for the upstream wherever it is.
fn authorization(
    (prefix, callers): (&str, Callers),
    section: &Section<'_>,
    identity: Option<&[IdentityHeader]>,
) -> Option<Authorization> {
    if callers == Callers::Unknown {
        return Some(Authorization::Pass);
    }
    if !section.has("authorization") {
        let bearer = callers == Callers::Bearer || prefix.starts_with("/api/");
        return Some(if bearer { Authorization::Bearer } else { Authorization::Remove });
    }
    let authorization = section.choice("authorization", |text| match text {
        "bearer" => Some(Authorization::Bearer),
        "remove" => Some(Authorization::Remove),
        "pass" => Some(Authorization::Pass),
        _ => None,
    })?;
    let at = section.at("authorization");
    match (authorization, identity) {
        (Authorization::Pass, Some([_, ..])) => {
            let wrong =
                Wrong::new("the upstream would see two identities: the headers', and the client's own Authorization")
                    .hint("use `\"remove\"` or `\"bearer\"`, or drop `identity_headers`");
            section.cx.error(&at, wrong);
            return None;
        }
        (Authorization::Pass, _) => {
            section.cx.weaker(&at, Wrong::new("clients can send any Authorization to the upstream"));
        }
        (Authorization::Bearer | Authorization::Remove, _) => {}
    }
    Some(authorization)
}

/// One authentication context. All of them travel in one parameter, parted by blanks, and in a quoted string.
fn acr_value(text: &str) -> Result<String, Wrong> {
    let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    if !text.is_empty() && text.bytes().all(fits) {
        return Ok(text.to_owned());
    }
    let wrong = Wrong::new(format!("{} is no authentication context", quote(text)));
    Err(wrong.hint("one value is visible ASCII without blanks, quotes and backslashes; several are a list"))
}

/// A time that `auth_time` and `max_age`, which count whole seconds, can tell (OpenID Connect Core 2, 3.1.2.1).
fn max_age(section: &Section<'_>, name: &str) -> Option<Duration> {
    let age = section.duration(name)?;
    if age.subsec_nanos() > 0 {
        let wrong =
            Wrong::new("the time of a login is told in whole seconds").hint("write it like `\"30s\"` or `\"15m\"`");
        section.cx.error(&section.at(name), wrong);
        return None;
    }
    Some(age)
}

fn method(text: &str) -> Result<Method, Wrong> {
    let method =
        Method::from_bytes(text.as_bytes()).map_err(|_| Wrong::new(format!("{} is no method", quote(text))))?;
    if text != text.to_uppercase() {
        return Err(Wrong::new("methods are case-sensitive").hint(format!("write `\"{}\"`", text.to_uppercase())));
    }
    if method == Method::CONNECT || method == Method::TRACE {
        return Err(Wrong::new(format!("{text} is never handed on")));
    }
    Ok(method)
}

fn email_domain(text: &str) -> Result<String, Wrong> {
    if text.contains(['@', '*']) {
        return Err(Wrong::new(format!("{} is no domain", quote(text)))
            .hint("write the part after the `@`, such as `\"example.com\"`"));
    }
    match Host::parse(text) {
        Ok(Host::Domain(domain)) => Ok(domain),
        _ => Err(Wrong::new(format!("{} is no domain", quote(text)))),
    }
}

fn csrf_header(text: &str) -> Result<HeaderName, Wrong> {
    let name = header_name(text)?;
    if SENT_BY_ANYBODY.contains(&name.as_str()) || name.as_str().starts_with("sec-") {
        return Err(Wrong::new(format!("every page can send {text}, so it proves nothing"))
            .hint("use a header that only scripts set, such as `\"X-CSRF\"`"));
    }
    Ok(name)
}

/// A header's name.
pub(super) fn header_name(text: &str) -> Result<HeaderName, Wrong> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| Wrong::new(format!("{} is no name of a header", quote(text))))
}

impl Unauthenticated {
    fn named(text: &str) -> Option<Self> {
        match text {
            "401" => Some(Self::Refuse),
            "login" => Some(Self::Login),
            "pass" => Some(Self::Pass),
            _ => None,
        }
    }
}
