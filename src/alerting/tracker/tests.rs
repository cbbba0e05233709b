//! Behaviour that the ledger does not show: notifications that bypass it, and
//! batches that it does not accept.

use super::*;
use crate::alerting::outbox::WriteOutcome;
use crate::core::condition::{ActiveCondition, Condition, ListenerProblem};
use crate::core::ids::ProjectId;
use crate::core::notification::{ChannelId, EventKind};
use crate::core::scope::Scope;
use crate::core::subscriptions::Subscription;
use crate::platform::entropy::EntropyError;

struct CountingEntropy(std::sync::atomic::AtomicU64);

impl Entropy for CountingEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        let next = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        bytes.copy_from_slice(&next.to_be_bytes());
        Ok(())
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_400_000 + seconds).unwrap()
}

fn tracker() -> (AlertTracker, CountingEntropy) {
    let subscription = Subscription {
        channel: ChannelId::new("command:/bin/page".to_owned()),
        on: BTreeSet::from(EventKind::DEFAULT),
        keys: None,
        remind_every: None,
    };
    let subscriptions = Arc::new(Subscriptions::new(vec![subscription]));
    let tracker = AlertTracker::new(subscriptions, RaisedAlerts::default(), at(0));
    (
        tracker,
        CountingEntropy(std::sync::atomic::AtomicU64::new(0)),
    )
}

/// Returns an alert that an earlier process raised.
fn raised_earlier(kind: AlertKind) -> RaisedAlerts {
    RaisedAlerts {
        since: BTreeMap::from([(Alert::global(kind), at(-100))]),
        ..RaisedAlerts::default()
    }
}

fn hold_condition_at(
    tracker: &mut AlertTracker,
    entropy: &CountingEntropy,
    condition: Condition,
    seconds: i64,
) {
    tracker.update_conditions(&[active(condition, None)], entropy, at(seconds));
}

fn active(condition: Condition, scope: Option<Scope>) -> ActiveCondition {
    ActiveCondition {
        condition,
        scope,
        problem: "something is wrong".to_owned(),
    }
}

#[test]
fn a_ledger_alert_bypasses_the_outbox_once_an_hour() {
    let (mut tracker, entropy) = tracker();
    let signal = tracker.outbox.subscribe();
    let direct = || {
        let signal = signal.borrow();
        let states = signal
            .direct
            .iter()
            .map(|(notification, _)| notification.state);
        states.collect::<Vec<_>>()
    };
    hold_condition_at(&mut tracker, &entropy, Condition::Ledger, 0);
    assert_eq!(tracker.next_at(), Some(at(30)));
    hold_condition_at(&mut tracker, &entropy, Condition::Ledger, 30);
    hold_condition_at(&mut tracker, &entropy, Condition::Ledger, 60);
    assert_eq!(direct(), [NotificationState::Raised]);
    tracker.update_conditions(&[], &entropy, at(90));
    assert_eq!(
        direct(),
        [NotificationState::Raised, NotificationState::Resolved]
    );
    for seconds in [100, 200, 300] {
        hold_condition_at(&mut tracker, &entropy, Condition::Ledger, seconds);
    }
    assert_eq!(tracker.next_at(), Some(at(90 + 3600)));
    tracker.update_conditions(&[], &entropy, at(400));
    assert_eq!(
        direct(),
        [NotificationState::Raised, NotificationState::Resolved]
    );
    hold_condition_at(&mut tracker, &entropy, Condition::Ledger, 5000);
    hold_condition_at(&mut tracker, &entropy, Condition::Ledger, 5030);
    assert_eq!(direct().len(), 3, "another shortage is told");
    assert_eq!(tracker.outbox.take_batch(), []);
}

