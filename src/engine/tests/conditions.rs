//! Conditions of the daemon: logged once, checked by one probe, and ended for all keys at
//! once.

use std::time::Duration;

use crate::core::change::{Change, PauseUpdate, Transition};
use crate::core::condition::Condition;
use crate::core::ids::KeyName;
use crate::core::lifecycle::{LifecycleEvent, Phase};
use crate::core::scope::Scope;
use crate::core::state::Pause;
use crate::engine::tests::captured_log::CapturedLog;
use crate::engine::tests::fake::{Fakes, at, key};
use crate::engine::tests::rotation_changes::{adopted, current, rotation};
use crate::engine::{Engine, RotationRequest, RunMode};
use crate::provider::{Effect, ErrorKind};

const HOUR: Duration = Duration::from_secs(3_600);

fn active_conditions(engine: &Engine) -> Vec<Condition> {
    let problems = engine.active_conditions().into_iter();
    problems.map(|active| active.condition).collect()
}

/// No rotation starts before the ledger was compared with the provider. If that failed at
/// the start, it is repeated as soon as the provider responds again.
#[tokio::test]
async fn a_daemon_started_in_an_outage_rotates_once_it_ends() {
    let fakes = Fakes::new(&[]);
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.fail_provider(Some(ErrorKind::Unreachable));
    fakes.run_for(&mut engine, Duration::from_secs(10)).await;
    assert_eq!(active_conditions(&engine), [Condition::Provider]);
    assert!(fakes.live_ids().is_empty());
    fakes.fail_provider(None);
    // The pause between two probes is 15 seconds by now.
    fakes.run_for(&mut engine, Duration::from_secs(20)).await;
    assert_eq!(active_conditions(&engine), []);
    assert_eq!(fakes.live_ids().len(), 1);
}

/// The key's consumers have no working credential, so a failed repair must not leave the
/// key paused.
#[tokio::test]
async fn a_repair_that_ignores_a_pause_is_retried_until_it_succeeds() {
    for kind in [ErrorKind::Unreachable, ErrorKind::RateLimited] {
        let mut changes = current(1);
        changes.push(Change::from(Transition::new(
            &rotation(1),
            LifecycleEvent::FoundDeleted,
        )));
        changes.push(Change::from(PauseUpdate {
            pause: Pause {
                from: at(),
                until: None,
            },
            operator: None,
        }));
        let fakes = Fakes::new(&[]);
        fakes.write_ledger(vec![(key(), changes)]).await;
        let managed = fakes.managed_key(key(), |_| {});
        let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
        fakes.fail_creates(Some((kind, Effect::NotApplied)));
        fakes.run_for(&mut engine, Duration::from_secs(5)).await;
        let state = engine.state(&key()).unwrap();
        assert_eq!(state.newest_phase, Some(Phase::Failed), "{kind:?}");
        fakes.fail_creates(None);
        fakes.run_for(&mut engine, HOUR).await;
        assert!(engine.state(&key()).unwrap().current().is_some());
    }
}

#[tokio::test]
async fn an_outage_with_ten_thousand_due_keys_logs_two_lines_and_runs_one_probe() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(Vec::new()).await;
    let keys = (0..10_000).map(|number| {
        let name = KeyName::new(&format!("key-{number}")).unwrap();
        fakes.managed_key(name, |_| {})
    });
    let mut engine = fakes.open_engine(keys.collect(), RunMode::Once).await;
    fakes.fail_provider(Some(ErrorKind::Unreachable));
    let (lines, _guard) = CapturedLog::capture();
    fakes.run_for(&mut engine, Duration::ZERO).await;
    assert_eq!(active_conditions(&engine), [Condition::Provider]);
    assert_eq!(lines.lines_with("WARN", "").len(), 1);
    let mut calls = fakes.take_calls();
    calls.retain(|call| call != "preflight");
    assert_eq!(calls, ["check"]);

    // Within a minute, probes run after 1, 3, 8, 23 and 53 seconds, and nothing else
    // sends requests.
    fakes.run_for(&mut engine, Duration::from_secs(60)).await;
    assert_eq!(fakes.take_calls(), ["check"; 5]);
    assert_eq!(
        lines
            .lines_with("ERROR", "no rotation could start for")
            .len(),
        1
    );
    assert_eq!(lines.lines_with("", "").len(), 2);
    for number in [0, 9_999] {
        let name = KeyName::new(&format!("key-{number}")).unwrap();
        let state = engine.state(&name).unwrap();
        assert_eq!((state.attempt, &state.last_error), (0, &None));
    }

    fakes.fail_provider(None);
    fakes
        .run_until(&mut engine, || fakes.live_ids().len() == 20)
        .await;
    assert_eq!(active_conditions(&engine), []);
    let calls = fakes.take_calls();
    let calls = calls.iter().filter(|call| *call == "list");
    assert!(calls.count() <= 1, "one list for all keys without rows");
}

