//! The answer's head as the client shall see it.

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, Entry, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{StatusCode, Version, response};

use crate::error::{Reason, Refusal};
use crate::handoff::hop;
use crate::web::cut_own_set;

/// Turns the head of the upstream's answer into that of ours.
///
/// # Errors
/// A [`Refusal`] for an answer that could be read in two ways.
pub(super) fn rewrite(head: &mut response::Parts, replace_cors: bool) -> Result<(), Refusal> {
    if head.headers.contains_key(TRANSFER_ENCODING) && head.headers.contains_key(CONTENT_LENGTH) {
        return Err(Refusal::new(Reason::UpstreamBroken).because("both Transfer-Encoding and Content-Length"));
    }
    head.version = Version::HTTP_11;
    hop::sweep(&mut head.headers, |name| falls(name, replace_cors));
    cut_own_set(&mut head.headers);
    if !matches!(head.status, StatusCode::NOT_MODIFIED | StatusCode::SWITCHING_PROTOCOLS) {
        make_private(&mut head.headers);
    }
    Ok(())
}

/// Whether a header of the upstream's ends here: what only we say, and the permissions of CORS where the edge answers
/// for them.
fn falls(name: &str, replace_cors: bool) -> bool {
    hop::is_hop(name) || name.starts_with("vestibule-") || (replace_cors && name.starts_with("access-control-"))
}

/// Keeps shared caches from storing what was made for one user: `public` and `s-maxage` become `private`; an upstream
/// that said nothing at all gets `no-store`, because the heuristics of caches would speak for it.
fn make_private(headers: &mut HeaderMap) {
    let shared = |value: &HeaderValue| members(value.as_bytes()).any(is_shared);
    match headers.entry(CACHE_CONTROL) {
        Entry::Vacant(vacant) => {
            vacant.insert(HeaderValue::from_static("no-store"));
        }
        Entry::Occupied(occupied) if occupied.iter().any(shared) => {
            let values: Vec<&[u8]> = occupied.iter().map(HeaderValue::as_bytes).collect();
            let kept: Vec<&[u8]> =
                values.iter().flat_map(|value| members(value)).filter(|member| !is_private(member)).collect();
            let text = [&[&b"private"[..]], kept.as_slice()].concat().join(&b", "[..]);
            let value = HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("no-store"));
            headers.insert(CACHE_CONTROL, value);
        }
        Entry::Occupied(_) => {}
    }
}

/// The directives of `Cache-Control` (RFC 9111 5.2); a comma within quotes does not part them.
fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    value
        .split(move |byte| {
            quoted ^= *byte == b'"';
            *byte == b',' && !quoted
        })
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// Whether a directive lets shared caches store.
fn is_shared(member: &[u8]) -> bool {
    let name = name(member);
    name.eq_ignore_ascii_case(b"public") || name.eq_ignore_ascii_case(b"s-maxage")
}

/// Whether a directive is one that `private` takes the place of.
fn is_private(member: &[u8]) -> bool {
    is_shared(member) || name(member).eq_ignore_ascii_case(b"private")
}

fn name(member: &[u8]) -> &[u8] {
    member.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use http::Response;
    use http::header::{HeaderName, SET_COOKIE};

    use super::*;

    fn head(headers: &[(&'static str, &'static str)]) -> response::Parts {
        let mut head = Response::new(()).into_parts().0;
        for (name, value) in headers {
            head.headers.append(*name, HeaderValue::from_static(value));
        }
        head
    }

    fn cached(headers: &[&'static str]) -> String {
        let headers: Vec<_> = headers.iter().map(|value| ("cache-control", *value)).collect();
        let mut head = head(&headers);
        rewrite(&mut head, false).unwrap();
        head.headers
            .get_all(CACHE_CONTROL)
            .iter()
            .map(|value| value.to_str().unwrap())
            .collect::<Vec<_>>()
            .join(" | ")
    }

    #[test]
    fn px_22_the_upstreams_word_on_caching_stands_but_never_for_shared_caches() {
        assert_eq!(cached(&[]), "no-store");
        assert_eq!(cached(&["max-age=60"]), "max-age=60");
        assert_eq!(cached(&["private, max-age=60", "immutable"]), "private, max-age=60 | immutable");
        assert_eq!(cached(&["public, max-age=60"]), "private, max-age=60");
        assert_eq!(cached(&["max-age=60 ,PUBLIC", "s-maxage=\"5\", immutable"]), "private, max-age=60, immutable");
        assert_eq!(cached(&["S-MaxAge = 9"]), "private");
        assert_eq!(cached(&["private=\"a, public\", no-cache=\"x,y\""]), "private=\"a, public\", no-cache=\"x,y\"");
        assert_eq!(cached(&["private=\"a\", public, no-cache=\"x,y\""]), "private, no-cache=\"x,y\"");
    }

    #[test]
    fn a_304_says_nothing_about_storing_that_the_stored_answer_did_not_say() {
        let mut head = head(&[]);
        head.status = StatusCode::NOT_MODIFIED;
        rewrite(&mut head, false).unwrap();
        assert!(head.headers.get(CACHE_CONTROL).is_none());
    }

    #[test]
    fn px_13_hop_by_hop_and_reserved_cookies_end_here() {
        let mut head = head(&[
            ("connection", "x-inner, keep-alive"),
            ("x-inner", "1"),
            ("keep-alive", "timeout=5"),
            ("set-cookie", "a=1; Path=/"),
            ("set-cookie", "__Host-Http-vestibule-web=stolen; Path=/; Secure"),
            ("set-cookie", " vestibule-web.login.x = y"),
            ("set-cookie", "b=2"),
            ("vestibule-error", "forged"),
            ("location", "https://elsewhere.example/"),
        ]);
        head.status = StatusCode::FOUND;
        rewrite(&mut head, false).unwrap();
        let cookies: Vec<_> = head.headers.get_all(SET_COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; Path=/", "b=2"]);
        assert_eq!(head.headers.get("location").unwrap(), "https://elsewhere.example/");
        for gone in ["connection", "x-inner", "keep-alive", "vestibule-error"] {
            assert!(!head.headers.contains_key(gone), "{gone}");
        }
    }

    #[test]
    fn px_4_the_upstreams_cors_headers_are_removed_where_the_edge_answers_for_them() {
        let cors = [("access-control-allow-origin", "*"), ("access-control-expose-headers", "x"), ("x-kept", "1")];
        let mut replaced = head(&cors);
        rewrite(&mut replaced, true).unwrap();
        let names: Vec<_> = replaced.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["x-kept", "cache-control"]);
        let mut kept = head(&cors);
        rewrite(&mut kept, false).unwrap();
        assert_eq!(kept.headers.get("access-control-allow-origin").unwrap(), "*");
    }

    #[test]
    fn f19_an_answer_with_two_framings_is_broken() {
        let mut head = head(&[("transfer-encoding", "chunked"), ("content-length", "5")]);
        assert_eq!(rewrite(&mut head, false).unwrap_err().reason, Reason::UpstreamBroken);
    }
}
