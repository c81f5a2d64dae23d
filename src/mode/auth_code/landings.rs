//! How logins landed, for the other processes that share a store: a repeated callback may come to any of them, and one
//! token request answers all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Reason;
use crate::mode::auth_code::attempt;
use crate::mode::auth_code::flights::{Failure, Landing, REPEAT};
use crate::session::{Error, Handle, Sessions};
use crate::time::Timestamp;
use crate::web::{KeyRing, Purpose};

/// How long an exchange in another process is waited for: longer than the provider may take.
const WAIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// The board of one login.
pub(super) struct Landings<'a> {
    pub(super) sessions: &'a Sessions,
    pub(super) keys: &'a KeyRing,
    /// The public name of its state.
    pub(super) name: &'a str,
    /// The instant of the callback.
    pub(super) now: Timestamp,
}

impl Landings<'_> {
    fn note(&self) -> String {
        format!("login:{}", self.name)
    }

    /// Whether no other process has this login.
    pub(super) async fn is_first(&self) -> Result<bool, Error> {
        let own = crate::web::token()?;
        self.sessions.note_first(&self.note(), own.as_bytes(), attempt::LIFETIME).await
    }

    /// Tells the others. Where that fails, a repeated callback that comes to them begins anew.
    pub(super) async fn tell(&self, landing: &Landing) -> Result<(), Error> {
        let plain = match landing {
            Landing::LoggedIn(handle, target) => Some((handle.expose(), &**target)),
            Landing::Failed(_) => None,
        };
        let plain = postcard::to_stdvec(&(self.now.unix(), plain)).map_err(|_| Error::Unwritable)?;
        let sealed = self.keys.seal_bytes(Purpose::Login, self.note().as_bytes(), &plain)?;
        // The code is used for as long as the attempt could be shown again; after a while only that is said.
        self.sessions.note(&self.note(), &sealed, (attempt::LIFETIME, self.now)).await
    }

    /// How it landed, `None` while it has not, or when nobody knows any more.
    pub(super) async fn told(&self) -> Result<Option<Landing>, Error> {
        let noted = self.sessions.noted(&[self.note()], self.now).await?.pop().flatten();
        let plain = noted.and_then(|sealed| self.keys.open_bytes(Purpose::Login, self.note().as_bytes(), &sealed).ok());
        Ok(plain.and_then(|plain| {
            let (landed_at, landing) = postcard::from_bytes::<(i64, Option<(String, String)>)>(&plain).ok()?;
            let is_old = self.now.since(Timestamp::from_unix(landed_at)) > REPEAT;
            Some(match landing.filter(|_| !is_old) {
                Some((handle, target)) => Landing::LoggedIn(Handle::from_sealed(handle)?, Arc::from(target)),
                // Why, the other process has told its browser.
                None => failed(Reason::LoginUsed),
            })
        }))
    }

    /// Waits for another process to land it.
    pub(super) async fn wait(&self) -> Landing {
        let begun = Instant::now();
        while begun.elapsed() < WAIT {
            match self.told().await {
                Ok(Some(landing)) => return landing,
                Ok(None) => tokio::time::sleep(LOOK).await,
                Err(_) => return failed(Reason::StoreUnavailable),
            }
        }
        failed(Reason::LoginUsed)
    }
}

fn failed(reason: Reason) -> Landing {
    Landing::Failed(Failure { reason, words: None })
}
