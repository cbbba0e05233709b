//! When a key that failed is tried again: by its back-off, after a repair, and beside an
//! operator's request.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::time;
use crate::engine::tests::fake::{Fakes, at, key};
use crate::engine::tests::rotation_changes::{current, intended};
use crate::engine::tests::rotation_request;
use crate::engine::{Engine, PendingRotation, RunMode};
use crate::provider::{Effect, ErrorKind};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Returns an engine whose key waits for its third retry, an hour and more after its
/// preflight began to fail.
async fn engine_with_failing_preflight(fakes: &Fakes, mode: RunMode) -> Engine {
    fakes.refuse_preflight(true);
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], mode).await;
    fakes.run_for(&mut engine, HOUR / 2).await;
    assert!(engine.state(&key()).unwrap().retry_at > Some(time::after(fakes.now(), MINUTE)));
    engine
}

fn backoff(engine: &Engine) -> (u32, Option<Timestamp>) {
    let state = engine.state(&key()).unwrap();
    (state.attempt, state.retry_at)
}

fn reload(fakes: &Fakes, engine: &mut Engine) {
    let services = engine.services().clone();
    engine.reconfigure(services, vec![fakes.managed_key(key(), |_| {})]);
}

#[tokio::test]
async fn a_reload_tries_a_failed_preflight_at_once_and_once() {
    let fakes = Fakes::new(&[]);
    let mut engine = engine_with_failing_preflight(&fakes, RunMode::Daemon).await;
    let before = backoff(&engine);
    fakes.take_calls();
    reload(&fakes, &mut engine);
    fakes.run_for(&mut engine, MINUTE).await;
    assert_eq!(fakes.take_calls(), ["preflight"], "once");
    assert_eq!(backoff(&engine), before, "the back-off is as it was");
    fakes.refuse_preflight(false);
    reload(&fakes, &mut engine);
    fakes.run_for(&mut engine, Duration::ZERO).await;
    let state = engine.state(&key()).unwrap();
    assert!(state.current().is_some() && state.last_error.is_none());
}

/// How the process before ended, and whether the next one tries at once.
#[tokio::test]
async fn a_start_after_an_orderly_stop_tries_a_failed_preflight_at_once() {
    for (first, is_orderly, second, is_tried) in [
        (RunMode::Daemon, true, RunMode::Daemon, true),
        (RunMode::Daemon, false, RunMode::Daemon, false),
        (RunMode::Daemon, true, RunMode::Once, false),
        (RunMode::Once, true, RunMode::Daemon, false),
        (RunMode::Once, true, RunMode::Once, false),
    ] {
        let fakes = Fakes::new(&[]);
        let mut engine = engine_with_failing_preflight(&fakes, first).await;
        engine.stop().await;
        if is_orderly {
            engine.record_end().await;
        }
        drop(engine);
        fakes.refuse_preflight(false);
        let managed = fakes.managed_key(key(), |_| {});
        let mut engine = fakes.open_engine(vec![managed], second).await;
        fakes.run_for(&mut engine, Duration::ZERO).await;
        let is_current = engine.state(&key()).unwrap().current().is_some();
        assert_eq!(is_current, is_tried, "{first:?} {is_orderly} {second:?}");
    }
}

/// Otherwise each restart would make another credential.
#[tokio::test]
async fn a_failure_after_a_create_keeps_its_backoff() {
    let fakes = Fakes::new(&[]);
    fakes.fail_creates(Some((ErrorKind::ServerError, Effect::Unknown)));
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, HOUR).await;
    fakes.take_calls();
    reload(&fakes, &mut engine);
    fakes.run_for(&mut engine, Duration::ZERO).await;
    let calls = fakes.take_calls();
    assert!(!calls.contains(&"create".to_owned()), "{calls:?}");
}

