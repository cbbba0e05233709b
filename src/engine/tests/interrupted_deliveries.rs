//! Deliveries that began and have no result: their sinks may hold the secret, whatever they
//! answer to the repetition.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::core::authority::Authority;
use crate::core::lifecycle::Phase;
use crate::engine::operator_command::{CommandError, OperatorCommand, PendingCommand};
use crate::engine::tests::fake::{Fakes, LyingAnswer, key};
use crate::engine::tests::rotation_changes::current;
use crate::engine::tests::rotation_request;
use crate::engine::{Engine, RunMode};
use crate::sink::Acceptance;

const SECOND: Duration = Duration::from_secs(1);
const WITHIN: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3_600);

fn end_present(engine: &mut Engine) -> oneshot::Receiver<Result<String, CommandError>> {
    let (reply, receiver) = oneshot::channel();
    let pending = PendingCommand {
        command: OperatorCommand::EndPresent {
            within: WITHIN,
            force: false,
            may_replace: false,
            holders: Vec::new(),
            authority: Authority::Full,
            operator: None,
        },
        started: Arc::default(),
        reply,
    };
    assert!(engine.submit_command(&key(), pending));
    receiver
}

fn deliveries_of_newest(fakes: &Fakes) -> Vec<String> {
    fakes.query_rows(
        "SELECT sink || ' ' || d.state || ' ' || maybe_accepted || ' ' || attempts
            || CASE WHEN removed_at IS NULL THEN '' ELSE ' at' END
         FROM delivery d JOIN rotation r ON r.id = d.rotation_row
         WHERE r.sequence = (SELECT max(sequence) FROM rotation WHERE credential_id IS NOT NULL)
         ORDER BY ordinal",
    )
}

/// Returns a daemon in which a deadline ended the first attempt to deliver a new credential,
/// and the receiver refused the second.
async fn interrupted_by_deadline(fakes: &Fakes, mode: RunMode) -> Engine {
    fakes.write_ledger(vec![(key(), current(1))]).await;
    let managed = fakes.managed_key(key(), |policy| policy.overlap = HOUR);
    let mut engine = fakes.open_engine(vec![managed], mode).await;
    fakes.run_for(&mut engine, SECOND).await;
    fakes.hang_deliveries(Some("file"));
    let reply = end_present(&mut engine);
    let deadline = async {
        tokio::time::sleep(WITHIN - SECOND).await;
        fakes.advance_clock(WITHIN);
        tokio::time::sleep(SECOND * 2).await;
        fakes.fail_deliveries(Some(Acceptance::Rejected));
        fakes.hang_deliveries(None);
    };
    tokio::join!(fakes.run_for(&mut engine, SECOND), deadline);
    assert!(reply.await.unwrap().is_ok());
    let live = fakes.live_ids();
    assert!(!live.contains(&"key_1".to_owned()), "{live:?}");
    assert_eq!(live.len(), 1);
    engine
}

/// Whoever abandons the rotation then keeps its credential: the receiver may have stored it
/// and answered late.
#[tokio::test(start_paused = true)]
async fn what_a_deadline_interrupted_is_never_an_orphan() {
    for way in ["signal", "key removed", "second order"] {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut engine = interrupted_by_deadline(&fakes, RunMode::Daemon).await;
        let live = fakes.live_ids();
        assert_eq!(deliveries_of_newest(&fakes), ["file uncertain 1 1"]);
        let mut reply = None;
        match way {
            "signal" => {
                engine.stop().await;
                let abandoned = engine.abandon_open_rotations("a signal", HOUR).await;
                abandoned.unwrap();
                engine.revoke_orphans(HOUR).await;
            }
            "key removed" => engine.reconfigure(engine.services().clone(), Vec::new()),
            _ => reply = Some(end_present(&mut engine)),
        }
        if way != "signal" {
            fakes.run_for(&mut engine, SECOND).await;
        }
        if let Some(reply) = reply {
            assert!(reply.await.unwrap().is_ok());
        }
        let left = fakes.live_ids();
        assert!(left.contains(&live[0]), "{way}: {left:?}");
        let phases = fakes.query_rows(&format!(
            "SELECT phase FROM history WHERE credential_id = '{}'",
            live[0]
        ));
        assert_eq!(phases, [Phase::Stranded.as_str()], "{way}");
    }
}

