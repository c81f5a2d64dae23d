//! The one door. A request comes in here, takes one snapshot, is admitted, matched and served; whatever comes of it
//! leaves here: refusals become answers, and headers, counters and the log line follow from the same reason.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, HOST, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, request};
use hyper::body::Incoming;
use hyper::service::Service as _;

use crate::config::Listen;
use crate::error::{Asker, Reason, Refusal, answer, page};
use crate::mode::{Call, Endpoint, FORM_POST, Place, Route};
use crate::runtime::{Current, Lasting, Match, Snapshot};
use crate::server::Peer;
use crate::server::complaint::{Complaints, Subject};
use crate::server::leftover::Leftover;
use crate::web::{Body, CrossSite, Judgement, Kind, Wants, judge};

/// Longest request target that is looked at.
const MAX_TARGET: usize = 8 * 1024;

/// The door of one listener.
#[derive(Debug)]
pub struct Edge {
    listen: Listen,
    current: Current,
    lasting: Lasting,
    ids: RequestIds,
    complaints: Complaints,
}

/// Request ids: a random part for this listener and a counter. Unique, short, and nothing secret.
#[derive(Debug)]
pub(super) struct RequestIds {
    stem: String,
    count: AtomicU64,
}

impl RequestIds {
    /// A series of its own.
    pub(super) fn new() -> Result<Self, crate::web::RandomError> {
        let stem = format!("{:08x}-", u32::from_le_bytes(crate::web::bytes::<4>()?));
        Ok(Self { stem, count: AtomicU64::new(0) })
    }

    /// The next id.
    pub(super) fn next(&self) -> Arc<str> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let digits = (16 - count.leading_zeros() / 4).max(1);
        let mut text = String::with_capacity(self.stem.len() + 16);
        text.push_str(&self.stem);
        // By hand: each request needs one, and formatting costs as much as everything else that is done here.
        text.extend((0..digits).rev().filter_map(|digit| char::from_digit((count >> (4 * digit) & 0xf) as u32, 16)));
        text.into()
    }
}

/// What is known of a request before it is served, and needed after it.
struct Visit<'a> {
    found: Match<'a>,
    place: Option<Place>,
    kind: Kind,
    wants: Wants,
    method: Method,
    origin: Option<HeaderValue>,
    /// What a navigation asked for, so that the page of a refusal can lead back to it.
    here: Option<PathAndQuery>,
}

impl Edge {
    /// The door of `listen`, through which requests meet whatever snapshot is current.
    ///
    /// # Errors
    /// [`RandomError`](crate::web::RandomError) when the system gives no random bytes.
    pub fn new(listen: Listen, current: Current, lasting: Lasting) -> Result<Self, crate::web::RandomError> {
        let complaints = Complaints::new(Arc::clone(&lasting.metrics), lasting.clock.clone());
        Ok(Self { listen, current, lasting, ids: RequestIds::new()?, complaints })
    }

