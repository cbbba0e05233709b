//! The effect of each change on a key, and the rules that none may break.

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::invariants::broken_invariant;
use super::*;
use crate::core::apply::changes::{at, changes, credential, current, intent, sink};
use crate::core::change::{
    AddedSink, CredentialHold, DeadlineUpdate, DeliveryResult, DeliveryStart, EndedSighting,
    ImmediateRevocation, KeyBackoff, MissedRun, OnChangeState, OverlapExtension, PauseUpdate,
    RetryRequest, RetrySchedule, RevocationDeferral, RevokedDuplicate, ScheduleChange, SinkDrift,
    TimetableChange, Transition,
};
use crate::core::change::{
    DowntimeReason, RemovedSink, RetiredSighting, ReturnedSink, SeenFileAccess, SkippedDelivery,
    WithdrawnRepair,
};
use crate::core::ids::{CredentialId, KeyName, RotationId};
use crate::core::lifecycle::{LifecycleEvent, Phase};
use crate::core::state::{
    DeferralKind, DeliveryState, FileAccess, KeyState, Pause, RevocationDeadline, Rotation,
};

fn key() -> KeyState {
    KeyState::unknown(KeyName::new("billing").unwrap())
}

fn id(number: u8) -> RotationId {
    RotationId::new([number; 8])
}

fn event(number: u8, event: LifecycleEvent) -> Change {
    Transition::new(&id(number), event).into()
}

fn apply_ok(state: &KeyState, changes: impl IntoIterator<Item = Change>) -> AppliedChanges {
    let changes: Vec<_> = changes.into_iter().collect();
    apply(state, &changes, at()).unwrap()
}

/// The state of a key whose first rotation is current.
fn with_current() -> KeyState {
    apply_ok(&key(), current(1)).state
}

fn words(applied: &AppliedChanges) -> Vec<&str> {
    applied
        .events
        .iter()
        .map(|event| event.event.as_str())
        .collect()
}

#[test]
fn a_rotation_becomes_current() {
    let applied = apply_ok(&key(), current(1));
    let expected = [
        "started",
        "created",
        "verified",
        "delivery-started",
        "delivery-accepted",
        "delivered",
    ];
    assert_eq!(words(&applied), expected);
    let state = &applied.state;
    let rotation = state.current().unwrap();
    assert_eq!(rotation.current_at, Some(at()));
    assert_eq!(state.newest_phase, Some(Phase::Current));
    assert_eq!((state.sequence, rotation.sequence), (1, 1));
    assert_eq!(state.timetable.as_deref(), Some("@daily"));
    let delivery = &rotation.deliveries[0];
    assert_eq!((delivery.attempts, delivery.maybe_accepted), (1, false));
    assert_eq!(delivery.accepted_at, Some(at()));
    assert_eq!(applied.events[0].detail["trigger"], "first");
    let members = applied.events[0].detail.as_object().unwrap();
    assert!(!members.contains_key("by"), "{members:?}");
}

#[test]
fn every_transition_follows_the_table() {
    for first in LifecycleEvent::ALL {
        for second in LifecycleEvent::ALL {
            let changes = [intent(1).into(), event(1, first), event(1, second)];
            let expected = lifecycle_phase(&[LifecycleEvent::Started, first, second]);
            let result = apply(&key(), &changes, at());
            match (expected, result) {
                (None, Ok(applied)) => panic!("{first} {second}: {applied:?}"),
                (None, Err(_)) => {}
                // Some transitions need more facts than the event.
                (Some(_), Err(ApplyError::Impossible { .. })) => {}
                (Some(phase), result) => {
                    let last = result.unwrap().rotations.pop().unwrap();
                    assert_eq!(last.after.phase, phase, "{first} {second}");
                }
            }
        }
    }
}

fn lifecycle_phase(events: &[LifecycleEvent]) -> Option<Phase> {
    events.iter().try_fold(None, |phase, event| {
        crate::core::lifecycle::next_phase(phase, *event)
            .ok()
            .map(Some)
    })?
}

#[test]
fn unknown_rotations_and_sinks_are_errors() {
    let state = with_current();
    let unknown = RetryRequest {
        rotation: id(9),
        operator: None,
    };
    let unknown: Change = unknown.into();
    for change in [unknown, event(9, LifecycleEvent::FoundAlive)] {
        let error = apply(&state, &[change], at()).unwrap_err();
        assert!(
            matches!(error, ApplyError::UnknownRotation { .. }),
            "{error}"
        );
    }
    let start = DeliveryStart {
        rotation: id(1),
        sink: sink("other"),
    };
    let error = apply(&state, &[start.into()], at()).unwrap_err();
    assert!(matches!(error, ApplyError::UnknownSink { .. }), "{error}");
}

