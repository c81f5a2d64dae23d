//! What the doors would make of a request, and why: the same steps by the same code, but that nothing is handed on and
//! nothing that counts once is used up.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{COOKIE, HOST, HeaderMap, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode, request};
use hyper::service::Service as _;
use serde_json::{Map, Value};

use crate::config::{AuthCode, Config, Listen, Mode, PathRule, Route, Scheme, Store};
use crate::error::{Reason, Refusal};
use crate::mode::{Call, Endpoint, Place, Verdict};
use crate::provider::{AccessToken, Grant, IdToken};
use crate::runtime::{Lasting, Match, Snapshot};
use crate::server::edge::{Gate, admit, gate};
use crate::server::verdict;
use crate::session::{Binding, Handle, Session};
use crate::time::Clock;
use crate::web::{Body, CookieName, Kind, Wants};

/// Longer than it takes to explain.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What one listener makes of a request.
#[derive(Debug)]
pub struct Explained {
    /// Where the request comes in.
    pub listen: Listen,
    /// Whose it is, as far as that is known.
    pub route: Option<Arc<Route>>,
    /// What of it is asked for.
    pub place: Option<Place>,
    /// What comes of it.
    pub outcome: Outcome,
    /// What Caddy is told when it asks about this request, where the rule has no upstream for Caddy to lead it to.
    pub verdict: Option<Outcome>,
}

impl Explained {
    /// The path rule that holds.
    #[must_use]
    pub fn rule(&self) -> Option<&Arc<PathRule>> {
        match self.place? {
            Place::Rule(index) => self.route.as_ref()?.paths.get(index),
            Place::Endpoint(_) => None,
        }
    }

    /// Whether a session would make a difference, which only the running process knows.
    #[must_use]
    pub fn asks_for_session(&self) -> bool {
        let browsers = self.route.as_ref().is_some_and(|route| matches!(route.mode, Mode::AuthCode(_)));
        browsers
            && self.rule().is_some()
            && match self.verdict.as_ref().unwrap_or(&self.outcome) {
                Outcome::HandedOn | Outcome::Allowed(_) | Outcome::Answered(StatusCode::FOUND, _) => true,
                Outcome::Refused(_, refusal) => refusal.reason == Reason::LoginRequired,
                Outcome::Answered(..) | Outcome::Untried(_) => false,
            }
    }

    fn knows_host(&self) -> bool {
        !matches!(&self.outcome, Outcome::Refused(_, refusal) if refusal.reason == Reason::HostMismatch)
    }

    const fn has_place(&self) -> bool {
        self.place.is_some()
    }
}

