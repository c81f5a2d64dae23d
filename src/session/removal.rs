//! What a move asks of each kind of store: who is there, to give and to take, and to be left.

use crate::session::moving::AT_ONCE;
use crate::session::sessions::Store;
use crate::session::span::Span;
use crate::session::{Error, Found, SessionId};

impl Store {
    pub(super) async fn settled(&self) -> Result<(), Error> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(redis) => redis.settled().await,
            Self::File(file) => file.settled().await,
        }
    }

    /// All that are here.
    pub(super) async fn ids(&self) -> Result<Vec<SessionId>, Error> {
        self.ids_within(Span::ALL, usize::MAX).await
    }

    /// The first `most` of those in `span`, in their order.
    pub(super) async fn ids_within(&self, span: Span, most: usize) -> Result<Vec<SessionId>, Error> {
        match self {
            Self::Memory(memory) => Ok(memory.ids_within(span, most).await),
            Self::File(file) => file.ids_within(span, most).await,
            Self::Redis(redis) => redis.ids_within(span, most).await,
        }
    }

    pub(super) async fn fetch(&self, ids: Vec<SessionId>) -> Result<Vec<Found>, Error> {
        match self {
            Self::Memory(memory) => {
                let mut found = Vec::with_capacity(ids.len());
                for some in ids.chunks(AT_ONCE) {
                    found.extend(some.iter().filter_map(|id| memory.fetch(*id)));
                    tokio::task::yield_now().await;
                }
                Ok(found)
            }
            Self::File(file) => file.fetch(ids).await,
            Self::Redis(redis) => redis.fetch(ids).await,
        }
    }

    pub(super) async fn put(&self, ids: Vec<SessionId>, sessions: Vec<Found>) -> Result<(), Error> {
        match self {
            Self::Memory(memory) => memory.put(ids, sessions),
            Self::File(file) => file.put(ids, sessions).await,
            Self::Redis(redis) => redis.put(ids, sessions).await,
        }
    }

    pub(super) async fn leave(&self) -> Result<(), Error> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::File(file) => file.leave().await,
            Self::Redis(redis) => redis.leave().await,
        }
    }

    /// Whether both are the same sessions.
    pub(super) async fn is_same(&self, other: &Self) -> Result<bool, Error> {
        match (self, other) {
            (Self::Redis(one), Self::Redis(other)) => one.is_same(other).await,
            _ => Ok(false),
        }
    }

    /// How many other processes have the same sessions.
    pub(super) async fn others(&self) -> Result<usize, Error> {
        match self {
            Self::Memory(_) | Self::File(_) => Ok(0),
            Self::Redis(redis) => redis.others().await,
        }
    }

    /// Takes out what was copied here.
    pub(super) async fn give_up(&self) -> Result<(), Error> {
        match self {
            Self::Memory(_) | Self::File(_) => self.leave().await,
            Self::Redis(redis) => redis.give_up().await,
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Memory(_) => {}
            Self::File(file) => file.close().await,
            Self::Redis(redis) => redis.close().await,
        }
    }
}
