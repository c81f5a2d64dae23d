//! The listener for operators: `/metrics`, `/livez` and `/readyz`. It changes nothing and decides about nobody.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | the text exposition format 0.0.4 |
//! | `/livez` | 200 while the process answers at all |
//! | `/readyz` | 200, or 503 before the first config, while draining, and while something is missing that the config calls required; `?verbose` names the parts |

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use http::{Method, Request, Response, StatusCode, Uri, request};
use hyper::body::Incoming;

use crate::config::Listen;
use crate::runtime::{Current, Lasting};
use crate::server::Peer;
use crate::server::standing::Standing;
use crate::session::State;
use crate::web::Body;

const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");

/// Where the process stands between its start and its end.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

impl Readiness {
    /// The first config serves.
    pub fn set_ready(&self) {
        self.0.store(READY, Ordering::Relaxed);
    }

    /// The process is going down: no new traffic, please.
    pub fn set_draining(&self) {
        self.0.store(DRAINING, Ordering::Relaxed);
    }
}

/// What answers on `metrics_listen`.
#[derive(Debug)]
pub struct Admin {
    current: Current,
    lasting: Lasting,
    readiness: Arc<Readiness>,
    standing: Arc<Standing>,
}

impl Admin {
    /// Speaks about what `current` points to at the time of each request.
    #[must_use]
    pub const fn new(current: Current, lasting: Lasting, readiness: Arc<Readiness>, standing: Arc<Standing>) -> Self {
        Self { current, lasting, readiness, standing }
    }

    /// The answer to one request. Its body is not read.
    pub async fn serve(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        self.answer(&request.into_parts().0, peer)
    }

    pub(super) fn answer(&self, head: &request::Parts, peer: Peer) -> Response<Body> {
        if head.headers.contains_key(ORIGIN) || !self.knows_host(head, peer) {
            return text(StatusCode::FORBIDDEN, "this listener is not for browsers\n".to_owned());
        }
        if !matches!(head.method, Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n".to_owned());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match head.uri.path() {
            "/livez" => text(StatusCode::OK, "alive\n".to_owned()),
            "/metrics" => self.metrics(),
            "/readyz" => self.ready(head.uri.query()),
            _ => text(StatusCode::NOT_FOUND, "/metrics, /livez or /readyz\n".to_owned()),
        }
    }

    /// Whether the caller meant us: a page that had its own name resolve to our address (DNS rebinding) sends that
    /// name. No browser comes through a unix socket.
    fn knows_host(&self, head: &request::Parts, peer: Peer) -> bool {
        if peer == Peer::Unix {
            return true;
        }
        let Some(host) = host(&head.uri, &head.headers) else { return false };
        let snapshot = self.current.load();
        let server = &snapshot.config.server;
        let own = server.metrics_listen.as_ref().map(Listen::to_string);
        own.is_some_and(|own| own == host) || is_ours(&host, &server.metrics_hosts)
    }

    fn metrics(&self) -> Response<Body> {
        let mut response = text(StatusCode::OK, self.lasting.metrics.render());
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
        response
    }

    fn ready(&self, query: Option<&str>) -> Response<Body> {
        let snapshot = self.current.load();
        let state = self.readiness.0.load(Ordering::Relaxed);
        let missing = |required: bool, ready: bool| required && !ready;
        let providers = snapshot.providers();
        let complete =
            !providers.iter().any(|provider| missing(provider.config().required_for_ready, provider.is_ready()));
        let ready = state == READY && complete;
        let (status, word) =
            if ready { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready") };
        let mut lines = format!("{word}\n");
        if query.is_some_and(|query| query.split('&').any(|part| part == "verbose" || part.starts_with("verbose="))) {
            let process = match state {
                STARTING => "starting",
                READY => "serving",
                _ => "draining",
            };
            let config = self.standing.describe(self.lasting.clock.now());
            let (store, state) = self.lasting.shared.sessions.state();
            let state = match state {
                State::Opening => "opening",
                State::Up => "up",
                State::Down => "down",
            };
            // Writing to a string cannot fail.
            let sessions = self.lasting.shared.sessions.count();
            let _ = writeln!(lines, "process: {process}\n{config}store {store}: {state}, {sessions} sessions");
            for provider in providers {
                let up = if provider.is_ready() { "up" } else { "down" };
                let required = if provider.config().required_for_ready { ", required" } else { "" };
                let clock = provider.describe_clock().map(|clock| format!("; {clock}")).unwrap_or_default();
                let _ = writeln!(lines, "provider {}: {up}{required}{clock}", provider.config().name);
            }
        }
        text(status, lines)
    }
}

/// The one host that the request names, port included, lower case.
fn host(target: &Uri, headers: &HeaderMap) -> Option<String> {
    let mut named = headers.get_all(HOST).iter();
    let host = named.next()?.to_str().ok()?;
    let consistent = named.next().is_none() && target.authority().is_none_or(|authority| authority.as_str() == host);
    consistent.then(|| host.to_ascii_lowercase())
}

/// Whether no stranger's page can be at `host`: an address, a name that is listed, or one without a dot (`localhost`, the
/// service of a compose file), which no public DNS answers for.
fn is_ours(host: &str, listed: &[String]) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let address = match bracketed {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => name.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4()),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let dotless = !name.is_empty() && name.bytes().all(plain);
    port.bytes().all(|byte| byte.is_ascii_digit()) && (address || dotless || listed.iter().any(|known| known == name))
}

/// An answer in plain words, for the moment only.
pub(super) fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
    response
}
