//! The only way out to the provider: bounded in time, size and number, without redirects, without compression.
//!
//! hyper follows no redirects, and nothing here does: a 3xx is a status like any other that was not asked for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::clocks::ClockWatch;
use super::connect::{Connections, source_is};
use super::guard::{Forbidden, Guard};
use super::pace::Rest;
use super::{Error, Surroundings};
use crate::config;

/// How many requests one provider gets at a time; the rest wait for [`Limits::queue`], then fail.
const MAX_CONCURRENT: usize = 64;

/// How long each stage of a request may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For a free slot.
    pub(super) queue: Duration,
    /// For TCP and TLS together.
    pub(super) connect: Duration,
    /// Until the response head is there, connecting included.
    pub(super) head: Duration,
    /// Until the last byte.
    pub(super) whole: Duration,
}

impl Limits {
    /// What users wait for is a page: ten seconds are the most that anybody sits through.
    pub(super) const DEFAULT: Self = Self {
        queue: Duration::from_secs(2),
        connect: Duration::from_secs(3),
        head: Duration::from_secs(5),
        whole: Duration::from_secs(10),
    };
}

/// What a request is for: decides what an answer may look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Metadata.
    Discovery,
    /// Keys.
    Jwks,
    /// A code is exchanged.
    Token,
    /// A refresh token is used.
    Refresh,
    /// Claims.
    Userinfo,
    /// A token is revoked.
    Revocation,
    /// An authorization request is pushed.
    PushedAuthorization,
    /// An opaque token is looked up.
    Introspection,
}

impl Operation {
    /// The name in metrics and messages.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Discovery => "discovery",
            Self::Jwks => "jwks",
            Self::Token => "token",
            Self::Refresh => "refresh",
            Self::Userinfo => "userinfo",
            Self::Revocation => "revocation",
            Self::PushedAuthorization => "par",
            Self::Introspection => "introspection",
        }
    }

    const fn max_body(self) -> usize {
        match self {
            Self::Userinfo => 1024 * 1024,
            _ => 256 * 1024,
        }
    }

    /// Discovery 4.2 and its kin: success is 200 and nothing else; RFC 9126 2.2: 201. The endpoints that authenticate
    /// us answer refusals with an OAuth error object, which is an answer, too (RFC 6749 5.2; some send 403).
    const fn takes(self, status: StatusCode) -> bool {
        match self {
            Self::Token | Self::Refresh => matches!(status.as_u16(), 200 | 400 | 401 | 403),
            Self::PushedAuthorization => matches!(status.as_u16(), 201 | 400 | 401 | 403),
            Self::Discovery | Self::Jwks | Self::Userinfo | Self::Revocation | Self::Introspection => {
                matches!(status.as_u16(), 200)
            }
        }
    }

    const fn media_types(self) -> &'static [&'static str] {
        match self {
            Self::Jwks => &["application/json", "application/jwk-set+json"],
            Self::Userinfo => &["application/json", "application/jwt"],
            // RFC 7009 2.2: the body means nothing.
            Self::Revocation => &[],
            Self::Discovery | Self::Token | Self::Refresh | Self::PushedAuthorization | Self::Introspection => {
                &["application/json"]
            }
        }
    }
}

/// Why there is no answer that can be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Too many requests at a time.
    #[error("too many requests to the provider at a time")]
    Busy,
    /// The provider has said that it wants to be left alone.
    #[error("the provider wants to be left alone (Retry-After)")]
    Resting,
    /// A stage took too long.
    #[error("no answer in time")]
    Timeout,
    /// Metadata named an address that is out of bounds.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// No connection, or a broken one; the causes in words.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// A status that was not asked for.
    #[error("status {0}")]
    Status(u16),
    /// An answer that is not what was asked for.
    #[error("{0}")]
    Odd(&'static str),
}

impl Failure {
    /// The name in metrics.
    const fn label(&self) -> &'static str {
        match self {
            Self::Busy | Self::Resting => "busy",
            Self::Timeout => "timeout",
            Self::Forbidden(_) => "forbidden",
            Self::Unreachable(_) => "unreachable",
            Self::Status(_) => "status",
            Self::Odd(_) => "unacceptable",
        }
    }

    /// The failure as everybody above sees it. A provider that is down, overloaded or replaced by somebody's error
    /// page is not available; nothing follows from that for a session.
    pub(super) fn into_error(self, operation: Operation) -> Error {
        match self {
            Self::Timeout => Error::Timeout(operation.label()),
            other => Error::Unavailable(format!("{}: {other}", operation.label())),
        }
    }
}

/// The client for one provider.
#[derive(Debug)]
pub(super) struct Transport {
    config: Arc<config::Provider>,
    surroundings: Surroundings,
    connections: Connections,
    guard: Guard,
    slots: Semaphore,
    limits: Limits,
    /// From refreshes alone: they can wait where a person cannot, and they come in crowds.
    rest: Rest,
    /// The provider's clock, as its answers show it.
    pub(super) clock: Arc<ClockWatch>,
}

