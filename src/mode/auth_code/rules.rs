//! Who may pass a path rule: groups, e-mail domains and claims of the session as they are now (FA-16), and the identity
//! headers that tell the upstream who that is.

use std::fmt::Write as _;

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::config::{IdentityHeader, PathRule};
use crate::session::Session;

/// Most bytes that the identity headers of one request may take; more is refused, not cut.
const MAX_IDENTITY: usize = 8 * 1024;

/// Why somebody who is logged in may not pass; `None` when he may.
pub(super) fn forbids(rule: &PathRule, session: &Session, groups: &[String]) -> Option<&'static str> {
    if !rule.allowed_groups.is_empty() && !groups.iter().any(|group| rule.allowed_groups.contains(group)) {
        return Some("in none of allowed_groups");
    }
    if !rule.allowed_email_domains.is_empty()
        && !email_domain(session).is_some_and(|domain| rule.allowed_email_domains.contains(&domain))
    {
        return Some("no verified e-mail address in allowed_email_domains");
    }
    let holds = |value: &Value, wanted: &str| match value {
        Value::String(text) => text == wanted,
        Value::Bool(bool) => bool.to_string() == wanted,
        Value::Number(number) => number.to_string() == wanted,
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    };
    for (path, wanted) in &rule.required_claims {
        let met = session.claim(path).is_some_and(|value| match value {
            Value::Array(values) => values.iter().any(|value| wanted.iter().any(|wanted| holds(value, wanted))),
            single => wanted.iter().any(|wanted| holds(single, wanted)),
        });
        if !met {
            return Some("a required claim is missing or different");
        }
    }
    lacks_acr(rule, session).then_some("acr is not among acr_values")
}

/// Whether the session was begun with none of the authentication contexts that the rule is content with.
pub(super) fn lacks_acr(rule: &PathRule, session: &Session) -> bool {
    let acr = session.claims.get("acr").and_then(Value::as_str);
    !rule.acr_values.is_empty() && !acr.is_some_and(|acr| rule.acr_values.iter().any(|known| known == acr))
}

/// The lower-case domain of a verified address with exactly one `@` (CB-24).
fn email_domain(session: &Session) -> Option<String> {
    let verified = match session.claim("email_verified")? {
        Value::Bool(verified) => *verified,
        Value::String(text) => text == "true",
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
    };
    let (local, domain) = session.claim("email")?.as_str()?.split_once('@')?;
    (verified && !local.is_empty() && !domain.is_empty() && !domain.contains('@')).then(|| domain.to_ascii_lowercase())
}

/// The `wanted` identity headers that have a value; `None` when they would be too large. `groups` fill the header of the groups claim.
pub(super) fn identity(
    wanted: &[IdentityHeader],
    session: &Session,
    (groups_claim, groups): (&str, &[String]),
) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let mut headers = Vec::with_capacity(wanted.len());
    let mut total = 0;
    for header in wanted {
        let text = if header.claim == groups_claim {
            list(groups.iter().map(String::as_str))
        } else {
            match session.claim(&header.claim) {
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
        headers.push((header.name.clone(), HeaderValue::from_str(&text).ok()?));
    }
    (total <= MAX_IDENTITY).then_some(headers)
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
