//! `logout`: the session ends here first, then the browser is sent through the provider's end-session endpoint
//! (OpenID Connect RP-Initiated Logout 1.0). The page never sees the `id_token_hint`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{HeaderMap, HeaderValue, REFERER, SET_COOKIE};
use http::{Response, StatusCode};
use serde_json::json;
use tracing::info;

use crate::config::Origin;
use crate::error::{Reason, Refusal};
use crate::mode::auth_code::{AuthCode, html, pages, redirect};
use crate::mode::{Call, json as json_answer};
use crate::provider::Client;
use crate::session::{EndKind, Found, Selector, Sessions, Touch};
use crate::time::Timestamp;
use crate::web::{Body, CookieName, KeyRing, Kind, Parameter, Purpose, Query, ReturnTo};

/// How long a one-use logout URL waits for its browser.
const DEPARTURE: Duration = Duration::from_secs(120);
/// How many may wait; beyond it the oldest are dropped, and their browsers are only logged out here.
const MAX_DEPARTURES: usize = 10_000;
/// How long the return leg and the confirmation page remember what they are for.
const SEALED: Duration = Duration::from_secs(3600);

/// One-use URLs that lead to end-session, so that a script never gets the `id_token_hint` in its hands.
#[derive(Debug, Default)]
pub struct Departures(Mutex<HashMap<String, (Timestamp, String)>>);

impl Departures {
    /// Keeps `url` for whoever brings the token that is answered.
    async fn add(&self, shared: (&Sessions, &KeyRing), url: String, now: Timestamp) -> Result<String, Refusal> {
        let token = crate::web::token()?;
        let (sessions, keys) = shared;
        if sessions.is_shared() {
            // Whichever process is asked for it.
            let note = note(&token);
            let sealed = keys.seal_bytes(Purpose::Logout, note.as_bytes(), url.as_bytes())?;
            sessions.note(&note, &sealed, (DEPARTURE, now)).await?;
            return Ok(token);
        }
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MAX_DEPARTURES {
            waiting.retain(|_, (until, _)| now < *until);
        }
        if waiting.len() >= MAX_DEPARTURES {
            let oldest = waiting.iter().min_by_key(|(_, (until, _))| *until).map(|(token, _)| token.clone());
            oldest.and_then(|token| waiting.remove(&token));
        }
        waiting.insert(token.clone(), (now.plus(DEPARTURE), url));
        Ok(token)
    }

    async fn take(
        &self,
        shared: (&Sessions, &KeyRing),
        token: &str,
        now: Timestamp,
    ) -> Result<Option<String>, Refusal> {
        let (sessions, keys) = shared;
        if sessions.is_shared() {
            let note = note(token);
            let sealed = sessions.take_note(&note).await?;
            let url = sealed.and_then(|sealed| keys.open_bytes(Purpose::Logout, note.as_bytes(), &sealed).ok());
            return Ok(url.and_then(|url| String::from_utf8(url).ok()));
        }
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
        Ok(kept.and_then(|(until, url)| (now < until).then_some(url)))
    }
}

/// Where the URL of a token is noted; the token itself is a secret.
fn note(token: &str) -> String {
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    format!("go:{}", URL_SAFE_NO_PAD.encode(hash))
}

impl AuthCode {
    /// GET `logout`: a link of our own pages logs out at once; from anywhere else a person has to confirm it.
    pub(super) async fn logout_navigation(&self, call: &Call) -> Result<Response<Body>, Refusal> {
        let query = Query::parse(call.head.uri.query().unwrap_or_default());
        let return_to = self.target(call, &query, "redirect")?;
        let Some((found, client)) = self.caller(call, Touch::Look).await? else {
            let home = return_to.unwrap_or_else(|| ReturnTo::from_config(&self.mode.home_url));
            let mut response = redirect(StatusCode::FOUND, home.as_str())?;
            self.forget(call, &mut response);
            return Ok(response);
        };
        if !self.is_meant(call, &query, &found) {
            return self.confirmation(call, return_to.as_ref(), &found);
        }
        let (_, next) = self.end(call, found, client, return_to).await?;
        let mut response = redirect(StatusCode::FOUND, &next)?;
        self.forget(call, &mut response);
        Ok(response)
    }

    /// POST `logout`: 200 with the URL to navigate to; a form is sent there.
    pub(super) async fn logout_post(&self, call: &Call) -> Result<Response<Body>, Refusal> {
        let query = Query::parse(call.head.uri.query().unwrap_or_default());
        let return_to = self.target(call, &query, "redirect")?;
        let Some((found, client)) = self.caller(call, Touch::Look).await? else {
            let mut refusal = Refusal::new(Reason::LoginRequired).because("no session to end");
            refusal.cookies.extend(self.sites.get(call.site).map(|site| site.session_cookie.clear()));
            return Err(refusal);
        };
        let (kind, next) = self.end(call, found, client, return_to).await?;
        let mut response = if call.kind == Kind::Form {
            redirect(StatusCode::SEE_OTHER, &next)?
        } else if kind == EndKind::RpInitiated {
            // That URL holds the hint, and whoever asks here is a script.
            let shared = (&*self.shared.sessions, &*self.keys);
            let token = self.shared.departures.add(shared, next, call.now).await?;
            json_answer(&json!({ "logout_url": format!("{}?to={token}", self.url(call, "logout/go")?) }))
        } else {
            json_answer(&json!({ "logout_url": next }))
        };
        self.forget(call, &mut response);
        Ok(response)
    }

