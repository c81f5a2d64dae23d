//! Listeners and connections, byte by byte over real sockets.

mod admin;
mod framing;
mod lifetime;
mod upgrade;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::listener::Manners;
use super::pace::Patience;
use super::{Bound, Peer, Running};
use crate::config::Listen;
use crate::web::Body;

/// Longer than anything here takes, shorter than a person waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lets `/wait` be answered.
type Gate = Arc<Notify>;

/// `/wait` answers when told to, `/panic` panics, `/large` sends more than any socket buffers, `/refuse` reads no body
/// and closes, `/switch` leaves HTTP and says again what it hears; everything else answers with method, path and body.
async fn service(gate: Gate, mut request: Request<Incoming>, _: Peer) -> Result<Response<Body>, Infallible> {
    if request.uri().path() == "/switch" {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(upgrade::echo(upgrade));
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("connection", "upgrade".parse().unwrap());
        response.headers_mut().insert("upgrade", "echo".parse().unwrap());
        return Ok(response);
    }
    let (head, body) = request.into_parts();
    match head.uri.path() {
        "/wait" => gate.notified().await,
        "/panic" => panic!("as asked"),
        "/refuse" => {
            let mut response = Response::new(Body::from("no".to_owned()));
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            response.headers_mut().insert("connection", "close".parse().unwrap());
            return Ok(response);
        }
        "/large" => return Ok(Response::new(Body::from("x".repeat(64 << 20)))),
        _ => {}
    }
    let body = body.collect().await.map(|body| body.to_bytes());
    let Ok(body) = body else {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    };
    let echo = format!("<{} {} {}>", head.method, head.uri.path(), String::from_utf8_lossy(&body));
    Ok(Response::new(Body::from(echo)))
}

struct Listening {
    running: Running,
    address: SocketAddr,
    gate: Gate,
}

async fn listening(manners: Manners) -> Listening {
    let bound = Bound::prepare(
        &Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))),
        0o660,
        &crate::server::Inherited::default(),
    )
    .await
    .unwrap();
    let Listen::Tcp(address) = *bound.address() else { panic!("bound to TCP") };
    let gate = Gate::default();
    let shared = Arc::clone(&gate);
    let running = bound.commit_with(move |request, peer| service(Arc::clone(&shared), request, peer), manners);
    Listening { running, address, gate }
}

/// Patience short enough to be waited for.
fn hasty() -> Manners {
    let patience = Patience {
        head: Duration::from_millis(150),
        idle: Duration::from_millis(600),
        write: Duration::from_millis(150),
        part: Duration::from_millis(300),
        linger: Duration::from_millis(100),
    };
    Manners { patience, max_connections: 16 }
}

/// Everything that comes until the other side closes.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    // A reset after the answer counts as closed too.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut seen)).await.expect("closed in time");
    String::from_utf8_lossy(&seen).into_owned()
}

/// What comes up to `mark`; whatever came when the other side closes before it.
async fn until(stream: &mut TcpStream, mark: &str) -> String {
    let read = async {
        let mut seen = String::new();
        let mut byte = [0];
        while !seen.ends_with(mark) && stream.read_exact(&mut byte).await.is_ok() {
            seen.push(byte[0].into());
        }
        seen
    };
    tokio::time::timeout(PATIENCE, read).await.expect("answered in time")
}

/// Sends `bytes` and returns all that comes until the other side closes.
async fn talk(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The other side may close before it read everything.
    let _ = stream.write_all(bytes).await;
    until_closed(&mut stream).await
}