#[test]
fn a_second_open_or_current_rotation_is_refused() {
    let open = apply_ok(&key(), [intent(1).into()]).state;
    let error = apply(&open, &[intent(2).into()], at()).unwrap_err();
    assert!(error.to_string().contains("is open"), "{error}");
    let mut changes = current(2);
    let last = changes.pop();
    let open = apply_ok(&with_current(), changes).state;
    let error = apply(&open, &[last.unwrap()], at()).unwrap_err();
    assert!(error.to_string().contains("is current"), "{error}");
}

#[test]
fn sequences_only_grow_and_follow_the_time() {
    let state = with_current();
    let mut again = intent(2);
    again.sequence = state.sequence;
    let error = apply(&state, &[again.into()], at()).unwrap_err();
    assert!(
        matches!(error, ApplyError::SequenceNotGreater { .. }),
        "{error}"
    );

    let second = u64::try_from(at().as_second()).unwrap();
    assert_eq!(key().next_sequence(at()), second);
    assert_eq!(state.next_sequence(at()), second);
    let mut future = state;
    future.sequence = second + 7;
    assert_eq!(future.next_sequence(at()), second + 8);
    assert_eq!(key().next_sequence(Timestamp::UNIX_EPOCH), 1);
}

#[test]
fn an_ended_rotation_leaves_and_returns_with_its_row() {
    let gone = apply_ok(&with_current(), [event(1, LifecycleEvent::FoundDeleted)]);
    assert_eq!(gone.state.live, []);
    assert_eq!(gone.state.newest_phase, Some(Phase::Revoked));
    assert!(gone.state.has_lost_credential());
    let row = gone.rotations[0].after.clone();
    assert_eq!(row.revoked_at, Some(at()));

    let alive = |row: Rotation| Transition {
        ended_row: Some(Box::new(row)),
        ..Transition::new(&id(1), LifecycleEvent::FoundAlive)
    };
    let back = apply_ok(&gone.state, [alive(row.clone()).into()]).state;
    assert_eq!(back.live[0].phase, Phase::Orphaned);
    assert_eq!(back.live[0].revoked_at, None);
    assert!(!back.has_lost_credential(), "it is alive");
    let again = apply_ok(&back, [event(1, LifecycleEvent::Deleted)]).state;
    assert!(again.has_lost_credential());

    // A row of another rotation, or one that did not end, is rejected.
    let mut other = row.clone();
    other.id = id(2);
    let mut live = row;
    live.phase = Phase::Retired;
    for row in [other, live] {
        let error = apply(&gone.state, &[alive(row).into()], at()).unwrap_err();
        assert!(
            matches!(error, ApplyError::UnknownRotation { .. }),
            "{error}"
        );
    }
}

#[test]
fn an_ended_rotation_can_be_changed_in_the_same_commit() {
    let changes = [
        event(1, LifecycleEvent::RevokedManually),
        ImmediateRevocation { rotation: id(1) }.into(),
    ];
    let applied = apply_ok(&with_current(), changes);
    assert!(applied.rotations[1].after.revoke_now);
    assert_eq!(applied.state.live, []);
}

#[test]
fn only_the_credential_current_last_can_be_lost() {
    let mut changes = current(2);
    let superseded = Transition {
        revoke_after: Some(at()),
        ..Transition::new(&id(1), LifecycleEvent::Superseded)
    };
    changes.insert(changes.len() - 1, superseded.into());
    let two = apply_ok(&with_current(), changes).state;
    let state = apply_ok(&two, [event(1, LifecycleEvent::Deleted)]).state;
    assert_eq!(state.last_current.unwrap().sequence, 2);
    assert!(!state.has_lost_credential());
    assert_eq!(state.newest_phase, Some(Phase::Current));
}

#[test]
fn a_create_that_was_not_applied_does_not_count() {
    for (event, counts) in [
        (LifecycleEvent::NotCreated, false),
        (LifecycleEvent::LabelNotFound, true),
    ] {
        let transition = Transition::new(&id(1), event).into();
        let applied = apply_ok(&key(), [intent(1).into(), transition]);
        let row = &applied.rotations[1].after;
        assert_eq!((row.phase, row.maybe_created), (Phase::Failed, counts));
        assert_eq!(applied.state.newest_phase, Some(Phase::Failed));
    }
}

