//! Logouts that the provider tells of: `logout/backchannel`, from server to server (OpenID Connect Back-Channel Logout
//! 1.0), and `logout/frontchannel`, in a frame of its own page (OpenID Connect Front-Channel Logout 1.0).

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use tracing::info;
use url::Url;

use crate::error::{Reason, Refusal};
use crate::mode::Call;
use crate::mode::auth_code::farewells::{Unheard, Who};
use crate::mode::auth_code::{AuthCode, Shared};
use crate::provider::{Denied, LogoutToken};
use crate::session::{EndKind, Selector, Session};
use crate::time::Timestamp;
use crate::web::{Body, Parameter, Query};

/// Largest body of `logout/backchannel` (BC-10).
const MAX_BODY: usize = 64 * 1024;
/// How long that body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

impl AuthCode {
    /// POST `logout/backchannel`: 200 without a body when the token is good, whether or not it ended a session (2.8).
    pub(super) async fn back_channel(&self, call: &Call, body: Body) -> Result<Response<Body>, Refusal> {
        let heard = self.hear(call, body).await;
        if let (Err(refusal), Some(address)) = (&heard, client_address(call))
            && refusal.reason == Reason::InvalidRequest
        {
            // A good token is heard whoever is noisy: behind a balancer, all addresses are one.
            if self.shared.farewells.is_noisy(address, call.now) {
                return Err(Refusal::new(Reason::TooManyRequests).because("too many bad logout tokens"));
            }
            self.shared.farewells.was_bad(address, call.now);
        }
        heard.map(|()| Response::new(Body::Empty))
    }

    async fn hear(&self, call: &Call, body: Body) -> Result<(), Refusal> {
        let form = form(&call.head.headers, body).await?;
        let Parameter::Once(token) = form.parameter("logout_token") else {
            return Err(unacceptable("there must be one logout_token"));
        };
        let clients = self.parties.iter().map(|party| &party.client);
        let verified = LogoutToken::verify(token, clients, call.now).await;
        let (token, client) = verified.map_err(|denied| match denied {
            Denied::Provider(error) => error.into(),
            denied => unacceptable(denied),
        })?;
        let issuer = client.provider.config().issuer.to_string();
        let saying = (Arc::clone(&call.request_id), call.now);
        self.to_the_end(by_token(self.shared.clone(), (issuer, token), saying)).await
    }

    /// Runs `work` in a task of its own: whoever does not wait for the answer has said it all the same.
    async fn to_the_end(
        &self,
        work: impl Future<Output = Result<(), Refusal>> + Send + 'static,
    ) -> Result<(), Refusal> {
        let done = self.shared.tasks.spawn(work).await;
        done.unwrap_or_else(|error| Err(Refusal::new(Reason::Internal).because(error)))
    }

    /// GET `logout/frontchannel?iss=&sid=`: ends the session of that `sid`. The frame gets no cookie of ours (it is on
    /// another site's page), so nothing else could say whose session is meant.
    pub(super) async fn front_channel(&self, call: &Call) -> Result<Response<Body>, Refusal> {
        let query = Query::parse(call.head.uri.query().unwrap_or_default());
        let (Parameter::Once(issuer), Parameter::Once(sid)) = (query.parameter("iss"), query.parameter("sid")) else {
            return Err(Refusal::new(Reason::BadRequest).because("iss and sid must be there once"));
        };
        let party = self.parties.iter().find(|party| party.binding.issuer == issuer);
        party.ok_or_else(|| Refusal::new(Reason::BadRequest).because("iss is no issuer of this route"))?;
        let saying = (Arc::clone(&call.request_id), call.now);
        self.to_the_end(by_frame(self.shared.clone(), (issuer.to_owned(), sid.to_owned()), saying)).await?;
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        // In a page of the provider's and in no other.
        let origin = Url::parse(issuer).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        let policy = format!("default-src 'none'; frame-ancestors {origin}");
        let policy = HeaderValue::try_from(policy).map_err(|error| Refusal::new(Reason::Internal).because(error))?;
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        Ok(response)
    }
}

