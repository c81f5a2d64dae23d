//! A token's text in fewer bytes. The parts of a JWT are base64url of something, and that something is a quarter
//! shorter; the text is given back byte for byte.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// A signed JWT has three parts, an encrypted one five.
const MAX_PARTS: usize = 5;

/// A packed text.
#[derive(Serialize, Deserialize)]
pub(super) struct Packed<'a> {
    /// Where each decoded part ends in `bytes`; none: `bytes` are the text itself.
    ends: Vec<u32>,
    #[serde(borrow)]
    bytes: Cow<'a, [u8]>,
}

impl<'a> Packed<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        decoded(text).unwrap_or(Self { ends: Vec::new(), bytes: Cow::Borrowed(text.as_bytes()) })
    }

    /// The text; `None` when nothing of ours made this value.
    pub(super) fn text(&self) -> Option<String> {
        if self.ends.is_empty() {
            return std::str::from_utf8(&self.bytes).ok().map(str::to_owned);
        }
        let mut text = String::with_capacity(self.bytes.len().saturating_mul(4) / 3 + MAX_PARTS * 2);
        let mut start = 0;
        for (number, end) in self.ends.iter().enumerate() {
            let end = usize::try_from(*end).ok()?;
            if number > 0 {
                text.push('.');
            }
            URL_SAFE_NO_PAD.encode_string(self.bytes.get(start..end)?, &mut text);
            start = end;
        }
        Some(text)
    }
}

/// The parts of `text`, when encoding them again gives `text` again: the engine decodes canonical base64url only.
fn decoded(text: &str) -> Option<Packed<'static>> {
    if text.bytes().filter(|byte| *byte == b'.').count() >= MAX_PARTS {
        return None;
    }
    let (mut ends, mut bytes) = (Vec::new(), Vec::with_capacity(text.len()));
    for part in text.split('.') {
        URL_SAFE_NO_PAD.decode_vec(part, &mut bytes).ok()?;
        ends.push(u32::try_from(bytes.len()).ok()?);
    }
    Some(Packed { ends, bytes: Cow::Owned(bytes) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn through(text: &str) -> (String, usize) {
        let wire = postcard::to_stdvec(&Packed::new(text)).unwrap();
        (postcard::from_bytes::<Packed<'_>>(&wire).unwrap().text().unwrap(), wire.len())
    }

    #[test]
    fn a_jwt_takes_three_quarters_and_comes_back_the_same() {
        let jwt = format!("eyJhbGciOiJSUzI1NiJ9.{}.{}", "QUJD".repeat(200), "REVG".repeat(100));
        let (text, len) = through(&jwt);
        assert_eq!(text, jwt);
        assert!(len < jwt.len() * 3 / 4 + 20, "{len} of {}", jwt.len());
    }

    #[test]
    fn what_is_no_jwt_comes_back_the_same() {
        for text in ["", ".", "..", "a", "opaque", "a.b.c", "e30.e31", "QUI=", "x y", "ä", "a.b.c.d.e.f", "QUJD.QUJD"]
        {
            assert_eq!(through(text).0, text);
        }
    }

    proptest! {
        #[test]
        fn every_text_comes_back_the_same(text in "[ -~]{0,80}|([A-Za-z0-9_-]{0,40}\\.){0,6}[A-Za-z0-9_-]{0,9}") {
            prop_assert_eq!(through(&text).0, text);
        }
    }
}
