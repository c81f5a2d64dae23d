//! The OpenID provider, seen from our side: metadata, keys, tokens, and the requests of the code flow.
//!
//! `transport` is the only way out and bounds it; `running` keeps metadata and keys fresh; `jwt` is the one door for
//! tokens, `id_token` the rules for one kind of them; `flow`, `exchange`, `userinfo` and `leave` are a login from its
//! first redirect to its last.

mod access;
mod claims;
mod clocks;
mod connect;
mod error;
mod exchange;
mod flow;
mod form;
mod guard;
mod id_token;
mod introspection;
mod jwt;
mod keys;
mod leave;
mod logout_token;
mod metadata;
mod pace;
mod probe;
mod protocol;
mod push;
mod running;
#[cfg(test)]
mod testing;
mod tls;
mod tokens;
mod transport;
mod userinfo;

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::config;
use crate::metrics::Metrics;
use crate::time::Clock;

pub use access::{AccessClaims, Denied, Issuer, Verifier};
pub use claims::auth_time;
pub use clocks::{Clocks, Skew};
pub use error::{CallbackError, Error};
pub use exchange::{Grant, Renewal};
pub use flow::{Ask, Attempt, Callback};
pub use leave::Switch;
pub use logout_token::LogoutToken;
pub use metadata::Metadata;
pub use probe::Acquaintance;
pub use running::Provider;
pub use tls::client_config;
pub use tokens::{AccessToken, IdToken, RefreshToken};

/// What a running provider needs from its surroundings.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The clock for background loops.
    pub clock: Clock,
    /// Where provider metrics go.
    pub metrics: Arc<Metrics>,
    /// Tasks that a shutdown waits for.
    pub tasks: TaskTracker,
    /// The clocks of all providers.
    pub clocks: Arc<Clocks>,
}

/// One registration at one running provider.
#[derive(Clone, Debug)]
pub struct Client {
    /// The issuer.
    pub provider: Arc<Provider>,
    /// What we are there.
    pub registration: Arc<config::Client>,
}
