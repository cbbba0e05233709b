//! The alerts of conditions, which concern every key.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::AlertTracker;
use crate::core::alert;
use crate::core::condition::{ActiveCondition, Condition, FAILURE_GRACE_PERIOD, ListenerProblem};
use crate::core::notification::{Alert, AlertKind, NotificationState};
use crate::core::time;
use crate::platform::entropy::Entropy;

/// The interval at which people are notified that the ledger cannot be written, at most:
/// these notifications have no outbox that would keep them from being sent again.
const LEDGER_ALERT_INTERVAL: Duration = time::HOUR;

impl AlertTracker {
    /// Compares the active conditions with those that are raised, and queues
    /// the difference.
    pub(crate) fn update_conditions(
        &mut self,
        active: &[ActiveCondition],
        entropy: &dyn Entropy,
        now: Timestamp,
    ) {
        let active = active.iter().map(condition_alert).collect();
        self.update_global_alerts(&active, false, entropy, now);
    }

    /// Compares the problems of the places at which the daemon listens with those that are
    /// raised, and queues the difference. A process that listens nowhere does not call it.
    pub(crate) fn update_listeners(
        &mut self,
        problems: &BTreeMap<ListenerProblem, String>,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) {
        // No answer of the provider says anything about them.
        self.unconfirmed
            .retain(|alert| !alert.kind.is_about_listener());
        let problems = problems.iter().map(|(listener, problem)| {
            let text = format!("{problem}; retrying every second; rotations continue");
            (Alert::global(listener_alert_kind(*listener)), text)
        });
        self.update_global_alerts(&problems.collect(), true, entropy, now);
    }

    /// Raises and resolves the alerts of conditions, or else of listeners. `active` has the
    /// text of each active one.
    fn update_global_alerts(
        &mut self,
        active: &BTreeMap<Alert, String>,
        is_about_listener: bool,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) {
        if self.subscriptions.is_empty() {
            return;
        }
        let raised = self.active_alerts.keys();
        let raised = raised.take_while(|alert| alert.key.is_none());
        let raised = raised.filter(|alert| !alert.kind.is_one_time());
        let known = raised.chain(self.condition_since.keys()).cloned();
        let known = known.filter(|alert| alert.kind.is_about_listener() == is_about_listener);
        // Worst first, whether they are raised or resolved.
        let alerts: BTreeSet<_> = known.chain(active.keys().cloned()).collect();
        let mut next_reminder: Option<Timestamp> = None;
        for alert in alerts {
            match active.get(&alert) {
                Some(text) if self.can_raise(&alert) => {
                    self.raise_condition_alert(alert.clone(), text, entropy, now);
                    let raised = self
                        .is_active(&alert)
                        .then(|| self.first_reminder(&alert, now));
                    next_reminder = next_reminder.into_iter().chain(raised.flatten()).min();
                }
                Some(text) => {
                    self.unconfirmed.remove(&alert);
                    self.note_condition(&alert, now);
                    let reminder = self.remind(&alert, text, entropy, now);
                    next_reminder = next_reminder.into_iter().chain(reminder).min();
                }
                None => self.clear_condition_alert(alert, entropy, now),
            }
        }
        let of_others = self
            .next_reminder
            .filter(|at| *at > now && is_about_listener);
        self.next_reminder = next_reminder.into_iter().chain(of_others).min();
    }

    /// Returns whether people were notified that the ledger's files are damaged.
    pub(crate) const fn has_reported_damage(&self) -> bool {
        self.has_reported_damage
    }

    /// Notifies people that the ledger's files are damaged: at once, without the ledger,
    /// and even if they were notified before.
    pub(crate) fn notify_damage(&mut self, text: String, entropy: &dyn Entropy, now: Timestamp) {
        self.has_reported_damage = true;
        let alert = Alert::for_condition(AlertKind::Ledger, None);
        if !self.subscriptions.matches(&alert) {
            return;
        }
        let since = time::whole_seconds(now);
        let since = *self.active_alerts.entry(alert.clone()).or_insert(since);
        let state = NotificationState::Raised;
        let channels = self.subscriptions.recipients(&alert, state);
        self.note_notified(&alert, &channels, now);
        self.enqueue_for(channels, alert, state, since, text, entropy, now);
    }

