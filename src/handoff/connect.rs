//! Connecting to an upstream: plain or TLS, within one deadline that covers both handshakes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::config::{Target, Upstream};
use crate::provider::client_config;
use crate::web::BoxError;

/// Makes connections to one upstream.
#[derive(Clone)]
pub(super) struct Connector {
    how: How,
    timeout: Duration,
}

#[derive(Clone)]
enum How {
    Plain(HttpConnector),
    Tls(HttpsConnector<HttpConnector>),
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
            Target::Http(_) => How::Plain(tcp),
            Target::Https(_) => {
                tcp.enforce_http(false);
                let tls = client_config(config.ca.as_deref())?;
                // HTTP/1.1 only: what we pass on was read as HTTP/1.1.
                How::Tls(
                    HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(tcp),
                )
            }
        };
        Ok(Self { how, timeout: config.connect_timeout })
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match &mut self.how {
            How::Plain(tcp) => tcp.poll_ready(context).map_err(Into::into),
            How::Tls(tls) => tls.poll_ready(context),
        }
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let timeout = self.timeout;
        match &mut self.how {
            How::Plain(tcp) => {
                let connecting = tcp.call(target);
                Box::pin(async move { Ok(MaybeHttpsStream::Http(connecting.await?)) })
            }
            How::Tls(tls) => {
                let connecting = tls.call(target);
                Box::pin(async move {
                    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake took too long");
                    tokio::time::timeout(timeout, connecting).await.map_err(late)?
                })
            }
        }
    }
}
