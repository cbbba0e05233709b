//! What those who watch an engine see of it.

use std::time::Duration;

use crate::core::names::KeyName;
use crate::engine::tests::fake::{Fakes, at, key};
use crate::engine::tests::rows::current;
use crate::engine::tests::{HOUR, wish};
use crate::engine::{Course, Engine};
use crate::provider::{Cause, Outcome};
use crate::sink::Taken;

/// A daemon that has rotated its one key a second time.
async fn rotated(fakes: &Fakes) -> Engine {
    fakes.ledger(vec![(key(), current(1))]).await;
    let managed = fakes.managed(key(), |policy| policy.deliver_for = HOUR / 2);
    let mut engine = fakes.open(vec![managed], Course::Daemon).await;
    engine.wish(&key(), wish());
    fakes.run(&mut engine, HOUR / 4).await;
    engine
}

#[tokio::test]
async fn how_a_key_stands() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = rotated(&fakes).await;
    let other = KeyName::new("other").unwrap();
    assert_eq!(engine.current_sequence(&key()), 2);
    assert_eq!(engine.current_sequence(&other), 0);
    assert_eq!(engine.deliver_for(&key()), Some(HOUR / 2));
    assert_eq!(engine.deliver_for(&other), None);
    assert_eq!(engine.configured(), [key()]);
    assert!(engine.troubled().is_empty());
    let first = "2026-12-01T00:00:00Z".parse().unwrap();
    assert_eq!(engine.next_rotation(), Some((&key(), first)));
    let [view] = engine.views().collect::<Vec<_>>().try_into().ok().unwrap();
    assert_eq!((view.key, view.rotates_at), (&key(), Some(first)));
    assert_eq!(view.overdue, Some(false));
    assert!(!engine.holds_secrets());

    // While it is worked on, what stood before is told of it.
    engine.wish(&key(), wish());
    engine.start_due();
    assert_eq!(engine.current_sequence(&key()), 2);
    assert!(engine.views().all(|view| view.state.is_none()));
    assert!(engine.holds_secrets());
}

#[tokio::test]
async fn what_the_provider_has_said() {
    let fakes = Fakes::new(&[]);
    fakes.put_ahead(Duration::from_secs(3));
    fakes.ledger(Vec::new()).await;
    let managed = fakes.managed(key(), |_| {});
    let mut engine = fakes.open(vec![managed], Course::Daemon).await;
    assert_eq!((engine.compared_at(), engine.clock_offset()), (None, None));
    fakes.run(&mut engine, Duration::ZERO).await;
    assert_eq!(engine.compared_at(), Some(at()));
    assert_eq!(engine.last_sweep(), Some(at()));
    assert_eq!(engine.clock_offset(), Some(3.0));
    drop(engine);
    let managed = fakes.managed(key(), |_| {});
    let engine = fakes.open(vec![managed], Course::Daemon).await;
    assert_eq!(engine.compared_at(), None, "it asks by itself");
    assert_eq!(
        engine.last_sweep(),
        Some(at()),
        "and knows of the last time"
    );
}

#[tokio::test]
async fn a_key_with_trouble_is_seen_until_that_is_over() {
    let fakes = Fakes::new(&[]);
    fakes.fail_deliveries(Some(Taken::No));
    fakes.ledger(Vec::new()).await;
    let managed = fakes.managed(key(), |_| {});
    let mut engine = fakes.open(vec![managed], Course::Daemon).await;
    fakes.run(&mut engine, HOUR / 4).await;
    assert!(engine.troubled().contains(&key()));
    assert!(engine.holds_secrets(), "it is tried again");
    fakes.fail_deliveries(None);
    fakes.run(&mut engine, HOUR / 4).await;
    assert!(engine.troubled().is_empty());
}

#[tokio::test]
async fn whoever_is_to_begin_nothing_finishes_what_is_open() {
    let fakes = Fakes::new(&[]);
    fakes.fail_deliveries(Some(Taken::No));
    fakes.ledger(Vec::new()).await;
    let hourly = fakes.key_with("@hourly", &[("a", true)]);
    let mut engine = fakes.open(vec![hourly], Course::Daemon).await;
    fakes.run(&mut engine, Duration::ZERO).await;
    engine.wish(&key(), wish());
    engine.begin_nothing();
    assert!(!engine.is_wished(&key()));
    fakes.fail_deliveries(None);
    fakes.run(&mut engine, HOUR * 3).await;
    let state = engine.state(&key()).unwrap();
    assert_eq!(state.current().unwrap().sequence, 1);
}

#[tokio::test]
async fn a_configuration_that_cannot_be_taken_is_in_the_ledger() {
    let conditions = "SELECT condition || ': ' || problem FROM condition";
    let fakes = Fakes::new(&[]);
    let mut engine = fakes.engine(Vec::new(), HOUR).await;
    fakes.run(&mut engine, Duration::ZERO).await;
    engine.note_configuration(Some("line 3".to_owned()));
    engine.stop().await;
    assert_eq!(fakes.rows(conditions), ["configuration: line 3"]);
    engine.note_configuration(None);
    engine.stop().await;
    assert_eq!(fakes.rows(conditions), [""; 0]);
}

#[tokio::test]
async fn since_when_a_key_fails_is_known_to_the_next_process() {
    let fakes = Fakes::new(&[]);
    fakes.fail_creates(Some((Cause::Refused, Outcome::NotDone)));
    fakes.ledger(Vec::new()).await;
    let managed = || fakes.managed(key(), |_| {});
    let mut engine = fakes.open(vec![managed()], Course::Daemon).await;
    fakes.run(&mut engine, HOUR * 12).await;
    assert!(engine.state(&key()).unwrap().attempt > 1);
    drop(engine);
    let engine = fakes.open(vec![managed()], Course::Daemon).await;
    assert_eq!(engine.keys[&key()].failing_since, Some(at()));
}

#[tokio::test]
async fn a_key_that_works_again_fails_since_no_time() {
    let fakes = Fakes::new(&[]);
    fakes.fail_creates(Some((Cause::Refused, Outcome::NotDone)));
    fakes.ledger(Vec::new()).await;
    let managed = fakes.managed(key(), |_| {});
    let mut engine = fakes.open(vec![managed], Course::Daemon).await;
    fakes.run(&mut engine, HOUR * 12).await;
    assert_eq!(engine.keys[&key()].failing_since, Some(at()));
    fakes.fail_creates(None);
    fakes.run(&mut engine, HOUR * 36).await;
    assert!(engine.state(&key()).unwrap().current().is_some());
    assert_eq!(engine.keys[&key()].failing_since, None);
}
