//! The userinfo endpoint: asked after the ID token was verified, believed only when it speaks of the same user
//! (OpenID Connect Core 5.3).

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, Request, Response};
use serde_json::{Map, Value};

use super::id_token::Claims;
use super::running::Unverifiable;
use super::tokens::AccessToken;
use super::transport::{Failure, Operation, media_type};
use super::{Client, Error, Metadata, claims};
use crate::config;
use crate::time::Timestamp;
use crate::web::strict_object;

/// Longest signed answer in bytes: the body cap of the endpoint.
const MAX_LEN: usize = 1024 * 1024;

/// Claims about the protocol, which come from the ID token alone, and things that must not be among claims at all.
const NOT_ABOUT_THE_USER: [&str; 17] = [
    "iss",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "nonce",
    "azp",
    "at_hash",
    "c_hash",
    "auth_time",
    "acr",
    "amr",
    "sid",
    "access_token",
    "refresh_token",
    "id_token",
];

impl Client {
    /// Claims of the userinfo endpoint, if the registration wants them; empty otherwise.
    pub(super) async fn userinfo(
        &self,
        metadata: &Metadata,
        access_token: &AccessToken,
        id_token: &Claims,
        now: Timestamp,
    ) -> Result<Map<String, Value>, Error> {
        let more_than_openid = self.registration.scopes.iter().any(|scope| scope != "openid");
        let endpoint = match (self.registration.userinfo, &metadata.userinfo_endpoint) {
            (config::Userinfo::Off, _) | (config::Userinfo::Auto, None) => return Ok(Map::new()),
            (config::Userinfo::Auto, Some(_)) if !more_than_openid => return Ok(Map::new()),
            (config::Userinfo::Required, None) => {
                return Err(Error::Unacceptable("it has no userinfo endpoint though one is required".to_owned()));
            }
            (config::Userinfo::Auto | config::Userinfo::Required, Some(endpoint)) => endpoint,
        };
        let request = Request::get(endpoint.as_str())
            .header(AUTHORIZATION, access_token.header())
            .header(ACCEPT, HeaderValue::from_static("application/json, application/jwt"))
            .body(Bytes::new())
            .map_err(|_| Error::Unacceptable("userinfo_endpoint is no URL".to_owned()))?;
        let answer = self.provider.transport.send(Operation::Userinfo, request).await;
        let answer = answer.map_err(|failure| match failure {
            Failure::Status(_) | Failure::Odd(_) => Error::Unacceptable(format!("userinfo: {failure}")),
            other => other.into_error(Operation::Userinfo),
        })?;
        let mut claims = self.read(&answer, now).await?;
        // 5.3.2: without this, an access token of somebody else would lend this user that user's claims.
        if claims.get("sub").and_then(Value::as_str) != Some(id_token.subject()) {
            return Err(Error::Unacceptable("userinfo: sub is not that of the ID token".to_owned()));
        }
        for name in NOT_ABOUT_THE_USER {
            claims.remove(name);
        }
        Ok(claims::without_sources(claims))
    }

    /// A JSON object, or a JWT of the issuer's for us (5.3.2).
    async fn read(&self, answer: &Response<Bytes>, now: Timestamp) -> Result<Map<String, Value>, Error> {
        let odd = |rule: &str| Error::Unacceptable(format!("userinfo: {rule}"));
        if media_type(answer.headers()) != "application/jwt" {
            return strict_object(answer.body()).map_err(|error| odd(&error.to_string()));
        }
        let token = std::str::from_utf8(answer.body()).map_err(|_| odd("it is not a JWT"))?;
        let verified = self.provider.verify(token, MAX_LEN, now).await.map_err(|error| match error {
            Unverifiable::Provider(error) => error,
            bad => odd(&bad.to_string()),
        })?;
        if verified.typ.as_deref().is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
            return Err(odd("typ is that of another kind of token"));
        }
        let claims = verified.claims;
        // Both SHOULD be there; what is there must be right.
        if claims.get("iss").is_some_and(|issuer| *issuer != self.provider.config().issuer) {
            return Err(odd("iss is not the issuer"));
        }
        if claims.contains_key("aud") {
            let audiences = claims::audiences(&claims).map_err(odd)?;
            if !audiences.contains(&self.registration.client_id.as_str()) {
                return Err(odd("aud does not name the client"));
            }
        }
        Ok(claims)
    }
}
