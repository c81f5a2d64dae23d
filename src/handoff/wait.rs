//! Waiting for the head of an upstream's answer, and naming what happened when none came.

use std::error::Error as _;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use http::Response;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use tokio::time::Instant;

use crate::error::{Reason, Refusal};
use crate::handoff::body::BodyError;
use crate::handoff::upload::{Turn, Upload};
use crate::metrics::UpstreamResult;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection.
    Unreachable(legacy::Error),
    /// The connection broke before an answer was there.
    Broken(legacy::Error),
    /// What came is no HTTP.
    Garbage(legacy::Error),
    /// The upstream did not move in time.
    Late,
    /// The request's own body ended early.
    Body(BodyError),
}

impl Failure {
    fn of(error: legacy::Error) -> Self {
        if error.is_connect() {
            return Self::Unreachable(error);
        }
        let parse = error
            .source()
            .and_then(|source| source.downcast_ref::<hyper::Error>())
            .is_some_and(hyper::Error::is_parse);
        if parse { Self::Garbage(error) } else { Self::Broken(error) }
    }

    /// What the metrics call it.
    pub(super) const fn result(&self) -> UpstreamResult {
        match self {
            Self::Unreachable(_) => UpstreamResult::Unreachable,
            Self::Broken(_) | Self::Garbage(_) => UpstreamResult::Broken,
            Self::Late => UpstreamResult::Timeout,
            Self::Body(_) => UpstreamResult::Client,
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreachable(error) => Self::new(Reason::UpstreamUnreachable).because(causes(&error)),
            Failure::Broken(error) | Failure::Garbage(error) => {
                Self::new(Reason::UpstreamBroken).because(causes(&error))
            }
            Failure::Late => Self::new(Reason::UpstreamTimeout),
            Failure::Body(error @ BodyError::Silent) => Self::new(Reason::RequestTimeout).because(error),
            Failure::Body(error @ BodyError::TooLarge) => Self::new(Reason::BodyTooLarge).because(error),
            Failure::Body(error @ (BodyError::Broken | BodyError::Unwanted | BodyError::Cut)) => {
                Self::new(Reason::BadRequest).because(error)
            }
        }
    }
}

/// An error and what caused it, for the log. These errors speak about sockets and framing, never about content.
fn causes(error: &legacy::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.extend([": ", &error.to_string()]);
        cause = error.source();
    }
    text
}

/// How long each side may take in an upload.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// For the upstream to take more of the body.
    pub(super) idle: Duration,
    /// For the answer after the end of the body.
    pub(super) answer: Duration,
}

type Answered<E> = Result<Response<Incoming>, E>;

/// The answer to a request that was sent whole, until `deadline`.
pub(super) async fn until(
    deadline: Instant,
    answer: impl Future<Output = Answered<legacy::Error>>,
) -> Answered<Failure> {
    match tokio::time::timeout_at(deadline, answer).await {
        Ok(answered) => answered.map_err(Failure::of),
        Err(_) => Err(Failure::Late),
    }
}

/// The answer to a request whose body is still being sent: each side may be slow, neither may stand still.
pub(super) async fn upload(
    upload: &Upload,
    limits: Limits,
    answer: impl Future<Output = Answered<legacy::Error>>,
) -> Answered<Failure> {
    let mut answer = pin!(answer);
    let mut deadline = Instant::now() + limits.idle.min(limits.answer);
    loop {
        match tokio::time::timeout_at(deadline, answer.as_mut()).await {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(error)) => return Err(upload.failure().map_or_else(|| Failure::of(error), Failure::Body)),
            Err(_) => {
                let now = Instant::now();
                deadline = match upload.turn() {
                    // The body itself ends the request when the client is silent.
                    (Turn::Client, _) => now + limits.idle,
                    (Turn::Upstream, since) => since + limits.idle,
                    (Turn::Answer, since) => since + limits.answer,
                };
                if deadline <= now {
                    return Err(Failure::Late);
                }
            }
        }
    }
}
