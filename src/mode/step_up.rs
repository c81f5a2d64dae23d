//! Step-up authentication: how strongly and how recently somebody must have authenticated (RFC 9470).

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::PathRule;
use crate::mode::rules::Claims;
use crate::time::Timestamp;

/// `error` of the challenges (RFC 9470 3).
pub(super) const ERROR: &str = "insufficient_user_authentication";

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

    /// The auth-params of a challenge that say so, each after a comma (RFC 9470 3). The values hold neither quotes nor
    /// backslashes: the configuration has none.
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
    fn parameters_are_those_of_rfc_9470() {
        assert_eq!(demand(&["a", "b"], Some(5)).parameters(), ", acr_values=\"a b\", max_age=\"5\"");
        assert_eq!(Demand::default().parameters(), "");
    }
}
