//! The browser's part of the authorization code flow: where it is sent, and what it may come back with.
//!
//! One login is a chain of moves: [`Attempt`] → [`Callback`] → [`Grant`](super::Grant). Each is the only way to the
//! next, so a code whose `state` was not checked cannot be exchanged.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use openidconnect::core::CoreAuthenticationFlow;
use openidconnect::{
    AuthenticationContextClass, CsrfToken, LanguageTag, LoginHint, Nonce, PkceCodeChallenge, PkceCodeVerifier, Scope,
};
use serde::{Deserialize, Serialize};
use url::Url;

use super::error::escaped;
use super::{CallbackError, Client, Error, protocol};
use crate::time::Timestamp;
use crate::web::{self, Parameter, Query};

/// What a login asks for, beyond what the registration says.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Where the provider sends the browser back.
    pub redirect_uri: String,
    /// `prompt`, already checked against the values of OpenID Connect Core 3.1.2.1.
    pub prompt: Option<String>,
    /// `login_hint`.
    pub login_hint: Option<String>,
    /// `ui_locales`.
    pub ui_locales: Option<String>,
    /// Further parameters, none of them ours and each allowed by the config.
    pub forwarded: Vec<(String, String)>,
    /// `acr_values` that the ID token must then satisfy.
    pub acr_values: Vec<String>,
    /// `max_age` that `auth_time` must then satisfy.
    pub max_age: Option<Duration>,
}

/// One login between its start and its callback. Sealed into the browser's login cookie, hence serde; the AEAD tag is
/// the evidence that we wrote it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Attempt {
    state: String,
    nonce: String,
    code_verifier: String,
    issuer: String,
    client_id: String,
    redirect_uri: String,
    acr_values: Vec<String>,
    max_age: Option<u64>,
    iss_required: bool,
    started_at: Timestamp,
}

impl Attempt {
    /// How long a browser may take from start to callback.
    pub const LIFETIME: Duration = Duration::from_secs(600);

    /// `state`, by which a callback finds its attempt. It is in the URL that the browser sees, so it is no secret from
    /// that browser.
    #[must_use]
    pub fn state(&self) -> &str {
        &self.state
    }

    /// The redirect URI that was sent; the caller knows whether it is still one of the route's.
    #[must_use]
    pub fn redirect_uri(&self) -> &str {
        &self.redirect_uri
    }

    /// When the login began.
    #[must_use]
    pub const fn started_at(&self) -> Timestamp {
        self.started_at
    }

    pub(super) fn nonce(&self) -> &str {
        &self.nonce
    }

    pub(super) fn code_verifier(&self) -> &str {
        &self.code_verifier
    }

    /// The `acr_values` that were asked for.
    #[must_use]
    pub fn acr_values(&self) -> &[String] {
        &self.acr_values
    }

    /// The `max_age` that was asked for.
    #[must_use]
    pub fn max_age(&self) -> Option<Duration> {
        self.max_age.map(Duration::from_secs)
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Attempt").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// A callback whose `state`, `iss` and age were checked. The only way to the token endpoint.
pub struct Callback {
    pub(super) attempt: Attempt,
    pub(super) code: String,
}

impl fmt::Debug for Callback {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Callback")
    }
}

impl Client {
    /// Begins a login: the authorization URL to send the browser to (RFC 6749 4.1.1, RFC 7636 4.3) and the attempt
    /// to seal into its cookie. Waits for one attempt to fetch metadata when they are not known yet, at most three
    /// seconds, and not at all when the last one failed within the last second.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while metadata are unknown; [`Error::Unacceptable`] when the provider does not offer what
    /// the registration needs; [`Error::Refused`] and [`Error::Timeout`] when requests must be pushed; [`Error::Random`].
    pub async fn begin(&self, ask: &Ask, now: Timestamp) -> Result<(Url, Attempt), Error> {
        let metadata = self.provider.metadata().await?;
        let attempt = Attempt {
            state: web::token()?,
            nonce: web::token()?,
            code_verifier: web::token()?,
            issuer: self.provider.config().issuer.clone(),
            client_id: self.registration.client_id.clone(),
            redirect_uri: ask.redirect_uri.clone(),
            acr_values: ask.acr_values.clone(),
            max_age: ask.max_age.map(|age| age.as_secs()),
            iss_required: metadata.authorization_response_iss_parameter_supported,
            started_at: now,
        };
        let client = protocol::client(&self.registration, &metadata)?;
        let endpoint = &metadata.authorization_endpoint;
        let url = self.authorization_url((&client, endpoint), ask, &attempt)?;
        if metadata.require_pushed_authorization_requests {
            return Ok((self.pushed(&metadata, &url).await?, attempt));
        }
        Ok((url, attempt))
    }

