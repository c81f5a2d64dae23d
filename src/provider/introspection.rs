//! Opaque tokens: only their issuer knows what they are good for, so it is asked (RFC 7662).

use serde_json::{Map, Value};

use super::access::Denied;
use super::exchange::misconfigured;
use super::transport::Operation;
use super::{Client, Error, form};
use crate::web::strict_object;

impl Client {
    /// What the issuer says about `token`, which is active. Times, audience and scopes are not judged yet.
    ///
    /// # Errors
    /// [`Denied`]: the token is not active, or nobody can tell.
    pub(super) async fn introspect(&self, token: &str) -> Result<Map<String, Value>, Denied> {
        let metadata = self.provider.metadata().await?;
        let endpoint = metadata.introspection_endpoint.as_ref();
        let endpoint = endpoint.ok_or_else(|| Error::Unavailable("it has no introspection endpoint".to_owned()))?;
        let parameters = [("token", token), ("token_type_hint", "access_token")];
        let request =
            form::authenticated(&self.registration, &metadata, endpoint, &parameters).map_err(misconfigured)?;
        let answer = self.provider.transport.send(Operation::Introspection, request).await;
        let answer = answer.map_err(|failure| failure.into_error(Operation::Introspection))?;
        let mut claims =
            strict_object(answer.body()).map_err(|error| Error::Unavailable(format!("introspection: {error}")))?;
        // 2.2: a boolean, and nothing else that is true in some language.
        match claims.remove("active") {
            Some(Value::Bool(true)) => Ok(claims),
            Some(Value::Bool(false)) => Err("the issuer says that it is not active".into()),
            _ => Err(Error::Unavailable("introspection: active is no boolean".to_owned()).into()),
        }
    }
}