#[test]
fn a_failed_batch_is_written_again_unchanged() {
    let (mut tracker, entropy) = tracker();
    hold_condition_at(&mut tracker, &entropy, Condition::Provider, 0);
    hold_condition_at(&mut tracker, &entropy, Condition::Provider, 30);
    let first = tracker.outbox.take_batch();
    assert_eq!(first.len(), 1);
    tracker.update_conditions(&[], &entropy, at(40));
    assert_eq!(
        tracker.outbox.take_batch(),
        [],
        "one commit after the other"
    );
    tracker.outbox.finish_batch(WriteOutcome::Failed);
    let both = tracker.outbox.take_batch();
    assert_eq!(both[0], first[0], "with the same id");
    assert_eq!(both[1].notification.state, NotificationState::Resolved);
    tracker.outbox.finish_batch(WriteOutcome::Written);
    assert_eq!(tracker.outbox.subscribe().borrow().written, 2);
    assert_eq!(tracker.outbox.take_batch(), []);
}

#[test]
fn an_alert_of_an_earlier_process_is_resolved_after_confirmation() {
    let (earlier, entropy) = tracker();
    let raised = raised_earlier(AlertKind::Provider);
    let mut tracker = AlertTracker::new(Arc::clone(&earlier.subscriptions), raised, at(0));
    tracker.update_conditions(&[], &entropy, at(1));
    assert_eq!(tracker.outbox.take_batch(), []);
    tracker.confirm_conditions();
    tracker.update_conditions(&[], &entropy, at(2));
    let batch = tracker.outbox.take_batch();
    assert_eq!(batch[0].notification.state, NotificationState::Resolved);
    assert_eq!(batch[0].notification.since, at(-100));
}

#[test]
fn the_same_condition_in_two_scopes_is_two_alerts() {
    let (mut tracker, entropy) = tracker();
    let admin_keys = active(Condition::Organization, Some(Scope::AdminKeys));
    let project = Scope::Project(ProjectId::new("proj_abc"));
    let project = active(Condition::Organization, Some(project));
    let both = [admin_keys.clone(), project];
    tracker.update_conditions(&both, &entropy, at(0));
    tracker.update_conditions(&both, &entropy, at(30));
    let sent = |tracker: &mut AlertTracker| {
        let batch = tracker.outbox.take_batch();
        tracker.outbox.finish_batch(WriteOutcome::Written);
        let notifications = batch.into_iter().map(|entry| entry.notification);
        let alerts = notifications.map(|sent| (sent.state, sent.alert.scope.unwrap().to_string()));
        alerts.collect::<Vec<_>>()
    };
    let (admin, proj) = ("admin-keys".to_owned(), "project:proj_abc".to_owned());
    let raised = NotificationState::Raised;
    assert_eq!(
        sent(&mut tracker),
        [(raised, admin), (raised, proj.clone())]
    );
    tracker.update_conditions(&[admin_keys], &entropy, at(40));
    assert_eq!(sent(&mut tracker), [(NotificationState::Resolved, proj)]);
}

#[test]
fn a_condition_that_returns_at_once_counts_from_its_first_failure() {
    for (pause, expected) in [(1, Some(30)), (5, Some(30)), (29, Some(30)), (40, None)] {
        let (mut tracker, entropy) = tracker();
        let signal = tracker.outbox.subscribe();
        let mut raised_at = None;
        let mut seconds = 0;
        // It is active for a second, and passes for `pause` seconds.
        while seconds < 300 && raised_at.is_none() {
            hold_condition_at(&mut tracker, &entropy, Condition::Ledger, seconds);
            let sent = signal.borrow().direct.len();
            raised_at = (sent > 0).then_some(seconds);
            tracker.update_conditions(&[], &entropy, at(seconds + 1));
            seconds += 1 + pause;
        }
        match expected {
            Some(earliest) => {
                let raised_at = raised_at.unwrap();
                assert!(
                    (earliest..=earliest + pause + 1).contains(&raised_at),
                    "{pause}"
                );
            }
            None => assert_eq!(raised_at, None, "{pause}"),
        }
    }
}

