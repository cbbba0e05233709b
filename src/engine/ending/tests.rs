//! What is left behind by a process that ends.

use super::*;
use crate::core::rotation::Event;
use crate::engine::tests::fake::{Fakes, key};
use crate::engine::tests::rows::{created, current, moved, rotation};
use crate::engine::{Course, Wish};

const HOUR: Duration = Duration::from_secs(3_600);

fn orphaned() -> Vec<Change> {
    let mut changes = created(1);
    changes.push(moved(1, Event::GivenUp));
    changes
}

#[tokio::test]
async fn after_a_stop_nothing_is_at_work_and_nothing_begins() {
    let fakes = Fakes::new(&[]);
    let mut engine = fakes.engine(Vec::new(), HOUR).await;
    engine.start_due();
    assert!(engine.at_work() > 0);
    engine.stop().await;
    assert_eq!(engine.at_work(), 0);
    engine.start_due();
    assert_eq!(engine.at_work(), 0);
}

#[tokio::test]
async fn an_orphan_goes_at_the_end_and_no_other_does() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(orphaned(), HOUR).await;
    engine.stop().await;
    engine.revoke_orphans(HOUR).await;
    assert!(fakes.alive().is_empty());
    let begun = fakes.take_calls();
    assert!(!begun.contains(&"create".to_owned()), "{begun:?}");
    // Where there is none, nothing is done.
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), HOUR).await;
    engine.wish(
        &key(),
        Wish {
            by_hand: None,
            revoke_previous: false,
        },
    );
    engine.stop().await;
    engine.revoke_orphans(HOUR).await;
    assert_eq!(fakes.take_calls(), [""; 0]);
    assert_eq!(fakes.alive(), ["key_1"]);
}

#[tokio::test]
async fn what_is_open_is_given_up_and_waits() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    fakes.ledger(vec![(key(), created(1))]).await;
    let managed = fakes.managed(key(), |_| {});
    let mut engine = fakes.open(vec![managed], Course::Once).await;
    engine.give_up_open("the time is over", HOUR).await.unwrap();
    assert_eq!(fakes.phase_of(&rotation(1)), Phase::Orphaned.as_str());
    let state = engine.state(&key()).unwrap();
    assert_eq!(state.attempt, 1);
    assert_eq!(state.retry_at, Some(time::after(fakes.now(), HOUR)));
    assert_eq!(state.problem.as_deref(), Some("the time is over"));
}
