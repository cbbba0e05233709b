//! The alerts of a key, its rotations and its lookalikes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::AlertTracker;
use crate::core::alert::{self, AlertContext};
use crate::core::first_few::join_few;
use crate::core::health::{alertable_error, paused_repair};
use crate::core::ids::{CredentialId, KeyName};
use crate::core::notification::{Alert, AlertKind, EventKind, NotificationState};
use crate::core::redact;
use crate::core::state::{KeyState, Lookalike, Rotation, Trigger};
use crate::core::time;
use crate::platform::entropy::Entropy;

/// The number of keys up to which the lookalikes of each are a notice of their own.
const MAX_LOOKALIKE_NOTICES: usize = 3;

impl AlertTracker {
    /// Records the current credential of a key as known before anybody
    /// subscribed, so that no notification is sent for its rotation.
    pub(crate) fn seed_baseline(&mut self, state: &KeyState) {
        if self.subscriptions.any_for(EventKind::Rotated)
            && let Some(credential) =
                current_created_rotation(state).and_then(|rotation| rotation.credential.as_ref())
            && self.notified_rotation(&state.key).is_none()
        {
            let id = credential.id.clone();
            self.baseline.insert(state.key.clone(), id);
        }
    }

    /// Compares a key's active alerts with those that are raised, and queues
    /// the difference.
    pub(crate) fn update_key(
        &mut self,
        context: AlertContext<'_>,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) {
        if self.subscriptions.is_empty() {
            return;
        }
        let (state, key) = (context.state, &context.state.key);
        let is_managed = context.configured.is_some();
        let is_waiting = is_managed && paused_repair(state, now).is_some();
        if alertable_error(state, is_managed).is_none() && !is_waiting {
            self.unhealthy_since.remove(key);
        } else {
            self.unhealthy_since.entry(key.clone()).or_insert(now);
        }
        let context = AlertContext {
            alertable_since: self.unhealthy_since.get(key).copied(),
            operational_since: self.has_grace_period.then_some(self.watching_since),
            ..context
        };
        let mut evaluation = alert::active_alerts(&context, |alert| self.is_active(alert), now);
        evaluation
            .active
            .retain(|alert, _| self.subscriptions.matches(alert));
        let resolved: Vec<_> = self
            .alerts_of(key)
            .filter(|alert| !alert.kind.is_one_time() && !evaluation.active.contains_key(alert))
            .cloned()
            .collect();
        let mut next_check = evaluation.recheck_at;
        for (alert, active) in evaluation.active {
            if self.is_active(&alert) {
                let reminder = self.remind(&alert, &active.text, entropy, now);
                next_check = next_check.into_iter().chain(reminder).min();
                continue;
            }
            next_check = next_check
                .into_iter()
                .chain(self.first_reminder(&alert, now))
                .min();
            self.raise(
                alert,
                NotificationState::Raised,
                active.since,
                active.text,
                entropy,
                now,
            );
        }
        self.schedule_check(key, next_check);
        for alert in resolved {
            let text = alert::resolved_text(&alert, Some(state));
            self.resolve(alert, text, entropy, now);
        }
        self.notify_rotation(state, entropy, now);
    }

    fn schedule_check(&mut self, key: &KeyName, at: Option<Timestamp>) {
        let previous = match at {
            Some(at) => self.next_checks.insert(key.clone(), at),
            None => self.next_checks.remove(key),
        };
        if let Some(previous) = previous {
            self.check_queue.remove(&(previous, key.clone()));
        }
        if let Some(at) = at {
            self.check_queue.insert((at, key.clone()));
        }
    }

    /// Returns the raised alerts of a key.
    fn alerts_of(&self, key: &KeyName) -> impl Iterator<Item = &Alert> {
        let alerts = self
            .active_alerts
            .range(Alert::for_key(key, AlertKind::Ledger)..);
        let alerts = alerts.map(|(alert, _)| alert);
        alerts.take_while(move |alert| alert.key.as_ref() == Some(key))
    }

    fn notified_rotation(&self, key: &KeyName) -> Option<&CredentialId> {
        let mut alerts = self.alerts_of(key);
        let alerts = alerts.find(|alert| alert.kind == AlertKind::Rotated);
        alerts.and_then(|alert| alert.credential.as_ref())
    }

