//! The read-only views of the engine.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::core::authority::Authority;
use crate::core::condition::Condition;
use crate::core::ids::{CredentialId, KeyName};
use crate::core::lifecycle::Phase;
use crate::core::time;
use crate::engine::operator_command::{OperatorCommand, PendingCommand};
use crate::engine::tests::fake::{Fakes, at, key};
use crate::engine::tests::rotation_changes::current;
use crate::engine::tests::{HOUR, rotation_request};
use crate::engine::{Engine, RunMode};
use crate::provider::{Effect, ErrorKind};
use crate::sink::Acceptance;

/// Returns a daemon that has rotated its only key a second time.
async fn rotated_engine(fakes: &Fakes) -> Engine {
    fakes.write_ledger(vec![(key(), current(1))]).await;
    let managed = fakes.managed_key(key(), |policy| policy.delivery_deadline = HOUR / 2);
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    engine.request_rotation(&key(), rotation_request());
    fakes.run_for(&mut engine, HOUR / 4).await;
    engine
}

#[tokio::test]
async fn key_views_show_state_and_next_rotation() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = rotated_engine(&fakes).await;
    let other = KeyName::new("other").unwrap();
    assert_eq!(fakes.place_of(engine.current_sequence(&key())), 2);
    assert_eq!(engine.current_sequence(&other), 0);
    assert_eq!(engine.delivery_deadline(&key()), Some(HOUR / 2));
    assert_eq!(engine.delivery_deadline(&other), None);
    assert_eq!(engine.configured_keys(), [key()]);
    assert!(engine.unhealthy().is_empty());
    let first = "2026-12-01T00:00:00Z".parse().unwrap();
    assert_eq!(engine.next_rotation(), Some((&key(), first)));
    let shared = engine.shared_view();
    let figures = || *shared.snapshot().get(&key()).unwrap();
    let before = figures();
    assert_eq!(before.rotates_at, Some(first));
    assert!(!before.is_overdue(engine.now()));
    let live = before.live().filter(|(_, count)| *count > 0);
    let live: Vec<_> = live.collect();
    assert_eq!(live, [(Phase::Current, 1), (Phase::Retired, 1)]);
    assert!(!engine.has_pending_secrets());

    // While a worker has the key, its views show the sequence before the work.
    engine.request_rotation(&key(), rotation_request());
    engine.start_due();
    assert_eq!(fakes.place_of(engine.current_sequence(&key())), 2);
    assert!(engine.key_views().all(|view| view.state.is_none()));
    assert!(engine.has_pending_secrets());
    assert_eq!(figures(), before, "as before the work");
    engine.stop().await;
}

/// A command is answered while its worker still has the key.
#[tokio::test]
async fn readers_see_a_change_before_its_command_is_answered() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = rotated_engine(&fakes).await;
    let shared = engine.shared_view();
    let retired = || {
        let view = shared.snapshot();
        let mut live = view.get(&key()).unwrap().live();
        live.find(|(phase, _)| *phase == Phase::Retired).unwrap().1
    };
    assert_eq!(retired(), 1);
    let (reply, answer) = oneshot::channel();
    let command = PendingCommand {
        command: OperatorCommand::Revoke {
            credential: CredentialId::new("key_1"),
            force: true,
            name: None,
            authority: Authority::Full,
            operator: None,
        },
        started: Arc::default(),
        reply,
    };
    assert!(engine.submit_command(&key(), command));
    engine.start_due();
    // The engine takes no result meanwhile.
    answer.await.unwrap().unwrap();
    assert_eq!(retired(), 0);
    engine.stop().await;
}

/// A key becomes overdue for readers although nothing evaluates it: the engine may be stuck,
/// or its ledger full.
#[tokio::test]
async fn readers_see_when_a_planned_rotation_is_overdue() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let engine = rotated_engine(&fakes).await;
    let figures = *engine.shared_view().snapshot().get(&key()).unwrap();
    let due_at = figures.rotates_at.unwrap();
    // The key's jitter is none, and its delivery-deadline half an hour.
    let is_overdue = |wait| figures.is_overdue(time::after(due_at, wait));
    assert!(!is_overdue(HOUR / 2));
    assert!(is_overdue(HOUR / 2 + Duration::from_secs(1)));
}

#[tokio::test]
async fn reconciliation_time_and_clock_offset_are_shown() {
    let fakes = Fakes::new(&[]);
    fakes.set_provider_clock_ahead(Duration::from_secs(3));
    fakes.write_ledger(Vec::new()).await;
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    assert_eq!(
        (engine.reconciled_at(), engine.clock_offset()),
        (None, None)
    );
    fakes.run_for(&mut engine, Duration::ZERO).await;
    assert_eq!(engine.reconciled_at(), Some(at()));
    assert_eq!(engine.last_reconciliation(), Some(at()));
    assert_eq!(engine.clock_offset(), Some(3.0));
    drop(engine);
    let managed = fakes.managed_key(key(), |_| {});
    let engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    assert_eq!(engine.reconciled_at(), None, "a daemon reconciles at start");
    assert_eq!(
        engine.last_reconciliation(),
        Some(at()),
        "the last reconciliation is in the ledger"
    );
}

#[tokio::test]
async fn a_failing_key_is_unhealthy_until_it_recovers() {
    let fakes = Fakes::new(&[]);
    fakes.fail_deliveries(Some(Acceptance::NotAccepted));
    fakes.write_ledger(Vec::new()).await;
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, HOUR / 4).await;
    assert!(engine.unhealthy().contains(&key()));
    assert!(engine.has_pending_secrets(), "it is retried");
    assert!(!engine.has_deliverable_secrets(), "but not now");
    fakes.fail_deliveries(None);
    fakes.run_for(&mut engine, HOUR / 4).await;
    assert!(engine.unhealthy().is_empty());
}

