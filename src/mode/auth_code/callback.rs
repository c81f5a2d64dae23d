//! `login/end`: the provider's answer, by navigation or posted by a front end that received it itself.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, SET_COOKIE};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde_json::json;
use tracing::{error, info, warn};

use crate::error::{Fault, Reason, Refusal};
use crate::metrics::Metrics;
use crate::mode::auth_code::attempt::{self, Ticket};
use crate::mode::auth_code::flights::{Claim, Failure, Landing};
use crate::mode::auth_code::landings::Landings;
use crate::mode::auth_code::{AuthCode, Limits, Party, Shared, redirect};
use crate::mode::{Call, FORM_POST, json as json_answer};
use crate::provider::{self, Callback, Client};
use crate::session::{Binding, EndKind, Handle, Selector, Session, SessionId, Touch};
use crate::time::Timestamp;
use crate::web::{Body, CookieJar, CookieName, KeyRing, Parameter, Query, ReturnTo, strict_object};

/// Largest body of `POST login/end`.
const MAX_BODY: usize = 16 * 1024;
/// How long that body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A login that ended: how, and what the browser is told.
struct Ended {
    landing: Landing,
    state: String,
    ticket: Option<Ticket>,
    /// Whether the log has it with the id of this very request.
    told: bool,
}

impl AuthCode {
    /// GET `login/end`: 303 to where the login was begun for, or to its `failure`, or a page.
    pub(super) async fn callback_navigation(&self, call: &Call) -> Result<Response<Body>, Refusal> {
        let query = Query::parse(call.head.uri.query().unwrap_or_default());
        let ended = self.finish(call, &query).await?;
        let site = self.origin(call)?;
        let clear = attempt::clear(&ended.state, &self.config.name, site);
        match ended.landing {
            Landing::LoggedIn(handle, target) => {
                let mut response = redirect(StatusCode::SEE_OTHER, &target)?;
                self.admit(call, response.headers_mut(), (&handle, ended.ticket.as_ref()));
                response.headers_mut().append(SET_COOKIE, clear);
                Ok(response)
            }
            Landing::Failed(failure) => {
                let ticket = ended.ticket.as_ref();
                if let Some(target) = ticket.and_then(|ticket| ticket.failure.as_deref()) {
                    let parameters = [("error", failure.reason.code()), ("request_id", &call.request_id)];
                    let target = ReturnTo::from_config(target).with_parameters(&parameters);
                    let mut response = redirect(StatusCode::SEE_OTHER, &target)?;
                    response.headers_mut().append(SET_COOKIE, clear);
                    return Ok(response);
                }
                let refusal = failed((failure, ended.told), clear);
                let return_to = ticket.map(|ticket| ticket.return_to.as_str());
                Err(self.with_another_start(call, &[("redirect", return_to)], refusal))
            }
        }
    }

    /// POST `login/end`: a status query when the URL is no callback, else the same as JSON.
    pub(super) async fn callback_fetch(&self, call: &Call, body: Body) -> Result<Response<Body>, Refusal> {
        let request_url = request_url(&call.head.headers, body).await?;
        let query = request_url.split('#').next().and_then(|url| url.split_once('?')).map_or("", |(_, query)| query);
        let query = Query::parse(query);
        if !query.contains("code") && !query.contains("error") {
            let logged_in = self.caller(call, Touch::Use).await?.is_some();
            return Ok(json_answer(&json!({ "handled": false, "logged_in": logged_in })));
        }
        let ended = self.finish(call, &query).await?;
        let clear = attempt::clear(&ended.state, &self.config.name, self.origin(call)?);
        match ended.landing {
            Landing::LoggedIn(handle, _) => {
                let mut response = json_answer(&json!({ "handled": true, "logged_in": true }));
                self.admit(call, response.headers_mut(), (&handle, ended.ticket.as_ref()));
                response.headers_mut().append(SET_COOKIE, clear);
                Ok(response)
            }
            Landing::Failed(failure) => Err(failed((failure, ended.told), clear)),
        }
    }

