//! What a front end may know about its user: `userinfo`, `claims`, `check_auth`, `session`, and `refresh`.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::config::{ClaimsShown, ClaimsSource};
use crate::error::{Reason, Refusal};
use crate::mode::auth_code::AuthCode;
use crate::mode::rules;
use crate::mode::{Call, json as json_answer};
use crate::session::{Cause, Freshness, Profile, Session, Touch};
use crate::web::Body;

/// `POST refresh` asks the provider at most this often for one session.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);

/// The standard claims of OpenID Connect Core 5.1, beside `sub`.
const STANDARD: [&str; 19] = [
    "name",
    "given_name",
    "family_name",
    "middle_name",
    "nickname",
    "preferred_username",
    "profile",
    "picture",
    "website",
    "email",
    "email_verified",
    "gender",
    "birthdate",
    "zoneinfo",
    "locale",
    "phone_number",
    "phone_number_verified",
    "address",
    "updated_at",
];

/// Further claims that `claims` shows: about the login itself (OpenID Connect Core 2).
const ABOUT_LOGIN: [&str; 7] = ["iss", "aud", "exp", "iat", "auth_time", "acr", "amr"];

/// Never shown, whatever `claims` says: values that could be used as a credential, or were one for the login.
const TOKENS: [&str; 6] = ["access_token", "refresh_token", "id_token", "code", "client_secret", "nonce"];

impl AuthCode {
    /// GET `userinfo`: the standard claims, ID token first, then what the userinfo endpoint said.
    pub(super) async fn userinfo(&self, call: &Call) -> Result<Response<Body>, Refusal> {
        let (found, _) = self.member(call, Touch::Use).await?;
        let session = &found.session;
        let mut shown = Map::new();
        shown.insert("sub".to_owned(), session.subject.clone().into());
        for name in STANDARD {
            if let Some(value) = session.claims.get(name).or_else(|| session.userinfo.get(name)) {
                shown.insert(name.to_owned(), value.clone());
            }
        }
        if let Some(updated_at) = shown.get("updated_at").and_then(seconds) {
            shown.insert("updated_at".to_owned(), updated_at.into());
        } else {
            shown.remove("updated_at");
        }
        Ok(json_answer(&Value::Object(shown)))
    }

    /// GET `claims`: from the source and by the list that the route is configured with.
    pub(super) async fn claims(&self, call: &Call) -> Result<Response<Body>, Refusal> {
        let (found, _) = self.member(call, Touch::Use).await?;
        let session = &found.session;
        let source = match self.mode.claims_source {
            ClaimsSource::IdToken => session.claims.clone(),
            ClaimsSource::AccessToken => session.tokens.access.claims().unwrap_or_default(),
        };
        let groups = self.config.groups_claim.as_str();
        let groups = [groups, groups.split('.').next().unwrap_or_default()];
        let listed = |name: &str| {
            name == "sub" || groups.contains(&name) || STANDARD.contains(&name) || ABOUT_LOGIN.contains(&name)
        };
        let shown = |name: &str| match self.mode.claims {
            ClaimsShown::Standard => listed(name),
            ClaimsShown::All => true,
        };
        let claims: Map<String, Value> =
            source.into_iter().filter(|(name, _)| shown(name) && !TOKENS.contains(&name.as_str())).collect();
        Ok(json_answer(&Value::Object(claims)))
    }

    /// GET `check_auth`.
    pub(super) async fn check_auth(&self, call: &Call) -> Result<Response<Body>, Refusal> {
        let logged_in = self.caller(call, Touch::Look).await?.is_some();
        Ok(json_answer(&json!({ "logged_in": logged_in })))
    }

    /// GET `session`: its times. Asking does not extend it.
    pub(super) async fn session_times(&self, call: &Call) -> Result<Response<Body>, Refusal> {
        let (found, _) = self.member(call, Touch::Look).await?;
        let session = &found.session;
        let idle_end = found.last_used_at.plus(self.limits.idle_timeout).min(session.expires_at);
        Ok(json_answer(&json!({
            "created_at": session.created_at.rfc3339(),
            "expires_at": session.expires_at.rfc3339(),
            "idle_expires_at": idle_end.rfc3339(),
            "server_time": call.now.rfc3339(),
            "access_token_expires_in": session.tokens.access_expires_at.since(call.now).as_secs(),
            "sub": session.subject,
            "logout_url": self.url(call, "logout")?,
        })))
    }

    /// POST `refresh`: 204 when the session is good. The provider is asked only when the token's time has come, and
    /// not again within a minute: every proxied call refreshes by itself when it must.
    pub(super) async fn refresh(&self, call: &Call) -> Result<Response<Body>, Refusal> {
        let (found, client) = self.member(call, Touch::Use).await?;
        if call.now.since(found.session.tokens.obtained_at) >= REFRESH_INTERVAL {
            match self.shared.refresher.fresh(found.session, client, call.now).await {
                Freshness::Fresh(_) => {}
                Freshness::Ended => {
                    return Err(Refusal::new(Reason::LoginRequired).because("the token was not refreshed"));
                }
                Freshness::Stale(_, cause) => return Err(stale(cause)),
            }
        }
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    }

    /// What is known of a session, its groups first of all.
    pub(super) fn profile(&self, session: &Session) -> Arc<Profile> {
        session.profile(&self.config, || self.groups(session))
    }

    /// The groups of a user, from the claim and the source that the route is configured with.
    fn groups(&self, session: &Session) -> Vec<String> {
        let from_access_token;
        let value = match self.mode.claims_source {
            ClaimsSource::IdToken => session.claim(&self.config.groups_claim),
            ClaimsSource::AccessToken => {
                from_access_token = session.tokens.access.claims().unwrap_or_default();
                crate::session::claim(&from_access_token, &self.config.groups_claim)
            }
        };
        rules::groups(value)
    }
}

/// The refusal for a session whose token could not be renewed.
pub(super) fn stale(cause: Cause) -> Refusal {
    match cause {
        Cause::NoRefreshToken => {
            Refusal::new(Reason::LoginRequired).because("the access token is over and there is no refresh token")
        }
        Cause::Unavailable => {
            let mut refusal =
                Refusal::new(Reason::ProviderUnavailable).because("the access token could not be renewed");
            refusal.retry_after = Some(Duration::from_secs(5));
            refusal
        }
        Cause::Timeout => Refusal::new(Reason::ProviderTimeout).because("the access token was not renewed in time"),
    }
}

/// `updated_at` is a number of seconds; some providers send a fraction, a string or RFC 3339 instead.
fn seconds(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let seconds = number.as_f64().filter(|seconds| seconds.abs() < 1e15)?;
            #[expect(clippy::cast_possible_truncation, reason = "bounded above, and the fraction is meant to go")]
            Some(seconds as i64)
        }),
        Value::String(text) => text.parse().ok().or_else(|| Some(text.parse::<jiff::Timestamp>().ok()?.as_second())),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::seconds;

    #[test]
    fn updated_at_is_always_a_number() {
        assert_eq!(seconds(&json!(1_700_000_000)), Some(1_700_000_000));
        assert_eq!(seconds(&json!(1_700_000_000.5)), Some(1_700_000_000));
        assert_eq!(seconds(&json!("1700000000")), Some(1_700_000_000));
        assert_eq!(seconds(&json!("2023-11-14T22:13:20Z")), Some(1_700_000_000));
        assert_eq!(seconds(&json!("yesterday")), None);
        assert_eq!(seconds(&json!(1e300)), None);
    }
}
