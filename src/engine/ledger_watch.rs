//! Watches the ledger's files while the engine runs. When they are damaged, what the engine
//! has in memory may be the only record of live credentials, so it is logged and people are
//! notified of it, before anything else and without the ledger.

use std::sync::Arc;

use crate::core::condition::Condition;
use crate::core::ids::KeyName;

use crate::engine::ledger_condition::raise_ledger_condition;
use crate::engine::scheduler::{Completion, Engine};

/// The number of rotations that one notification names at most.
const MAX_ROTATIONS_PER_NOTIFICATION: usize = 250;

impl Engine {
    /// Checks that the ledger is still this process's, and raises the condition "ledger" if
    /// it is not. The event loop calls it each second, so that a daemon without work also
    /// notices it.
    pub fn check_ledger(&mut self) {
        if std::mem::replace(&mut self.is_checking_ledger, true) {
            return;
        }
        let services = Arc::clone(&self.services);
        self.running.spawn(async move {
            let size = match services.ledger.check_files().await {
                Ok(size) => Some(size),
                Err(error) => {
                    raise_ledger_condition(&services.conditions, &error);
                    None
                }
            };
            Completion::LedgerCheck(size)
        });
    }

    /// Reports every rotation in memory, once, if the ledger's files are damaged.
    pub(super) fn report_rotations_if_damaged(&mut self) {
        if self.has_reported_rotations || !self.services.conditions.lasts(Condition::Ledger) {
            return;
        }
        self.has_reported_rotations = true;
        self.report_rotations(self.keys.keys().cloned().collect());
    }

    /// Logs the rotations of `keys`, as far as no worker has them, and notifies people of
    /// them. A worker reports those of its key when it returns.
    pub(super) fn report_rotations(&mut self, keys: Vec<KeyName>) {
        let mut lines = Vec::new();
        for key in keys {
            let Some(parked) = self.keys.get(&key).and_then(|entry| entry.parked.as_ref()) else {
                continue;
            };
            for (rotation, credential) in parked.known_credentials() {
                let label = rotation.label.as_ref();
                let label = label.map_or("adopted", |label| label.as_str());
                let credential = credential.map_or("no known credential", |id| id.as_str());
                let phase = rotation.phase.as_str();
                tracing::error!(
                    key = %key, rotation = %rotation.id, %label, credential,
                    "{key}: {credential}, {label} ({phase}), may no longer have a row in the ledger"
                );
                lines.push(format!("{key}: {credential}, {label} ({phase})"));
            }
        }
        let problem = self.services.conditions.active().into_iter().next();
        let problem = problem.map(|active| active.problem).unwrap_or_default();
        let (entropy, now) = (self.services.entropy.as_ref(), self.services.clock.now());
        let is_first = !self.alert_tracker.has_reported_damage();
        if lines.is_empty() && is_first {
            self.alert_tracker.notify_damage(problem, entropy, now);
            return;
        }
        for part in lines.chunks(MAX_ROTATIONS_PER_NOTIFICATION) {
            let text = format!(
                "{problem}\nThese credentials may no longer have a row in the ledger:\n{}",
                part.join("\n")
            );
            self.alert_tracker.notify_damage(text, entropy, now);
        }
    }
}
