//! What providers have said about the end of sessions, for as long as it matters: which logout tokens were used, and who
//! was logged out while a login of theirs may still be on its way.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::provider::{Attempt, LogoutToken};
use crate::session::Session;
use crate::time::Timestamp;

/// Most of each that is remembered. Only tokens that a provider signed get here.
const MAX: usize = 50_000;
/// How many bad tokens an address may send within [`WINDOW`].
const MAX_BAD: u32 = 60;
const WINDOW: Duration = Duration::from_secs(60);
/// Most addresses that are counted.
const MAX_ADDRESSES: usize = 10_000;

/// Why a logout token is not acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unheard {
    /// It was used before (BC-5).
    Replayed,
    /// More is remembered than there is room for: fail closed.
    Full,
}

/// All of it; outlives snapshots, and ends with the process.
#[derive(Debug, Default)]
pub struct Farewells(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    /// Issuer and `jti` of the tokens that were used, until they would be too old anyway.
    used: HashMap<(String, String), Timestamp>,
    /// Who was logged out, when.
    gone: HashMap<Who, Timestamp>,
    /// Bad tokens by the address that they came from: how many since when.
    bad: HashMap<IpAddr, (Timestamp, u32)>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Who {
    Subject(String, String),
    Sid(String, String),
}

impl Farewells {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a token of `issuer` and whom it logs out, once.
    pub(super) fn note(&self, issuer: &str, token: &LogoutToken, now: Timestamp) -> Result<(), Unheard> {
        let mut book = self.book();
        let key = (issuer.to_owned(), token.jti.clone());
        if book.used.get(&key).is_some_and(|until| now < *until) {
            return Err(Unheard::Replayed);
        }
        if book.used.len() >= MAX || book.gone.len() >= MAX {
            book.used.retain(|_, until| now < *until);
            // A login that began later is not meant, and one that began before is over by then.
            book.gone.retain(|_, noted| now.since(*noted) <= Attempt::LIFETIME);
        }
        if book.used.len() >= MAX || book.gone.len() >= MAX {
            return Err(Unheard::Full);
        }
        book.used.insert(key, token.over_at);
        let who = match (&token.sid, &token.subject) {
            (Some(sid), _) => Who::Sid(issuer.to_owned(), sid.clone()),
            (None, Some(subject)) => Who::Subject(issuer.to_owned(), subject.clone()),
            (None, None) => return Ok(()),
        };
        book.gone.insert(who, now);
        Ok(())
    }

    /// Forgets that a token was used: nothing came of it, and the provider may send it again.
    pub(super) fn take_back(&self, issuer: &str, token: &LogoutToken) {
        self.book().used.remove(&(issuer.to_owned(), token.jti.clone()));
    }

    /// Whether the user of `session`, whose login began at `begun`, was logged out since (BC-8).
    pub(super) fn cover(&self, session: &Session, begun: Timestamp) -> bool {
        let book = self.book();
        let since = |who: &Who| book.gone.get(who).is_some_and(|noted| *noted >= begun);
        let issuer = &session.binding.issuer;
        since(&Who::Subject(issuer.clone(), session.subject.clone()))
            || session.sid.as_ref().is_some_and(|sid| since(&Who::Sid(issuer.clone(), sid.clone())))
    }

    /// Whether `address` has sent too many bad tokens lately (BC-7).
    pub(super) fn is_noisy(&self, address: IpAddr, now: Timestamp) -> bool {
        let book = self.book();
        book.bad.get(&address).is_some_and(|(since, count)| *count >= MAX_BAD && now.since(*since) < WINDOW)
    }

    /// Counts a bad token.
    pub(super) fn was_bad(&self, address: IpAddr, now: Timestamp) {
        let mut book = self.book();
        if book.bad.len() >= MAX_ADDRESSES {
            book.bad.retain(|_, (since, _)| now.since(*since) < WINDOW);
        }
        if book.bad.len() < MAX_ADDRESSES || book.bad.contains_key(&address) {
            let (since, count) = book.bad.entry(address).or_insert((now, 0));
            if now.since(*since) >= WINDOW {
                (*since, *count) = (now, 0);
            }
            *count += 1;
        }
    }
}
