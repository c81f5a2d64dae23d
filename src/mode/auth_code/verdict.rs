//! Verdicts: the same proof and the same rules as for a proxied request, answered instead of handed on.

use http::HeaderMap;

use crate::error::{Reason, Refusal};
use crate::mode::auth_code::AuthCode;
use crate::mode::auth_code::pass::Comer;
use crate::mode::rules::Caller;
use crate::mode::{Call, Verdict, allowed};

impl AuthCode {
    /// Judges the request that Caddy asks about, under the path rule `index`.
    pub(super) async fn judge_verdict(&self, call: &Call, index: usize) -> Result<Verdict, Refusal> {
        let rule = self.rules.get(index).ok_or_else(|| Refusal::new(Reason::NotFound))?;
        rule.admit(call)?;
        let session = match self.comer(call, &rule.config).await? {
            Comer::Member(session) => session,
            Comer::Nobody => return Ok(Verdict::Allow(HeaderMap::new())),
            Comer::ToLogin => return Ok(Verdict::Login(self.login_target(call)?)),
        };
        let mut passage = crate::handoff::Passage::default();
        if let Err(refusal) = self.vouch(&rule.config, &session, &mut passage, call.now) {
            return self.sent_to_step_up(call, &session, (&rule.config, refusal)).map(Verdict::Login);
        }
        let profile = self.profile(&session);
        let groups_claim = self.config.groups_claim.as_str();
        let caller = Caller { claims: &*session, groups_claim, groups: &profile.groups };
        Ok(Verdict::Allow(allowed(caller.told_once(&profile.told)?, passage.identity, passage.authorization)))
    }
}
