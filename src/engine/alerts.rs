//! Has people told what is wrong: where a key's state changes, when its time
//! has come, and when something is wrong with rekeyd as a whole.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::alerting::outbox::{OutboxSignal, WriteOutcome};
use crate::core::alert::AlertContext;
use crate::core::condition::Condition;
use crate::core::ids::KeyName;
use crate::core::state::Lookalike;
use crate::core::subscriptions::Subscriptions;
use crate::engine::probe::describe_problem;
use crate::engine::scheduler::{Completion, Engine};

impl Engine {
    /// Tells whoever delivers notices that some were written.
    #[must_use]
    pub fn subscribe_outbox(&self) -> watch::Receiver<OutboxSignal> {
        self.alert_tracker.outbox.subscribe()
    }

    /// Looks at one key, unless somebody works on it: then it is looked at
    /// when it comes back.
    pub(super) fn update_key_alerts(&mut self, key: &KeyName, now: Timestamp) {
        if self.alert_tracker.subscriptions.is_empty() {
            return;
        }
        let Some(slot) = self.keys.get(key) else {
            return;
        };
        let Some(state) = slot.state() else {
            return;
        };
        let required = slot
            .managed
            .as_ref()
            .map(|managed| managed.required_sinks());
        let policy = slot.managed.as_ref().map(|managed| managed.policy.as_ref());
        let facts = AlertContext {
            state,
            configured: policy.zip(required.as_deref()),
            failing_since: slot.failing_since,
            alertable_since: None,
            operational_since: None,
            has_global_alert: !self.services.conditions.can_start_rotation(&slot.scope),
        };
        self.alert_tracker
            .update_key(facts, self.services.entropy.as_ref(), now);
    }

    /// Looks at the keys whose time has come.
    pub(super) fn update_due_alerts(&mut self, now: Timestamp) {
        for key in self.alert_tracker.take_due(now) {
            self.update_key_alerts(&key, now);
        }
        self.record_notifications();
    }

    /// Looks at what is wrong with rekeyd as a whole.
    pub(super) fn update_condition_alerts(&mut self) {
        let held = self.services.conditions.active();
        let (chance, now) = (self.services.entropy.as_ref(), self.services.clock.now());
        self.alert_tracker.update_conditions(&held, chance, now);
        self.record_notifications();
    }

    /// The provider was listed.
    pub(super) fn update_lookalike_alerts(&mut self, lookalikes: &[Lookalike], now: Timestamp) {
        self.alert_tracker.confirm_conditions();
        let chance = self.services.entropy.as_ref();
        self.alert_tracker
            .notify_lookalikes(lookalikes, chance, now);
    }

    /// Records the notices that are to be told: in a commit of its own, for as
    /// many as there are.
    fn record_notifications(&mut self) {
        // It is told by others, and what is wrong with keys waits.
        if self.services.conditions.is_active(Condition::Ledger) {
            return;
        }
        let tellings = self.alert_tracker.outbox.take_batch();
        if tellings.is_empty() {
            return;
        }
        let parts = Arc::clone(&self.services);
        self.running.spawn(async move {
            let Err(error) = parts.ledger.enqueue_notifications(tellings).await else {
                return Completion::Notifications(WriteOutcome::Written);
            };
            if error.is_content_error() {
                tracing::error!("cannot record what people are to be told: {error}");
                return Completion::Notifications(WriteOutcome::Rejected);
            }
            let text = describe_problem(Condition::Ledger, &error.to_string());
            parts.conditions.raise(Condition::Ledger, &text);
            Completion::Notifications(WriteOutcome::Failed)
        });
    }

    /// Others are told from now on.
    pub(super) fn set_subscriptions(&mut self, audience: Arc<Subscriptions>, now: Timestamp) {
        let ids = audience.channel_ids();
        if !self.alert_tracker.set_subscriptions(audience, now) {
            return;
        }
        let states = self.keys.values().filter_map(|slot| slot.state());
        for state in states {
            self.alert_tracker.seed_baseline(state);
        }
        let ledger = self.services.ledger.clone();
        self.running.spawn(async move {
            if let Err(error) = ledger.retain_channels(ids).await {
                tracing::debug!(%error, "cannot forget what nobody is told any more");
            }
            Completion::LedgerWrite
        });
    }

    /// Tells what is wrong as it stands, for a process that ends and cannot
    /// wait whether it passes. Returns when that is recorded, or cannot be.
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
