//! What the next process must know for a while beside sessions: which logout tokens were used, and who was logged out.

use crate::session::Error;
use crate::session::file::{File, guarded};
use crate::time::Timestamp;

impl File {
    /// Notes `value` under `name` until `over_at`, whatever was there.
    pub(in crate::session) async fn note(&self, name: &str, value: &[u8], over_at: Timestamp) -> Result<(), Error> {
        let (name, value) = (name.to_owned(), value.to_vec());
        self.commit(move |tables| tables.note(&name, &value, over_at), |()| {}).await
    }

    /// What is noted under `names`, in their order.
    pub(in crate::session) async fn noted(
        &self,
        names: &[String],
        now: Timestamp,
    ) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let book = self.book().await?;
        guarded(|| book.noted(names, now)).map_err(|why| self.shared.unreadable(&why))
    }

    /// Forgets what is over.
    pub(super) async fn sweep_notes(&self, now: Timestamp) -> Result<(), Error> {
        let book = self.book().await?;
        if !guarded(|| book.has_old_notes(now)).map_err(|why| self.shared.unreadable(&why))? {
            return Ok(());
        }
        self.commit(move |tables| tables.drop_old_notes(now), |()| {}).await
    }
}
