//! The configuration of the daemon, which changes between two of the scenario.

use super::SimWorld;
use crate::scenario::{KeySpec, KeySpecs, Scenario};

impl SimWorld {
    /// Returns the keys of the present configuration.
    pub(crate) fn configuration(&self) -> KeySpecs {
        configured_keys(&self.scenario, self.configuration_number()).clone()
    }

    /// Returns the number of the present configuration, counted from 0.
    pub(crate) fn configuration_number(&self) -> usize {
        self.state().reconfigured_at.len()
    }

    /// Switches to the other of the scenario's two configurations.
    pub(crate) fn reconfigure(&self) {
        let now = self.true_now();
        self.state().reconfigured_at.push(now);
    }

    /// Returns whether a key of the scenario has a hanging receiver.
    pub(crate) fn has_hanging_keys(&self) -> bool {
        self.scenario.keys.iter().any(KeySpec::hangs)
    }
}

/// Returns the keys of a configuration: an even number is that of the scenario's first, an
/// odd number that of its other configuration.
pub(super) fn configured_keys(scenario: &Scenario, configuration: usize) -> &KeySpecs {
    if configuration % 2 == 1 {
        &scenario.changed_keys
    } else {
        &scenario.keys
    }
}

/// Returns whether a configuration has this sink of this key.
pub(super) fn is_configured(
    scenario: &Scenario,
    configuration: usize,
    key: &str,
    sink: &str,
) -> bool {
    let mut keys = configured_keys(scenario, configuration).iter();
    keys.any(|spec| spec.name == key && spec.sinks.iter().any(|spec| spec.name == sink))
}
