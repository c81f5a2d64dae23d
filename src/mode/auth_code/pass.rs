//! Path rules: prove who calls, judge whether they may, and hand the request on.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode};

use crate::config::{Authorization, PathRule, Unauthenticated};
use crate::error::{Reason, Refusal};
use crate::handoff::Passage;
use crate::mode::Call;
use crate::mode::auth_code::account::stale;
use crate::mode::auth_code::step_up::{Whence, may_log_in};
use crate::mode::auth_code::{AuthCode, redirect};
use crate::mode::rules::{self, Caller};
use crate::mode::step_up::Moment;
use crate::provider::Client;
use crate::session::{Cause, Found, Freshness, Member, Session, SessionId, Touch};
use crate::time::Timestamp;
use crate::web::{Body, ReturnTo};

/// Who comes to a path rule.
pub(super) enum Comer {
    /// Somebody who is logged in.
    Member(Arc<Session>),
    /// Somebody unknown, where that is enough.
    Nobody,
    /// Somebody who has to log in first, and can be sent to do so.
    ToLogin,
}

impl AuthCode {
    /// Serves a request under the path rule `index`.
    pub(super) async fn pass(self: Arc<Self>, call: Call, body: Body, index: usize) -> Result<Response<Body>, Refusal> {
        let rule = self.rules.get(index).ok_or_else(|| Refusal::new(Reason::NotFound))?;
        let upstream =
            rule.upstream.as_ref().ok_or_else(|| Refusal::new(Reason::NotFound).because("no upstream here"))?;
        rule.admit(&call)?;
        let host = self.sites.get(call.site).and_then(|site| site.host.clone());
        let mut passage = rule.passage(&call, self.config.public_urls.get(call.site), host);
        passage.route = Some(self.config.key());
        passage.replace_cors = true;
        let session = match self.comer(&call, &rule.config).await? {
            Comer::Member(session) => Some(session),
            Comer::Nobody => None,
            Comer::ToLogin => return redirect(StatusCode::FOUND, &self.login_target(&call)?),
        };
        if let Some(session) = &session {
            if let Err(refusal) = self.vouch(&rule.config, session, &mut passage, call.now) {
                let login = self.sent_to_step_up(&call, session, (&rule.config, refusal))?;
                return redirect(StatusCode::FOUND, &login);
            }
            passage.member = Some(self.member_of(session.id, call.now));
        }
        let stepped = session.as_ref().and_then(|session| self.stepped(&call, session));
        let whence = Whence::of(&call, session.as_deref());
        drop(session);
        let response = upstream.forward(Request::from_parts(call.head, body), passage).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            return self.unauthorized(response, (&whence, stepped.as_ref()), &rule.config);
        }
        Ok(response)
    }

    /// Proves who calls. A session that turns out to be over is none.
    pub(super) async fn comer(&self, call: &Call, rule: &PathRule) -> Result<Comer, Refusal> {
        if let Some((found, client)) = self.caller(call, Touch::Use).await?
            && let Some(session) = self.renewed(rule, found, client, call.now).await?
        {
            return Ok(Comer::Member(session));
        }
        match rule.unauthenticated {
            Unauthenticated::Pass => Ok(Comer::Nobody),
            Unauthenticated::Login if may_log_in(call, rule) => Ok(Comer::ToLogin),
            Unauthenticated::Login | Unauthenticated::Refuse => Err(Reason::LoginRequired.into()),
        }
    }

    /// The session with tokens that have life left, without which only a bearer is impossible; `None` when nothing but
    /// a new login can help.
    async fn renewed(
        &self,
        rule: &PathRule,
        found: Found,
        client: &Client,
        now: Timestamp,
    ) -> Result<Option<Arc<Session>>, Refusal> {
        let needs_token = rule.authorization == Authorization::Bearer;
        match self.shared.refresher.fresh(found.session, client, now).await {
            Freshness::Fresh(session) => Ok(Some(session)),
            Freshness::Ended => Ok(None),
            Freshness::Stale(_, Cause::NoRefreshToken) if needs_token => Ok(None),
            Freshness::Stale(_, cause) if needs_token => Err(stale(cause)),
            Freshness::Stale(session, _) => Ok(Some(session)),
        }
    }

    /// Judges the rule on the session's newest claims, and puts what is known of its user into the passage.
    pub(super) fn vouch(
        &self,
        rule: &PathRule,
        session: &Session,
        passage: &mut Passage,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let groups_claim = self.config.groups_claim.as_str();
        let profile = rules::asks_for_groups(rule, groups_claim).then(|| self.profile(session));
        let groups = profile.as_ref().map_or(&[][..], |profile| &profile.groups);
        let moment = Moment { now, skew: rule.max_age.and_then(|_| self.clock_skew(session)).unwrap_or_default() };
        passage.identity = Caller { claims: session, groups_claim, groups }.vouch(rule, &moment)?;
        if rule.authorization == Authorization::Bearer {
            passage.authorization = Some(session.tokens.access.header());
        }
        Ok(())
    }

    /// How far the clock of a session's provider may be off.
    fn clock_skew(&self, session: &Session) -> Option<Duration> {
        let party = self.parties.iter().find(|party| party.binding.is_same(&session.binding));
        party.map(|party| party.client.provider.config().clock_skew)
    }

    /// What a stream needs to end with the session.
    fn member_of(&self, session: SessionId, now: Timestamp) -> Member {
        Member { session, sessions: Arc::clone(&self.shared.sessions), idle_timeout: self.limits.idle_timeout, now }
    }

    /// `login/start`, leading back to what `call` asks for.
    pub(super) fn login_target(&self, call: &Call) -> Result<String, Refusal> {
        let here = call.head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        self.login_url_back_to(call.site, here).ok_or_else(|| Refusal::new(Reason::HostMismatch))
    }

    /// `login/start` as an absolute URL that leads back to `here`, a path with its query.
    #[must_use]
    pub fn login_url_back_to(&self, site: usize, here: &str) -> Option<String> {
        let start = self.login_url(site)?;
        let origin = self.config.public_urls.get(site)?;
        // A target that login would refuse (a path that two readers understand differently) leads home instead.
        let Some(back) = ReturnTo::parse(here, origin, &self.mode.allowed_redirects) else {
            return Some(start.to_owned());
        };
        Some(ReturnTo::from_config(start).with_parameters(&[("redirect", back.as_str())]))
    }
}
