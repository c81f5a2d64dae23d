//! auth-code mode: browsers log in, the session holds their tokens, and `/api/` leaves with a bearer.

mod account;
mod attempt;
mod callback;
mod farewells;
mod flights;
mod landings;
mod links;
mod login;
mod loops;
mod logout;
mod outside;
mod pages;
mod pass;
mod revoker;
mod step_up;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Method, Response, StatusCode};
use tokio_util::task::TaskTracker;

use crate::config;
use crate::error::{Reason, Refusal};
use crate::metrics::Metrics;
use crate::mode::{Call, Endpoint, Place, Rule, Served, Verdict};
use crate::provider::Client;
use crate::session::{Binding, Found, Refresher, SessionId, Sessions, Streams, Touch};
use crate::web::{Body, CookieJar, CookieName, CrossSite, KeyRing};

pub use farewells::{Farewells, Who};
pub use flights::Logins;
pub use logout::Departures;
pub use revoker::Revoker;

/// What an auth-code route shares with all others; outlives snapshots.
#[derive(Clone, Debug)]
pub struct Shared {
    /// All sessions.
    pub sessions: Arc<Sessions>,
    /// Refreshes in flight.
    pub refresher: Arc<Refresher>,
    /// Logins whose code is being exchanged, or was a moment ago.
    pub logins: Arc<Logins>,
    /// One-use logout URLs that nobody has followed yet.
    pub departures: Arc<Departures>,
    /// What providers have said about the end of sessions.
    pub farewells: Arc<Farewells>,
    /// Revokes the refresh tokens of sessions that have ended.
    pub revoker: Arc<Revoker>,
    /// Open streams.
    pub streams: Arc<Streams>,
    /// Work that outlives its request.
    pub tasks: TaskTracker,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Session limits of the snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Unused for this long, a session is over.
    pub idle_timeout: Duration,
    /// Used or not, it is over this long after the login.
    pub max_lifetime: Duration,
}

/// A client of the route and what its sessions are bound to.
#[derive(Debug)]
struct Party {
    client: Client,
    binding: Arc<Binding>,
}

/// What is fixed for one of the route's public URLs.
#[derive(Debug)]
struct Site {
    session_cookie: CookieName,
    stepped_cookie: CookieName,
    host: Option<HeaderValue>,
    login_url: String,
}

/// A running auth-code route.
#[derive(Debug)]
pub struct AuthCode {
    config: Arc<config::Route>,
    mode: config::AuthCode,
    parties: Vec<Party>,
    rules: Vec<Rule>,
    sites: Vec<Site>,
    limits: Limits,
    keys: Arc<KeyRing>,
    shared: Shared,
}

impl AuthCode {
    /// Builds the route from its parts; `clients` and `rules` stand in the order of the configuration.
    #[must_use]
    pub fn build(
        (config, mode): (Arc<config::Route>, config::AuthCode),
        clients: Vec<Client>,
        rules: Vec<Rule>,
        (limits, keys): (Limits, Arc<KeyRing>),
        shared: Shared,
    ) -> Self {
        let party = |client: Client| {
            let registration = &client.registration;
            let binding = Binding {
                route: config.name.clone(),
                provider: registration.provider.name.clone(),
                issuer: registration.provider.issuer.clone(),
                client_id: registration.client_id.clone(),
            };
            Party { binding: Arc::new(binding), client }
        };
        let site = |origin: &config::Origin| Site {
            session_cookie: CookieName::session(&config.name, origin.scheme),
            stepped_cookie: CookieName::stepped(&config.name, origin.scheme),
            host: HeaderValue::from_str(&origin.host).ok(),
            login_url: format!("{}{}/login/start", origin.text, config.base_path),
        };
        let parties = clients.into_iter().map(party).collect();
        let sites = config.public_urls.iter().map(site).collect();
        Self { parties, sites, rules, limits, keys, shared, mode, config }
    }

    /// The configuration that it runs with.
    #[must_use]
    pub const fn config(&self) -> &Arc<config::Route> {
        &self.config
    }

