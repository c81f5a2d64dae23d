//! The token endpoint: a code for tokens, a refresh token for newer ones. Every token is checked before it is believed,
//! kept or sent on.

use std::time::Duration;

use openidconnect::{AuthorizationCode, PkceCodeVerifier, RequestTokenError};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::error::escaped;
use super::flow::Callback;
use super::id_token::{self, Flaw, Judge};
use super::protocol::{self, Answer, ErrorAnswer, Http};
use super::running::Unverifiable;
use super::tokens::{AccessToken, IdToken, RefreshToken};
use super::transport::{Failure, Operation};
use super::{Client, Error};
use crate::time::Timestamp;

/// How long an access token is good for when the provider does not say.
const UNSAID_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// What the token endpoint gave for a login, with the ID token verified.
#[derive(Debug)]
pub struct Grant {
    /// For upstreams.
    pub access_token: AccessToken,
    /// When the access token ends; clamped to [now, now + 10 years]; an hour when the provider does not say.
    pub access_expires_at: Timestamp,
    /// For the next refresh.
    pub refresh_token: Option<RefreshToken>,
    /// The ID token as it came.
    pub id_token: IdToken,
    /// Verified claims of the ID token.
    pub claims: Map<String, Value>,
    /// Claims of the userinfo endpoint whose `sub` was equal; empty when it was not asked. Without claims about the
    /// protocol and without tokens: those come from the ID token alone.
    pub userinfo: Map<String, Value>,
    /// `sub`.
    pub subject: String,
    /// `sid`, for logout from outside.
    pub sid: Option<String>,
}

/// What a refresh gave.
#[derive(Debug)]
pub struct Renewal {
    /// For upstreams.
    pub access_token: AccessToken,
    /// When the access token ends.
    pub access_expires_at: Timestamp,
    /// The rotated refresh token; `None`: the old one stays.
    pub refresh_token: Option<RefreshToken>,
    /// A new ID token that passed OpenID Connect Core 12.2, and its claims.
    pub id_token: Option<(IdToken, Map<String, Value>)>,
}

/// Tokens of one answer that are fit to be kept.
struct Fit {
    access_token: AccessToken,
    access_expires_at: Timestamp,
    refresh_token: Option<RefreshToken>,
}

/// The time of a request that takes time: rules about the future need to know when an answer came, not when it was
/// asked for.
#[derive(Clone, Copy)]
struct Since {
    now: Timestamp,
    begun: Instant,
}

impl Since {
    fn new(now: Timestamp) -> Self {
        Self { now, begun: Instant::now() }
    }

    fn now(&self) -> Timestamp {
        // Rounded up: whole seconds that began in between have begun.
        self.now.plus(self.begun.elapsed() + Duration::from_millis(999))
    }
}

impl Client {
    /// Exchanges the code and verifies the ID token, then userinfo where the registration asks for it. Must run in a
    /// task of its own: it may not die with the request.
    ///
    /// # Errors
    /// [`Error`]; the code is never sent twice.
    pub async fn exchange(&self, callback: Callback, now: Timestamp) -> Result<Grant, Error> {
        let clock = Since::new(now);
        let Callback { attempt, code } = callback;
        let metadata = self.provider.metadata().await?;
        let client = protocol::client(&self.registration, &metadata)?;
        let http = Http { transport: &self.provider.transport, operation: Operation::Token };
        let answer = client
            .exchange_code(AuthorizationCode::new(code.clone()))
            .set_pkce_verifier(PkceCodeVerifier::new(attempt.code_verifier().to_owned()))
            .set_redirect_uri(protocol::redirect_uri(attempt.redirect_uri())?)
            .request_async(&http)
            .await;
        // Whatever an endpoint answers that is no answer, this login is over: that is the provider's fault (CB-19).
        let answer = answer.map_err(|error| match error {
            RequestTokenError::Request(failure @ (Failure::Status(_) | Failure::Odd(_))) => {
                Error::Unacceptable(format!("token endpoint: {failure}"))
            }
            error => self.refusal(error, Operation::Token, &[&code, attempt.code_verifier()]),
        })?;
        let fit = fit(&answer, now)?;
        let id_token = answer.id_token().ok_or_else(|| Error::Unacceptable("id_token is missing".to_owned()))?;
        let came = clock.now();
        let verified = self.provider.verify(id_token, id_token::MAX_LEN, now).await.map_err(unverifiable)?;
        self.provider.transport.clock.sent(&verified, came);
        let judge = Judge { client: &self.registration, access_token: &fit.access_token, now: clock.now() };
        let claims = judge.login(verified, &attempt).map_err(|flaw| match flaw {
            Flaw::Broken(broken) => judge.error(broken),
            Flaw::Short(of) => Error::NotSteppedUp(of),
        })?;
        let userinfo = self.userinfo(&metadata, &fit.access_token, &claims, now).await?;
        let Fit { access_token, access_expires_at, refresh_token } = fit;
        Ok(Grant {
            access_token,
            access_expires_at,
            refresh_token,
            id_token: IdToken::from_stored(id_token),
            subject: claims.subject().to_owned(),
            sid: claims.sid().map(str::to_owned),
            claims: claims.into_map(),
            userinfo,
        })
    }

