//! Ending the sessions whose time is over. Reads rows only, in slices, away from the threads that serve.

use std::sync::Arc;
use std::time::Duration;

use crate::session::file::book::{Book, Fault, Row, Tables};
use crate::session::file::{File, Gone, Shared, guarded};
use crate::session::span::Span;
use crate::session::{EndKind, Error, SessionId};
use crate::time::Timestamp;

/// How many rows are looked through before others get the thread.
const SLICE: usize = 20_000;
/// How many sessions end in one job: a login that comes in between waits for so many.
const ENDED_AT_ONCE: usize = 128;

/// When a session is over.
#[derive(Clone, Copy)]
struct Limits {
    idle_timeout: Duration,
    now: Timestamp,
}

impl File {
    /// Ends what is over; answers how many sessions that were.
    pub(in crate::session) async fn sweep(&self, idle_timeout: Duration, now: Timestamp) -> Result<usize, Error> {
        self.sweep_notes(now).await?;
        let limits = Limits { idle_timeout, now };
        let (mut ended, mut rest) = (0, Some(Span::ALL));
        while let Some(span) = rest {
            let (shared, book) = (Arc::clone(&self.shared), self.book().await?);
            let over = tokio::task::spawn_blocking(move || over(&shared, &book, span, limits)).await;
            let (over, behind) = over.map_err(|_| Error::Failed)??;
            for some in over.chunks(ENDED_AT_ONCE) {
                let (some, shared, book) = (some.to_vec(), Arc::clone(&self.shared), self.book().await?);
                let end = move |tables: &mut Tables<'_>| take_over(&shared, &book, tables, (&some, limits));
                ended += self.take_out(end, EndKind::Expired).await?.len();
            }
            rest = behind;
        }
        Ok(ended)
    }
}

impl File {
    /// Ends these sessions; answers how many there were still.
    pub(in crate::session) async fn end_these(&self, ids: Vec<SessionId>, kind: EndKind) -> Result<usize, Error> {
        let mut ended = 0;
        for some in ids.chunks(ENDED_AT_ONCE) {
            let (some, shared) = (some.to_vec(), Arc::clone(&self.shared));
            let end = move |tables: &mut Tables<'_>| {
                let mut gone = Vec::with_capacity(some.len());
                for id in some {
                    if let Some(sealed) = tables.take(id)? {
                        gone.push(shared.gone(id, &sealed));
                    }
                }
                Ok(gone)
            };
            ended += self.take_out(end, kind).await?.len();
        }
        Ok(ended)
    }
}

/// The sessions in the first slice of `span` that are over, and the rest of it.
fn over(shared: &Shared, book: &Book, span: Span, limits: Limits) -> Result<(Vec<SessionId>, Option<Span>), Error> {
    let mut over = Vec::new();
    let look = |id, row| {
        if is_over(shared, book, (id, row), limits) {
            over.push(id);
        }
    };
    let rest = guarded(|| book.rows(span, SLICE, look)).map_err(|why| shared.unreadable(&why))?;
    Ok((over, rest))
}

/// Takes those out that are over still: one of them may have been used since it was looked at.
fn take_over(
    shared: &Shared,
    book: &Book,
    tables: &mut Tables<'_>,
    (some, limits): (&[SessionId], Limits),
) -> Result<Vec<Gone>, Fault> {
    let mut gone = Vec::with_capacity(some.len());
    for id in some {
        let is_over = tables.row(*id)?.is_some_and(|row| is_over(shared, book, (*id, row), limits));
        if is_over && let Some(sealed) = tables.take(*id)? {
            gone.push(shared.gone(*id, &sealed));
        }
    }
    Ok(gone)
}

fn is_over(shared: &Shared, book: &Book, (id, row): (SessionId, Row), limits: Limits) -> bool {
    let noted = book.last_used_at(row);
    let used_at = shared.cache.unnoted(id).map_or(noted, |used_at| used_at.max(noted));
    limits.now >= row.expires_at || limits.now >= used_at.plus(limits.idle_timeout)
}
