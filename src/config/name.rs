//! Names that operators choose.

use std::fmt;
use std::sync::Arc;

use super::report::{Wrong, quote};

/// A name given by the operator: `[a-z0-9]` then up to 62 of `[a-z0-9_-]`, so that it fits a metric label, a cookie
/// name and a path segment as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// `None` when `text` breaks the rule above.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = text.bytes();
        let first = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let rest = bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-'));
        (first && rest && text.len() <= 63).then(|| Self(text.into()))
    }

    /// [`parse`](Self::parse) for a config, which wants to know what is wrong.
    pub(super) fn judge(text: &str) -> Result<Self, Wrong> {
        Self::parse(text).ok_or_else(|| {
            Wrong::new(format!("{} cannot be a name", quote(text)))
                .hint("use small letters, digits, `-` and `_`, up to 63 of them, and begin with a letter or a digit")
        })
    }

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Like a string's, so that a config prints in fewer lines.
impl fmt::Debug for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
