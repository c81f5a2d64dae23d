//! Who may pass a path rule: groups, e-mail domains and claims as they are now (FA-16), and the identity headers that
//! tell the upstream, or a verdict's reader, who that is. Whether a session or a token says so makes no difference.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{LazyLock, OnceLock};

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::config::{IdentityHeader, PathRule};
use crate::error::{Reason, Refusal};
use crate::mode::step_up::{self, Moment};
use crate::provider::{self, AccessClaims};
use crate::session::{self, Session};
use crate::time::Timestamp;

/// Most bytes that the identity headers of one request may take; more is refused, not cut.
const MAX_IDENTITY: usize = 8 * 1024;

/// Who the user is, for people; the first claim that is there.
const USER: HeaderName = HeaderName::from_static("vestibule-user");
const USER_CLAIMS: [&str; 3] = ["preferred_username", "email", "sub"];

/// A header of a verdict.
pub(super) type Told = (HeaderName, HeaderValue);

/// What every verdict tells beside the user, as far as it is known.
static TOLD: LazyLock<[IdentityHeader; 3]> = LazyLock::new(|| {
    [("vestibule-email", "email"), ("vestibule-name", "name"), ("vestibule-subject", "sub")]
        .map(|(name, claim)| IdentityHeader { name: HeaderName::from_static(name), claim: claim.to_owned() })
});

const GROUPS: HeaderName = HeaderName::from_static("vestibule-groups");

/// What vouches for somebody.
pub(super) trait Claims {
    /// A claim by its path; dots descend into objects, after a member of the full name was looked for.
    fn claim(&self, path: &str) -> Option<&Value>;

    /// When somebody authenticated; `None` when nobody knows.
    fn authenticated_at(&self) -> Option<Timestamp>;
}

impl Claims for Session {
    fn claim(&self, path: &str) -> Option<&Value> {
        Self::claim(self, path)
    }

    /// A provider that was not asked for it need not say it. Then it was at the login or before, and the login is what
    /// there is to count from.
    fn authenticated_at(&self) -> Option<Timestamp> {
        provider::auth_time(&self.claims).ok().map(|said| said.unwrap_or(self.created_at))
    }
}

impl Claims for AccessClaims {
    fn claim(&self, path: &str) -> Option<&Value> {
        session::claim(self.claims(), path)
    }

    fn authenticated_at(&self) -> Option<Timestamp> {
        provider::auth_time(self.claims()).ok().flatten()
    }
}

/// Somebody who proved who they are.
pub(super) struct Caller<'a, C> {
    pub(super) claims: &'a C,
    /// The claim whose headers show `groups` instead of what it holds.
    pub(super) groups_claim: &'a str,
    pub(super) groups: &'a [String],
}

/// Whether `rule` has a use for the groups.
pub(super) fn asks_for_groups(rule: &PathRule, groups_claim: &str) -> bool {
    !rule.allowed_groups.is_empty() || rule.identity_headers.iter().any(|header| header.claim == groups_claim)
}

/// The names of all claims that the judgement of `rules` and the headers of verdicts look at. A path has two: its own, and
/// that of the object that it begins in.
pub(super) fn asked_for<'a>(rules: impl Iterator<Item = &'a PathRule>, groups_claim: &str) -> Vec<String> {
    let mut paths: BTreeSet<&str> = ["acr", "auth_time", "email", "email_verified", groups_claim].into();
    paths.extend(USER_CLAIMS);
    paths.extend(TOLD.iter().map(|header| header.claim.as_str()));
    for rule in rules {
        paths.extend(rule.required_claims.keys().map(String::as_str));
        paths.extend(rule.identity_headers.iter().map(|header| header.claim.as_str()));
    }
    let names = paths.into_iter().flat_map(|path| [path, path.split('.').next().unwrap_or(path)]);
    names.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The groups in a claim: one, or a list.
pub(super) fn groups(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::String(group)) => vec![group.clone()],
        Some(Value::Array(groups)) => groups.iter().filter_map(|group| group.as_str().map(str::to_owned)).collect(),
        Some(_) | None => Vec::new(),
    }
}