    /// Finds out whose login this is and how it ends. A refusal here consumed nothing.
    async fn finish(&self, call: &Call, query: &Query) -> Result<Ended, Refusal> {
        let state = match query.parameter("state") {
            Parameter::Once(state) => state.to_owned(),
            Parameter::Absent => return Err(Refusal::new(Reason::UnknownLogin).because("no state")),
            Parameter::Repeated => return Err(Refusal::new(Reason::BadRequest).because("state occurs twice")),
        };
        let name = attempt::name_of(&state);
        let jar = CookieJar::new(&call.head.headers);
        let Some(ticket) = Ticket::open(&state, &jar, &self.config.name, self.origin(call)?, &self.keys) else {
            let landing = self.repeated(call, &name).await?;
            return Ok(Ended { landing, state, ticket: None, told: false });
        };
        let landed = self.land(call, query, (&ticket, &name)).await;
        let ends = [("redirect", Some(ticket.return_to.as_str()))];
        let (landing, told) = landed.map_err(|refusal| self.with_another_start(call, &ends, refusal))?;
        Ok(Ended { landing, state, ticket: Some(ticket), told })
    }

    /// Lands the login of this browser's own ticket, and says whether that was this request's doing.
    async fn land(
        &self,
        call: &Call,
        query: &Query,
        (ticket, name): (&Ticket, &str),
    ) -> Result<(Landing, bool), Refusal> {
        let party = self.asked(call, ticket)?;
        let callback = match party.client.accept(ticket.attempt.clone(), query, call.now) {
            Ok(callback) => callback,
            Err(error) => {
                let answered = matches!(error, provider::CallbackError::Provider { .. });
                let mut refusal = Refusal::from(provider::Error::from(error));
                tell(&self.shared.metrics, &party.binding, &call.request_id, &refusal);
                if answered {
                    return Ok((Landing::Failed(refusal.into()), true));
                }
                refusal.told = true;
                return Err(refusal);
            }
        };
        match self.shared.logins.claim(name, call.now) {
            Claim::First(sender, flight) => {
                let exchange = self.exchange(call, party, (callback, ticket, name));
                self.shared.tasks.spawn(async move { sender.send_replace(Some(exchange.run().await)) });
                Ok((flight.landing().await, true))
            }
            Claim::Again(flight) => {
                let landing = flight.landing().await;
                Ok((landing.still(&self.shared.sessions, self.limits.idle_timeout, call.now).await?, false))
            }
            Claim::Used => Err(Refusal::new(Reason::LoginUsed)),
            Claim::Full => Err(Refusal::new(Reason::StoreUnavailable).because("too many logins at once")),
        }
    }

    /// A callback without its login cookie: only the session that it made may ask again.
    async fn repeated(&self, call: &Call, name: &str) -> Result<Landing, Refusal> {
        let unknown = || self.unknown_login(call);
        let own = self.caller(call, Touch::Look).await?.map(|(found, _)| found.session.id).ok_or_else(unknown)?;
        let landing = match self.shared.logins.find(name, call.now) {
            Some(flight) => flight.landing().await,
            None => {
                let landings = Landings { sessions: &self.shared.sessions, keys: &self.keys, name, now: call.now };
                landings.told().await?.ok_or_else(unknown)?
            }
        };
        match landing {
            Landing::LoggedIn(handle, target) if handle.id() == own => Ok(Landing::LoggedIn(handle, target)),
            Landing::LoggedIn(..) | Landing::Failed(_) => Err(unknown()),
        }
    }

