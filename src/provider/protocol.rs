//! The seam to `openidconnect`: its client, our transport under it, and the token endpoint's answer as we read it.
//!
//! The crate builds URLs and requests and knows the error answers; verification is ours (`jwt`, `id_token`), and its
//! many type parameters do not leave this file.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreErrorResponseType, CoreGenderClaim, CoreIdToken, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreRevocableToken, CoreRevocationErrorResponse,
    CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AccessToken, AsyncHttpClient, AuthType, AuthUrl, ClientId, ClientSecret, EmptyAdditionalClaims, EndpointNotSet,
    EndpointSet, HttpRequest, HttpResponse, IssuerUrl, JsonWebKeySet, OAuth2TokenResponse, RedirectUrl, RefreshToken,
    Scope, StandardErrorResponse, TokenResponse, TokenUrl,
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::transport::{Failure, Operation, Transport};
use super::{Error, Metadata, claims};
use crate::config::{self, AuthMethod};
use crate::web::strict_object;

/// Error answers of the token endpoint (RFC 6749 5.2).
pub(super) type ErrorAnswer = StandardErrorResponse<CoreErrorResponseType>;

/// `openidconnect`'s client with an authorization and a token endpoint, and with our [`Answer`].
pub(super) type Oidc = openidconnect::Client<
    EmptyAdditionalClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    ErrorAnswer,
    Answer,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
    EndpointNotSet,
>;

/// A client for one registration.
///
/// # Errors
/// [`Error::Unacceptable`] when the provider does not offer a way to authenticate us.
pub(super) fn client(registration: &config::Client, metadata: &Metadata) -> Result<Oidc, Error> {
    let odd = |_| Error::Unacceptable("an endpoint is no URL".to_owned());
    let issuer = IssuerUrl::new(registration.provider.issuer.clone()).map_err(odd)?;
    let auth = AuthUrl::new(metadata.authorization_endpoint.to_string()).map_err(odd)?;
    let token = TokenUrl::new(metadata.token_endpoint.to_string()).map_err(odd)?;
    let id = ClientId::new(registration.client_id.clone());
    let client = openidconnect::Client::new(id, issuer, JsonWebKeySet::default());
    let client = client.set_auth_uri(auth).set_token_uri(token);
    let kind = match auth_method(registration, metadata)? {
        AuthMethod::ClientSecretBasic => AuthType::BasicAuth,
        AuthMethod::ClientSecretPost | AuthMethod::None => AuthType::RequestBody,
    };
    let client = client.set_auth_type(kind);
    Ok(match &registration.client_secret {
        Some(secret) => client.set_client_secret(ClientSecret::new(secret.expose().to_owned())),
        None => client,
    })
}

/// How the token endpoint gets to know us: as configured, else as the metadata allow, `client_secret_basic` first.
pub(super) fn auth_method(registration: &config::Client, metadata: &Metadata) -> Result<AuthMethod, Error> {
    // A public client has nothing to authenticate with, and providers that take them do not always list `none`.
    if registration.client_secret.is_none() {
        return Ok(AuthMethod::None);
    }
    let offered = |method| match &metadata.token_endpoint_auth_methods_supported {
        Some(list) => list.iter().any(|name| name == method_name(method)),
        // RFC 8414 2: what a provider that does not say offers.
        None => method == AuthMethod::ClientSecretBasic,
    };
    match registration.token_endpoint_auth_method {
        Some(method) if metadata.token_endpoint_auth_methods_supported.is_none() || offered(method) => Ok(method),
        Some(method) => Err(Error::Unacceptable(format!(
            "it does not offer the configured token_endpoint_auth_method {}",
            method_name(method)
        ))),
        None => [AuthMethod::ClientSecretBasic, AuthMethod::ClientSecretPost]
            .into_iter()
            .find(|method| offered(*method))
            .ok_or_else(|| Error::Unacceptable("it offers no token_endpoint_auth_method that we know".to_owned())),
    }
}

const fn method_name(method: AuthMethod) -> &'static str {
    match method {
        AuthMethod::ClientSecretBasic => "client_secret_basic",
        AuthMethod::ClientSecretPost => "client_secret_post",
        AuthMethod::None => "none",
    }
}

/// A redirect URI, kept byte for byte.
pub(super) fn redirect_uri(text: &str) -> Result<Cow<'static, RedirectUrl>, Error> {
    let uri = RedirectUrl::new(text.to_owned());
    uri.map(Cow::Owned).map_err(|_| Error::Unacceptable("redirect_uri is no URL".to_owned()))
}