impl<C: Claims> Caller<'_, C> {
    /// Judges the rule, and gives the identity headers that it asks for. How somebody authenticated comes last: whoever
    /// may not pass in any case is not asked to do it once more.
    ///
    /// # Errors
    /// `forbidden`; `insufficient_user_authentication`.
    pub(super) fn vouch(&self, rule: &PathRule, moment: &Moment) -> Result<Vec<(HeaderName, HeaderValue)>, Refusal> {
        if let Some(why) = self.forbidden(rule) {
            return Err(Refusal::new(Reason::Forbidden).because(why));
        }
        let identity = self.identity(&rule.identity_headers)?;
        match step_up::shortfall(rule, self.claims, moment) {
            Some(why) => Err(Refusal::new(Reason::InsufficientUserAuthentication).because(why)),
            None => Ok(identity),
        }
    }

    /// The headers of every verdict, worked out at the first one.
    ///
    /// # Errors
    /// `forbidden` when they would be too large.
    pub(super) fn told_once<'t>(&self, told: &'t OnceLock<Vec<Told>>) -> Result<&'t [Told], Refusal> {
        if let Some(told) = told.get() {
            return Ok(told);
        }
        let worked_out = self.told()?;
        Ok(told.get_or_init(|| worked_out))
    }

    /// The headers of every verdict. Values are visible ASCII, everything else percent-encoded (FA-10).
    ///
    /// # Errors
    /// `forbidden` when they would be too large.
    fn told(&self) -> Result<Vec<(HeaderName, HeaderValue)>, Refusal> {
        let user = USER_CLAIMS.iter().find(|claim| self.claims.claim(claim).is_some_and(Value::is_string));
        let user = user.map(|claim| IdentityHeader { name: USER, claim: (*claim).to_owned() });
        let groups = IdentityHeader { name: GROUPS, claim: self.groups_claim.to_owned() };
        let named: Vec<IdentityHeader> = TOLD.iter().cloned().chain(user).chain([groups]).collect();
        self.identity(&named)
    }

    /// Why somebody may not pass; `None` when they may.
    fn forbidden(&self, rule: &PathRule) -> Option<&'static str> {
        let claims = self.claims;
        if !rule.allowed_groups.is_empty() && !self.groups.iter().any(|group| rule.allowed_groups.contains(group)) {
            return Some("in none of allowed_groups");
        }
        if !rule.allowed_email_domains.is_empty()
            && !email_domain(claims).is_some_and(|domain| rule.allowed_email_domains.contains(&domain))
        {
            return Some("no verified e-mail address in allowed_email_domains");
        }
        for (path, wanted) in &rule.required_claims {
            let met = claims.claim(path).is_some_and(|value| match value {
                Value::Array(values) => values.iter().any(|value| wanted.iter().any(|wanted| is(value, wanted))),
                single => wanted.iter().any(|wanted| is(single, wanted)),
            });
            if !met {
                return Some("a required claim is missing or different");
            }
        }
        None
    }

    /// The `wanted` identity headers that have a value.
    fn identity(&self, wanted: &[IdentityHeader]) -> Result<Vec<(HeaderName, HeaderValue)>, Refusal> {
        let mut headers = Vec::with_capacity(wanted.len());
        let mut total = 0;
        for header in wanted {
            let text = if header.claim == self.groups_claim {
                list(self.groups.iter().map(String::as_str))
            } else {
                match self.claims.claim(&header.claim) {
                    None | Some(Value::Null | Value::Object(_)) => String::new(),
                    Some(Value::String(text)) => encode(text, false),
                    Some(Value::Array(values)) => list(values.iter().filter_map(Value::as_str)),
                    Some(other @ (Value::Bool(_) | Value::Number(_))) => other.to_string(),
                }
            };
            if text.is_empty() {
                continue;
            }
            total += header.name.as_str().len() + text.len();
            match HeaderValue::try_from(text) {
                Ok(value) if total <= MAX_IDENTITY => headers.push((header.name.clone(), value)),
                _ => return Err(Refusal::new(Reason::Forbidden).because("the identity headers would be too large")),
            }
        }
        Ok(headers)
    }
}

/// Whether a claim has this value, written as the config writes it.
fn is(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Bool(bool) => bool.to_string() == wanted,
        Value::Number(number) => number.to_string() == wanted,
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// The lower-case domain of a verified address with exactly one `@` (CB-24).
fn email_domain(claims: &impl Claims) -> Option<String> {
    let verified = match claims.claim("email_verified")? {
        Value::Bool(verified) => *verified,
        Value::String(text) => text == "true",
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
    };
    let (local, domain) = claims.claim("email")?.as_str()?.split_once('@')?;
    (verified && !local.is_empty() && !domain.is_empty() && !domain.contains('@')).then(|| domain.to_ascii_lowercase())
}

fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    items.map(|item| encode(item, true)).collect::<Vec<_>>().join(",")
}

/// Visible ASCII stays; everything else, `%` itself and the comma inside a list item are percent-encoded, so that no
/// claim can end a header or add an item to a list (FA-10).
fn encode(text: &str, in_list: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = matches!(byte, b' '..=b'~') && byte != b'%' && !(in_list && byte == b',');
        if plain {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn fa_10_h14_h15_no_claim_ends_a_header_or_adds_an_item() {
        assert_eq!(encode("alice", false), "alice");
        assert_eq!(encode("a\r\nX-Admin: 1", false), "a%0D%0AX-Admin: 1");
        assert_eq!(encode("a,admin", true), "a%2Cadmin");
        assert_eq!(encode("Zoë 100%", false), "Zo%C3%AB 100%25");
        assert_eq!(encode("\0\u{7f}", false), "%00%7F");
    }
}
