//! What a refresh asks of the store: that nobody else begins one, that it is noted before the token is sent, and that its
//! outcome is.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::session::redis::{LATE, LEASE, Word};
use crate::session::sessions::Store;
use crate::session::{Begin, Error, Journal, Lease, Session, SessionId, Sessions};

/// How long a session whose refresh token was refused waits for an earlier holder of its lease.
pub(super) const WAIT_FOR_LATE: Duration = LATE;

impl Lease {
    /// Whether other processes could have it.
    pub(super) const fn is_shared(&self) -> bool {
        self.redis.is_some()
    }

    /// Whether another process may have taken it over, by the clock of this one.
    pub(super) fn is_over(&self) -> bool {
        self.redis.as_ref().is_some_and(|lease| lease.asked_at.elapsed() >= LEASE)
    }
}

impl Sessions {
    /// Notes that the refresh token of `session` is about to be sent, where that must survive a crash, and that nobody else
    /// may, where somebody else could. [`replace`](Self::replace), [`end`](Self::end) and
    /// [`end_refresh`](Self::end_refresh) take the note back.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer; then nothing may be sent.
    pub async fn begin_refresh(&self, session: &Session) -> Result<Begin, Error> {
        let (store, _stays) = self.to_change(None).await;
        let begun = Instant::now();
        let begin = match &*store {
            Store::Memory(_) => return Ok(Begin::Begun(Lease { journal: Journal::Begun, redis: None })),
            Store::File(file) => match file.begin_refresh(session).await? {
                Some(journal) => Begin::Begun(Lease { journal, redis: None }),
                None => Begin::Gone,
            },
            Store::Redis(redis) => redis.begin_refresh(session).await?,
        };
        self.done(&store, "begin_refresh", begun);
        Ok(begin)
    }

    /// Waits for the provider, and keeps the lease meanwhile.
    pub async fn holding<T>(&self, lease: &Lease, answer: impl Future<Output = T>) -> T {
        let Some(held) = &lease.redis else { return answer.await };
        let keep = async {
            loop {
                tokio::time::sleep(LEASE / 3).await;
                // A lease that is lost changes nothing here: the token is on its way, and the fence judges what comes back.
                if let Store::Redis(redis) = &**self.store.load() {
                    let _ = redis.hold(held, Word::Renew).await;
                }
            }
        };
        tokio::select! {
            answer = answer => answer,
            () = keep => unreachable!("it never ends"),
        }
    }

    /// Notes that the provider has refused the token. What an earlier holder of the lease has brought, or will within
    /// [`WAIT_FOR_LATE`], is then good.
    /// True while the lease is the caller's: then nobody else can have sent it meanwhile.
    pub(super) async fn deny_refresh(&self, lease: &Lease) -> bool {
        match (&lease.redis, &*self.store.load_full()) {
            (Some(held), Store::Redis(redis)) => redis.hold(held, Word::Deny).await.unwrap_or(false),
            _ => true,
        }
    }

    /// Takes the note back: the provider has not renewed the tokens, or did not say so.
    pub async fn end_refresh(&self, id: SessionId, lease: &Lease) {
        match (&*self.store.load_full(), &lease.redis) {
            (Store::File(file), _) => file.end_refresh(id),
            (Store::Redis(redis), Some(held)) => {
                let _ = redis.hold(held, Word::Leave).await;
            }
            (Store::Memory(_) | Store::Redis(_), _) => {}
        }
    }
}
