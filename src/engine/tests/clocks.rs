//! What fired while the host slept, and who sees it.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::core::schedule::Schedule;
use crate::engine::Course;
use crate::engine::tests::HOUR;
use crate::engine::tests::fake::{Fakes, key};

/// How a key came to rotate that is due at noon. The host goes to sleep at
/// three in the morning, while somebody is at work on the first rotation, and
/// awakes in the afternoon.
async fn slept_at_work(window: Option<Duration>) -> (Vec<String>, Vec<String>) {
    let fakes = Fakes::new(&[]);
    fakes.ledger(Vec::new()).await;
    let managed = fakes.managed(key(), |policy| {
        policy.timetable = Schedule::parse("0 12 * * *", TimeZone::UTC).unwrap().into();
        policy.overlap = HOUR;
        policy.window = window;
    });
    let mut engine = fakes.open(vec![managed], Course::Once).await;
    fakes.sleep_at("deliver", HOUR * 12);
    fakes.run(&mut engine, HOUR).await;
    let triggers = fakes.rows("SELECT \"trigger\" FROM rotation ORDER BY sequence");
    (triggers, fakes.told("firing-missed"))
}

#[tokio::test]
async fn a_firing_is_missed_for_whoever_slept_at_work_too() {
    let (triggers, missed) = slept_at_work(None).await;
    assert_eq!(triggers, ["first", "catch-up"]);
    assert_eq!(missed.len(), 1);
    assert!(missed[0].contains("slept"), "{missed:?}");
}

#[tokio::test]
async fn a_window_holds_for_whoever_slept_at_work_too() {
    let (triggers, missed) = slept_at_work(Some(HOUR)).await;
    assert_eq!(triggers, ["first"]);
    assert_eq!(missed.len(), 1);
    assert!(missed[0].contains("dropped"), "{missed:?}");
}