#[test]
fn a_transition_resets_retries_and_keeps_unmentioned_fields() {
    let failed = RetrySchedule {
        rotation: id(1),
        attempt: 3,
        retry_at: at() + Duration::from_millis(1_500),
        error: "no answer".to_owned(),
    };
    let open = apply_ok(&key(), [intent(1).into(), failed.into()]).state;
    let retried = &open.live[0];
    assert_eq!(retried.attempt, 3);
    assert_eq!(retried.retry_at, Some(at() + Duration::from_secs(1)));

    let created = current(1).remove(1);
    let created = apply_ok(&open, [created]).state;
    let row = &created.live[0];
    assert_eq!(
        (row.attempt, row.retry_at, row.error.as_ref()),
        (0, None, None)
    );

    let mut other = row.credential.clone().unwrap();
    other.id = CredentialId::new("key_other".to_owned());
    let transition = Transition {
        credential: Some(other),
        ..Transition::new(&id(1), LifecycleEvent::Verified)
    };
    let error = apply(&created, &[transition.into()], at()).unwrap_err();
    assert!(error.to_string().contains("another credential"), "{error}");
}

fn result(state: DeliveryState) -> DeliveryResult {
    DeliveryResult {
        state,
        ..DeliveryResult::uncertain(&id(1), &sink("file"))
    }
}

#[test]
fn a_later_refusal_does_not_undo_a_possible_acceptance() {
    let mut changes = current(1);
    changes.truncate(4);
    changes.push(result(DeliveryState::Uncertain).into());
    changes.push(result(DeliveryState::Refused).into());
    let delivery = &apply_ok(&key(), changes).state.live[0].deliveries[0];
    assert_eq!((delivery.attempts, delivery.maybe_accepted), (2, true));
    assert_eq!(delivery.state, DeliveryState::Refused);
}

/// The state after it does not show that a delivery started.
#[test]
fn a_skipped_or_removed_delivery_keeps_an_attempt_without_a_result() {
    let started = |count| {
        let mut changes = current(1);
        changes.truncate(count);
        apply_ok(&key(), changes).state
    };
    let removed = RemovedSink {
        rotation: id(1),
        sink: sink("file"),
        removed_at: Some(at()),
    };
    let skipped = SkippedDelivery {
        rotation: id(1),
        sink: sink("file"),
    };
    for change in [Change::from(removed), Change::from(skipped)] {
        for (count, expected) in [(3, false), (4, true), (5, false)] {
            let state = apply_ok(&started(count), [change.clone()]).state;
            let delivery = &state.live[0].deliveries[0];
            assert_eq!(delivery.maybe_accepted, expected, "{count} {change:?}");
        }
    }
}

#[test]
fn written_at_is_the_time_of_the_first_attempt() {
    let written = |on_change, error: Option<&str>| DeliveryResult {
        on_change,
        error: error.map(str::to_owned),
        ..result(DeliveryState::Uncertain)
    };
    let mut changes = current(1);
    changes.truncate(4);
    changes.push(written(OnChangeState::Pending, None).into());
    let first = apply_ok(&key(), changes);
    let later = at() + Duration::from_secs(60);
    let second = apply(
        &first.state,
        &[written(OnChangeState::Failed, Some("exit 1")).into()],
        later,
    )
    .unwrap();
    let delivery = &second.state.live[0].deliveries[0];
    assert_eq!(delivery.written_at, Some(at()));
    assert_eq!(delivery.last_attempt_at, Some(later));
    assert_eq!(words(&first).last(), Some(&"delivery-written"));
    assert_eq!(words(&second), ["on-change-failed"]);
    assert_eq!(second.events[0].detail["reason"], "exit 1");

    let gone = result(DeliveryState::Uncertain).into();
    let delivery = &apply_ok(&second.state, [gone]).state.live[0].deliveries[0];
    assert_eq!(delivery.written_at, None);
}