    /// Serves one request. Always answers.
    pub async fn serve(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let begun = Instant::now();
        let snapshot = self.current.load();
        let request_id = self.ids.next();
        let (head, body) = request.into_parts();
        let kind = Kind::of(&head);
        let wants = Wants::of(&head.headers);
        let (leftover, body) = Leftover::watch(body);
        let mut response = match admit(&snapshot, &self.listen, &head, peer.ip()) {
            Err(refusal) => {
                let asker = Asker { kind, wants, unseen: false, request_id: &request_id, login_url: None };
                drop(body);
                self.complaints.take(&refusal, Subject { request_id: &request_id, route: None, endpoint: None });
                let mut response = answer(&refusal, &asker);
                guard(response.headers_mut());
                response
            }
            Ok(found) => {
                let in_flight = found.metrics.in_flight();
                let method = head.method.clone();
                let navigates = kind == Kind::Navigation && matches!(found.place, Some(Place::Rule(_)));
                let here = head.uri.path_and_query().filter(|_| navigates).cloned();
                // A provider is answered in data, whatever it accepts.
                let kind = if found.place.is_some_and(|place| place.is_for_providers()) { Kind::Fetch } else { kind };
                let mut visit = Visit { place: found.place, kind, wants, method, origin: None, here, found };
                let request = (head, body, Arc::clone(&request_id));
                let response = self.visit(&mut visit, request, peer.ip()).await;
                let label = visit.place.map_or("none", Place::label);
                visit.found.metrics.observe(label, response.status(), begun.elapsed().as_secs_f64());
                drop(in_flight);
                response
            }
        };
        // Who was told to be too slow is not waited for once more.
        let silent = response.status() == StatusCode::REQUEST_TIMEOUT;
        if silent || !leftover.settle().await {
            // The rest of the body is still on its way: nothing after it may be read as a request.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// A request of a route: cross-site judgement, service, and what every answer of the route carries.
    async fn visit(
        &self,
        visit: &mut Visit<'_>,
        (head, body, request_id): (request::Parts, Body, Arc<str>),
        peer: Option<IpAddr>,
    ) -> Response<Body> {
        let Match { route, site, .. } = visit.found;
        let rules = cross_site(&visit.found);
        let outcome = match gate(&visit.found, &head, visit.kind) {
            Gate::Preflight(origin) => {
                let mut response = Response::new(Body::Empty);
                *response.status_mut() = StatusCode::NO_CONTENT;
                if let Some(rules) = rules {
                    rules.mark_preflight(&head.headers, response.headers_mut(), &origin);
                }
                return response;
            }
            Gate::Closed(refusal, origin) => {
                visit.origin = origin;
                Err(refusal)
            }
            Gate::Open(place, origin) => {
                visit.origin = origin;
                let (kind, wants) = (visit.kind, visit.wants);
                let (now, request_id) = (self.lasting.clock.now(), Arc::clone(&request_id));
                let call = Call { place, site, kind, wants, now, peer, request_id, head };
                route.call((call, body)).await
            }
        };
        let ours = !matches!((&outcome, visit.place), (Ok(_), Some(Place::Rule(_))));
        let mut response = outcome.unwrap_or_else(|refusal| {
            let (route_name, endpoint) = (route.config().name.as_str(), visit.place.map(Place::label));
            self.complaints
                .take(&refusal, Subject { request_id: &request_id, route: Some(route_name), endpoint });
            let unseen = visit.place.is_some_and(|place| route.is_unseen(place, &visit.method));
            let back = visit.here.as_ref().and_then(|here| route.login_url_back_to(site, here.as_str()));
            let login_url = back.as_deref().or_else(|| route.login_url(site));
            answer(
                &refusal,
                &Asker { kind: visit.kind, wants: visit.wants, unseen, request_id: &request_id, login_url },
            )
        });
        if ours {
            guard(response.headers_mut());
        }
        if let Some(rules) = rules {
            rules.mark(response.headers_mut(), visit.origin.as_ref());
        }
        response
    }
}

/// Whether a request comes as far as its route.
pub(super) enum Gate {
    /// It is a preflight, of this good origin.
    Preflight(HeaderValue),
    /// It does not; with the good origin whose scripts may read why.
    Closed(Refusal, Option<HeaderValue>),
    /// It does, to this place; with the origin, where a good one was named.
    Open(Place, Option<HeaderValue>),
}

/// Whose scripts may call what was found; `None` where a call needs nothing that another site could borrow.
fn cross_site<'a>(found: &'a Match<'_>) -> Option<CrossSite<'a>> {
    found.route.cross_site().filter(|_| !found.place.is_some_and(|place| place.is_for_providers()))
}

/// Judges where a request comes from, and whether anything is where it wants to go.
pub(super) fn gate(found: &Match<'_>, head: &request::Parts, kind: Kind) -> Gate {
    let rules = cross_site(found);
    match rules.as_ref().map_or(Judgement::Pass(None), |rules| judge(head, kind, rules)) {
        Judgement::Preflight(origin) => Gate::Preflight(origin),
        Judgement::Refuse(why) => {
            let mut refusal = Refusal::new(Reason::CrossSite).because(why);
            let answers = kind == Kind::Form && found.place == Some(Place::Endpoint(Endpoint::LoginEnd));
            refusal.words = answers.then_some(FORM_POST.into());
            Gate::Closed(refusal, None)
        }
        Judgement::Pass(origin) => match found.place {
            None => Gate::Closed(found.nowhere(), origin),
            Some(place) => Gate::Open(place, origin),
        },
    }
}

/// Peer, framing and target, then the route.
pub(super) fn admit<'a>(
    snapshot: &'a Snapshot,
    listen: &Listen,
    head: &request::Parts,
    peer: Option<IpAddr>,
) -> Result<Match<'a>, Refusal> {
    if peer.is_some_and(|peer| !is_trusted(snapshot, peer)) {
        return Err(Refusal::new(Reason::UntrustedPeer).because("the peer is not among trusted_proxies"));
    }
    if matches!(head.method, Method::TRACE | Method::CONNECT) {
        return Err(Reason::MethodNotAllowed.into());
    }
    let target = &head.uri;
    if target.scheme().is_some() || target.authority().is_some() || !target.path().starts_with('/') {
        return Err(Refusal::new(Reason::BadRequest).because("the request target is not a path"));
    }
    if target.path_and_query().is_some_and(|target| target.as_str().len() > MAX_TARGET) {
        return Err(Reason::UriTooLong.into());
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            host.to_str().map_err(|_| Refusal::new(Reason::BadRequest).because("Host is not ASCII"))?
        }
        (None, _) => return Err(Refusal::new(Reason::BadRequest).because("no Host")),
        (Some(_), Some(_)) => return Err(Refusal::new(Reason::BadRequest).because("several Host headers")),
    };
    if host.bytes().any(|byte| byte <= b' ' || matches!(byte, b'@' | b'/' | b'\\' | b'?' | b'#')) {
        return Err(Refusal::new(Reason::BadRequest).because("Host is no host"));
    }
    let table = snapshot
        .table(listen)
        .ok_or_else(|| Refusal::new(Reason::HostMismatch).because("no route here any more"))?;
    let found = table.find(host, target.path())?;
    // Where bearers are judged, this is for the judge to say in his own words (RFC 6750 3.1).
    let judged = matches!(found.route, Route::Bearer(_));
    if !judged && head.headers.get_all(http::header::AUTHORIZATION).iter().count() > 1 {
        return Err(Refusal::new(Reason::BadRequest).because("several Authorization headers"));
    }
    Ok(found)
}

pub(super) fn is_trusted(snapshot: &Snapshot, peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    snapshot.config.server.trusted_proxies.iter().any(|net| net.contains(&peer))
}

/// What every answer of our own carries (CB-21): never stored, no referrer, no sniffing, no frame, no script.
pub(super) fn guard(headers: &mut HeaderMap) {
    let own: [(HeaderName, HeaderValue); 4] = [
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (CONTENT_SECURITY_POLICY, page::policy()),
    ];
    for (name, value) in own {
        // A page that may be framed says so itself.
        if name != CONTENT_SECURITY_POLICY || !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    }
}
