//! What cannot be seen from outside: notices that do not stand in the ledger,
//! and a ledger that does not take them.

use super::*;
use crate::alerting::outbox::WriteOutcome;
use crate::core::ids::ProjectId;
use crate::core::notification::ChannelId;
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
    let listener = Subscription {
        channel: ChannelId::new("command:/bin/page".to_owned()),
        on: BTreeSet::from(EventKind::DEFAULT),
        keys: None,
    };
    let audience = Arc::new(Subscriptions::new(vec![listener]));
    let watch = AlertTracker::new(audience, BTreeMap::new(), at(0));
    (watch, CountingEntropy(std::sync::atomic::AtomicU64::new(0)))
}

fn hold_condition_at(
    watch: &mut AlertTracker,
    chance: &CountingEntropy,
    condition: Condition,
    seconds: i64,
) {
    watch.update_conditions(&[active(condition, None)], chance, at(seconds));
}

fn active(condition: Condition, scope: Option<Scope>) -> ActiveCondition {
    ActiveCondition {
        condition,
        scope,
        problem: "something is wrong".to_owned(),
    }
}

#[test]
fn a_ledger_alert_bypasses_the_outbox_once_per_process() {
    let (mut watch, chance) = tracker();
    let posted = watch.outbox.subscribe();
    let direct = || {
        let posted = posted.borrow();
        let states = posted.direct.iter().map(|(notice, _)| notice.state);
        states.collect::<Vec<_>>()
    };
    hold_condition_at(&mut watch, &chance, Condition::Ledger, 0);
    assert_eq!(watch.next_at(), Some(at(30)));
    hold_condition_at(&mut watch, &chance, Condition::Ledger, 30);
    hold_condition_at(&mut watch, &chance, Condition::Ledger, 60);
    assert_eq!(direct(), [NotificationState::Raised]);
    watch.update_conditions(&[], &chance, at(90));
    assert_eq!(
        direct(),
        [NotificationState::Raised, NotificationState::Resolved]
    );
    for seconds in [100, 200, 300] {
        hold_condition_at(&mut watch, &chance, Condition::Ledger, seconds);
    }
    assert_eq!(watch.next_at(), None, "nothing is waited for");
    watch.update_conditions(&[], &chance, at(400));
    assert_eq!(
        direct(),
        [NotificationState::Raised, NotificationState::Resolved]
    );
    assert_eq!(watch.outbox.take_batch(), []);
}

#[test]
fn a_failed_batch_is_written_again_unchanged() {
    let (mut watch, chance) = tracker();
    hold_condition_at(&mut watch, &chance, Condition::Provider, 0);
    hold_condition_at(&mut watch, &chance, Condition::Provider, 30);
    let first = watch.outbox.take_batch();
    assert_eq!(first.len(), 1);
    watch.update_conditions(&[], &chance, at(40));
    assert_eq!(watch.outbox.take_batch(), [], "one commit after the other");
    watch.outbox.finish_batch(WriteOutcome::Failed);
    let both = watch.outbox.take_batch();
    assert_eq!(both[0], first[0], "with the same id");
    assert_eq!(both[1].notification.state, NotificationState::Resolved);
    watch.outbox.finish_batch(WriteOutcome::Written);
    assert_eq!(watch.outbox.subscribe().borrow().written, 2);
    assert_eq!(watch.outbox.take_batch(), []);
}

#[test]
fn an_alert_of_an_earlier_process_is_resolved_after_confirmation() {
    let (before, chance) = tracker();
    let told = BTreeMap::from([(Alert::global(AlertKind::Provider), at(-100))]);
    let mut watch = AlertTracker::new(Arc::clone(&before.subscriptions), told, at(0));
    watch.update_conditions(&[], &chance, at(1));
    assert_eq!(watch.outbox.take_batch(), []);
    watch.confirm_conditions();
    watch.update_conditions(&[], &chance, at(2));
    let tellings = watch.outbox.take_batch();
    assert_eq!(tellings[0].notification.state, NotificationState::Resolved);
    assert_eq!(tellings[0].notification.since, at(-100));
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
        let shown = notifications.map(|one| (one.state, one.alert.scope.unwrap().to_string()));
        shown.collect::<Vec<_>>()
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