/// Acts on a logout token of `issuer`, once.
async fn by_token(
    shared: Shared,
    (issuer, token): (String, LogoutToken),
    (request_id, now): (Arc<str>, Timestamp),
) -> Result<(), Refusal> {
    let Shared { farewells, sessions, .. } = &shared;
    farewells.hear(sessions, (&issuer, &token), now).await.map_err(|unheard| match unheard {
        Unheard::Replayed => unacceptable("it was used before"),
        Unheard::Full => Refusal::new(Reason::StoreUnavailable).because("no room for another logout"),
    })?;
    let ended = async {
        let ended = end_by(&shared, &issuer, &token, now).await?;
        told(&shared, &request_id, &ended, EndKind::BackChannel);
        Ok(farewells.heard(sessions, (&issuer, &token), now).await?)
    };
    // Nothing came of it, or it is not noted: the provider may say it again.
    ended.await.inspect_err(|_: &Refusal| farewells.take_back(&issuer, &token))
}

/// Acts on a front-channel logout of the session that `issuer` calls `sid`.
async fn by_frame(
    shared: Shared,
    (issuer, sid): (String, String),
    (request_id, now): (Arc<str>, Timestamp),
) -> Result<(), Refusal> {
    let (issuer, sid) = (issuer.as_str(), sid.as_str());
    let who = Who { issuer: Some(issuer), sid: Some(sid), ..Who::default() };
    shared.farewells.note_unsigned(&shared.sessions, who, now).await?;
    let ended = shared.sessions.end(Selector::Sid { issuer, sid }, EndKind::FrontChannel).await?;
    told(&shared, &request_id, &ended, EndKind::FrontChannel);
    Ok(())
}

/// Ends the sessions that a token means: that of its `sid`, whose user must be its `sub` when it has both, or else all
/// of its `sub` (2.7).
async fn end_by(
    shared: &Shared,
    issuer: &str,
    token: &LogoutToken,
    now: Timestamp,
) -> Result<Vec<Arc<Session>>, Refusal> {
    let Shared { farewells, sessions, .. } = shared;
    let mut who = Who { issuer: Some(issuer), ..Who::default() };
    let selector = match (&token.sid, &token.subject) {
        (Some(sid), Some(subject)) => {
            let known = sessions.find(Selector::Sid { issuer, sid }).await?;
            if known.iter().any(|session| session.subject != *subject) {
                return Err(unacceptable("its sid is the session of another sub"));
            }
            Selector::Sid { issuer, sid }
        }
        (Some(sid), None) => Selector::Sid { issuer, sid },
        (None, Some(subject)) => Selector::Subject { issuer, subject },
        (None, None) => return Ok(Vec::new()),
    };
    match selector {
        Selector::Sid { sid, .. } => who.sid = Some(sid),
        Selector::Subject { subject, .. } => who.subject = Some(subject),
        Selector::Id(_) => {}
    }
    // Noted before they end: a login that comes in between finds the note.
    farewells.note(sessions, who, now).await?;
    Ok(sessions.end(selector, EndKind::BackChannel).await?)
}

/// One line for each session that ended, and its refresh token revoked beside the request, unless it was asked for to
/// outlive the session (2.7).
fn told(shared: &Shared, request_id: &str, ended: &[Arc<Session>], kind: EndKind) {
    for session in ended {
        info!(route = %session.binding.route, provider = %session.binding.provider, session = %session.id,
            request_id, kind = kind.label(), "logged out");
        shared.revoker.revoke(session);
    }
}

/// A logout token that is not good: always 400, and the log knows why (2.8).
fn unacceptable(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(Reason::InvalidRequest).because(format!("logout token: {why}"))
}

/// Who asks, as the proxy in front says: the address that it wrote last, or the peer itself.
fn client_address(call: &Call) -> Option<IpAddr> {
    let said = call.head.headers.get_all("x-forwarded-for").iter().next_back();
    let said = said.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
    said.or(call.peer)
}

/// The form in the body (2.5).
async fn form(headers: &HeaderMap, body: Body) -> Result<Query, Refusal> {
    let media = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let media = media.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if !media.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
        return Err(unacceptable("it must come as application/x-www-form-urlencoded"));
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(collected)) => Ok(Query::parse(&String::from_utf8_lossy(&collected.to_bytes()))),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Reason::BodyTooLarge.into()),
        Ok(Err(error)) => Err(Refusal::new(Reason::BadRequest).because(error)),
        Err(_) => Err(Reason::RequestTimeout.into()),
    }
}