#[test]
fn added_removed_and_returned_sinks_keep_their_order() {
    let added = |name: &str| AddedSink {
        rotation: id(1),
        sink: sink(name),
        required: true,
    };
    let state = with_current();
    let changes = [added("b").into(), added("a").into(), added("b").into()];
    let applied = apply_ok(&state, changes);
    assert_eq!(words(&applied), ["sink-added"; 3]);
    let removed = RemovedSink {
        rotation: id(1),
        sink: sink("file"),
        removed_at: Some(at()),
    };
    let state = apply_ok(&applied.state, [removed.into()]).state;
    let deliveries = &state.live[0].deliveries;
    let names: Vec<_> = deliveries
        .iter()
        .map(|delivery| delivery.sink.name.as_str())
        .collect();
    assert_eq!(names, ["file", "b", "a"]);
    assert_eq!(deliveries[0].state, DeliveryState::Removed);
    assert!(deliveries[0].may_have_received(), "it held the secret");
    // A file that is the one that the delivery left needs no other.
    for (is_unchanged, expected) in [
        (false, DeliveryState::Uncertain),
        (true, DeliveryState::Accepted),
    ] {
        let returned = ReturnedSink {
            rotation: id(1),
            sink: sink("file"),
            is_unchanged,
        };
        let delivery = &apply_ok(&state, [returned.into()]).state.live[0].deliveries[0];
        assert_eq!(delivery.state, expected);
        assert_eq!(
            (delivery.removed_at, delivery.accepted_at),
            (None, Some(at()))
        );
    }
    let skipped = SkippedDelivery {
        rotation: id(1),
        sink: sink("b"),
    };
    let delivery = &apply_ok(&state, [skipped.into()]).state.live[0].deliveries[1];
    assert_eq!(delivery.state, DeliveryState::Missed);
}

#[test]
fn a_sink_that_drifted_still_holds_the_secret() {
    let drift = SinkDrift {
        rotation: id(1),
        sink: sink("file"),
        problem: "it is empty".to_owned(),
    };
    let applied = apply_ok(&with_current(), [drift.into()]);
    let delivery = &applied.state.live[0].deliveries[0];
    assert_eq!(delivery.state, DeliveryState::Uncertain);
    assert!(delivery.maybe_accepted);
    assert_eq!(words(&applied), ["sink-drifted"]);
    let withdrawn = WithdrawnRepair {
        rotation: id(1),
        sink: sink("file"),
    };
    let delivery = &apply_ok(&applied.state, [withdrawn.into()]).state.live[0].deliveries[0];
    let found = (delivery.state, delivery.error.as_deref());
    assert_eq!(found, (DeliveryState::Accepted, None));
}

/// A later change of the file does not change who got it before.
#[test]
fn the_recorded_access_to_a_file_survives_its_drift() {
    let access = FileAccess {
        owner: 1_001,
        group: 1_002,
        mode: 0o640,
    };
    let seen = SeenFileAccess {
        rotation: id(1),
        sink: sink("file"),
        access,
    };
    let seen = apply_ok(&with_current(), [seen.into()]);
    assert_eq!(words(&seen), ["file-access-recorded"]);
    let drift = SinkDrift {
        rotation: id(1),
        sink: sink("file"),
        problem: "it is empty".to_owned(),
    };
    let state = apply_ok(&seen.state, [drift.into()]).state;
    assert_eq!(state.recorded_access(&sink("file").target), Some(access));
    assert_eq!(state.recorded_access(&sink("b").target), None);
}

#[test]
fn an_overlap_is_extended_only_while_retired_and_never_shortened() {
    let minute = |minutes: u64| at() + Duration::from_secs(60 * minutes);
    let extend = |minutes| OverlapExtension {
        rotation: id(1),
        revoke_after: minute(minutes),
    };
    let state = apply_ok(&with_current(), [extend(5).into()]).state;
    assert_eq!(state.live[0].revoke_after, None);
    let retired = Transition {
        revoke_after: Some(minute(10)),
        ..Transition::new(&id(1), LifecycleEvent::Superseded)
    };
    let retired = apply_ok(&state, [retired.into()]).state;
    for (minutes, expected) in [(5, 10), (20, 20)] {
        let state = apply_ok(&retired, [extend(minutes).into()]).state;
        assert_eq!(state.live[0].revoke_after, Some(minute(expected)));
    }
}

fn defer(final_warning: bool) -> Change {
    RevocationDeferral {
        rotation: id(1),
        retry_at: at() + Duration::from_secs(900),
        kind: DeferralKind::RecentlyUsed,
        reason: "it was used".to_owned(),
        final_warning,
    }
    .into()
}

