//! The token endpoint: codes and refresh tokens, each good for one use, into tokens.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::call::{Answer, Call, json_answer, oauth_error};
use super::client::{Client, authenticate};
use super::journal::Secret;
use super::jwt::{Draft, at_hash};
use super::ledger::{Grant, Issued, Ledger};
use super::mutation::JwtMutation;
use super::{Broken, Setup, device};
use crate::time::Timestamp;

/// How long a refresh token is good for.
const REFRESH_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long a logout token is good for.
const LOGOUT_TOKEN_LIFETIME: Duration = Duration::from_secs(120);

/// How long an ID token is good for.
const ID_TOKEN_LIFETIME: Duration = Duration::from_secs(300);

/// Answers with tokens or an error code (RFC 6749 5).
///
/// # Errors
/// [`Broken`] when a token cannot be made.
pub(super) fn answer(setup: &Setup, ledger: &mut Ledger, call: &Call) -> Result<Answer, Broken> {
    if let Some(verifier) = call.form("code_verifier") {
        ledger.remember(Secret::CodeVerifier, verifier);
    }
    if call.method != Method::POST {
        return Ok(oauth_error(StatusCode::METHOD_NOT_ALLOWED, "invalid_request"));
    }
    if call.repeats_itself() || !call.query.is_empty() {
        return Ok(oauth_error(StatusCode::BAD_REQUEST, "invalid_request"));
    }
    let Some(client) = authenticate(&setup.clients, call) else { return Ok(invalid_client()) };
    let grant = match call.form("grant_type") {
        Some("authorization_code") => redeem_code(ledger, call, client),
        Some("refresh_token") => redeem_refresh_token(setup, ledger, call, client),
        Some(device::GRANT_TYPE) => match device::redeem(ledger, call, client) {
            Ok(grant) => Some((grant, true)),
            Err(code) => return Ok(oauth_error(StatusCode::BAD_REQUEST, code)),
        },
        _ => return Ok(oauth_error(StatusCode::BAD_REQUEST, "unsupported_grant_type")),
    };
    match grant {
        Some((grant, first)) => tokens(setup, ledger, call, &Outcome { grant, first }),
        None => Ok(oauth_error(StatusCode::BAD_REQUEST, "invalid_grant")),
    }
}

/// `invalid_client` (RFC 6749 5.2).
pub(super) fn invalid_client() -> Answer {
    let mut answer = oauth_error(StatusCode::UNAUTHORIZED, "invalid_client");
    answer
        .headers_mut()
        .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"development provider\""));
    answer
}

/// A grant to make tokens for, and whether it is the first time, which is when the nonce is due.
struct Outcome {
    grant: Arc<Grant>,
    first: bool,
}

/// The grant of a code that is fresh, whole and this client's. A code that comes twice was stolen once, so all that
/// came of it ends (RFC 6749 4.1.2).
fn redeem_code(ledger: &mut Ledger, call: &Call, client: &Client) -> Option<(Arc<Grant>, bool)> {
    let issued = ledger.codes.get_mut(call.form("code")?)?;
    if issued.used {
        issued.grant.revoke();
        return None;
    }
    issued.used = true;
    let terms = issued.code.as_ref()?;
    let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, call.form("code_verifier")?.as_bytes()));
    let right = issued.grant.client_id == client.id
        && issued.expires_at > call.now
        && Some(terms.redirect_uri.as_str()) == call.form("redirect_uri")
        && terms.challenge == challenge
        && !issued.grant.is_revoked();
    right.then(|| (Arc::clone(&issued.grant), true))
}

/// The grant of a refresh token. One that comes twice ends its whole family (RFC 9700 4.14.2).
fn redeem_refresh_token(
    setup: &Setup,
    ledger: &mut Ledger,
    call: &Call,
    client: &Client,
) -> Option<(Arc<Grant>, bool)> {
    let issued = ledger.refresh_tokens.get_mut(call.form("refresh_token")?)?;
    if issued.used {
        ledger.reuses += 1;
        issued.grant.revoke();
        return None;
    }
    let right = issued.grant.client_id == client.id && issued.expires_at > call.now && !issued.grant.is_revoked();
    if !right {
        return None;
    }
    issued.used = setup.rotate_refresh_tokens;
    Some((Arc::clone(&issued.grant), false))
}

