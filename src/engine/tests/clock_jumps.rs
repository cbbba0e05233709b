//! Runs that were missed while the host slept during a delivery.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::core::schedule::Schedule;
use crate::engine::RunMode;
use crate::engine::tests::HOUR;
use crate::engine::tests::fake::{Fakes, key};

/// Returns the triggers of the rotations of a key that is due at noon, and its missed
/// runs. The host sleeps from three in the morning, during the first delivery, until
/// the afternoon.
async fn suspend_during_delivery(window: Option<Duration>) -> (Vec<String>, Vec<String>) {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(Vec::new()).await;
    let managed = fakes.managed_key(key(), |policy| {
        policy.timetable = Schedule::parse("0 12 * * *", TimeZone::UTC).unwrap().into();
        policy.overlap = HOUR;
        policy.catch_up_window = window;
    });
    let mut engine = fakes.open_engine(vec![managed], RunMode::Once).await;
    fakes.suspend_at("deliver", HOUR * 12);
    fakes.run_for(&mut engine, HOUR).await;
    let triggers = fakes.query_rows("SELECT \"trigger\" FROM rotation ORDER BY sequence");
    (triggers, fakes.journal_details("run-missed"))
}

#[tokio::test]
async fn a_run_missed_during_a_suspended_delivery_is_caught_up() {
    let (triggers, missed) = suspend_during_delivery(None).await;
    assert_eq!(triggers, ["first", "catch-up"]);
    assert_eq!(missed.len(), 1);
    assert!(missed[0].contains("slept"), "{missed:?}");
}

#[tokio::test]
async fn the_catch_up_window_applies_after_a_suspended_delivery() {
    let (triggers, missed) = suspend_during_delivery(Some(HOUR)).await;
    assert_eq!(triggers, ["first"]);
    assert_eq!(missed.len(), 1);
    assert!(missed[0].contains("dropped"), "{missed:?}");
}