#[test]
fn the_first_deferral_is_an_event_despite_an_earlier_error() {
    let interrupted = Transition {
        error: Some("its secret was lost in a restart".to_owned()),
        ..Transition::new(&id(1), LifecycleEvent::LabelFoundAfterRestart)
    };
    let retired = Transition {
        revoke_after: Some(at()),
        ..Transition::new(&id(1), LifecycleEvent::Replaced)
    };
    let mut changes = vec![intent(1).into()];
    changes.push(
        Transition {
            credential: Some(credential(1)),
            ..interrupted
        }
        .into(),
    );
    changes.push(retired.into());
    let state = apply_ok(&key(), changes).state;
    assert!(state.live[0].error.is_some());
    let deferred = apply_ok(&state, [defer(false)]);
    assert_eq!(words(&deferred), ["revocation-deferred"]);

    let later = at() + Duration::from_secs(900);
    let failed = RetrySchedule {
        rotation: id(1),
        attempt: 1,
        retry_at: later,
        error: "no answer".to_owned(),
    };
    let failed = apply_ok(&deferred.state, [failed.into()]);
    let again = apply(&failed.state, &[defer(false)], later).unwrap();
    assert!(again.events.is_empty(), "the same deferral goes on");
    assert_eq!(again.state.live[0].deferred_since, Some(at()));
}

#[test]
fn only_the_first_deferral_and_the_final_warning_are_events() {
    let mut state = with_current();
    for (final_warning, is_event) in [
        (false, true),
        (false, false),
        (true, true),
        (true, false),
        (false, true),
    ] {
        let applied = apply_ok(&state, [defer(final_warning)]);
        assert_eq!(!applied.events.is_empty(), is_event);
        state = applied.state;
        assert_eq!(state.live[0].final_warning, final_warning);
    }
    let failed = RetrySchedule {
        rotation: id(1),
        attempt: 1,
        retry_at: at(),
        error: "no answer".to_owned(),
    };
    let state = apply_ok(&state, [defer(true), failed.into()]).state;
    assert!(!state.live[0].final_warning, "its error is another one");
}

#[test]
fn a_revoked_duplicate_is_recorded_even_of_an_ended_rotation() {
    let duplicate = RevokedDuplicate {
        rotation: id(7),
        credential: CredentialId::new("key_double".to_owned()),
    };
    let applied = apply_ok(&with_current(), [duplicate.into()]);
    assert_eq!(applied.state, with_current());
    assert_eq!(words(&applied), ["duplicate-revoked"]);
    assert_eq!(applied.events[0].rotation, Some(id(7)));
}

/// The earliest deadline of a credential stays, and nothing that was planned before lasts
/// beyond it.
#[test]
fn deadline_only_becomes_earlier() {
    let in_seconds = |seconds| at() + jiff::SignedDuration::from_secs(seconds);
    let set = |seconds, is_forced| DeadlineUpdate {
        rotation: id(1),
        deadline: RevocationDeadline {
            at: in_seconds(seconds),
            is_forced,
        },
        holders: Vec::new(),
        operator: None,
    };
    let mut state = with_current();
    (state.retry_at, state.live[0].retry_at) = (Some(in_seconds(900)), Some(in_seconds(900)));
    for (seconds, is_forced, expected) in [
        (60, false, (60, false)),
        (90, true, (60, true)),
        (30, false, (30, true)),
    ] {
        let applied = apply_ok(&state, [set(seconds, is_forced).into()]);
        assert_eq!(words(&applied), ["revocation-deadline-set"]);
        state = applied.state;
        let deadline = state.live[0].deadline.unwrap();
        let (seconds, is_forced) = expected;
        assert_eq!(deadline.at, in_seconds(seconds));
        assert_eq!(deadline.is_forced, is_forced);
        assert_eq!((state.retry_at, state.live[0].retry_at), (None, None));
    }
    let retry = RetrySchedule {
        rotation: id(1),
        attempt: 1,
        retry_at: in_seconds(300),
        error: "no answer".to_owned(),
    };
    let applied = apply_ok(&state, [retry.into()]);
    assert_eq!(applied.state.live[0].retry_at, Some(in_seconds(30)));
}