    /// Queues the notification of a rotation that has become current.
    fn notify_rotation(&mut self, state: &KeyState, entropy: &dyn Entropy, now: Timestamp) {
        let key = &state.key;
        let Some(current) = current_created_rotation(state) else {
            return;
        };
        let Some(credential) = &current.credential else {
            return;
        };
        let alert = Alert::for_credential(key, AlertKind::Rotated, &credential.id);
        let previous = self
            .notified_rotation(key)
            .or(self.baseline.get(key))
            .cloned();
        if previous.as_ref() == Some(&credential.id) || !self.subscriptions.matches(&alert) {
            return;
        }
        if let Some(previous) = previous {
            let previous = Alert::for_credential(key, AlertKind::Rotated, &previous);
            self.active_alerts.remove(&previous);
        }
        let since = current.current_at.unwrap_or(now);
        let text = format!(
            "rotated {key}: every required sink accepted its new credential {}",
            credential.id
        );
        self.raise(alert, NotificationState::OneTime, since, text, entropy, now);
    }

    /// Queues the notification of what an operator did, or of a crash. Each is news, and none
    /// an alert that lasts.
    pub(crate) fn notify_once(
        &mut self,
        alert: Alert,
        since: Timestamp,
        text: String,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) {
        if self.subscriptions.matches(&alert) {
            let (state, since) = (NotificationState::OneTime, time::whole_seconds(since));
            self.enqueue_notification(alert, state, since, text, entropy, now);
        }
    }

    /// Queues notifications of credentials at the provider whose names look like labels of
    /// this ledger: few, however many there are. Everybody who may create credentials
    /// decides their number, and they delay no alert.
    pub(crate) fn notify_lookalikes(
        &mut self,
        lookalikes: &[Lookalike],
        entropy: &dyn Entropy,
        now: Timestamp,
    ) {
        let mut new: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for lookalike in lookalikes {
            let alert = lookalike_alert(lookalike);
            if self.subscriptions.matches(&alert) && !self.is_active(&alert) {
                new.entry(&lookalike.key).or_default().push(lookalike);
            }
        }
        let notices: Vec<_> = if new.len() > MAX_LOOKALIKE_NOTICES {
            vec![(None, new.into_values().flatten().collect())]
        } else {
            let notices = new.into_iter();
            notices.map(|(key, found)| (Some(key), found)).collect()
        };
        for (key, found) in notices {
            let Some(first) = found.first() else {
                continue;
            };
            let alert = Alert {
                key: key.cloned(),
                ..lookalike_alert(first)
            };
            let text = describe_lookalikes(key, &found);
            self.raise(alert, NotificationState::OneTime, now, text, entropy, now);
            for lookalike in found {
                self.raise_silently(lookalike_alert(lookalike), now, entropy);
            }
        }
    }
}

/// Returns the alert of one lookalike.
fn lookalike_alert(lookalike: &Lookalike) -> Alert {
    Alert::for_credential(&lookalike.key, AlertKind::Lookalike, &lookalike.id)
}

/// Describes to people the new lookalikes of a key, or those of many keys.
fn describe_lookalikes(key: Option<&KeyName>, found: &[&Lookalike]) -> String {
    if let ([only], Some(key)) = (found, key) {
        return format!(
            "{id} has the name {}, which looks like a label of {key}, but is not in this ledger; \
             rekeyd leaves it alone; hint: `rekeyd adopt {key} {id}` takes it over",
            redact::sanitize_name(&only.name),
            id = only.id
        );
    }
    let labels = match key {
        Some(key) => format!("labels of {key}"),
        None => {
            let keys: BTreeSet<_> = found.iter().map(|one| &one.key).collect();
            format!("labels of {} keys", keys.len())
        }
    };
    format!(
        "{} credentials have names that look like {labels}, but are not in this ledger: {}; \
         rekeyd leaves them alone; hint: `rekeyd audit` lists all",
        found.len(),
        join_few(found.iter().map(|one| &one.id))
    )
}

/// Returns the current rotation of a key, unless its credential was adopted.
fn current_created_rotation(state: &KeyState) -> Option<&Rotation> {
    let current = state.current();
    current.filter(|current| current.trigger != Trigger::Adopted)
}
