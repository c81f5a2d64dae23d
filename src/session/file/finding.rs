//! Sessions by whose they are: one, all of a user, or those of one session of the provider.

use std::sync::Arc;

use crate::session::file::File;
use crate::session::file::book::Tables;
use crate::session::{EndKind, Error, Selector, Session};

impl File {
    pub(in crate::session) async fn end(
        &self,
        selector: Selector<'_>,
        kind: EndKind,
    ) -> Result<Vec<Arc<Session>>, Error> {
        let shared = Arc::clone(&self.shared);
        let (key, selects) = (selector.key(), selects(selector));
        let one = if let Selector::Id(id) = selector { Some(id) } else { None };
        let end = move |tables: &mut Tables<'_>| {
            let mut gone = Vec::new();
            let candidates = key.map_or(Ok(Vec::new()), |key| tables.indexed(key))?;
            for id in candidates.into_iter().chain(one) {
                let Some(sealed) = tables.record(id)? else { continue };
                let found = shared.gone(id, &sealed);
                // One that cannot be opened is meant all the same, or it would be back with its key.
                if found.1.as_ref().is_none_or(|session| selects(session)) {
                    tables.take(id)?;
                    gone.push(found);
                }
            }
            Ok(gone)
        };
        self.take_out(end, kind).await
    }

    pub(in crate::session) async fn find(&self, selector: Selector<'_>) -> Result<Vec<Arc<Session>>, Error> {
        let shared = Arc::clone(&self.shared);
        let (key, selects) = (selector.key(), selects(selector));
        let one = if let Selector::Id(id) = selector { Some(id) } else { None };
        let find = move |tables: &mut Tables<'_>| {
            let mut found = Vec::new();
            for id in key.map_or(Ok(Vec::new()), |key| tables.indexed(key))?.into_iter().chain(one) {
                let session = tables.record(id)?.and_then(|sealed| shared.unseal(id, &sealed));
                found.extend(session.filter(|session| selects(session)));
            }
            Ok(found)
        };
        self.commit(find, |_| {}).await
    }
}

/// [`Selector::selects`] for as long as a job lives.
fn selects(selector: Selector<'_>) -> Box<dyn Fn(&Session) -> bool + Send> {
    match selector {
        Selector::Id(id) => Box::new(move |session| Selector::Id(id).selects(session)),
        Selector::Subject { issuer, subject } => {
            let (issuer, subject) = (issuer.to_owned(), subject.to_owned());
            Box::new(move |session| Selector::Subject { issuer: &issuer, subject: &subject }.selects(session))
        }
        Selector::Sid { issuer, sid } => {
            let (issuer, sid) = (issuer.to_owned(), sid.to_owned());
            Box::new(move |session| Selector::Sid { issuer: &issuer, sid: &sid }.selects(session))
        }
    }
}
