//! The effect of a rotation request on an open rotation, and its record.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::core::authority::Authority;
use crate::core::change::OperatorNote;
use crate::core::ids::CredentialId;
use crate::core::lifecycle::Phase;
use crate::core::scope::Scope;
use crate::engine::operator_command::{OperatorCommand, PendingCommand};
use crate::engine::tests::fake::{Fakes, key};
use crate::engine::tests::rotation_changes::{current, intended, rotation};
use crate::engine::{Engine, RotationRequest, RunMode};
use crate::provider::{Effect, ErrorKind};

const HOUR: Duration = Duration::from_secs(3_600);

fn rotation_request(revoke_previous: bool) -> RotationRequest {
    RotationRequest {
        operator: None,
        revoke_previous,
        replacement: crate::engine::ReplaceApproval::Refused,
    }
}

/// Returns an engine whose key waits for a retry, because its first secret was refused.
async fn engine_with_refused_secret(fakes: &Fakes) -> Engine {
    fakes.refuse_secrets(true);
    let mut engine = fakes.engine(Vec::new(), HOUR).await;
    fakes.run_for(&mut engine, Duration::ZERO).await;
    engine
}

/// Returns the number of the open rotation, its phase and its failures.
fn open_rotation(fakes: &Fakes, engine: &Engine) -> Option<(usize, Phase, u32)> {
    let open = engine.state(&key()).unwrap().open_rotation()?;
    Some((fakes.place_of(open.sequence), open.phase, open.attempt))
}

fn has_in_flight(engine: &Engine) -> bool {
    let parked = engine.keys[&key()].parked.as_ref().unwrap();
    parked.in_flight.is_some()
}

#[tokio::test]
async fn a_request_retries_the_open_rotation_immediately() {
    let fakes = Fakes::new(&[]);
    let mut engine = engine_with_refused_secret(&fakes).await;
    assert_eq!(open_rotation(&fakes, &engine), Some((1, Phase::Created, 1)));
    fakes.run_for(&mut engine, Duration::from_secs(1)).await;
    assert_eq!(open_rotation(&fakes, &engine), Some((1, Phase::Created, 2)));
    fakes.refuse_secrets(false);
    engine.request_rotation(&key(), rotation_request(false));
    fakes.run_for(&mut engine, Duration::ZERO).await;
    let state = engine.state(&key()).unwrap();
    assert_eq!(fakes.place_of(state.current().unwrap().sequence), 1);
}

