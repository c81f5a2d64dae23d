//! Claims told by what is known already: those of the ID token stand in the ID token itself, and most of what userinfo
//! says stands there too. Only the difference is kept.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Claims relative to a base.
#[derive(Serialize, Deserialize)]
pub(super) struct Likeness<'a> {
    /// A bit for each member of the base in the order of their names: set when it is the same here.
    same: Vec<u8>,
    /// All other members, as JSON; empty when there are none.
    #[serde(borrow)]
    others: Cow<'a, [u8]>,
}

impl Likeness<'_> {
    /// What makes `claims` out of `base`; `None` when that cannot be written down.
    pub(super) fn of(claims: &Map<String, Value>, base: &Map<String, Value>) -> Option<Self> {
        let is_same = |name: &str| claims.get(name).is_some_and(|value| base.get(name) == Some(value));
        let names = names(base);
        let mut same = vec![0; names.len().div_ceil(8)];
        for (index, _) in names.iter().enumerate().filter(|(_, name)| is_same(name)) {
            *same.get_mut(index / 8)? |= 1 << (index % 8);
        }
        while same.last() == Some(&0) {
            same.pop();
        }
        let others: BTreeMap<&String, &Value> = claims.iter().filter(|(name, _)| !is_same(name)).collect();
        let others = if others.is_empty() { Vec::new() } else { serde_json::to_vec(&others).ok()? };
        Some(Self { same, others: Cow::Owned(others) })
    }

    /// The claims; `None` when nothing of ours made this value.
    pub(super) fn claims(&self, base: &Map<String, Value>) -> Option<Map<String, Value>> {
        let mut claims: Map<String, Value> =
            if self.others.is_empty() { Map::new() } else { serde_json::from_slice(&self.others).ok()? };
        let is_set = |index: usize| self.same.get(index / 8).is_some_and(|byte| byte & (1 << (index % 8)) != 0);
        for (_, name) in names(base).into_iter().enumerate().filter(|(index, _)| is_set(*index)) {
            claims.insert(name.clone(), base.get(name)?.clone());
        }
        Some(claims)
    }
}

/// The names of `base` in an order that does not depend on how it was read.
fn names(base: &Map<String, Value>) -> Vec<&String> {
    let mut names: Vec<&String> = base.keys().collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn through(claims: &Map<String, Value>, base: &Map<String, Value>) -> (Map<String, Value>, usize) {
        let wire = postcard::to_stdvec(&Likeness::of(claims, base).unwrap()).unwrap();
        (postcard::from_bytes::<Likeness<'_>>(&wire).unwrap().claims(base).unwrap(), wire.len())
    }

    #[test]
    fn equal_claims_cost_a_bit_each() {
        let claims =
            json!({ "a": 1, "b": [2], "c": { "d": "e" }, "f": null, "g": true, "h": "", "i": 0, "j": -1, "k": "x" });
        let claims = claims.as_object().unwrap();
        let (back, len) = through(claims, claims);
        assert_eq!(&back, claims);
        assert_eq!(len, 4);
    }

    #[test]
    fn changed_added_and_absent_claims_are_told_apart() {
        let base = json!({ "same": 1, "changed": 2, "absent": 3 });
        let claims = json!({ "same": 1, "changed": "2", "added": null });
        let (base, claims) = (base.as_object().unwrap(), claims.as_object().unwrap());
        assert_eq!(&through(claims, base).0, claims);
        assert_eq!(through(&Map::new(), base).0, Map::new());
    }

    fn object() -> impl Strategy<Value = Map<String, Value>> {
        let value = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            prop::collection::vec(any::<u8>(), 0..3).prop_map(Value::from),
        ];
        prop::collection::btree_map("[a-f]{1,2}|\\PC{1,3}", value, 0..20).prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn all_claims_come_back_the_same(claims in object(), base in object(), shared in object()) {
            let with = |map: Map<String, Value>| shared.clone().into_iter().chain(map).collect::<Map<_, _>>();
            let (claims, base) = (with(claims), with(base));
            prop_assert_eq!(through(&claims, &base).0, claims);
        }
    }
}
