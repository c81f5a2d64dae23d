//! Who is logged in: sessions, the handle that a browser holds, and the store behind them.
//!
//! A session is immutable; a change is a new version that replaces the old one by compare-and-swap, so that two
//! writers cannot lose each other's tokens. The browser holds a random handle, the store knows only its hash.

mod memory;
mod refresh;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use serde_json::{Map, Value};

use crate::config::Name;
use crate::metrics::Metrics;
use crate::provider::{AccessToken, Grant, IdToken, RefreshToken, Renewal};
use crate::time::Timestamp;
use crate::web::RandomError;

pub use memory::Memory;
pub use refresh::{Cause, Freshness, Refresher};

/// How many characters a handle has: 32 bytes in base64url.
const HANDLE_LEN: usize = 43;

/// The secret that a browser holds: 256 random bits. No `Display`, masked `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Handle(String);

impl Handle {
    /// A new one.
    ///
    /// # Errors
    /// [`RandomError`] when there are no random bytes.
    pub fn new() -> Result<Self, RandomError> {
        crate::web::token().map(Self)
    }

    /// The cookie value.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The session that it opens.
    #[must_use]
    pub fn id(&self) -> SessionId {
        SessionId::hash(self.0.as_bytes())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[handle]")
    }
}

/// What the store and the log know a session by: SHA-256 of its handle. Looking it up by hash makes the comparison
/// independent of the secret's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 32]);

impl SessionId {
    /// The id for a cookie value; `None` when it cannot be a handle of ours.
    #[must_use]
    pub fn of_cookie(value: &[u8]) -> Option<Self> {
        let url_safe = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (value.len() == HANDLE_LEN && value.iter().all(url_safe)).then(|| Self::hash(value))
    }

    fn hash(handle: &[u8]) -> Self {
        let mut id = [0; 32];
        for (to, from) in id.iter_mut().zip(digest::digest(&digest::SHA256, handle).as_ref()) {
            *to = *from;
        }
        Self(id)
    }

    /// The hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for SessionId {
    /// The first eight bytes in hex: enough to find a session in the log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// What a session belongs to. It opens nothing on another route, and nothing after its client changed.
#[derive(Debug, PartialEq, Eq)]
pub struct Binding {
    /// The route that it was made on.
    pub route: Name,
    /// The provider's name, for logs and metrics.
    pub provider: Name,
    /// The issuer.
    pub issuer: String,
    /// The client.
    pub client_id: String,
}

/// The tokens of one version of a session.
#[derive(Clone)]
pub struct Tokens {
    /// For upstreams.
    pub access: AccessToken,
    /// When the access token ends.
    pub access_expires_at: Timestamp,
    /// When this set was received.
    pub obtained_at: Timestamp,
    /// For the next refresh.
    pub refresh: Option<RefreshToken>,
    /// The latest ID token, for `id_token_hint`.
    pub id_token: IdToken,
}

/// One version of one login.
pub struct Session {
    /// Hash of the handle.
    pub id: SessionId,
    /// Counts up with each replacement.
    pub version: u64,
    /// What it belongs to.
    pub binding: Arc<Binding>,
    /// `sub`; with the issuer, the key of a user.
    pub subject: String,
    /// `sid`, the provider's name for its own session.
    pub sid: Option<String>,
    /// The login.
    pub created_at: Timestamp,
    /// The end, used or not.
    pub expires_at: Timestamp,
    /// Claims of the latest ID token; those that a refreshed one leaves out are kept.
    pub claims: Map<String, Value>,
    /// Claims of the userinfo endpoint at login.
    pub userinfo: Map<String, Value>,
    /// The tokens.
    pub tokens: Tokens,
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Session")
            .field("id", &self.id)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// The first version, from a verified grant.
    #[must_use]
    pub fn open(handle: &Handle, binding: Arc<Binding>, grant: Grant, lifetime: Duration, now: Timestamp) -> Self {
        Self {
            id: handle.id(),
            version: 0,
            binding,
            subject: grant.subject,
            sid: grant.sid,
            created_at: now,
            expires_at: now.plus(lifetime),
            claims: grant.claims,
            userinfo: grant.userinfo,
            tokens: Tokens {
                access: grant.access_token,
                access_expires_at: grant.access_expires_at,
                obtained_at: now,
                refresh: grant.refresh_token,
                id_token: grant.id_token,
            },
        }
    }

    /// The next version, with refreshed tokens. A refresh token that was not rotated stays (RFC 6749 6).
    #[must_use]
    pub fn renewed(&self, renewal: Renewal, now: Timestamp) -> Self {
        let mut claims = self.claims.clone();
        let id_token = match renewal.id_token {
            Some((token, fresh)) => {
                claims.extend(fresh);
                token
            }
            None => self.tokens.id_token.clone(),
        };
        Self {
            id: self.id,
            version: self.version.saturating_add(1),
            binding: Arc::clone(&self.binding),
            subject: self.subject.clone(),
            sid: self.sid.clone(),
            created_at: self.created_at,
            expires_at: self.expires_at,
            claims,
            userinfo: self.userinfo.clone(),
            tokens: Tokens {
                access: renewal.access_token,
                access_expires_at: renewal.access_expires_at,
                obtained_at: now,
                refresh: renewal.refresh_token.or_else(|| self.tokens.refresh.clone()),
                id_token,
            },
        }
    }

    /// A claim by its path; dots descend into objects, after a member of the full name was looked for. The ID token
    /// goes before userinfo.
    #[must_use]
    pub fn claim(&self, path: &str) -> Option<&Value> {
        claim(&self.claims, path).or_else(|| claim(&self.userinfo, path))
    }
}

/// Finds `path` in `claims`: a member of that very name, else step by step at the dots.
#[must_use]
pub fn claim<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (head, rest) = path.split_once('.')?;
    claim(claims.get(head)?.as_object()?, rest)
}

