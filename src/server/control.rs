//! The listener for operators who act: everything that changes the running process, and what is too private for the
//! metrics listener. On a unix socket of mode 0600, or behind a token.
//!
//! | request | answer |
//! |---|---|
//! | `POST /-/reload` | 200 once the file serves, or says nothing new; 422 with the report when it is refused; 503 when the process goes down |
//! | `GET /-/config` | what serves, as TOML, with every secret cut out |
//! | `GET /-/sessions` | who is logged in, a page at a time |
//! | `DELETE /-/sessions` | ends those that are meant |

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::{mpsc, oneshot};
use tracing::info;

use crate::runtime::{Current, Lasting};
use crate::server::admin::text;
use crate::server::hand;
use crate::server::standing::Standing;
use crate::web::Body;

/// How long somebody waits for the outcome of a reload. It goes on when they do not.
const WAIT: Duration = Duration::from_secs(30);

/// How many may wait for reloads at once.
const QUEUE: usize = 16;

/// Sent by browsers, whose pages have no business here.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What came of reading the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It says something new, and that serves now.
    Served,
    /// It says what serves already.
    Unchanged,
    /// It does not serve, and why: a whole report.
    Refused(String),
}

impl Reload {
    /// What came of two readings, one right after the other.
    #[must_use]
    pub fn then(self, later: Self) -> Self {
        if self == Self::Served && later == Self::Unchanged { Self::Served } else { later }
    }
}

/// Somebody waits for the outcome of a reload.
pub type Asked = oneshot::Sender<Reload>;

/// What answers on `control`.
#[derive(Debug)]
pub struct Control {
    current: Current,
    lasting: Lasting,
    standing: Arc<Standing>,
    reloads: mpsc::Sender<Asked>,
}

impl Control {
    /// Acts on what `current` points to; the other end of the channel reloads.
    #[must_use]
    pub fn new(current: Current, lasting: Lasting, standing: Arc<Standing>) -> (Self, mpsc::Receiver<Asked>) {
        let (reloads, asked) = mpsc::channel(QUEUE);
        (Self { current, lasting, standing, reloads }, asked)
    }

    /// The answer to one request. Its body is not read.
    pub async fn serve(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, _) = request.into_parts();
        if head.headers.contains_key(ORIGIN) || head.headers.contains_key(SEC_FETCH_SITE) {
            return text(StatusCode::FORBIDDEN, "this listener is not for browsers\n".to_owned());
        }
        if !self.knows(&head.headers) {
            let mut response =
                text(StatusCode::UNAUTHORIZED, "the bearer token `control_token` is missing\n".to_owned());
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return response;
        }
        match (head.uri.path(), &head.method) {
            ("/-/reload", &Method::POST) => self.reload().await,
            ("/-/reload", _) => method("POST"),
            ("/-/config", &Method::GET | &Method::HEAD) => self.config(),
            ("/-/config", _) => method("GET, HEAD"),
            ("/-/sessions", &Method::GET) => {
                let idle_timeout = self.current.load().config.sessions.idle_timeout;
                hand::list(head.uri.query().unwrap_or_default(), &self.lasting, idle_timeout).await
            }
            ("/-/sessions", &Method::DELETE) => hand::end(head.uri.query().unwrap_or_default(), &self.lasting).await,
            ("/-/sessions", _) => method("GET, DELETE"),
            _ => text(StatusCode::NOT_FOUND, "POST /-/reload, GET /-/config, GET or DELETE /-/sessions\n".to_owned()),
        }
    }

    /// Whether the caller shows the token, where there is one. What guards a socket without one is its mode.
    fn knows(&self, headers: &HeaderMap) -> bool {
        let snapshot = self.current.load();
        let Some(token) = snapshot.config.server.control.as_ref().and_then(|control| control.token.as_ref()) else {
            return true;
        };
        let mut shown = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (shown.next(), shown.next()) else { return false };
        let Some((scheme, value)) = value.as_bytes().split_at_checked("Bearer ".len()) else { return false };
        scheme.eq_ignore_ascii_case(b"Bearer ") && verify_slices_are_equal(value, token.expose().as_bytes()).is_ok()
    }

    async fn reload(&self) -> Response<Body> {
        info!("control: reading the configuration");
        let (tell, told) = oneshot::channel();
        let outcome = async {
            self.reloads.send(tell).await.ok()?;
            told.await.ok()
        };
        match tokio::time::timeout(WAIT, outcome).await {
            Ok(Some(Reload::Served)) => text(StatusCode::OK, "reloaded\n".to_owned()),
            Ok(Some(Reload::Unchanged)) => text(StatusCode::OK, "nothing has changed\n".to_owned()),
            Ok(Some(Reload::Refused(report))) => text(StatusCode::UNPROCESSABLE_ENTITY, report),
            Ok(None) => text(StatusCode::SERVICE_UNAVAILABLE, "the process goes down\n".to_owned()),
            Err(_) => text(StatusCode::GATEWAY_TIMEOUT, "no outcome yet; the log will tell\n".to_owned()),
        }
    }

    fn config(&self) -> Response<Body> {
        let mut response = text(StatusCode::OK, self.standing.redacted(self.lasting.clock.now()));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/toml; charset=utf-8"));
        response
    }
}

fn method(allow: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("{allow}\n"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}
