//! The listener for Caddy's `forward_auth`: `GET /<route>`, answered by 204 and our mark, or by a refusal.
//!
//! Caddy lets a request pass on any 2xx, so 204 is said in one place only and everything that goes wrong is something
//! else. What is asked about stands in the `X-Forwarded-*` headers that Caddy writes itself; nothing is read from the
//! query, which Caddy fills with the client's.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri, request};
use hyper::body::Incoming;

use crate::error::{Asker, Reason, Refusal, answer};
use crate::mode::{Call, Verdict};
use crate::runtime::{Current, Lasting, Match, Snapshot};
use crate::server::Peer;
use crate::server::complaint::{Complaints, Subject};
use crate::server::edge::{Gate, RequestIds, gate, guard, is_trusted};
use crate::time::Timestamp;
use crate::web::{Body, Kind, Wants};

/// A verdict takes at most this long, whatever a provider does.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest request target that is judged.
const MAX_TARGET: usize = 8 * 1024;

/// The endpoint's name in log lines.
const VERDICT_LABEL: Option<&str> = Some("verdict");

/// The mark of an allowed request. Caddy can cross `forward_auth` with the app's own answers under load; the shipped
/// Caddyfile lets a request pass on this header only.
const VERDICT: HeaderName = HeaderName::from_static("vestibule-verdict");

/// What answers on `verdict_listen`.
#[derive(Debug)]
pub struct Verdicts {
    current: Current,
    lasting: Lasting,
    ids: RequestIds,
    complaints: Complaints,
}

/// The request that Caddy asks about.
struct Question {
    head: request::Parts,
    kind: Kind,
    wants: Wants,
}

impl Verdicts {
    /// Judges by whatever snapshot is current.
    ///
    /// # Errors
    /// [`RandomError`](crate::web::RandomError) when the system gives no random bytes.
    pub fn new(current: Current, lasting: Lasting) -> Result<Self, crate::web::RandomError> {
        let complaints = Complaints::new(Arc::clone(&lasting.metrics), lasting.clock.clone());
        Ok(Self { current, lasting, ids: RequestIds::new()?, complaints })
    }

    /// Answers one question. The body is not read: Caddy sends none.
    pub async fn serve(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let begun = Instant::now();
        let snapshot = self.current.load();
        let request_id = self.ids.next();
        let mut head = request.into_parts().0;
        let asked = ask(&snapshot, &mut head, peer);
        let (kind, wants) = (Kind::of(&head), Wants::of(&head.headers));
        let found = match asked {
            Ok(found) => found,
            Err(refusal) => {
                let asker = Asker { kind, wants, unseen: false, request_id: &request_id, login_url: None };
                self.complaints
                    .take(&refusal, Subject { request_id: &request_id, route: None, endpoint: VERDICT_LABEL });
                return refuse(&refusal, &asker);
            }
        };
        let in_flight = found.metrics.in_flight();
        let question = Question { head, kind, wants };
        let (response, result) = self.answer(question, found, &request_id, peer).await;
        found.metrics.verdict(result);
        found.metrics.observe("verdict", response.status(), begun.elapsed().as_secs_f64());
        drop(in_flight);
        response
    }

    async fn answer(
        &self,
        question: Question,
        found: Match<'_>,
        request_id: &Arc<str>,
        peer: Peer,
    ) -> (Response<Body>, &'static str) {
        let Question { head, kind, wants } = question;
        let Match { route, site, .. } = found;
        let rules = route.cross_site();
        let here = head.uri.path_and_query().filter(|_| kind == Kind::Navigation).cloned();
        let now = self.lasting.clock.now();
        let (outcome, origin) = decide(&found, head, (kind, wants), (now, peer.ip(), request_id)).await;
        match outcome {
            Ok(Verdict::Allow(headers)) => (allow(headers), "allow"),
            Ok(Verdict::Login(url)) => (login(&url), "login"),
            Err(refusal) => {
                let name = Some(route.config().name.as_str());
                self.complaints.take(&refusal, Subject { request_id, route: name, endpoint: VERDICT_LABEL });
                let back = here.as_ref().and_then(|here| route.login_url_back_to(site, here.as_str()));
                let login_url = back.as_deref().or_else(|| route.login_url(site));
                let mut response = refuse(&refusal, &Asker { kind, wants, unseen: false, request_id, login_url });
                if let Some(rules) = rules {
                    rules.mark(response.headers_mut(), origin.as_ref());
                }
                (response, refusal.reason.code())
            }
        }
    }
}

