//! One request of a browser: cookies, redirects, origins and Fetch Metadata as browsers make them, over a table of hosts.
//!
//! `https://app.test` goes to the sidecar as Caddy would send it; paths that Caddy would serve itself are answered here
//! with the page of a front end. Other hosts are reached directly.

use std::future::{Future, IntoFuture};
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{COOKIE, HOST, HeaderName, HeaderValue, LOCATION, ORIGIN};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::Url;

use super::answer::Answer;
use super::browser::{Browser, Destination};
use super::jar::Context;
use super::log;
use super::site::{is_same_origin, is_same_site, origin};

/// Longest chain of redirects, as in Chrome and Firefox.
const MAX_REDIRECTS: usize = 20;

/// Paths that the reference Caddyfile hands to the sidecar; all others are the front end's.
const SIDECAR_PATHS: &[&str] =
    &["/login/", "/logout", "/userinfo", "/user_info", "/claims", "/check_auth", "/session", "/refresh", "/api/"];

/// How a request came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Navigate,
    Fetch,
}

/// A request that is sent when it is awaited.
pub struct Ask {
    pub(super) browser: Browser,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) mode: Mode,
    /// The page that made the request; `None` when the user typed the address.
    pub(super) from: Option<Url>,
    /// Redirects are followed as long as their target is none of these paths; `None`: not at all.
    pub(super) follow: Option<Option<&'static str>>,
    pub(super) metadata: bool,
}