impl Transport {
    /// Opens nothing yet.
    pub(super) fn new(config: Arc<config::Provider>, surroundings: Surroundings, limits: Limits) -> Self {
        let guard = Guard::new(&config);
        let clock = surroundings.clocks.watch(Arc::clone(&config), Arc::clone(&surroundings.metrics));
        let connections = Connections::new(Arc::clone(&config), guard.clone(), limits.connect);
        Self {
            config,
            surroundings,
            connections,
            guard,
            slots: Semaphore::new(MAX_CONCURRENT),
            limits,
            rest: Rest::none(),
            clock,
        }
    }

    /// Fetches a document.
    pub(super) async fn get(&self, operation: Operation, url: &url::Url) -> Result<Response<Bytes>, Failure> {
        let request = Request::get(url.as_str()).body(Bytes::new()).map_err(|_| Failure::Odd("is no URL"))?;
        self.send(operation, request).await
    }

    /// Sends `request` once and reads the whole answer.
    pub(super) async fn send(&self, operation: Operation, request: Request<Bytes>) -> Result<Response<Bytes>, Failure> {
        let begun = Instant::now();
        let result = self.bounded(operation, request, begun).await;
        let label = result.as_ref().map_or_else(Failure::label, |answer| match answer.status().is_success() {
            true => "ok",
            false => "refused",
        });
        let provider = self.config.name.as_str();
        let seconds = begun.elapsed().as_secs_f64();
        self.surroundings.metrics.provider_request(provider, operation.label(), label, seconds);
        result
    }

    async fn bounded(
        &self,
        operation: Operation,
        mut request: Request<Bytes>,
        begun: Instant,
    ) -> Result<Response<Bytes>, Failure> {
        let is_refresh = operation == Operation::Refresh;
        if is_refresh && !self.rest.is_over(self.surroundings.clock.now()) {
            return Err(Failure::Resting);
        }
        let slot = timeout(self.limits.queue, self.slots.acquire()).await;
        let Ok(Ok(_slot)) = slot else {
            return Err(Failure::Busy);
        };
        if let Some(host) = request.uri().host() {
            self.guard.literal(host).await?;
        }
        let headers = request.headers_mut();
        if let Some(credentials) = headers.get_mut(AUTHORIZATION) {
            // Whoever made it, nobody's trace shows it.
            credentials.set_sensitive(true);
        }
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("vestibule/", env!("CARGO_PKG_VERSION"))));
        let client = self.connections.client().await.map_err(Failure::Unreachable)?;
        let (asked, sent) = (self.surroundings.clock.now_in_millis(), Instant::now());
        let answer = timeout(self.limits.head, client.request(request.map(Full::new))).await;
        let answer = answer.map_err(|_| Failure::Timeout)?.map_err(|error| failure(&error))?;
        self.clock.answered(answer.headers(), asked, sent.elapsed());
        if is_refresh {
            self.rest.hear(answer.status(), answer.headers(), self.surroundings.clock.now());
        }
        read(operation, answer, begun + self.limits.whole).await
    }
}

/// Reads a body that is what was asked for, within its limits.
async fn read(operation: Operation, answer: Response<Incoming>, end: Instant) -> Result<Response<Bytes>, Failure> {
    let (head, body) = answer.into_parts();
    if !operation.takes(head.status) {
        return Err(Failure::Status(head.status.as_u16()));
    }
    // A compressed body could be a thousand times its size; we said that we take none.
    let encoded = head.headers.get_all(CONTENT_ENCODING).iter();
    if encoded.into_iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Failure::Odd("its body is encoded though we take none such"));
    }
    let media_types = operation.media_types();
    if !media_types.is_empty() && !media_types.contains(&media_type(&head.headers).as_str()) {
        return match head.status.is_success() {
            true => Err(Failure::Odd("its content type is not the one asked for")),
            false => Err(Failure::Status(head.status.as_u16())),
        };
    }
    let body = timeout_at(end, Limited::new(body, operation.max_body()).collect()).await;
    let body = body.map_err(|_| Failure::Timeout)?.map_err(|error| {
        let too_large = error.is::<http_body_util::LengthLimitError>();
        Failure::Odd(if too_large { "its body is too large" } else { "its body broke off" })
    })?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

/// The media type of an answer, lower case and without parameters; empty when there is none or more than one.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return String::new();
    };
    let text = value.to_str().unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Why there is no response head.
fn failure(error: &hyper_util::client::legacy::Error) -> Failure {
    if source_is::<Forbidden>(error) {
        return Failure::Forbidden(Forbidden);
    }
    if source_is::<super::connect::TooSlow>(error) {
        return Failure::Timeout;
    }
    Failure::Unreachable(super::connect::causes(error))
}

#[cfg(test)]
mod tests;
