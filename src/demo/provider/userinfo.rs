//! The userinfo endpoint (OpenID Connect Core 5.3).

use http::StatusCode;
use http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use serde_json::Value;

use super::call::{Answer, Call, json_answer, oauth_error};
use super::ledger::Ledger;

/// The claims of the token's user, or `invalid_token` (RFC 6750 3.1).
pub(super) fn answer(ledger: &Ledger, call: &Call) -> Answer {
    // The header only: a token in a query would end up in logs (RFC 9700 4.3.2).
    let token = call.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer "));
    let issued = token.and_then(|token| ledger.access_tokens.get(token));
    match issued.filter(|issued| issued.expires_at > call.now && !issued.grant.is_revoked()) {
        Some(issued) => json_answer(StatusCode::OK, &Value::Object(issued.grant.user.claims(&issued.grant.scopes))),
        None => {
            let mut answer = oauth_error(StatusCode::UNAUTHORIZED, "invalid_token");
            answer
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
            answer
        }
    }
}
