//! Another daemon, which has a ledger of its own and rotates keys of the same names in the
//! same organization.

use std::time::Duration;

use jiff::Timestamp;
use rekeyd::core::ids::{KeyName, Label};
use rekeyd::core::time;

use super::WorldState;
use super::credentials::key_of_label;
use crate::scenario::Scenario;

/// The other daemon's period and overlap. It is no divisor of the daemon's period, so that
/// either daemon rotates first.
const OTHER_DAEMON_PERIOD: Duration = Duration::from_secs(41 * 60);

/// Returns the other daemon's first rotation, which is before the simulation's start.
pub(super) fn first_rotation_at(scenario: &Scenario, start_time: Timestamp) -> Option<Timestamp> {
    let first = time::before(start_time, OTHER_DAEMON_PERIOD * 2);
    scenario.has_other_daemon.then_some(first)
}

impl WorldState {
    /// Applies the other daemon's rotations until now: it creates a credential for each key,
    /// with a label of the same form, and deletes the credential before the last.
    pub(super) fn rotate_other_daemon(&mut self, scenario: &Scenario, now: Timestamp) {
        while let Some(at) = self.other_daemon_rotates_at.filter(|at| *at <= now) {
            self.other_daemon_rotates_at = Some(time::after(at, OTHER_DAEMON_PERIOD));
            for key in &scenario.keys {
                let name = KeyName::new(key.name).unwrap();
                let number = self.credentials.len().to_be_bytes();
                let tail = [number[5], number[6], number[7]];
                let label = Label::new(&name, at, tail);
                self.create_credential(label.as_str(), at, true);
                let oldest_kept = time::before(at, OTHER_DAEMON_PERIOD);
                for credential in self.credentials.values_mut() {
                    let is_expired = credential.unmanaged
                        && key_of_label(&credential.name) == key_of_label(label.as_str())
                        && credential.created_at < oldest_kept;
                    if is_expired {
                        credential.deleted_at.get_or_insert(at);
                    }
                }
            }
        }
    }
}
