//! How the errors of lower layers become refusals: the one place where their causes get a status.

use std::time::Duration;

use crate::error::{Reason, Refusal};
use crate::provider::{self, CallbackError, Skew};
use crate::{session, web};

/// When a client may ask again for something that the provider or the store could not give.
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl From<web::RandomError> for Refusal {
    fn from(error: web::RandomError) -> Self {
        Self::new(Reason::Internal).because(error)
    }
}

impl From<session::Error> for Refusal {
    fn from(error: session::Error) -> Self {
        let mut refusal = Self::new(Reason::StoreUnavailable).because(error);
        refusal.retry_after = Some(RETRY_AFTER);
        refusal
    }
}

impl From<provider::Error> for Refusal {
    fn from(error: provider::Error) -> Self {
        use provider::Error as E;
        let reason = match &error {
            E::Unavailable(_) => Reason::ProviderUnavailable,
            E::Timeout(_) => Reason::ProviderTimeout,
            E::InvalidGrant | E::Refused(_) | E::Unacceptable(_) | E::Clock { .. } => Reason::LoginFailed,
            E::NotSteppedUp(_) => Reason::StepUpFailed,
            E::Random(_) => Reason::Internal,
            E::Callback(CallbackError::State) => Reason::UnknownLogin,
            E::Callback(CallbackError::Issuer) => Reason::IssuerMismatch,
            E::Callback(CallbackError::Expired) => Reason::LoginExpired,
            E::Callback(CallbackError::Malformed(_)) => Reason::BadRequest,
            E::Callback(CallbackError::Provider { code, .. }) => of_provider(code),
        };
        let mut refusal = Self::new(reason).because(&error);
        if let E::Clock { skew, .. } = error {
            refusal.words = Some(of_clocks(skew).into());
        }
        if reason == Reason::ProviderUnavailable {
            refusal.retry_after = Some(RETRY_AFTER);
        }
        refusal
    }
}

/// For the page; the first sentence is for the user, the second for whoever runs the site.
fn of_clocks(skew: Skew) -> String {
    let direction = if skew.seconds() > 0.0 { "ahead of" } else { "behind" };
    let seconds = skew.seconds().abs();
    format!(
        "By the times in its answer, the clock of the sign-in service is {seconds:.0} seconds {direction} the clock of \
         this site, so nobody can sign in. Whoever runs this site has to see that both clocks are set by NTP (cause: \
         clock)."
    )
}

/// The error codes of OpenID Connect Core 3.1.2.6 and RFC 6749 4.1.2.1, as far as they call for different answers.
fn of_provider(code: &str) -> Reason {
    match code {
        "login_required" => Reason::LoginRequired,
        "access_denied" | "interaction_required" | "consent_required" | "account_selection_required" => {
            Reason::AccessDenied
        }
        // OpenID Connect Core Error Code unmet_authentication_requirements 1.0.
        "unmet_authentication_requirements" => Reason::StepUpFailed,
        _ => Reason::ProviderRefused,
    }
}
