//! Refusals of creates that several keys got alike: their cause is not one key.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::ids::KeyName;

/// The number of keys, with different options, that make a refusal one of the scope.
const KEYS_WITH_ONE_CAUSE: usize = 3;

/// The refusals of a scope's creates since the last one that succeeded, by their code.
#[derive(Debug, Default)]
pub struct Refusals(BTreeMap<String, BTreeMap<KeyName, Option<Duration>>>);

impl Refusals {
    /// Records that the create of a key was refused with this code. `lifetime` is the one
    /// option of a create. Returns whether the cause is the scope: several keys with
    /// different options got it. Keys without an option differ in all that they send.
    pub fn record(&mut self, code: &str, key: &KeyName, lifetime: Option<Duration>) -> bool {
        let keys = self.0.entry(code.to_owned()).or_default();
        keys.insert(key.clone(), lifetime);
        let without = keys.values().filter(|lifetime| lifetime.is_none()).count();
        let lifetimes: BTreeSet<_> = keys.values().flatten().collect();
        without + lifetimes.len() >= KEYS_WITH_ONE_CAUSE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(refusals: &mut Refusals, code: &str, key: &str, days: Option<u64>) -> bool {
        let lifetime = days.map(|days| Duration::from_secs(days * 86_400));
        refusals.record(code, &KeyName::new(key).unwrap(), lifetime)
    }

    #[test]
    fn three_keys_without_an_option_in_common_show_a_cause_of_the_scope() {
        for (days, is_of_scope) in [
            ([None, None, None], true),
            ([Some(1), Some(2), Some(3)], true),
            ([None, Some(2), Some(3)], true),
            ([Some(30), Some(30), Some(30)], false),
            ([Some(30), Some(30), None], false),
        ] {
            let mut refusals = Refusals::default();
            assert!(!record(&mut refusals, "no", "a", days[0]));
            assert!(!record(&mut refusals, "no", "b", days[1]));
            let found = record(&mut refusals, "no", "c", days[2]);
            assert_eq!(found, is_of_scope, "{days:?}");
        }
    }

    #[test]
    fn one_key_another_code_and_a_success_show_none() {
        let mut refusals = Refusals::default();
        for _ in 0..5 {
            assert!(!record(&mut refusals, "no", "a", None));
        }
        assert!(!record(&mut refusals, "no", "b", None));
        assert!(!record(&mut refusals, "never", "c", None));
        // A success begins anew.
        refusals = Refusals::default();
        assert!(!record(&mut refusals, "no", "c", None));
    }
}