/// The sinks whose deliveries start in the commit of the one before are refused for certain
/// by their first answer, and by each later one.
#[tokio::test]
async fn refusals_of_every_attempt_are_certain() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(Vec::new()).await;
    let managed = fakes.key_with("@monthly", &[("first", true), ("second", true)]);
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.fail_deliveries(Some(Acceptance::Rejected));
    engine.request_rotation(&key(), rotation_request());
    fakes.run_for(&mut engine, SECOND).await;
    let once = ["first refused 0 1", "second refused 0 1"];
    assert_eq!(deliveries_of_newest(&fakes), once);
    fakes.run_for(&mut engine, HOUR).await;
    for delivery in deliveries_of_newest(&fakes) {
        assert!(delivery.contains(" refused 0 "), "{delivery}");
        assert!(!delivery.ends_with(" 1"), "{delivery}");
    }
    engine.stop().await;
    let abandoned = engine.abandon_open_rotations("a signal", HOUR).await;
    abandoned.unwrap();
    engine.revoke_orphans(HOUR).await;
    assert_eq!(fakes.live_ids(), [""; 0]);
}

/// The process is killed during the attempt, the next one takes the secret from the file
/// that is written, and the receiver refuses the repetition.
#[tokio::test(start_paused = true)]
async fn what_a_kill_interrupted_is_held_after_a_refusal() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(Vec::new()).await;
    fakes.set_content("noted", None);
    fakes.show_redacted("sk-admin...wxYz");
    fakes.lie_in_creates(LyingAnswer {
        secret: Some("sk-admin-of-web-0123456789wxYz".to_owned()),
        ..LyingAnswer::default()
    });
    let key_with = |sinks| vec![fakes.key_with("@monthly", sinks)];
    let both = [("noted", true), ("hook", true)];
    let mut engine = fakes.open_engine(key_with(&both), RunMode::Daemon).await;
    fakes.hang_deliveries(Some("hook"));
    engine.request_rotation(&key(), rotation_request());
    let attempt = fakes.run_for(&mut engine, SECOND);
    let hung = tokio::time::timeout(SECOND, attempt).await;
    assert!(hung.is_err(), "the delivery hangs");
    drop(engine);
    let started = ["noted accepted 0 1", "hook uncertain 0 0"];
    assert_eq!(deliveries_of_newest(&fakes), started);
    fakes.forget_secrets();
    fakes.hang_deliveries(None);
    fakes.set_unavailable_sinks(&["hook"]);
    let mut engine = fakes.open_engine(key_with(&both), RunMode::Daemon).await;
    fakes.run_for(&mut engine, SECOND / 2).await;
    let repeated = ["noted accepted 0 1", "hook uncertain 1 1"];
    assert_eq!(deliveries_of_newest(&fakes), repeated);
    engine.reconfigure(engine.services().clone(), key_with(&both[..1]));
    fakes.run_for(&mut engine, SECOND).await;
    let removed = ["noted accepted 0 1", "hook removed 1 1 at"];
    assert_eq!(deliveries_of_newest(&fakes), removed);
}

/// The file holds what the interrupted rotation delivered: that is no drift, whether the
/// next process takes the secret from the file or strands the rotation.
#[tokio::test(start_paused = true)]
async fn a_newer_delivery_is_no_drift() {
    for (file, phase) in [("noted", Phase::Verified), ("file", Phase::Stranded)] {
        let fakes = Fakes::new(&[]);
        fakes.write_ledger(Vec::new()).await;
        fakes.set_content(file, None);
        let key_with = || vec![fakes.key_with("@monthly", &[(file, true), ("hook", true)])];
        let mut engine = fakes.open_engine(key_with(), RunMode::Daemon).await;
        engine.request_rotation(&key(), rotation_request());
        fakes.run_for(&mut engine, SECOND).await;
        let delivered = fakes.live_ids();
        assert_eq!(delivered.len(), 1);
        fakes.show_redacted("sk-admin...wxYz");
        fakes.lie_in_creates(LyingAnswer {
            secret: Some("sk-admin-of-web-0123456789wxYz".to_owned()),
            ..LyingAnswer::default()
        });
        fakes.hang_deliveries(Some("hook"));
        engine.request_rotation(&key(), rotation_request());
        let attempt = fakes.run_for(&mut engine, SECOND);
        let hung = tokio::time::timeout(SECOND, attempt).await;
        assert!(hung.is_err(), "the delivery hangs");
        drop(engine);
        fakes.forget_secrets();
        fakes.hang_deliveries(None);
        fakes.set_unavailable_sinks(&["hook"]);
        fakes.set_drifted(&delivered[0]);
        let mut engine = fakes.open_engine(key_with(), RunMode::Daemon).await;
        fakes.run_for(&mut engine, SECOND / 2).await;
        let phases = fakes.query_rows("SELECT phase FROM rotation ORDER BY sequence LIMIT 1, 1");
        assert_eq!(phases, [phase.as_str()], "{file}");
        assert_eq!(fakes.journal_details("sink-drifted"), [""; 0], "{file}");
    }
}
