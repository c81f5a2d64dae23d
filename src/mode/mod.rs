//! What we do for each kind of client: one hyper service per route.

pub mod auth_code;
mod bearer;
mod rule;
mod rules;
mod step_up;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, request};
use hyper::service::Service;
use serde_json::Value;

use crate::config;
use crate::error::Refusal;
use crate::time::Timestamp;
use crate::web::{Body, CrossSite, Kind, Wants};

pub use auth_code::AuthCode;
pub use bearer::Bearer;
pub use rule::Rule;
use rules::Told;

/// What a form at `login/end` is told: some providers can post their answer from the browser, and are asked not to.
pub const FORM_POST: &str = "A sign-in service sent its answer here as a form (response_mode=form_post), which is not \
    supported. Nothing was done. Whoever runs this site can have it answer by redirect (response_mode=query), which is \
    what it is asked for.";

/// In a verdict: the bearer for the upstream, where the rule asks for one.
const AUTHORIZATION: HeaderName = HeaderName::from_static("vestibule-authorization");

/// One request that the edge has admitted and matched to a route.
#[derive(Debug)]
pub struct Call {
    /// Head as it came.
    pub head: request::Parts,
    /// What was asked for.
    pub place: Place,
    /// Which of the route's public URLs it was asked under.
    pub site: usize,
    /// Navigation, form or fetch.
    pub kind: Kind,
    /// What `Accept` names.
    pub wants: Wants,
    /// The instant that this request happens at.
    pub now: Timestamp,
    /// The peer's address, absent on a unix socket.
    pub peer: Option<IpAddr>,
    /// For pages, logs and redirects to `failure`.
    pub request_id: Arc<str>,
}

/// What a request asks a route for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One of our own endpoints under `base_path`.
    Endpoint(Endpoint),
    /// The path rule of this index.
    Rule(usize),
}

/// The endpoints under `base_path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `login/start`
    LoginStart,
    /// `login/start/<what the login is for, sealed>`
    StepUp,
    /// `login/end`, `login/end/<provider>`
    LoginEnd,
    /// `userinfo`, `user_info`
    Userinfo,
    /// `claims`
    Claims,
    /// `check_auth`
    CheckAuth,
    /// `session`
    Session,
    /// `refresh`
    Refresh,
    /// `logout`
    Logout,
    /// `logout/go`, the one-use URL behind `logout_url`
    LogoutGo,
    /// `logout/end`
    LogoutEnd,
    /// `logout/backchannel`, which the provider calls
    LogoutBackchannel,
    /// `logout/frontchannel`, which a page of the provider's calls
    LogoutFrontchannel,
    /// `/.well-known/oauth-protected-resource`, beside `base_path` and not below it (RFC 9728 3.1)
    ProtectedResource,
}

impl Endpoint {
    /// Finds the endpoint at `path`, which stands behind `base_path` and has no leading slash.
    #[must_use]
    pub fn at(path: &str) -> Option<Self> {
        Some(match path {
            "login/start" => Self::LoginStart,
            "login/end" => Self::LoginEnd,
            "userinfo" | "user_info" => Self::Userinfo,
            "claims" => Self::Claims,
            "check_auth" => Self::CheckAuth,
            "session" => Self::Session,
            "refresh" => Self::Refresh,
            "logout" => Self::Logout,
            "logout/go" => Self::LogoutGo,
            "logout/end" => Self::LogoutEnd,
            "logout/backchannel" => Self::LogoutBackchannel,
            "logout/frontchannel" => Self::LogoutFrontchannel,
            _ if path.strip_prefix("login/start/").is_some_and(is_sealed) => Self::StepUp,
            _ if path.strip_prefix("login/end/").and_then(config::Name::parse).is_some() => Self::LoginEnd,
            _ => return None,
        })
    }

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::LoginStart | Self::StepUp => "login_start",
            Self::LoginEnd => "login_end",
            Self::Userinfo => "userinfo",
            Self::Claims => "claims",
            Self::CheckAuth => "check_auth",
            Self::Session => "session",
            Self::Refresh => "refresh",
            Self::Logout => "logout",
            Self::LogoutGo => "logout_go",
            Self::LogoutEnd => "logout_end",
            Self::LogoutBackchannel => "logout_backchannel",
            Self::LogoutFrontchannel => "logout_frontchannel",
            Self::ProtectedResource => "protected_resource",
        }
    }
}

