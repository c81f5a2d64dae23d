//! Revoking the refresh tokens of sessions that somebody else than their user has ended, a few at a time (RFC 7009).

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::provider::Client;
use crate::session::{Party, Session};

/// How many are revoked at once: an operator may end a hundred thousand sessions in one call.
const AT_ONCE: usize = 8;

/// Revokes in the background; outlives snapshots.
pub struct Revoker {
    clients: RwLock<BTreeMap<Party, Client>>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Whoever ends a session may be a thread of the store's.
    runtime: Option<Handle>,
}

impl Revoker {
    /// Revokes in tasks of `tasks`, on the runtime that this is called on; without one, nothing is revoked.
    #[must_use]
    pub fn new(tasks: TaskTracker) -> Self {
        let (places, runtime) = (Arc::new(Semaphore::new(AT_ONCE)), Handle::try_current().ok());
        Self { clients: RwLock::default(), places, tasks, runtime }
    }

    /// From now on, these are the clients of sessions.
    pub fn adopt(&self, clients: BTreeMap<Party, Client>) {
        *self.clients.write().unwrap_or_else(PoisonError::into_inner) = clients;
    }

    /// Revokes the refresh token of a session that has ended, at its own client, unless it was asked for to outlive the
    /// session (OpenID Connect Back-Channel Logout 1.0, 2.7).
    pub fn revoke(&self, session: &Session) {
        let Some(token) = session.tokens.refresh.clone() else { return };
        let client = {
            let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
            clients.get(&Party::from(&*session.binding)).cloned()
        };
        let (Some(client), Some(runtime)) = (client, &self.runtime) else { return };
        if client.registration.scopes.iter().any(|scope| scope == "offline_access") {
            return;
        }
        let places = Arc::clone(&self.places);
        let revoke = async move {
            let _place = places.acquire().await;
            client.revoke(&token).await;
        };
        self.tasks.spawn_on(revoke, runtime);
    }
}

impl std::fmt::Debug for Revoker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Revoker")
    }
}