#[tokio::test]
async fn a_refused_credential_is_probed_for_slowly_and_recovers() {
    let fakes = Fakes::new(&[]);
    let mut engine = fakes.engine(Vec::new(), HOUR).await;
    fakes.fail_provider(Some(ErrorKind::CredentialRefused));
    let (lines, _guard) = CapturedLog::capture();
    fakes.run_for(&mut engine, HOUR).await;
    assert_eq!(active_conditions(&engine), [Condition::Credential]);
    assert_eq!(
        lines.lines_with("ERROR", "store a valid admin key").len(),
        1
    );
    assert!(fakes.take_calls().len() < 20);
    assert_eq!(engine.state(&key()).unwrap().attempt, 0);
    fakes.fail_provider(None);
    fakes.run_for(&mut engine, HOUR / 10).await;
    assert!(engine.state(&key()).unwrap().current().is_some());
    assert_eq!(
        lines
            .lines_with("INFO", "accepts rekeyd's admin key again")
            .len(),
        1
    );
}

#[tokio::test]
async fn clock_disagreement_blocks_rotations_and_revocations() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), HOUR).await;
    engine.request_rotation(
        &key(),
        RotationRequest {
            operator: None,
            revoke_previous: false,
            replacement: crate::engine::ReplaceApproval::Refused,
        },
    );
    fakes.run_for(&mut engine, HOUR / 2).await;
    assert_eq!(fakes.live_ids().len(), 2, "the first is in its overlap");
    fakes.set_provider_clock_ahead(Duration::from_secs(301));
    let (lines, _guard) = CapturedLog::capture();
    fakes.run_for(&mut engine, HOUR).await;
    assert_eq!(active_conditions(&engine), [Condition::Clock]);
    assert_eq!(lines.lines_with("ERROR", "set the clock").len(), 1);
    assert_eq!(fakes.live_ids().len(), 2);
    fakes.set_provider_clock_ahead(Duration::from_secs(299));
    fakes.run_for(&mut engine, HOUR / 2).await;
    assert_eq!(active_conditions(&engine), []);
    assert_eq!(fakes.live_ids().len(), 1);
}

/// Returns a key with a current credential that the provider does not have.
fn missing_credential(number: u64) -> (KeyName, Vec<Change>) {
    let adopted = adopted(number, Scope::AdminKeys);
    let name = KeyName::new(&format!("key-{number}")).unwrap();
    (name, vec![adopted])
}

#[tokio::test]
async fn a_majority_of_missing_credentials_raises_the_organization_condition() {
    let fakes = Fakes::new(&[("key_3", "by hand")]);
    let keys: Vec<_> = (1..=3).map(missing_credential).collect();
    let managed = keys
        .iter()
        .map(|(name, _)| fakes.managed_key(name.clone(), |_| {}));
    let managed = managed.collect();
    fakes.write_ledger(keys).await;
    let (lines, _guard) = CapturedLog::capture();
    let mut engine = fakes.open_engine(managed, RunMode::Daemon).await;
    fakes.run_for(&mut engine, HOUR * 24).await;
    assert_eq!(active_conditions(&engine), [Condition::Organization]);
    assert_eq!(lines.lines_with("ERROR", "rotate --all").len(), 1);
    assert_eq!(fakes.live_ids(), ["key_3"], "nothing is created");

    engine.request_all(&RotationRequest {
        operator: None,
        revoke_previous: false,
        replacement: crate::engine::ReplaceApproval::Refused,
    });
    fakes.run_for(&mut engine, HOUR * 24 * 2).await;
    assert_eq!(active_conditions(&engine), []);
    assert_eq!(
        lines.lines_with("ERROR", "rotate --all").len(),
        1,
        "not logged again"
    );
    assert_eq!(fakes.live_ids().len(), 3);
    assert!(!fakes.live_ids().contains(&"key_3".to_owned()));
}

