//! Finding the sessions of a user or of the provider's session without looking at all of them.

use aws_lc_rs::digest;

use crate::session::{Selector, Session};

/// What a store's index is ordered by: the front of SHA-256 over kind, issuer and name. A hit is compared with the
/// session itself, so that a collision does no harm.
pub(super) type IndexKey = u64;

impl Selector<'_> {
    /// Where to look; `None` for a single session, which is found by its id.
    pub(super) fn key(&self) -> Option<IndexKey> {
        match self {
            Self::Id(_) => None,
            Self::Subject { issuer, subject } => Some(key(b"sub", issuer, subject)),
            Self::Sid { issuer, sid } => Some(key(b"sid", issuer, sid)),
        }
    }

    /// Whether `session` is meant.
    pub(super) fn selects(&self, session: &Session) -> bool {
        match self {
            Self::Id(id) => session.id == *id,
            Self::Subject { issuer, subject } => session.binding.issuer == *issuer && session.subject == *subject,
            Self::Sid { issuer, sid } => session.binding.issuer == *issuer && session.sid.as_deref() == Some(*sid),
        }
    }
}

/// The keys that `session` is found by: its user's, and that of the provider's session, when it has one.
pub(super) fn keys(session: &Session) -> (IndexKey, Option<IndexKey>) {
    let issuer = &session.binding.issuer;
    (key(b"sub", issuer, &session.subject), session.sid.as_ref().map(|sid| key(b"sid", issuer, sid)))
}

fn key(kind: &[u8; 3], issuer: &str, name: &str) -> IndexKey {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(kind);
    context.update(&(issuer.len() as u64).to_le_bytes());
    context.update(issuer.as_bytes());
    context.update(name.as_bytes());
    let hash = context.finish();
    // SHA-256 has more than eight bytes.
    hash.as_ref().first_chunk::<8>().map_or(0, |head| u64::from_le_bytes(*head))
}
