//! The secret that a browser holds, and the id that everybody else knows its session by.

use std::fmt;

use aws_lc_rs::digest;

use crate::web::RandomError;

/// How many characters a handle has: 32 bytes in base64url.
const HANDLE_LEN: usize = 43;

/// The secret that a browser holds: 256 random bits. No `Display`, masked `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Handle(String);

impl Handle {
    /// A new one.
    ///
    /// # Errors
    /// [`RandomError`] when there are no random bytes.
    pub fn new() -> Result<Self, RandomError> {
        crate::web::token().map(Self)
    }

    /// One that was sealed by us; `None` when it cannot be.
    #[must_use]
    pub fn from_sealed(text: String) -> Option<Self> {
        SessionId::of_cookie(text.as_bytes()).map(|_| Self(text))
    }

    /// The cookie value.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The session that it opens.
    #[must_use]
    pub fn id(&self) -> SessionId {
        SessionId::hash(self.0.as_bytes())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[handle]")
    }
}

/// What the store and the log know a session by: SHA-256 of its handle. Looking it up by hash makes the comparison
/// independent of the secret's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(super) [u8; 32]);

impl SessionId {
    /// The id for a cookie value; `None` when it cannot be a handle of ours.
    #[must_use]
    pub fn of_cookie(value: &[u8]) -> Option<Self> {
        let url_safe = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (value.len() == HANDLE_LEN && value.iter().all(url_safe)).then(|| Self::hash(value))
    }

    fn hash(handle: &[u8]) -> Self {
        let mut id = [0; 32];
        for (to, from) in id.iter_mut().zip(digest::digest(&digest::SHA256, handle).as_ref()) {
            *to = *from;
        }
        Self(id)
    }

    /// All of it in hex, as operators get it.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().fold(String::with_capacity(64), |text, byte| text + &format!("{byte:02x}"))
    }

    /// The id that [`hex`](Self::hex) wrote as `text`.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut id = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (at, byte) in id.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Self(id))
    }

    /// The hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for SessionId {
    /// The first eight bytes in hex: enough to find a session in the log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
