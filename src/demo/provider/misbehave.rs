//! Turns a right answer into the wrong one that was asked for.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderValue, LOCATION};
use http::{Response, StatusCode};
use http_body::Frame;
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::call::Answer;
use super::mutation::Kind;
use crate::web::{Body, BoxError};

/// Applies `changes` in their order. What concerns tokens, keys, time or the connection was done elsewhere.
pub(super) fn apply(mut answer: Answer, changes: &[Kind]) -> Response<Body> {
    let mut ending = Ending::Whole;
    for change in changes {
        match change {
            Kind::Status(status) => *answer.status_mut() = *status,
            Kind::HeaderSet(name, value) => drop(answer.headers_mut().insert(name, value.clone())),
            Kind::HeaderAdd(name, value) => drop(answer.headers_mut().append(name, value.clone())),
            Kind::HeaderRemove(name) => drop(answer.headers_mut().remove(name)),
            Kind::BodyReplace(bytes) => *answer.body_mut() = bytes.clone(),
            Kind::JsonSet(member, value) => json(&mut answer, |object| {
                object.insert((*member).to_owned(), value.clone());
            }),
            Kind::JsonRemove(member) => json(&mut answer, |object| {
                object.remove(*member);
            }),
            Kind::JsonRaw(text) => json_raw(&mut answer, text),
            Kind::ParameterSet(name, value) => parameter(&mut answer, |list| {
                list.retain(|(key, _)| key != name);
                list.push(((*name).to_owned(), value.clone()));
            }),
            Kind::ParameterAdd(name, value) => {
                parameter(&mut answer, |list| list.push(((*name).to_owned(), value.clone())));
            }
            Kind::ParameterRemove(name) => parameter(&mut answer, |list| list.retain(|(key, _)| key != name)),
            Kind::Redirect(status, url) => redirect(&mut answer, *status, url),
            Kind::Truncate(length) => ending = Ending::After(*length),
            Kind::Endless => ending = Ending::Never,
            Kind::IdToken(_) | Kind::AccessToken(_) | Kind::RotateKeys | Kind::DelayBefore(_) | Kind::Close => {}
        }
    }
    ending.apply(answer)
}

/// Edits the answer's JSON object.
fn json(answer: &mut Answer, edit: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    if let Ok(Value::Object(mut object)) = serde_json::from_slice(answer.body()) {
        edit(&mut object);
        *answer.body_mut() = Bytes::from(Value::Object(object).to_string());
    }
}

/// Puts raw text behind the opening brace.
fn json_raw(answer: &mut Answer, text: &str) {
    let Some(rest) = answer.body().strip_prefix(b"{") else { return };
    *answer.body_mut() = Bytes::from([b"{", text.as_bytes(), rest].concat());
}

/// Edits the query of the redirect.
fn parameter(answer: &mut Answer, edit: impl FnOnce(&mut Vec<(String, String)>)) {
    let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let Some(mut url) = location.and_then(|location| Url::parse(location).ok()) else { return };
    let mut list: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    edit(&mut list);
    url.set_query(Some(&form_urlencoded::Serializer::new(String::new()).extend_pairs(list).finish()));
    if let Ok(value) = HeaderValue::from_str(url.as_str()) {
        answer.headers_mut().insert(LOCATION, value);
    }
}

/// Replaces the answer by a redirect.
fn redirect(answer: &mut Answer, status: StatusCode, url: &str) {
    *answer.status_mut() = status;
    *answer.body_mut() = Bytes::new();
    if let Ok(value) = HeaderValue::from_str(url) {
        answer.headers_mut().insert(LOCATION, value);
    }
}

/// How the body ends.
#[derive(Clone, Copy)]
enum Ending {
    /// As it should.
    Whole,
    /// After so many bytes, though its length promised more.
    After(usize),
    /// Not at all.
    Never,
}

impl Ending {
    fn apply(self, answer: Answer) -> Response<Body> {
        match self {
            Self::Whole => answer.map(Body::from),
            Self::After(length) => {
                let (mut head, body) = answer.into_parts();
                head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
                let kept = body.slice(..length.min(body.len()));
                Response::from_parts(head, Body::boxed(Broken { kept: Some(kept), endless: false }))
            }
            Self::Never => answer.map(|body| Body::boxed(Broken { kept: Some(body), endless: true })),
        }
    }
}

/// A body that does not end well.
struct Broken {
    kept: Option<Bytes>,
    endless: bool,
}

impl http_body::Body for Broken {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // Spaces, because a JSON reader would go on reading them.
        const MORE: &[u8] = &[b' '; 8192];
        Poll::Ready(Some(match self.kept.take() {
            Some(kept) if !kept.is_empty() => Ok(Frame::data(kept)),
            _ if self.endless => Ok(Frame::data(Bytes::from_static(MORE))),
            _ => Err("cut short on request".into()),
        }))
    }
}