#[tokio::test]
async fn the_operator_of_a_retry_request_is_recorded() {
    let fakes = Fakes::new(&[]);
    let mut engine = engine_with_refused_secret(&fakes).await;
    let operator = OperatorNote {
        reason: Some("at once".to_owned()),
        by: "uid 7".to_owned(),
    };
    let request = RotationRequest {
        operator: Some(operator),
        revoke_previous: false,
        replacement: crate::engine::ReplaceApproval::Refused,
    };
    engine.request_rotation(&key(), request);
    fakes.run_for(&mut engine, Duration::ZERO).await;
    let details = "SELECT detail FROM events WHERE event = 'retry-requested'";
    assert_eq!(
        fakes.query_rows(details),
        [r#"{"by":"uid 7","reason":"at once"}"#]
    );
}

#[tokio::test]
async fn a_request_that_revokes_previous_abandons_the_open_rotation() {
    let fakes = Fakes::new(&[]);
    let mut engine = engine_with_refused_secret(&fakes).await;
    engine.request_rotation(&key(), rotation_request(true));
    fakes.run_for(&mut engine, Duration::ZERO).await;
    assert_eq!(open_rotation(&fakes, &engine), Some((2, Phase::Created, 1)));
    assert_eq!(
        fakes.live_ids().len(),
        1,
        "the first is revoked immediately"
    );
    assert!(fakes.journal_details("abandoned")[0].contains("abandoned for a requested rotation"));
}

/// A later request without `revoke_previous` does not cancel the revocation.
#[tokio::test]
async fn of_two_requests_the_one_that_revokes_wins() {
    for early in [true, false] {
        let fakes = Fakes::new(&[]);
        let mut engine = engine_with_refused_secret(&fakes).await;
        let by = |by: &str, revoke_previous| RotationRequest {
            operator: Some(OperatorNote {
                reason: None,
                by: by.to_owned(),
            }),
            revoke_previous,
            replacement: crate::engine::ReplaceApproval::Refused,
        };
        let (first, second) = (by("uid 1", early), by("uid 2", !early));
        engine.request_rotation(&key(), first);
        engine.request_rotation(&key(), second);
        fakes.run_for(&mut engine, Duration::ZERO).await;
        assert_eq!(open_rotation(&fakes, &engine), Some((2, Phase::Created, 1)));
        let revokes = if early { "uid 1" } else { "uid 2" };
        assert!(fakes.journal_details("abandoned")[0].contains("requested rotation"));
        let last = "SELECT detail FROM events WHERE event = 'started' ORDER BY seq DESC LIMIT 1";
        assert!(
            fakes.query_rows(last)[0].contains(revokes),
            "{:?}",
            fakes.query_rows(last)
        );
    }
}

#[tokio::test]
async fn an_unknown_create_is_resolved_before_the_next_rotation() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(vec![(key(), intended(1))]).await;
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Once).await;
    fakes.fail_calls(Some(("find", ErrorKind::ServerError)));
    fakes.run_for(&mut engine, Duration::ZERO).await;
    assert_eq!(
        open_rotation(&fakes, &engine),
        Some((1, Phase::Intended, 1))
    );
    fakes.fail_calls(None);
    engine.request_rotation(&key(), rotation_request(true));
    fakes.run_for(&mut engine, Duration::ZERO).await;
    assert_eq!(fakes.phase_of(&rotation(1)), Phase::Failed.as_str());
    assert!(fakes.journal_details("label-not-found")[0].contains("lists nothing with its name"));
    let state = engine.state(&key()).unwrap();
    assert_eq!(fakes.place_of(state.current().unwrap().sequence), 2);
}

#[tokio::test]
async fn a_secret_is_dropped_after_its_last_delivery() {
    let fakes = Fakes::new(&[]);
    let mut engine = engine_with_refused_secret(&fakes).await;
    assert!(has_in_flight(&engine));
    fakes.refuse_secrets(false);
    fakes.run_for(&mut engine, HOUR).await;
    assert!(engine.state(&key()).unwrap().current().is_some());
    assert!(!has_in_flight(&engine));
}

#[tokio::test]
async fn the_reason_of_a_failure_is_recorded() {
    let fakes = Fakes::new(&[]);
    fakes.refuse_secrets(true);
    fakes.write_ledger(Vec::new()).await;
    let managed = fakes.managed_key(key(), |policy| policy.verify_timeout = Duration::ZERO);
    let mut engine = fakes.open_engine(vec![managed], RunMode::Once).await;
    fakes.run_for(&mut engine, Duration::ZERO).await;
    let event = &fakes.journal_details("verification-failed")[0];
    assert!(event.contains("CredentialRefused"), "{event}");
    let state = engine.state(&key()).unwrap();
    assert_eq!((state.attempt, state.open_rotation()), (1, None));
}

#[tokio::test]
async fn a_failed_request_backs_off_and_is_retried() {
    let fakes = Fakes::new(&[]);
    fakes.fail_creates(Some((ErrorKind::Refused, Effect::NotApplied)));
    let mut engine = fakes.engine(Vec::new(), HOUR).await;
    engine.request_rotation(&key(), rotation_request(false));
    fakes.run_for(&mut engine, Duration::ZERO).await;
    let state = engine.state(&key()).unwrap();
    assert_eq!((fakes.place_of(state.sequence), state.attempt), (1, 1));
    fakes.fail_creates(None);
    fakes.run_for(&mut engine, HOUR / 2).await;
    let sequence = engine.state(&key()).unwrap().sequence;
    assert_eq!(fakes.place_of(sequence), 2);
}

