//! Sessions as the server keeps them, and as they come back from it.

use std::sync::Arc;

use tracing::error;

use crate::session::redis::{Gone, Shared, scripts};
use crate::session::{EndKind, Error, Session, SessionId, index, record};
use crate::web::Purpose;

impl Shared {
    /// What is written of a session.
    pub(super) fn row(&self, session: &Session) -> Result<scripts::Row, Error> {
        let plain = record::encode(session).ok_or(Error::Unwritable)?;
        let sealed = self.keys.load().seal_bytes(Purpose::Session, session.id.as_bytes(), &plain)?;
        let (subject, sid) = index::keys(session);
        Ok(scripts::Row {
            id: session.id.hex(),
            version: session.version,
            sealed,
            ends_at: session.expires_at,
            subject: format!("{subject:016x}"),
            sid: sid.map_or_else(String::new, |sid| format!("{sid:016x}")),
        })
    }

    /// The session in a record; `None` when it was sealed by no key of the ring, for another session, or was changed.
    pub(super) fn unseal(&self, id: SessionId, sealed: &[u8]) -> Option<Arc<Session>> {
        let plain = self.keys.load().open_bytes(Purpose::Session, id.as_bytes(), sealed).ok()?;
        record::decode(id, &zeroize::Zeroizing::new(plain)).map(Arc::new)
    }

    /// Ids and records in turn, as scripts answer them.
    pub(super) fn opened(&self, values: &[redis::Value]) -> Result<Vec<Gone>, Error> {
        let open = |pair: &[redis::Value]| match pair {
            [redis::Value::BulkString(id), redis::Value::BulkString(sealed)] => {
                let id = std::str::from_utf8(id).ok().and_then(SessionId::from_hex)?;
                Some((id, self.unseal(id, sealed)))
            }
            _ => None,
        };
        let opened: Option<Vec<Gone>> = values.chunks(2).map(open).collect();
        opened.ok_or_else(|| {
            error!("session store answered what no script of ours answers");
            Error::Failed
        })
    }

    /// Tells the end of sessions that have been taken out.
    pub(super) fn ended(&self, gone: &[Gone], kind: EndKind) {
        for (id, session) in gone {
            self.cache.forget(*id);
            if let Some(session) = session {
                self.hooks.ended(session, kind);
            }
        }
    }
}
