//! Connecting to an upstream: plain, TLS or a unix socket, within one deadline that covers every handshake.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::net::UnixStream;
use tower_service::Service;

use crate::config::{Target, Upstream};
use crate::handoff::link::Link;
use crate::provider::client_config;
use crate::web::BoxError;

/// Makes connections to one upstream, whatever the request's URI says: that may name the site's host (HTTP/2 has no
/// other place for it).
#[derive(Clone)]
pub(super) struct Connector {
    how: How,
    target: Uri,
    timeout: Duration,
}

#[derive(Clone)]
enum How {
    Plain(HttpConnector),
    Tls(HttpsConnector<HttpConnector>),
    Unix(Arc<Path>),
}

impl Connector {
    /// # Errors
    /// A text for the operator when the CA file cannot be used.
    pub(super) fn build(config: &Upstream) -> Result<Self, String> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(config.connect_timeout));
        // An idle connection whose peer vanished without a word is found out before a request is lost on it.
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        let how = match &config.target {
            Target::Http(_) | Target::H2c(_) => How::Plain(tcp),
            Target::Unix(path) => How::Unix(Arc::from(path.as_path())),
            Target::Https(_) => {
                tcp.enforce_http(false);
                let tls = client_config(config.ca.as_deref())?;
                // HTTP/1.1 only: what we pass on was read as HTTP/1.1.
                How::Tls(
                    HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(tcp),
                )
            }
        };
        Ok(Self { how, target: config.target.uri(), timeout: config.connect_timeout })
    }
}

impl Service<Uri> for Connector {
    type Response = Link;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Link, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match &mut self.how {
            How::Plain(tcp) => tcp.poll_ready(context).map_err(Into::into),
            How::Tls(tls) => tls.poll_ready(context),
            How::Unix(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let timeout = self.timeout;
        let late = |what| move |_| io::Error::new(io::ErrorKind::TimedOut, what);
        match &mut self.how {
            How::Plain(tcp) => {
                let connecting = tcp.call(self.target.clone());
                Box::pin(async move { Ok(Link::tcp(MaybeHttpsStream::Http(connecting.await?))) })
            }
            How::Tls(tls) => {
                let connecting = tls.call(self.target.clone());
                Box::pin(async move {
                    let connected = tokio::time::timeout(timeout, connecting).await;
                    Ok(Link::tcp(connected.map_err(late("TLS handshake took too long"))??))
                })
            }
            How::Unix(path) => {
                let path = Arc::clone(path);
                Box::pin(async move {
                    let connected = tokio::time::timeout(timeout, UnixStream::connect(path)).await;
                    Ok(Link::unix(connected.map_err(late("the socket's queue is full"))??))
                })
            }
        }
    }
}