#[tokio::test]
async fn reload_probes_active_conditions_immediately() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), HOUR).await;
    fakes.fail_provider(Some(ErrorKind::CredentialRefused));
    engine
        .maintenance
        .reconcile_now(&Scope::AdminKeys, fakes.now());
    fakes.run_for(&mut engine, HOUR).await;
    assert_eq!(active_conditions(&engine), [Condition::Credential]);
    fakes.fail_provider(None);
    fakes.run_for(&mut engine, Duration::ZERO).await;
    assert_eq!(
        active_conditions(&engine),
        [Condition::Credential],
        "the next probe is five minutes later"
    );
    let services = engine.services().clone();
    engine.reconfigure(services, vec![fakes.managed_key(key(), |_| {})]);
    fakes.run_for(&mut engine, Duration::ZERO).await;
    assert_eq!(active_conditions(&engine), []);
}

/// While the keys are read one after another, a majority of those read so far proves
/// nothing.
#[tokio::test]
async fn missing_credentials_that_come_first_raise_no_condition_at_start() {
    let fakes = Fakes::new(&[
        ("key_3", "by hand"),
        ("key_4", "by hand"),
        ("key_5", "by hand"),
    ]);
    let keys: Vec<_> = (1..=5).map(missing_credential).collect();
    let managed = || {
        let names = keys.iter().map(|(name, _)| name.clone());
        names.map(|name| fakes.managed_key(name, |_| {})).collect()
    };
    fakes.write_ledger(keys.clone()).await;
    fakes.execute_sql(
        "UPDATE rotation SET missing_since = started_at, missing_checks = 1
         WHERE key IN ('key-1', 'key-2')",
    );
    let (lines, _guard) = CapturedLog::capture();
    let mut engine = fakes.open_engine(managed(), RunMode::Daemon).await;
    fakes.run_for(&mut engine, HOUR * 24).await;
    assert_eq!(lines.lines_with("ERROR", "rotate --all"), [""; 0]);
    assert_eq!(fakes.live_ids().len(), 5);
}

/// Returns the one active condition, with its scope.
fn only_condition(engine: &Engine) -> (Condition, Option<Scope>) {
    let active = engine.active_conditions();
    assert_eq!(active.len(), 1, "{active:?}");
    (active[0].condition, active[0].scope.clone())
}

/// Every error that a list can have, while every other request succeeds.
const LIST_ERRORS: [ErrorKind; 6] = [
    ErrorKind::NotFound,
    ErrorKind::Refused,
    ErrorKind::RateLimited,
    ErrorKind::QuotaExhausted,
    ErrorKind::ServerError,
    ErrorKind::BadAnswer,
];

#[tokio::test]
async fn a_list_that_fails_at_the_start_is_a_condition_until_one_succeeds() {
    for kind in LIST_ERRORS {
        let fakes = Fakes::new(&[]);
        let managed = fakes.managed_key(key(), |_| {});
        let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
        fakes.fail_calls(Some(("list", kind)));
        let (lines, _guard) = CapturedLog::capture();
        fakes.run_for(&mut engine, HOUR).await;
        let expected = (Condition::Reconciliation, Some(Scope::AdminKeys));
        assert_eq!(only_condition(&engine), expected, "{kind:?}");
        let logged = lines.lines_with("", "no rotation can start");
        assert_eq!(logged.len(), 1, "{kind:?}");
        let recorded = fakes.query_rows("SELECT reason FROM condition");
        assert!(recorded[0].contains(&format!("{kind:?}")), "{recorded:?}");
        assert!(fakes.live_ids().is_empty());
        fakes.fail_calls(None);
        fakes
            .run_for(&mut engine, Duration::from_secs(300 + 10))
            .await;
        assert_eq!(active_conditions(&engine), []);
        assert_eq!(fakes.query_rows("SELECT name FROM condition"), [""; 0]);
        assert_eq!(fakes.live_ids().len(), 1, "{kind:?}");
    }
}

