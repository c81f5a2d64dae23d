//! What a request shows as its bearer (RFC 6750 2), read by the letter: whatever two readers could understand
//! differently is refused.

use http::header::{AUTHORIZATION, HeaderMap};
use http::{Uri, request};

/// What a request shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credential<'a> {
    /// Nothing, or something that is not for us.
    None,
    /// What follows the scheme.
    Bearer(Shown<'a>),
    /// Nothing that can be read in one way; why.
    Malformed(&'static str),
}

/// Something that is shown as a token. It has the form of one only if [`token`](Self::token) says so; whoever remembers
/// these very bytes as a good token need not look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown<'a>(&'a [u8]);

impl<'a> Shown<'a> {
    pub(super) const fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The token; or why it is none.
    pub(super) fn token(self) -> Result<&'a str, &'static str> {
        std::str::from_utf8(self.0).ok().filter(|token| is_b64token(token)).ok_or(NO_TOKEN)
    }
}

const NO_TOKEN: &str = "what follows the scheme is not one token";

impl<'a> Credential<'a> {
    /// Reads `Authorization`. Tokens in the query or in a form are none (RFC 9700 4.3.2); beside one in the header, they
    /// are one too many. (A body is not looked into: it belongs to the upstream.)
    pub(super) fn of(head: &'a request::Parts) -> Self {
        match Self::in_header(&head.headers) {
            Self::Bearer(_) if names_token(&head.uri) => Self::Malformed("a token in the query beside the header"),
            credential => credential,
        }
    }

    fn in_header(headers: &'a HeaderMap) -> Self {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Self::None,
            (Some(value), None) => value.as_bytes(),
            (Some(_), Some(_)) => return Self::Malformed("several Authorization headers"),
        };
        // RFC 9110 11.1: schemes are case-insensitive; what is no token ends one.
        let end = value.iter().position(|byte| !is_scheme(*byte)).unwrap_or(value.len());
        let (scheme, rest) = value.split_at(end);
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            return Self::None;
        }
        rest.strip_prefix(b" ").map_or(Self::Malformed(NO_TOKEN), |rest| Self::Bearer(Shown(rest)))
    }
}

/// `token` of RFC 9110 5.6.2, as far as schemes use it.
const fn is_scheme(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+' | b'!' | b'#' | b'$' | b'%' | b'&' | b'*')
}

/// RFC 6750 2.1: `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
fn is_b64token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    // `b'-'..=b'9'` is `-`, `.`, `/` and the digits. Every byte is looked at: without a way out, many are at once.
    let fits = |byte: u8| byte.is_ascii_alphabetic() | matches!(byte, b'-'..=b'9' | b'_' | b'~' | b'+');
    !body.is_empty() & body.bytes().fold(true, |fitting, byte| fitting & fits(byte))
}

fn names_token(uri: &Uri) -> bool {
    let query = uri.query().unwrap_or_default();
    query.split('&').any(|pair| pair.split('=').next() == Some("access_token"))
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::Credential;

    fn read(target: &str, values: &[&str]) -> String {
        let mut request = Request::get(target).body(()).unwrap();
        for value in values {
            request.headers_mut().append("authorization", HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let (head, ()) = request.into_parts();
        match Credential::of(&head) {
            Credential::None => "none".to_owned(),
            Credential::Bearer(shown) => shown.token().unwrap_or("malformed").to_owned(),
            Credential::Malformed(_) => "malformed".to_owned(),
        }
    }

    #[test]
    fn jv_1_jv_2_jv_4_b28_b31_b41_what_a_header_shows() {
        for (values, shown) in [
            (&[][..], "none"),
            (&["Bearer abc.DEF-_~+/=="], "abc.DEF-_~+/=="),
            (&["bearer x"], "x"),
            (&["BEARER x"], "x"),
            (&["Basic YTpi"], "none"),
            (&["DPoP x"], "none"),
            (&["Bearer-Token x"], "none"),
            (&[""], "none"),
            (&["Bearer"], "malformed"),
            (&["Bearer "], "malformed"),
            (&["Bearer  x"], "malformed"),
            (&["Bearer\tx"], "malformed"),
            (&["Bearer,x"], "malformed"),
            (&["Bearer x y"], "malformed"),
            (&["Bearer x,y"], "malformed"),
            (&["Bearer x, Bearer y"], "malformed"),
            (&["Bearer x "], "malformed"),
            (&["Bearer x\t"], "malformed"),
            (&["Bearer \"x\""], "malformed"),
            (&["Bearer =="], "malformed"),
            (&["Bearer a=c"], "malformed"),
            (&["Bearer xÿ"], "malformed"),
            (&["Bearer x%20"], "malformed"),
            (&["Bearer x", "Bearer x"], "malformed"),
            (&["Basic YTpi", "Bearer x"], "malformed"),
        ] {
            assert_eq!(read("/x", values), shown, "{values:?}");
        }
    }

    #[test]
    fn jv_2_jv_3_a_token_in_the_query_is_none_or_one_too_many() {
        assert_eq!(read("/x?access_token=y", &[]), "none");
        assert_eq!(read("/x?a=1&access_token=y", &["Bearer x"]), "malformed");
        assert_eq!(read("/x?access_token_type=y", &["Bearer x"]), "x");
    }
}
