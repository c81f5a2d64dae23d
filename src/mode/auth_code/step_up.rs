//! Whoever is logged in, and has to log in more strongly or once more: the way there, and back to the upstream that may
//! have asked for it (RFC 9470).

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderValue, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tracing::debug;

use crate::config::{Origin, PathRule, Unauthenticated};
use crate::error::{Reason, Refusal};
use crate::mode::Call;
use crate::mode::auth_code::attempt::Ticket;
use crate::mode::auth_code::{AuthCode, redirect};
use crate::mode::step_up::{Demand, ERROR};
use crate::session::{Binding, Session, SessionId};
use crate::web::{Body, CookieJar, CookieName, Kind, Purpose, ReturnTo};

/// For so long after a login that asked for as much, an upstream that is still not content gets no other one. Where it is
/// the age of a login that counts, a refusal after that is a new one; but a front end has to get as far as its first call.
const WINDOW: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_secs(15);

/// What a login is for. It stands in the URL of `login/start`, where a front end can append its `?redirect=`, and is sealed:
/// no link of anybody else's makes a provider ask for anything (LS-7).
#[derive(Serialize, Deserialize)]
pub(super) struct StepUp {
    /// What it has to bring.
    pub(super) demand: Demand,
    /// Where the user is known, so that nobody has to choose a provider again.
    pub(super) provider: Option<String>,
}

/// What is kept of a request for as long as the upstream has it.
pub(super) struct Whence {
    site: usize,
    kind: Kind,
    here: Option<PathAndQuery>,
    binding: Option<Arc<Binding>>,
}

impl Whence {
    pub(super) fn of(call: &Call, session: Option<&Session>) -> Self {
        Self {
            site: call.site,
            kind: call.kind,
            here: call.head.uri.path_and_query().cloned(),
            binding: session.map(|session| Arc::clone(&session.binding)),
        }
    }
}

/// Whether a request can be sent to log in, and `rule` lets it.
pub(super) fn may_log_in(call: &Call, rule: &PathRule) -> bool {
    rule.unauthenticated == Unauthenticated::Login && call.kind == Kind::Navigation
}

impl AuthCode {
    /// Where somebody whom `rule` refuses is sent to log in more strongly or once more.
    ///
    /// # Errors
    /// The refusal, when that is not what is missing, or nothing can be redirected here; with the way on.
    pub(super) fn sent_to_step_up(
        &self,
        call: &Call,
        session: &Session,
        (rule, refusal): (&PathRule, Refusal),
    ) -> Result<String, Refusal> {
        if refusal.reason != Reason::InsufficientUserAuthentication {
            return Err(self.with_other_account(call, session, refusal));
        }
        let (whence, demand) = (Whence::of(call, Some(session)), Demand::of(rule));
        if may_log_in(call, rule) {
            return self.step_up_url(&whence, demand);
        }
        Err(self.with_step_up(&whence, demand, refusal))
    }

    /// What the browser gets when an upstream answered 401. Where that asks for a login, in a way that can be understood
    /// and met, it is one; everything else goes on as it came. So does what asks for no more than the login of a moment
    /// ago did: one more would end here again.
    ///
    /// # Errors
    /// `insufficient_user_authentication`, for whatever cannot be redirected.
    pub(super) fn unauthorized(
        &self,
        response: Response<Body>,
        (whence, stepped): (&Whence, Option<&Demand>),
        rule: &PathRule,
    ) -> Result<Response<Body>, Refusal> {
        let Some(asked) = Demand::of_challenges(response.headers()) else { return Ok(response) };
        let route = &self.config.name;
        let Some(demand) = asked.and(&Demand::of(rule)) else {
            debug!(%route, rule = rule.prefix, "the upstream asks for none of the acr_values of its path");
            return Ok(response);
        };
        if stepped.is_some_and(|stepped| stepped.implies(&demand)) {
            debug!(%route, rule = rule.prefix, "the upstream asks for what the login of a moment ago has brought");
            return Ok(response);
        }
        if whence.kind == Kind::Navigation {
            return redirect(StatusCode::FOUND, &self.step_up_url(whence, demand)?);
        }
        let refusal = Refusal::new(Reason::InsufficientUserAuthentication).because("the upstream says so");
        Err(self.with_step_up(whence, demand, refusal))
    }

    /// Adds to a refusal how the login is begun that is missing, and to that of a fetch what it has to bring.
    fn with_step_up(&self, whence: &Whence, demand: Demand, mut refusal: Refusal) -> Refusal {
        if whence.kind == Kind::Fetch {
            let challenge = format!("Vestibule error=\"{ERROR}\"{}", demand.parameters());
            refusal.challenge = HeaderValue::try_from(challenge).ok().map(Arc::new);
        }
        match self.step_up_url(whence, demand) {
            Ok(url) => refusal.way_on = Some(url.into()),
            Err(other) => return other,
        }
        refusal
    }