/// Other keys continue to rotate, since the ledger was compared with an earlier list.
#[tokio::test]
async fn a_later_list_that_fails_concerns_only_keys_without_rows() {
    for kind in LIST_ERRORS {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut engine = fakes.engine(current(1), HOUR).await;
        engine
            .maintenance
            .reconcile_now(&Scope::AdminKeys, fakes.now());
        fakes.run_for(&mut engine, HOUR).await;
        fakes.fail_calls(Some(("list", kind)));
        let new = KeyName::new("new").unwrap();
        let keys = vec![
            fakes.managed_key(key(), |_| {}),
            fakes.managed_key(new.clone(), |_| {}),
        ];
        engine.reconfigure(engine.services().clone(), keys);
        fakes.run_for(&mut engine, HOUR).await;
        assert_eq!(active_conditions(&engine), [], "{kind:?}");
        let problem = engine.state(&new).unwrap().last_error.clone();
        let problem = problem.expect("it says why it does not start");
        assert!(problem.contains(&format!("{kind:?}")), "{problem}");
        fakes.fail_calls(None);
        fakes.run_for(&mut engine, HOUR * 3).await;
        let state = engine.state(&new).unwrap();
        assert!(state.current().is_some() && state.last_error.is_none());
    }
}

/// Returns the seconds after the start at which the provider got a request.
async fn request_times(fakes: &Fakes, engine: &mut Engine, seconds: u64) -> Vec<u64> {
    let mut times = Vec::new();
    for second in 0..seconds {
        fakes.run_for(engine, Duration::from_secs(1)).await;
        let mut calls = fakes.take_calls();
        calls.retain(|call| call != "preflight");
        // Those at the full second after it are among them.
        times.extend(calls.iter().map(|_| second + 1));
    }
    times
}

/// Whatever the request and its error, the provider gets no other before its pause is
/// over.
#[tokio::test]
async fn a_pause_that_the_provider_asks_for_is_kept() {
    let pause = Duration::from_secs(100);
    for kind in [
        ErrorKind::RateLimited,
        ErrorKind::ServerError,
        ErrorKind::BadAnswer,
        ErrorKind::NoAnswer,
    ] {
        for mode in [RunMode::Daemon, RunMode::Once] {
            let fakes = Fakes::new(&[]);
            if mode == RunMode::Once {
                // Its first request is no list.
                fakes.write_ledger(Vec::new()).await;
                fakes.advance_clock(HOUR);
            }
            let managed = fakes.managed_key(key(), |_| {});
            let mut engine = fakes.open_engine(vec![managed], mode).await;
            fakes.fail_provider(Some(kind));
            fakes.request_pause(Some(pause));
            let times = request_times(&fakes, &mut engine, 250).await;
            assert_eq!(times.len(), 3, "{kind:?} {mode:?}: {times:?}");
            for (number, time) in times.iter().enumerate() {
                let due = pause.as_secs() * u64::try_from(number).unwrap();
                assert!(
                    (due..=due + 5).contains(time),
                    "{kind:?} {mode:?}: {times:?}"
                );
            }
            assert!(!active_conditions(&engine).is_empty());
        }
    }
}

#[tokio::test]
async fn a_create_that_asks_for_a_pause_is_not_diagnosed() {
    for effect in [Effect::NotApplied, Effect::Unknown] {
        let fakes = Fakes::new(&[]);
        let mut engine = fakes.engine(Vec::new(), HOUR).await;
        fakes.fail_creates(Some((ErrorKind::RateLimited, effect)));
        fakes.request_pause(Some(Duration::from_secs(100)));
        fakes.run_for(&mut engine, Duration::from_secs(99)).await;
        let mut calls = fakes.take_calls();
        calls.retain(|call| !["preflight", "check"].contains(&call.as_str()));
        assert_eq!(calls, ["list", "create"], "{effect:?}");
        fakes.fail_creates(None);
        fakes.run_for(&mut engine, HOUR).await;
        assert!(engine.state(&key()).unwrap().current().is_some());
        assert_eq!(fakes.live_ids().len(), 1, "{effect:?}");
    }
}

#[tokio::test]
async fn a_pause_that_a_receiver_asks_for_is_kept() {
    use crate::sink::Acceptance;
    for acceptance in [
        Acceptance::NotAccepted,
        Acceptance::Rejected,
        Acceptance::Uncertain,
    ] {
        let fakes = Fakes::new(&[]);
        let mut engine = fakes.engine(Vec::new(), HOUR).await;
        fakes.fail_deliveries(Some(acceptance));
        fakes.request_pause(Some(Duration::from_secs(120)));
        fakes.run_for(&mut engine, Duration::from_secs(119)).await;
        let attempts = "SELECT CAST(attempts AS TEXT) FROM deliveries";
        assert_eq!(fakes.query_rows(attempts), ["1"], "{acceptance:?}");
        fakes.fail_deliveries(None);
        fakes.run_for(&mut engine, Duration::from_secs(5)).await;
        assert!(engine.state(&key()).unwrap().current().is_some());
    }
}
