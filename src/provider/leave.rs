//! The way out: tokens revoked, and the URL where the browser ends its session at the provider.

use std::time::Duration;

use openidconnect::{ClientId, CsrfToken, EndSessionUrl, LogoutRequest, PostLogoutRedirectUrl};
use tokio::time::timeout;
use url::Url;

use super::tokens::{IdToken, RefreshToken};
use super::transport::Operation;
use super::{Client, form};

/// How somebody who is logged in at the provider becomes somebody else there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// By a login with this `prompt`.
    Prompt(&'static str),
    /// By signing out first.
    SignOut,
}

/// Nobody waits longer for a revocation: the session here is over already.
const REVOCATION_LIMIT: Duration = Duration::from_secs(2);

impl Client {
    /// Revokes a refresh token, best effort within two seconds (RFC 7009).
    pub async fn revoke(&self, token: &RefreshToken) {
        let Some(metadata) = self.provider.known_metadata() else {
            return;
        };
        let Some(endpoint) = &metadata.revocation_endpoint else {
            return;
        };
        let parameters = [("token", token.expose()), ("token_type_hint", "refresh_token")];
        let Ok(request) = form::authenticated(&self.registration, &metadata, endpoint, &parameters) else {
            return;
        };
        let sent = self.provider.transport.send(Operation::Revocation, request);
        let name = &self.provider.config().name;
        match timeout(REVOCATION_LIMIT, sent).await {
            Ok(Ok(_)) => {}
            Ok(Err(failure)) => tracing::info!(provider = %name, %failure, "refresh token was not revoked"),
            Err(_) => tracing::info!(provider = %name, "refresh token was not revoked in time"),
        }
    }

    /// How people change accounts at this provider.
    ///
    /// `select_account` is meant for it, but many refuse or ignore that prompt (Keycloak, Ory, Logto), and most of them
    /// refuse another person's answer to `login` while somebody is signed in. So it is sent to those that announce it,
    /// and to those that say nothing of prompts and let nobody sign out, which is how Google is.
    #[must_use]
    pub fn switch(&self) -> Switch {
        let Some(metadata) = self.provider.known_metadata() else { return Switch::Prompt("login") };
        let prompts = metadata.prompt_values_supported.as_deref();
        let chooses = prompts.map(|known| known.iter().any(|prompt| prompt == "select_account"));
        match (chooses, &metadata.end_session_endpoint) {
            (Some(true), _) | (None, None) => Switch::Prompt("select_account"),
            (_, Some(_)) => Switch::SignOut,
            (Some(false), None) => Switch::Prompt("login"),
        }
    }

    /// The end-session URL (OpenID Connect RP-Initiated Logout 2), or `None` when the provider has none.
    #[must_use]
    pub fn end_session(&self, hint: Option<&IdToken>, return_to: &str, state: &str) -> Option<Url> {
        let endpoint = self.provider.known_metadata()?.end_session_endpoint.clone()?;
        let request = LogoutRequest::from(EndSessionUrl::from_url(endpoint))
            .set_client_id(ClientId::new(self.registration.client_id.clone()))
            .set_post_logout_redirect_uri(PostLogoutRedirectUrl::new(return_to.to_owned()).ok()?)
            .set_state(CsrfToken::new(state.to_owned()));
        let mut url = request.http_get_url();
        // The one token that a browser ever sees (see `lib`). Appended here because the crate would parse it again.
        if let Some(hint) = hint.filter(|_| self.registration.id_token_hint) {
            url.query_pairs_mut().append_pair("id_token_hint", hint.expose());
        }
        Some(url)
    }
}
