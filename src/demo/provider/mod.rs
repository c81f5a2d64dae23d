//! The development provider: an OpenID provider that is right by default and wrong on request, on loopback only.
//!
//! Tests drive it through its handle ([`DemoProvider`]): rotate keys, revoke, go down, count requests, and queue
//! [`Mutation`]s. A request is read whole into a `Call`, noted in the journal, answered by the file of its endpoint
//! out of the `Ledger`, and bent by the mutations that are due. Every secret carries a marker, so that a leak is found
//! by searching for it.

mod authorize;
mod call;
mod client;
mod device;
mod discovery;
mod end_session;
mod introspection;
mod journal;
mod jwt;
mod key;
mod ledger;
mod misbehave;
mod mutation;
mod revocation;
mod server;
mod setup;
mod token;
mod user;
mod userinfo;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use client::Client;
pub use journal::{Authentication, Endpoint, Secret, Seen};
pub use key::Algorithm;
pub use mutation::{JwtMutation, Kind, Mutation, Nth, SignWith};
pub use setup::{KeySet, Options};
pub use user::User;

use ledger::{Grant, Ledger, Login};
use setup::Setup;

/// The provider cannot make an answer: no randomness, or no such key.
#[derive(Debug, thiserror::Error)]
#[error("the development provider has no key or no randomness")]
struct Broken;

/// What all connections share.
struct Shared {
    setup: Setup,
    ledger: Mutex<Ledger>,
}

impl Shared {
    /// The ledger; one that a panic left locked is still a ledger.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running provider. It ends when the handle is dropped.
pub struct DemoProvider {
    shared: Arc<Shared>,
    address: SocketAddr,
    line: Mutex<Line>,
    tasks: TaskTracker,
}

/// Whether the provider can be reached.
enum Line {
    /// Until the token is cancelled.
    Up(CancellationToken),
    /// The port is held, and refuses connections.
    Down(Option<TcpSocket>),
}

impl DemoProvider {
    /// Binds and serves.
    ///
    /// # Errors
    /// An address that is not on loopback or is taken; no keys.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = server::bind(options.listen)?;
        let address = listener.local_addr()?;
        // Making the first RSA key of a process takes long enough to hold up other tasks.
        let (ring, options) = tokio::task::spawn_blocking(move || (options.ring(), options)).await?;
        let ring = ring.map_err(io::Error::other)?;
        let mut ledger = Ledger::new(ring, &options.canary, options.access_token_lifetime);
        for secret in options.clients.iter().filter_map(|client| client.secret.as_ref()) {
            ledger.remember(Secret::ClientSecret, secret);
        }
        let setup = Setup::new(options, address).map_err(io::Error::other)?;
        let shared = Arc::new(Shared { setup, ledger: Mutex::new(ledger) });
        let provider = Self { shared, address, line: Mutex::new(Line::Down(None)), tasks: TaskTracker::new() };
        provider.serve(listener);
        Ok(provider)
    }

