//! The loop breaker: a browser that logs in again and again gets a page that says why, instead of one more redirect.
//!
//! Each successful login leaves a short-lived count with the browser. A browser that comes back to log in although it
//! has just done so several times is in a loop, and what it brings along tells the cause. Logins that were a person's
//! own doing are forgotten: those that a click on a page of ours began, those that ended in a logout, and those whose
//! session came back and was in use for a while.

use std::time::Duration;

use http::HeaderValue;
use http::header::{COOKIE, HeaderMap};
use tracing::warn;

use crate::config::{Origin, Scheme};
use crate::error::{Reason, Refusal};
use crate::mode::Call;
use crate::mode::auth_code::step_up::StepUp;
use crate::mode::auth_code::{AuthCode, Party};
use crate::session::Touch;
use crate::time::Timestamp;
use crate::web::{CookieJar, CookieName};

/// Logins of one browser within this time count as one loop.
const WINDOW: Duration = Duration::from_secs(60);
/// A session that was in use so long after its login has come back. A front end that sends the browser to log in as soon
/// as its first call was refused does so sooner.
const STOOD: Duration = Duration::from_secs(5);
/// So many logins are made before the next one is answered with the page.
const MAX_LOGINS: u32 = 3;

/// Why a login does not stick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The provider's clock and ours differ by more than is tolerated.
    Clock,
    /// The session cookie was set, and the browser does not send it.
    CookieNotReturned,
    /// Caddy was asked over http, where browsers do not take or send our cookies.
    SchemeHttp,
    /// The browser sends its cookie, and the session behind it is gone.
    SessionGone,
    /// The session is there, and whoever sent the browser here does not see it: it asked under another host.
    HostMismatch,
    /// The session is there, and its login was not enough for whoever asks for more.
    StepUp,
}

impl Cause {
    const fn code(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::CookieNotReturned => "cookie_not_returned",
            Self::SchemeHttp => "scheme_http",
            Self::SessionGone => "session_gone",
            Self::HostMismatch => "host_mismatch",
            Self::StepUp => "step_up",
        }
    }

    /// For the page; the first sentence is for the user, the second for whoever runs the site.
    const fn words(self) -> &'static str {
        match self {
            Self::Clock => {
                "The clocks of this site and of its sign-in service differ, so each sign-in is over at once. \
                 Have both clocks set by NTP; the log says how far they are apart (cause: clock)."
            }
            Self::CookieNotReturned => {
                "You signed in, but your browser did not send back the cookie that proves it. Allow cookies for this \
                 site; if they are allowed, something on the way removes them (cause: cookie_not_returned)."
            }
            Self::SchemeHttp => {
                "You signed in, but this site was opened over http, where the cookie that proves it is not sent. Open \
                 it over https; a proxy in front must pass the https scheme on (cause: scheme_http)."
            }
            Self::SessionGone => {
                "You signed in, but the session was gone right away. The session store may have been lost, or two \
                 processes do not share it (cause: session_gone)."
            }
            Self::HostMismatch => {
                "You are signed in here, but the page that sent you is on another host and cannot see it. Open this \
                 site under the address that it is configured with (cause: host_mismatch)."
            }
            Self::StepUp => {
                "You are signed in, and are asked to sign in more strongly or once more each time. The application asks \
                 for something else after each sign-in, or this site for what no sign-in lasts for (cause: step_up)."
            }
        }
    }
}

impl AuthCode {
    /// Refuses the login of a browser that has just logged in several times. Gives the `Set-Cookie` that takes the count
    /// back where a person began this login.
    ///
    /// # Errors
    /// `login_loop`, with the cause for the page and the log. The count is taken back, so that "start again" works.
    pub(super) async fn break_loop(
        &self,
        call: &Call,
        party: &Party,
        step_up: Option<&StepUp>,
    ) -> Result<Option<HeaderValue>, Refusal> {
        let site = self.origin(call)?;
        let count = self.recent_logins(&call.head.headers, site, call.now).0;
        if count == 0 {
            return Ok(None);
        }
        if is_clicked(&call.head.headers, site, party) || self.stood(call).await? {
            return Ok(Some(CookieName::loops(&self.config.name, site.scheme).clear()));
        }
        if count < MAX_LOGINS {
            return Ok(None);
        }
        let cause = self.cause(call, party, step_up).await?;
        let route = &self.config.name;
        self.shared.metrics.login_loop(route.as_str());
        warn!(%route, request_id = %call.request_id, cause = cause.code(), logins = count, "login loop broken");
        let mut refusal = Refusal::new(Reason::LoginLoop).because(cause.code());
        refusal.words = Some(cause.words().into());
        refusal.cookies.push(CookieName::loops(route, site.scheme).clear());
        Err(refusal)
    }

