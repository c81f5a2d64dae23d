//! The development provider on its socket: loopback only, every request noted down before it is answered.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{DATE, HOST, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::form_urlencoded;

use super::call::{Answer, Call, answer as plain};
use super::client::method_of;
use super::journal::{Endpoint, Seen};
use super::ledger::Ledger;
use super::mutation::Kind;
use super::{
    Broken, Shared, authorize, device, discovery, end_session, introspection, misbehave, revocation, token, userinfo,
};
use crate::demo::server;
use crate::web::Body;

/// Largest form.
const FORM_LIMIT: usize = 256 * 1024;

/// Binds a loopback address; a port of 0 picks a free one.
///
/// # Errors
/// An address of any other network, or one that is taken.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    listen(reserve(address)?)
}

/// Holds an address without listening: connections are refused, and nobody else can take the port.
///
/// # Errors
/// As [`bind`].
pub(super) fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    if !address.ip().is_loopback() {
        return Err(io::Error::other("the development provider listens on loopback only"));
    }
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Starts to listen on a reserved address.
///
/// # Errors
/// The system's.
pub(super) fn listen(socket: TcpSocket) -> io::Result<TcpListener> {
    socket.listen(1024)
}

/// Answers until `stop`.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, tasks: TaskTracker, stop: CancellationToken) {
    server::serve(listener, tasks, stop, move |request| respond(Arc::clone(&shared), request)).await;
}

/// One request; an error closes the connection without an answer.
async fn respond(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Closed> {
    let (head, body) = request.into_parts();
    if !shared.setup.knows_host(&head.headers) {
        return Ok(plain(StatusCode::FORBIDDEN, "text/plain", "unknown host\n".to_owned()).map(Body::from));
    }
    let Some(endpoint) = shared.setup.endpoint(head.uri.path()) else {
        return Ok(plain(StatusCode::NOT_FOUND, "text/plain", "not found\n".to_owned()).map(Body::from));
    };
    let Ok(form) = Limited::new(body, FORM_LIMIT).collect().await else {
        return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "text/plain", "too large\n".to_owned()).map(Body::from));
    };
    let (call, delay) = note(&shared, endpoint, head, &form.to_bytes());
    // A client that goes away does not take back what it asked for: a token that it sent is used.
    tokio::spawn(async move { answer(&shared, &call, delay).await }).await.unwrap_or(Err(Closed))
}

/// What a request that was read and noted gets, and when.
async fn answer(shared: &Shared, call: &Call, delay: Option<Duration>) -> Result<Response<Body>, Closed> {
    wait(delay, &call.changes).await;
    if call.changes.iter().any(|change| matches!(change, Kind::Close)) {
        return Err(Closed);
    }
    let mut answer = dispatch(shared, call).unwrap_or_else(|Broken| {
        plain(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "the provider broke\n".to_owned())
    });
    // By the clock that its tokens go by.
    if let Ok(date) = HeaderValue::from_str(&shared.setup.clock.now().imf_fixdate()) {
        answer.headers_mut().insert(DATE, date);
    }
    Ok(misbehave::apply(answer, &call.changes))
}

/// A connection that is closed on request.
#[derive(Debug, thiserror::Error)]
#[error("closed on request")]
struct Closed;

/// Reads a request and writes it down, then looks up what lies are due.
fn note(shared: &Shared, endpoint: Endpoint, head: Parts, form: &[u8]) -> (Call, Option<Duration>) {
    let query_text = head.uri.query().unwrap_or_default().to_owned();
    let query: Vec<(String, String)> = form_urlencoded::parse(query_text.as_bytes()).into_owned().collect();
    let form: Vec<(String, String)> = form_urlencoded::parse(form).into_owned().collect();
    let authentication = method_of(&head.headers, form.iter().any(|(name, _)| name == "client_secret"));
    let now = shared.setup.clock.now();
    let seen = Seen {
        endpoint,
        at: now,
        method: head.method.clone(),
        authentication,
        headers: head.headers.clone(),
        parameters: query.iter().chain(&form).cloned().collect(),
    };
    let mut ledger = shared.ledger();
    ledger.journal.push(seen);
    *ledger.counts.entry(endpoint).or_insert(0) += 1;
    let changes = ledger.queue.take(endpoint);
    let delay = ledger.delays.get(&endpoint).copied();
    let (method, headers) = (head.method, head.headers);
    (Call { endpoint, method, headers, query_text, query, form, authentication, now, changes }, delay)
}

/// All silence that was asked for.
async fn wait(delay: Option<Duration>, changes: &[Kind]) {
    let asked = changes
        .iter()
        .filter_map(|change| if let Kind::DelayBefore(time) = change { Some(*time) } else { None });
    let total: Duration = asked.chain(delay).sum();
    if !total.is_zero() {
        tokio::time::sleep(total).await;
    }
}

/// The right answer.
fn dispatch(shared: &Shared, call: &Call) -> Result<Answer, Broken> {
    let setup = &shared.setup;
    let mut ledger = shared.ledger();
    let ledger: &mut Ledger = &mut ledger;
    if call.changes.iter().any(|change| matches!(change, Kind::RotateKeys)) {
        ledger.ring = ledger.ring.rotated()?;
    }
    match call.endpoint {
        Endpoint::Discovery => Ok(discovery::metadata(setup, ledger)),
        Endpoint::Jwks => Ok(discovery::keys(ledger)),
        Endpoint::Authorize => authorize::answer(setup, ledger, call),
        Endpoint::Token => token::answer(setup, ledger, call),
        Endpoint::Userinfo => Ok(userinfo::answer(ledger, call)),
        Endpoint::Revocation => Ok(revocation::answer(setup, ledger, call)),
        Endpoint::EndSession => Ok(end_session::answer(setup, ledger, call)),
        Endpoint::DeviceAuthorization => device::begin(setup, ledger, call),
        Endpoint::DevicePage => device::page(setup, ledger, call),
        Endpoint::Introspection => Ok(introspection::answer(setup, ledger, call)),
    }
}

/// The authority in `Host`, without its port.
pub(super) fn host_of(headers: &HeaderMap) -> Option<&str> {
    let host = headers.get(HOST)?.to_str().ok()?;
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(name),
        _ => Some(host),
    }
}