#[test]
fn damage_is_told_at_once_and_whatever_was_told_before() {
    let (mut tracker, entropy) = tracker();
    let signal = tracker.outbox.subscribe();
    hold_condition_at(&mut tracker, &entropy, Condition::Ledger, 0);
    hold_condition_at(&mut tracker, &entropy, Condition::Ledger, 30);
    assert_eq!(signal.borrow().direct.len(), 1);
    for text in ["one", "two"] {
        tracker.notify_damage(text.to_owned(), &entropy, at(31));
    }
    hold_condition_at(&mut tracker, &entropy, Condition::Ledger, 32);
    let direct = signal.borrow().direct.clone();
    let texts = direct.iter().map(|(notification, _)| &notification.text);
    assert_eq!(texts.skip(1).collect::<Vec<_>>(), ["one", "two"]);
}

/// Nobody sees that the monitoring is gone unless rekeyd says so.
#[test]
fn a_place_that_cannot_be_taken_is_notified_once_and_at_its_end() {
    for (listener, word) in [
        (ListenerProblem::ControlSocket, "control-socket"),
        (ListenerProblem::Metrics, "metrics-address"),
    ] {
        let (mut tracker, entropy) = tracker();
        let sent = |tracker: &mut AlertTracker| {
            let batch = tracker.outbox.take_batch();
            tracker.outbox.finish_batch(WriteOutcome::Written);
            let sent = batch.into_iter().map(|entry| entry.notification);
            let sent = sent.map(|sent| (sent.state, sent.alert.kind.as_str(), sent.event_kind()));
            sent.collect::<Vec<_>>()
        };
        let problem = BTreeMap::from([(listener, "cannot listen".to_owned())]);
        tracker.update_listeners(&problem, &entropy, at(0));
        assert_eq!(tracker.next_at(), Some(at(30)));
        // What the conditions do meanwhile does not end it.
        hold_condition_at(&mut tracker, &entropy, Condition::Clock, 10);
        tracker.update_conditions(&[], &entropy, at(20));
        tracker.confirm_conditions();
        tracker.update_listeners(&problem, &entropy, at(30));
        tracker.update_listeners(&problem, &entropy, at(40));
        let raised = (NotificationState::Raised, word, EventKind::Failure);
        assert_eq!(sent(&mut tracker), [raised]);
        tracker.update_conditions(&[], &entropy, at(50));
        assert_eq!(sent(&mut tracker), []);
        tracker.update_listeners(&BTreeMap::new(), &entropy, at(60));
        let resolved = (NotificationState::Resolved, word, EventKind::Recovered);
        assert_eq!(sent(&mut tracker), [resolved]);
    }
}

/// A process that listens nowhere, such as `rekeyd once`, says nothing about it; the next
/// daemon does, without an answer of the provider.
#[test]
fn the_next_daemon_resolves_the_alert_of_a_place() {
    let (earlier, entropy) = tracker();
    let raised = raised_earlier(AlertKind::MetricsAddress);
    let subscriptions = Arc::clone(&earlier.subscriptions);
    let mut tracker = AlertTracker::new(subscriptions, raised, at(0));
    tracker.confirm_conditions();
    tracker.update_conditions(&[], &entropy, at(1));
    assert_eq!(tracker.outbox.take_batch(), []);
    tracker.update_listeners(&BTreeMap::new(), &entropy, at(2));
    let batch = tracker.outbox.take_batch();
    assert_eq!(batch[0].notification.state, NotificationState::Resolved);
    assert_eq!(batch[0].notification.since, at(-100));
}

/// Returns a tracker whose channel is reminded each hour.
fn reminding_tracker(raised: RaisedAlerts) -> (AlertTracker, CountingEntropy) {
    let (tracker, entropy) = tracker();
    let subscriptions = tracker.subscriptions.channel_ids().into_iter();
    let subscriptions = subscriptions.map(|channel| Subscription {
        channel,
        on: BTreeSet::from(EventKind::DEFAULT),
        keys: None,
        remind_every: Some(std::time::Duration::from_secs(3_600)),
    });
    let subscriptions = Arc::new(Subscriptions::new(subscriptions.collect()));
    (AlertTracker::new(subscriptions, raised, at(0)), entropy)
}

