//! Updates the alerts: when a key's state changes, when a grace period ends, and when a
//! condition of the daemon starts or ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::alerting::outbox::{OutboxSignal, OutboxWaker, WriteOutcome};
use crate::core::alert::AlertContext;
use crate::core::condition::Condition;
use crate::core::crash::Crash;
use crate::core::ids::{CredentialId, KeyName};
use crate::core::notification::{Alert, AlertKind};
use crate::core::scope::Scope;
use crate::core::state::Lookalike;
use crate::core::subscriptions::Subscriptions;
use crate::engine::ledger_condition::raise_ledger_condition;
use crate::engine::operator_notice::OperatorNotice;
use crate::engine::scheduler::{Completion, Engine};

impl Engine {
    /// Returns a receiver that signals new notifications in the outbox.
    #[must_use]
    pub fn subscribe_outbox(&self) -> watch::Receiver<OutboxSignal> {
        self.alert_tracker.outbox.subscribe()
    }

    /// Returns what wakes those who send notifications.
    pub(crate) fn outbox_waker(&self) -> OutboxWaker {
        self.alert_tracker.outbox.waker()
    }

    /// Updates the alerts of one key. While a worker has the key, its return does so.
    pub(super) fn update_key_alerts(&mut self, key: &KeyName, now: Timestamp) {
        if self.alert_tracker.subscriptions.is_empty() {
            return;
        }
        let Some(entry) = self.keys.get(key) else {
            return;
        };
        let Some(state) = entry.state() else {
            return;
        };
        let required = entry.active().map(|managed| managed.required_sinks());
        let policy = entry.active().map(|managed| managed.policy.as_ref());
        let context = AlertContext {
            state,
            configured: policy.zip(required.as_deref()),
            failing_since: entry.failing_since,
            alertable_since: None,
            operational_since: None,
            has_global_alert: !self.services.conditions.can_start_rotation(&entry.scope),
            is_held_back: entry.is_rotation_held_back(),
        };
        self.alert_tracker
            .update_key(context, self.services.entropy.as_ref(), now);
    }

    /// Updates the alerts of the keys that are due for it.
    pub(super) fn update_due_alerts(&mut self, now: Timestamp) {
        for key in self.alert_tracker.take_due(now) {
            self.update_key_alerts(&key, now);
        }
        self.record_notifications();
    }

    /// Updates the alerts of the daemon by its active conditions.
    pub(super) fn update_condition_alerts(&mut self) {
        let active = self.services.conditions.active();
        let (entropy, now) = (self.services.entropy.as_ref(), self.services.clock.now());
        self.alert_tracker.update_conditions(&active, entropy, now);
        if let Some(problems) = &self.listener_problems {
            self.alert_tracker.update_listeners(problems, entropy, now);
        }
        self.record_notifications();
    }

    /// Notifies people of what operators did to credentials of a key.
    pub(super) fn notify_of_operators(
        &mut self,
        key: &KeyName,
        notices: Vec<OperatorNotice>,
        now: Timestamp,
    ) {
        if notices.is_empty() {
            return;
        }
        let entropy = self.services.entropy.as_ref();
        for notice in notices {
            let alert = Alert {
                credential: notice.credential,
                ..Alert::for_key(key, notice.kind)
            };
            self.alert_tracker
                .notify_once(alert, now, notice.text, entropy, now);
        }
        self.record_notifications();
    }

    /// Notifies people that the process before ended by a panic.
    pub fn notify_of_crash(&mut self, crash: &Crash) {
        let (entropy, now) = (self.services.entropy.as_ref(), self.services.clock.now());
        let alert = Alert::global(AlertKind::Crashed);
        let text = format!("{crash}; it was restarted");
        self.alert_tracker
            .notify_once(alert, crash.at, text, entropy, now);
        self.record_notifications();
    }

