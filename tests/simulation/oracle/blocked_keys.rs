//! Checks that a due key that is not started always shows why.

use std::collections::BTreeMap;
use std::time::Duration;

use rekeyd::core::ids::KeyName;
use rekeyd::engine::{Engine, PendingRotation};

use crate::world::SimWorld;

/// How long a key may be due without a reason: a request that times out has 30 seconds, and
/// the harmless request that diagnoses it another 30.
const MAX_SILENCE: Duration = Duration::from_secs(70);

/// Since when each key is due, not started, and shows no reason; of one process.
#[derive(Default)]
pub(crate) struct BlockedKeys(BTreeMap<&'static str, Duration>);

impl BlockedKeys {
    /// Checks every key in order; at any time.
    pub(crate) fn check(&mut self, world: &SimWorld, engine: &Engine) {
        for key in world.configuration() {
            let name = KeyName::new(key.name).unwrap();
            // A receiver that hangs may keep its keys waiting for a place.
            let Some(state) = engine.state(&name).filter(|_| !key.hangs()) else {
                continue;
            };
            let has_reason =
                state.last_error.is_some() || !engine.active_conditions_of(&name).is_empty();
            let is_due = !has_reason
                && state.open_rotation().is_none()
                && match engine.pending_rotation(&name) {
                    None | Some(PendingRotation::AfterPause) => false,
                    Some(
                        PendingRotation::At(_)
                        | PendingRotation::AfterCondition
                        | PendingRotation::ContinuesInNextProcess
                        | PendingRotation::StartsInNextProcess(_),
                    ) => true,
                };
            if !is_due {
                self.0.remove(key.name);
                continue;
            }
            let since = *self.0.entry(key.name).or_insert_with(|| world.elapsed());
            if world.elapsed().saturating_sub(since) > MAX_SILENCE {
                world.record_violation(format!("{name} is due, and nothing shows why it waits"));
            }
        }
    }
}
