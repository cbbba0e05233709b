//! Who is told of what.

use std::collections::BTreeSet;

use crate::core::ids::KeyName;
use crate::core::notification::{Alert, ChannelId, EventKind, NotificationState};

/// Somebody who is told, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Who.
    pub channel: ChannelId,
    /// On which occasions.
    pub on: BTreeSet<EventKind>,
    /// Of which keys, besides rekeyd as a whole; none for all.
    pub keys: Option<BTreeSet<KeyName>>,
}

impl Subscription {
    fn matches(&self, cause: &Alert) -> bool {
        let of_key = match (&self.keys, &cause.key) {
            (Some(keys), Some(key)) => keys.contains(key),
            (None, _) | (Some(_), None) => true,
        };
        of_key && self.on.contains(&cause.kind.event_kind())
    }
}

/// Everybody who is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscriptions(Vec<Subscription>);

impl Subscriptions {
    /// Of these.
    #[must_use]
    pub const fn new(listeners: Vec<Subscription>) -> Self {
        Self(listeners)
    }

    /// Whether nobody is told of anything.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everybody's id.
    #[must_use]
    pub fn channel_ids(&self) -> Vec<ChannelId> {
        self.0
            .iter()
            .map(|listener| listener.channel.clone())
            .collect()
    }

    /// Whether anybody is told of this.
    #[must_use]
    pub fn matches(&self, cause: &Alert) -> bool {
        self.0.iter().any(|listener| listener.matches(cause))
    }

    /// Whether anybody is told on this occasion, of whatever key.
    #[must_use]
    pub fn any_for(&self, occasion: EventKind) -> bool {
        self.0
            .iter()
            .any(|listener| listener.on.contains(&occasion))
    }

    /// Who is told of this. Its end is told to who is told of its beginning
    /// and wants to know.
    #[must_use]
    pub fn recipients(&self, cause: &Alert, state: NotificationState) -> Vec<ChannelId> {
        let ends = state == NotificationState::Resolved;
        let told = |listener: &&Subscription| {
            listener.matches(cause) && (!ends || listener.on.contains(&EventKind::Recovered))
        };
        let told = self.0.iter().filter(told);
        told.map(|listener| listener.channel.clone()).collect()
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
        }
    }

    #[test]
    fn recipients_are_filtered_by_event_and_key() {
        let of = |key: &str, matter| Alert::for_key(&KeyName::new(key).unwrap(), matter);
        let all = subscription(&EventKind::DEFAULT, None);
        let one = subscription(&[EventKind::Failure], Some(&["a"]));
        for (listener, cause, state, told) in [
            (
                &all,
                of("a", AlertKind::Failing),
                NotificationState::Raised,
                true,
            ),
            (
                &all,
                of("a", AlertKind::Failing),
                NotificationState::Resolved,
                true,
            ),
            (
                &all,
                of("a", AlertKind::Rotated),
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
            // The end of what it is not told of is nothing to it.
            (
                &all,
                Alert::global(AlertKind::Clock),
                NotificationState::Resolved,
                false,
            ),
            (
                &one,
                of("a", AlertKind::Failing),
                NotificationState::Raised,
                true,
            ),
            (
                &one,
                of("b", AlertKind::Failing),
                NotificationState::Raised,
                false,
            ),
            (
                &one,
                of("a", AlertKind::Failing),
                NotificationState::Resolved,
                false,
            ),
            // What is wrong with rekeyd is wrong with every key.
            (
                &one,
                Alert::global(AlertKind::Provider),
                NotificationState::Raised,
                true,
            ),
        ] {
            let audience = Subscriptions::new(vec![listener.clone()]);
            let found = !audience.recipients(&cause, state).is_empty();
            assert_eq!(found, told, "{listener:?} {cause:?} {state:?}");
        }
    }

    #[test]
    fn any_for_ignores_the_key_filter() {
        assert!(Subscriptions::default().is_empty());
        let audience = Subscriptions::new(vec![subscription(&[EventKind::Failure], Some(&["a"]))]);
        assert!(!audience.is_empty());
        // Of whatever key.
        assert!(audience.any_for(EventKind::Failure));
        assert!(!audience.any_for(EventKind::Rotated));
    }
}
