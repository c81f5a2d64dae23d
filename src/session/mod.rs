//! Who is logged in: sessions, the handle that a browser holds, and the store behind them.
//!
//! A session is immutable; a change is a new version that replaces the old one by compare-and-swap, so that two
//! writers cannot lose each other's tokens. The browser holds a random handle, the store knows only its hash.

mod board;
mod cache;
mod file;
mod handle;
mod index;
mod leasing;
mod memory;
mod moving;
mod operator;
mod place;
mod record;
mod redis;
mod refresh;
mod removal;
mod renewal;
mod served;
mod sessions;
mod shards;
mod span;
mod streams;
mod version;

use std::sync::Arc;

use crate::time::Timestamp;
use crate::web::RandomError;

pub use file::FileOptions;
pub use handle::{Handle, SessionId};
pub use memory::Memory;
pub use moving::{Destination, Left, Move};
pub use operator::{Filter, Page};
pub use place::make_key;
pub use redis::RedisOptions;
pub use refresh::{Cause, Freshness, Refresher};
pub use served::Party;
pub use sessions::Sessions;
pub use streams::{Member, Stream, Streams};
pub use version::{Binding, Profile, Session, Tokens, claim};

/// Why the store could not do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No random bytes for a handle or a seal.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// Too much waits for the store, or it is too slow.
    #[error("the session store does not keep up")]
    Busy,
    /// It is not open, or what was asked of it failed; the log says why.
    #[error("the session store failed")]
    Failed,
    /// The session holds something that cannot be written down.
    #[error("the session cannot be written down")]
    Unwritable,
}

/// Why a session ended; the `kind` of `vestibule_logouts_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndKind {
    /// The user logged out here, and the provider has no end-session endpoint.
    Local,
    /// The user logged out here and was sent on to the provider.
    RpInitiated,
    /// The provider said so, from server to server.
    BackChannel,
    /// The provider said so, by way of the browser.
    FrontChannel,
    /// An operator ended it.
    Operator,
    /// Its time was over.
    Expired,
    /// The provider would not refresh it any more.
    RefreshFailed,
    /// A new login of the same browser took its place.
    Replaced,
    /// The store was full.
    Evicted,
    /// The configuration had no place for it any more, for ten minutes.
    Unserved,
}

impl EndKind {
    /// Whether who ends a session for this reason logs it, with what only they know: the request, or the error.
    #[must_use]
    pub const fn is_told(self) -> bool {
        match self {
            Self::Local | Self::RpInitiated | Self::BackChannel | Self::FrontChannel | Self::RefreshFailed => true,
            Self::Operator | Self::Expired | Self::Replaced | Self::Evicted | Self::Unserved => false,
        }
    }

    /// The label value.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::RpInitiated => "rp_initiated",
            Self::BackChannel => "back_channel",
            Self::FrontChannel => "front_channel",
            Self::Operator => "operator",
            Self::Expired => "expired",
            Self::RefreshFailed => "refresh_failed",
            Self::Replaced => "replaced",
            Self::Evicted => "evicted",
            Self::Unserved => "unserved",
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
    /// Another version came first, sealed with a key that is not in the ring here.
    Sealed,
    /// Another holder of the lease has sent the same refresh token since, and what the provider says to them counts.
    Fenced,
    /// The session has ended; nothing brings it back.
    Gone,
}

/// What the store says when a refresh is to begin.
#[derive(Debug)]
pub enum Begin {
    /// Go on: nobody else does it, here or in another process.
    Begun(Lease),
    /// Another process is at it, or has done it meanwhile.
    Elsewhere,
    /// The session has ended.
    Gone,
}

/// The right to send a session's refresh token, until its outcome is known.
#[derive(Debug)]
pub struct Lease {
    /// Whether the token may have been sent before.
    pub journal: Journal,
    /// Where it has to be renewed.
    redis: Option<redis::RedisLease>,
}

/// What another process has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It has ended this session.
    Ended(SessionId),
    /// It has put a new version in place.
    Changed(SessionId),
    /// Nobody knows: the connection was lost for a while.
    Unknown,
}

/// Called with the news of other processes, many times a second at most; it must not wait.
pub type NewsHook = Arc<dyn Fn(News) + Send + Sync>;

/// What the journal of refreshes says when one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Journal {
    /// It is noted now.
    Begun,
    /// It is noted now, and was before: a process that was killed had begun the same refresh, and what the provider did
    /// with the token is not known.
    Interrupted,
}

/// Whether a store can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is being opened: whoever asks waits.
    Opening,
    /// It answers.
    Up,
    /// It cannot be opened, or was closed.
    Down,
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

#[cfg(test)]
mod tests;
