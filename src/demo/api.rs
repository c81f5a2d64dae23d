//! The protected API: it lets in whoever brings a good access token, and tells what it saw, but never the token.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, COOKIE, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::bearer::Verifier;
use super::server;
use crate::web::BoxError;

/// What access tokens must be meant for.
pub(super) const AUDIENCE: &str = "api";

/// A running API. It ends when the handle is dropped.
pub(super) struct Api {
    address: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

struct Shared {
    verifier: Verifier,
    /// Calls that were let in.
    welcome: AtomicU64,
}

impl Api {
    /// Listens on a free port of this machine, for callers who have tokens of `issuer`.
    ///
    /// # Errors
    /// The system's.
    pub(super) async fn start(issuer: &str) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { verifier: Verifier::new(issuer, AUDIENCE), welcome: AtomicU64::new(0) });
        let stop = CancellationToken::new();
        let answering = Arc::clone(&shared);
        let answer = move |request| answer(Arc::clone(&answering), request);
        tokio::spawn(server::serve(listener, TaskTracker::new(), stop.clone(), answer));
        Ok(Self { address, shared, _stop: stop.drop_guard() })
    }

    /// Where it is.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many calls were let in.
    pub(super) fn welcome(&self) -> u64 {
        self.shared.welcome.load(Ordering::Relaxed)
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, BoxError> {
    let (head, mut body) = request.into_parts();
    // Read to its end and forgotten: an answer in the middle of an upload would close the connection.
    while let Some(frame) = body.frame().await {
        frame?;
    }
    let token = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let claims = match token {
        Some(token) => shared.verifier.claims(token).await.map_err(|error| error.to_string()),
        None => Err("there is no bearer token".to_owned()),
    };
    Ok(match claims {
        Ok(claims) => {
            shared.welcome.fetch_add(1, Ordering::Relaxed);
            json_answer(StatusCode::OK, &seen(&head, &claims))
        }
        Err(why) => {
            let mut answer = json_answer(StatusCode::UNAUTHORIZED, &json!({ "error": "invalid_token", "why": why }));
            answer
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
            answer
        }
    })
}

/// What the API saw of a call that it let in.
fn seen(head: &Parts, claims: &Map<String, Value>) -> Value {
    let claim = |name: &str| claims.get(name).cloned().unwrap_or_default();
    json!({
        "request": format!("{} {}", head.method, head.uri),
        "caller": {
            "sub": claim("sub"),
            "preferred_username": claim("preferred_username"),
            "groups": claim("groups"),
        },
        "token": {
            "verified_by": "the provider's published keys",
            "iss": claim("iss"),
            "aud": claim("aud"),
            "scope": claim("scope"),
            "iat": claim("iat"),
            "exp": claim("exp"),
        },
        "headers": headers(&head.headers),
    })
}

/// The headers as they came, but for what would give a session or a token away.
fn headers(headers: &HeaderMap) -> Value {
    let mut shown = Map::new();
    for (name, value) in headers {
        let text = match *name {
            AUTHORIZATION => "Bearer … (the access token, which is not shown here)".to_owned(),
            COOKIE => "… (not shown here)".to_owned(),
            _ => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        };
        shown.insert(name.as_str().to_owned(), text.into());
    }
    shown.into()
}

fn json_answer(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{value:#}\n"))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