    fn authorization_url(
        &self,
        (client, endpoint): (&protocol::Oidc, &Url),
        ask: &Ask,
        attempt: &Attempt,
    ) -> Result<Url, Error> {
        let verifier = PkceCodeVerifier::new(attempt.code_verifier.clone());
        let state = CsrfToken::new(attempt.state.clone());
        let nonce = Nonce::new(attempt.nonce.clone());
        let scopes = self.registration.scopes.iter().filter(|scope| *scope != "openid").cloned();
        let contexts = attempt.acr_values.iter().cloned().map(AuthenticationContextClass::new);
        let mut request = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, move || state, move || nonce)
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
            .set_redirect_uri(protocol::redirect_uri(&attempt.redirect_uri)?)
            .add_scopes(scopes.map(Scope::new));
        for context in contexts {
            request = request.add_auth_context_value(context);
        }
        if let Some(age) = ask.max_age {
            request = request.set_max_age(age);
        }
        if let Some(hint) = &ask.login_hint {
            request = request.set_login_hint(LoginHint::new(hint.clone()));
        }
        for locale in ask.ui_locales.iter().flat_map(|locales| locales.split_ascii_whitespace()) {
            request = request.add_ui_locale(LanguageTag::new(locale.to_owned()));
        }
        if let Some(prompt) = &ask.prompt {
            request = request.add_extra_param("prompt", prompt.clone());
        }
        // Nothing stands there twice (RFC 6749 3.1): what the endpoint's own query says goes first.
        let fixed = |wanted: &str| endpoint.query_pairs().any(|(name, _)| name == wanted);
        for (name, value) in ask.forwarded.iter().filter(|(name, _)| !fixed(name)) {
            request = request.add_extra_param(name.clone(), value.clone());
        }
        // What this login asks for goes before what the config asks for always; never both (RFC 6749 3.1).
        let asked = |name: &str| match name {
            "prompt" => ask.prompt.is_some(),
            "login_hint" => ask.login_hint.is_some(),
            "ui_locales" => ask.ui_locales.is_some(),
            "max_age" => ask.max_age.is_some(),
            "acr_values" => !ask.acr_values.is_empty(),
            name => ask.forwarded.iter().any(|(forwarded, _)| forwarded == name),
        };
        for (name, value) in
            self.registration.authorization_params.iter().filter(|(name, _)| !asked(name) && !fixed(name))
        {
            request = request.add_extra_param(name.clone(), value.clone());
        }
        Ok(request.url().0)
    }

    /// Judges a callback: duplicates, `state`, age, `iss` (RFC 9207), error answers. Sends nothing.
    ///
    /// # Errors
    /// [`CallbackError`].
    pub fn accept(&self, attempt: Attempt, query: &Query, now: Timestamp) -> Result<Callback, CallbackError> {
        // RFC 6749 3.1: nothing may occur twice. Of two values, somebody else might read the other.
        for name in ["state", "code", "iss", "error", "session_state"] {
            if query.parameter(name) == Parameter::Repeated {
                return Err(CallbackError::Malformed("a parameter occurs twice"));
            }
        }
        let state = query.parameter("state").value().ok_or(CallbackError::State)?;
        if verify_slices_are_equal(state.as_bytes(), attempt.state.as_bytes()).is_err() {
            return Err(CallbackError::State);
        }
        let config = self.provider.config();
        let unchanged = attempt.issuer == config.issuer && attempt.client_id == self.registration.client_id;
        if !unchanged || now.since(attempt.started_at) > Attempt::LIFETIME {
            return Err(CallbackError::Expired);
        }
        // RFC 9207 2.4, for error answers, too; `iss` is compared whenever it comes.
        let announced = |metadata: &super::Metadata| metadata.authorization_response_iss_parameter_supported;
        let required = attempt.iss_required || self.provider.known_metadata().is_some_and(|known| announced(&known));
        match query.parameter("iss") {
            Parameter::Once(issuer) if issuer == config.issuer => {}
            Parameter::Absent if !required => {}
            _ => return Err(CallbackError::Issuer),
        }
        if ["access_token", "id_token", "token_type"].iter().any(|name| query.contains(name)) {
            return Err(CallbackError::Malformed("tokens have no place in a callback of the code flow"));
        }
        match (query.parameter("code"), query.parameter("error")) {
            (Parameter::Once(_), Parameter::Once(_)) => Err(CallbackError::Malformed("both code and error")),
            (_, Parameter::Once(error)) => {
                let description = query.parameter("error_description").value().map(escaped).unwrap_or_default();
                let colon = if description.is_empty() { "" } else { ": " };
                let words = format!("{}{colon}{description}", escaped(error));
                Err(CallbackError::Provider { code: known_error(error), words })
            }
            (Parameter::Once(code), _) if !code.is_empty() => Ok(Callback { code: code.to_owned(), attempt }),
            _ => Err(CallbackError::Malformed("neither code nor error")),
        }
    }
}

/// Error codes of the authorization endpoint (RFC 6749 4.1.2.1, OpenID Connect Core 3.1.2.6 and its extensions). What
/// is not listed is `unknown`, so that no text of anybody's reaches a page or a metric.
const ERRORS: [&str; 17] = [
    "access_denied",
    "account_selection_required",
    "consent_required",
    "interaction_required",
    "invalid_request",
    "invalid_request_object",
    "invalid_request_uri",
    "invalid_scope",
    "login_required",
    "registration_not_supported",
    "request_not_supported",
    "request_uri_not_supported",
    "server_error",
    "temporarily_unavailable",
    "unauthorized_client",
    "unmet_authentication_requirements",
    "unsupported_response_type",
];

fn known_error(error: &str) -> &'static str {
    ERRORS.into_iter().find(|known| *known == error).unwrap_or("unknown")
}
