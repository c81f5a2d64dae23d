//! Step-up authentication: how strongly and how recently somebody must have authenticated, whether a path rule asks for it
//! or an upstream (RFC 9470).

use std::fmt::Write as _;
use std::time::Duration;

use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::PathRule;
use crate::mode::rules::Claims;
use crate::time::Timestamp;
use crate::web::{Challenge, challenges};

/// `error` of the challenges (RFC 9470 3).
pub(super) const ERROR: &str = "insufficient_user_authentication";

/// Most authentication contexts that are taken from an upstream, and what they may weigh together: they travel in URLs and
/// in a cookie.
const MAX_ACR_VALUES: usize = 8;
const MAX_ACR_VALUES_LEN: usize = 512;

/// Longest `max_age` that is taken from an upstream: nine digits are thirty years.
const MAX_AGE_DIGITS: usize = 9;

/// What is asked of an authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Demand {
    /// It has one of these contexts; empty: any.
    pub(super) acr_values: Vec<String>,
    /// It was so many seconds ago, or less; `None`: at any time.
    pub(super) max_age: Option<u64>,
}

impl Demand {
    /// What a path rule asks for.
    pub(super) fn of(rule: &PathRule) -> Self {
        Self { acr_values: rule.acr_values.clone(), max_age: rule.max_age.map(|age| age.as_secs()) }
    }

    /// Whether any authentication will do.
    pub(super) const fn is_empty(&self) -> bool {
        self.acr_values.is_empty() && self.max_age.is_none()
    }

    /// What an upstream asks for in its challenges (RFC 9470 3). `None` when it does not, or in a way that cannot be relied
    /// on: it says several things, or something that no request to a provider should hold.
    pub(super) fn of_challenges(headers: &HeaderMap) -> Option<Self> {
        let challenges = challenges(headers)?;
        let asking =
            |challenge: &&Challenge| challenge.scheme == "bearer" && challenge.parameter("error") == Some(ERROR);
        let mut demands = challenges.iter().filter(asking).map(Self::of_challenge);
        let first = demands.next()??;
        demands.all(|demand| demand.as_ref() == Some(&first)).then_some(first)
    }

    fn of_challenge(challenge: &Challenge) -> Option<Self> {
        let max_age = match challenge.parameter("max_age") {
            Some(text) if text.len() <= MAX_AGE_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(text.parse().ok()?)
            }
            Some(_) => return None,
            None => None,
        };
        let contexts = challenge.parameter("acr_values").unwrap_or_default();
        let fits = |byte: u8| byte == b' ' || byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        let acr_values: Vec<String> = contexts.split(' ').filter(|text| !text.is_empty()).map(str::to_owned).collect();
        if contexts.len() > MAX_ACR_VALUES_LEN || acr_values.len() > MAX_ACR_VALUES || !contexts.bytes().all(fits) {
            return None;
        }
        let demand = Self { acr_values, max_age };
        (!demand.is_empty()).then_some(demand)
    }

    /// This and `other` as one; `None` when no authentication can be both. The order of preference is this one's.
    pub(super) fn and(&self, other: &Self) -> Option<Self> {
        let acr_values = match (self.acr_values.as_slice(), other.acr_values.as_slice()) {
            (own, []) => own.to_vec(),
            ([], others) => others.to_vec(),
            (own, others) => own.iter().filter(|value| others.contains(value)).cloned().collect(),
        };
        let contradiction = acr_values.is_empty() && !self.acr_values.is_empty();
        let max_age = [self.max_age, other.max_age].into_iter().flatten().min();
        (!contradiction).then_some(Self { acr_values, max_age })
    }

    /// Whether every authentication that is enough here is enough for `other`.
    pub(super) fn implies(&self, other: &Self) -> bool {
        let strong = other.acr_values.is_empty()
            || (!self.acr_values.is_empty() && self.acr_values.iter().all(|value| other.acr_values.contains(value)));
        let recent = other.max_age.is_none_or(|other| self.max_age.is_some_and(|own| own <= other));
        strong && recent
    }

    /// The auth-params of a challenge that say so, each after a comma (RFC 9470 3). The values hold neither quotes nor
    /// backslashes: the configuration has none, and none are taken from an upstream.
    pub(super) fn parameters(&self) -> String {
        let mut text = String::new();
        if !self.acr_values.is_empty() {
            let _ = write!(text, ", acr_values=\"{}\"", self.acr_values.join(" "));
        }
        if let Some(age) = self.max_age {
            let _ = write!(text, ", max_age=\"{age}\"");
        }
        text
    }
}

/// When a rule is judged, and how far apart the clocks may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Timestamp,
    pub(super) skew: Duration,
}

/// What `rule` misses in how or when somebody authenticated. The clocks are given as much as at the login, or a login
/// that was just accepted would not do.
pub(super) fn shortfall(rule: &PathRule, claims: &impl Claims, moment: &Moment) -> Option<&'static str> {
    if !rule.acr_values.is_empty() {
        let acr = claims.claim("acr").and_then(Value::as_str);
        if !acr.is_some_and(|acr| rule.acr_values.iter().any(|known| known == acr)) {
            return Some("acr is not among acr_values");
        }
    }
    let max_age = rule.max_age?;
    let Some(at) = claims.authenticated_at() else { return Some("nothing says when the user authenticated") };
    let fits = at >= moment.now.minus(max_age).minus(moment.skew) && at <= moment.now.plus(moment.skew);
    (!fits).then_some("the user authenticated longer ago than max_age")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(acr_values: &[&str], max_age: Option<u64>) -> Demand {
        Demand { acr_values: acr_values.iter().map(|value| (*value).to_owned()).collect(), max_age }
    }

    #[test]
    fn two_demands_are_one_that_is_enough_for_both_or_none() {
        let (any, gold) = (Demand::default(), demand(&["gold"], None));
        assert_eq!(any.and(&gold), Some(gold.clone()));
        assert_eq!(gold.and(&any), Some(gold.clone()));
        assert_eq!(gold.and(&demand(&["silver"], None)), None);
        let both = demand(&["gold", "silver"], Some(60)).and(&demand(&["silver", "gold"], Some(5)));
        assert_eq!(both, Some(demand(&["gold", "silver"], Some(5))));
        assert_eq!(demand(&["a", "b"], None).and(&demand(&["b", "c"], Some(0))), Some(demand(&["b"], Some(0))));
    }

    #[test]
    fn only_what_is_as_strict_implies() {
        let strict = demand(&["gold"], Some(60));
        for met in [Demand::default(), demand(&["gold", "silver"], Some(60)), demand(&[], Some(61)), strict.clone()] {
            assert!(strict.implies(&met), "{met:?}");
        }
        for unmet in [demand(&["silver"], None), demand(&["gold"], Some(59)), demand(&[], Some(0))] {
            assert!(!strict.implies(&unmet), "{unmet:?}");
        }
        assert!(!Demand::default().implies(&strict));
        assert!(!demand(&["gold", "silver"], Some(60)).implies(&strict));
    }

    #[test]
    fn parameters_are_those_of_rfc_9470() {
        assert_eq!(demand(&["a", "b"], Some(5)).parameters(), ", acr_values=\"a b\", max_age=\"5\"");
        assert_eq!(Demand::default().parameters(), "");
    }
}
