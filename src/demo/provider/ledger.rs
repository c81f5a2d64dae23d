//! What the development provider remembers: who is logged in, what it issued, and what it was asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Broken;
use super::device::Device;
use super::journal::{Bounded, Endpoint, REMEMBERED, Secret, Seen};
use super::key::Ring;
use super::mutation::Queue;
use super::user::User;
use crate::time::Timestamp;
use crate::web;

/// One consent: a user, a client, and every token that came of it. Revoking it revokes them all.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) user: User,
    pub(super) client_id: String,
    pub(super) scopes: Vec<String>,
    pub(super) nonce: Option<String>,
    pub(super) auth_time: Timestamp,
    pub(super) acr: String,
    pub(super) sid: String,
    revoked: AtomicBool,
}

impl Grant {
    /// A grant in force.
    pub(super) fn new(login: &Login, client_id: &str, scopes: Vec<String>, nonce: Option<String>) -> Self {
        Self {
            user: login.user.clone(),
            client_id: client_id.to_owned(),
            scopes,
            nonce,
            auth_time: login.since,
            acr: login.acr.clone(),
            sid: login.sid.clone(),
            revoked: AtomicBool::new(false),
        }
    }

    /// Ends it, and all its tokens.
    pub(super) fn revoke(&self) {
        self.revoked.store(true, Ordering::Relaxed);
    }

    /// Whether it was ended.
    pub(super) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Relaxed)
    }
}

/// A user logged in at the provider, in one browser.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub(super) user: User,
    pub(super) since: Timestamp,
    pub(super) acr: String,
    pub(super) sid: String,
}

/// A code, an access token or a refresh token.
pub(super) struct Issued {
    pub(super) grant: Arc<Grant>,
    pub(super) expires_at: Timestamp,
    /// Codes and rotating refresh tokens are good for one use.
    pub(super) used: bool,
    /// What only codes have.
    pub(super) code: Option<CodeTerms>,
}

/// What the token request of a code must repeat or prove.
pub(super) struct CodeTerms {
    pub(super) redirect_uri: String,
    pub(super) challenge: String,
}

/// Everything that changes.
pub(super) struct Ledger {
    pub(super) ring: Ring,
    pub(super) logins: HashMap<String, Login>,
    pub(super) codes: HashMap<String, Issued>,
    pub(super) access_tokens: HashMap<String, Issued>,
    pub(super) refresh_tokens: HashMap<String, Issued>,
    /// Programs that wait for their person, by device code.
    pub(super) devices: HashMap<String, Device>,
    pub(super) access_token_lifetime: Duration,
    pub(super) reuses: u64,
    pub(super) queue: Queue,
    pub(super) delays: HashMap<Endpoint, Duration>,
    pub(super) journal: Bounded<Seen>,
    pub(super) counts: HashMap<Endpoint, u64>,
    pub(super) secrets: Bounded<(Secret, String)>,
    canary: String,
    serial: u64,
}

impl Ledger {
    /// An empty one.
    pub(super) fn new(ring: Ring, canary: &str, access_token_lifetime: Duration) -> Self {
        Self {
            ring,
            logins: HashMap::new(),
            codes: HashMap::new(),
            access_tokens: HashMap::new(),
            refresh_tokens: HashMap::new(),
            devices: HashMap::new(),
            access_token_lifetime,
            reuses: 0,
            queue: Queue::default(),
            delays: HashMap::new(),
            journal: Bounded::default(),
            counts: HashMap::new(),
            secrets: Bounded::default(),
            canary: canary.to_owned(),
            serial: 0,
        }
    }

    /// A secret that can be found again wherever it leaks: marker, kind, number, and 256 random bits.
    ///
    /// # Errors
    /// [`Broken`] without randomness.
    pub(super) fn marked(&mut self, kind: Secret) -> Result<String, Broken> {
        self.serial += 1;
        let random = web::token().map_err(|_| Broken)?;
        Ok(format!("canary-{}-{}-{}-{random}", self.canary, kind.word(), self.serial))
    }

    /// Lists a secret among those that must not leak.
    pub(super) fn remember(&mut self, kind: Secret, value: &str) {
        self.secrets.push((kind, value.to_owned()));
    }

    /// Ends every login and grant.
    pub(super) fn revoke_all(&mut self) {
        self.logins.clear();
        let all = self.codes.values().chain(self.access_tokens.values()).chain(self.refresh_tokens.values());
        all.for_each(|issued| issued.grant.revoke());
    }

    /// Ends the logins and grants of one `sid`.
    pub(super) fn end(&mut self, sid: &str) {
        self.logins.retain(|_, login| login.sid != sid);
        let all = self.codes.values().chain(self.access_tokens.values()).chain(self.refresh_tokens.values());
        all.filter(|issued| issued.grant.sid == sid).for_each(|issued| issued.grant.revoke());
    }

    /// Forgets what is over, once there is much of it.
    pub(super) fn tidy(&mut self, now: Timestamp) {
        for issued in [&mut self.codes, &mut self.access_tokens, &mut self.refresh_tokens] {
            if issued.len() > REMEMBERED {
                issued.retain(|_, entry| entry.expires_at > now && !entry.grant.is_revoked());
            }
        }
        if self.logins.len() > REMEMBERED {
            self.logins.clear();
        }
    }
}
