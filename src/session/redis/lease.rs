//! The lease of a session: whoever holds it may send the refresh token, and nobody else of all processes.
//!
//! It is renewed for as long as the holder waits for the provider, so it ends early only when the holder is gone or
//! stands still. Then another process takes it, with a higher fence, and sends the same token once more; the provider
//! may have renewed it already. What the earlier holder brings when it wakes up is then refused by its fence, unless the
//! provider has refused the later one: then it is the only good answer that there is. `tests/explorer.rs` states what must
//! be true and goes through every order of events.

use std::time::{Duration, Instant};

use crate::session::redis::Redis;
use crate::session::redis::scripts::Name;
use crate::session::{Begin, Error, Journal, Lease, Session, SessionId};

/// How long a lease lasts if it is not renewed: so long a session waits for a holder that was killed.
pub(in crate::session) const LEASE: Duration = Duration::from_secs(3);
/// How long a holder whose token was refused waits for what an earlier one may bring.
pub(in crate::session) const LATE: Duration = Duration::from_secs(3);

/// A lease that was given.
#[derive(Clone, Debug)]
pub(in crate::session) struct RedisLease {
    pub(super) id: SessionId,
    pub(super) owner: String,
    pub(super) fence: String,
    /// Whether the token may have been sent before it was given.
    pub(super) interrupted: bool,
    /// It was given later than that.
    pub(in crate::session) asked_at: Instant,
}

/// What a holder has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Word {
    /// It still waits.
    Renew,
    /// The provider has refused the token.
    Deny,
    /// The provider has not renewed it, or did not say so.
    Leave,
}

impl Redis {
    /// Takes the lease of `session`, if it is free and this is the version that there is.
    ///
    /// No lease outlives a server that is away for longer than that, but an answer to its holder does: for as long as the
    /// connection is new, whoever has one is let bring it first.
    pub(in crate::session) async fn begin_refresh(&self, session: &Session) -> Result<Begin, Error> {
        self.begin(session, self.link.up_for() < LEASE).await
    }

    /// `patient` is who leaves a token alone that may have been sent.
    pub(super) async fn begin(&self, session: &Session, patient: bool) -> Result<Begin, Error> {
        let (owner, asked_at) = (crate::web::token()?, Instant::now());
        let mut begin = self.script(Name::Begin);
        begin
            .arg(session.id.hex())
            .arg(session.version)
            .arg(&owner)
            .arg(milliseconds(LEASE))
            .arg(u8::from(patient));
        let answer: Vec<redis::Value> = self.link.call(&begin).await?;
        let text = |at: usize| {
            answer
                .get(at)
                .and_then(|value| redis::from_redis_value_ref::<String>(value).ok())
                .unwrap_or_default()
        };
        match text(0).as_str() {
            "begun" => {
                let journal = if text(2) == "1" { Journal::Interrupted } else { Journal::Begun };
                let interrupted = journal == Journal::Interrupted;
                let lease = RedisLease { id: session.id, owner: owner.clone(), fence: text(1), interrupted, asked_at };
                Ok(Begin::Begun(Lease { journal, redis: Some(lease) }))
            }
            "held" => Ok(Begin::Elsewhere),
            "moved" => {
                self.shared.cache.outdate(session.id);
                Ok(Begin::Elsewhere)
            }
            "gone" => Ok(Begin::Gone),
            _ => Err(Error::Failed),
        }
    }

    /// Says `word`; false when the lease is another's by now.
    pub(in crate::session) async fn hold(&self, lease: &RedisLease, word: Word) -> Result<bool, Error> {
        let (word, time) = match word {
            Word::Renew => ("renew", LEASE),
            // For as long as an earlier holder is waited for, nobody else is to send the token again.
            Word::Deny => ("deny", LATE + LEASE),
            Word::Leave => ("leave", LEASE),
        };
        let mut hold = self.script(Name::Hold);
        hold.arg(lease.id.hex()).arg(&lease.owner).arg(&lease.fence).arg(milliseconds(time)).arg(word);
        hold.arg(u8::from(lease.interrupted));
        Ok(self.link.call::<u8>(&hold).await? == 1)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
