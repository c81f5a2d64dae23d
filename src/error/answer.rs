//! From a refusal to what the caller sees: problem+json for fetches, a page for navigations, a bare code for the
//! front ends that read no body.

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};
use serde_json::json;

use crate::error::Refusal;
use crate::web::{Body, Kind, Wants};

/// The code of a refusal, on every refused answer.
const VESTIBULE_ERROR: HeaderName = HeaderName::from_static("vestibule-error");

/// Who asks, as far as it decides the form of a refusal.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Navigation, form or fetch.
    pub kind: Kind,
    /// What `Accept` names.
    pub wants: Wants,
    /// Whether this is one of the endpoints whose published clients call `.json()` on whatever comes, so that with
    /// `Accept: */*` only an empty body keeps them from misreading an error.
    pub unseen: bool,
    /// The request id, for the page and the log.
    pub request_id: &'a str,
    /// Where to log in, absolute; `redirect` can be appended as a query parameter.
    pub login_url: Option<&'a str>,
}

/// The answer for `refusal`. Its status is never a success, whatever the refusal holds.
#[must_use]
pub fn answer(refusal: &Refusal, asker: &Asker<'_>) -> Response<Body> {
    let reason = refusal.reason;
    let (content_type, body) = match (asker.kind, asker.wants) {
        (Kind::Navigation | Kind::Form, _) => ("text/html; charset=utf-8", page(refusal, asker)),
        (Kind::Fetch, Wants::Anything) if asker.unseen => ("", String::new()),
        (Kind::Fetch, Wants::OnlyJson) => ("application/json", problem(refusal, asker)),
        (Kind::Fetch, Wants::Anything | Wants::JsonToo | Wants::Other) => {
            ("application/problem+json", problem(refusal, asker))
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = reason.status();
    let headers = response.headers_mut();
    if !content_type.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    headers.insert(VESTIBULE_ERROR, HeaderValue::from_static(reason.code()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(challenge) = &refusal.challenge {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::clone(challenge));
    } else if reason.status() == StatusCode::UNAUTHORIZED && asker.kind == Kind::Fetch {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Vestibule"));
    }
    if let Some(after) = refusal.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    if let Some(allow) = &refusal.allow {
        headers.insert(ALLOW, HeaderValue::clone(allow));
    }
    for cookie in &refusal.cookies {
        headers.append(SET_COOKIE, cookie.clone());
    }
    response
}

/// RFC 9457, with `error` repeating `code` for clients that know OAuth's habit.
fn problem(refusal: &Refusal, asker: &Asker<'_>) -> String {
    let reason = refusal.reason;
    let mut problem = json!({
        "status": reason.status().as_u16(),
        "code": reason.code(),
        "error": reason.code(),
        "request_id": asker.request_id,
    });
    let login_url = refusal.way_on.as_deref().or(asker.login_url);
    if let (Some(url), Some(members)) = (login_url, problem.as_object_mut()) {
        members.insert("login_url".to_owned(), url.into());
    }
    if let (Some(words), Some(members)) = (refusal.words.as_deref(), problem.as_object_mut()) {
        members.insert("detail".to_owned(), words.into());
    }
    problem.to_string()
}

fn page(refusal: &Refusal, asker: &Asker<'_>) -> String {
    crate::error::page::error_page(refusal, asker)
}
