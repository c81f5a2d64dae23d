//! The one judgement about other sites: who may call with the user's cookie (CSRF), and who may read the answer (CORS).
//!
//! Stateless: `Origin` and Fetch Metadata, which no page can forge. The rules are numbered as in the README.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue, ORIGIN, UPGRADE, VARY,
};
use http::{Method, request};

use crate::config::Origin;
use crate::web::Kind;

const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whose scripts may call.
#[derive(Clone, Copy, Debug)]
pub struct CrossSite<'a> {
    /// The route's own origins.
    pub own: &'a [Origin],
    /// The origins listed beside them.
    pub listed: &'a [Origin],
    /// Response headers that their scripts may read.
    pub expose: &'a [HeaderName],
}

/// What follows for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Goes on; with the origin to name in the CORS headers, if it sent a good one.
    Pass(Option<HeaderValue>),
    /// A preflight (Fetch 4.8) of a listed origin: answered at once, upstream untouched.
    Preflight(HeaderValue),
    /// 403, and why (for the log).
    Refuse(&'static str),
}

/// Judges one request head.
#[must_use]
pub fn judge(head: &request::Parts, kind: Kind, rules: &CrossSite<'_>) -> Judgement {
    let origin = match single(&head.headers, &ORIGIN) {
        Single::Absent => None,
        Single::Repeated => return Judgement::Refuse("several Origin headers"),
        Single::Once(origin) => Some(origin),
    };
    // 1. Opening a document passes: a link in a mail is cross-site and has to work.
    let upgrade = is_websocket(&head.headers);
    if kind == Kind::Navigation && to_document(&head.headers) && !upgrade {
        return Judgement::Pass(None);
    }
    // 2. An Origin must be one of ours or listed; `null` is neither.
    if let Some(origin) = origin {
        if !rules.own.iter().chain(rules.listed).any(|known| known.text.as_bytes() == origin.as_bytes()) {
            return Judgement::Refuse("foreign Origin");
        }
        let preflight = head.method == Method::OPTIONS && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        return if preflight { Judgement::Preflight(origin.clone()) } else { Judgement::Pass(Some(origin.clone())) };
    }
    let site = match single(&head.headers, &SEC_FETCH_SITE) {
        Single::Absent => None,
        Single::Repeated => return Judgement::Refuse("several Sec-Fetch-Site headers"),
        Single::Once(site) => Some(site.as_bytes()),
    };
    let safe = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) && !upgrade;
    match (safe, site) {
        (_, Some(b"same-origin")) | (true, None | Some(b"none")) => Judgement::Pass(None),
        // Unsafe methods and WebSocket need a good Origin, or else the browser's word that the page is our own.
        (false, _) => Judgement::Refuse("neither a known Origin nor Sec-Fetch-Site: same-origin"),
        // 3. Other reads: `same-site` would need a listed Origin, `cross-site` cannot be right without one.
        (true, Some(_)) => Judgement::Refuse("read from another site without a known Origin"),
    }
}

