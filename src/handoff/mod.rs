//! Passing a proven caller on to an upstream.

mod body;
mod connect;
mod hop;
mod request;
mod response;
mod wait;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Request, Response, request::Parts};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;

use crate::config;
use crate::error::{Reason, Refusal};
use crate::metrics::{Metrics, UpstreamMetrics, UpstreamResult};
use crate::web::Body;

use body::{Download, Upload};
use connect::Connector;
use request::Destination;
use wait::Failure;

/// Idle connections kept for one upstream. Beyond it a burst's connections are closed again.
const MAX_IDLE: usize = 64;

/// How long an idle connection is kept. Common servers close theirs later than this or announce it by closing.
const IDLE: Duration = Duration::from_secs(90);

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
}

/// The connection pool to one upstream; outlives snapshots while its config is equal.
pub struct Upstream {
    config: Arc<config::Upstream>,
    destination: Destination,
    client: Client<Connector, Body>,
    metrics: UpstreamMetrics,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Upstream").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Upstream {
    /// Builds the pool; connects to nothing yet.
    ///
    /// # Errors
    /// A text for the operator when the CA bundle cannot be used.
    pub fn build(config: Arc<config::Upstream>, metrics: &Metrics) -> Result<Arc<Self>, String> {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .set_host(false)
            .build(Connector::build(&config)?);
        let metrics = metrics.upstream(config.name.as_str());
        let destination = Destination::new(&config);
        Ok(Arc::new(Self { config, destination, client, metrics }))
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
    pub async fn forward(&self, request: Request<Body>, passage: Passage) -> Result<Response<Body>, Refusal> {
        let replace_cors = passage.replace_cors;
        let max_body = passage.max_body;
        let (mut head, body) = request.into_parts();
        if max_body.is_some_and(|max| body.size_hint().lower() > max) {
            return Err(Reason::BodyTooLarge.into());
        }
        self.destination.rewrite(&mut head, passage)?;
        let started = Instant::now();
        let answered = if body.is_end_stream() {
            self.send_bodiless(head).await
        } else {
            self.send_with_body(head, body, max_body).await
        };
        let seconds = started.elapsed().as_secs_f64();
        match answered {
            Ok(response) => {
                self.metrics.observe(UpstreamResult::Answered(response.status()), seconds);
                self.answer(response, replace_cors)
            }
            Err(failure) => {
                self.metrics.observe(failure.result(), seconds);
                Err(failure.into())
            }
        }
    }

    /// Sends a request without a body, a second time if it is safe to repeat and the connection broke before an
    /// answer: an upstream may close an idle connection in the very moment in which we use it.
    async fn send_bodiless(&self, head: Parts) -> Result<Response<Incoming>, Failure> {
        let deadline = Instant::now() + self.config.response_timeout;
        let again = matches!(head.method, Method::GET | Method::HEAD).then(|| head.clone());
        let first = wait::until(deadline, self.client.request(Request::from_parts(head, Body::Empty))).await;
        match (first, again) {
            (Err(Failure::Broken(_)), Some(head)) => {
                wait::until(deadline, self.client.request(Request::from_parts(head, Body::Empty))).await
            }
            (first, _) => first,
        }
    }

    async fn send_with_body(&self, head: Parts, body: Body, max: Option<u64>) -> Result<Response<Incoming>, Failure> {
        let (body, upload) = Upload::wrap(body, self.config.idle_timeout, max);
        let limits = wait::Limits { idle: self.config.idle_timeout, answer: self.config.response_timeout };
        wait::upload(&upload, limits, self.client.request(Request::from_parts(head, body))).await
    }

    fn answer(&self, response: Response<Incoming>, replace_cors: bool) -> Result<Response<Body>, Refusal> {
        let (mut head, body) = response.into_parts();
        response::rewrite(&mut head, replace_cors)?;
        Ok(Response::from_parts(head, Download::wrap(body.into(), self.config.idle_timeout)))
    }
}

#[cfg(test)]
mod tests;
