//! The revocation endpoint (RFC 7009).

use http::{Method, StatusCode};

use super::Setup;
use super::call::{Answer, Call, answer as plain, oauth_error};
use super::client::authenticate;
use super::ledger::Ledger;
use super::token::invalid_client;

/// Ends the grant of a token; 200 also for tokens that nobody knows (RFC 7009 2.2).
pub(super) fn answer(setup: &Setup, ledger: &Ledger, call: &Call) -> Answer {
    if call.method != Method::POST || call.repeats_itself() {
        return oauth_error(StatusCode::BAD_REQUEST, "invalid_request");
    }
    let Some(client) = authenticate(&setup.clients, call) else { return invalid_client() };
    let Some(token) = call.form("token") else { return oauth_error(StatusCode::BAD_REQUEST, "invalid_request") };
    let issued = ledger.refresh_tokens.get(token).or_else(|| ledger.access_tokens.get(token));
    if let Some(issued) = issued.filter(|issued| issued.grant.client_id == client.id) {
        issued.grant.revoke();
    }
    plain(StatusCode::OK, "text/plain; charset=utf-8", String::new())
}