    /// Notifies people that a changed configuration is not in use, if that is so.
    pub fn notify_of_configuration(&mut self) {
        let Some(text) = self.configuration_problem.clone() else {
            return;
        };
        let (entropy, now) = (self.services.entropy.as_ref(), self.services.clock.now());
        let alert = Alert::global(AlertKind::ConfigurationWaits);
        self.alert_tracker
            .notify_once(alert, now, text, entropy, now);
        self.record_notifications();
    }

    /// Notifies people of lookalikes after the provider was listed.
    pub(super) fn update_lookalike_alerts(&mut self, lookalikes: &[Lookalike], now: Timestamp) {
        self.alert_tracker.confirm_conditions();
        let entropy = self.services.entropy.as_ref();
        self.alert_tracker
            .notify_lookalikes(lookalikes, entropy, now);
    }

    /// Shows which keys of a scope have lookalikes, after the provider was listed.
    pub(super) fn show_lookalikes(
        &mut self,
        scope: &Scope,
        lookalikes: &[Lookalike],
        now: Timestamp,
    ) {
        let mut by_key: BTreeMap<&KeyName, Vec<CredentialId>> = BTreeMap::new();
        for found in lookalikes {
            by_key.entry(&found.key).or_default().push(found.id.clone());
        }
        for (key, entry) in &mut self.keys {
            if entry.scope != *scope {
                continue;
            }
            let found = by_key.remove(key).unwrap_or_default();
            if entry.lookalikes != found {
                entry.lookalikes = found;
                self.view.publish(key, &entry.view(), now);
            }
        }
    }

    /// Records all pending notifications in the outbox, in one commit.
    fn record_notifications(&mut self) {
        // The alert of an unwritable ledger bypasses the outbox; those of keys wait.
        if self.services.conditions.is_active(Condition::Ledger) {
            return;
        }
        let notifications = self.alert_tracker.outbox.take_batch();
        if notifications.is_empty() {
            return;
        }
        let services = Arc::clone(&self.services);
        self.running.spawn(async move {
            let Err(error) = services.ledger.enqueue_notifications(notifications).await else {
                return Completion::Notifications(WriteOutcome::Written);
            };
            if error.is_content_error() {
                tracing::error!("cannot record notifications: {error}");
                return Completion::Notifications(WriteOutcome::Rejected);
            }
            raise_ledger_condition(&services.conditions, &error);
            Completion::Notifications(WriteOutcome::Failed)
        });
    }

    /// Replaces the subscriptions, and deletes the notifications of removed channels.
    pub(super) fn set_subscriptions(&mut self, subscriptions: Arc<Subscriptions>, now: Timestamp) {
        let ids = subscriptions.channel_ids();
        if !self.alert_tracker.set_subscriptions(subscriptions, now) {
            return;
        }
        let states = self.keys.values().filter_map(|entry| entry.state());
        for state in states {
            self.alert_tracker.seed_baseline(state);
        }
        let ledger = self.services.ledger.clone();
        self.running.spawn(async move {
            if let Err(error) = ledger.retain_channels(ids).await {
                tracing::debug!(%error, "cannot delete the notifications of removed channels");
            }
            Completion::LedgerWrite
        });
    }

    /// Notifies people of every error without a grace period, for a process that ends.
    /// Returns when the notifications are recorded, or cannot be.
    pub async fn notify_before_exit(&mut self) {
        if self.alert_tracker.subscriptions.is_empty() {
            return;
        }
        let now = self.services.clock.now();
        let monotonic = self.services.clock.monotonic();
        let conditions = &self.services.conditions;
        if conditions.is_clear() && conditions.overlap_start(now, monotonic).is_some() {
            self.alert_tracker.confirm_conditions();
        }
        self.alert_tracker.alert_immediately();
        self.update_condition_alerts();
        let keys: Vec<_> = self.keys.keys().cloned().collect();
        for key in keys {
            self.update_key_alerts(&key, now);
        }
        self.record_notifications();
        while self.process_completions().await {}
    }
}
