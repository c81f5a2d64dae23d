//! What the development provider says about itself: its metadata and its keys.

use std::collections::BTreeSet;

use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};
use serde_json::{Value, json};

use super::call::{Answer, json_answer};
use super::journal::{Authentication, Endpoint};
use super::ledger::Ledger;
use super::{Setup, device};

/// The metadata (OpenID Connect Discovery 3, RFC 8414 2, RFC 9207 3).
pub(super) fn metadata(setup: &Setup, ledger: &Ledger) -> Answer {
    let methods: BTreeSet<&str> =
        setup.clients.iter().flat_map(|client| &client.methods).filter_map(method_name).collect();
    let algorithm = format!("{:?}", ledger.ring.algorithm());
    let value = json!({
        "issuer": setup.issuer,
        "authorization_endpoint": setup.url(Endpoint::Authorize),
        "token_endpoint": setup.url(Endpoint::Token),
        "userinfo_endpoint": setup.url(Endpoint::Userinfo),
        "jwks_uri": setup.url(Endpoint::Jwks),
        "revocation_endpoint": setup.url(Endpoint::Revocation),
        "end_session_endpoint": setup.url(Endpoint::EndSession),
        "device_authorization_endpoint": setup.url(Endpoint::DeviceAuthorization),
        "introspection_endpoint": setup.url(Endpoint::Introspection),
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token", device::GRANT_TYPE],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [algorithm],
        "token_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
        "acr_values_supported": setup.acr_values,
        "prompt_values_supported": ["none", "login", "select_account"],
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "auth_time", "acr", "nonce", "at_hash", "sid", "name",
            "preferred_username", "given_name", "family_name", "picture", "updated_at", "email", "email_verified",
            "groups", "realm_access"],
    });
    cacheable(&value)
}

/// The key set.
pub(super) fn keys(ledger: &Ledger) -> Answer {
    cacheable(&ledger.ring.published())
}

fn cacheable(value: &Value) -> Answer {
    let mut answer = json_answer(StatusCode::OK, value);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
    answer
}

/// The registered name of a client authentication method (RFC 7591 2).
const fn method_name(method: &Authentication) -> Option<&'static str> {
    match method {
        Authentication::None => Some("none"),
        Authentication::Basic => Some("client_secret_basic"),
        Authentication::Post => Some("client_secret_post"),
        Authentication::Bearer => None,
    }
}
