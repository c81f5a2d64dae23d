//! Passing a proven caller on to an upstream.

mod body;
mod connect;
mod hop;
mod link;
mod request;
mod response;
mod upload;
mod wait;
mod websocket;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;

use crate::config;
use crate::error::{Reason, Refusal};
use crate::metrics::{Metrics, StreamKind, UpstreamMetrics, UpstreamResult};
use crate::session::{Member, Stream, Streams};
use crate::web::Body;

use body::{Download, Open};
use connect::Connector;
use request::Destination;
use upload::{Stopped, Upload};
use wait::Failure;
use websocket::Tunnel;

/// Idle connections kept for one upstream. Beyond it a burst's connections are closed again.
const MAX_IDLE: usize = 64;

/// How long an idle connection is kept. Common servers close theirs later than this or announce it by closing.
const IDLE: Duration = Duration::from_secs(90);

/// How often a busy HTTP/2 connection is asked for a sign of life, and how long that may take.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(20));

/// The largest head of an HTTP/2 answer, as large as we take from a client.
const MAX_HEAD: u32 = 64 * 1024;

/// Everything about one request that the upstream is told beside the client's own words.
#[derive(Debug, Default)]
pub struct Passage {
    /// `Authorization` to send.
    pub authorization: Option<HeaderValue>,
    /// Whether the client's own `Authorization` stays when `authorization` is `None`.
    pub keep_authorization: bool,
    /// Identity headers; every other spelling of their names is dropped from the client's request.
    pub identity: Vec<(HeaderName, HeaderValue)>,
    /// All identity header names that the upstream believes, also those without a value: none may come from the client.
    pub owned: Arc<[HeaderName]>,
    /// `X-Forwarded-For` as rebuilt from the peer.
    pub forwarded_for: Option<HeaderValue>,
    /// `https` or `http`, from the route's public URL.
    pub forwarded_proto: &'static str,
    /// Host of the route's public URL that the client asked for.
    pub forwarded_host: Option<HeaderValue>,
    /// Prefix that was cut from the path (`X-Forwarded-Prefix`), if any.
    pub strip_prefix: Option<String>,
    /// Origins for CORS are answered by the edge, so the upstream's own `Access-Control-*` are removed when set.
    pub replace_cors: bool,
    /// Largest request body in bytes; absent: no limit.
    pub max_body: Option<u64>,
    /// The session of the caller: a stream ends with it.
    pub member: Option<Member>,
    /// The route: a stream ends with it.
    pub route: Option<config::RouteKey>,
}

/// The connection pool to one upstream; outlives snapshots while its config is equal.
pub struct Upstream {
    config: Arc<config::Upstream>,
    destination: Destination,
    client: Client<Connector, Body>,
    metrics: UpstreamMetrics,
    streams: Arc<Streams>,
}

/// What is needed of a request to make the client's answer of the upstream's.
struct Terms {
    replace_cors: bool,
    member: Option<Member>,
    route: Option<config::RouteKey>,
    /// The client's connection, when it asked for a WebSocket.
    websocket: Option<OnUpgrade>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Upstream").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Upstream {
    /// Builds the pool; connects to nothing yet. What is open through it is written down in `streams`.
    ///
    /// # Errors
    /// A text for the operator when the CA bundle cannot be used.
    pub fn build(
        config: Arc<config::Upstream>,
        metrics: &Metrics,
        streams: &Arc<Streams>,
    ) -> Result<Arc<Self>, String> {
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .set_host(false);
        if matches!(config.target, config::Target::H2c(_)) {
            builder
                .http2_only(true)
                .timer(TokioTimer::new())
                // One connection carries everything, so that a dead one must be noticed while it is used.
                .http2_keep_alive_interval(PING.0)
                .http2_keep_alive_timeout(PING.1)
                .http2_max_header_list_size(MAX_HEAD);
        }
        let client = builder.build(Connector::build(&config)?);
        let metrics = metrics.upstream(config.name.as_str());
        let destination = Destination::new(&config);
        Ok(Arc::new(Self { config, destination, client, metrics, streams: Arc::clone(streams) }))
    }

    /// The configuration that it runs with.
    #[must_use]
    pub const fn config(&self) -> &Arc<config::Upstream> {
        &self.config
    }

