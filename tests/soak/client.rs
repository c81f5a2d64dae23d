//! A client that takes a process that dies as a fact of life: every request is a connection of its own and may fail,
//! and dropping it closes the connection as a client does that leaves.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{COOKIE, HOST, LOCATION, SET_COOKIE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::Url;
use vestibule::session::SessionId;

/// The cookie of a session.
#[derive(Clone)]
pub struct Handle(String);

impl Handle {
    /// Its session.
    pub fn id(&self) -> SessionId {
        let value = self.0.split_once('=').unwrap().1;
        SessionId::of_cookie(value.as_bytes()).unwrap()
    }

    /// The `Cookie` that a browser would send.
    pub fn cookie(&self) -> &str {
        &self.0
    }

    /// What the log calls its session.
    pub fn session(&self) -> String {
        self.id().to_string()
    }
}

/// Someone who was not answered.
pub type Unanswered = Box<dyn std::error::Error + Send + Sync>;

/// Logs `user` in at the sidecar, which listens at `address`; gives the handle once it has been received.
pub async fn login(address: SocketAddr, user: &str) -> Result<Handle, Unanswered> {
    let begun = ask(address, navigation(&format!("https://app.test/login/start?login_hint={user}"), &[])).await?;
    let attempt = cookies(begun.headers());
    let provider = location(&begun)?;
    let at_provider =
        provider.socket_addrs(|| None)?.into_iter().next().ok_or_else(|| io::Error::other("no address"))?;
    let chosen = ask(at_provider, navigation(provider.as_str(), &[])).await?;
    let answer = ask(address, navigation(location(&chosen)?.as_str(), &attempt)).await?;
    let session = cookies(answer.headers())
        .into_iter()
        .find(|cookie| cookie.starts_with("__Host-Http-vestibule-web="));
    session.map(Handle).ok_or_else(|| format!("no login: {}", answer.status()).into())
}

/// A fetch of the front end with the handle; gives the status.
pub async fn fetch(address: SocketAddr, method: Method, path: &str, handle: &Handle) -> Result<StatusCode, Unanswered> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "app.test")
        .header("origin", "https://app.test")
        .header("sec-fetch-site", "same-origin")
        .header("sec-fetch-mode", "cors")
        .header(COOKIE, &handle.0);
    Ok(ask(address, request.body(Empty::new())?).await?.status())
}

fn navigation(url: &str, cookies: &[String]) -> Request<Empty<Bytes>> {
    let url = Url::parse(url).unwrap();
    let target = format!("{}?{}", url.path(), url.query().unwrap_or_default());
    let request = Request::get(target)
        .header(HOST, crate::world::ask::authority(&url))
        .header("accept", "text/html")
        .header("sec-fetch-site", "none")
        .header("sec-fetch-mode", "navigate")
        .header(COOKIE, cookies.join("; "));
    request.body(Empty::new()).unwrap()
}

/// One request over a connection of its own, which lives as long as the wait for the answer.
async fn ask(address: SocketAddr, request: Request<Empty<Bytes>>) -> Result<Response<Bytes>, Unanswered> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(TcpStream::connect(address).await?)).await?;
    let answer = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        Ok::<_, hyper::Error>(Response::from_parts(head, body.collect().await?.to_bytes()))
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answer = &mut answer => Ok(answer?),
        // What was read before the end of the connection is an answer all the same.
        _ = &mut connection => Ok(answer.await?),
    }
}

fn location(answer: &Response<Bytes>) -> Result<Url, Unanswered> {
    let location = answer.headers().get(LOCATION).ok_or_else(|| format!("no redirect: {}", answer.status()))?;
    Ok(Url::parse(location.to_str()?)?)
}

/// Name and value of the cookies that were set.
fn cookies(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines
        .filter_map(|line| line.split(';').next().map(str::to_owned))
        .filter(|pair| !pair.ends_with('='))
        .collect()
}