#[tokio::test]
async fn a_failed_request_leaves_the_planned_retry_as_it_is() {
    for breaks_later in [false, true] {
        let fakes = Fakes::new(&[]);
        let mut engine = engine_with_failing_preflight(&fakes, RunMode::Daemon).await;
        let before = backoff(&engine);
        if breaks_later {
            fakes.refuse_preflight(false);
            fakes.fail_creates(Some((ErrorKind::Refused, Effect::NotApplied)));
        }
        for _ in 0..3 {
            engine.request_rotation(&key(), rotation_request());
            fakes.run_for(&mut engine, Duration::ZERO).await;
            assert!(!engine.has_pending_request(&key()));
            assert_eq!(backoff(&engine), before, "{breaks_later}");
        }
        let outlook = engine.pending_rotation(&key());
        assert_eq!(outlook, before.1.map(PendingRotation::At));
    }
}

#[tokio::test]
async fn a_failed_request_for_a_key_in_order_changes_nothing() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), HOUR).await;
    fakes.run_for(&mut engine, MINUTE).await;
    let before = engine.state(&key()).unwrap().clone();
    let next = engine.next_rotation().map(|(_, at)| at);
    fakes.refuse_preflight(true);
    engine.request_rotation(&key(), rotation_request());
    fakes.run_for(&mut engine, Duration::ZERO).await;
    let problem = engine.request_problem(&key()).unwrap();
    assert!(problem.contains("read-only file system"), "{problem}");
    assert_eq!(*engine.state(&key()).unwrap(), before);
    assert_eq!(engine.next_rotation().map(|(_, at)| at), next);
    assert_eq!(engine.pending_rotation(&key()), None);
}

#[tokio::test]
async fn a_retry_of_an_open_rotation_on_request_does_not_delay_the_next() {
    let fakes = Fakes::new(&[]);
    fakes.refuse_secrets(true);
    let mut engine = fakes.engine(Vec::new(), HOUR).await;
    fakes.run_for(&mut engine, Duration::from_secs(10)).await;
    let retry_at = |engine: &Engine| {
        let state = engine.state(&key()).unwrap();
        state.open_rotation().unwrap().retry_at.unwrap()
    };
    let planned = retry_at(&engine);
    assert!(planned > fakes.now());
    engine.request_rotation(&key(), rotation_request());
    fakes.run_for(&mut engine, Duration::ZERO).await;
    assert!(retry_at(&engine) <= planned);
}

#[tokio::test]
async fn an_adoption_ends_the_trouble_that_asked_for_it() {
    use crate::core::ids::CredentialId;
    use crate::engine::operator_command::{OperatorCommand, PendingCommand, Unrecognized};
    let older = "billing-20261120T030000Z-5f3a9c";
    let newest = "billing-20261123T030000Z-5f3a9c";
    let fakes = Fakes::new(&[("key_b", older), ("key_a", newest)]);
    fakes.set_drifted("key_b");
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE).await;
    let problem = engine.state(&key()).unwrap().last_error.clone().unwrap();
    assert!(
        problem.contains("`rekeyd adopt billing key_a`"),
        "{problem}"
    );
    let (reply, _receiver) = tokio::sync::oneshot::channel();
    let command = OperatorCommand::Adopt {
        credential: CredentialId::new("key_a".to_owned()),
        operator: None,
        force: false,
        unrecognized: Unrecognized::Adopted,
    };
    let pending = PendingCommand {
        command,
        started: std::sync::Arc::default(),
        reply,
    };
    assert!(engine.submit_command(&key(), pending));
    fakes.run_for(&mut engine, Duration::ZERO).await;
    let state = engine.state(&key()).unwrap();
    assert_eq!((state.attempt, &state.last_error), (0, &None));
    assert!(engine.unhealthy().is_empty());
}

/// The file's content decides, and not the age of the label.
#[tokio::test]
async fn the_lookalike_in_the_file_is_proposed() {
    let older = "billing-20261120T030000Z-5f3a9c";
    let newest = "billing-20261123T030000Z-5f3a9c";
    let fakes = Fakes::new(&[("key_b", older), ("key_a", newest)]);
    fakes.set_drifted("key_a");
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE).await;
    let problem = engine.state(&key()).unwrap().last_error.clone().unwrap();
    assert!(
        problem.contains("`rekeyd adopt billing key_b`"),
        "{problem}"
    );
}

