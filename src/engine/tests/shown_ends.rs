//! Ends of credentials that only lists and retrieves show, and lives that are none.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::change::Change;
use crate::core::reported_time::ShownEnd;
use crate::core::scope::Scope;
use crate::core::state::{Rotation, Trigger};
use crate::core::time;
use crate::engine::tests::captured_log::CapturedLog;
use crate::engine::tests::fake::{Fakes, LyingAnswer, at, key};
use crate::engine::tests::rotation_changes::{current, rotation};
use crate::engine::tests::rotation_request;
use crate::engine::{Engine, RunMode};
use crate::provider::ErrorKind;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

async fn open_daemon(fakes: &Fakes, changes: Vec<Change>) -> Engine {
    fakes.write_ledger(vec![(key(), changes)]).await;
    let managed = fakes.managed_key(key(), |policy| policy.overlap = MINUTE);
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE).await;
    engine
}

async fn reconcile(fakes: &Fakes, engine: &mut Engine) {
    let now = fakes.now();
    engine.maintenance.reconcile_now(&Scope::AdminKeys, now);
    fakes.run_for(engine, Duration::from_secs(1)).await;
}

fn current_end(engine: &Engine) -> Option<Timestamp> {
    let state = engine.state(&key()).unwrap();
    state.current().and_then(Rotation::credential)?.expires_at
}

fn last_error(engine: &Engine) -> String {
    let state = engine.state(&key()).unwrap();
    state.last_error.clone().unwrap_or_default()
}

fn creates(calls: &[String]) -> usize {
    calls.iter().filter(|call| *call == "create").count()
}

/// An end that only lists show, and one that is set or moved later.
#[tokio::test]
async fn a_key_rotates_in_the_last_quarter_of_a_life_that_a_list_shows() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = open_daemon(&fakes, current(1)).await;
    let (log, _guard) = CapturedLog::capture();
    let later = time::after(at(), HOUR * 8);
    let nearer = time::after(at(), HOUR * 4);
    for end in [later, nearer] {
        fakes.set_end("key_1", end);
        reconcile(&fakes, &mut engine).await;
        assert_eq!(current_end(&engine), Some(end));
        reconcile(&fakes, &mut engine).await;
    }
    assert_eq!(
        log.lines_with("WARN", "the provider shows that key_1")
            .len(),
        2
    );
    assert!(
        !fakes.take_calls().contains(&"retrieve key_1".to_owned()),
        "at once"
    );
    assert_eq!(fakes.journal_details("credential-updated").len(), 2);
    fakes.show_life(HOUR * 10);
    fakes.run_for(&mut engine, HOUR * 4 - MINUTE * 5).await;
    let state = engine.state(&key()).unwrap();
    let current = state.current().unwrap();
    assert_eq!(current.trigger, Trigger::Repair);
    assert!(time::until(at(), current.started_at) >= HOUR * 3);
    assert_eq!(creates(&fakes.take_calls()), 1);
    // The end of its successor is known before its delivery.
    let credential = current.credential().unwrap();
    let created_at = credential.created_at.unwrap();
    let expected = time::after(time::whole_seconds(created_at), HOUR * 10);
    assert_eq!(credential.expires_at, Some(expected));
}

#[tokio::test]
async fn a_later_end_and_none_count_only_if_they_are_repeated() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = open_daemon(&fakes, current(1)).await;
    let recorded = time::after(at(), HOUR * 100);
    fakes.set_end("key_1", recorded);
    reconcile(&fakes, &mut engine).await;
    let later = time::after(at(), HOUR * 200);
    for shown in [ShownEnd::At(later), ShownEnd::Never] {
        let before = current_end(&engine);
        fakes.show_end("key_1", shown);
        fakes.fail_calls(Some(("retrieve", ErrorKind::ServerError)));
        reconcile(&fakes, &mut engine).await;
        assert_eq!(current_end(&engine), before, "{shown:?}");
        fakes.fail_calls(None);
        reconcile(&fakes, &mut engine).await;
        let expected = matches!(shown, ShownEnd::At(_)).then_some(later);
        assert_eq!(current_end(&engine), expected, "{shown:?}");
    }
    // An answer without the field, or with an end before the creation, shows nothing.
    fakes.set_end("key_1", recorded);
    reconcile(&fakes, &mut engine).await;
    for shown in [ShownEnd::Unknown, ShownEnd::At(time::before(at(), HOUR))] {
        fakes.show_end("key_1", shown);
        reconcile(&fakes, &mut engine).await;
        assert_eq!(current_end(&engine), Some(recorded), "{shown:?}");
    }
    assert_eq!(fakes.live_ids(), ["key_1"]);
}

/// A provider that ends each credential soon after its creation, and says so at once.
#[tokio::test]
async fn a_short_life_that_is_repeated_is_not_delivered() {
    for seconds in [1, 20, 60, 300] {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut engine = open_daemon(&fakes, current(1)).await;
        let life = Duration::from_secs(seconds);
        fakes.lie_in_creates(LyingAnswer {
            expires_at: Some(time::after(fakes.now(), life)),
            ..LyingAnswer::default()
        });
        fakes.show_life(life);
        fakes.show_end("key_1", ShownEnd::Never);
        engine.request_rotation(&key(), rotation_request());
        fakes.run_for(&mut engine, Duration::from_secs(10)).await;
        let calls = fakes.take_calls();
        assert!(
            !calls.contains(&"deliver".to_owned()),
            "{seconds}: {calls:?}"
        );
        assert_eq!(creates(&calls), 1, "{seconds}: {calls:?}");
        assert_eq!(fakes.live_ids(), ["key_1"], "{seconds}");
        assert_eq!(fakes.phase_of(&rotation(1)), "current");
        let problem = last_error(&engine);
        let text = format!(", {seconds} s after its creation");
        assert!(problem.contains(&text), "{problem}");
        assert!(
            problem.contains("the provider ends it at 2026-"),
            "{problem}"
        );
    }
}

/// A provider whose lists alone show that it ends each credential soon.
#[tokio::test]
async fn a_short_life_that_lists_show_does_not_loop() {
    let fakes = Fakes::new(&[]);
    fakes.show_life(Duration::from_secs(20));
    let managed = fakes.managed_key(key(), |policy| policy.overlap = MINUTE);
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, Duration::from_secs(5)).await;
    assert_eq!(creates(&fakes.take_calls()), 1);
    assert_eq!(current_end(&engine), None);
    reconcile(&fakes, &mut engine).await;
    assert!(current_end(&engine).is_some());
    assert!(
        last_error(&engine).contains("20 s after its creation"),
        "{}",
        last_error(&engine)
    );
    fakes.run_for(&mut engine, HOUR).await;
    let calls = fakes.take_calls();
    assert!((1..=12).contains(&creates(&calls)), "{}", creates(&calls));
    assert!(!calls.contains(&"deliver".to_owned()), "{calls:?}");
    assert!(
        last_error(&engine).contains("20 s after its creation"),
        "{}",
        last_error(&engine)
    );
    assert_eq!(fakes.live_ids().len(), 1, "what cannot be used is revoked");
}