    /// Sends `request` on and streams the answer back. Dropping the future, or the body of the answer, ends the
    /// request to the upstream too.
    ///
    /// # Errors
    /// A [`Refusal`] with one of the upstream reasons, or with what is wrong with the request.
    pub fn forward(
        &self,
        request: Request<Body>,
        passage: Passage,
    ) -> impl Future<Output = Result<Response<Body>, Refusal>> + Send {
        let max_body = passage.max_body;
        // Before there is a future, so that it has to hold neither the passage nor the client's head.
        let prepared = self.prepare(request, passage).map(Box::new);
        async move {
            let (head, body, terms) = *prepared?;
            let started = Instant::now();
            // Room for the rarer ways is made when they are taken: every request carries what stands here.
            let answered = if body.is_end_stream() {
                self.send_bodiless(head, started).await.map(|response| (response, None))
            } else {
                Box::pin(self.send_with_body(head, body, max_body)).await
            };
            let seconds = started.elapsed().as_secs_f64();
            match answered {
                Ok((response, stopped)) => {
                    self.metrics.observe(UpstreamResult::Answered(response.status()), seconds);
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                        return Box::pin(self.switch(response, terms)).await;
                    }
                    match kind(response.headers(), response.body()) {
                        Some(kind) => Box::pin(self.stream(kind, response, stopped, terms)).await,
                        None => self.answer(response, None, stopped, terms.replace_cors),
                    }
                }
                Err(failure) => {
                    self.metrics.observe(failure.result(), seconds);
                    Err(failure.into())
                }
            }
        }
    }

    /// The request as the upstream shall see it, and what its answer will need.
    fn prepare(&self, request: Request<Body>, mut passage: Passage) -> Result<(Parts, Body, Terms), Refusal> {
        let (replace_cors, member, route) = (passage.replace_cors, passage.member.take(), passage.route.take());
        let (mut head, body) = request.into_parts();
        if passage.max_body.is_some_and(|max| body.size_hint().lower() > max) {
            return Err(Reason::BodyTooLarge.into());
        }
        let upgrades = self.destination.rewrite(&mut head, passage)?;
        let websocket = head.extensions.remove::<OnUpgrade>().filter(|_| upgrades);
        if upgrades && (websocket.is_none() || !body.is_end_stream()) {
            return Err(Refusal::new(Reason::BadRequest).because("no connection that could become a WebSocket"));
        }
        Ok((head, body, Terms { replace_cors, member, route, websocket }))
    }

    /// Sends a request without a body, a second time if it is safe to repeat and the connection broke before an
    /// answer: an upstream may close an idle connection in the very moment in which we use it.
    fn send_bodiless(
        &self,
        head: Parts,
        started: Instant,
    ) -> impl Future<Output = Result<Response<Incoming>, Failure>> + Send {
        let deadline = started + self.config.response_timeout;
        let mut again = matches!(head.method, Method::GET | Method::HEAD).then(|| Box::new(head.clone()));
        let mut sending = self.client.request(Request::from_parts(head, Body::Empty));
        async move {
            loop {
                match wait::until(deadline, sending).await {
                    Err(Failure::Broken(error)) => match again.take() {
                        Some(head) => sending = self.client.request(Request::from_parts(*head, Body::Empty)),
                        None => return Err(Failure::Broken(error)),
                    },
                    answered => return answered,
                }
            }
        }
    }

    async fn send_with_body(
        &self,
        head: Parts,
        body: Body,
        max: Option<u64>,
    ) -> Result<(Response<Incoming>, Option<Stopped>), Failure> {
        let (body, upload) = Upload::wrap(body, self.config.idle_timeout, max);
        let limits = wait::Limits { idle: self.config.idle_timeout, answer: self.config.response_timeout };
        let response = wait::upload(&upload, limits, self.client.request(Request::from_parts(head, body))).await?;
        // Who says no before everything was sent wants no more of it; who says yes may be reading on.
        let stopped = if response.status().is_success() { None } else { upload.stop() };
        Ok((response, stopped))
    }

    /// An answer without a foreseeable end, which ends with the session of the caller at the latest.
    async fn stream(
        &self,
        kind: StreamKind,
        response: Response<Incoming>,
        stopped: Option<Stopped>,
        terms: Terms,
    ) -> Result<Response<Body>, Refusal> {
        let stream = self.open(kind, &terms).await?;
        let open = Open::new(stream, self.metrics.stream(kind));
        self.answer(response, Some(open), stopped, terms.replace_cors)
    }

    fn answer(
        &self,
        response: Response<Incoming>,
        open: Option<Open>,
        stopped: Option<Stopped>,
        replace_cors: bool,
    ) -> Result<Response<Body>, Refusal> {
        let (mut head, body) = response.into_parts();
        response::rewrite(&mut head, replace_cors)?;
        let body = Download::wrap(body.into(), self.config.idle_timeout, open, stopped);
        Ok(Response::from_parts(head, body))
    }

    /// The upstream speaks WebSocket from here on.
    async fn switch(&self, mut response: Response<Incoming>, mut terms: Terms) -> Result<Response<Body>, Refusal> {
        let upstream = hyper::upgrade::on(&mut response);
        let (mut head, _) = response.into_parts();
        let Some(client) = terms.websocket.take().filter(|_| websocket::is_granted(&head)) else {
            return Err(Refusal::new(Reason::UpstreamBroken).because("101 that nobody asked for"));
        };
        response::rewrite(&mut head, terms.replace_cors)?;
        websocket::mark(&mut head.headers);
        let kind = StreamKind::WebSocket;
        let stream = self.open(kind, &terms).await?;
        let counted = self.metrics.stream(kind);
        let tunnel = Tunnel { client, upstream, stream, idle: self.config.idle_timeout, counted };
        self.streams.tasks().spawn(tunnel.run());
        Ok(Response::from_parts(head, Body::Empty))
    }

    async fn open(&self, kind: StreamKind, terms: &Terms) -> Result<Stream, Refusal> {
        let stream = self.streams.open(kind, terms.member.as_ref(), terms.route.as_ref()).await?;
        stream.ok_or_else(|| Refusal::new(Reason::LoginRequired).because("the session ended before the answer came"))
    }
}

/// What kind of stream an answer is; `None` for one whose end is known.
fn kind(headers: &HeaderMap, body: &Incoming) -> Option<StreamKind> {
    if body.is_end_stream() {
        return None;
    }
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.as_bytes().split(|byte| *byte == b';').next());
    if media.is_some_and(|media| media.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")) {
        return Some(StreamKind::EventStream);
    }
    body.size_hint().exact().is_none().then_some(StreamKind::Stream)
}

#[cfg(test)]
mod tests;
