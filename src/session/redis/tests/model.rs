//! What the scripts do with a lease, in a few lines: begin, hold, replace and end, as the server does each in one step.

use crate::session::redis::Word;

/// A session as far as refreshing is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Store {
    pub(super) there: bool,
    pub(super) version: u64,
    /// Of the last lease that was given.
    pub(super) fence: u64,
    /// Whose the lease is.
    pub(super) lease: Option<usize>,
    /// The version whose token was last sent, when what came of it is not known.
    pub(super) sent: Option<u64>,
    /// The fence at which the provider has refused it.
    pub(super) denied: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    Lease { fence: u64, interrupted: bool },
    Elsewhere,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replaced {
    Done,
    Stale,
    Fenced,
    Gone,
}

impl Store {
    pub(super) fn new() -> Self {
        Self { there: true, ..Self::default() }
    }

    /// `patient` is who leaves a token alone that may have been sent; in the end nobody is.
    pub(super) fn begin(&mut self, owner: usize, version: u64, patient: bool) -> Begun {
        if !self.there {
            return Begun::Gone;
        }
        if self.version != version || self.lease.is_some() {
            return Begun::Elsewhere;
        }
        let interrupted = self.sent == Some(version);
        if interrupted && patient {
            return Begun::Elsewhere;
        }
        self.fence += 1;
        (self.lease, self.sent) = (Some(owner), Some(version));
        Begun::Lease { fence: self.fence, interrupted }
    }

    /// Whether the lease is still theirs.
    pub(super) fn hold(&mut self, owner: usize, (fence, interrupted): (u64, bool), word: Word) -> bool {
        if self.lease != Some(owner) {
            return false;
        }
        match word {
            Word::Renew => {}
            Word::Deny => self.denied = Some(fence).filter(|_| self.there),
            Word::Leave => {
                self.lease = None;
                self.sent = self.sent.filter(|_| interrupted);
            }
        }
        true
    }

    pub(super) fn replace(&mut self, version: u64, fence: u64) -> Replaced {
        if !self.there {
            return Replaced::Gone;
        }
        if self.version + 1 != version {
            return Replaced::Stale;
        }
        if self.fence != fence && self.denied != Some(self.fence) {
            return Replaced::Fenced;
        }
        (self.version, self.sent, self.denied, self.lease) = (version, None, None, None);
        Replaced::Done
    }

    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// Its time is over.
    pub(super) fn expire(&mut self) {
        self.lease = None;
    }
}
