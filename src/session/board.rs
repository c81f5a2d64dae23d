//! What must be known for a while beside sessions: to all processes that share a store, and to the next one where sessions
//! outlive the process. With a store in memory, the process knows everything itself, and nothing of this happens.

use std::time::Duration;

use crate::session::sessions::Store;
use crate::session::{Error, Sessions};
use crate::time::Timestamp;

impl Sessions {
    /// Whether other processes may have the same sessions.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(&**self.store.load(), Store::Redis(_))
    }

    /// Notes `value` under `name` for `time` where processes share a store, unless something else is noted there; true when
    /// it was the first. No two callers may have the same value.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer: whether it was the first is not known then.
    pub async fn note_first(&self, name: &str, value: &[u8], time: Duration) -> Result<bool, Error> {
        match &*self.store.load_full() {
            Store::Memory(_) | Store::File(_) => Ok(true),
            Store::Redis(redis) => redis.note_first(name, value, time).await,
        }
    }

    /// Notes `value` under `name` for `time`, whatever was there.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer.
    pub async fn note(&self, name: &str, value: &[u8], (time, now): (Duration, Timestamp)) -> Result<(), Error> {
        match &*self.store.load_full() {
            Store::Memory(_) => Ok(()),
            Store::File(file) => file.note(name, value, now.plus(time)).await,
            Store::Redis(redis) => redis.note(name, value, time).await,
        }
    }

    /// What is noted under `names`, in their order.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer.
    pub async fn noted(&self, names: &[String], now: Timestamp) -> Result<Vec<Option<Vec<u8>>>, Error> {
        match &*self.store.load_full() {
            Store::Memory(_) => Ok(vec![None; names.len()]),
            Store::File(file) => file.noted(names, now).await,
            Store::Redis(redis) => redis.noted_under(names).await,
        }
    }

    /// Takes a note away where processes share a store, and answers what it was; exactly one caller gets it.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer.
    pub async fn take_note(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match &*self.store.load_full() {
            Store::Memory(_) | Store::File(_) => Ok(None),
            Store::Redis(redis) => redis.take_note(name).await,
        }
    }
}