impl Ask {
    /// One more header line.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        self
    }

    /// The body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// A JSON body.
    pub fn json(self, value: &serde_json::Value) -> Self {
        self.header("content-type", "application/json").body(value.to_string())
    }

    /// As a client that sends no Fetch Metadata: an old browser, or none.
    pub fn without_metadata(mut self) -> Self {
        self.metadata = false;
        self
    }

    /// As a program that is no browser: neither `Origin` nor Fetch Metadata.
    pub fn like_a_program(mut self) -> Self {
        self.from = None;
        self.without_metadata()
    }

    /// Redirects are followed up to, and not to, this path.
    pub fn stop_before(mut self, path: &'static str) -> Self {
        self.follow = Some(Some(path));
        self
    }

    /// Redirects are not followed.
    pub fn stay(mut self) -> Self {
        self.follow = None;
        self
    }

    async fn send(mut self) -> Answer {
        let mut hops = Vec::new();
        loop {
            let answer = self.send_once(&hops).await;
            let next =
                answer.headers.get(LOCATION).filter(|_| answer.status.is_redirection()).map(|_| answer.location());
            let (Some(next), Some(stop)) = (next, self.follow) else { return Answer { hops, ..answer } };
            if stop == Some(next.path()) {
                return Answer { hops, ..answer };
            }
            assert!(hops.len() < MAX_REDIRECTS, "too many redirects: {}", Answer { hops, ..answer }.describe());
            if !matches!(answer.status.as_u16(), 307 | 308) && self.method != Method::HEAD {
                self.method = Method::GET;
                self.body = Bytes::new();
                self.headers.remove("content-type");
            }
            hops.push(std::mem::replace(&mut self.url, next));
        }
    }

    /// One request, without following anything.
    async fn send_once(&self, hops: &[Url]) -> Answer {
        let browser = &self.browser;
        let request = self.request(hops);
        let destination = browser.around.hosts.find(&self.url);
        let answer = match destination {
            None => panic!("nobody is at {}", self.url),
            Some(Destination::Caddy { front_end: true, .. } | Destination::Balancer { .. })
                if !is_for_sidecar(self.url.path()) =>
            {
                self.front_end()
            }
            Some(Destination::Caddy { sidecar, .. } | Destination::Balancer { sidecar }) => {
                let hidden = matches!(destination, Some(Destination::Balancer { .. }));
                let scheme = if hidden { "http" } else { self.url.scheme() };
                let answer = self.exchange(sidecar, through_caddy(request, (&self.url, scheme))).await;
                browser.around.transcript.add(&answer);
                answer
            }
            Some(Destination::Direct(address)) => self.exchange(address, request).await,
        };
        browser.jar.lock().unwrap().take(&self.url, &answer.headers, browser.now());
        answer
    }

    /// The request as it leaves the browser.
    fn request(&self, hops: &[Url]) -> Request<Full<Bytes>> {
        let chain: Vec<&Url> = hops.iter().chain([&self.url]).collect();
        let mut headers = self.headers.clone();
        let mut set = |name: &'static str, value: &str| {
            if !headers.contains_key(name) {
                headers.insert(name, HeaderValue::try_from(value).unwrap());
            }
        };
        set("user-agent", "Mozilla/5.0 (test)");
        set("accept", if self.mode == Mode::Navigate { "text/html,application/xhtml+xml,*/*;q=0.8" } else { "*/*" });
        if self.metadata {
            set("sec-fetch-site", self.fetch_site(&chain));
            set("sec-fetch-mode", if self.mode == Mode::Navigate { "navigate" } else { "cors" });
            set("sec-fetch-dest", if self.mode == Mode::Navigate { "document" } else { "empty" });
            if self.mode == Mode::Navigate {
                set("sec-fetch-user", "?1");
            }
        }
        if let Some(value) = self.origin(&chain) {
            set(ORIGIN.as_str(), &value);
        }
        let now = self.browser.now();
        if let Some(cookies) = self.browser.jar.lock().unwrap().header(&self.url, self.context(&chain), now) {
            headers.append(COOKIE, HeaderValue::try_from(cookies).unwrap());
        }
        let mut target = self.url.path().to_owned();
        if let Some(query) = self.url.query() {
            target = format!("{target}?{query}");
        }
        headers.insert(HOST, HeaderValue::try_from(authority(&self.url)).unwrap());
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = target.parse().unwrap();
        *request.headers_mut() = headers;
        request
    }

    /// `Sec-Fetch-Site`: the farthest that any URL of the chain is from where the request was made.
    fn fetch_site(&self, chain: &[&Url]) -> &'static str {
        let Some(from) = &self.from else { return "none" };
        if chain.iter().all(|url| is_same_origin(from, url)) {
            "same-origin"
        } else if chain.iter().all(|url| is_same_site(from, url)) {
            "same-site"
        } else {
            "cross-site"
        }
    }

    /// Which cookies may go along (RFC 6265bis 5.2).
    fn context(&self, chain: &[&Url]) -> Context {
        let near = self.from.as_ref().is_none_or(|from| chain.iter().all(|url| is_same_site(from, url)));
        let safe = matches!(self.method, Method::GET | Method::HEAD);
        match (near, self.mode) {
            (true, _) => Context::SameSite,
            (false, Mode::Navigate) if safe => Context::CrossSiteNavigation,
            (false, Mode::Navigate | Mode::Fetch) => Context::CrossSite,
        }
    }

    /// `Origin` (Fetch 3.2): with unsafe methods, and with fetches to other origins; `null` after a detour.
    fn origin(&self, chain: &[&Url]) -> Option<String> {
        let from = self.from.as_ref()?;
        let safe = matches!(self.method, Method::GET | Method::HEAD);
        let foreign = !is_same_origin(from, &self.url);
        let detour = chain.iter().rev().skip(1).any(|url| !is_same_origin(from, url)) && foreign;
        match (safe, self.mode) {
            (true, Mode::Navigate) => None,
            (true, Mode::Fetch) if !foreign => None,
            _ if detour => Some("null".to_owned()),
            _ => Some(origin(from)),
        }
    }

    /// Caddy's own answer.
    fn front_end(&self) -> Answer {
        Answer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: b"<!doctype html><title>App</title>".to_vec(),
            url: self.url.clone(),
            hops: Vec::new(),
            log_position: self.browser.around.log_position,
        }
    }

    /// Sends over a connection of its own.
    async fn exchange(&self, address: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
        let what = format!("{} {}", self.method, self.url);
        let sent = tokio::time::timeout(Duration::from_secs(60), async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            let driver = tokio::spawn(connection);
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes().to_vec();
            driver.abort();
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((head, body))
        });
        let (head, body) = match sent.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                panic!("{what}: {error:?}\n{}", log::tail(self.browser.around.log_position, 20))
            }
            Err(_) => panic!("{what}: no answer\n{}", log::tail(self.browser.around.log_position, 20)),
        };
        Answer {
            status: head.status,
            headers: head.headers,
            body,
            url: self.url.clone(),
            hops: Vec::new(),
            log_position: self.browser.around.log_position,
        }
    }
}

impl IntoFuture for Ask {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// Whether the reference Caddyfile hands this path to the sidecar.
fn is_for_sidecar(path: &str) -> bool {
    SIDECAR_PATHS.iter().any(|prefix| {
        path == *prefix || path.starts_with(prefix) && (prefix.ends_with('/') || path[prefix.len()..].starts_with('/'))
    })
}

/// What Caddy does to a request on its way to the sidecar.
fn through_caddy(mut request: Request<Full<Bytes>>, (url, scheme): (&Url, &str)) -> Request<Full<Bytes>> {
    let headers = request.headers_mut();
    headers.insert("x-forwarded-for", HeaderValue::from_static("203.0.113.7"));
    headers.insert("x-forwarded-proto", HeaderValue::try_from(scheme).unwrap());
    headers.insert("x-forwarded-host", HeaderValue::try_from(authority(url)).unwrap());
    request
}

/// Host and port as in a `Host` header.
pub fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