    /// GET `logout/go`: follows a one-use URL.
    pub(super) async fn logout_go(&self, call: &Call) -> Result<Response<Body>, Refusal> {
        let query = Query::parse(call.head.uri.query().unwrap_or_default());
        let shared = (&*self.shared.sessions, &*self.keys);
        let next = match query.parameter("to").value() {
            Some(token) => self.shared.departures.take(shared, token, call.now).await?,
            None => None,
        };
        // Used before or too old: the session is over all the same, and the signed-out page says so.
        let signed_out = || self.url(call, "logout/end");
        redirect(StatusCode::FOUND, &next.map_or_else(signed_out, Ok)?)
    }

    /// GET `logout/end`: always a signed-out page, whatever `state` came back; with a known one it leads on.
    pub(super) fn logout_end(&self, call: &Call) -> Response<Body> {
        let query = Query::parse(call.head.uri.query().unwrap_or_default());
        let known = |state: &str| {
            let plain = self.keys.open(Purpose::Logout, &self.return_context(), state.as_bytes()).ok()?;
            let (until, to): (Timestamp, String) = postcard::from_bytes(&plain).ok()?;
            (call.now < until).then_some(to)
        };
        let next = query.parameter("state").value().and_then(known);
        html(pages::signed_out(next.as_deref(), &self.mode.home_url))
    }

    /// Ends the session, revokes its refresh token beside the request, and says where the browser goes next: through the
    /// provider, or, with [`EndKind::Local`], straight on.
    async fn end(
        &self,
        call: &Call,
        found: Found,
        client: &Client,
        return_to: Option<ReturnTo>,
    ) -> Result<(EndKind, String), Refusal> {
        let session = found.session;
        let state = match &return_to {
            Some(to) => self.seal(&self.return_context(), &(call.now.plus(SEALED), to.as_str()))?,
            None => crate::web::token()?,
        };
        let hint = client.registration.id_token_hint.then_some(&session.tokens.id_token);
        let next = client.end_session(hint, &self.url(call, "logout/end")?, &state);
        let kind = if next.is_some() { EndKind::RpInitiated } else { EndKind::Local };
        self.shared.sessions.end(Selector::Id(session.id), kind).await?;
        info!(route = %self.config.name, provider = %session.binding.provider, session = %session.id,
            request_id = %call.request_id, kind = kind.label(), "logged out");
        if let Some(token) = session.tokens.refresh.clone() {
            self.shared.revoker.revoke_first(client, token);
        }
        let home = || return_to.map_or_else(|| self.mode.home_url.clone(), |to| to.as_str().to_owned());
        Ok((kind, next.map_or_else(home, Into::into)))
    }

    /// Whether this navigation is surely the user's own wish: a click on a page of this origin, on one of a listed
    /// origin as far as the browser says which, or on the confirmation page. What a browser fetches in advance is
    /// nobody's. A typed address is not told from a link in a mail program (`Sec-Fetch-Site: none` is said of both).
    fn is_meant(&self, call: &Call, query: &Query, found: &Found) -> bool {
        if call.head.headers.contains_key("sec-purpose") {
            return false;
        }
        let from = match call.head.headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
            Some(b"same-origin") => return true,
            Some(b"same-site") | None => referrer(&call.head.headers),
            Some(_) => None,
        };
        let known = |origin: &Origin| from.as_ref().is_some_and(|from| *from == origin.text);
        if self.config.public_urls.iter().chain(&self.mode.allowed_origins).any(known) {
            return true;
        }
        let Parameter::Once(confirm) = query.parameter("confirm") else { return false };
        let context = format!("confirm {}", found.session.id);
        let opened = self.keys.open(Purpose::Logout, &context, confirm.as_bytes());
        let until = opened.ok().and_then(|plain| postcard::from_bytes::<Timestamp>(&plain).ok());
        until.is_some_and(|until| call.now < until)
    }

    fn confirmation(
        &self,
        call: &Call,
        return_to: Option<&ReturnTo>,
        found: &Found,
    ) -> Result<Response<Body>, Refusal> {
        let confirm = self.seal(&format!("confirm {}", found.session.id), &call.now.plus(SEALED))?;
        let here = ReturnTo::from_config(&self.url(call, "logout")?);
        let mut parameters = vec![("confirm", confirm.as_str())];
        parameters.extend(return_to.map(|to| ("redirect", to.as_str())));
        Ok(html(pages::confirm_logout(&here.with_parameters(&parameters), &self.mode.home_url)))
    }

    fn seal<T: serde::Serialize>(&self, context: &str, value: &T) -> Result<String, Refusal> {
        let plain = postcard::to_stdvec(value).map_err(|error| Refusal::new(Reason::Internal).because(error))?;
        Ok(self.keys.seal(Purpose::Logout, context, &plain)?)
    }

    fn return_context(&self) -> String {
        format!("return {}", self.config.name)
    }

    fn forget(&self, call: &Call, response: &mut Response<Body>) {
        if let Some(site) = self.sites.get(call.site) {
            response.headers_mut().append(SET_COOKIE, site.session_cookie.clear());
        }
        if let Some(site) = self.config.public_urls.get(call.site) {
            // Who logs out and in again is in no loop.
            response.headers_mut().append(SET_COOKIE, CookieName::loops(&self.config.name, site.scheme).clear());
        }
    }
}

/// The origin of the page that led here, where the browser tells. No page can name another's.
fn referrer(headers: &HeaderMap) -> Option<String> {
    let mut named = headers.get_all(REFERER).iter();
    let (page, None) = (named.next()?.to_str().ok()?, named.next()) else { return None };
    Some(url::Url::parse(page).ok()?.origin().ascii_serialization())
}
