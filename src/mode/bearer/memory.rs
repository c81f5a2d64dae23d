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
