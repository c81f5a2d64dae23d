//! Path rules: prove who calls, judge whether they may, and hand the request on or answer Caddy.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use http::header::AUTHORIZATION as AUTHORIZATION_HEADER;
use http::{HeaderMap, HeaderValue, Request, Response};
use tracing::info;

use super::Bearer;
use super::credential::{Credential, Shown};
use super::memory::{Fingerprint, Known};
use crate::config::{Authorization, Unauthenticated};
use crate::error::{Reason, Refusal};
use crate::mode::rules::{self, Caller, Claims as _, Told};
use crate::mode::step_up::Moment;
use crate::mode::{Call, Rule, Verdict, allowed};
use crate::provider::{AccessClaims, Denied, Verifier};
use crate::time::Timestamp;
use crate::web::Body;

/// The log is told of tokens for somebody else once in this many seconds: one badly set client may call often.
const TELL_EVERY: i64 = 60;

impl Bearer {
    /// Serves a request under the path rule `index`.
    pub(super) async fn pass(self: Arc<Self>, call: Call, body: Body, index: usize) -> Result<Response<Body>, Refusal> {
        let rule = self.rules.get(index).ok_or_else(|| Refusal::new(Reason::NotFound))?;
        let upstream =
            rule.upstream.as_ref().ok_or_else(|| Refusal::new(Reason::NotFound).because("no upstream here"))?;
        rule.admit(&call)?;
        let host = self.hosts.get(call.site).cloned().flatten();
        let mut passage = rule.passage(&call, self.config.public_urls.get(call.site), host);
        passage.route = Some(self.config.key());
        if let Some(known) = self.prove(&call, rule).await? {
            passage.identity = self.vouch(&known, rule, call.now)?;
            passage.authorization = bearer(rule, &call);
        }
        upstream.forward(Request::from_parts(call.head, body), passage).await
    }

    /// Judges the request that Caddy asks about, under the path rule `index`.
    pub(super) async fn judge(&self, call: &Call, index: usize) -> Result<Verdict, Refusal> {
        let rule = self.rules.get(index).ok_or_else(|| Refusal::new(Reason::NotFound))?;
        rule.admit(call)?;
        let Some(known) = self.prove(call, rule).await? else { return Ok(Verdict::Allow(HeaderMap::new())) };
        let identity = self.vouch(&known, rule, call.now)?;
        Ok(Verdict::Allow(allowed(self.caller(&known).told_once(&known.told)?, identity, bearer(rule, call))))
    }

    /// Who calls; `None` where nobody in particular may, or where somebody else is to find out.
    async fn prove(&self, call: &Call, rule: &Rule) -> Result<Option<Arc<Known>>, Refusal> {
        // Without verification nothing is judged: whatever was sent goes on byte for byte.
        let Some(verifier) = &self.verifier else { return Ok(None) };
        match (Credential::of(&call.head), rule.config.unauthenticated) {
            (Credential::Malformed(why), _) => Err(self.challenges.refuse(Reason::InvalidRequest).because(why)),
            (Credential::Bearer(shown), _) => self.known(verifier, shown, call.now).await.map(Some),
            (Credential::None, Unauthenticated::Pass) => Ok(None),
            (Credential::None, Unauthenticated::Refuse | Unauthenticated::Login) => {
                Err(self.challenges.refuse(Reason::BearerRequired))
            }
        }
    }

    /// The bearer of the token that is shown, remembered or verified now.
    async fn known(&self, verifier: &Verifier, shown: Shown<'_>, now: Timestamp) -> Result<Arc<Known>, Refusal> {
        let fingerprint = Fingerprint::of(shown.bytes());
        if let Some(known) = self.memory.find(&fingerprint, now) {
            self.metrics.jwt_verification("remembered");
            return Ok(known);
        }
        let token = shown.token().map_err(|why| self.challenges.refuse(Reason::InvalidRequest).because(why))?;
        let claims = verifier.verify(token, now).await.map_err(|denied| self.denied(denied, now))?;
        self.metrics.jwt_verification("ok");
        let known = Arc::new(self.with_groups(claims));
        self.memory.keep(fingerprint, token.len(), &known);
        Ok(known)
    }

    fn with_groups(&self, claims: AccessClaims) -> Known {
        let groups = rules::groups(claims.claim(&self.config.groups_claim));
        Known { groups, claims: claims.narrowed(&self.asked_for), told: OnceLock::new() }
    }

    /// Judges the rule, and gives the identity headers that it asks for.
    fn vouch(&self, known: &Known, rule: &Rule, now: Timestamp) -> Result<Vec<Told>, Refusal> {
        let moment = Moment { now, skew: known.claims.clock_skew() };
        let vouched = self.caller(known).vouch(&rule.config, &moment);
        vouched.map_err(|refusal| self.challenges.step_up(refusal, &rule.config))
    }

    fn caller<'a>(&'a self, known: &'a Known) -> Caller<'a, AccessClaims> {
        Caller { claims: &known.claims, groups_claim: &self.config.groups_claim, groups: &known.groups }
    }

    fn denied(&self, denied: Denied, now: Timestamp) -> Refusal {
        let (reason, result) = match denied {
            Denied::Provider(error) => {
                self.metrics.jwt_verification("unavailable");
                return error.into();
            }
            Denied::Token(_) => (Reason::InvalidToken, "invalid_token"),
            Denied::Audience(_) => {
                self.tell_of_audience(&denied, now);
                (Reason::InvalidToken, "wrong_audience")
            }
            Denied::Scope(_) => (Reason::InsufficientScope, "insufficient_scope"),
        };
        self.metrics.jwt_verification(result);
        self.challenges.refuse(reason).because(denied)
    }

    /// A good token of our issuer for somebody else is what a wrong setting looks like, so whoever sets things up should
    /// see it without asking for more of the log.
    fn tell_of_audience(&self, denied: &Denied, now: Timestamp) {
        let last = self.told_of_audience.load(Ordering::Relaxed);
        let due = now.unix().saturating_sub(last) >= TELL_EVERY;
        let told = &self.told_of_audience;
        if due && told.compare_exchange(last, now.unix(), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            info!(route = %self.config.name, why = %denied, "a bearer is meant for somebody else");
        }
    }
}

/// The client's own `Authorization`, which was verified, where the rule hands it on.
fn bearer(rule: &Rule, call: &Call) -> Option<HeaderValue> {
    if rule.config.authorization != Authorization::Bearer {
        return None;
    }
    let mut value = call.head.headers.get(AUTHORIZATION_HEADER)?.clone();
    value.set_sensitive(true);
    Some(value)
}
