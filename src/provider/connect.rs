//! Connections to one provider: guarded names, TCP, TLS and a pool, each with its bound.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tower_service::Service;

use super::guard::Guard;
use super::tls;
use crate::config;
use crate::web::BoxError;

/// How long a connection that nobody uses is kept, and how many: logins come in bursts.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_IDLE: usize = 16;

pub(super) type Http = Client<Bounded<HttpsConnector<HttpConnector<Guard>>>, Full<Bytes>>;

/// The pool, made at the first request: trust anchors are read from disk, which has no place in a reload.
#[derive(Debug)]
pub(super) struct Connections {
    config: Arc<config::Provider>,
    guard: Guard,
    limit: Duration,
    client: OnceCell<Http>,
}

impl Connections {
    pub(super) fn new(config: Arc<config::Provider>, guard: Guard, limit: Duration) -> Self {
        Self { config, guard, limit, client: OnceCell::new() }
    }

    /// The pool.
    ///
    /// # Errors
    /// The trust anchors cannot be used.
    pub(super) async fn client(&self) -> Result<&Http, String> {
        self.client.get_or_try_init(|| self.build()).await
    }

    async fn build(&self) -> Result<Http, String> {
        let ca = self.config.ca.clone();
        let tls = tokio::task::spawn_blocking(move || tls::client_config(ca.as_deref()));
        let tls = tls.await.map_err(|_| "trust anchors could not be read".to_owned())??;
        let mut tcp = HttpConnector::new_with_resolver(self.guard.clone());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Each address of a host gets its share of the time, so that one dead address does not use it all.
        tcp.set_connect_timeout(Some(self.limit));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let connector = Bounded { inner: https.wrap_connector(tcp), limit: self.limit };
        Ok(Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE)
            .build(connector))
    }
}

/// TCP and TLS took too long together.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no connection in time")]
pub(super) struct TooSlow;

/// A connector with a limit that covers the TLS handshake, which the one inside does not know.
#[derive(Clone, Debug)]
pub(super) struct Bounded<C> {
    inner: C,
    limit: Duration,
}

impl<C> Service<Uri> for Bounded<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.inner.call(uri);
        let limit = self.limit;
        Box::pin(async move {
            match timeout(limit, connecting).await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_) => Err(TooSlow.into()),
            }
        })
    }
}

/// Whether `error` or one of its causes is an `E`.
pub(super) fn source_is<E: StdError + 'static>(error: &(dyn StdError + 'static)) -> bool {
    chain(error).any(|cause| {
        // io::Error does not show what it wraps as a source of its own.
        let wrapped = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause.is::<E>() || wrapped.is_some_and(|inner| inner.is::<E>())
    })
}

/// The causes of `error` in words, outermost first.
pub(super) fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut words: Vec<String> = chain(error).map(ToString::to_string).collect();
    words.dedup();
    words.join(": ")
}

fn chain<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}