/// Returns the state and the start of each new notification.
fn take_sent(tracker: &mut AlertTracker) -> Vec<(NotificationState, Timestamp)> {
    let batch = tracker.outbox.take_batch();
    tracker.outbox.finish_batch(WriteOutcome::Written);
    let sent = batch.into_iter().map(|entry| entry.notification);
    sent.map(|sent| (sent.state, sent.since)).collect()
}

#[test]
fn a_lasting_condition_is_notified_again_at_each_interval() {
    let (mut tracker, entropy) = reminding_tracker(RaisedAlerts::default());
    let hold = |tracker: &mut AlertTracker, seconds| {
        hold_condition_at(tracker, &entropy, Condition::Provider, seconds);
        take_sent(tracker)
    };
    assert_eq!(hold(&mut tracker, 0), []);
    let begun = (NotificationState::Raised, at(0));
    assert_eq!(hold(&mut tracker, 30), [begun]);
    assert_eq!(tracker.next_at(), Some(at(30 + 3_600)));
    assert_eq!(hold(&mut tracker, 3_600), []);
    assert_eq!(hold(&mut tracker, 3_630), [begun]);
    assert_eq!(tracker.next_at(), Some(at(3_630 + 3_600)));
    tracker.update_conditions(&[], &entropy, at(4_000));
    let over = (NotificationState::Resolved, at(0));
    assert_eq!(take_sent(&mut tracker), [over]);
    assert_eq!(tracker.next_at(), None);
}

/// The next process knows when a channel was notified.
#[test]
fn a_reminder_is_due_across_restarts() {
    let (other, _) = tracker();
    let alert = Alert::global(AlertKind::Provider);
    let channels = other.subscriptions.channel_ids().into_iter();
    let notified = channels.map(|channel| (channel, at(-100))).collect();
    let raised = RaisedAlerts {
        since: BTreeMap::from([(alert.clone(), at(-130))]),
        notified_at: BTreeMap::from([(alert, notified)]),
    };
    let (mut tracker, entropy) = reminding_tracker(raised);
    hold_condition_at(&mut tracker, &entropy, Condition::Provider, 0);
    assert_eq!(take_sent(&mut tracker), []);
    hold_condition_at(&mut tracker, &entropy, Condition::Provider, 3_500);
    let begun = (NotificationState::Raised, at(-130));
    assert_eq!(take_sent(&mut tracker), [begun]);
}

/// An operator who repairs the URL of a channel has a new one, which knows of nothing yet.
#[test]
fn a_new_channel_is_notified_of_what_lasts() {
    let (mut tracker, entropy) = tracker();
    hold_condition_at(&mut tracker, &entropy, Condition::Provider, 0);
    hold_condition_at(&mut tracker, &entropy, Condition::Provider, 30);
    assert_eq!(take_sent(&mut tracker).len(), 1);
    let subscription = Subscription {
        channel: ChannelId::new("command:/bin/other".to_owned()),
        on: BTreeSet::from(EventKind::DEFAULT),
        keys: None,
        remind_every: None,
    };
    let subscriptions = Subscriptions::new(vec![subscription]);
    tracker.set_subscriptions(Arc::new(subscriptions), at(40));
    for seconds in [41, 42] {
        hold_condition_at(&mut tracker, &entropy, Condition::Provider, seconds);
    }
    let batch = tracker.outbox.take_batch();
    let channels: Vec<_> = batch.iter().flat_map(|entry| &entry.channels).collect();
    assert_eq!(channels, [&ChannelId::new("command:/bin/other".to_owned())]);
    assert_eq!(batch[0].notification.since, at(0));
}
