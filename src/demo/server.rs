//! The one server loop of the development provider and of the demo's API: plain HTTP/1.1 on loopback, until it is told to stop.

use std::error::Error;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a head may take to arrive, also the first one of a connection that is kept; longer than Vestibule keeps an
/// idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Accepts until `stop`, with each connection in a task of `tasks`; dropping the listener and all connections then is what
/// "down" means. An error of `answer` closes the connection without an answer.
pub(super) async fn serve<A, F, B, E>(listener: TcpListener, tasks: TaskTracker, stop: CancellationToken, answer: A)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>> + 'static,
{
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => drop(tasks.spawn(connection(stream, stop.clone(), answer.clone()))),
            // Out of file descriptors, most likely: give others time to close theirs.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// One connection.
async fn connection<A, F, B, E>(stream: TcpStream, stop: CancellationToken, answer: A)
where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    tokio::select! {
        () = stop.cancelled() => {}
        // A client that goes away is no news here.
        _ = connection => {}
    }
}