    /// `login/start` for a login that brings `demand`, leading a navigation back to where it wanted to go. What a form
    /// wanted is not asked for again, and what a script wants to show afterwards only its page knows.
    fn step_up_url(&self, whence: &Whence, demand: Demand) -> Result<String, Refusal> {
        let unknown = || Refusal::new(Reason::HostMismatch);
        let start = self.login_url(whence.site).ok_or_else(unknown)?;
        let origin = self.config.public_urls.get(whence.site).ok_or_else(unknown)?;
        let provider = whence.binding.as_ref().map(|binding| binding.provider.to_string());
        let plain = postcard::to_stdvec(&StepUp { demand, provider });
        let plain = plain.map_err(|error| Refusal::new(Reason::Internal).because(error))?;
        let url = format!("{start}/{}", self.keys.seal(Purpose::StepUp, self.config.name.as_str(), &plain)?);
        let here = whence.here.as_ref().filter(|_| whence.kind == Kind::Navigation);
        let back = here.and_then(|here| ReturnTo::parse(here.as_str(), origin, &self.mode.allowed_redirects));
        Ok(match back {
            Some(back) => ReturnTo::from_config(&url).with_parameters(&[("redirect", back.as_str())]),
            None => url,
        })
    }

    /// What the login that `call` begins is for, where it came by a URL of ours that says so. One that cannot be read any
    /// more, or never could, begins a usual login.
    pub(super) fn step_up(&self, call: &Call) -> Option<StepUp> {
        let path = call.head.uri.path().strip_prefix(&self.config.base_path)?;
        let sealed = path.strip_prefix("/login/start/")?;
        let plain = self.keys.open(Purpose::StepUp, self.config.name.as_str(), sealed.as_bytes()).ok()?;
        postcard::from_bytes(&plain).ok()
    }

    /// What a login has to bring: what it is begun for, and what the path asks for that it ends at.
    pub(super) fn demand(
        &self,
        call: &Call,
        step_up: Option<&StepUp>,
        return_to: &ReturnTo,
    ) -> Result<Demand, Refusal> {
        let path = return_to.path_on(self.origin(call)?);
        let covers = |rule: &&PathRule| path.is_some_and(|path| rule.covers(path));
        let rules = self.rules.iter().map(|rule| &*rule.config).filter(covers);
        let of_path = rules.max_by_key(|rule| rule.prefix.len()).map(Demand::of).unwrap_or_default();
        Ok(match step_up {
            // Of two that exclude each other, the one that somebody was just refused for.
            Some(StepUp { demand, .. }) => demand.and(&of_path).unwrap_or_else(|| demand.clone()),
            None => of_path,
        })
    }

    /// `Set-Cookie` that says for a moment what the login of the session `id` has brought; `None` when it was a usual one.
    pub(super) fn note_step_up(&self, ticket: &Ticket, id: SessionId, site: &Origin) -> Option<HeaderValue> {
        let attempt = &ticket.attempt;
        let max_age = attempt.max_age().map(|age| age.as_secs());
        let demand = Demand { acr_values: attempt.acr_values().to_vec(), max_age };
        if demand.is_empty() {
            return None;
        }
        let cookie = CookieName::stepped(&self.config.name, site.scheme);
        let plain = postcard::to_stdvec(&demand).ok()?;
        let sealed = self.keys.seal(Purpose::StepUp, &context(&cookie, id), &plain).ok()?;
        Some(cookie.set(&sealed, WINDOW))
    }

    /// What the login of `session` has brought, if that was a moment ago and one that was asked for more than usual.
    pub(super) fn stepped(&self, call: &Call, session: &Session) -> Option<Demand> {
        let age = call.now.since(session.created_at);
        if age >= WINDOW {
            return None;
        }
        let cookie = &self.sites.get(call.site)?.stepped_cookie;
        let sealed = CookieJar::new(&call.head.headers).value(cookie)?;
        let plain = self.keys.open(Purpose::StepUp, &context(cookie, session.id), sealed).ok()?;
        let demand: Demand = postcard::from_bytes(&plain).ok()?;
        let window = demand.max_age.map_or(WINDOW, |max_age| Duration::from_secs(max_age).clamp(SHORTEST, WINDOW));
        (age < window).then_some(demand)
    }
}

/// Binds the note to its session.
fn context(cookie: &CookieName, id: SessionId) -> String {
    format!("{} {}", cookie.as_str(), id.hex())
}