#[tokio::test]
async fn a_request_that_could_not_be_recorded_leaves_no_state() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), HOUR).await;
    engine
        .maintenance
        .reconcile_now(&Scope::AdminKeys, fakes.now());
    fakes.run_for(&mut engine, Duration::ZERO).await;
    fakes.execute_sql(
        "CREATE TRIGGER no_more BEFORE INSERT ON rotation
         BEGIN SELECT RAISE(ABORT, 'no more'); END",
    );
    engine.request_rotation(&key(), rotation_request(true));
    engine.start_due();
    engine.process_completions().await;
    assert!(!engine.has_pending_request(&key()));
    fakes.execute_sql("DROP TRIGGER no_more");
    fakes.run_for(&mut engine, HOUR).await;
    assert_eq!(fakes.live_ids(), ["key_1"]);
    let flag = "SELECT CAST(revoke_previous AS TEXT) FROM key_state";
    assert_eq!(fakes.query_rows(flag), ["0"]);
}

#[tokio::test]
async fn a_command_without_a_waiting_caller_is_not_executed() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), HOUR).await;
    let revoke = || OperatorCommand::Revoke {
        credential: CredentialId::new("key_1".to_owned()),
        force: true,
        name: None,
        authority: Authority::Full,
        operator: None,
    };
    for waits in [false, true] {
        let (reply, answer) = oneshot::channel();
        let waiting = waits.then_some(answer);
        let command = revoke();
        engine.submit_command(
            &key(),
            PendingCommand {
                command,
                started: Arc::default(),
                reply,
            },
        );
        fakes.run_for(&mut engine, Duration::ZERO).await;
        drop(waiting);
        // A revoked credential is replaced.
        assert_eq!(fakes.live_ids() == ["key_1"], !waits);
    }
}

#[tokio::test]
async fn a_request_is_dropped_with_its_removed_key() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), HOUR).await;
    fakes.fail_provider(Some(ErrorKind::Unreachable));
    engine.request_rotation(&key(), rotation_request(false));
    // A worker has the key, which is parked while the provider is unreachable.
    engine.start_due();
    let services = engine.services().clone();
    engine.reconfigure(services.clone(), Vec::new());
    fakes.run_for(&mut engine, Duration::ZERO).await;
    engine.reconfigure(services, vec![fakes.managed_key(key(), |_| {})]);
    fakes.fail_provider(None);
    fakes.run_for(&mut engine, HOUR).await;
    assert_eq!(engine.state(&key()).unwrap().sequence, 1);
}

/// Returns the keys whose requests the ledger has.
fn recorded(fakes: &Fakes) -> Vec<String> {
    fakes.query_rows("SELECT key FROM rotation_request")
}

#[tokio::test]
async fn a_recorded_request_survives_a_restart_and_is_done_once() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), HOUR).await;
    fakes.run_for(&mut engine, HOUR).await;
    for drains in [false, true] {
        fakes.fail_provider(Some(ErrorKind::Unreachable));
        let request = rotation_request(false);
        engine.record_requests(&[key()], &request).await.unwrap();
        fakes.run_for(&mut engine, Duration::from_secs(60)).await;
        engine.cancel_request(&key());
        assert_eq!(recorded(&fakes), ["billing"], "another caller's failure");
        if drains {
            engine.drain();
        }
        engine.stop().await;
        drop(engine);
        assert_eq!(recorded(&fakes), ["billing"]);
        fakes.fail_provider(None);
        let rotations = "SELECT rotation FROM history";
        let before = fakes.query_rows(rotations).len();
        for _ in 0..2 {
            let managed = fakes.managed_key(key(), |_| {});
            let mut engine = fakes.open_engine(vec![managed], RunMode::Once).await;
            fakes.run_for(&mut engine, HOUR).await;
            engine.stop().await;
            assert_eq!(fakes.query_rows(rotations).len(), before + 1);
            assert_eq!(recorded(&fakes), [""; 0]);
        }
        let managed = fakes.managed_key(key(), |_| {});
        engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
        fakes.run_for(&mut engine, HOUR).await;
    }
    let requested = fakes.journal_details("rotation-requested").len();
    assert_eq!(requested, 2);
    let manual = "SELECT rotation FROM history WHERE \"trigger\" = 'manual'";
    assert_eq!(fakes.query_rows(manual).len(), 2);
}