/// Our transport as `openidconnect` calls it: only for the token endpoint.
#[derive(Debug)]
pub(super) struct Http<'t> {
    /// Where requests go.
    pub(super) transport: &'t Transport,
    /// What they are for.
    pub(super) operation: Operation,
}

impl<'c> AsyncHttpClient<'c> for Http<'_> {
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, Failure>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let answer = self.transport.send(self.operation, request.map(Bytes::from)).await?;
            // Read strictly before the crate reads it: it would take the last of two members, and stop at the end of
            // the first document.
            let strict = strict_object(answer.body());
            if strict.is_err() && !answer.status().is_success() {
                return Err(Failure::Status(answer.status().as_u16()));
            }
            strict.map_err(|_| Failure::Odd("its body is not one strict JSON object"))?;
            Ok(answer.map(Into::into))
        })
    }
}

/// What the token endpoint answers (RFC 6749 5.1, OpenID Connect Core 3.1.3.3). Tokens are not checked yet.
#[derive(Clone, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub(super) struct Answer {
    access_token: AccessToken,
    expires_in: Option<Duration>,
    refresh_token: Option<RefreshToken>,
    id_token: Option<String>,
}

impl Answer {
    /// `access_token`.
    pub(super) fn access_token(&self) -> &str {
        self.access_token.secret()
    }

    /// `expires_in`, clamped to ten years.
    pub(super) const fn expires_in(&self) -> Option<Duration> {
        self.expires_in
    }

    /// `refresh_token`.
    pub(super) fn refresh_token(&self) -> Option<&str> {
        self.refresh_token.as_ref().map(|token| token.secret().as_str())
    }

    /// `id_token`.
    pub(super) fn id_token(&self) -> Option<&str> {
        self.id_token.as_deref()
    }
}

impl TryFrom<Map<String, Value>> for Answer {
    type Error = &'static str;

    fn try_from(mut members: Map<String, Value>) -> Result<Self, &'static str> {
        if members.contains_key("error") {
            return Err("it reports an error with status 200");
        }
        let mut text = |name: &str, wrong| match members.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong),
        };
        let kind = text("token_type", "token_type is not a string")?.ok_or("token_type is missing")?;
        if !kind.eq_ignore_ascii_case("Bearer") {
            return Err("token_type is not Bearer");
        }
        let access_token = text("access_token", "access_token is not a string")?.ok_or("access_token is missing")?;
        let refresh_token = text("refresh_token", "refresh_token is not a string")?;
        let id_token = text("id_token", "id_token is not a string")?;
        Ok(Self {
            access_token: AccessToken::new(access_token),
            expires_in: members.get("expires_in").and_then(lifetime),
            // An empty one is what some providers send for none.
            refresh_token: refresh_token.filter(|token| !token.is_empty()).map(RefreshToken::new),
            id_token,
        })
    }
}

/// Seconds as a number or, as some send them, a string; clamped to [0, 10 years]. What is neither was not said.
fn lifetime(value: &Value) -> Option<Duration> {
    const MAX: i64 = 10 * 365 * 24 * 60 * 60;
    let seconds = match value {
        Value::Number(number) => claims::seconds(number),
        Value::String(text) => claims::seconds(&text.trim().parse().ok()?),
        _ => return None,
    };
    Some(Duration::from_secs(seconds.unix().clamp(0, MAX).unsigned_abs()))
}

impl fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[tokens]")
    }
}

/// The crate's trait asks for it; tokens are never written anywhere by way of it.
impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl OAuth2TokenResponse for Answer {
    type TokenType = CoreTokenType;

    fn access_token(&self) -> &AccessToken {
        &self.access_token
    }

    fn token_type(&self) -> &CoreTokenType {
        &CoreTokenType::Bearer
    }

    fn expires_in(&self) -> Option<Duration> {
        self.expires_in
    }

    fn refresh_token(&self) -> Option<&RefreshToken> {
        self.refresh_token.as_ref()
    }

    fn scopes(&self) -> Option<&Vec<Scope>> {
        None
    }
}

impl TokenResponse<EmptyAdditionalClaims, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>
    for Answer
{
    /// Never: the ID token goes to our own verification as it came.
    fn id_token(&self) -> Option<&CoreIdToken> {
        None
    }
}
