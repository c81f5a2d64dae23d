//! The end-session endpoint (OpenID Connect RP-Initiated Logout 2).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::Setup;
use super::call::{Answer, Call, html, see_other};
use super::journal::Secret;
use super::ledger::Ledger;

/// Ends the login that the hint is about, then sends the browser back, or says that it is done.
pub(super) fn answer(setup: &Setup, ledger: &mut Ledger, call: &Call) -> Answer {
    if call.repeats_itself() {
        return html(StatusCode::BAD_REQUEST, "Not understood", "<p>A parameter occurs twice.</p>\n");
    }
    let hint = match call.either("id_token_hint") {
        Some(token) => match known_claims(ledger, token) {
            Some(claims) => Some(claims),
            None => {
                let text = "<p>The ID token is not one of this provider.</p>\n";
                return html(StatusCode::BAD_REQUEST, "Unknown login", text);
            }
        },
        None => None,
    };
    let hinted = |name: &str| hint.as_ref().and_then(|claims| claims.get(name)).and_then(Value::as_str);
    if let Some(sid) = hinted("sid") {
        ledger.end(sid);
    }
    let client_id = call.either("client_id").or_else(|| hinted("aud"));
    let client = setup.clients.iter().find(|client| Some(client.id.as_str()) == client_id);
    match call.either("post_logout_redirect_uri") {
        None => html(StatusCode::OK, "You are signed out", "<p>You may close this page.</p>\n"),
        Some(uri) if client.is_some_and(|client| client.post_logout_redirect_uris.iter().any(|known| known == uri)) => {
            let Some(state) = call.either("state") else { return see_other(uri) };
            let query = form_urlencoded::Serializer::new(String::new()).append_pair("state", state).finish();
            let separator = if uri.contains('?') { '&' } else { '?' };
            see_other(&format!("{uri}{separator}{query}"))
        }
        Some(_) => {
            let text = "<p>The address to go back to is not registered for this client.</p>\n";
            html(StatusCode::BAD_REQUEST, "Unknown address", text)
        }
    }
}

/// The claims of an ID token that was issued here; being listed is the evidence, and its age does not matter.
fn known_claims(ledger: &Ledger, token: &str) -> Option<Map<String, Value>> {
    let listed = ledger.secrets.contains(|(kind, value)| *kind == Secret::IdToken && value == token);
    let payload = token.split('.').nth(1).filter(|_| listed)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}
