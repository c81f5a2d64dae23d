//! Verdicts: the same proof and the same rules as for a proxied request, answered instead of handed on.

use crate::error::{Reason, Refusal};
use crate::mode::auth_code::AuthCode;
use crate::mode::auth_code::pass::Comer;
use crate::mode::rules::Caller;
use crate::mode::{AUTHORIZATION, Call, Verdict};

impl AuthCode {
    /// Judges the request that Caddy asks about, under the path rule `index`.
    pub(super) async fn judge_verdict(&self, call: &Call, index: usize) -> Result<Verdict, Refusal> {
        let rule = self.rules.get(index).ok_or_else(|| Refusal::new(Reason::NotFound))?;
        rule.admit(call)?;
        let session = match self.comer(call, &rule.config).await? {
            Comer::Member(session) => session,
            Comer::Nobody => return Ok(Verdict::Allow(Vec::new())),
            Comer::ToLogin => return Ok(Verdict::Login(self.login_target(call)?)),
        };
        let mut passage = crate::handoff::Passage::default();
        let vouched = self.vouch(&rule.config, &session, &mut passage);
        vouched.map_err(|refusal| self.with_other_account(call, &session, refusal))?;
        let groups = self.groups(&session);
        let caller = Caller { claims: &*session, groups_claim: &self.config.groups_claim, groups: &groups };
        let mut headers = caller.told()?;
        headers.append(&mut passage.identity);
        headers.extend(passage.authorization.map(|bearer| (AUTHORIZATION, bearer)));
        Ok(Verdict::Allow(headers))
    }
}