#[test]
fn operators_hold_pause_and_retry() {
    let hold = |until| CredentialHold {
        rotation: id(1),
        until,
        operator: None,
    };
    let held = apply_ok(&with_current(), [hold(Some(Timestamp::MAX)).into()]);
    assert_eq!(words(&held), ["hold-set"]);
    assert!(held.state.live[0].hold_until > Some(at()));
    let released = apply_ok(&held.state, [hold(None).into()]);
    assert_eq!(words(&released), ["hold-released"]);
    assert_eq!(released.state.live[0].hold_until, None);

    let pause = |until| PauseUpdate {
        pause: Pause { from: at(), until },
        operator: None,
    };
    for (until, word) in [(None, "paused"), (Some(at()), "resumed")] {
        let applied = apply_ok(&key(), [pause(until).into()]);
        assert_eq!(words(&applied), [word]);
        assert_eq!(applied.state.is_paused(at()), until.is_none());
    }

    let mut changes = current(1);
    changes.truncate(4);
    let refused = DeliveryResult {
        retry_at: Some(at() + Duration::from_secs(60)),
        ..result(DeliveryState::Refused)
    };
    changes.push(refused.into());
    let retry = RetryRequest {
        rotation: id(1),
        operator: None,
    };
    changes.push(retry.into());
    let state = apply_ok(&key(), changes).state;
    assert_eq!(state.live[0].deliveries[0].retry_at, None);
}

#[test]
fn a_skipped_run_settles_itself_and_earlier_runs() {
    let later = at() + Duration::from_secs(60);
    let timetable = TimetableChange {
        timetable: "@hourly".to_owned(),
        counts_from: Some(later),
        pending_run: Some(at()),
    };
    let state = apply_ok(&key(), [timetable.into()]).state;
    let missed = |firing, is_skipped| MissedRun {
        firing,
        reason: DowntimeReason::Paused,
        is_skipped,
    };
    let caught_up = apply_ok(&state, [missed(at(), false).into()]);
    assert_eq!(caught_up.state, state);
    assert_eq!(caught_up.events[0].detail["outcome"], "catch-up");
    let skipped = apply_ok(&state, [missed(at(), true).into()]).state;
    assert_eq!(
        (skipped.counts_from, skipped.pending_run),
        (Some(later), None)
    );
    let skipped = apply_ok(
        &state,
        [missed(later + Duration::from_secs(60), true).into()],
    )
    .state;
    assert!(skipped.counts_from > Some(later));
}

#[test]
fn a_key_backs_off_and_recovers() {
    let backoff = KeyBackoff {
        attempt: 2,
        retry_at: at(),
        problem: "no answer".to_owned(),
        is_before_create: false,
        is_extra: false,
    };
    let applied = apply_ok(&key(), [backoff.into()]);
    assert_eq!(applied.state.attempt, 2);
    assert_eq!(words(&applied), ["key-backed-off"]);
    let recovered = apply_ok(&applied.state, [ScheduleChange::Recovered.into()]);
    assert_eq!(recovered.state, key());
    assert_eq!(recovered.events, []);
}

#[test]
fn an_adopted_credential_may_be_holder_every_sink() {
    for (event, phase) in [
        (LifecycleEvent::Adopted, Phase::Current),
        (LifecycleEvent::AdoptedAlongside, Phase::Stranded),
    ] {
        let adopted = crate::core::apply::changes::adoption(1, event);
        let state = apply_ok(&key(), [adopted.into()]).state;
        let row = &state.live[0];
        assert_eq!((row.phase, row.maybe_created), (phase, false));
        assert_eq!(row.deliveries[0].state, DeliveryState::Uncertain);
        assert_eq!(state.newest_phase, Some(phase));
        assert_eq!(state.last_current.is_some(), phase == Phase::Current);
    }
}

