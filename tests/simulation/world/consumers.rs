//! The consumers of the sinks, and the check that no revocation affects them.
//!
//! A consumer reads its sink as late as the overlap allows. It may therefore use each secret
//! that the sink held within the last overlap, and none of these may be revoked.

use std::time::Duration;

use jiff::Timestamp;
use rekeyd::core::time;

use super::configuration::{configured_keys, is_configured};
use super::{SimCredential, SinkLocation, WorldState, locations_of};
use crate::scenario::{KeySpec, KeySpecs, Scenario, SinkSpec};

/// The time in which the daemon certainly records that a removed sink is configured again: it
/// needs the provider's time.
const RETURN_RECORDED_WITHIN: Duration = Duration::from_secs(60);

/// The time between the last inspection of a file and the deletion of what it may hold.
const RESTORE_SEEN_WITHIN: Duration = Duration::from_secs(60);

/// A credential's deletion by the daemon.
pub(super) struct Revocation<'w> {
    pub(super) credential: &'w SimCredential,
    pub(super) at: Timestamp,
    pub(super) scenario: &'w Scenario,
    /// The number of the configuration in force when the request was sent.
    pub(super) configuration: usize,
}

impl Revocation<'_> {
    /// Returns whether the configuration in force has this sink.
    fn has_sink(&self, key: &KeySpec, sink: &SinkSpec) -> bool {
        is_configured(self.scenario, self.configuration, key.name, sink.name)
    }

    /// Returns whether the configuration before the one in force had this sink.
    fn had_sink(&self, key: &KeySpec, sink: &SinkSpec) -> bool {
        let previous = self.configuration.checked_sub(1);
        previous.is_some_and(|previous| is_configured(self.scenario, previous, key.name, sink.name))
    }
}

impl WorldState {
    /// Checks that no consumer of a required sink may use the revoked credential.
    pub(super) fn check_consumers(&mut self, revocation: &Revocation<'_>) {
        let credential = revocation.credential;
        if credential.deletion_requested {
            return;
        }
        let mut affected = Vec::new();
        for key in self.keys_with_consumers(revocation) {
            for sink in key.sinks.iter().filter(|sink| sink.required) {
                let locations = locations_of(key.name, sink).into_iter();
                affected.extend(
                    locations
                        .filter(|location| self.may_be_in_use(revocation, &key, sink, location)),
                );
            }
        }
        for location in affected {
            self.record_violation(format!(
                "a consumer of {location:?} uses the revoked {}",
                credential.name
            ));
        }
    }

    /// Returns whether a consumer of this location may use the revoked credential.
    fn may_be_in_use(
        &self,
        revocation: &Revocation<'_>,
        key: &KeySpec,
        sink: &SinkSpec,
        location: &SinkLocation,
    ) -> bool {
        let Some(state) = self.sinks.get(location) else {
            return false;
        };
        if self.has_ended(key.name, key.overlap, revocation.at) {
            return false;
        }
        let secret = &revocation.credential.secret;
        // Only rekeyd reads the file into which it was written, and the check of each deletion
        // has its credential.
        if self.restored_secrets.contains(secret) {
            return false;
        }
        if state.holds_copy_of(secret) {
            return false;
        }
        let is_content = state.content.as_ref() == Some(secret);
        let is_unseen = state
            .restored_at
            .is_some_and(|at| time::until(at, revocation.at) < RESTORE_SEEN_WITHIN);
        if is_content && is_unseen {
            return false;
        }
        // The operator accepts that consumers may use the previous credential. Each sink of the
        // rotation must hold the new one.
        if self.immediately_revoked_keys.contains(key.name) {
            return is_content && self.was_delivered_to(revocation, key, sink, state.written_at);
        }
        let may_be_cached = state.replaced.iter().any(|(replaced, at)| {
            replaced == secret && time::after(*at, key.overlap) > revocation.at
        });
        is_content || may_be_cached
    }

    /// Returns whether an immediate rotation delivered to this sink: the sink is configured,
    /// and did not return after the delivery.
    fn was_delivered_to(
        &self,
        revocation: &Revocation<'_>,
        key: &KeySpec,
        sink: &SinkSpec,
        written_at: Option<Timestamp>,
    ) -> bool {
        let changed_at = revocation.configuration.checked_sub(1);
        let changed_at = changed_at.map(|previous| self.reconfigured_at[previous]);
        revocation.has_sink(key, sink)
            && changed_at.is_none_or(|at| revocation.had_sink(key, sink) || written_at >= Some(at))
    }

    /// Returns the sinks whose consumers may use a credential: the configured sinks, and for
    /// one overlap the sinks of the configuration before.
    fn keys_with_consumers(&self, revocation: &Revocation<'_>) -> KeySpecs {
        let (scenario, configuration) = (revocation.scenario, revocation.configuration);
        let mut keys = configured_keys(scenario, configuration).clone();
        let Some(previous) = configuration.checked_sub(1) else {
            return keys;
        };
        let changes = &self.reconfigured_at[..configuration];
        let removed = configured_keys(scenario, previous).iter().cloned();
        keys.extend(removed.map(|mut key| {
            key.sinks.retain(|sink| {
                let removed_at = self.removed_at(key.name, sink, changes);
                removed_at.is_some_and(|at| revocation.at < time::after(at, key.overlap))
            });
            key
        }));
        keys
    }

    /// Returns when a sink of the configuration before was removed. If the sink had returned
    /// only briefly and received nothing, this is its earlier removal: the daemon may not
    /// have recorded the return.
    fn removed_at(&self, key: &str, sink: &SinkSpec, changes: &[Timestamp]) -> Option<Timestamp> {
        let mut changes = changes.iter().rev().copied();
        let (removal, returned, earlier_removal) =
            (changes.next()?, changes.next(), changes.next());
        let is_brief = |at: &Timestamp| time::until(*at, removal) < RETURN_RECORDED_WITHIN;
        let Some(returned) = returned.filter(is_brief) else {
            return Some(removal);
        };
        let mut locations = locations_of(key, sink).into_iter();
        let has_received = locations.any(|location| {
            let sink = self.sinks.get(&location);
            sink.and_then(|sink| sink.written_at) >= Some(returned)
        });
        if has_received {
            Some(removal)
        } else {
            earlier_removal
        }
    }
}
