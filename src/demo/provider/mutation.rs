//! How the development provider can be told to misbehave: what to change, at which endpoint, at which request.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use super::journal::Endpoint;
use super::key::Algorithm;

/// One lie, told at one endpoint.
#[derive(Clone, Debug)]
pub struct Mutation {
    /// Where.
    pub at: Endpoint,
    /// At which request from now on.
    pub nth: Nth,
    /// What.
    pub kind: Kind,
}

/// Which requests a mutation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nth {
    /// Every one until [`clear_mutations`](super::DemoProvider::clear_mutations).
    Every,
    /// The one with this number, counted from 1 after the mutation was queued.
    Only(u32),
}

/// What is changed. Changes of one request apply in the order in which they were queued.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Another status.
    Status(StatusCode),
    /// A header with this value alone.
    HeaderSet(HeaderName, HeaderValue),
    /// One more line of a header.
    HeaderAdd(HeaderName, HeaderValue),
    /// A header left out.
    HeaderRemove(HeaderName),
    /// Another body under the same headers.
    BodyReplace(Bytes),
    /// A member of the answer's JSON object set.
    JsonSet(&'static str, Value),
    /// A member of the answer's JSON object left out.
    JsonRemove(&'static str),
    /// Raw text put behind the opening brace of the answer's JSON object: members twice, and what is not JSON at all.
    JsonRaw(String),
    /// A parameter of the redirect's query set.
    ParameterSet(&'static str, String),
    /// One more parameter at the end of the redirect's query.
    ParameterAdd(&'static str, String),
    /// A parameter of the redirect's query left out.
    ParameterRemove(&'static str),
    /// The ID token that the answer carries.
    IdToken(JwtMutation),
    /// The access token that the answer carries.
    AccessToken(JwtMutation),
    /// New keys before the answer is made.
    RotateKeys,
    /// Silence before the head of the answer.
    DelayBefore(Duration),
    /// The body ends after so many bytes although more were announced.
    Truncate(usize),
    /// The body never ends.
    Endless,
    /// A redirect instead of the answer.
    Redirect(StatusCode, String),
    /// The connection closes without an answer.
    Close,
}

/// What is changed in a JWT. Changes of the content come before the signature, the others after it.
#[derive(Clone, Debug)]
pub enum JwtMutation {
    /// A header parameter set.
    SetHeader(&'static str, Value),
    /// A header parameter left out.
    RemoveHeader(&'static str),
    /// A claim set.
    SetClaim(&'static str, Value),
    /// A claim left out.
    RemoveClaim(&'static str),
    /// Raw text instead of the header's JSON.
    RawHeader(String),
    /// Raw text instead of the payload's JSON.
    RawPayload(String),
    /// Another signature, and the `alg` that goes with it.
    Sign(SignWith),
    /// One bit of a segment's bytes flipped: 0 header, 1 payload, 2 signature.
    FlipBit(usize),
    /// Other text in the place of a segment.
    Segment(usize, String),
    /// Other text in the place of the whole token.
    Text(String),
}

/// What a JWT is signed with, when not with the provider's signing key.
#[derive(Clone, Debug)]
pub enum SignWith {
    /// The published key of another algorithm.
    Published(Algorithm),
    /// A key of the right kind that is not published, under the published key's `kid`.
    Stranger,
    /// `alg: none` and an empty signature.
    Nothing,
    /// HS256 with these bytes as the secret.
    Hs256(Vec<u8>),
}

impl Mutation {
    /// For the next request to `at`.
    #[must_use]
    pub const fn next(at: Endpoint, kind: Kind) -> Self {
        Self { at, nth: Nth::Only(1), kind }
    }

    /// For the `nth` request to `at` from now on, counted from 1.
    #[must_use]
    pub const fn nth(at: Endpoint, nth: u32, kind: Kind) -> Self {
        Self { at, nth: Nth::Only(nth), kind }
    }

    /// For every request to `at` from now on.
    #[must_use]
    pub const fn always(at: Endpoint, kind: Kind) -> Self {
        Self { at, nth: Nth::Every, kind }
    }
}

/// The mutations that wait for their request.
#[derive(Debug, Default)]
pub(super) struct Queue(Vec<Mutation>);

impl Queue {
    /// Adds one.
    pub(super) fn push(&mut self, mutation: Mutation) {
        self.0.push(mutation);
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Counts one request to `at`, and takes out what is for it.
    pub(super) fn take(&mut self, at: Endpoint) -> Vec<Kind> {
        let mut due = Vec::new();
        self.0.retain_mut(|mutation| match &mut mutation.nth {
            _ if mutation.at != at => true,
            Nth::Every => {
                due.push(mutation.kind.clone());
                true
            }
            Nth::Only(left) if *left > 1 => {
                *left -= 1;
                true
            }
            Nth::Only(_) => {
                due.push(mutation.kind.clone());
                false
            }
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, Kind, Mutation, Queue};

    #[test]
    fn a_mutation_waits_for_its_request_and_is_told_once() {
        let mut queue = Queue::default();
        queue.push(Mutation::nth(Endpoint::Token, 2, Kind::Close));
        queue.push(Mutation::always(Endpoint::Jwks, Kind::Close));
        assert!(queue.take(Endpoint::Token).is_empty());
        assert_eq!(queue.take(Endpoint::Token).len(), 1);
        assert!(queue.take(Endpoint::Token).is_empty());
        assert_eq!(queue.take(Endpoint::Jwks).len(), 1);
        assert_eq!(queue.take(Endpoint::Jwks).len(), 1);
    }
}