    pub(super) fn can_raise(&self, alert: &Alert) -> bool {
        self.subscriptions.matches(alert) && !self.is_active(alert)
    }

    /// Returns when a condition that is active since `since` becomes an alert.
    pub(super) fn raised_at(&self, alert: &Alert, since: Timestamp) -> Timestamp {
        let patience = time::after(since, grace_period(alert.kind));
        let is_direct = alert.kind == AlertKind::Ledger;
        let repeated_at = self.ledger_alert_at.filter(|_| is_direct);
        repeated_at.map_or(patience, |at| {
            patience.max(time::after(at, LEDGER_ALERT_INTERVAL))
        })
    }

    /// Returns since when an active condition counts. One that had passed only a moment
    /// before is the same: a disk that takes one page more would start it again each
    /// second.
    fn note_condition(&mut self, alert: &Alert, now: Timestamp) -> Timestamp {
        let passed = self.passed_conditions.remove(alert);
        let since = passed
            .filter(|(_, passed_at)| time::after(*passed_at, FAILURE_GRACE_PERIOD) > now)
            .map_or(now, |(since, _)| since);
        let since = *self.condition_since.entry(alert.clone()).or_insert(since);
        since.min(now)
    }

    fn raise_condition_alert(
        &mut self,
        alert: Alert,
        text: &str,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) {
        let since = self.note_condition(&alert, now);
        if self.has_grace_period && self.raised_at(&alert, since) > now {
            return;
        }
        let text = text.to_owned();
        self.raise(alert, NotificationState::Raised, since, text, entropy, now);
    }

    fn clear_condition_alert(&mut self, alert: Alert, entropy: &dyn Entropy, now: Timestamp) {
        if let Some(since) = self.condition_since.remove(&alert) {
            if !alert.kind.is_about_listener() {
                self.reset_grace_period(now);
            }
            if !self.is_active(&alert) {
                self.passed_conditions.insert(alert.clone(), (since, now));
            }
        }
        if self.is_active(&alert) && !self.unconfirmed.contains(&alert) {
            let text = alert::resolved_text(&alert, None);
            self.resolve(alert, text, entropy, now);
        }
    }
}

fn condition_alert(active: &ActiveCondition) -> (Alert, String) {
    let kind = alert_kind(active.condition);
    let alert = Alert::for_condition(kind, active.scope.clone());
    let consequence = active.condition.blocked_work().notified_text();
    (alert, format!("{}; {consequence}", active.problem))
}

/// Returns how long a condition or the problem of a listener lasts before people are
/// notified of it.
fn grace_period(kind: AlertKind) -> Duration {
    let mut conditions = Condition::ALL.into_iter();
    let condition = conditions.find(|condition| alert_kind(*condition) == kind);
    condition.map_or(FAILURE_GRACE_PERIOD, Condition::grace_period)
}

const fn listener_alert_kind(listener: ListenerProblem) -> AlertKind {
    match listener {
        ListenerProblem::ControlSocket => AlertKind::ControlSocket,
        ListenerProblem::Metrics => AlertKind::MetricsAddress,
    }
}

const fn alert_kind(condition: Condition) -> AlertKind {
    match condition {
        Condition::Ledger => AlertKind::Ledger,
        Condition::Credential => AlertKind::Credential,
        Condition::Organization => AlertKind::Organization,
        Condition::Clock => AlertKind::Clock,
        Condition::Provider => AlertKind::Provider,
        Condition::Reconciliation => AlertKind::Reconciliation,
        Condition::Quota => AlertKind::Quota,
        Condition::CreateRefusal => AlertKind::CreateRefusal,
        Condition::CreateLimit => AlertKind::CreateLimit,
        Condition::ReadLimit => AlertKind::ReadLimit,
        Condition::DeleteLimit => AlertKind::DeleteLimit,
    }
}