/// Makes and lists all tokens of an answer.
fn tokens(setup: &Setup, ledger: &mut Ledger, call: &Call, outcome: &Outcome) -> Result<Answer, Broken> {
    let grant = &outcome.grant;
    let lifetime = ledger.access_token_lifetime;
    let opaque = setup.clients.iter().any(|client| client.id == grant.client_id && client.opaque_tokens);
    let access_token = match opaque {
        true => ledger.marked(Secret::AccessToken)?,
        false => access_token(setup, ledger, call.now, (grant, &call.access_token_changes()))?,
    };
    let id_token = id_token(setup, ledger, call, (outcome, &access_token))?;
    let expires_at = call.now.plus(lifetime);
    ledger.tidy(call.now);
    ledger.remember(Secret::AccessToken, &access_token);
    ledger.remember(Secret::IdToken, &id_token);
    ledger.access_tokens.insert(access_token.clone(), issued(grant, expires_at));
    let mut value = json!({
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": lifetime.as_secs(),
        "id_token": id_token,
        "scope": grant.scopes.join(" "),
    });
    if outcome.first || setup.rotate_refresh_tokens {
        let refresh_token = ledger.marked(Secret::RefreshToken)?;
        ledger.remember(Secret::RefreshToken, &refresh_token);
        ledger.refresh_tokens.insert(refresh_token.clone(), issued(grant, call.now.plus(REFRESH_LIFETIME)));
        if let Some(object) = value.as_object_mut() {
            object.insert("refresh_token".to_owned(), json!(refresh_token));
        }
    }
    Ok(json_answer(StatusCode::OK, &value))
}

fn issued(grant: &Arc<Grant>, expires_at: Timestamp) -> Issued {
    Issued { grant: Arc::clone(grant), expires_at, used: false, code: None }
}

/// A JWT access token (RFC 9068 2), which says how and when its user authenticated (RFC 9470 6.1), with changes.
///
/// # Errors
/// [`Broken`] when it cannot be made.
pub(super) fn access_token(
    setup: &Setup,
    ledger: &mut Ledger,
    now: Timestamp,
    (grant, changes): (&Grant, &[JwtMutation]),
) -> Result<String, Broken> {
    let mut claims = Map::new();
    let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    set("iss", json!(setup.issuer));
    set("sub", json!(grant.user.subject));
    set("aud", json!(setup.audience));
    set("client_id", json!(grant.client_id));
    set("scope", json!(grant.scopes.join(" ")));
    set("iat", json!(now.unix()));
    set("exp", json!(now.plus(ledger.access_token_lifetime).unix()));
    set("jti", json!(ledger.marked(Secret::AccessToken)?));
    set("sid", json!(grant.sid));
    set("auth_time", json!(grant.auth_time.unix()));
    set("acr", json!(grant.acr));
    set("preferred_username", json!(grant.user.name));
    set("groups", json!(grant.user.groups));
    set("realm_access", json!({ "roles": grant.user.roles }));
    Draft::new("at+jwt", claims).sign(&ledger.ring, changes)
}

/// A logout token for `client_id` (OpenID Connect Back-Channel Logout 1.0, 2.4).
pub(super) fn logout_token(
    setup: &Setup,
    ledger: &Ledger,
    now: Timestamp,
    (subject, sid, client_id): (&str, Option<&str>, &str),
    changes: &[JwtMutation],
) -> Result<String, Broken> {
    let mut claims = Map::new();
    let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    set("iss", json!(setup.issuer));
    set("sub", json!(subject));
    set("aud", json!(client_id));
    set("iat", json!(now.unix()));
    set("exp", json!(now.plus(LOGOUT_TOKEN_LIFETIME).unix()));
    set("jti", json!(crate::web::token().map_err(|_| Broken)?));
    set("events", json!({ "http://schemas.openid.net/event/backchannel-logout": {} }));
    if let Some(sid) = sid {
        set("sid", json!(sid));
    }
    Draft::new("logout+jwt", claims).sign(&ledger.ring, changes)
}

/// An ID token (OpenID Connect Core 2); after a refresh without nonce, and with the first `auth_time` (12.2).
fn id_token(
    setup: &Setup,
    ledger: &mut Ledger,
    call: &Call,
    (outcome, access_token): (&Outcome, &str),
) -> Result<String, Broken> {
    let grant = &outcome.grant;
    let mut claims = grant.user.claims(&grant.scopes);
    let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    set("iss", json!(setup.issuer));
    set("aud", json!(grant.client_id));
    set("iat", json!(call.now.unix()));
    set("exp", json!(call.now.plus(ID_TOKEN_LIFETIME).unix()));
    set("auth_time", json!(grant.auth_time.unix()));
    set("jti", json!(ledger.marked(Secret::IdToken)?));
    set("sid", json!(grant.sid));
    set("acr", json!(grant.acr));
    set("at_hash", json!(at_hash(access_token, ledger.ring.algorithm())));
    if let (true, Some(nonce)) = (outcome.first, &grant.nonce) {
        set("nonce", json!(nonce));
    }
    Draft::new("JWT", claims).sign(&ledger.ring, &call.id_token_changes())
}