/// Whether a segment can be a sealed value of ours.
fn is_sealed(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl Place {
    /// Whether providers call here: they bring no cookie and no Origin, and what they bring speaks for itself (BC-7).
    #[must_use]
    pub const fn is_for_providers(&self) -> bool {
        matches!(self, Self::Endpoint(Endpoint::LogoutBackchannel | Endpoint::LogoutFrontchannel))
    }

    /// The metric label; path rules are all one, since their number is the operator's.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Endpoint(endpoint) => endpoint.label(),
            Self::Rule(_) => "proxy",
        }
    }
}

/// The answer to a question of Caddy's `forward_auth`, other than a refusal.
#[derive(Debug)]
pub enum Verdict {
    /// The request may pass; with these headers, each once.
    Allow(HeaderMap),
    /// A navigation is sent to this URL of `login/start`.
    Login(String),
}

/// The headers of an allowed request: what is always told, what the rule asks for, and the bearer.
fn allowed(told: &[Told], identity: Vec<Told>, bearer: Option<HeaderValue>) -> HeaderMap {
    // With room for the mark of the verdict, so that the map grows once.
    let mut headers = HeaderMap::with_capacity(told.len() + identity.len() + 2);
    headers.extend(told.iter().cloned());
    for (name, value) in identity {
        headers.insert(name, value);
    }
    if let Some(bearer) = bearer {
        headers.insert(AUTHORIZATION, bearer);
    }
    headers
}

/// A running route: its mode decides what happens.
#[derive(Clone, Debug)]
pub enum Route {
    /// Browsers, with a session.
    AuthCode(Arc<AuthCode>),
    /// Clients with bearers of their own: device and verify mode.
    Bearer(Arc<Bearer>),
}

impl Route {
    /// The configuration that it runs with.
    #[must_use]
    pub fn config(&self) -> &Arc<config::Route> {
        match self {
            Self::AuthCode(route) => route.config(),
            Self::Bearer(route) => route.config(),
        }
    }

    /// Whose scripts may call; `None` where no cookie means anything, so that no other site can borrow one.
    #[must_use]
    pub fn cross_site(&self) -> Option<CrossSite<'_>> {
        match self {
            Self::AuthCode(route) => Some(route.cross_site()),
            Self::Bearer(_) => None,
        }
    }

    /// Where to log in, for answers to those who are not.
    #[must_use]
    pub fn login_url(&self, site: usize) -> Option<&str> {
        match self {
            Self::AuthCode(route) => route.login_url(site),
            Self::Bearer(_) => None,
        }
    }

    /// [`login_url`](Self::login_url), leading back to `here`, a path with its query.
    #[must_use]
    pub fn login_url_back_to(&self, site: usize, here: &str) -> Option<String> {
        match self {
            Self::AuthCode(route) => route.login_url_back_to(site, here),
            Self::Bearer(_) => None,
        }
    }

    /// Judges the request that Caddy's `forward_auth` asks about.
    ///
    /// # Errors
    /// A [`Refusal`] for everything that may not pass.
    pub async fn verdict(&self, call: &Call) -> Result<Verdict, Refusal> {
        match self {
            Self::AuthCode(route) => route.verdict(call).await,
            Self::Bearer(route) => route.verdict(call).await,
        }
    }

    /// Whether clients of this place call `.json()` on an answer that they have not looked at.
    #[must_use]
    pub const fn is_unseen(&self, place: Place, method: &http::Method) -> bool {
        matches!(self, Self::AuthCode(_))
            && matches!(method, &http::Method::POST)
            && matches!(
                place,
                Place::Endpoint(Endpoint::LoginStart | Endpoint::StepUp | Endpoint::LoginEnd | Endpoint::Logout)
            )
    }
}

/// What a route makes of a request.
pub type Served = Pin<Box<dyn Future<Output = Result<Response<Body>, Refusal>> + Send>>;

/// A request for a route: all but its body can be shared by reference.
impl Service<(Call, Body)> for Route {
    type Response = Response<Body>;
    type Error = Refusal;
    type Future = Served;

    fn call(&self, (call, body): (Call, Body)) -> Served {
        match self {
            Self::AuthCode(route) => route.serve(call, body),
            Self::Bearer(route) => route.serve(call, body),
        }
    }
}

/// 200 with JSON.
fn json(value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