proptest! {
    /// No sequence of changes breaks a rule, and the computed facts of a key agree with
    /// its rotations.
    #[test]
    fn every_applied_state_satisfies_the_rules(changes in changes()) {
        let mut state = key();
        let mut rows: Vec<Rotation> = Vec::new();
        for change in changes {
            let (before, sequence) = (state.clone(), state.sequence);
            let Ok(applied) = apply(&state, std::slice::from_ref(&change), at()) else {
                continue;
            };
            state = applied.state;
            for update in applied.rotations {
                if let Some(recorded) = &update.before {
                    let row = rows.iter().find(|row| row.id == recorded.id);
                    prop_assert_eq!(row, Some(recorded));
                    let deliveries = update.after.deliveries.iter().zip(&recorded.deliveries);
                    for (after, before) in deliveries {
                        prop_assert_eq!(&after.sink, &before.sink);
                    }
                    prop_assert!(update.after.deliveries.len() >= recorded.deliveries.len());
                }
                rows.retain(|row| row.id != update.after.id);
                rows.push(update.after);
            }
            rows.sort_by_key(|row| row.sequence);
            let live = rows.iter().filter(|row| !row.phase.is_ended());
            prop_assert_eq!(live.cloned().collect::<Vec<_>>(), state.live.clone());
            for row in &state.live {
                let others: Vec<_> = state.live.iter().filter(|other| other.id != row.id).cloned().collect();
                prop_assert_eq!(broken_invariant(&others, row), None);
            }
            prop_assert_eq!(rows.last().map(|row| row.phase_as_newest()), state.newest_phase);
            prop_assert!(state.sequence >= sequence);
            let last = rows.iter().rev().find(|row| row.current_at.is_some());
            let is_lost = last.is_some_and(|row| row.phase == Phase::Revoked);
            prop_assert_eq!(state.has_lost_credential(), is_lost && state.current().is_none());
            // `apply` is deterministic.
            let repeated = apply(&before, &[change], at()).map(|applied| applied.state);
            prop_assert_eq!(repeated, Ok(state.clone()));
        }
    }

    #[test]
    fn changes_applied_together_equal_changes_applied_in_order(changes in changes()) {
        let mut together: Vec<Change> = Vec::new();
        let mut state = key();
        for change in changes {
            together.push(change);
            match apply(&key(), &together, at()) {
                Ok(applied) => {
                    let last = together.last().cloned();
                    let single = apply(&state, &last.into_iter().collect::<Vec<_>>(), at());
                    if let Ok(single) = single {
                        state = single.state;
                        prop_assert_eq!(&state, &applied.state);
                    } else {
                        // Its rotation ended in the same commit.
                        together.pop();
                    }
                }
                Err(_) => {
                    together.pop();
                }
            }
        }
    }
}

/// The time of a sighting counts from the first look, over repeated ones and restarts, and
/// ends once a newer credential is accepted there, or other content is seen.
#[test]
fn sighting_counts_from_its_first_look_and_ends_once() {
    let seen = |name: &str| -> Change {
        RetiredSighting {
            rotation: id(1),
            sink: sink(name),
            required: true,
        }
        .into()
    };
    let mut changes = current(1);
    let superseded = Transition {
        revoke_after: Some(at()),
        ..Transition::new(&id(1), LifecycleEvent::Superseded)
    };
    changes.extend(current(2).into_iter().take(5));
    changes.extend([superseded.into(), event(2, LifecycleEvent::Delivered)]);
    let retired = apply_ok(&key(), changes).state;
    let first = apply_ok(&retired, [seen("file")]);
    assert_eq!(words(&first), ["retired-seen"]);
    let sighting = |state: &KeyState, at: usize| state.live[0].deliveries[at].sighting;
    assert_eq!(sighting(&first.state, 0).unwrap().since, at());
    let later = at() + Duration::from_secs(60);
    let again = apply(&first.state, &[seen("file")], later).unwrap();
    assert_eq!((words(&again), &again.state), (vec![], &first.state));
    // A sink that it was never delivered to was given it by somebody else.
    let other = apply_ok(&first.state, [seen("copy")]);
    let delivery = &other.state.live[0].deliveries[1];
    assert_eq!(delivery.state, DeliveryState::Uncertain);
    // A newer one is accepted: all of them end at that sink, and there alone.
    let third = current(3).into_iter().take(5);
    let accepted = apply(&other.state, &third.collect::<Vec<_>>(), later).unwrap();
    assert!(!sighting(&accepted.state, 0).unwrap().is_open());
    assert!(sighting(&accepted.state, 1).unwrap().is_open());
    // Other content is seen.
    let ended = EndedSighting {
        rotation: id(1),
        sink: sink("copy"),
        at: later,
    };
    let ended = apply_ok(&accepted.state, [ended.into()]);
    assert_eq!(sighting(&ended.state, 1).unwrap().until, Some(later));
    // The sink is removed.
    let removed = RemovedSink {
        rotation: id(1),
        sink: sink("copy"),
        removed_at: Some(later),
    };
    let removed = apply_ok(&accepted.state, [removed.into()]);
    assert_eq!(sighting(&removed.state, 1).unwrap().until, Some(later));
    // Somebody goes back to it once more.
    let again = apply(&accepted.state, &[seen("file")], later).unwrap();
    assert_eq!(sighting(&again.state, 0).unwrap().since, later);
}
