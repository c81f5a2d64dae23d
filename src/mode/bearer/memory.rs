//! Tokens that were verified a moment ago: a signature costs more than everything else about a request.
//!
//! Only good tokens are remembered, by their hash, so strangers cannot fill it. It is bounded all the same: the oldest
//! goes first, unless it was asked for since its last turn. One goes for each that comes: throwing out many at once made
//! the allocator put thousands of small pieces in order, in the middle of somebody's request.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderName, HeaderValue};

use crate::provider::AccessClaims;
use crate::time::Timestamp;

/// Requests of different tokens rarely meet at one lock.
const SHARDS: usize = 16;

/// Most tokens of one shard; with all of them full, a route remembers 16,384.
const MAX_TOKENS: usize = 1024;

/// Most bytes of tokens of one shard. What is kept of a token takes about as much.
const MAX_BYTES: usize = 1024 * 1024;

/// The bearer of a token, as far as the token tells.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) claims: AccessClaims,
    pub(super) groups: Vec<String>,
    /// The headers of a verdict, once they were asked for.
    pub(super) told: OnceLock<Vec<(HeaderName, HeaderValue)>>,
}

/// SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(super) fn of(token: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token).as_ref());
        Self(bytes)
    }
}

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Memory {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    tokens: HashMap<Fingerprint, Entry>,
    /// All of `tokens`, the one whose turn to go is next at the front.
    order: VecDeque<Fingerprint>,
    /// Bytes of all tokens.
    bytes: usize,
}

struct Entry {
    known: Arc<Known>,
    len: usize,
    /// Whether it was asked for since its last turn.
    used: bool,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} tokens", self.tokens.len())
    }
}

impl Memory {
    /// The bearer of the token, if that is known and still holds.
    pub(super) fn find(&self, token: &Fingerprint, now: Timestamp) -> Option<Arc<Known>> {
        let mut shard = self.shard(token)?.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = shard.tokens.get_mut(token).filter(|entry| entry.known.claims.still_hold(now))?;
        entry.used = true;
        Some(Arc::clone(&entry.known))
    }

    /// Remembers the bearer of a token. `len` is the token's.
    pub(super) fn keep(&self, token: Fingerprint, len: usize, known: &Arc<Known>) {
        let Some(shard) = self.shard(&token) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = shard.keep(token, Entry { known: Arc::clone(known), len, used: false });
        // Taking apart what had to go is nothing that others should wait for.
        drop(shard);
        drop(gone);
    }

    fn shard(&self, Fingerprint(bytes): &Fingerprint) -> Option<&Mutex<Shard>> {
        let [first, ..] = bytes;
        self.shards.get(usize::from(*first) % SHARDS)
    }
}

impl Shard {
    /// Takes an entry in, and gives back what had to go for it.
    fn keep(&mut self, token: Fingerprint, entry: Entry) -> Vec<Entry> {
        self.bytes += entry.len;
        let mut gone = Vec::new();
        match self.tokens.insert(token, entry) {
            Some(before) => {
                self.bytes = self.bytes.saturating_sub(before.len);
                gone.push(before);
            }
            None => self.order.push_back(token),
        }
        // Each has one more turn at most, so that this ends.
        let mut turns = 2 * self.order.len();
        while (self.tokens.len() > MAX_TOKENS || self.bytes > MAX_BYTES) && turns > 0 {
            turns -= 1;
            let Some(next) = self.order.pop_front() else { break };
            match self.tokens.get_mut(&next) {
                Some(entry) if entry.used || next == token => {
                    entry.used = false;
                    self.order.push_back(next);
                }
                Some(_) => {
                    if let Some(entry) = self.tokens.remove(&next) {
                        self.bytes = self.bytes.saturating_sub(entry.len);
                        gone.push(entry);
                    }
                }
                None => {}
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn known(until: Timestamp) -> Arc<Known> {
        Arc::new(Known { claims: AccessClaims::lasting(until), groups: Vec::new(), told: OnceLock::new() })
    }

    fn kept(memory: &Memory) -> usize {
        memory.shards.iter().map(|shard| shard.lock().unwrap()).map(|shard| shard.tokens.len()).sum()
    }

    #[test]
    fn jv_19_it_is_bounded_by_number_and_by_bytes_whoever_fills_it() {
        let now = Timestamp::from_unix(1_000);
        let lasting = known(now.plus(Duration::from_secs(60)));
        for (len, most) in [(100, SHARDS * MAX_TOKENS), (8 * 1024, SHARDS * MAX_BYTES / (8 * 1024))] {
            let memory = Memory::default();
            let tokens: Vec<_> =
                (0..40_000).map(|number| Fingerprint::of(format!("token-{number}").as_bytes())).collect();
            for token in &tokens {
                memory.keep(*token, len, &lasting);
                assert!(memory.find(token, now).is_some(), "the newest is always there");
            }
            let count = kept(&memory);
            assert!((most / 2..=most).contains(&count), "{count} of {most} at {len} bytes each");
            let first = tokens.first().unwrap();
            assert!(memory.find(first, now).is_none(), "the oldest had to go");
        }
    }

    #[test]
    fn jv_19_what_is_asked_for_stays_and_what_is_over_counts_for_nothing() {
        let now = Timestamp::from_unix(1_000);
        let memory = Memory::default();
        let (asked_for, lasting) = (Fingerprint::of(b"asked for"), known(now.plus(Duration::from_secs(60))));
        memory.keep(asked_for, 100, &lasting);
        for number in 0..40_000 {
            memory.keep(Fingerprint::of(format!("token-{number}").as_bytes()), 100, &lasting);
            assert!(memory.find(&asked_for, now).is_some());
        }
        assert!(memory.find(&asked_for, now.plus(Duration::from_secs(60))).is_none());
    }

    #[test]
    fn jv_19_a_token_that_is_verified_again_and_again_is_kept_once() {
        let now = Timestamp::from_unix(1_000);
        let memory = Memory::default();
        let token = Fingerprint::of(b"polling");
        for minute in 0..5_000 {
            let now = now.plus(Duration::from_secs(60 * minute));
            assert!(memory.find(&token, now).is_none(), "it is over");
            memory.keep(token, 100, &known(now.plus(Duration::from_secs(60))));
        }
        assert_eq!(kept(&memory), 1);
        let orders = memory.shards.iter().map(|shard| shard.lock().unwrap().order.len());
        assert_eq!(orders.sum::<usize>(), 1);
    }
}