    /// Serves `listener` from now on.
    fn serve(&self, listener: tokio::net::TcpListener) {
        let stop = CancellationToken::new();
        let tasks = self.tasks.clone();
        self.tasks.spawn(server::serve(listener, Arc::clone(&self.shared), tasks, stop.clone()));
        *self.line() = Line::Up(stop);
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The issuer identifier.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.shared.setup.issuer
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of an endpoint.
    #[must_use]
    pub fn url(&self, endpoint: Endpoint) -> String {
        self.shared.setup.url(endpoint)
    }

    /// Replaces all keys; tokens signed before can no longer be verified.
    ///
    /// # Errors
    /// No randomness.
    pub fn rotate_keys(&self) -> io::Result<()> {
        let mut ledger = self.shared.ledger();
        ledger.ring = ledger.ring.rotated().map_err(io::Error::other)?;
        Ok(())
    }

    /// How long access tokens issued from now on are good for.
    pub fn set_access_token_lifetime(&self, lifetime: Duration) {
        self.shared.ledger().access_token_lifetime = lifetime;
    }

    /// An access token of `user` for the client `client_id`, as a grant with these scopes would bring it, with changes.
    ///
    /// # Errors
    /// No such user, no randomness, or a change that cannot be made.
    pub fn access_token(
        &self,
        (user, client_id): (&str, &str),
        scopes: &[&str],
        changes: &[JwtMutation],
    ) -> io::Result<String> {
        let setup = &self.shared.setup;
        let user = setup
            .users
            .iter()
            .find(|known| known.is_called(user))
            .ok_or_else(|| io::Error::other("no such user"))?;
        let now = setup.clock.now();
        let sid = format!("sid-of-{}", user.name);
        let login = Login { user: user.clone(), since: now, acr: setup.acr(""), sid };
        let grant = Grant::new(&login, client_id, scopes.iter().map(|scope| (*scope).to_owned()).collect(), None);
        let mut ledger = self.shared.ledger();
        let token = token::access_token(setup, &mut ledger, now, (&grant, changes)).map_err(io::Error::other)?;
        ledger.remember(Secret::AccessToken, &token);
        Ok(token)
    }

    /// A logout token that says of `subject`, or of its session `sid`, to the client `client_id` that it has logged out,
    /// with changes (OpenID Connect Back-Channel Logout 1.0, 2.4).
    ///
    /// # Errors
    /// No randomness, or a change that cannot be made.
    pub fn logout_token(
        &self,
        (subject, sid, client_id): (&str, Option<&str>, &str),
        changes: &[JwtMutation],
    ) -> io::Result<String> {
        let setup = &self.shared.setup;
        let now = setup.clock.now();
        token::logout_token(setup, &self.shared.ledger(), now, (subject, sid, client_id), changes)
            .map_err(io::Error::other)
    }

    /// Ends all logins, codes and tokens.
    pub fn revoke_all(&self) {
        self.shared.ledger().revoke_all();
    }

    /// How often a refresh token came that was used before.
    #[must_use]
    pub fn reuses(&self) -> u64 {
        self.shared.ledger().reuses
    }

    /// The requests so far, oldest first.
    #[must_use]
    pub fn journal(&self) -> Vec<Seen> {
        self.shared.ledger().journal.to_vec()
    }

    /// How many requests an endpoint had so far.
    #[must_use]
    pub fn count(&self, endpoint: Endpoint) -> u64 {
        self.shared.ledger().counts.get(&endpoint).copied().unwrap_or(0)
    }

    /// Every secret that was issued here or seen here, oldest first.
    #[must_use]
    pub fn issued(&self) -> Vec<(Secret, String)> {
        self.shared.ledger().secrets.to_vec()
    }

    /// Answers of an endpoint take this much longer from now on.
    pub fn delay(&self, endpoint: Endpoint, time: Duration) {
        self.shared.ledger().delays.insert(endpoint, time);
    }

    /// Queues a lie.
    pub fn mutate(&self, mutation: Mutation) {
        self.shared.ledger().queue.push(mutation);
    }

    /// Tells the truth again.
    pub fn clear_mutations(&self) {
        self.shared.ledger().queue.clear();
    }

    /// Closes the port and every connection. The port stays reserved, so that [`come_up`](Self::come_up) finds it.
    ///
    /// # Errors
    /// The port was taken in the instant between.
    pub async fn go_down(&self) -> io::Result<()> {
        if let Line::Up(stop) = &*self.line() {
            stop.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
        let socket = server::reserve(self.address)?;
        *self.line() = Line::Down(Some(socket));
        Ok(())
    }

    /// Listens again.
    ///
    /// # Errors
    /// The system's.
    pub fn come_up(&self) -> io::Result<()> {
        let socket = match &mut *self.line() {
            Line::Down(socket) => socket.take(),
            Line::Up(_) => None,
        };
        if let Some(socket) = socket {
            self.serve(server::listen(socket)?);
        }
        Ok(())
    }
}

impl Drop for DemoProvider {
    fn drop(&mut self) {
        if let Line::Up(stop) = &*self.line() {
            stop.cancel();
        }
    }
}
