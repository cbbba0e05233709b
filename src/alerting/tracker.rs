//! The alerts that people were notified of, those that they have to be notified
//! of, and the time of the next evaluation.
//!
//! An alert is a level, not an event: the tracker compares the active alerts
//! with those that the ledger holds as raised. So a process that is killed in
//! between sends no notification twice and loses none. Without subscriptions
//! the tracker does nothing.

mod conditions;
mod key_alerts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::alerting::outbox::Outbox;
use crate::core::ids::{CredentialId, KeyName};
use crate::core::notification::{
    Alert, AlertKind, ChannelId, Notification, NotificationId, NotificationState,
};
use crate::core::subscriptions::Subscriptions;
use crate::core::time;
use crate::ledger::{OutboxEntry, RaisedAlerts};
use crate::platform::entropy::Entropy;

/// The subscriptions, and the alerts that were raised.
pub(crate) struct AlertTracker {
    pub(crate) subscriptions: Arc<Subscriptions>,
    /// The alerts that are raised, each since when.
    active_alerts: BTreeMap<Alert, Timestamp>,
    /// When each channel was last notified that an alert began.
    notified_at: BTreeMap<Alert, BTreeMap<ChannelId, Timestamp>>,
    /// When the next channel is reminded of an active condition.
    next_reminder: Option<Timestamp>,
    /// Of these, the conditions that an earlier process raised and that this
    /// one has not observed yet.
    unconfirmed: BTreeSet<Alert>,
    /// The next evaluations of keys, by time and key.
    check_queue: BTreeSet<(Timestamp, KeyName)>,
    next_checks: BTreeMap<KeyName, Timestamp>,
    /// The start of each key's present failure.
    unhealthy_since: BTreeMap<KeyName, Timestamp>,
    /// The start of each active condition.
    condition_since: BTreeMap<Alert, Timestamp>,
    /// The current credentials that were there before anybody subscribed to
    /// rotations, so that none is sent for them.
    baseline: BTreeMap<KeyName, CredentialId>,
    watching_since: Timestamp,
    /// Whether failures that may pass by themselves are held back at first.
    has_grace_period: bool,
    /// When the ledger's alert was last sent.
    ledger_alert_at: Option<Timestamp>,
    /// The conditions that passed before they became alerts: since when each was active,
    /// and when it passed. One that returns soon is the same.
    passed_conditions: BTreeMap<Alert, (Timestamp, Timestamp)>,
    has_reported_damage: bool,
    pub(crate) outbox: Outbox,
}

impl AlertTracker {
    /// Returns a tracker of a process that starts at `now`, with the alerts
    /// that an earlier one raised.
    pub(crate) fn new(
        subscriptions: Arc<Subscriptions>,
        raised: RaisedAlerts,
        now: Timestamp,
    ) -> Self {
        let RaisedAlerts {
            since: raised,
            notified_at,
        } = raised;
        let is_condition = |alert: &&Alert| alert.key.is_none() && !alert.kind.is_one_time();
        let conditions = raised.keys().filter(is_condition);
        Self {
            subscriptions,
            unconfirmed: conditions.cloned().collect(),
            active_alerts: raised,
            notified_at,
            next_reminder: None,
            check_queue: BTreeSet::new(),
            next_checks: BTreeMap::new(),
            unhealthy_since: BTreeMap::new(),
            condition_since: BTreeMap::new(),
            baseline: BTreeMap::new(),
            watching_since: now,
            has_grace_period: true,
            ledger_alert_at: None,
            passed_conditions: BTreeMap::new(),
            has_reported_damage: false,
            outbox: Outbox::default(),
        }
    }

    /// Replaces the subscriptions. Returns true if they differ.
    pub(crate) fn set_subscriptions(
        &mut self,
        subscriptions: Arc<Subscriptions>,
        now: Timestamp,
    ) -> bool {
        if *self.subscriptions == *subscriptions {
            return false;
        }
        self.subscriptions = subscriptions;
        self.baseline.clear();
        // A removed channel that returns was notified of nothing.
        let ids: BTreeSet<_> = self.subscriptions.channel_ids().into_iter().collect();
        for channels in self.notified_at.values_mut() {
            channels.retain(|channel, _| ids.contains(channel));
        }
        if self.subscriptions.is_empty() {
            self.active_alerts.clear();
            self.notified_at.clear();
            self.next_reminder = None;
            self.unconfirmed.clear();
            self.outbox.clear_pending();
            self.check_queue.clear();
            self.next_checks.clear();
            self.unhealthy_since.clear();
            self.condition_since.clear();
            self.passed_conditions.clear();
        }
        self.reset_grace_period(now);
        true
    }

    /// Moves what is known of a key to its new name.
    pub(crate) fn rename(&mut self, from: &KeyName, to: &KeyName) {
        let renamed = |alert: Alert| Alert {
            key: alert
                .key
                .map(|key| if key == *from { to.clone() } else { key }),
            ..alert
        };
        let active = std::mem::take(&mut self.active_alerts).into_iter();
        self.active_alerts = active.map(|(alert, at)| (renamed(alert), at)).collect();
        let notified = std::mem::take(&mut self.notified_at).into_iter();
        self.notified_at = notified.map(|(alert, at)| (renamed(alert), at)).collect();
        if let Some(at) = self.next_checks.remove(from) {
            self.check_queue.remove(&(at, from.clone()));
        }
        if let Some(at) = self.unhealthy_since.remove(from) {
            self.unhealthy_since.insert(to.clone(), at);
        }
        if let Some(credential) = self.baseline.remove(from) {
            self.baseline.insert(to.clone(), credential);
        }
    }

    /// Starts a new grace period: nothing could repair an earlier failure.
    pub(crate) const fn reset_grace_period(&mut self, now: Timestamp) {
        self.watching_since = now;
    }