impl CrossSite<'_> {
    /// Puts the CORS headers of `origin` on an answer, instead of whatever the upstream said.
    pub fn mark(&self, headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
        let stale: Vec<HeaderName> =
            headers.keys().filter(|name| name.as_str().starts_with("access-control-")).cloned().collect();
        for name in stale {
            headers.remove(name);
        }
        if !headers.get_all(VARY).iter().any(names_origin) {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = origin else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        // Ours always: with some refusals it is all that a front end gets to read.
        let exposed =
            self.expose.iter().map(HeaderName::as_str).chain(["vestibule-error"]).collect::<Vec<_>>().join(", ");
        if let Ok(exposed) = HeaderValue::from_str(&exposed) {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }

    /// Completes the answer to a preflight: methods, and the requested headers echoed.
    pub fn mark_preflight(&self, asked: &HeaderMap, headers: &mut HeaderMap, origin: &HeaderValue) {
        self.mark(headers, Some(origin));
        let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        if let Some(requested) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
}

fn names_origin(vary: &HeaderValue) -> bool {
    vary.as_bytes()
        .split(|byte| *byte == b',')
        .any(|name| name.trim_ascii().eq_ignore_ascii_case(b"origin"))
}

/// Whether the request wants to become a WebSocket. Offers of other protocols, such as `h2c`, are declined by silence and
/// the request is served as it is.
fn is_websocket(headers: &HeaderMap) -> bool {
    let protocols = headers.get_all(UPGRADE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    protocols.map(<[u8]>::trim_ascii).any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
}

/// Whether a navigation opens a document, and not a frame or an image.
fn to_document(headers: &HeaderMap) -> bool {
    headers.get(SEC_FETCH_DEST).is_none_or(|dest| dest.as_bytes() == b"document")
}

enum Single<'a> {
    Absent,
    Once(&'a HeaderValue),
    Repeated,
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Single<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Single::Absent,
        (Some(value), None) => Single::Once(value),
        (Some(_), Some(_)) => Single::Repeated,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::config::Scheme;

    fn verdict(method: &str, headers: &[(&str, &str)]) -> &'static str {
        let origin = |host: &str| Origin { scheme: Scheme::Https, host: host.into(), text: format!("https://{host}") };
        let (own, listed) = ([origin("app.example")], [origin("www.example")]);
        let mut request = Request::builder().method(method).uri("/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let rules = CrossSite { own: &own, listed: &listed, expose: &[] };
        match judge(&head, Kind::of(&head), &rules) {
            Judgement::Pass(None) => "pass",
            Judgement::Pass(Some(_)) => "cors",
            Judgement::Preflight(_) => "preflight",
            Judgement::Refuse(_) => "refuse",
        }
    }

    #[test]
    fn px_3_h20_every_rule_of_the_readme() {
        let nav = ("sec-fetch-mode", "navigate");
        let cross = ("sec-fetch-site", "cross-site");
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
        let cases: &[Case<'_>] = &[
            ("GET", &[nav, cross, ("sec-fetch-dest", "document")], "pass"),
            ("GET", &[("accept", "text/html")], "pass"),
            ("GET", &[nav, cross, ("sec-fetch-dest", "iframe")], "refuse"),
            ("GET", &[nav, ("sec-fetch-site", "same-origin"), ("sec-fetch-dest", "iframe")], "pass"),
            ("POST", &[nav, cross, ("origin", "https://evil.example")], "refuse"),
            ("POST", &[("origin", "https://app.example")], "cors"),
            ("POST", &[("origin", "https://www.example")], "cors"),
            ("POST", &[("origin", "null")], "refuse"),
            ("POST", &[("origin", "https://app.example:444")], "refuse"),
            ("POST", &[("origin", "https://sub.app.example")], "refuse"),
            ("POST", &[("origin", "https://app.example"), ("origin", "https://app.example")], "refuse"),
            ("POST", &[("sec-fetch-site", "same-origin")], "pass"),
            ("POST", &[("sec-fetch-site", "same-site")], "refuse"),
            ("POST", &[("sec-fetch-site", "none")], "refuse"),
            ("POST", &[], "refuse"),
            ("GET", &[], "pass"),
            ("GET", &[cross], "refuse"),
            ("GET", &[("sec-fetch-site", "same-site")], "refuse"),
            ("GET", &[("sec-fetch-site", "same-site"), ("origin", "https://www.example")], "cors"),
            ("GET", &[("sec-fetch-site", "none")], "pass"),
            ("GET", &[("upgrade", "websocket"), ("connection", "upgrade")], "refuse"),
            ("GET", &[("upgrade", "websocket"), ("accept", "text/html")], "refuse"),
            ("GET", &[("upgrade", "websocket"), nav, ("origin", "https://evil.example")], "refuse"),
            ("GET", &[("upgrade", "websocket"), ("origin", "https://app.example")], "cors"),
            ("GET", &[("upgrade", "foo, WebSocket"), ("connection", "upgrade")], "refuse"),
            ("GET", &[("upgrade", "h2c"), ("connection", "upgrade")], "pass"),
            ("OPTIONS", &[("origin", "https://www.example"), ("access-control-request-method", "PUT")], "preflight"),
            ("OPTIONS", &[("origin", "https://evil.example"), ("access-control-request-method", "PUT")], "refuse"),
        ];
        for (method, headers, expected) in cases {
            assert_eq!(verdict(method, headers), *expected, "{method} {headers:?}");
        }
    }
}
