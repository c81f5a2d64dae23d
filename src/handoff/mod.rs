//! Passing a proven caller on to an upstream.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Request, Response};

use crate::config;
use crate::error::Refusal;
use crate::metrics::Metrics;
use crate::web::Body;

/// Everything about one request that the upstream is told beside the client's own words.
#[derive(Debug, Default)]
pub struct Passage {
    /// `Authorization` to send.
    pub authorization: Option<HeaderValue>,
    /// Whether the client's own `Authorization` stays when `authorization` is `None`.
    pub keep_authorization: bool,
    /// Identity headers; every other spelling of their names is dropped from the client's request.
    pub identity: Vec<(HeaderName, HeaderValue)>,
    /// All identity header names of the rule, also those without a value: none of them may come from the client.
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
}

/// The connection pool to one upstream; outlives snapshots while its config is equal.
#[derive(Debug)]
pub struct Upstream {}

impl Upstream {
    /// Builds the pool; connects to nothing yet.
    ///
    /// # Errors
    /// A text for the operator when the CA bundle cannot be used.
    pub fn build(_config: Arc<config::Upstream>, _metrics: Arc<Metrics>) -> Result<Arc<Self>, String> {
        unimplemented!()
    }

    /// The configuration that it runs with.
    #[must_use]
    pub fn config(&self) -> &Arc<config::Upstream> {
        unimplemented!()
    }

    /// Sends `request` on and streams the answer back.
    ///
    /// # Errors
    /// A [`Refusal`] with one of the upstream reasons.
    pub async fn forward(&self, _request: Request<Body>, _passage: Passage) -> Result<Response<Body>, Refusal> {
        unimplemented!()
    }
}