    /// The client that the ticket was begun with, provided that the answer came to its own redirect URI.
    fn asked(&self, call: &Call, ticket: &Ticket) -> Result<&Party, Refusal> {
        let party = self.parties.iter().find(|party| party.binding.provider.as_str() == ticket.provider);
        let party = party.ok_or_else(|| Refusal::new(Reason::LoginExpired).because("the provider is gone"))?;
        let path = call.head.uri.path();
        let named = path.strip_prefix(&self.config.base_path).and_then(|path| path.strip_prefix("/login/end/"));
        // A front end posts whatever it received to the one path that it knows; a browser comes by its own.
        let alone = self.parties.len() == 1 || call.head.method != http::Method::GET;
        if named.map_or(!alone, |name| name != ticket.provider) {
            return Err(Refusal::new(Reason::IssuerMismatch).because("callback path of another provider"));
        }
        if ticket.attempt.redirect_uri() != self.redirect_uri(call, party)? {
            return Err(Refusal::new(Reason::LoginExpired).because("the redirect URI changed"));
        }
        Ok(party)
    }

    fn exchange(&self, call: &Call, party: &Party, (callback, ticket, name): (Callback, &Ticket, &str)) -> Exchange {
        Exchange {
            shared: self.shared.clone(),
            keys: Arc::clone(&self.keys),
            name: name.to_owned(),
            client: party.client.clone(),
            binding: Arc::clone(&party.binding),
            limits: self.limits,
            callback,
            begun: ticket.attempt.started_at(),
            return_to: ticket.return_to.as_str().into(),
            before: self.caller_id(call),
            request_id: Arc::clone(&call.request_id),
            now: call.now,
        }
    }

    /// Gives the browser its handle, and short notes of the login.
    fn admit(&self, call: &Call, headers: &mut HeaderMap, (handle, ticket): (&Handle, Option<&Ticket>)) {
        let cookie: Option<&CookieName> = self.sites.get(call.site).map(|site| &site.session_cookie);
        if let Some(cookie) = cookie {
            headers.append(SET_COOKIE, cookie.set(handle.expose(), self.limits.max_lifetime));
        }
        if let Some(site) = self.config.public_urls.get(call.site) {
            headers.append(SET_COOKIE, self.count_login(call, site));
            let note = ticket.and_then(|ticket| self.note_step_up(ticket, handle.id(), site));
            headers.extend(note.map(|note| (SET_COOKIE, note)));
        }
    }
}

/// The exchange of one code, in a task of its own: it finishes although the browser has gone.
struct Exchange {
    shared: Shared,
    keys: Arc<KeyRing>,
    /// The public name of its state.
    name: String,
    client: Client,
    binding: Arc<Binding>,
    limits: Limits,
    callback: Callback,
    begun: Timestamp,
    return_to: Arc<str>,
    before: Option<SessionId>,
    request_id: Arc<str>,
    now: Timestamp,
}

impl Exchange {
    /// Exchanges the code, unless another process that shares the store has begun to: then its landing is waited for.
    async fn run(self) -> Landing {
        let sessions = Arc::clone(&self.shared.sessions);
        if !sessions.is_shared() {
            return self.land().await;
        }
        let (keys, name) = (Arc::clone(&self.keys), self.name.clone());
        let landings = Landings { sessions: &sessions, keys: &keys, name: &name, now: self.now };
        match landings.is_first().await {
            Ok(true) => {}
            Ok(false) => {
                let landing = landings.wait().await.still(&sessions, self.limits.idle_timeout, self.now).await;
                return landing.unwrap_or_else(|refusal| Landing::Failed(refusal.into()));
            }
            Err(error) => return Landing::Failed(Refusal::from(error).into()),
        }
        let landing = self.land().await;
        if let Err(error) = landings.tell(&landing).await {
            warn!(%error, "a login cannot be told to other processes");
        }
        landing
    }

    async fn land(self) -> Landing {
        let (metrics, request_id) = (Arc::clone(&self.shared.metrics), Arc::clone(&self.request_id));
        let (binding, return_to) = (Arc::clone(&self.binding), Arc::clone(&self.return_to));
        match self.open().await {
            Ok((handle, session)) => {
                let (route, provider) = (&binding.route, &binding.provider);
                metrics.login(route.as_str(), provider.as_str(), "success");
                info!(%route, %provider, %request_id, session = %session, "login succeeded");
                Landing::LoggedIn(handle, return_to)
            }
            Err(refusal) => {
                tell(&metrics, &binding, &request_id, &refusal);
                Landing::Failed(refusal.into())
            }
        }
    }

