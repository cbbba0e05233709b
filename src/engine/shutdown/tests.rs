//! The keys' states after a shutdown.

use super::*;
use crate::core::lifecycle::LifecycleEvent;
use crate::engine::tests::fake::{Fakes, key};
use crate::engine::tests::rotation_changes::{created, current, rotation, transitioned};
use crate::engine::{PendingRotation, RotationRequest, RunMode};
use crate::sink::Acceptance;

const HOUR: Duration = Duration::from_secs(3_600);

fn orphaned() -> Vec<Change> {
    let mut changes = created(1);
    changes.push(transitioned(1, LifecycleEvent::Abandoned));
    changes
}

#[tokio::test]
async fn a_stopped_engine_starts_no_work() {
    let fakes = Fakes::new(&[]);
    let mut engine = fakes.engine(Vec::new(), HOUR).await;
    engine.start_due();
    assert!(engine.active_tasks() > 0);
    engine.stop().await;
    assert_eq!(engine.active_tasks(), 0);
    engine.start_due();
    assert_eq!(engine.active_tasks(), 0);
}

#[tokio::test]
async fn only_orphans_are_revoked_at_shutdown() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(orphaned(), HOUR).await;
    engine.stop().await;
    engine.revoke_orphans(HOUR).await;
    assert!(fakes.live_ids().is_empty());
    let calls = fakes.take_calls();
    assert!(!calls.contains(&"create".to_owned()), "{calls:?}");
    // Without an orphan, no request is sent.
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
    engine.stop().await;
    engine.revoke_orphans(HOUR).await;
    assert_eq!(fakes.take_calls(), [""; 0]);
    assert_eq!(fakes.live_ids(), ["key_1"]);
}

#[tokio::test]
async fn abandoned_rotations_back_off() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    fakes.write_ledger(vec![(key(), created(1))]).await;
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Once).await;
    engine
        .abandon_open_rotations("the time is over", HOUR)
        .await
        .unwrap();
    assert_eq!(fakes.phase_of(&rotation(1)), Phase::Orphaned.as_str());
    let state = engine.state(&key()).unwrap();
    assert_eq!(state.attempt, 1);
    assert_eq!(state.retry_at, Some(time::after(fakes.now(), HOUR)));
    assert_eq!(
        state.last_error.as_deref(),
        Some("the time is over before the secret was delivered")
    );
}

/// A sink that certainly refused the secret does not hold it: nothing waits for a newer one.
#[tokio::test]
async fn refused_credential_of_a_stopped_command_is_revoked() {
    for (acceptances, phase) in [
        (&[Acceptance::Rejected][..], Phase::Revoked),
        (&[Acceptance::NotAccepted], Phase::Revoked),
        (&[Acceptance::Uncertain], Phase::Stranded),
        // A later refusal does not undo what may have been accepted.
        (
            &[Acceptance::Uncertain, Acceptance::Rejected],
            Phase::Stranded,
        ),
    ] {
        let fakes = Fakes::new(&[]);
        fakes.write_ledger(Vec::new()).await;
        let managed = fakes.managed_key(key(), |_| {});
        let mut engine = fakes.open_engine(vec![managed], RunMode::Command).await;
        engine.request_rotation(
            &key(),
            RotationRequest {
                operator: None,
                revoke_previous: false,
                replacement: crate::engine::ReplaceApproval::Refused,
            },
        );
        for acceptance in acceptances {
            fakes.fail_deliveries(Some(*acceptance));
            fakes.run_for(&mut engine, HOUR).await;
        }
        engine
            .abandon_open_rotations("a signal stopped the command", HOUR)
            .await
            .unwrap();
        engine.revoke_orphans(HOUR).await;
        // A caller is told that the next process continues with what it can continue alone.
        let pending = engine.pending_rotation(&key());
        let continues = pending == Some(PendingRotation::ContinuesInNextProcess);
        assert_eq!(continues, phase.is_open(), "{acceptances:?}: {pending:?}");
        let is_revoked = phase == Phase::Revoked;
        assert_eq!(fakes.live_ids().is_empty(), is_revoked, "{acceptances:?}");
        let phases = fakes.query_rows("SELECT phase FROM history");
        assert_eq!(phases, [phase.as_str()], "{acceptances:?}");
    }
}
