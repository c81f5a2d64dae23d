//! What all processes must know for a while beside sessions: which logins and logouts were used, and who was logged out.

use std::time::Duration;

use crate::session::Error;
use crate::session::redis::Redis;

impl Redis {
    /// Notes `value` under `name` for `time`, unless something else is noted there; true when it was the first. No two
    /// callers may have the same value.
    pub(in crate::session) async fn note_first(&self, name: &str, value: &[u8], time: Duration) -> Result<bool, Error> {
        let mut set = redis::cmd("SET");
        set.arg(self.noted(name)).arg(value).arg("NX").arg("PX").arg(milliseconds(time));
        if self.link.call::<Option<String>>(&set).await?.is_some() {
            return Ok(true);
        }
        // The same value is our own, whose answer was lost.
        let before = self.noted_under(&[name.to_owned()]).await?;
        Ok(matches!(before.as_slice(), [Some(before)] if before == value))
    }

    /// Notes `value` under `name` for `time`, whatever was there.
    pub(in crate::session) async fn note(&self, name: &str, value: &[u8], time: Duration) -> Result<(), Error> {
        let mut set = redis::cmd("SET");
        set.arg(self.noted(name)).arg(value).arg("PX").arg(milliseconds(time));
        self.link.call(&set).await
    }

    /// What is noted under `names`, in their order.
    pub(in crate::session) async fn noted_under(&self, names: &[String]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let names: Vec<String> = names.iter().map(|name| self.noted(name)).collect();
        self.link.call(redis::cmd("MGET").arg(names)).await
    }

    /// Takes a note away and answers what it was.
    pub(in crate::session) async fn take_note(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.link.call(redis::cmd("GETDEL").arg(self.noted(name))).await
    }

    fn noted(&self, name: &str) -> String {
        format!("{}:n:{name}", self.link.options().prefix)
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
