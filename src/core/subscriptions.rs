//! Which channels receive which notifications.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::core::ids::KeyName;
use crate::core::notification::{Alert, AlertKind, ChannelId, EventKind, NotificationState};

/// A channel and the notifications that it receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The channel.
    pub channel: ChannelId,
    /// The events that it receives.
    pub on: BTreeSet<EventKind>,
    /// The keys whose events it receives, beside those of the daemon; none for
    /// every key.
    pub keys: Option<BTreeSet<KeyName>>,
    /// The interval at which it is reminded of a problem that lasts; none for never.
    pub remind_every: Option<Duration>,
}

impl Subscription {
    /// Returns whether the channel receives the notification that `alert` is raised.
    #[must_use]
    pub fn matches(&self, alert: &Alert) -> bool {
        let matches_key = match (&self.keys, &alert.key) {
            (Some(keys), Some(key)) => keys.contains(key),
            (None, _) | (Some(_), None) => true,
        };
        // No channel can name a key that is not configured.
        let matches_key = matches_key || alert.kind == AlertKind::Unmanaged;
        matches_key && self.on.contains(&alert.kind.event_kind())
    }
}

/// The subscriptions of every channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscriptions(Vec<Subscription>);

impl Subscriptions {
    /// Returns these subscriptions.
    #[must_use]
    pub const fn new(subscriptions: Vec<Subscription>) -> Self {
        Self(subscriptions)
    }

    /// Returns the same channels with subscriptions to this event alone.
    #[must_use]
    pub fn only(self, event: EventKind) -> Self {
        let only = |subscription: Subscription| Subscription {
            on: subscription
                .on
                .into_iter()
                .filter(|on| *on == event)
                .collect(),
            ..subscription
        };
        Self(self.0.into_iter().map(only).collect())
    }

    /// Returns whether no channel is configured.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the id of every channel.
    #[must_use]
    pub fn channel_ids(&self) -> Vec<ChannelId> {
        self.0
            .iter()
            .map(|subscription| subscription.channel.clone())
            .collect()
    }

    /// Returns the subscriptions of the channels that receive the notification that `alert`
    /// is raised.
    pub fn matching<'a>(&'a self, alert: &'a Alert) -> impl Iterator<Item = &'a Subscription> {
        self.0
            .iter()
            .filter(move |subscription| subscription.matches(alert))
    }

    /// Returns whether any channel receives the notification that `alert` is raised.
    #[must_use]
    pub fn matches(&self, alert: &Alert) -> bool {
        self.0
            .iter()
            .any(|subscription| subscription.matches(alert))
    }

    /// Returns whether any channel receives the event of at least one key.
    #[must_use]
    pub fn any_for(&self, event: EventKind) -> bool {
        self.0
            .iter()
            .any(|subscription| subscription.on.contains(&event))
    }

    /// Returns the channels that receive a notification of `alert`. A resolved one
    /// goes to the channels that received the raised one and subscribe to
    /// [`EventKind::Recovered`].
    #[must_use]
    pub fn recipients(&self, alert: &Alert, state: NotificationState) -> Vec<ChannelId> {
        let is_resolved = state == NotificationState::Resolved;
        let receives = |subscription: &&Subscription| {
            subscription.matches(alert)
                && (!is_resolved || subscription.on.contains(&EventKind::Recovered))
        };
        let receiving = self.0.iter().filter(receives);
        receiving
            .map(|subscription| subscription.channel.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::notification::AlertKind;

    fn subscription(on: &[EventKind], keys: Option<&[&str]>) -> Subscription {
        let name = |key: &&str| KeyName::new(key).unwrap();
        Subscription {
            channel: ChannelId::new("command:/bin/page".to_owned()),
            on: on.iter().copied().collect(),
            keys: keys.map(|keys| keys.iter().map(name).collect()),
            remind_every: None,
        }
    }

    #[test]
    fn recipients_are_filtered_by_event_and_key() {
        let alert_of = |key: &str, kind| Alert::for_key(&KeyName::new(key).unwrap(), kind);
        let all = subscription(&EventKind::DEFAULT, None);
        let failure_subscription = subscription(&[EventKind::Failure], Some(&["a"]));
        for (subscription, alert, state, expected) in [
            (
                &all,
                alert_of("a", AlertKind::Failing),
                NotificationState::Raised,
                true,
            ),
            (
                &all,
                alert_of("a", AlertKind::Failing),
                NotificationState::Resolved,
                true,
            ),
            (
                &all,
                alert_of("a", AlertKind::Rotated),
                NotificationState::OneTime,
                false,
            ),
            (
                &all,
                Alert::global(AlertKind::Provider),
                NotificationState::Raised,
                true,
            ),
            (
                &all,
                Alert::global(AlertKind::Clock),
                NotificationState::Raised,
                false,
            ),
            // It does not receive the end of an alert without its start.
            (
                &all,
                Alert::global(AlertKind::Clock),
                NotificationState::Resolved,
                false,
            ),
            (
                &failure_subscription,
                alert_of("a", AlertKind::Failing),
                NotificationState::Raised,
                true,
            ),
            (
                &failure_subscription,
                alert_of("b", AlertKind::Failing),
                NotificationState::Raised,
                false,
            ),
            (
                &failure_subscription,
                alert_of("a", AlertKind::Failing),
                NotificationState::Resolved,
                false,
            ),
            // An alert of the daemon concerns every key.
            (
                &failure_subscription,
                Alert::global(AlertKind::Provider),
                NotificationState::Raised,
                true,
            ),
        ] {
            let subscriptions = Subscriptions::new(vec![subscription.clone()]);
            let is_notified = !subscriptions.recipients(&alert, state).is_empty();
            assert_eq!(
                is_notified, expected,
                "{subscription:?} {alert:?} {state:?}"
            );
        }
    }

    #[test]
    fn any_for_ignores_the_key_filter() {
        assert!(Subscriptions::default().is_empty());
        let subscriptions =
            Subscriptions::new(vec![subscription(&[EventKind::Failure], Some(&["a"]))]);
        assert!(!subscriptions.is_empty());
        assert!(subscriptions.any_for(EventKind::Failure));
        assert!(!subscriptions.any_for(EventKind::Rotated));
    }
}
