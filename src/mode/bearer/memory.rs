//! Tokens that were verified a moment ago: a signature costs more than everything else about a request.
//!
//! Only good tokens are remembered, by their hash, so strangers cannot fill it. It is bounded all the same: what is
//! young pushes out what is old, in two generations for each shard, so that nothing has to be sorted or swept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderName, HeaderValue};

use crate::provider::AccessClaims;
use crate::time::Timestamp;

/// Requests of different tokens rarely meet at one lock.
const SHARDS: usize = 16;

/// Most tokens of one generation of one shard; with all of them full, a route remembers 16,384.
const MAX_TOKENS: usize = 512;

/// Most bytes of tokens of one generation of one shard. Claims take a few times the size of their token.
const MAX_BYTES: usize = 512 * 1024;

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
    pub(super) fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
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
    young: HashMap<Fingerprint, Arc<Known>>,
    old: HashMap<Fingerprint, Arc<Known>>,
    /// Bytes of the tokens in `young`.
    bytes: usize,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} + {} tokens", self.young.len(), self.old.len())
    }
}

impl Memory {
    /// The bearer of the token, if that is known and still holds. `len` is the token's.
    pub(super) fn find(&self, token: &Fingerprint, len: usize, now: Timestamp) -> Option<Arc<Known>> {
        let mut shard = self.shard(token)?.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shard.young.get(token) {
            if known.claims.still_hold(now) {
                return Some(Arc::clone(known));
            }
            shard.young.remove(token);
            return None;
        }
        let known = shard.old.remove(token)?;
        if !known.claims.still_hold(now) {
            return None;
        }
        shard.keep(*token, Arc::clone(&known), len);
        Some(known)
    }

    /// Remembers the bearer of a token.
    pub(super) fn keep(&self, token: Fingerprint, len: usize, known: &Arc<Known>) {
        if let Some(shard) = self.shard(&token) {
            shard.lock().unwrap_or_else(PoisonError::into_inner).keep(token, Arc::clone(known), len);
        }
    }

    fn shard(&self, Fingerprint(bytes): &Fingerprint) -> Option<&Mutex<Shard>> {
        let [first, ..] = bytes;
        self.shards.get(usize::from(*first) % SHARDS)
    }
}

impl Shard {
    fn keep(&mut self, token: Fingerprint, known: Arc<Known>, len: usize) {
        if self.young.len() >= MAX_TOKENS || self.bytes + len > MAX_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += len;
        self.young.insert(token, known);
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
        memory
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap())
            .map(|shard| shard.young.len() + shard.old.len())
            .sum()
    }

    #[test]
    fn jv_19_it_is_bounded_by_number_and_by_bytes_whoever_fills_it() {
        let now = Timestamp::from_unix(1_000);
        let lasting = known(now.plus(Duration::from_secs(60)));
        for (len, most) in [(100, 2 * SHARDS * MAX_TOKENS), (8 * 1024, 2 * SHARDS * MAX_BYTES / (8 * 1024))] {
            let memory = Memory::default();
            let tokens: Vec<_> = (0..40_000).map(|number| Fingerprint::of(&format!("token-{number}"))).collect();
            for token in &tokens {
                memory.keep(*token, len, &lasting);
                assert!(memory.find(token, len, now).is_some(), "the newest is always there");
            }
            let count = kept(&memory);
            assert!((most / 4..=most).contains(&count), "{count} of {most} at {len} bytes each");
            let first = tokens.first().unwrap();
            assert!(memory.find(first, len, now).is_none(), "the oldest had to go");
        }
    }

    #[test]
    fn jv_19_what_is_asked_for_stays_and_what_is_over_goes() {
        let now = Timestamp::from_unix(1_000);
        let memory = Memory::default();
        let (asked_for, lasting) = (Fingerprint::of("asked for"), known(now.plus(Duration::from_secs(60))));
        memory.keep(asked_for, 100, &lasting);
        for number in 0..40_000 {
            memory.keep(Fingerprint::of(&format!("token-{number}")), 100, &lasting);
            assert!(memory.find(&asked_for, 100, now).is_some());
        }
        assert!(memory.find(&asked_for, 100, now.plus(Duration::from_secs(60))).is_none());
        assert!(memory.find(&asked_for, 100, now).is_none(), "it was forgotten, not only passed over");
    }
}