    /// Uses a refresh token once. `before` are the claims of the session's ID token (OpenID Connect Core 12.2).
    ///
    /// # Errors
    /// [`Error`]; see [`Error::ends_session`].
    pub async fn refresh(
        &self,
        token: &RefreshToken,
        before: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<Renewal, Error> {
        let clock = Since::new(now);
        let metadata = self.provider.metadata().await?;
        let client = protocol::client(&self.registration, &metadata).map_err(misconfigured)?;
        let http = Http { transport: &self.provider.transport, operation: Operation::Refresh };
        let refresh_token = openidconnect::RefreshToken::new(token.expose().to_owned());
        let answer = client.exchange_refresh_token(&refresh_token).request_async(&http).await;
        let answer = answer.map_err(|error| self.refusal(error, Operation::Refresh, &[token.expose()]))?;
        let fit = fit(&answer, now)?;
        let judge = Judge { client: &self.registration, access_token: &fit.access_token, now: clock.now() };
        let id_token = match answer.id_token() {
            Some(id_token) => self.refreshed(id_token, judge, before, now).await?,
            None => None,
        };
        let Fit { access_token, access_expires_at, refresh_token } = fit;
        Ok(Renewal { access_token, access_expires_at, refresh_token, id_token })
    }

    /// The new ID token of a refresh, verified and judged; `None` when there are no keys to verify it with. A refresh
    /// need not bring one at all, and failing here would lose a refresh token that the provider has just rotated.
    async fn refreshed(
        &self,
        id_token: &str,
        judge: Judge<'_>,
        before: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<Option<(IdToken, Map<String, Value>)>, Error> {
        match self.provider.verify(id_token, id_token::MAX_LEN, now).await {
            Ok(verified) => {
                self.provider.transport.clock.sent(&verified, judge.now);
                let claims = judge.refreshed(verified, before).map_err(|broken| judge.error(broken))?;
                Ok(Some((IdToken::from_stored(id_token), claims.into_map())))
            }
            Err(error @ Unverifiable::Invalid(_)) => Err(unverifiable(error)),
            Err(error @ (Unverifiable::ForWantOfKeys(_) | Unverifiable::Provider(_))) => {
                let name = &self.provider.config().name;
                tracing::warn!(provider = %name, %error, "a refreshed ID token is left out: it cannot be verified");
                Ok(None)
            }
        }
    }

    /// What a failed token request means. `sent` are the secrets in it, which a description may echo.
    pub(super) fn refusal(
        &self,
        error: RequestTokenError<Failure, ErrorAnswer>,
        operation: Operation,
        sent: &[&str],
    ) -> Error {
        let answer = match error {
            RequestTokenError::ServerResponse(answer) => answer,
            RequestTokenError::Request(failure) => return failure.into_error(operation),
            // The object was strict JSON, so this is a rule of ours (`Answer`), in our words.
            RequestTokenError::Parse(error, _) => return Error::Unacceptable(error.into_inner().to_string()),
            RequestTokenError::Other(_) => return Error::Unavailable("the request could not be made".to_owned()),
        };
        let code = answer.error().as_ref().to_owned();
        self.log_refusal(&code, answer.error_description().map(String::as_str), sent);
        if code == "invalid_grant" { Error::InvalidGrant } else { Error::Refused(escaped(&code)) }
    }

    fn log_refusal(&self, code: &str, description: Option<&str>, sent: &[&str]) {
        let secret = self.registration.client_secret.as_ref().map(|secret| secret.expose());
        let mut secrets = sent.iter().copied().chain(secret).filter(|secret| !secret.is_empty());
        let description = description.unwrap_or_default();
        let echoes = secrets.any(|secret| description.contains(secret) || code.contains(secret));
        let (code, description) = if echoes { ("[echoes a secret]", "") } else { (code, description) };
        tracing::warn!(
            provider = %self.provider.config().name,
            error = escaped(code),
            description = escaped(description),
            "token endpoint refused"
        );
    }
}

/// Checks what can be checked without keys: tokens that cannot be sent on are none. Lifetimes count from when the answer
/// was asked for, so that none is taken for longer than it is.
fn fit(answer: &Answer, now: Timestamp) -> Result<Fit, Error> {
    let unfit =
        |what: &str| Error::Unacceptable(format!("{what} is empty, too long, or has characters that no token has"));
    let access_token = AccessToken::from_stored(answer.access_token()).ok_or_else(|| unfit("access_token"))?;
    let refresh_token = match answer.refresh_token() {
        Some(text) => Some(RefreshToken::from_stored(text).ok_or_else(|| unfit("refresh_token"))?),
        None => None,
    };
    let access_expires_at = now.plus(answer.expires_in().unwrap_or(UNSAID_LIFETIME));
    Ok(Fit { access_token, access_expires_at, refresh_token })
}

fn unverifiable(error: Unverifiable) -> Error {
    match error {
        Unverifiable::Provider(error) => error,
        bad => Error::Unacceptable(format!("ID token: {bad}")),
    }
}

/// A registration that does not fit the metadata is for the operator to mend; sessions and bearers wait.
pub(super) fn misconfigured(error: Error) -> Error {
    match error {
        Error::Unacceptable(rule) => Error::Unavailable(rule),
        other => other,
    }
}
