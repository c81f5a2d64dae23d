//! Verdicts: the same proof and the same rules as for a proxied request, answered instead of handed on.

use std::sync::LazyLock;

use http::{HeaderName, HeaderValue};

use crate::config::IdentityHeader;
use crate::error::{Reason, Refusal};
use crate::mode::auth_code::pass::{Comer, admit};
use crate::mode::auth_code::{AuthCode, rules};
use crate::mode::{Call, Verdict};
use crate::session::Session;

/// Who the user is, for people; the first claim that is there.
const USER: HeaderName = HeaderName::from_static("vestibule-user");
const USER_CLAIMS: [&str; 3] = ["preferred_username", "email", "sub"];

/// The access token, where the rule asks for a bearer.
const AUTHORIZATION: HeaderName = HeaderName::from_static("vestibule-authorization");

/// What every verdict tells beside the user, as far as it is known.
static TOLD: LazyLock<[IdentityHeader; 3]> = LazyLock::new(|| {
    [("vestibule-email", "email"), ("vestibule-name", "name"), ("vestibule-subject", "sub")]
        .map(|(name, claim)| IdentityHeader { name: HeaderName::from_static(name), claim: claim.to_owned() })
});

const GROUPS: HeaderName = HeaderName::from_static("vestibule-groups");

impl AuthCode {
    /// Judges the request that Caddy asks about, under the path rule `index`.
    pub(super) async fn judge_verdict(&self, call: &Call, index: usize) -> Result<Verdict, Refusal> {
        let rule = self.rules.get(index).ok_or_else(|| Refusal::new(Reason::NotFound))?;
        admit(&rule.config, call)?;
        let session = match self.comer(call, &rule.config).await? {
            Comer::Member(session) => session,
            Comer::Nobody => return Ok(Verdict::Allow(Vec::new())),
            Comer::ToLogin => return Ok(Verdict::Login(self.login_target(call)?)),
        };
        let mut passage = crate::handoff::Passage::default();
        self.vouch(&rule.config, &session, &mut passage)?;
        let mut headers = self.told(&session)?;
        headers.append(&mut passage.identity);
        headers.extend(passage.authorization.map(|bearer| (AUTHORIZATION, bearer)));
        Ok(Verdict::Allow(headers))
    }

    /// The headers of every verdict. Values are visible ASCII, everything else percent-encoded (FA-10).
    fn told(&self, session: &Session) -> Result<Vec<(HeaderName, HeaderValue)>, Refusal> {
        let groups = self.groups(session);
        let claim = self.config.groups_claim.clone();
        let user = USER_CLAIMS.iter().find(|claim| session.claim(claim).and_then(|value| value.as_str()).is_some());
        let user = user.map(|claim| IdentityHeader { name: USER, claim: (*claim).to_owned() });
        let named = TOLD.iter().cloned().chain(user).chain([IdentityHeader { name: GROUPS, claim: claim.clone() }]);
        let named: Vec<IdentityHeader> = named.collect();
        rules::identity(&named, session, (&claim, &groups))
            .ok_or_else(|| Refusal::new(Reason::Forbidden).because("the identity headers would be too large"))
    }
}
