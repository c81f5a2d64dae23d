//! What was said about the end of sessions, for as long as it matters: which logout tokens were used, and who was logged
//! out while a login of theirs may still be on its way. Processes that share a store share this, and a store in a file keeps it
//! for the next one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;

use crate::provider::{Attempt, LogoutToken};
use crate::session::{Error, Session, Sessions};
use crate::time::Timestamp;

/// Most of each that is remembered. Only tokens that a provider signed get here, and operators.
const MAX: usize = 50_000;
/// Most front-channel logouts that are: anybody can ask for one.
const MAX_UNSIGNED: usize = 10_000;
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
    /// More is remembered than there is room for, or the store does not answer: fail closed.
    Full,
}

/// All of it; outlives snapshots.
#[derive(Debug, Default)]
pub struct Farewells(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    /// The tokens that were used, until they would be too old anyway.
    used: HashMap<String, Timestamp>,
    /// Who was logged out, when.
    gone: HashMap<String, Timestamp>,
    /// Bad tokens by the address that they came from: how many since when.
    bad: HashMap<IpAddr, (Timestamp, u32)>,
}

/// Who was logged out; what is not said does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Who<'a> {
    /// The issuer.
    pub issuer: Option<&'a str>,
    /// `sub`.
    pub subject: Option<&'a str>,
    /// `sid`.
    pub sid: Option<&'a str>,
    /// The route of the login.
    pub route: Option<&'a str>,
    /// The provider, by its name in the configuration.
    pub provider: Option<&'a str>,
}

impl Who<'_> {
    /// What it is remembered by.
    fn name(&self) -> String {
        let Who { issuer, subject, sid, route, provider } = self;
        format!("gone:{}", hash(&[*issuer, *subject, *sid, *route, *provider]))
    }

    /// The names of everybody who `session` is: as providers say it, by issuer and `sub` or `sid`, and as operators do, by
    /// any of `sub`, `sid`, route and provider, or none.
    fn names(session: &Session) -> Vec<String> {
        let (issuer, subject) = (Some(session.binding.issuer.as_str()), Some(session.subject.as_str()));
        let (sid, route) = (session.sid.as_deref(), Some(session.binding.route.as_str()));
        let provider = Some(session.binding.provider.as_str());
        let mut names = vec![Who { issuer, subject, ..Who::default() }.name()];
        if sid.is_some() {
            names.push(Who { issuer, sid, ..Who::default() }.name());
        }
        for said in 0_u8..16 {
            let bit = |bit: u8| said & (1 << bit) != 0;
            if bit(1) && sid.is_none() {
                continue;
            }
            let who = Who {
                issuer: None,
                subject: subject.filter(|_| bit(0)),
                sid: sid.filter(|_| bit(1)),
                route: route.filter(|_| bit(2)),
                provider: provider.filter(|_| bit(3)),
            };
            names.push(who.name());
        }
        names
    }
}

impl Farewells {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a token of `issuer` to act on, once; see [`heard`](Self::heard) and [`take_back`](Self::take_back).
    pub(super) async fn hear(
        &self,
        sessions: &Sessions,
        (issuer, token): (&str, &LogoutToken),
        now: Timestamp,
    ) -> Result<(), Unheard> {
        let name = used(issuer, token);
        self.hear_here(&name, token.over_at, now)?;
        match sessions.noted(std::slice::from_ref(&name), now).await.as_deref() {
            Ok([None]) => Ok(()),
            Ok(_) => Err(Unheard::Replayed),
            Err(_) => {
                self.book().used.remove(&name);
                Err(Unheard::Full)
            }
        }
    }

    /// Notes for everybody else that a token is used: after it was acted on, so that one whose process was killed meanwhile
    /// is good when the provider sends it again.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer.
    pub(super) async fn heard(
        &self,
        sessions: &Sessions,
        (issuer, token): (&str, &LogoutToken),
        now: Timestamp,
    ) -> Result<(), Error> {
        sessions.note(&used(issuer, token), b"", (token.over_at.since(now), now)).await
    }

    fn hear_here(&self, name: &str, over_at: Timestamp, now: Timestamp) -> Result<(), Unheard> {
        let mut book = self.book();
        if book.used.get(name).is_some_and(|until| now < *until) {
            return Err(Unheard::Replayed);
        }
        if book.used.len() >= MAX {
            book.used.retain(|_, until| now < *until);
        }
        if book.used.len() >= MAX {
            return Err(Unheard::Full);
        }
        book.used.insert(name.to_owned(), over_at);
        Ok(())
    }

    /// Forgets that a token was used: nothing came of it, and the provider may send it again.
    pub(super) fn take_back(&self, issuer: &str, token: &LogoutToken) {
        self.book().used.remove(&used(issuer, token));
    }

    /// Notes that all of `who` are logged out: from now on, no login ends well that has begun before.
    ///
    /// # Errors
    /// [`Error`] when there is no room, or the store does not answer.
    pub async fn note(&self, sessions: &Sessions, who: Who<'_>, now: Timestamp) -> Result<(), Error> {
        self.remember(sessions, who, (MAX, now)).await
    }

    /// The same on the word of somebody who may be anybody: when there are too many, what they say is not remembered.
    pub(super) async fn note_unsigned(&self, sessions: &Sessions, who: Who<'_>, now: Timestamp) -> Result<(), Error> {
        match self.remember(sessions, who, (MAX_UNSIGNED, now)).await {
            Err(Error::Busy) => Ok(()),
            noted => noted,
        }
    }

    async fn remember(&self, sessions: &Sessions, who: Who<'_>, (most, now): (usize, Timestamp)) -> Result<(), Error> {
        let name = who.name();
        {
            let mut book = self.book();
            if book.gone.len() >= most {
                // A login that began later is not meant, and one that began before is over by then.
                book.gone.retain(|_, noted| now.since(*noted) <= Attempt::LIFETIME);
            }
            if book.gone.len() >= most && !book.gone.contains_key(&name) {
                return Err(Error::Busy);
            }
            book.gone.insert(name.clone(), now);
        }
        sessions.note(&name, now.unix().to_string().as_bytes(), (Attempt::LIFETIME, now)).await
    }

    /// Whether the user of `session`, whose login began at `begun`, was logged out since (BC-8).
    ///
    /// # Errors
    /// [`Error`] when the store does not answer: it is not known then.
    pub(super) async fn cover(
        &self,
        sessions: &Sessions,
        session: &Session,
        (begun, now): (Timestamp, Timestamp),
    ) -> Result<bool, Error> {
        let names = Who::names(session);
        {
            let book = self.book();
            if names.iter().any(|name| book.gone.get(name).is_some_and(|noted| *noted >= begun)) {
                return Ok(true);
            }
        }
        let noted = sessions.noted(&names, now).await?;
        let since = |noted: Vec<u8>| String::from_utf8(noted).ok()?.parse().ok().map(Timestamp::from_unix);
        Ok(noted.into_iter().flatten().filter_map(since).any(|noted| noted >= begun))
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

fn used(issuer: &str, token: &LogoutToken) -> String {
    format!("used:{}", hash(&[Some(issuer), Some(&token.jti)]))
}

/// SHA-256 in hex over parts that cannot be mistaken for each other.
fn hash(parts: &[Option<&str>]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        context.update(&length.to_le_bytes());
        context.update(part.unwrap_or_default().as_bytes());
    }
    context
        .finish()
        .as_ref()
        .iter()
        .fold(String::with_capacity(64), |text, byte| text + &format!("{byte:02x}"))
}
