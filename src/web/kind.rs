//! The one classifier: is this a navigation, which may be redirected and shown a page, or a fetch, which may not?

use http::header::{ACCEPT, HeaderMap, HeaderName};
use http::{Method, request};

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What kind of request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// GET or HEAD by which a browser opens a document.
    Navigation,
    /// A browser sends a form to be shown the answer: gets a page, never a redirect that would lose the body.
    Form,
    /// Anything else: gets data, never a redirect.
    Fetch,
}

/// Which representations `Accept` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// It names `application/json` and nothing else.
    OnlyJson,
    /// It names `application/json` beside other types, none of which is `text/html`.
    JsonToo,
    /// It is `*/*` or absent: the caller did not think about it.
    Anything,
    /// It names something else, such as `text/html` or `application/problem+json`.
    Other,
}

impl Kind {
    /// Judges a request head: Fetch Metadata where the browser sends it, else method and `Accept`.
    #[must_use]
    pub fn of(head: &request::Parts) -> Self {
        let opens = match head.headers.get(SEC_FETCH_MODE) {
            Some(mode) => mode.as_bytes() == b"navigate",
            None => !head.headers.contains_key(SEC_FETCH_SITE) && accepts(&head.headers, b"text/html"),
        };
        match (opens, &head.method) {
            (true, &Method::GET | &Method::HEAD) => Self::Navigation,
            (true, &Method::POST) => Self::Form,
            _ => Self::Fetch,
        }
    }
}

impl Wants {
    /// Judges `Accept`.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let (mut json, mut html, mut other, mut wildcard) = (false, false, false, false);
        for media in named(headers) {
            match media {
                b"*/*" => wildcard = true,
                media if media.eq_ignore_ascii_case(b"application/json") => json = true,
                media if media.eq_ignore_ascii_case(b"text/html") => html = true,
                _ => other = true,
            }
        }
        match (json, html) {
            (true, false) if other || wildcard => Self::JsonToo,
            (true, false) => Self::OnlyJson,
            (false, false) if !other => Self::Anything,
            _ => Self::Other,
        }
    }

    /// Whether it names `application/json`.
    #[must_use]
    pub const fn names_json(self) -> bool {
        matches!(self, Self::OnlyJson | Self::JsonToo)
    }
}

/// Whether `Accept` names `media` itself (wildcards do not count).
fn accepts(headers: &HeaderMap, media: &[u8]) -> bool {
    named(headers).any(|named| named.eq_ignore_ascii_case(media))
}

/// The media types that `Accept` names, in their order.
fn named(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let members = headers.get_all(ACCEPT).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    members.map(media_type).filter(|media| !media.is_empty())
}

/// One member of `Accept` without its parameters.
fn media_type(member: &[u8]) -> &[u8] {
    member.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}