/// What comes of a request.
#[derive(Debug)]
pub enum Outcome {
    /// It goes to the upstream of its rule.
    HandedOn,
    /// Caddy may let it pass, and is told these headers.
    Allowed(HeaderMap),
    /// We answer it ourselves; with the place that we send it to.
    Answered(StatusCode, Option<HeaderValue>),
    /// We refuse it.
    Refused(StatusCode, Refusal),
    /// It was not tried, and why.
    Untried(&'static str),
}

/// What the listeners of `config` would make of the request `head`, whose `Host` says where it is for: those that have
/// something at its path, or else those that have its host, or else all. Sessions are not known here, they are the running
/// process's: with `claims`, path rules meet somebody who is logged in with them, and else nobody. Providers may be asked
/// for their metadata and keys.
///
/// # Errors
/// A text for the operator when what `config` says cannot be built.
pub async fn explain(
    mut config: Config,
    head: &request::Parts,
    claims: Option<&Map<String, Value>>,
) -> Result<Vec<Explained>, String> {
    // The file of the running process is its own.
    config.sessions.store = Store::Memory;
    let lasting = Lasting::new(&config, Clock::default())?;
    let snapshot = Snapshot::build(Arc::new(config), None, &lasting)?;
    lasting.adopt(&snapshot);
    let mut listens: Vec<&Listen> = snapshot.listens().collect();
    listens.sort_by_key(|listen| listen.to_string());
    let mut all = Vec::new();
    for listen in listens {
        all.push(at(&snapshot, &lasting, listen, (head, claims)).await?);
    }
    for fits in [Explained::knows_host, Explained::has_place] {
        if all.iter().any(fits) {
            all.retain(fits);
        }
    }
    Ok(all)
}

async fn at(
    snapshot: &Snapshot,
    lasting: &Lasting,
    listen: &Listen,
    (head, claims): (&request::Parts, Option<&Map<String, Value>>),
) -> Result<Explained, String> {
    let listen = listen.clone();
    // Caddy is asking, and is trusted.
    let found = match admit(snapshot, &listen, head, None) {
        Ok(found) => found,
        Err(refusal) => {
            return Ok(Explained { listen, route: None, place: None, outcome: refused(refusal), verdict: None });
        }
    };
    let route = Arc::clone(found.route.config());
    let rule = match found.place {
        Some(Place::Rule(index)) => route.paths.get(index),
        Some(Place::Endpoint(_)) | None => None,
    };
    let mut head = head.clone();
    if let (Some(_), Some(claims), Mode::AuthCode(mode)) = (rule, claims, &route.mode) {
        let cookie = log_in(lasting, (&route, mode, found.site), claims.clone()).await?;
        head.headers.insert(COOKIE, cookie);
    }
    let outcome = serve(&found, lasting, &head).await;
    let verdict = match rule {
        Some(rule) if rule.upstream.is_none() => question(snapshot, &route, lasting, &head).await,
        Some(_) | None => None,
    };
    Ok(Explained { listen, place: found.place, route: Some(route), outcome, verdict })
}

/// Makes a session of somebody with `claims`, for a day. Returns its cookie.
async fn log_in(
    lasting: &Lasting,
    (route, mode, site): (&Route, &AuthCode, usize),
    claims: Map<String, Value>,
) -> Result<HeaderValue, String> {
    let client = mode.clients.first().ok_or("the route has no client")?;
    let binding = Binding {
        route: route.name.clone(),
        provider: client.provider.name.clone(),
        issuer: client.provider.issuer.clone(),
        client_id: client.client_id.clone(),
    };
    let now = lasting.clock.now();
    // Unsigned: what a session holds was verified before, or is for the upstream to verify.
    let payload = URL_SAFE_NO_PAD.encode(Value::from(claims.clone()).to_string());
    let token = format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#));
    let grant = Grant {
        access_token: AccessToken::from_stored(&token).ok_or("the claims are too long for a token")?,
        access_expires_at: now.plus(DAY),
        refresh_token: None,
        id_token: IdToken::from_stored(&token),
        subject: claims.get("sub").and_then(Value::as_str).unwrap_or("somebody").to_owned(),
        sid: None,
        userinfo: Map::new(),
        claims,
    };
    let handle = Handle::new().map_err(|error| error.to_string())?;
    let session = Session::open(&handle, Arc::new(binding), grant, DAY, now);
    lasting.shared.sessions.insert(session, now).await.map_err(|error| error.to_string())?;
    let scheme = route.public_urls.get(site).map_or(Scheme::Https, |url| url.scheme);
    let cookie = format!("{}={}", CookieName::session(&route.name, scheme).as_str(), handle.expose());
    HeaderValue::try_from(cookie).map_err(|error| error.to_string())
}

/// What [`Edge`](super::Edge) does.
async fn serve(found: &Match<'_>, lasting: &Lasting, head: &request::Parts) -> Outcome {
    let kind = Kind::of(head);
    let place = match gate(found, head, kind) {
        Gate::Preflight(_) => return Outcome::Answered(StatusCode::NO_CONTENT, None),
        Gate::Closed(refusal, _) => return refused(refusal),
        Gate::Open(place, _) => place,
    };
    let call = Call {
        head: head.clone(),
        place,
        site: found.site,
        kind,
        wants: Wants::of(&head.headers),
        now: lasting.clock.now(),
        peer: None,
        request_id: "explain".into(),
    };
    match place {
        Place::Rule(index) if found.route.config().paths.get(index).is_none_or(|rule| rule.upstream.is_none()) => {
            refused(Refusal::new(Reason::NotFound).because("no upstream here"))
        }
        Place::Rule(_) => match found.route.verdict(&call).await {
            Ok(Verdict::Allow(_)) => Outcome::HandedOn,
            Ok(Verdict::Login(url)) => Outcome::Answered(StatusCode::FOUND, HeaderValue::try_from(url).ok()),
            Err(refusal) => refused(refusal),
        },
        Place::Endpoint(Endpoint::LoginEnd) if counts_once(head) => {
            Outcome::Untried("what a provider sends back counts once, and belongs to the browser that was sent there")
        }
        Place::Endpoint(_) => match found.route.call((call, Body::Empty)).await {
            Ok(answer) => Outcome::Answered(answer.status(), answer.headers().get(LOCATION).cloned()),
            Err(refusal) => refused(refusal),
        },
    }
}

/// What [`Verdicts`](super::Verdicts) does; `None` where nobody can ask.
async fn question(snapshot: &Snapshot, route: &Route, lasting: &Lasting, head: &request::Parts) -> Option<Outcome> {
    let table = snapshot.verdicts(route.name.as_str())?;
    let host = head.headers.get(HOST)?.to_str().ok()?;
    let refused = |refusal: Refusal| Outcome::Refused(verdict::status(refusal.reason), refusal);
    let found = match table.find(host, head.uri.path()) {
        Ok(found) => found,
        Err(refusal) => return Some(refused(refusal)),
    };
    let asker = (Kind::of(head), Wants::of(&head.headers));
    let moment = (lasting.clock.now(), None, &Arc::from("explain"));
    Some(match verdict::decide(&found, head.clone(), asker, moment).await.0 {
        Ok(Verdict::Allow(headers)) => Outcome::Allowed(headers),
        Ok(Verdict::Login(url)) => Outcome::Answered(StatusCode::FOUND, HeaderValue::try_from(url).ok()),
        Err(refusal) => refused(refusal),
    })
}

fn refused(refusal: Refusal) -> Outcome {
    Outcome::Refused(refusal.reason.status(), refusal)
}

/// Whether a callback would be used up.
fn counts_once(head: &request::Parts) -> bool {
    let query = head.uri.query().unwrap_or_default();
    head.method == Method::POST || query.split('&').any(|pair| pair.starts_with("code="))
}

impl Outcome {
    /// One word for scripts.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::HandedOn => "handed_on",
            Self::Allowed(_) => "allowed",
            Self::Answered(..) => "answered",
            Self::Refused(..) => "refused",
            Self::Untried(_) => "untried",
        }
    }

    /// The challenge of a refused bearer.
    #[must_use]
    pub fn challenge(&self) -> Option<(&'static str, &HeaderValue)> {
        match self {
            Self::Refused(_, refusal) => Some((WWW_AUTHENTICATE.as_str(), refusal.challenge.as_deref()?)),
            Self::HandedOn | Self::Allowed(_) | Self::Answered(..) | Self::Untried(_) => None,
        }
    }
}