/// Why the store could not do its work.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum Error {
    /// No random bytes for a handle.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Why a session ended; the `kind` of `vestibule_logouts_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndKind {
    /// The user logged out here, and the provider has no end-session endpoint.
    Local,
    /// The user logged out here and was sent on to the provider.
    RpInitiated,
    /// Its time was over.
    Expired,
    /// The provider would not refresh it any more.
    RefreshFailed,
    /// A new login of the same browser took its place.
    Replaced,
    /// The store was full.
    Evicted,
}

impl EndKind {
    /// The label value.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::RpInitiated => "rp_initiated",
            Self::Expired => "expired",
            Self::RefreshFailed => "refresh_failed",
            Self::Replaced => "replaced",
            Self::Evicted => "evicted",
        }
    }
}

/// What a compare-and-swap did.
#[derive(Debug)]
pub enum Swap {
    /// The new version is in place.
    Done(Arc<Session>),
    /// Another version came first; here it is.
    Stale(Arc<Session>),
    /// The session has ended; nothing brings it back.
    Gone,
}

/// Whether a look at a session counts as use of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// The user did something: the idle time starts anew.
    Use,
    /// Only a look.
    Look,
}

/// A session and when it was last used.
#[derive(Clone, Debug)]
pub struct Found {
    /// The session.
    pub session: Arc<Session>,
    /// Its last use, this one included when it counts.
    pub last_used_at: Timestamp,
}

/// Called once for each session that ends, after it is gone from the store: cuts streams, counts, logs.
pub type EndHook = Arc<dyn Fn(&Session, EndKind) + Send + Sync>;

/// Which sessions to end.
#[derive(Clone, Copy, Debug)]
pub enum Selector<'a> {
    /// This one.
    Id(SessionId),
    /// All of one user at one issuer.
    Subject {
        /// The issuer.
        issuer: &'a str,
        /// `sub`.
        subject: &'a str,
    },
    /// Those of one session of the provider.
    Sid {
        /// The issuer.
        issuer: &'a str,
        /// `sid`.
        sid: &'a str,
    },
}

/// The closed set of stores.
enum Store {
    Memory(Memory),
}

impl Store {
    const fn label(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
        }
    }
}

/// All sessions: the store, its clockwork of idle and absolute limits, and the hooks on the end of each.
pub struct Sessions {
    store: Store,
    hooks: Vec<EndHook>,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Sessions({})", self.store.label())
    }
}

impl Sessions {
    /// Sessions in memory.
    #[must_use]
    pub fn in_memory(memory: Memory, hooks: Vec<EndHook>, metrics: Arc<Metrics>) -> Self {
        Self { store: Store::Memory(memory), hooks, metrics }
    }

    /// Takes a new session in. When the store is full, the longest unused one ends.
    ///
    /// # Errors
    /// [`Error`] when the store cannot keep it; then nobody is logged in.
    pub async fn insert(&self, session: Session, now: Timestamp) -> Result<Arc<Session>, Error> {
        let begun = Instant::now();
        let session = Arc::new(session);
        let Store::Memory(memory) = &self.store;
        let evicted = memory.insert(&session, now);
        self.ended(evicted.as_slice(), EndKind::Evicted);
        self.done("insert", begun);
        Ok(session)
    }

    /// Finds a session that has not reached `idle_timeout` or its absolute end.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer: fail closed.
    pub async fn load(
        &self,
        id: SessionId,
        limit: Duration,
        touch: Touch,
        now: Timestamp,
    ) -> Result<Option<Found>, Error> {
        let begun = Instant::now();
        let Store::Memory(memory) = &self.store;
        let found = memory.load(id, touch, limit, now);
        self.done("load", begun);
        Ok(found)
    }

    /// Replaces version `session.version - 1` of a session; the last use stays.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer.
    pub async fn replace(&self, session: Session) -> Result<Swap, Error> {
        let begun = Instant::now();
        let Store::Memory(memory) = &self.store;
        let swap = memory.replace(Arc::new(session));
        self.done("replace", begun);
        Ok(swap)
    }

    /// Ends sessions at once and returns them.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer.
    pub async fn end(&self, selector: Selector<'_>, kind: EndKind) -> Result<Vec<Arc<Session>>, Error> {
        let begun = Instant::now();
        let Store::Memory(memory) = &self.store;
        let ended = memory.remove(selector);
        self.ended(&ended, kind);
        self.done("end", begun);
        Ok(ended)
    }

    /// Ends all sessions whose time is over; called by a background loop.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer.
    pub async fn sweep(&self, idle_timeout: Duration, now: Timestamp) -> Result<usize, Error> {
        let begun = Instant::now();
        let Store::Memory(memory) = &self.store;
        let ended = memory.sweep(idle_timeout, now);
        self.ended(&ended, EndKind::Expired);
        self.done("sweep", begun);
        Ok(ended.len())
    }

    /// How many sessions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        let Store::Memory(memory) = &self.store;
        memory.count()
    }

    fn ended(&self, sessions: &[Arc<Session>], kind: EndKind) {
        for session in sessions {
            for hook in &self.hooks {
                hook(session, kind);
            }
        }
    }

    fn done(&self, operation: &'static str, begun: Instant) {
        let store = self.store.label();
        self.metrics.store_operation(store, operation, begun.elapsed().as_secs_f64());
        if operation != "load" && operation != "replace" {
            self.metrics.sessions_active(store, self.count());
        }
    }
}

#[cfg(test)]
mod tests;