    /// Whether the last login ended in a session that came back: that is not what a loop looks like.
    async fn stood(&self, call: &Call) -> Result<bool, Refusal> {
        let found = self.caller(call, Touch::Look).await?;
        Ok(found.is_some_and(|(found, _)| found.last_used_at.since(found.session.created_at) >= STOOD))
    }

    /// A callback whose login cookie is not there, with what can be told about why.
    pub(super) fn unknown_login(&self, call: &Call) -> Refusal {
        let mut refusal = Refusal::new(Reason::UnknownLogin).because("no login cookie for this state");
        if self.is_plain(call) {
            refusal.words = Some(
                "This site was opened over http, where the cookie of a sign-in is not kept. Open it over https; a proxy \
                 in front must pass the https scheme on (cause: scheme_http)."
                    .into(),
            );
        } else if !call.head.headers.contains_key(COOKIE) {
            refusal.words = Some(
                "Your browser sent no cookie back. Allow cookies for this site, and finish a sign-in in the browser \
                 that began it (cause: cookie_not_returned)."
                    .into(),
            );
        }
        refusal
    }

    /// Whether the browser spoke http to a site that is configured as https.
    fn is_plain(&self, call: &Call) -> bool {
        let plain = call.head.headers.get("x-forwarded-proto").is_some_and(|scheme| scheme.as_bytes() == b"http");
        plain && self.origin(call).is_ok_and(|origin| origin.scheme == Scheme::Https)
    }

    /// `Set-Cookie` that counts one more login.
    pub(super) fn count_login(&self, call: &Call, site: &Origin) -> HeaderValue {
        let (count, since) = self.recent_logins(&call.head.headers, site, call.now);
        let value = format!("{}.{}", count.saturating_add(1), since.unix());
        CookieName::loops(&self.config.name, site.scheme).set(&value, WINDOW)
    }

    /// How often this browser has logged in lately, and since when. It may lie; it would only spare or make itself
    /// the page.
    fn recent_logins(&self, headers: &HeaderMap, site: &Origin, now: Timestamp) -> (u32, Timestamp) {
        let value = CookieJar::new(headers).value(&CookieName::loops(&self.config.name, site.scheme));
        let text = value.and_then(|value| std::str::from_utf8(value).ok()).and_then(|text| text.split_once('.'));
        let known =
            text.and_then(|(count, since)| Some((count.parse().ok()?, Timestamp::from_unix(since.parse().ok()?))));
        known.filter(|(_, since)| now.since(*since) < WINDOW && *since <= now).unwrap_or((0, now))
    }

    async fn cause(&self, call: &Call, party: &Party, step_up: Option<&StepUp>) -> Result<Cause, Refusal> {
        if self.is_plain(call) {
            return Ok(Cause::SchemeHttp);
        }
        if self.caller_id(call).is_none() {
            return Ok(Cause::CookieNotReturned);
        }
        // With a session that is there, too: its access tokens may be over before anybody sees them.
        let provider = &party.client.provider;
        let tolerated = provider.config().clock_skew;
        if provider.clock_skew().is_some_and(|skew| skew.exceeds(tolerated)) {
            return Ok(Cause::Clock);
        }
        Ok(match self.caller(call, Touch::Look).await? {
            Some(_) if step_up.is_some() => Cause::StepUp,
            Some(_) => Cause::HostMismatch,
            None => Cause::SessionGone,
        })
    }
}

/// Whether somebody clicked on a page of this very origin. A chain of redirects by way of the provider is
/// `cross-site` or `none` to the browser, and a script has no click; only a provider of the same origin blurs that.
fn is_clicked(headers: &HeaderMap, site: &Origin, party: &Party) -> bool {
    let has = |name: &str, wanted: &[u8]| headers.get(name).is_some_and(|value| value.as_bytes() == wanted);
    let issuer = url::Url::parse(&party.client.provider.config().issuer);
    let foreign = issuer.is_ok_and(|issuer| issuer.origin().ascii_serialization() != site.text);
    foreign && has("sec-fetch-user", b"?1") && has("sec-fetch-site", b"same-origin")
}
