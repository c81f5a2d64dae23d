//! Room for a login into a full store: the sessions that were not used for the longest time go.

use std::collections::BinaryHeap;
use std::sync::PoisonError;

use crate::session::SessionId;
use crate::session::file::book::{Fault, Row, Tables};
use crate::session::file::{Gone, Shared};
use crate::time::Timestamp;

/// How many are noted in one look through all rows, so that a full store looks through them once in so many logins.
const NOTED: usize = 1024;
/// Most that go for one login; there are more when the limit was lowered.
const MAX_AT_ONCE: usize = 64;

impl Shared {
    /// Takes out what is too many for one more; answers what went.
    pub(super) fn make_room(&self, tables: &mut Tables<'_>) -> Result<Vec<Gone>, Fault> {
        let mut gone = Vec::new();
        while tables.len()? >= self.capacity() && gone.len() < MAX_AT_ONCE {
            let Some(id) = self.longest_unused(tables)? else { break };
            if let Some(record) = tables.take(id)? {
                gone.push(self.gone(id, &record));
            }
        }
        Ok(gone)
    }

    fn longest_unused(&self, tables: &Tables<'_>) -> Result<Option<SessionId>, Fault> {
        let mut noted = self.longest_unused.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..2 {
            while let Some((used_at, id)) = noted.pop() {
                if tables.row(id)?.is_some_and(|row| self.used_at(id, row) == used_at) {
                    return Ok(Some(id));
                }
            }
            let mut oldest = BinaryHeap::with_capacity(NOTED + 1);
            tables.each_row(|id, row| {
                oldest.push((self.used_at(id, row), id));
                if oldest.len() > NOTED {
                    oldest.pop();
                }
            })?;
            // The longest unused last, where it is taken from.
            *noted = oldest.into_sorted_vec();
            noted.reverse();
        }
        Ok(None)
    }

    /// The last use, written down or not. Here nobody asks whether an earlier run was killed.
    fn used_at(&self, id: SessionId, row: Row) -> Timestamp {
        self.cache.unnoted(id).map_or(row.last_used_at, |used_at| used_at.max(row.last_used_at))
    }
}
