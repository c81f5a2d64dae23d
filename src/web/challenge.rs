//! `WWW-Authenticate` of somebody else's answer, read by the letter (RFC 9110 11.6.1): several challenges may stand in one
//! header, and commas part both them and what each of them says.

use http::header::{HeaderMap, WWW_AUTHENTICATE};

/// Longest header that is looked at, in bytes.
const MAX_LEN: usize = 4096;
/// Most headers that are looked at.
const MAX_HEADERS: usize = 8;

/// One challenge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// In lower case.
    pub scheme: String,
    /// Names in lower case, each once; values without their quotes.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter; `name` in lower case.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The challenges of an answer; `None` when a header cannot be read, or there is more of it than anybody needs: what it
/// means can then only be guessed.
#[must_use]
pub fn challenges(headers: &HeaderMap) -> Option<Vec<Challenge>> {
    let mut all = Vec::new();
    for (count, header) in headers.get_all(WWW_AUTHENTICATE).iter().enumerate() {
        if count == MAX_HEADERS || header.len() > MAX_LEN {
            return None;
        }
        // Bytes beyond ASCII have no place in what is looked for, and what they spell is anybody's guess.
        Reader(header.to_str().ok()?).read(&mut all)?;
    }
    Some(all)
}

/// What is still to be read.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    /// Reads a whole header: `#challenge`.
    fn read(mut self, all: &mut Vec<Challenge>) -> Option<()> {
        let mut open = false;
        loop {
            self.commas();
            if self.0.is_empty() {
                return Some(());
            }
            let name = self.token()?;
            let after = self.0;
            // A name and `=` go on with the challenge that is open; any other name begins one.
            if open && self.equals() {
                let value = self.value()?;
                add(all.last_mut()?, name, value)?;
            } else {
                self.0 = after;
                all.push(Challenge { scheme: name.to_ascii_lowercase(), parameters: Vec::new() });
                self.first_of(all.last_mut()?)?;
                open = true;
            }
            self.blanks();
            if !self.0.is_empty() && !self.0.starts_with(',') {
                return None;
            }
        }
    }

    /// What follows a scheme: nothing, `token68`, or the first parameter.
    fn first_of(&mut self, challenge: &mut Challenge) -> Option<()> {
        let begin = self.0;
        self.blanks();
        if self.0.is_empty() || self.0.starts_with(',') {
            return Some(());
        }
        if self.0.len() == begin.len() {
            return None;
        }
        let end = self.0.find([' ', '\t', ',']).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at_checked(end)?;
        if is_token68(word) && matches!(rest.trim_start_matches([' ', '\t']).chars().next(), None | Some(',')) {
            self.0 = rest;
            return Some(());
        }
        let name = self.token()?;
        let value = if self.equals() { self.value()? } else { return None };
        add(challenge, name, value)
    }

    fn blanks(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn commas(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t', ',']);
    }

    fn equals(&mut self) -> bool {
        self.blanks();
        let Some(rest) = self.0.strip_prefix('=') else { return false };
        self.0 = rest;
        self.blanks();
        true
    }

    fn token(&mut self) -> Option<&'a str> {
        let end = self.0.find(|char| !is_token_char(char)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    /// A token, or a quoted string without its quotes and backslashes (RFC 9110 5.6.4).
    fn value(&mut self) -> Option<String> {
        let Some(quoted) = self.0.strip_prefix('"') else { return self.token().map(str::to_owned) };
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    self.0 = quoted.get(at + 1..)?;
                    return Some(value);
                }
                '\\' => value.push(chars.next()?.1),
                char => value.push(char),
            }
        }
        None
    }
}

/// Adds a parameter; one that is there already could be read in two ways.
fn add(challenge: &mut Challenge, name: &str, value: String) -> Option<()> {
    let name = name.to_ascii_lowercase();
    if challenge.parameter(&name).is_some() {
        return None;
    }
    challenge.parameters.push((name, value));
    Some(())
}

/// RFC 9110 5.6.2.
const fn is_token_char(char: char) -> bool {
    char.is_ascii_alphanumeric()
        || matches!(char, '!' | '#' | '$' | '%' | '&' | '\'' | '*' | '+' | '-' | '.' | '^' | '_' | '`' | '|' | '~')
}

/// RFC 9110 11.2.
fn is_token68(word: &str) -> bool {
    let body = word.trim_end_matches('=');
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
    !body.is_empty() && body.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Each challenge as `scheme(name=value;…)`.
    fn read(headers: &[&str]) -> Option<Vec<String>> {
        let mut map = HeaderMap::new();
        for header in headers {
            map.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(header.as_bytes()).unwrap());
        }
        let told = |challenge: &Challenge| {
            let said: Vec<_> = challenge.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{}({})", challenge.scheme, said.join(";"))
        };
        challenges(&map).map(|all| all.iter().map(told).collect())
    }

    #[test]
    fn several_challenges_in_one_header_and_in_several() {
        let all = [
            "Basic realm=\"a, Bearer error=\\\"x\\\"\", charset=UTF-8 , bearer Error = \"y\",,acr_values=\"1 2\"",
            "Negotiate",
            "Negotiate, NTLM TlRM==, Bearer",
            "Digest a=b",
            "Bearer error==",
            "",
        ];
        let expected = [
            "basic(realm=a, Bearer error=\"x\";charset=UTF-8)",
            "bearer(error=y;acr_values=1 2)",
            "negotiate()",
            "negotiate()",
            "ntlm()",
            "bearer()",
            "digest(a=b)",
            "bearer()",
        ];
        assert_eq!(read(&all).unwrap(), expected);
        assert_eq!(read(&[]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_not_read() {
        for header in [
            "Bearer error=\"open",
            "Bearer error=\"open\\",
            "Bearer error=\"a\" acr_values=\"b\"",
            "Bearer error=\"a\", error=\"b\"",
            "Bearer error=\"a\", Error=\"a\"",
            "Bearer error=\"a\"b",
            "Bearer =x",
            "Bearer error==, x=",
            "Bearer a=b, error=",
            "Bearer a b",
            "error=\"a\"",
            "Bearer\"x\"",
            "Bearer error=\"\u{fc}\"",
            "Bearer error=a;acr_values=b",
        ] {
            assert_eq!(read(&[header]), None, "{header}");
        }
        assert_eq!(read(&["Basic", "Bearer error=\"open"]), None, "one that is good does not make up for it");
        assert_eq!(read(&[&format!("Bearer error=\"{}\"", "x".repeat(MAX_LEN))]), None);
        assert_eq!(read(&["Basic"; MAX_HEADERS]).unwrap().len(), MAX_HEADERS);
        assert_eq!(read(&["Basic"; MAX_HEADERS + 1]), None);
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_read_or_not_and_no_name_is_there_twice(header in "[Bb]earer [ -~\t]{0,60}") {
            let mut map = HeaderMap::new();
            map.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(header.as_bytes()).unwrap());
            for challenge in challenges(&map).unwrap_or_default() {
                let mut names: Vec<_> = challenge.parameters.iter().map(|(name, _)| name.clone()).collect();
                names.sort();
                names.dedup();
                proptest::prop_assert_eq!(names.len(), challenge.parameters.len());
            }
        }
    }
}
