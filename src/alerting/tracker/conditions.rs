//! The alerts of conditions, which concern every key.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::AlertTracker;
use crate::core::alert::{self, FAILURE_GRACE_PERIOD};
use crate::core::condition::{ActiveCondition, Condition};
use crate::core::notification::{Alert, AlertKind, NotificationState};
use crate::core::time;
use crate::platform::entropy::Entropy;

impl AlertTracker {
    /// Compares the active conditions with those that are raised, and queues
    /// the difference.
    pub(crate) fn update_conditions(
        &mut self,
        active: &[ActiveCondition],
        entropy: &dyn Entropy,
        now: Timestamp,
    ) {
        if self.subscriptions.is_empty() {
            return;
        }
        let active: BTreeMap<_, _> = active.iter().map(condition_alert).collect();
        let raised = self.active_alerts.keys();
        let raised = raised.take_while(|alert| alert.key.is_none());
        let known = raised.chain(self.condition_since.keys()).cloned();
        // Worst first, whether they are raised or resolved.
        let alerts: BTreeSet<_> = known.chain(active.keys().cloned()).collect();
        for alert in alerts {
            match active.get(&alert) {
                Some(problem) if self.can_raise(&alert) => {
                    self.raise_condition_alert(alert, problem, entropy, now);
                }
                Some(_) => {
                    self.unconfirmed.remove(&alert);
                    self.condition_since.entry(alert).or_insert(now);
                }
                None => self.clear_condition_alert(alert, entropy, now),
            }
        }
    }

    /// Returns whether people were notified that the ledger's files are damaged.
    pub(crate) const fn has_reported_damage(&self) -> bool {
        self.has_reported_damage
    }

    /// Notifies people that the ledger's files are damaged: at once, without the ledger, and
    /// whatever they were told before.
    pub(crate) fn notify_damage(&mut self, text: String, entropy: &dyn Entropy, now: Timestamp) {
        self.has_reported_damage = true;
        let alert = Alert::for_condition(AlertKind::Ledger, None);
        if !self.subscriptions.matches(&alert) {
            return;
        }
        let since = time::whole_seconds(now);
        let since = *self.active_alerts.entry(alert.clone()).or_insert(since);
        let state = NotificationState::Raised;
        self.enqueue_notification(alert, state, since, text, entropy, now);
    }

    pub(super) fn can_raise(&self, alert: &Alert) -> bool {
        let is_repetition = alert.kind == AlertKind::Ledger && self.has_sent_ledger_alert;
        self.subscriptions.matches(alert) && !is_repetition && !self.is_active(alert)
    }

    fn raise_condition_alert(
        &mut self,
        alert: Alert,
        problem: &str,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) {
        let since = self.condition_since.entry(alert.clone()).or_insert(now);
        *since = (*since).min(now);
        let since = *since;
        if self.has_grace_period && time::after(since, FAILURE_GRACE_PERIOD) > now {
            return;
        }
        let text = format!("{problem}; no rotation is begun until this has passed");
        self.raise(alert, NotificationState::Raised, since, text, entropy, now);
    }

    fn clear_condition_alert(&mut self, alert: Alert, entropy: &dyn Entropy, now: Timestamp) {
        if self.condition_since.remove(&alert).is_some() {
            self.reset_grace_period(now);
        }
        if self.is_active(&alert) && !self.unconfirmed.contains(&alert) {
            let text = alert::resolved_text(&alert, None);
            self.resolve(alert, text, entropy, now);
        }
    }
}

fn condition_alert(active: &ActiveCondition) -> (Alert, &str) {
    let kind = alert_kind(active.condition);
    let alert = Alert::for_condition(kind, active.scope.clone());
    (alert, &active.problem)
}

const fn alert_kind(condition: Condition) -> AlertKind {
    match condition {
        Condition::Ledger => AlertKind::Ledger,
        Condition::Credential => AlertKind::Credential,
        Condition::Organization => AlertKind::Organization,
        Condition::Clock => AlertKind::Clock,
        Condition::Provider => AlertKind::Provider,
    }
}