    async fn open(self) -> Result<(Handle, SessionId), Refusal> {
        let grant = self.client.exchange(self.callback, self.now).await?;
        let handle = Handle::new()?;
        let session = Session::open(&handle, self.binding, grant, self.limits.max_lifetime, self.now);
        let session = self.shared.sessions.insert(session, self.now).await?;
        // Asked after the session can be found: whoever logs out from now on ends it, and who did before is known here.
        match self.shared.farewells.cover(&self.shared.sessions, &session, (self.begun, self.now)).await {
            Ok(false) => {}
            covered => {
                self.shared.revoker.revoke(&session);
                self.shared.sessions.end(Selector::Id(session.id), EndKind::BackChannel).await?;
                covered?;
                return Err(Refusal::new(Reason::LoginExpired).because("the user was logged out meanwhile"));
            }
        }
        if let Some(before) = self.before {
            self.shared.replace(before, (self.begun, self.limits.idle_timeout, self.now)).await;
        }
        Ok((handle, session.id))
    }
}

impl Shared {
    /// Ends the session that a login has taken the place of, for tidiness: its handle has just been overwritten. One that
    /// came to be while that login was on its way is that of another tab, whose page may just be asking with it.
    async fn replace(&self, before: SessionId, (begun, idle_timeout, now): (Timestamp, Duration, Timestamp)) {
        let found = self.sessions.load(before, idle_timeout, Touch::Look, now).await;
        if found.is_ok_and(|found| found.is_some_and(|found| found.session.created_at < begun)) {
            // The new login stands whatever comes of this.
            let _ = self.sessions.end(Selector::Id(before), EndKind::Replaced).await;
        }
    }
}

/// The answer to a login that failed.
fn failed((failure, told): (Failure, bool), clear: http::HeaderValue) -> Refusal {
    let mut refusal = Refusal::new(failure.reason);
    refusal.words = failure.words;
    refusal.told = told;
    refusal.cookies.push(clear);
    refusal
}

/// Counts and logs a login that failed: the one line about it, with what the edge does not know.
fn tell(metrics: &Metrics, binding: &Binding, request_id: &str, refusal: &Refusal) {
    let (route, provider) = (&binding.route, &binding.provider);
    metrics.login(route.as_str(), provider.as_str(), refusal.reason.code());
    let (reason, detail) = (refusal.reason.code(), refusal.detail.as_deref());
    match refusal.reason.fault() {
        Fault::Caller => info!(%route, %provider, request_id, reason, detail, "login failed"),
        Fault::Provider | Fault::Upstream => warn!(%route, %provider, request_id, reason, detail, "login failed"),
        Fault::Vestibule => error!(%route, %provider, request_id, reason, detail, "login failed"),
    }
}

/// `request_url` of the JSON body.
async fn request_url(headers: &HeaderMap, body: Body) -> Result<String, Refusal> {
    let media = headers.get(CONTENT_TYPE).map_or(&b""[..], http::HeaderValue::as_bytes);
    let media = media.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if !media.eq_ignore_ascii_case(b"application/json") {
        let mut refusal = Refusal::new(Reason::UnsupportedMediaType).because("login/end reads application/json");
        refusal.words = media.eq_ignore_ascii_case(b"application/x-www-form-urlencoded").then_some(FORM_POST.into());
        return Err(refusal);
    }
    let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await;
    let bytes = match read {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => return Err(Reason::BodyTooLarge.into()),
        Ok(Err(error)) => return Err(Refusal::new(Reason::BadRequest).because(error)),
        Err(_) => return Err(Reason::RequestTimeout.into()),
    };
    let object = strict_object(&bytes).map_err(|error| Refusal::new(Reason::BadRequest).because(error))?;
    let url = object.get("request_url").and_then(serde_json::Value::as_str);
    url.map(str::to_owned)
        .ok_or_else(|| Refusal::new(Reason::BadRequest).because("request_url is missing"))
}