    /// Whose scripts may call.
    #[must_use]
    pub fn cross_site(&self) -> CrossSite<'_> {
        CrossSite {
            own: &self.config.public_urls,
            listed: &self.mode.allowed_origins,
            expose: &self.mode.expose_headers,
        }
    }

    /// `login/start` as an absolute URL.
    #[must_use]
    pub fn login_url(&self, site: usize) -> Option<&str> {
        self.sites.get(site).map(|site| site.login_url.as_str())
    }

    /// Serves one request: a [`Refusal`] for everything that is not served.
    #[must_use]
    pub fn serve(self: &Arc<Self>, call: Call, body: Body) -> Served {
        let route = Arc::clone(self);
        match call.place {
            Place::Rule(index) => Box::pin(route.pass(call, body, index)),
            Place::Endpoint(endpoint) => Box::pin(async move { route.endpoint(call, body, endpoint).await }),
        }
    }

    /// Judges the request that Caddy's `forward_auth` asks about.
    ///
    /// # Errors
    /// A [`Refusal`] for everything that may not pass.
    pub async fn verdict(&self, call: &Call) -> Result<Verdict, Refusal> {
        match call.place {
            Place::Rule(index) => self.judge_verdict(call, index).await,
            Place::Endpoint(_) => {
                Err(Refusal::new(Reason::Forbidden).because("our own endpoints stand behind no verdict"))
            }
        }
    }

    async fn endpoint(&self, call: Call, body: Body, endpoint: Endpoint) -> Result<Response<Body>, Refusal> {
        let method = call.head.method.clone();
        match (endpoint, &method) {
            (Endpoint::LoginStart | Endpoint::StepUp, &Method::GET | &Method::POST) => self.login_start(&call).await,
            (Endpoint::LoginEnd, &Method::GET) => self.callback_navigation(&call).await,
            (Endpoint::LoginEnd, &Method::POST) => self.callback_fetch(&call, body).await,
            (Endpoint::Userinfo, &Method::GET) => self.userinfo(&call).await,
            (Endpoint::Claims, &Method::GET) => self.claims(&call).await,
            (Endpoint::CheckAuth, &Method::GET) => self.check_auth(&call).await,
            (Endpoint::Session, &Method::GET) => self.session_times(&call).await,
            (Endpoint::Refresh, &Method::POST) => self.refresh(&call).await,
            (Endpoint::Logout, &Method::GET) => self.logout_navigation(&call).await,
            (Endpoint::Logout, &Method::POST) => self.logout_post(&call).await,
            (Endpoint::LogoutGo, &Method::GET) => self.logout_go(&call).await,
            (Endpoint::LogoutEnd, &Method::GET) => Ok(self.logout_end(&call)),
            (Endpoint::LogoutBackchannel, &Method::POST) => self.back_channel(&call, body).await,
            (Endpoint::LogoutFrontchannel, &Method::GET) => self.front_channel(&call).await,
            (Endpoint::LoginStart | Endpoint::StepUp | Endpoint::LoginEnd | Endpoint::Logout, _) => {
                Err(Refusal::method("GET, POST"))
            }
            (Endpoint::Refresh | Endpoint::LogoutBackchannel, _) => Err(Refusal::method("POST")),
            (
                Endpoint::Userinfo
                | Endpoint::Claims
                | Endpoint::CheckAuth
                | Endpoint::Session
                | Endpoint::LogoutGo
                | Endpoint::LogoutEnd
                | Endpoint::LogoutFrontchannel,
                _,
            ) => Err(Refusal::method("GET")),
            (Endpoint::ProtectedResource, _) => Err(Reason::NotFound.into()),
        }
    }

    /// The session of the caller, with the client that it belongs to; `None` for everyone else, however strange
    /// their cookie is.
    async fn caller(&self, call: &Call, touch: Touch) -> Result<Option<(Found, &Client)>, Refusal> {
        let Some(id) = self.caller_id(call) else { return Ok(None) };
        let Some(found) = self.shared.sessions.load(id, self.limits.idle_timeout, touch, call.now).await? else {
            return Ok(None);
        };
        let binding = &found.session.binding;
        let party = self
            .parties
            .iter()
            .find(|party| Arc::ptr_eq(&party.binding, binding) || party.binding.is_same(binding));
        Ok(party.map(|party| (found, &party.client)))
    }

    /// Like [`caller`](Self::caller), for endpoints that have nothing to say to strangers.
    async fn member(&self, call: &Call, touch: Touch) -> Result<(Found, &Client), Refusal> {
        self.caller(call, touch).await?.ok_or_else(|| Refusal::new(Reason::LoginRequired))
    }

    fn caller_id(&self, call: &Call) -> Option<SessionId> {
        let cookie = &self.sites.get(call.site)?.session_cookie;
        SessionId::of_cookie(CookieJar::new(&call.head.headers).value(cookie)?)
    }

    /// The public URL that the request was made under. The route has at least one, and the edge found it there.
    fn origin(&self, call: &Call) -> Result<&config::Origin, Refusal> {
        self.config.public_urls.get(call.site).ok_or_else(|| Refusal::new(Reason::HostMismatch))
    }

    /// An absolute URL of one of our endpoints.
    fn url(&self, call: &Call, path: &str) -> Result<String, Refusal> {
        Ok(format!("{}{}/{path}", self.origin(call)?.text, self.config.base_path))
    }
}

/// 200 with a page of ours.
fn html(page: String) -> Response<Body> {
    let mut response = Response::new(Body::from(page));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

/// A redirect; 302 or 303, never one that would repeat a body (RFC 9700 4.12). Not for keeping: it is for who asks now.
fn redirect(status: StatusCode, url: &str) -> Result<Response<Body>, Refusal> {
    let location = HeaderValue::from_str(url).map_err(|_| Refusal::new(Reason::Internal).because("unprintable URL"))?;
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response.headers_mut().insert(LOCATION, location);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
