//! `ReturnTo`: a place that login or logout may send the browser to. The only way to build one is to check it, so an
//! open redirect (RFC 9700 4.11) cannot be written.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::config::{Origin, RedirectPrefix};

/// Longest accepted target in bytes: it travels in a cookie, whose limit is 4096.
const MAX_LEN: usize = 2000;

/// A checked absolute URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReturnTo(String);

impl ReturnTo {
    /// Accepts an origin-relative path of the site `own`, or an absolute URL under one of `allowed`: same origin, and
    /// a path prefix on a segment boundary. Everything that two readers could understand differently (backslashes,
    /// blanks, controls, dot segments, empty segments, encoded slashes, user names) is refused, not repaired.
    #[must_use]
    pub fn parse(text: &str, own: &Origin, allowed: &[RedirectPrefix]) -> Option<Self> {
        let suspicious = |char: char| char == '\\' || char.is_control() || char.is_whitespace();
        if text.len() > MAX_LEN || text.contains(suspicious) {
            return None;
        }
        if text.starts_with('/') {
            let url = parse_with_path(&format!("{}{text}", own.text), text)?;
            return (url.origin().ascii_serialization() == own.text).then(|| Self(url.into()));
        }
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        if authority.is_empty() || authority.contains(['@', '%']) {
            return None;
        }
        let url = parse_with_path(text, path)?;
        let origin = url.origin().ascii_serialization();
        let under = |prefix: &RedirectPrefix| prefix.origin.text == origin && is_under(url.path(), &prefix.path);
        allowed.iter().any(under).then(|| Self(url.into()))
    }

    /// A place from our own configuration.
    #[must_use]
    pub fn from_config(url: &str) -> Self {
        Self(url.to_owned())
    }

    /// The absolute URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path, when it is one of the site `own`.
    #[must_use]
    pub fn path_on(&self, own: &Origin) -> Option<&str> {
        let rest = self.0.strip_prefix(own.text.as_str())?;
        rest.split(['?', '#']).next().filter(|path| path.starts_with('/'))
    }

    /// The URL with one more query parameter.
    #[must_use]
    pub fn with_parameters(&self, parameters: &[(&str, &str)]) -> String {
        let Ok(mut url) = Url::parse(&self.0) else { return self.0.clone() };
        url.query_pairs_mut().extend_pairs(parameters);
        url.into()
    }
}

impl fmt::Display for ReturnTo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Parses `text`, whose part from the path on is `from_path`, when that path can be read in one way only.
fn parse_with_path(text: &str, from_path: &str) -> Option<Url> {
    let path = from_path.split(['?', '#']).next().unwrap_or_default();
    let decoded = percent_decode_str(path).decode_utf8().ok()?;
    let forbidden = |char: char| char == '\\' || char.is_control() || char.is_whitespace();
    let encoded_slash = decoded.matches('/').count() != path.matches('/').count();
    if decoded.contains(forbidden) || encoded_slash || decoded.contains("//") {
        return None;
    }
    if decoded.split('/').any(|segment| matches!(segment.split(';').next(), Some("." | ".."))) {
        return None;
    }
    Url::parse(text).ok().filter(|url| url.username().is_empty() && url.password().is_none())
}

/// Whether `path` is `prefix` or below it; `prefix` is `/` or has no trailing slash.
fn is_under(path: &str, prefix: &str) -> bool {
    prefix == "/" || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Scheme;

    fn origin(host: &str) -> Origin {
        Origin { scheme: Scheme::Https, host: host.to_owned(), text: format!("https://{host}") }
    }

    fn parse(text: &str) -> Option<String> {
        let allowed = [
            RedirectPrefix { origin: origin("app.example"), path: "/".to_owned() },
            RedirectPrefix { origin: origin("www.example"), path: "/shop".to_owned() },
        ];
        ReturnTo::parse(text, &origin("app.example"), &allowed).map(|to| to.as_str().to_owned())
    }

    #[test]
    fn ls_6_refuses_every_target_of_table_r() {
        let long = format!("/{}", "a".repeat(8_000));
        for text in [
            "",
            "app",
            "https://evil.example/",
            "//evil.example",
            "/\t/evil",
            "/%09/evil",
            "/\n/evil",
            "/\r/evil",
            "/\u{b}/evil",
            "/\0/evil",
            "/ /evil",
            "/ \\evil",
            "http:evil",
            "https:evil",
            "https:/evil",
            "https:\\evil",
            "https:///app.example/",
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "data:text/html,x",
            "vbscript:x",
            "blob:x",
            "file:///etc",
            "/a/..//evil",
            "/./\\evil",
            "/%2f/evil",
            "/%2fevil",
            "%2f%2fevil",
            "https://app.example@evil",
            "https://user@app.example/",
            "https://evilapp.example",
            "https://app.example.evil/",
            "/\\evil",
            "\\\\evil",
            "/%0d%0aSet-Cookie:x=1",
            "/a/%2e%2e/b",
            "/a/..;/b",
            "https://www.example/shopping",
            "https://www.example/",
            "https://app%2eexample/",
            "HTTPS://app.example/",
            "http://app.example/",
            "https://app.example:444/",
            &long,
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn ls_6_accepts_paths_and_listed_urls_with_query_and_fragment() {
        assert_eq!(parse("/app?x=1#frag").unwrap(), "https://app.example/app?x=1#frag");
        assert_eq!(parse("/").unwrap(), "https://app.example/");
        assert_eq!(parse("https://app.example").unwrap(), "https://app.example/");
        assert_eq!(parse("https://app.example:443/x").unwrap(), "https://app.example/x");
        assert_eq!(parse("https://www.example/shop?q=//x").unwrap(), "https://www.example/shop?q=//x");
        assert_eq!(parse("https://www.example/shop/a").unwrap(), "https://www.example/shop/a");
        assert_eq!(parse("/\"><script>").unwrap(), "https://app.example/%22%3E%3Cscript%3E");
    }

    proptest::proptest! {
        #[test]
        fn ls_6_whatever_is_accepted_stays_on_a_listed_origin(text in ".{0,40}", head in "[/\\\\:@.%a-z]{0,8}") {
            for candidate in [text.clone(), format!("/{head}{text}"), format!("https://{head}{text}")] {
                if let Some(accepted) = parse(&candidate) {
                    let url = Url::parse(&accepted).unwrap();
                    let host = url.host_str().unwrap();
                    proptest::prop_assert!(host == "app.example" || (host == "www.example" && url.path().starts_with("/shop")));
                    proptest::prop_assert_eq!(url.scheme(), "https");
                }
            }
        }
    }
}
