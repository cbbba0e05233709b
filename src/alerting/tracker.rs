//! What people were told, what they are to be told now, and when to look
//! again.
//!
//! Everything here is compared, not remembered as an event: what is wrong now
//! with what the ledger holds as told. So a process that dies in between tells
//! neither twice nor never. Without anybody to tell it does nothing at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::alerting::outbox::Outbox;
use crate::core::alert::{self, AlertContext, FAILURE_GRACE_PERIOD};
use crate::core::condition::{ActiveCondition, Condition};
use crate::core::ids::{CredentialId, KeyName};
use crate::core::notification::{
    Alert, AlertKind, EventKind, Notification, NotificationId, NotificationState,
};
use crate::core::redact;
use crate::core::state::Lookalike;
use crate::core::state::{KeyState, Rotation, Trigger};
use crate::core::subscriptions::Subscriptions;
use crate::core::time;
use crate::ledger::OutboxEntry;
use crate::platform::entropy::Entropy;

/// Who is told, and what they know.
pub(crate) struct AlertTracker {
    pub(crate) subscriptions: Arc<Subscriptions>,
    /// What was told and is not over.
    active_alerts: BTreeMap<Alert, Timestamp>,
    /// Of these, what an earlier process told of rekeyd as a whole, and this
    /// one has not seen for itself yet.
    unconfirmed: BTreeSet<Alert>,
    /// When a key is to be looked at again, by time and by key.
    check_queue: BTreeSet<(Timestamp, KeyName)>,
    next_checks: BTreeMap<KeyName, Timestamp>,
    /// Since when there is trouble with a key.
    unhealthy_since: BTreeMap<KeyName, Timestamp>,
    /// Since when each condition has been active.
    condition_since: BTreeMap<Alert, Timestamp>,
    /// The current credentials of which nobody is told any more.
    baseline: BTreeMap<KeyName, CredentialId>,
    watching_since: Timestamp,
    /// Whether what may pass by itself is waited for.
    has_grace_period: bool,
    has_sent_ledger_alert: bool,
    pub(crate) outbox: Outbox,
}

impl AlertTracker {
    /// Of a process that begins at `now`, with what an earlier one has told.
    pub(crate) fn new(
        audience: Arc<Subscriptions>,
        told: BTreeMap<Alert, Timestamp>,
        now: Timestamp,
    ) -> Self {
        let of_all = told.keys().filter(|cause| cause.key.is_none());
        Self {
            subscriptions: audience,
            unconfirmed: of_all.cloned().collect(),
            active_alerts: told,
            check_queue: BTreeSet::new(),
            next_checks: BTreeMap::new(),
            unhealthy_since: BTreeMap::new(),
            condition_since: BTreeMap::new(),
            baseline: BTreeMap::new(),
            watching_since: now,
            has_grace_period: true,
            has_sent_ledger_alert: false,
            outbox: Outbox::default(),
        }
    }

    /// Others are told from now on. True if these are not the same.
    pub(crate) fn set_subscriptions(
        &mut self,
        audience: Arc<Subscriptions>,
        now: Timestamp,
    ) -> bool {
        if *self.subscriptions == *audience {
            return false;
        }
        self.subscriptions = audience;
        self.baseline.clear();
        if self.subscriptions.is_empty() {
            self.active_alerts.clear();
            self.unconfirmed.clear();
            self.outbox.clear_pending();
            self.check_queue.clear();
            self.next_checks.clear();
            self.unhealthy_since.clear();
            self.condition_since.clear();
        }
        self.reset_grace_period(now);
        true
    }

    /// The current credential of a key was there before anybody wanted to be
    /// told.
    pub(crate) fn seed_baseline(&mut self, state: &KeyState) {
        if self.subscriptions.any_for(EventKind::Rotated)
            && let Some(credential) =
                current_created_rotation(state).and_then(|one| one.credential.as_ref())
            && self.notified_rotation(&state.key).is_none()
        {
            let id = credential.id.clone();
            self.baseline.insert(state.key.clone(), id);
        }
    }

    /// Whatever was wrong until now, nobody was there to see to it.
    pub(crate) const fn reset_grace_period(&mut self, now: Timestamp) {
        self.watching_since = now;
    }

    /// From now on what is wrong is told as it stands: the process ends.
    pub(crate) const fn alert_immediately(&mut self) {
        self.has_grace_period = false;
    }

    /// The provider was asked, and all is well with it.
    pub(crate) fn confirm_conditions(&mut self) {
        self.unconfirmed.clear();
    }

