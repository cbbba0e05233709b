//! Scheduled runs that could not start: due while a process ran, or missed and dropped.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::core::schedule::Schedule;
use crate::core::state::KeyState;
use crate::engine::tests::HOUR;
use crate::engine::tests::fake::{Fakes, key};
use crate::engine::tests::rotation_changes::current;
use crate::engine::tests::rotation_request;
use crate::engine::{Engine, RunMode};
use crate::provider::ErrorKind;

const MINUTE: Duration = Duration::from_secs(60);

/// Returns a daemon whose key is due at noon, and catches up for five minutes.
async fn start(fakes: &Fakes, mode: RunMode) -> Engine {
    let managed = fakes.managed_key(key(), |policy| {
        policy.timetable = Schedule::parse("0 12 * * *", TimeZone::UTC).unwrap().into();
        policy.overlap = HOUR;
        policy.catch_up_window = Some(MINUTE * 5);
    });
    let mut engine = fakes.open_engine(vec![managed], mode).await;
    fakes.run_for(&mut engine, MINUTE).await;
    engine
}

fn state(engine: &Engine) -> KeyState {
    engine.state(&key()).unwrap().clone()
}

#[tokio::test]
async fn a_run_that_fell_due_while_a_process_ran_is_not_dropped_by_the_next_start() {
    for is_provider_away in [true, false] {
        let set_blocked = |fakes: &Fakes, is_blocked: bool| {
            if is_provider_away {
                fakes.fail_provider(is_blocked.then_some(ErrorKind::ServerError));
            } else {
                fakes.refuse_preflight(is_blocked);
            }
        };
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        fakes.write_ledger(vec![(key(), current(1))]).await;
        let mut engine = start(&fakes, RunMode::Daemon).await;
        set_blocked(&fakes, true);
        fakes.run_for(&mut engine, HOUR * 10).await;
        assert_eq!(
            fakes.journal_details("run-due").len(),
            1,
            "{is_provider_away}"
        );
        for _ in 0..2 {
            engine.stop().await;
            drop(engine);
            fakes.advance_clock(HOUR);
            engine = start(&fakes, RunMode::Daemon).await;
        }
        assert_eq!(
            fakes.journal_details("run-due").len(),
            1,
            "{is_provider_away}"
        );
        set_blocked(&fakes, false);
        fakes.run_for(&mut engine, HOUR * 2).await;
        let missed = fakes.journal_details("run-missed");
        assert!(missed.is_empty(), "{is_provider_away}: {missed:?}");
        let triggers = fakes.query_rows("SELECT \"trigger\" FROM rotation ORDER BY sequence");
        assert_eq!(triggers[1..], ["schedule"], "{is_provider_away}");
        assert_eq!(state(&engine).due_run, None, "{is_provider_away}");
    }
}

/// Nothing is compared with the provider yet at a start, which blocks the run and makes it no
/// run that fell due while a process ran.
#[tokio::test]
async fn a_run_that_was_missed_is_caught_up_and_said() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    fakes.write_ledger(vec![(key(), current(1))]).await;
    let start = || async {
        let managed = fakes.managed_key(key(), |policy| {
            policy.timetable = Schedule::parse("0 12 * * *", TimeZone::UTC).unwrap().into();
            policy.overlap = HOUR;
        });
        let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
        fakes.run_for(&mut engine, MINUTE).await;
        engine
    };
    let mut engine = start().await;
    fakes.run_for(&mut engine, HOUR * 24).await;
    let before = fakes.query_rows("SELECT \"trigger\" FROM rotation").len();
    engine.stop().await;
    drop(engine);
    fakes.advance_clock(HOUR * 24);
    let engine = start().await;
    let triggers = fakes.query_rows("SELECT \"trigger\" FROM rotation ORDER BY sequence");
    assert_eq!(triggers[before..], ["catch-up"]);
    assert_eq!(fakes.journal_details("run-missed").len(), 1);
    assert_eq!(fakes.journal_details("run-due").len(), 0);
    assert_eq!(state(&engine).due_run, None);
}

fn is_overdue(engine: &Engine) -> bool {
    let view = engine.shared_view().snapshot();
    view.get(&key()).unwrap().is_overdue(engine.now())
}

#[tokio::test]
async fn a_second_dropped_run_makes_a_key_overdue_until_it_is_rotated() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    fakes.write_ledger(vec![(key(), current(1))]).await;
    let mut engine = start(&fakes, RunMode::Daemon).await;
    fakes.advance_clock(HOUR * 2);
    for dropped in 1..=3 {
        engine.stop().await;
        drop(engine);
        fakes.advance_clock(HOUR * 24);
        engine = start(&fakes, RunMode::Daemon).await;
        assert_eq!(state(&engine).dropped_runs, dropped);
        assert!(state(&engine).dropped_run.is_some());
        assert_eq!(is_overdue(&engine), dropped > 1, "{dropped}");
    }
    assert_eq!(fakes.live_ids(), ["key_1"]);
    engine.request_rotation(&key(), rotation_request());
    fakes.run_for(&mut engine, MINUTE).await;
    assert_eq!(
        (state(&engine).dropped_run, state(&engine).dropped_runs),
        (None, 0)
    );
    assert!(!is_overdue(&engine));
}
