//! What operators do with sessions by hand: they look at them, and end them.

use std::time::{Duration, Instant};

use crate::session::sessions::Store;
use crate::session::span::{First, Span};
use crate::session::{EndKind, Error, Found, Selector, SessionId, Sessions};
use crate::time::Timestamp;

/// How many sessions are looked at before others get the thread.
const SLICE: usize = 256;
/// Where few of the sessions that were looked at are meant, the next look is at so many times more: a store that has no
/// order goes through all of them at each.
const MORE: usize = 8;

/// Which sessions; what is not said does not matter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The beginning of the id in hex, such as the eight bytes of it that the log has.
    pub id: Option<String>,
    /// `sub`.
    pub subject: Option<String>,
    /// `sid`, the provider's name for its own session.
    pub sid: Option<String>,
    /// The route that they were made on.
    pub route: Option<String>,
    /// The provider, by its name in the configuration.
    pub provider: Option<String>,
    /// The login is at least so long ago.
    pub older_than: Option<Duration>,
    /// The last use is at least so long ago.
    pub idle_for: Option<Duration>,
}

/// Some of the sessions that a filter means, in the order of their ids.
#[derive(Debug)]
pub struct Page {
    /// They.
    pub sessions: Vec<Found>,
    /// Behind which id there are more.
    pub next: Option<SessionId>,
}

impl Filter {
    /// The ids that it can mean; `None`: no id.
    fn span(&self) -> Option<Span> {
        Span::beginning(self.id.as_deref().unwrap_or_default())
    }

    fn means(&self, found: &Found, now: Timestamp) -> bool {
        let session = &found.session;
        let same = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
        same(&self.subject, &session.subject)
            && (self.sid.is_none() || self.sid == session.sid)
            && same(&self.route, session.binding.route.as_str())
            && same(&self.provider, session.binding.provider.as_str())
            && self.older_than.is_none_or(|age| now >= session.created_at.plus(age))
            && self.idle_for.is_none_or(|idle| now >= found.last_used_at.plus(idle))
    }
}

impl Sessions {
    /// Up to `limit` sessions behind `after` that `filter` means and whose time is not over.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer.
    pub async fn page(
        &self,
        filter: &Filter,
        (after, limit): (Option<SessionId>, usize),
        (idle_timeout, now): (Duration, Timestamp),
    ) -> Result<Page, Error> {
        let store = self.store.load_full();
        let mut sessions = Vec::new();
        let mut rest = filter.span().and_then(|span| after.map_or(Some(span), |after| span.behind(after)));
        let mut most = limit.saturating_add(1).max(SLICE);
        while let Some(span) = rest {
            let ids = self.candidates(&store, filter, (span, most)).await?;
            for slice in ids.chunks(SLICE) {
                for found in store.fetch(slice.to_vec()).await? {
                    let over = now >= found.session.expires_at || now >= found.last_used_at.plus(idle_timeout);
                    if over || !filter.means(&found, now) {
                        continue;
                    }
                    if sessions.len() == limit {
                        let next = sessions.last().map(|last: &Found| last.session.id);
                        return Ok(Page { sessions, next });
                    }
                    sessions.push(found);
                }
            }
            rest = ids.last().filter(|_| ids.len() == most).and_then(|last| span.behind(*last));
            most = most.saturating_mul(MORE);
        }
        Ok(Page { sessions, next: None })
    }

    /// Ends every session that `filter` means; answers how many that were.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer; some may have ended by then.
    pub async fn end_by_hand(&self, filter: &Filter, now: Timestamp) -> Result<usize, Error> {
        // A move of the store goes first, or what it carries over would be back.
        let _round = self.rounds.lock().await;
        let (begun, store) = (Instant::now(), self.store.load_full());
        let mut ended = 0;
        let ids = match filter.span() {
            Some(span) => self.candidates(&store, filter, (span, usize::MAX)).await?,
            None => Vec::new(),
        };
        for slice in ids.chunks(SLICE) {
            let found = store.fetch(slice.to_vec()).await?;
            let meant = found.iter().filter(|found| filter.means(found, now)).map(|found| found.session.id).collect();
            ended += self.end_these(&store, meant, EndKind::Operator).await?;
        }
        self.done(&store, "end", begun);
        Ok(ended)
    }

    /// The first `most` ids of `span` to look at, in their order: by the index where it helps, or else all.
    async fn candidates(
        &self,
        store: &Store,
        filter: &Filter,
        (span, most): (Span, usize),
    ) -> Result<Vec<SessionId>, Error> {
        if filter.sid.is_none() && filter.subject.is_none() {
            return store.ids_within(span, most).await;
        }
        let mut first = First::of(span, most);
        for issuer in &self.served.issuers() {
            let selector = match (&filter.sid, &filter.subject) {
                (Some(sid), _) => Selector::Sid { issuer, sid },
                (None, Some(subject)) => Selector::Subject { issuer, subject },
                (None, None) => continue,
            };
            self.find(selector).await?.iter().for_each(|session| first.show(session.id));
        }
        Ok(first.ids())
    }
}