    /// The keys that are to be looked at now.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Vec<KeyName> {
        let mut due = Vec::new();
        while self.check_queue.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.check_queue.pop_first() else {
                break;
            };
            self.next_checks.remove(&key);
            due.push(key);
        }
        due
    }

    /// When something is to be looked at again.
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        let look = self.check_queue.first().map(|(at, _)| *at);
        let untold = self.condition_since.iter();
        let untold = untold.filter(|(alert, _)| self.can_raise(alert));
        let conditions = untold.map(|(_, since)| time::after(*since, FAILURE_GRACE_PERIOD));
        look.into_iter().chain(conditions).min()
    }

    fn is_active(&self, cause: &Alert) -> bool {
        self.active_alerts.contains_key(cause)
    }

    /// Compares what is wrong with a key with what was told.
    pub(crate) fn update_key(
        &mut self,
        facts: AlertContext<'_>,
        chance: &dyn Entropy,
        now: Timestamp,
    ) {
        if self.subscriptions.is_empty() {
            return;
        }
        let (state, key) = (facts.state, &facts.state.key);
        let is_managed = facts.configured.is_some();
        if crate::core::health::alertable_error(state, is_managed).is_none() {
            self.unhealthy_since.remove(key);
        } else {
            self.unhealthy_since.entry(key.clone()).or_insert(now);
        }
        let facts = AlertContext {
            alertable_since: self.unhealthy_since.get(key).copied(),
            operational_since: self.has_grace_period.then_some(self.watching_since),
            ..facts
        };
        let mut found = alert::active_alerts(&facts, |cause| self.is_active(cause), now);
        found
            .active
            .retain(|cause, _| self.subscriptions.matches(cause));
        self.schedule_check(key, found.recheck_at);
        let over: Vec<_> = self
            .alerts_of(key)
            .filter(|cause| !cause.kind.is_one_time() && !found.active.contains_key(cause))
            .cloned()
            .collect();
        for (cause, held) in found.active {
            self.raise(
                cause,
                NotificationState::Raised,
                held.since,
                held.text,
                chance,
                now,
            );
        }
        for cause in over {
            let text = alert::resolved_text(&cause, Some(state));
            self.resolve(cause, text, chance, now);
        }
        self.notify_rotation(state, chance, now);
    }

    fn schedule_check(&mut self, key: &KeyName, at: Option<Timestamp>) {
        let before = match at {
            Some(at) => self.next_checks.insert(key.clone(), at),
            None => self.next_checks.remove(key),
        };
        if let Some(before) = before {
            self.check_queue.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.check_queue.insert((at, key.clone()));
        }
    }

    /// What was told of a key.
    fn alerts_of(&self, key: &KeyName) -> impl Iterator<Item = &Alert> {
        let causes = self
            .active_alerts
            .range(Alert::for_key(key, AlertKind::Ledger)..);
        let causes = causes.map(|(cause, _)| cause);
        causes.take_while(move |cause| cause.key.as_ref() == Some(key))
    }

    fn notified_rotation(&self, key: &KeyName) -> Option<&CredentialId> {
        let mut told = self.alerts_of(key);
        let told = told.find(|cause| cause.kind == AlertKind::Rotated);
        told.and_then(|cause| cause.credential.as_ref())
    }

    /// Tells of a rotation that has become current.
    fn notify_rotation(&mut self, state: &KeyState, chance: &dyn Entropy, now: Timestamp) {
        let key = &state.key;
        let Some(current) = current_created_rotation(state) else {
            return;
        };
        let Some(credential) = &current.credential else {
            return;
        };
        let cause = Alert::for_credential(key, AlertKind::Rotated, &credential.id);
        let before = self
            .notified_rotation(key)
            .or(self.baseline.get(key))
            .cloned();
        if before.as_ref() == Some(&credential.id) || !self.subscriptions.matches(&cause) {
            return;
        }
        if let Some(before) = before {
            let before = Alert::for_credential(key, AlertKind::Rotated, &before);
            self.active_alerts.remove(&before);
        }
        let since = current.current_at.unwrap_or(now);
        let text = format!(
            "{} is the current credential of {key}: every required sink has taken it",
            credential.id
        );
        self.raise(cause, NotificationState::OneTime, since, text, chance, now);
    }

    /// Tells of credentials at the provider that look like ours.
    pub(crate) fn notify_lookalikes(
        &mut self,
        seen: &[Lookalike],
        chance: &dyn Entropy,
        now: Timestamp,
    ) {
        for one in seen {
            let key = &one.key;
            let cause = Alert::for_credential(key, AlertKind::Lookalike, &one.id);
            if !self.subscriptions.matches(&cause) {
                continue;
            }
            let text = format!(
                "{} bears the name {}, which looks like a label of {key}, but it is not in this \
                 ledger; it is left alone: `rekeyd audit` shows more",
                one.id,
                redact::sanitize(&one.name)
            );
            self.raise(cause, NotificationState::OneTime, now, text, chance, now);
        }
    }

    /// Compares the active conditions with the alerts that were raised.
    pub(crate) fn update_conditions(
        &mut self,
        active: &[ActiveCondition],
        chance: &dyn Entropy,
        now: Timestamp,
    ) {
        if self.subscriptions.is_empty() {
            return;
        }
        let active: BTreeMap<_, _> = active.iter().map(condition_alert).collect();
        let raised = self.active_alerts.keys();
        let raised = raised.take_while(|alert| alert.key.is_none());
        let known = raised.chain(self.condition_since.keys()).cloned();
        // Worst first, whether they begin or end.
        let alerts: BTreeSet<_> = known.chain(active.keys().cloned()).collect();
        for alert in alerts {
            match active.get(&alert) {
                Some(problem) if self.can_raise(&alert) => {
                    self.raise_condition_alert(alert, problem, chance, now);
                }
                Some(_) => {
                    self.unconfirmed.remove(&alert);
                    self.condition_since.entry(alert).or_insert(now);
                }
                None => self.clear_condition_alert(alert, chance, now),
            }
        }
    }

    fn can_raise(&self, cause: &Alert) -> bool {
        let again = cause.kind == AlertKind::Ledger && self.has_sent_ledger_alert;
        self.subscriptions.matches(cause) && !again && !self.is_active(cause)
    }

    fn raise_condition_alert(
        &mut self,
        cause: Alert,
        problem: &str,
        chance: &dyn Entropy,
        now: Timestamp,
    ) {
        let since = self.condition_since.entry(cause.clone()).or_insert(now);
        *since = (*since).min(now);
        let since = *since;
        if self.has_grace_period && time::after(since, FAILURE_GRACE_PERIOD) > now {
            return;
        }
        let text = format!("{problem}; no rotation is begun until this has passed");
        self.raise(cause, NotificationState::Raised, since, text, chance, now);
    }

    fn clear_condition_alert(&mut self, cause: Alert, chance: &dyn Entropy, now: Timestamp) {
        if self.condition_since.remove(&cause).is_some() {
            self.reset_grace_period(now);
        }
        if self.is_active(&cause) && !self.unconfirmed.contains(&cause) {
            let text = alert::resolved_text(&cause, None);
            self.resolve(cause, text, chance, now);
        }
    }

    fn raise(
        &mut self,
        cause: Alert,
        state: NotificationState,
        since: Timestamp,
        text: String,
        chance: &dyn Entropy,
        now: Timestamp,
    ) {
        if self.is_active(&cause) {
            return;
        }
        let since = time::whole_seconds(since);
        self.active_alerts.insert(cause.clone(), since);
        self.enqueue_notification(cause, state, since, text, chance, now);
    }

    fn resolve(&mut self, cause: Alert, text: String, chance: &dyn Entropy, now: Timestamp) {
        if let Some(since) = self.active_alerts.remove(&cause) {
            self.enqueue_notification(cause, NotificationState::Resolved, since, text, chance, now);
        }
    }

    fn enqueue_notification(
        &mut self,
        cause: Alert,
        state: NotificationState,
        since: Timestamp,
        text: String,
        chance: &dyn Entropy,
        now: Timestamp,
    ) {
        let mut id = [0; 8];
        if chance.fill(&mut id).is_err() {
            // It has to be another one each time, and no more.
            let (seconds, more) = (
                now.as_second().unsigned_abs(),
                self.active_alerts.len() as u64,
            );
            id = (seconds << 20).wrapping_add(more).to_be_bytes();
        }
        let to = self.subscriptions.recipients(&cause, state);
        let notice = Notification {
            id: NotificationId::new(id),
            created_at: time::whole_seconds(now),
            state,
            alert: cause,
            since,
            text,
        };
        if notice.alert.kind == AlertKind::Ledger {
            self.has_sent_ledger_alert = true;
            self.outbox.send_direct(notice, to);
        } else {
            self.outbox.enqueue(OutboxEntry {
                notification: notice,
                channels: to,
            });
        }
    }
}

/// The current rotation of a key, if it was made here.
fn current_created_rotation(state: &KeyState) -> Option<&Rotation> {
    let current = state.current();
    current.filter(|current| current.trigger != Trigger::Adopted)
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

#[cfg(test)]
mod tests;