/// A reload may take away what a failed rotation was for.
#[tokio::test]
async fn an_error_ends_when_nothing_asks_for_the_rotation_any_more() {
    let fakes = Fakes::new(&[]);
    let mut engine = engine_with_failing_preflight(&fakes, RunMode::Daemon).await;
    let managed = fakes.managed_key(key(), |policy| {
        policy.initial_rotation = crate::core::policy::InitialRotation::Scheduled;
    });
    engine.reconfigure(engine.services().clone(), vec![managed]);
    fakes.run_for(&mut engine, Duration::ZERO).await;
    let state = engine.state(&key()).unwrap();
    assert_eq!((state.attempt, &state.last_error), (0, &None));
}

#[tokio::test]
async fn what_follows_a_failed_rotation_is_known() {
    // The process of a command rotates nothing by schedule.
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(vec![(key(), intended(1))]).await;
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Command).await;
    let outlook = engine.pending_rotation(&key());
    let starts = PendingRotation::StartsInNextProcess;
    assert_eq!(outlook, Some(starts(engine.now())));
    // The next process does not try at once what this one has given up.
    let reason = "a signal stopped the command";
    engine.abandon_open_rotations(reason, HOUR).await.unwrap();
    let outlook = engine.pending_rotation(&key());
    let retry_at = engine.state(&key()).unwrap().retry_at.unwrap();
    assert!(retry_at > engine.now());
    assert_eq!(outlook, Some(starts(retry_at)));
    // Nothing follows for a key in order.
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let engine = fakes.engine(current(1), HOUR).await;
    assert_eq!(engine.pending_rotation(&key()), None);
    // An outage ends by itself.
    let fakes = Fakes::new(&[]);
    fakes.fail_provider(Some(ErrorKind::Unreachable));
    let mut engine = fakes.engine(Vec::new(), HOUR).await;
    fakes.advance_clock(HOUR);
    fakes.run_for(&mut engine, Duration::ZERO).await;
    let outlook = engine.pending_rotation(&key());
    assert_eq!(outlook, Some(PendingRotation::AfterCondition));
    let _ = at();
}

/// The clock was ahead when the current credential was made: its runs count from the end of
/// the downtime, as the start of a rotation does, and not from now.
#[tokio::test]
async fn a_backoff_lasts_although_the_current_credential_is_of_the_future() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    fakes.write_ledger(vec![(key(), current(1))]).await;
    fakes.set_clock_back(HOUR * 72);
    let mut managed = fakes.key_with("@hourly", &[("file", true)]);
    let mut policy = (*managed.policy).clone();
    policy.max_live_credentials = 1;
    managed.policy = std::sync::Arc::new(policy);
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    let hours = fakes.run_for(&mut engine, HOUR * 2);
    // It would continue without end.
    tokio::time::timeout(Duration::from_secs(20), hours)
        .await
        .expect("the engine comes to rest");
    let tries = fakes.query_rows("SELECT seq || '' FROM events WHERE event = 'key-backed-off'");
    assert!((1..100).contains(&tries.len()), "{}", tries.len());
}

/// The key's error says what the provider answered, whatever follows the create.
#[tokio::test]
async fn an_unclear_create_that_made_nothing_keeps_its_answer() {
    let fakes = Fakes::new(&[]);
    let managed = fakes.managed_key(key(), |_| {});
    fakes.fail_creates(Some((ErrorKind::ServerError, Effect::Unknown)));
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, HOUR).await;
    let state = engine.state(&key()).unwrap();
    let problem = state.last_error.clone().unwrap_or_default();
    let expected = "the create had no clear result, and the provider lists nothing with its name \
                    (ServerError)";
    assert_eq!(problem, expected);
    assert!(fakes.journal_details("label-not-found")[0].contains("its name (ServerError)"));
}
