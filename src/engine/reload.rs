//! Another configuration for a running engine.
//!
//! Nothing that runs is dropped: whoever works on a key finishes the step it
//! is in, with the sinks it began with, and the key goes on with the new ones.
//! Secrets in memory stay with their keys.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::core::state::KeyState;
use crate::core::time;
use crate::engine::key_entry::scope_of;
use crate::engine::managed_key::ManagedKey;
use crate::engine::scheduler::Engine;
use crate::engine::services::Services;
use crate::engine::worker::Preflight;

impl Engine {
    /// Works with other `parts` and keys from now on. Ledger, clock and
    /// conditions must be the ones of before.
    pub fn reconfigure(&mut self, parts: Services, managed: Vec<ManagedKey>) {
        let now = parts.clock.now();
        let at = time::after(now, parts.reconcile_every);
        self.maintenance.reconcile_by(at);
        self.maintenance.probe_now(now);
        self.services = Arc::new(parts);
        self.set_subscriptions(Arc::clone(&self.services.subscriptions), now);
        let mut wanted: BTreeMap<_, _> = managed
            .into_iter()
            .map(|key| (key.name.clone(), Arc::new(key)))
            .collect();
        for key in wanted.values() {
            self.maintenance.add_scope(&key.scope, now);
        }
        let known: Vec<_> = self.keys.keys().cloned().collect();
        for key in known {
            let managed = wanted.remove(&key);
            let Some(slot) = self.keys.get_mut(&key) else {
                continue;
            };
            if managed.is_none() {
                // Nobody rotates it any more.
                slot.request = None;
            }
            slot.managed = managed;
            if let Some(state) = slot.state() {
                slot.scope = scope_of(slot.managed.as_deref(), state);
            }
            slot.needs_sink_sync = true;
            slot.preflight = Preflight::default();
            slot.interrupted
                .store(slot.parked.is_none(), Ordering::Relaxed);
            self.wake(&key, now);
        }
        for (name, key) in wanted {
            self.add_key(Some(key), KeyState::unknown(name), now);
        }
    }

    /// Has the ledger tell that the configuration cannot be taken, and why; or
    /// with none that it was.
    pub fn record_configuration_problem(&mut self, problem: Option<String>) {
        self.record_condition(None, CONFIGURATION, problem);
    }
}

/// The word in the ledger for what is wrong with a configuration that was to
/// be taken. It is no condition of the daemon: the former one goes on.
const CONFIGURATION: &str = "configuration";