#[tokio::test]
async fn draining_finishes_open_rotations_only() {
    let fakes = Fakes::new(&[]);
    fakes.fail_deliveries(Some(Acceptance::NotAccepted));
    fakes.write_ledger(Vec::new()).await;
    let hourly = fakes.key_with("@hourly", &[("a", true)]);
    let mut engine = fakes.open_engine(vec![hourly], RunMode::Daemon).await;
    fakes.run_for(&mut engine, Duration::ZERO).await;
    engine.request_rotation(&key(), rotation_request());
    engine.drain();
    assert!(!engine.has_pending_request(&key()));
    fakes.fail_deliveries(None);
    fakes.run_for(&mut engine, HOUR * 3).await;
    let state = engine.state(&key()).unwrap();
    assert_eq!(fakes.place_of(state.current().unwrap().sequence), 1);
}

#[tokio::test]
async fn a_rejected_configuration_is_recorded_in_the_ledger() {
    let conditions = "SELECT name || ': ' || reason FROM condition";
    let fakes = Fakes::new(&[]);
    let mut engine = fakes.engine(Vec::new(), HOUR).await;
    fakes.run_for(&mut engine, Duration::ZERO).await;
    engine
        .record_configuration_problem(Some("line 3".to_owned()))
        .await;
    assert_eq!(fakes.query_rows(conditions), ["configuration: line 3"]);
    engine.record_configuration_problem(None).await;
    assert_eq!(fakes.query_rows(conditions), [""; 0]);
}

#[tokio::test]
async fn failing_since_survives_a_restart() {
    let fakes = Fakes::new(&[]);
    fakes.fail_creates(Some((ErrorKind::Refused, Effect::NotApplied)));
    fakes.write_ledger(Vec::new()).await;
    let managed = || fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed()], RunMode::Daemon).await;
    fakes.run_for(&mut engine, HOUR * 12).await;
    assert!(engine.state(&key()).unwrap().attempt > 1);
    drop(engine);
    let engine = fakes.open_engine(vec![managed()], RunMode::Daemon).await;
    assert_eq!(engine.keys[&key()].failing_since, Some(at()));
}

#[tokio::test]
async fn success_clears_failing_since() {
    let fakes = Fakes::new(&[]);
    fakes.fail_creates(Some((ErrorKind::Refused, Effect::NotApplied)));
    fakes.write_ledger(Vec::new()).await;
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, HOUR * 12).await;
    assert_eq!(engine.keys[&key()].failing_since, Some(at()));
    fakes.fail_creates(None);
    fakes.run_for(&mut engine, HOUR * 36).await;
    assert!(engine.state(&key()).unwrap().current().is_some());
    assert_eq!(engine.keys[&key()].failing_since, None);
}

#[tokio::test]
async fn conditions_that_only_a_person_ends_block_an_engine_without_work() {
    for condition in Condition::ALL {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut engine = rotated_engine(&fakes).await;
        assert!(!engine.is_blocked());
        engine.services().conditions.raise(condition, "a problem");
        let is_expected = !matches!(
            condition,
            Condition::Provider
                | Condition::Reconciliation
                | Condition::CreateLimit
                | Condition::ReadLimit
                | Condition::DeleteLimit
        );
        assert_eq!(engine.is_blocked(), is_expected, "{condition:?}");
        engine.services().conditions.clear(condition);
        engine.request_rotation(&key(), rotation_request());
        engine.start_due();
        engine.services().conditions.raise(condition, "a problem");
        assert!(!engine.is_blocked(), "a worker may have a secret");
        engine.stop().await;
    }
}

/// A process that ends when nothing is due says what keeps it from that.
#[tokio::test]
async fn everything_that_an_ending_process_waits_for_is_named() {
    let waits = |engine: &Engine| {
        let waits = engine.awaited_by_all().into_iter();
        let waits = waits.map(|(key, text)| (key.map(KeyName::to_string), text));
        waits.collect::<Vec<_>>()
    };
    let fakes = Fakes::new(&[]);
    let managed = fakes.key_with("@hourly", &[("a", true)]);
    let mut engine = fakes.open_engine(vec![managed], RunMode::Once).await;
    engine.start_due();
    let [(None, list)] = <[_; 1]>::try_from(waits(&engine)).unwrap() else {
        panic!("the first list");
    };
    assert!(
        list.starts_with("waiting for the provider's list"),
        "{list}"
    );
    fakes.fail_deliveries(Some(Acceptance::NotAccepted));
    fakes.run_for(&mut engine, HOUR / 60).await;
    let [(Some(name), delivery)] = <[_; 1]>::try_from(waits(&engine)).unwrap() else {
        panic!("the open rotation");
    };
    assert_eq!(name, key().to_string());
    assert!(delivery.starts_with("waiting for "), "{delivery}");
    let conditions = &engine.services().conditions;
    conditions.raise(Condition::Provider, "the provider cannot be asked");
    let [(None, condition)] = <[_; 1]>::try_from(waits(&engine)).unwrap() else {
        panic!("the condition");
    };
    assert!(
        condition.contains("the provider cannot be asked"),
        "{condition}"
    );
    engine.services().conditions.clear(Condition::Provider);
    fakes.fail_deliveries(None);
    fakes.run_for(&mut engine, HOUR).await;
    assert_eq!(waits(&engine), []);
    assert!(engine.is_idle());
}