/// Judges the request `head` that Caddy asks about. The second is the good origin whose scripts may read the answer.
pub(super) async fn decide(
    found: &Match<'_>,
    head: request::Parts,
    (kind, wants): (Kind, Wants),
    (now, peer, request_id): (Timestamp, Option<IpAddr>, &Arc<str>),
) -> (Result<Verdict, Refusal>, Option<HeaderValue>) {
    match gate(found, &head, kind) {
        // Whoever answers the preflight is the app, and nobody has proved who asks.
        Gate::Preflight(_) => (Err(Refusal::new(Reason::LoginRequired).because("a preflight proves nothing")), None),
        Gate::Closed(refusal, _) => (Err(refusal), None),
        Gate::Open(place, origin) => {
            let site = found.site;
            let call = Call { head, place, site, kind, wants, now, peer, request_id: Arc::clone(request_id) };
            let verdict = tokio::time::timeout(DEADLINE, found.route.verdict(&call)).await;
            let late = |_| Err(Refusal::new(Reason::ProviderTimeout).because("no verdict in time"));
            (verdict.unwrap_or_else(late), origin)
        }
    }
}

/// The only place that says 204.
fn allow(headers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.headers_mut() = headers;
    response.headers_mut().insert(VERDICT, HeaderValue::from_static("allow"));
    response
}

fn login(url: &str) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::FOUND;
    match HeaderValue::from_str(url) {
        Ok(url) => {
            response.headers_mut().insert(LOCATION, url);
        }
        Err(_) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
    }
    guard(response.headers_mut());
    response
}

/// A refusal with a status that Caddy's `forward_auth` and every reader of its contract understand.
fn refuse(refusal: &Refusal, asker: &Asker<'_>) -> Response<Body> {
    let mut response = answer(refusal, asker);
    *response.status_mut() = status(refusal.reason);
    guard(response.headers_mut());
    response
}

/// 401 for those who are nobody, 403 for all else that they did, 5xx for what is broken here.
pub(super) fn status(reason: Reason) -> StatusCode {
    let status = reason.status();
    if status.is_client_error() && status != StatusCode::UNAUTHORIZED { StatusCode::FORBIDDEN } else { status }
}

/// Reads what Caddy asks about, finds the route and rule, and makes `head` that of the request in question.
fn ask<'a>(snapshot: &'a Snapshot, head: &mut request::Parts, peer: Peer) -> Result<Match<'a>, Refusal> {
    if peer.ip().is_some_and(|peer| !is_trusted(snapshot, peer)) {
        return Err(Refusal::new(Reason::UntrustedPeer).because("the peer is not among trusted_proxies"));
    }
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Err(Refusal::new(Reason::MethodNotAllowed).because("verdicts are asked for by GET"));
    }
    let name = head.uri.path().strip_prefix('/').unwrap_or_default();
    let unknown = || Refusal::new(Reason::NotFound).because("no route of this name");
    let table = snapshot.verdicts(name).ok_or_else(unknown)?;
    let target = single(&head.headers, "x-forwarded-uri")?;
    if target.len() > MAX_TARGET || !target.starts_with('/') {
        return Err(Refusal::new(Reason::BadRequest).because("X-Forwarded-Uri is no path, or too long"));
    }
    let target: PathAndQuery =
        target.parse().map_err(|_| Refusal::new(Reason::BadRequest).because("X-Forwarded-Uri is no path"))?;
    let method = Method::from_bytes(single(&head.headers, "x-forwarded-method")?.as_bytes());
    let method = method.map_err(|_| Refusal::new(Reason::BadRequest).because("X-Forwarded-Method is no method"))?;
    let found = table.find(single(&head.headers, "x-forwarded-host")?, target.path())?;
    head.method = method;
    head.uri = Uri::from(target);
    Ok(found)
}

/// The value of a header that must be there once (FA-4).
fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next().map(HeaderValue::to_str), values.next()) {
        (Some(Ok(value)), None) => Ok(value),
        // Caddy always writes these: whoever asks without them is not Caddy, and is nobody.
        _ => Err(Refusal::new(Reason::LoginRequired).because(format!("{name} must be there once"))),
    }
}