#[tokio::test]
async fn a_recorded_request_that_cannot_start_is_settled() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), HOUR).await;
    fakes.run_for(&mut engine, HOUR).await;
    // The key leaves the configuration, and comes back.
    fakes.fail_provider(Some(ErrorKind::Unreachable));
    let request = rotation_request(false);
    engine.record_requests(&[key()], &request).await.unwrap();
    fakes.run_for(&mut engine, Duration::from_secs(60)).await;
    let services = engine.services().clone();
    engine.reconfigure(services.clone(), Vec::new());
    fakes.run_for(&mut engine, Duration::ZERO).await;
    assert_eq!(recorded(&fakes), [""; 0]);
    engine.reconfigure(services, vec![fakes.managed_key(key(), |_| {})]);
    fakes.fail_provider(None);
    fakes.run_for(&mut engine, HOUR).await;
    assert_eq!(engine.state(&key()).unwrap().sequence, 1);
    // A process without the key does not keep it, either.
    fakes.fail_provider(Some(ErrorKind::Unreachable));
    engine.record_requests(&[key()], &request).await.unwrap();
    engine.stop().await;
    drop(engine);
    assert_eq!(recorded(&fakes), ["billing"]);
    let mut engine = fakes.open_engine(Vec::new(), RunMode::Daemon).await;
    fakes.run_for(&mut engine, Duration::ZERO).await;
    assert_eq!(recorded(&fakes), [""; 0]);
    fakes.fail_provider(None);
    // A sink that refuses the rotation before it starts.
    engine.reconfigure(
        engine.services().clone(),
        vec![fakes.managed_key(key(), |_| {})],
    );
    fakes.run_for(&mut engine, HOUR).await;
    fakes.refuse_preflight(true);
    engine.record_requests(&[key()], &request).await.unwrap();
    fakes.run_for(&mut engine, Duration::from_secs(1)).await;
    assert_eq!(recorded(&fakes), [""; 0]);
}

/// A request that gives up the open rotation waits until a search shows what its create
/// made. It does not repeat that search without a pause.
#[tokio::test]
async fn waiting_request_keeps_the_back_off_of_a_failing_search() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), HOUR).await;
    fakes.run_for(&mut engine, Duration::from_secs(1)).await;
    fakes.fail_creates(Some((ErrorKind::NoAnswer, Effect::Unknown)));
    engine.request_rotation(&key(), rotation_request(false));
    fakes.fail_calls(Some(("find", ErrorKind::ServerError)));
    fakes.run_for(&mut engine, Duration::from_secs(5)).await;
    fakes.fail_creates(None);
    fakes.take_calls();
    engine.request_rotation(&key(), rotation_request(true));
    fakes.run_for(&mut engine, Duration::from_secs(600)).await;
    let calls = fakes.take_calls();
    let searches = calls
        .iter()
        .filter(|call| call.starts_with("find "))
        .count();
    assert!((2..=40).contains(&searches), "{searches}");
    fakes.fail_calls(None);
    fakes.run_for(&mut engine, HOUR).await;
    assert_eq!(fakes.live_ids().len(), 1);
    assert!(!fakes.live_ids().contains(&"key_1".to_owned()));
}
