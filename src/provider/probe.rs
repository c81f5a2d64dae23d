//! Whether a provider answers as the configuration expects, without anybody logging in: for `check --online`.

use openidconnect::{AuthorizationCode, PkceCodeVerifier};

use super::access::Denied;
use super::protocol::{self, Http};
use super::transport::Operation;
use super::{Client, Error, Provider};
use crate::time::Timestamp;

/// A code and a token that nobody issued.
const MADE_UP: &str = "vestibule-check";

/// RFC 7636 4.1 wants 43 characters at least.
const VERIFIER: &str = "vestibule-check-vestibule-check-vestibule-check";

/// What the token endpoint makes of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquaintance {
    /// It knows the client and its secret, and refused the code alone.
    Known,
    /// It does not; its error code.
    Stranger(String),
    /// It refused for another reason, so nothing is known; its error code.
    Unclear(String),
}

impl Provider {
    /// How many keys can be used; waits for one attempt when they are not known yet.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn usable_keys(&self, now: Timestamp) -> Result<usize, Error> {
        self.known(|| self.fresh_keys(now)).await.map(|keys| keys.set.len())
    }
}

impl Client {
    /// Shows a made-up code to the token endpoint. Clients are authenticated first (RFC 6749 4.1.3), so `invalid_grant`
    /// means that the secret is right.
    ///
    /// # Errors
    /// [`Error`] when there is no such answer.
    pub async fn introduce(&self, redirect_uri: &str) -> Result<Acquaintance, Error> {
        let metadata = self.provider.metadata().await?;
        let client = protocol::client(&self.registration, &metadata)?;
        let http = Http { transport: &self.provider.transport, operation: Operation::Token };
        let answer = client
            .exchange_code(AuthorizationCode::new(MADE_UP.to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(VERIFIER.to_owned()))
            .set_redirect_uri(protocol::redirect_uri(redirect_uri)?)
            .request_async(&http)
            .await;
        match answer.map_err(|error| self.refusal(error, Operation::Token, &[])) {
            Ok(_) => Err(Error::Unacceptable("it gave tokens for a code that nobody issued".to_owned())),
            Err(Error::InvalidGrant) => Ok(Acquaintance::Known),
            Err(Error::Refused(code)) => Ok(match code.as_str() {
                "invalid_client" | "unauthorized_client" => Acquaintance::Stranger(code),
                _ => Acquaintance::Unclear(code),
            }),
            Err(error) => Err(error),
        }
    }

    /// Asks about a made-up opaque token.
    ///
    /// # Errors
    /// [`Error`] when the answer is anything but that it is not active.
    pub async fn ask_about_nothing(&self) -> Result<(), Error> {
        match self.introspect(MADE_UP).await {
            Err(Denied::Provider(error)) => Err(error),
            Err(Denied::Token(_) | Denied::Audience(_) | Denied::Scope(_)) => Ok(()),
            Ok(_) => Err(Error::Unacceptable("it calls a token active that nobody issued".to_owned())),
        }
    }
}
