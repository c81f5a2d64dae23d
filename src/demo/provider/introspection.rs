//! The introspection endpoint (RFC 7662): what an access token is good for, told to clients that have a secret.

use http::{Method, StatusCode};
use serde_json::json;

use super::Setup;
use super::call::{Answer, Call, json_answer, oauth_error};
use super::client::authenticate;
use super::ledger::Ledger;
use super::token::invalid_client;

/// What is known of a token; of one that is over, unknown or revoked, nothing but that (2.2).
pub(super) fn answer(setup: &Setup, ledger: &Ledger, call: &Call) -> Answer {
    if call.method != Method::POST || call.repeats_itself() {
        return oauth_error(StatusCode::BAD_REQUEST, "invalid_request");
    }
    let client = authenticate(&setup.clients, call).filter(|client| client.secret.is_some());
    if client.is_none() {
        return invalid_client();
    }
    let Some(token) = call.form("token") else { return oauth_error(StatusCode::BAD_REQUEST, "invalid_request") };
    let issued = ledger.access_tokens.get(token);
    let Some(issued) = issued.filter(|issued| issued.expires_at > call.now && !issued.grant.is_revoked()) else {
        return json_answer(StatusCode::OK, &json!({ "active": false }));
    };
    let grant = &issued.grant;
    json_answer(
        StatusCode::OK,
        &json!({
            "active": true,
            "iss": setup.issuer,
            "sub": grant.user.subject,
            "aud": setup.audience,
            "client_id": grant.client_id,
            "username": grant.user.name,
            "preferred_username": grant.user.name,
            "groups": grant.user.groups,
            "scope": grant.scopes.join(" "),
            "token_type": "Bearer",
            "auth_time": grant.auth_time.unix(),
            "acr": grant.acr,
            "exp": issued.expires_at.unix(),
        }),
    )
}
