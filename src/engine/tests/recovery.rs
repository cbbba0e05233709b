//! For each phase: a ledger made by hand is opened, and what follows.
//!
//! These tests are the documentation of recovery. The process that wrote the
//! ledger is gone, and with it every secret that it held.

use std::time::Duration;

use crate::core::change::{Answered, Change, Moved};
use crate::core::record::DeliveryState;
use crate::core::rotation::{Event, Phase};
use crate::engine::Course;
use crate::engine::tests::fake::{Fakes, at, key, sink_id};
use crate::engine::tests::rows::{accepted, begun, created, current, intended, moved, rotation};

const OVERLAP: Duration = Duration::from_secs(600);

/// The first is retired by the second.
fn retired() -> Vec<Change> {
    let mut changes = current(1);
    changes.extend(accepted(2));
    changes.push(Change::Moved(Moved {
        revoke_after: Some(at() + OVERLAP),
        ..Moved::new(&rotation(1), Event::Superseded)
    }));
    changes.push(moved(2, Event::Delivered));
    changes
}

/// Opens a ledger with `changes`, at a provider with these credentials, and
/// asserts the first three calls outside, and the phase of the first rotation
/// when the work that they belong to is done.
async fn assert_recovery(
    changes: Vec<Change>,
    alive: &[(&str, &str)],
    calls: [&str; 3],
    phase: Phase,
) {
    let fakes = Fakes::new(alive);
    let mut engine = fakes.engine(changes, OVERLAP).await;
    let made = fakes.first_calls(&mut engine, 3).await;
    assert_eq!(made, calls);
    assert_eq!(fakes.phase_of(&rotation(1)), phase.as_str());
}

#[tokio::test]
async fn intended_and_made_is_stranded_and_done_anew() {
    let calls = ["find label-1", "preflight", "create"];
    assert_recovery(intended(1), &[("key_1", "label-1")], calls, Phase::Retired).await;
}

#[tokio::test]
async fn intended_and_not_made_is_failed_and_done_anew() {
    let calls = ["find label-1", "preflight", "create"];
    assert_recovery(intended(1), &[], calls, Phase::Failed).await;
}

#[tokio::test]
async fn created_is_stranded_and_done_anew() {
    let calls = ["preflight", "check", "create"];
    assert_recovery(created(1), &[("key_1", "label-1")], calls, Phase::Retired).await;
}

#[tokio::test]
async fn verified_is_stranded_and_done_anew() {
    let calls = ["preflight", "check", "create"];
    assert_recovery(begun(1), &[("key_1", "label-1")], calls, Phase::Retired).await;
}

#[tokio::test]
async fn accepted_without_the_commit_that_makes_it_current_is_stranded() {
    let calls = ["preflight", "check", "create"];
    assert_recovery(accepted(1), &[("key_1", "label-1")], calls, Phase::Retired).await;
}

#[tokio::test]
async fn current_waits_for_its_next_firing() {
    let calls = ["preflight", "check", "create"];
    assert_recovery(current(1), &[("key_1", "label-1")], calls, Phase::Retired).await;
}

#[tokio::test]
async fn retired_is_deleted_after_a_look_at_it_and_its_successor() {
    let alive = [("key_1", "label-1"), ("key_2", "label-2")];
    let calls = ["retrieve key_1", "retrieve key_2", "delete key_1"];
    assert_recovery(retired(), &alive, calls, Phase::Revoked).await;
}

#[tokio::test]
async fn retired_stays_while_its_successor_is_missing() {
    let calls = ["retrieve key_1", "retrieve key_2", "retrieve key_1"];
    assert_recovery(retired(), &[("key_1", "label-1")], calls, Phase::Retired).await;
}

#[tokio::test]
async fn stranded_waits_for_a_successor() {
    let mut changes = begun(1);
    changes.push(moved(1, Event::FoundOpen));
    let calls = ["preflight", "check", "create"];
    assert_recovery(changes, &[("key_1", "label-1")], calls, Phase::Retired).await;
}

#[tokio::test]
async fn orphaned_is_deleted_at_once_and_its_end_confirmed() {
    let mut changes = created(1);
    changes.push(moved(1, Event::GivenUp));
    let calls = ["retrieve key_1", "delete key_1", "retrieve key_1"];
    assert_recovery(changes, &[("key_1", "label-1")], calls, Phase::Revoked).await;
}

#[tokio::test]
async fn revoked_is_followed_by_a_new_one() {
    let mut changes = current(1);
    changes.push(moved(1, Event::Gone));
    let calls = ["preflight", "check", "create"];
    assert_recovery(changes, &[], calls, Phase::Revoked).await;
}

#[tokio::test]
async fn failed_is_followed_by_a_new_one() {
    let mut changes = intended(1);
    changes.push(moved(1, Event::NotDone));
    let calls = ["preflight", "check", "create"];
    assert_recovery(changes, &[], calls, Phase::Failed).await;
}

/// What follows a file that was written is still owed, and its sink is another
/// one now. That is recorded as soon as the provider has told its time, which
/// nothing else asks for so soon after a sweep.
#[tokio::test]
async fn what_follows_a_file_is_not_waited_for_where_its_sink_is_gone() {
    let mut changes = begun(1);
    changes.push(Change::Answered(Answered {
        written: true,
        rotation: rotation(1),
        sink: sink_id(),
        state: DeliveryState::Uncertain,
        accepted_at: None,
        retry_at: None,
        error: Some("no such unit".to_owned()),
    }));
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    fakes.ledger(vec![(key(), changes)]).await;
    let managed = fakes.key_with("@monthly", &[("moved", true)]);
    let mut engine = fakes.open(vec![managed], Course::Once).await;
    fakes.run(&mut engine, Duration::from_secs(60)).await;
    let state = engine.state(&key()).unwrap();
    assert!(state.open().is_none(), "{:?}", state.live);
    assert!(state.current().is_some());
}

#[tokio::test]
async fn a_whole_rotation_follows_a_stranded_one_and_revokes_it() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(begun(1), OVERLAP).await;
    fakes.first_calls(&mut engine, 10).await;
    assert_eq!(fakes.phase_of(&rotation(1)), "revoked");
    let state = engine.state(&key()).unwrap();
    let current = state.current().unwrap().credential.as_ref().unwrap();
    assert_eq!(fakes.alive(), [current.id.as_str()]);
}
