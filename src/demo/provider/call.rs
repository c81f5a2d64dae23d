//! One request to the development provider, read whole, and the plain answers that its endpoints give.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::journal::{Authentication, Endpoint};
use super::mutation::{JwtMutation, Kind};
use crate::error::page;
use crate::time::Timestamp;

/// The answer of an endpoint before any mutation.
pub(super) type Answer = Response<Bytes>;

/// One request.
pub(super) struct Call {
    pub(super) endpoint: Endpoint,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    /// The query, as it came.
    pub(super) query_text: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) form: Vec<(String, String)>,
    pub(super) authentication: Authentication,
    pub(super) now: Timestamp,
    /// Lies to tell.
    pub(super) changes: Vec<Kind>,
}

impl Call {
    /// The one value of a query parameter.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        only(&self.query, name)
    }

    /// The one value of a form parameter.
    pub(super) fn form(&self, name: &str) -> Option<&str> {
        only(&self.form, name)
    }

    /// The one value of a parameter, wherever GET and POST put it.
    pub(super) fn either(&self, name: &str) -> Option<&str> {
        self.query(name).or_else(|| self.form(name))
    }

    /// Whether some parameter occurs twice (RFC 6749 3.1 forbids it).
    pub(super) fn repeats_itself(&self) -> bool {
        let twice = |list: &[(String, String)]| {
            list.iter()
                .enumerate()
                .any(|(at, (name, _))| list.iter().skip(at + 1).any(|(other, _)| other == name))
        };
        twice(&self.query) || twice(&self.form)
    }

    /// The value of a cookie.
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        let lines = self.headers.get_all(http::header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// What is to be changed in the ID token.
    pub(super) fn id_token_changes(&self) -> Vec<JwtMutation> {
        self.changes
            .iter()
            .filter_map(|kind| if let Kind::IdToken(change) = kind { Some(change.clone()) } else { None })
            .collect()
    }

    /// What is to be changed in the access token.
    pub(super) fn access_token_changes(&self) -> Vec<JwtMutation> {
        self.changes
            .iter()
            .filter_map(|kind| if let Kind::AccessToken(change) = kind { Some(change.clone()) } else { None })
            .collect()
    }
}

/// The value of `name` when it occurs exactly once.
fn only<'a>(list: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut values = list.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
    match (values.next(), values.next()) {
        (value, None) => value,
        _ => None,
    }
}

/// An answer with one content type.
pub(super) fn answer(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Bytes::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// JSON that nobody may cache.
pub(super) fn json_answer(status: StatusCode, value: &Value) -> Answer {
    let mut answer = answer(status, "application/json", value.to_string());
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// An error of the token, revocation or userinfo endpoint (RFC 6749 5.2).
pub(super) fn oauth_error(status: StatusCode, code: &str) -> Answer {
    json_answer(status, &json!({ "error": code, "error_description": "The development provider refuses this." }))
}

/// A page of ours; nobody may frame or cache it.
pub(super) fn html(status: StatusCode, title: &str, body: &str) -> Answer {
    let mut answer = answer(status, "text/html; charset=utf-8", page::page(title, body));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
        .headers_mut()
        .insert(HeaderName::from_static("x-frame-options"), HeaderValue::from_static("DENY"));
    answer
}

/// 303: the next request is a GET, whatever this one was (RFC 9700 4.12).
pub(super) fn see_other(url: &str) -> Answer {
    let Ok(location) = HeaderValue::from_str(url) else {
        return html(StatusCode::BAD_REQUEST, "This address cannot be opened", "");
    };
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = StatusCode::SEE_OTHER;
    answer.headers_mut().insert(LOCATION, location);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
