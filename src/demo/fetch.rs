//! One small GET on this machine, as the demo's API and the wait for Caddy need it.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::Url;

use crate::web::BoxError;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Largest answer.
const LIMIT: usize = 256 * 1024;

/// GETs the path of `url` over plain http, as a navigation or a script would by `accept`. Redirects are not followed.
///
/// # Errors
/// No connection, no answer in time, or one that is too large.
pub(super) async fn get(url: &Url, accept: &'static str) -> Result<Response<Bytes>, BoxError> {
    tokio::time::timeout(PATIENCE, ask(url, accept)).await?
}

async fn ask(url: &Url, accept: &'static str) -> Result<Response<Bytes>, BoxError> {
    let host = url.host_str().ok_or("the address has no host")?;
    let port = url.port_or_known_default().ok_or("the address has no port")?;
    // Caddy listens on IPv4 only, and not every machine asks for that first.
    let dialled = if host == "localhost" { "127.0.0.1" } else { host };
    let stream = TcpStream::connect((dialled, port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(url.path())
        .header(HOST, format!("{host}:{port}"))
        .header(ACCEPT, accept)
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, LIMIT).collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    tokio::select! {
        answer = exchange => answer,
        _ = connection => Err("the connection closed before the answer".into()),
    }
}
