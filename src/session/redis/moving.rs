//! What a move asks of the store: who is in it, sessions as they are, and at its end that nothing stays behind that only
//! this process would know to be over.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::info;

use crate::session::redis::scripts::Name;
use crate::session::redis::{AT_ONCE, Redis};
use crate::session::span::{First, Span};
use crate::session::{Error, Found, SessionId, State};
use crate::time::Timestamp;

/// Longest wait for a connection.
const OPENING: Duration = Duration::from_secs(5);
/// Longest wait for what was begun, and how often is looked.
const SETTLING: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(2);
/// How long, and how often, other processes are listened for before the last one takes everything out: whose connection
/// has broken has another by then.
const LINGER: Duration = Duration::from_secs(2);
const LISTEN: Duration = Duration::from_millis(100);
/// How many ids are asked for at once.
const SLICE: isize = 10_000;

impl Redis {
    /// Waits until there is a connection. How many sessions there are does not matter: they are those of other processes.
    pub(in crate::session) async fn opened(&self) -> Result<usize, String> {
        match self.link.settled(OPENING).await {
            State::Up => Ok(0),
            State::Opening | State::Down => Err("there is no connection to it".to_owned()),
        }
    }

    /// Waits until what was begun before is done.
    pub(in crate::session) async fn settled(&self) -> Result<(), Error> {
        let begun = Instant::now();
        while !self.shared.tasks.is_empty() {
            if begun.elapsed() > SETTLING {
                return Err(Error::Busy);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// The first `most` of those in `span`, in their order. The server knows no such order, so all are looked through.
    pub(in crate::session) async fn ids_within(&self, span: Span, most: usize) -> Result<Vec<SessionId>, Error> {
        let used = format!("{}:used", self.link.options().prefix);
        let mut first = First::of(span, most);
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("ZSCAN");
            scan.arg(&used).arg(cursor).arg("COUNT").arg(SLICE);
            let (next, some): (u64, Vec<(String, f64)>) = self.link.call(&scan).await?;
            some.iter().filter_map(|(id, _)| SessionId::from_hex(id)).for_each(|id| first.show(id));
            if next == 0 {
                return Ok(first.ids());
            }
            cursor = next;
        }
    }

    /// These sessions as they are, over or not; without those that have ended, or whose key is gone.
    pub(in crate::session) async fn fetch(&self, ids: Vec<SessionId>) -> Result<Vec<Found>, Error> {
        let mut found = Vec::with_capacity(ids.len());
        for some in ids.chunks(AT_ONCE) {
            for (id, (sealed, used_at)) in some.iter().zip(self.rows(some).await?) {
                let Some(session) = sealed.and_then(|sealed| self.shared.unseal(*id, &sealed)) else { continue };
                let noted = used_at.map_or(session.created_at, Timestamp::from_unix);
                let last_used_at = self.shared.cache.unnoted(*id).map_or(noted, |used_at| used_at.max(noted));
                found.push(Found { session, last_used_at });
            }
        }
        Ok(found)
    }

    /// Takes those of `ids` out that are not in `sessions`, and puts these in where they are newer.
    pub(in crate::session) async fn put(&self, ids: Vec<SessionId>, sessions: Vec<Found>) -> Result<(), Error> {
        let kept: BTreeSet<SessionId> = sessions.iter().map(|found| found.session.id).collect();
        let gone: Vec<SessionId> = ids.into_iter().filter(|id| !kept.contains(id)).collect();
        self.clear(&gone).await?;
        for Found { session, last_used_at } in sessions {
            let row = self.shared.row(&session)?;
            let mut put = self.script(Name::Put);
            row.write_new(&mut put, last_used_at);
            if self.link.call::<u8>(&put).await? == 1 {
                self.brought().insert(session.id);
                self.link.counted(1, 0);
            }
        }
        Ok(())
    }

    /// Lets go of the server. When no other process is there, everything is taken out, without an end for anybody:
    /// whoever comes back finds nobody who has logged out elsewhere since.
    pub(in crate::session) async fn leave(&self) -> Result<(), Error> {
        self.shared.left.store(true, Ordering::Relaxed);
        let emptied = match self.others().await {
            Ok(0) => match self.ids_within(Span::ALL, usize::MAX).await {
                Ok(ids) => self.clear(&ids).await,
                Err(error) => Err(error),
            },
            Ok(processes) => {
                info!(redis = %self.link.options(), processes, "sessions stay for the other processes");
                Ok(())
            }
            Err(error) => Err(error),
        };
        self.close().await;
        emptied
    }

    /// Whether `other` leads to the same server, database and names of keys: what is written there can be read here. (The
    /// other way round, a copy of this server would be the same, too, and takes no writes.)
    pub(in crate::session) async fn is_same(&self, other: &Self) -> Result<bool, Error> {
        let mark = crate::web::token()?;
        let name = format!("move:{mark}");
        other.note(&name, mark.as_bytes(), OPENING).await?;
        Ok(self.noted_under(&[name]).await?.pop().flatten().is_some_and(|noted| noted == mark.as_bytes()))
    }

    /// How many other processes have the same sessions.
    pub(in crate::session) async fn others(&self) -> Result<usize, Error> {
        let mut listeners = redis::cmd("PUBSUB");
        listeners.arg("NUMSUB").arg(format!("{}:news", self.link.options().prefix));
        let begun = Instant::now();
        loop {
            let (_, listeners) = self.link.call::<(String, usize)>(&listeners).await?;
            if listeners > 1 || begun.elapsed() >= LINGER {
                return Ok(listeners.saturating_sub(1));
            }
            tokio::time::sleep(LISTEN).await;
        }
    }

    /// Takes out what a move has brought, and lets go of the server.
    pub(in crate::session) async fn give_up(&self) -> Result<(), Error> {
        self.shared.left.store(true, Ordering::Relaxed);
        let brought: Vec<SessionId> = std::mem::take(&mut *self.brought()).into_iter().collect();
        let cleared = self.clear(&brought).await;
        self.close().await;
        cleared
    }

    fn brought(&self) -> MutexGuard<'_, BTreeSet<SessionId>> {
        self.shared.brought.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `ids` out without an end for anybody.
    async fn clear(&self, ids: &[SessionId]) -> Result<(), Error> {
        for some in ids.chunks(AT_ONCE) {
            let some: Vec<String> = some.iter().map(SessionId::hex).collect();
            self.link.call::<redis::Value>(self.script(Name::End).arg(some)).await?;
        }
        Ok(())
    }
}
