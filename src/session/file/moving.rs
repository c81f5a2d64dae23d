//! What a move asks of a store file: who is in it, sessions as they are, and at its end that nothing stays behind.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::session::file::book::{Row, Tables};
use crate::session::file::{File, Gate, Shared, guarded};
use crate::session::moving::AT_ONCE;
use crate::session::span::Span;
use crate::session::{Error, Found, SessionId, index};

/// Longest wait for a file to be opened, which after a crash may have to be mended first.
const OPENING: Duration = Duration::from_secs(30);
/// How many rows are looked through before others get the thread.
const SLICE: usize = 20_000;

impl File {
    /// Waits until the file is open; answers how many sessions it holds.
    pub(in crate::session) async fn opened(&self) -> Result<usize, String> {
        let mut gate = self.shared.gate.subscribe();
        let opened = timeout(OPENING, gate.wait_for(|gate| !matches!(gate, Gate::Opening))).await;
        let Ok(Ok(gate)) = opened else { return Err("it is not open yet".to_owned()) };
        match &*gate {
            Gate::Down(why) => Err(why.to_string()),
            Gate::Open(_) | Gate::Opening => Ok(self.count()),
        }
    }

    /// Waits until everything that was asked for before is done.
    pub(in crate::session) async fn settled(&self) -> Result<(), Error> {
        self.commit(|_| Ok(()), |()| {}).await
    }

    /// The first `most` of those in `span`, in their order.
    pub(in crate::session) async fn ids_within(&self, span: Span, most: usize) -> Result<Vec<SessionId>, Error> {
        let (shared, book) = (Arc::clone(&self.shared), self.book().await?);
        let read = move || {
            let mut ids = Vec::with_capacity(shared.count.load(super::Ordering::Relaxed).min(most));
            let mut rest = Some(span);
            while let Some(span) = rest.filter(|_| ids.len() < most) {
                let slice = SLICE.min(most - ids.len());
                let looked = guarded(|| book.rows(span, slice, |id, _| ids.push(id)));
                rest = looked.map_err(|why| shared.unreadable(&why))?;
            }
            Ok(ids)
        };
        tokio::task::spawn_blocking(read).await.map_err(|_| Error::Failed)?
    }

    /// These sessions as they are, over or not; without those that have ended, or whose key is gone.
    pub(in crate::session) async fn fetch(&self, ids: Vec<SessionId>) -> Result<Vec<Found>, Error> {
        let (shared, book) = (Arc::clone(&self.shared), self.book().await?);
        let read = move || ids.into_iter().filter_map(|id| found(&shared, &book, id).transpose()).collect();
        tokio::task::spawn_blocking(read).await.map_err(|_| Error::Failed)?
    }

    /// Takes `ids` out, and puts those that are in `sessions` back as they are.
    pub(in crate::session) async fn put(&self, ids: Vec<SessionId>, sessions: Vec<Found>) -> Result<(), Error> {
        let mut sealed = Vec::with_capacity(sessions.len());
        for (number, Found { session, last_used_at }) in sessions.into_iter().enumerate() {
            if number % AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
            sealed.push((self.shared.seal(&session)?, session, last_used_at));
        }
        let put = move |tables: &mut Tables<'_>| {
            for id in ids {
                tables.take(id)?;
            }
            for (sealed, session, last_used_at) in sealed {
                let row = Row {
                    version: session.version,
                    expires_at: session.expires_at,
                    last_used_at,
                    run: tables.run(),
                    keys: index::keys(&session),
                };
                tables.put(session.id, row, &sealed)?;
            }
            Ok(())
        };
        self.commit(put, |()| {}).await
    }

    /// Takes everything out, without an end for anybody, and lets go of the file. Whoever opens it again finds nobody
    /// who has logged out elsewhere since.
    pub(in crate::session) async fn leave(&self) -> Result<(), Error> {
        self.shared.left.store(true, super::Ordering::Relaxed);
        let emptied = self.commit(|tables| tables.empty(), |()| {}).await;
        self.close().await;
        emptied
    }
}

fn found(shared: &Shared, book: &super::Book, id: SessionId) -> Result<Option<Found>, Error> {
    let open = |row, sealed: &[u8]| {
        let noted = book.last_used_at(row);
        let last_used_at = shared.cache.unnoted(id).map_or(noted, |used_at| used_at.max(noted));
        shared.unseal(id, sealed).map(|session| Found { session, last_used_at })
    };
    let read = guarded(|| book.read(id, open)).map_err(|why| shared.unreadable(&why))?;
    Ok(read.flatten())
}
