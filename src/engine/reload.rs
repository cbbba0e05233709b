//! Applies a new configuration to a running engine.
//!
//! A reload drops no work: a worker finishes its current step with the sinks that it
//! started with, and its key continues with the new ones. Secrets in memory stay with
//! their keys.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::core::condition::{Condition, ListenerProblem};
use crate::core::decide::revocation::RecheckCause;
use crate::core::state::KeyState;
use crate::core::time;
use crate::engine::key_entry::scope_of;
use crate::engine::managed_key::ManagedKey;
use crate::engine::presence::PresenceTally;
use crate::engine::scheduler::{Engine, set_membership};
use crate::engine::services::Services;
use crate::engine::worker::Preflight;

impl Engine {
    /// Replaces the services and the configured keys. Ledger, clock and conditions must
    /// stay the same.
    pub fn reconfigure(&mut self, services: Services, managed: Vec<ManagedKey>) {
        let now = services.clock.now();
        let mut tallies = self.presence.values();
        // The admin key may be the right one now.
        let at = if tallies.any(PresenceTally::is_suspicious) {
            now
        } else {
            time::after(now, services.reconcile_every)
        };
        self.maintenance.reconcile_by(at);
        // The provider's request for a pause may concern another proxy or admin key.
        services.conditions.resume_requests();
        self.maintenance.probe_now(now);
        self.rechecks.add(RecheckCause::Start);
        self.services = Arc::new(services);
        self.services.ledger.start_page_check();
        self.set_subscriptions(Arc::clone(&self.services.subscriptions), now);
        let mut configured: BTreeMap<_, _> = managed
            .into_iter()
            .map(|key| (key.name.clone(), Arc::new(key)))
            .collect();
        self.configured = Arc::new(configured.clone());
        self.file_search
            .set_sinks(configured.values().map(AsRef::as_ref));
        for key in configured.values() {
            self.maintenance.add_scope(&key.scope, now);
        }
        let keys: Vec<_> = self.keys.keys().cloned().collect();
        for key in keys {
            let managed = configured.remove(&key);
            let Some(entry) = self.keys.get_mut(&key) else {
                continue;
            };
            if managed.is_none() {
                // A removed key is not rotated any more.
                entry.request = None;
                if entry.is_request_recorded {
                    tracing::warn!(
                        %key,
                        "{key}: dropped the requested rotation, because the key is no longer \
                         configured"
                    );
                }
            }
            entry.managed = managed;
            if let Some(state) = entry.state() {
                entry.scope = scope_of(entry.managed.as_deref(), state);
                let is_due = entry.may_fall_due_with_others(now);
                set_membership(&mut self.due_by_age, &key, is_due);
            }
            entry.needs_sink_sync = true;
            // The configuration, or what it names, may have been repaired.
            entry.ignores_backoff = true;
            entry.preflight = Preflight::default();
            entry
                .interrupted
                .store(entry.parked.is_none(), Ordering::Relaxed);
            self.settle_request(&key);
            self.wake(&key, now);
        }
        for (name, key) in configured {
            self.add_key(Some(key), KeyState::unknown(name), now);
        }
        self.publish_all();
    }

    /// Continues with another admin key, which the provider has just accepted: what the former
    /// one was refused may succeed now.
    pub fn use_other_admin_key(&mut self) {
        self.services.conditions.resume_requests();
        self.services.conditions.clear(Condition::Credential);
        self.maintenance.probe_now(self.services.clock.now());
    }

    /// Records why the configuration cannot be applied, or with none that it was. Returns
    /// when `status` shows it, unless the ledger hangs.
    pub async fn record_configuration_problem(&mut self, problem: Option<String>) {
        self.configuration_problem.clone_from(&problem);
        self.publish_process();
        self.record_problem(CONFIGURATION, problem).await;
    }

    /// Returns why the configuration in the file was not loaded, if the last reload was
    /// rejected.
    #[must_use]
    pub fn configuration_problem(&self) -> Option<&str> {
        self.configuration_problem.as_deref()
    }

    /// Sets and records the places at which the daemon cannot listen, each with its problem.
    /// People are notified of one that lasts.
    pub async fn set_listener_problems(&mut self, problems: BTreeMap<ListenerProblem, String>) {
        for listener in ListenerProblem::ALL {
            let problem = problems.get(&listener).cloned();
            self.record_problem(listener.as_str(), problem).await;
        }
        self.listener_problems = Some(problems);
        self.publish_process();
        self.update_condition_alerts();
    }

    /// Clears the record of such a place, since the process ends.
    pub async fn forget_listener_problem(&self, listener: ListenerProblem) {
        self.record_problem(listener.as_str(), None).await;
    }

    async fn record_problem(&self, name: &'static str, problem: Option<String>) {
        let (ledger, now) = (&self.services.ledger, self.services.clock.now());
        let recorded = ledger.set_condition(None, name, now, problem);
        match tokio::time::timeout(RECORD_TIMEOUT, recorded).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, name, "cannot record a problem"),
            Err(_) => tracing::debug!(name, "a problem is recorded later"),
        }
    }
}

/// How long a reload waits for the record of its outcome.
const RECORD_TIMEOUT: Duration = Duration::from_secs(1);

/// The ledger's word for a configuration that could not be applied. It is no condition
/// of the daemon, which keeps its previous configuration.
const CONFIGURATION: &str = "configuration";
