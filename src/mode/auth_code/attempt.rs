//! The login cookie: one sealed attempt each, so that several tabs can log in at once.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::config::{Name, Origin};
use crate::error::{Reason, Refusal};
use crate::provider::Attempt;
use crate::web::{CookieJar, CookieName, KeyRing, Purpose};

/// How long a login may take (LS-5).
pub(super) const LIFETIME: Duration = Attempt::LIFETIME;
/// How many unfinished logins one browser may have.
const MAX_ATTEMPTS: usize = 8;
/// What their cookies may weigh together, so that all cookies stay below 8 KiB, where many servers stop to read (LS-4).
const MAX_TOTAL: usize = 6 * 1024;
/// What browsers keep of one cookie, name and value (RFC 6265bis 5.6).
const MAX_COOKIE: usize = 4096;

/// What a login cookie holds.
#[derive(Serialize, Deserialize)]
pub(super) struct Ticket {
    /// The provider's part.
    pub attempt: Attempt,
    /// Name of the provider that was asked.
    pub provider: String,
    /// Where to go after success; checked when it was sealed.
    pub return_to: String,
    /// Where to go after failure; checked when it was sealed.
    pub failure: Option<String>,
}

/// The public name of a `state`: tells cookies and flights apart without giving the state away.
pub(super) fn name_of(state: &str) -> String {
    let digest = digest::digest(&digest::SHA256, state.as_bytes());
    let head = digest.as_ref().first_chunk::<12>().copied().unwrap_or_default();
    URL_SAFE_NO_PAD.encode(head)
}

impl Ticket {
    /// `Set-Cookie` for this ticket.
    pub(super) fn seal(
        &self,
        state: &str,
        route: &Name,
        site: &Origin,
        keys: &KeyRing,
    ) -> Result<HeaderValue, Refusal> {
        let cookie = CookieName::login(route, &name_of(state), site.scheme);
        let plain = postcard::to_stdvec(self).map_err(|error| Refusal::new(Reason::Internal).because(error))?;
        let sealed = keys.seal(Purpose::Login, cookie.as_str(), &plain)?;
        if cookie.as_str().len() + sealed.len() > MAX_COOKIE {
            return Err(Refusal::new(Reason::BadRedirect).because("redirect and failure are too long for a cookie"));
        }
        Ok(cookie.set(&sealed, LIFETIME))
    }

    /// The ticket that `state` belongs to, if this browser has it.
    pub(super) fn open(state: &str, jar: &CookieJar<'_>, route: &Name, site: &Origin, keys: &KeyRing) -> Option<Self> {
        let cookie = CookieName::login(route, &name_of(state), site.scheme);
        let plain = keys.open(Purpose::Login, cookie.as_str(), jar.value(&cookie)?).ok()?;
        postcard::from_bytes(&plain).ok()
    }
}

/// `Set-Cookie` that removes the cookie of `state`.
pub(super) fn clear(state: &str, route: &Name, site: &Origin) -> HeaderValue {
    CookieName::login(route, &name_of(state), site.scheme).clear()
}

/// `Set-Cookie`s that make room for `next`, the cookie of one more attempt: the oldest go first.
pub(super) fn make_room(jar: &CookieJar<'_>, next: &HeaderValue, route: &Name, site: &Origin) -> Vec<HeaderValue> {
    let cookies: Vec<CookieName> = jar
        .attempts(route, site.scheme)
        .map(|attempt| CookieName::login(route, attempt, site.scheme))
        .collect();
    let weight = |cookie: &CookieName| cookie.as_str().len() + jar.value(cookie).map_or(0, <[u8]>::len);
    let mut count = cookies.len();
    let mut total: usize = next.len() + cookies.iter().map(weight).sum::<usize>();
    let mut gone = Vec::new();
    for cookie in &cookies {
        if count < MAX_ATTEMPTS && total <= MAX_TOTAL {
            break;
        }
        count -= 1;
        total = total.saturating_sub(weight(cookie));
        gone.push(cookie.clear());
    }
    gone
}