    /// Ends the grace period permanently, since the process ends.
    pub(crate) const fn alert_immediately(&mut self) {
        self.has_grace_period = false;
    }

    /// Confirms that the conditions of an earlier process are over unless they
    /// are observed again: the provider has answered.
    pub(crate) fn confirm_conditions(&mut self) {
        self.unconfirmed.clear();
    }

    /// Returns the keys that are due for an evaluation.
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

    /// Returns the time of the next evaluation.
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        let next_check = self.check_queue.first().map(|(at, _)| *at);
        let unraised = self.condition_since.iter();
        let unraised = unraised.filter(|(alert, _)| self.can_raise(alert));
        let conditions = unraised.map(|(alert, since)| self.raised_at(alert, *since));
        let times = next_check.into_iter().chain(self.next_reminder);
        times.chain(conditions).min()
    }

    fn is_active(&self, alert: &Alert) -> bool {
        self.active_alerts.contains_key(alert)
    }

    fn raise(
        &mut self,
        alert: Alert,
        state: NotificationState,
        since: Timestamp,
        text: String,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) {
        if self.is_active(&alert) {
            return;
        }
        let since = time::whole_seconds(since);
        self.active_alerts.insert(alert.clone(), since);
        let channels = self.subscriptions.recipients(&alert, state);
        if state == NotificationState::Raised {
            self.note_notified(&alert, &channels, now);
        }
        self.enqueue_for(channels, alert, state, since, text, entropy, now);
    }

    /// Notifies the channels that have to be reminded of a raised alert, and those that were
    /// not notified of it yet, such as a new one. Returns when the next has to be reminded.
    fn remind(
        &mut self,
        alert: &Alert,
        text: &str,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let since = *self.active_alerts.get(alert)?;
        let mut due = Vec::new();
        let mut next: Option<Timestamp> = None;
        let notified = self.notified_at.get(alert);
        for subscription in self.subscriptions.matching(alert) {
            let last = notified.and_then(|channels| channels.get(&subscription.channel));
            let every = subscription.remind_every;
            let at = match (last, every) {
                (None, _) => now,
                (Some(_), None) => continue,
                // The clock may have been set back.
                (Some(last), Some(every)) => time::after((*last).min(now), every),
            };
            let is_due = at <= now;
            if is_due {
                due.push(subscription.channel.clone());
            }
            let following = if is_due {
                every.map(|every| time::after(now, every))
            } else {
                Some(at)
            };
            next = next.into_iter().chain(following).min();
        }
        if !due.is_empty() {
            self.note_notified(alert, &due, now);
            let (alert, state, text) = (alert.clone(), NotificationState::Raised, text.to_owned());
            self.enqueue_for(due, alert, state, since, text, entropy, now);
        }
        next
    }

    /// Returns when a channel is first reminded of an alert that is raised now.
    fn first_reminder(&self, alert: &Alert, now: Timestamp) -> Option<Timestamp> {
        let intervals = self.subscriptions.matching(alert);
        let shortest = intervals.filter_map(|one| one.remind_every).min();
        shortest.map(|every| time::after(now, every))
    }

    fn note_notified(&mut self, alert: &Alert, channels: &[ChannelId], now: Timestamp) {
        let notified = self.notified_at.entry(alert.clone()).or_default();
        notified.extend(channels.iter().map(|channel| (channel.clone(), now)));
    }

    /// Records that people know of an event: another notification names it.
    fn raise_silently(&mut self, alert: Alert, since: Timestamp, entropy: &dyn Entropy) {
        if self.is_active(&alert) {
            return;
        }
        let at = time::whole_seconds(since);
        self.active_alerts.insert(alert.clone(), at);
        let id = self.new_notification_id(entropy, since);
        self.outbox.enqueue(OutboxEntry {
            notification: Notification {
                id,
                created_at: at,
                state: NotificationState::OneTime,
                alert,
                since: at,
                text: String::new(),
            },
            channels: Vec::new(),
        });
    }

    fn resolve(&mut self, alert: Alert, text: String, entropy: &dyn Entropy, now: Timestamp) {
        if let Some(since) = self.active_alerts.remove(&alert) {
            self.notified_at.remove(&alert);
            self.enqueue_notification(
                alert,
                NotificationState::Resolved,
                since,
                text,
                entropy,
                now,
            );
        }
    }

    fn new_notification_id(&self, entropy: &dyn Entropy, now: Timestamp) -> NotificationId {
        let mut id = [0; 8];
        if entropy.fill(&mut id).is_err() {
            // The id has to be unique, not random.
            let (seconds, count) = (
                now.as_second().unsigned_abs(),
                self.active_alerts.len() as u64,
            );
            id = (seconds << 20).wrapping_add(count).to_be_bytes();
        }
        NotificationId::new(id)
    }

    fn enqueue_notification(
        &mut self,
        alert: Alert,
        state: NotificationState,
        since: Timestamp,
        text: String,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) {
        let channels = self.subscriptions.recipients(&alert, state);
        self.enqueue_for(channels, alert, state, since, text, entropy, now);
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one notification")]
    fn enqueue_for(
        &mut self,
        channels: Vec<ChannelId>,
        alert: Alert,
        state: NotificationState,
        since: Timestamp,
        text: String,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) {
        let id = self.new_notification_id(entropy, now);
        let notification = Notification {
            id,
            created_at: time::whole_seconds(now),
            state,
            alert,
            since,
            text,
        };
        if notification.alert.kind == AlertKind::Ledger {
            self.ledger_alert_at = Some(now);
            self.outbox.send_direct(notification, channels);
        } else {
            self.outbox.enqueue(OutboxEntry {
                notification,
                channels,
            });
        }
    }
}

#[cfg(test)]
mod tests;
