//! The recovery from each phase: the engine opens a prepared ledger, and resumes.
//!
//! These tests document recovery. The process that wrote the ledger has ended, and its
//! secrets are lost.

use std::time::Duration;

use crate::core::change::{Change, DeliveryResult, OnChangeState, Transition};
use crate::core::lifecycle::{LifecycleEvent, Phase};
use crate::core::state::DeliveryState;
use crate::engine::RunMode;
use crate::engine::tests::fake::{Fakes, at, key, sink_id};
use crate::engine::tests::rotation_changes::{
    accepted, created, current, delivery_started, intended, rotation, transitioned,
};

const OVERLAP: Duration = Duration::from_secs(600);

/// Returns the changes by which the second rotation retires the first.
fn retired_by_successor() -> Vec<Change> {
    let mut changes = current(1);
    changes.extend(accepted(2));
    changes.push(Change::from(Transition {
        revoke_after: Some(at() + OVERLAP),
        ..Transition::new(&rotation(1), LifecycleEvent::Superseded)
    }));
    changes.push(transitioned(2, LifecycleEvent::Delivered));
    changes
}

/// Opens a ledger with `changes`, at a provider with these credentials. Asserts the first
/// external calls, and the phase of the first rotation after them.
async fn assert_recovery(
    changes: Vec<Change>,
    alive: &[(&str, &str)],
    calls: &[&str],
    phase: Phase,
) {
    let fakes = Fakes::new(alive);
    let mut engine = fakes.engine(changes, OVERLAP).await;
    let made = fakes.first_calls(&mut engine, calls.len()).await;
    assert_eq!(made, calls);
    assert_eq!(fakes.phase_of(&rotation(1)), phase.as_str());
}

#[tokio::test]
async fn an_intended_rotation_with_a_credential_is_stranded_and_restarted() {
    let calls = ["find label-1", "preflight", "list", "preflight", "create"];
    assert_recovery(intended(1), &[("key_1", "label-1")], &calls, Phase::Retired).await;
}

#[tokio::test]
async fn an_intended_rotation_without_a_credential_fails_and_is_restarted() {
    let calls = ["find label-1", "preflight", "list", "preflight", "create"];
    assert_recovery(intended(1), &[], &calls, Phase::Failed).await;
}

#[tokio::test]
async fn a_created_rotation_is_stranded_and_restarted() {
    let calls = ["preflight", "check", "list", "preflight", "create"];
    assert_recovery(created(1), &[("key_1", "label-1")], &calls, Phase::Retired).await;
}

#[tokio::test]
async fn a_verified_rotation_is_stranded_and_restarted() {
    let calls = ["preflight", "check", "list", "preflight", "create"];
    assert_recovery(
        delivery_started(1),
        &[("key_1", "label-1")],
        &calls,
        Phase::Retired,
    )
    .await;
}

#[tokio::test]
async fn an_accepted_rotation_not_yet_current_is_stranded() {
    let calls = ["preflight", "check", "list", "preflight", "create"];
    assert_recovery(accepted(1), &[("key_1", "label-1")], &calls, Phase::Retired).await;
}

#[tokio::test]
async fn a_current_rotation_waits_for_its_next_run() {
    let calls = ["preflight", "check", "list", "preflight", "create"];
    assert_recovery(current(1), &[("key_1", "label-1")], &calls, Phase::Retired).await;
}

#[tokio::test]
async fn a_retired_credential_is_deleted_after_checking_it_and_its_successor() {
    let alive = [("key_1", "label-1"), ("key_2", "label-2")];
    // The first response has the provider's time, which the sinks' changes wait for.
    let calls = [
        "retrieve key_1",
        "retrieve key_1",
        "retrieve key_2",
        "delete key_1",
    ];
    assert_recovery(retired_by_successor(), &alive, &calls, Phase::Revoked).await;
}

#[tokio::test]
async fn a_retired_credential_is_not_revoked_while_its_successor_is_missing() {
    let calls = [
        "retrieve key_1",
        "retrieve key_1",
        "retrieve key_2",
        "retrieve key_1",
    ];
    assert_recovery(
        retired_by_successor(),
        &[("key_1", "label-1")],
        &calls,
        Phase::Retired,
    )
    .await;
}

#[tokio::test]
async fn a_stranded_credential_waits_for_a_successor() {
    let mut changes = delivery_started(1);
    changes.push(transitioned(1, LifecycleEvent::Interrupted));
    let calls = ["preflight", "check", "list", "preflight", "create"];
    assert_recovery(changes, &[("key_1", "label-1")], &calls, Phase::Retired).await;
}

#[tokio::test]
async fn an_orphaned_credential_is_deleted_and_the_deletion_confirmed() {
    let mut changes = created(1);
    changes.push(transitioned(1, LifecycleEvent::Abandoned));
    let calls = [
        "retrieve key_1",
        "retrieve key_1",
        "delete key_1",
        "retrieve key_1",
    ];
    assert_recovery(changes, &[("key_1", "label-1")], &calls, Phase::Revoked).await;
}

#[tokio::test]
async fn a_revoked_rotation_is_followed_by_a_new_one() {
    let mut changes = current(1);
    changes.push(transitioned(1, LifecycleEvent::FoundDeleted));
    let calls = ["preflight", "check", "list", "preflight", "create"];
    assert_recovery(changes, &[], &calls, Phase::Revoked).await;
}

#[tokio::test]
async fn a_failed_rotation_is_followed_by_a_new_one() {
    let mut changes = intended(1);
    changes.push(transitioned(1, LifecycleEvent::NotCreated));
    let calls = ["preflight", "check", "list", "preflight", "create"];
    assert_recovery(changes, &[], &calls, Phase::Failed).await;
}

/// A sink was removed while its `on-change` command was pending. The removal is recorded
/// as soon as the provider's time is known, so the rotation must cause a request.
#[tokio::test]
async fn on_change_of_a_removed_sink_does_not_block_the_rotation() {
    let mut changes = delivery_started(1);
    changes.push(Change::from(DeliveryResult {
        on_change: OnChangeState::Failed,
        rotation: rotation(1),
        sink: sink_id(),
        state: DeliveryState::Uncertain,
        accepted_at: None,
        retry_at: None,
        file: None,
        error: Some("no such unit".to_owned()),
    }));
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    fakes.write_ledger(vec![(key(), changes)]).await;
    let managed = fakes.key_with("@monthly", &[("moved", true)]);
    let mut engine = fakes.open_engine(vec![managed], RunMode::Once).await;
    fakes.run_for(&mut engine, Duration::from_secs(60)).await;
    let state = engine.state(&key()).unwrap();
    assert!(state.open_rotation().is_none(), "{:?}", state.live);
    assert!(state.current().is_some());
}

#[tokio::test]
async fn the_rotation_after_a_stranded_one_revokes_it() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(delivery_started(1), OVERLAP).await;
    fakes.first_calls(&mut engine, 12).await;
    assert_eq!(fakes.phase_of(&rotation(1)), "revoked");
    let state = engine.state(&key()).unwrap();
    let current = state.current().unwrap().credential.as_ref().unwrap();
    assert_eq!(fakes.live_ids(), [current.id.as_str()]);
}
