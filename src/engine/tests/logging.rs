//! The log lines of rotations and of urgent problems.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::change::{
    Adoption, Change, CredentialHold, DeliveryResult, OnChangeState, PauseUpdate,
    RevocationDeferral, TimetableChange, Transition,
};
use crate::core::ids::CredentialId;
use crate::core::lifecycle::{LifecycleEvent, Phase};
use crate::core::scope::Scope;
use crate::core::state::{CredentialMetadata, DeferralKind, HELD_UNTIL_RELEASED, Pause};
use crate::core::time;
use crate::engine::log::log_changes;
use crate::engine::tests::captured_log::CapturedLog;
use crate::engine::tests::fake::{Fakes, at, key, sink_id};
use crate::engine::tests::rotation_changes::{current, rotation};
use crate::engine::tests::rotation_request;
use crate::engine::{RotationRequest, RunMode};
use crate::provider::{Effect, ErrorKind};

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_rotation_logs_each_transition() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let (lines, _guard) = CapturedLog::capture();
    let mut engine = fakes.engine(current(1), HOUR).await;
    let request = RotationRequest {
        operator: None,
        revoke_previous: false,
        replacement: crate::engine::ReplaceApproval::Refused,
    };
    engine.request_rotation(&key(), request);
    fakes.run_for(&mut engine, HOUR * 2).await;
    for expected in [
        "billing: rotating (manual)",
        "billing: created key_of_billing",
        "billing: verified",
        "billing: delivered to file (file:/x)",
        "is the current credential",
        "retired key_1; revoking it after 2026-11-24T04:00:00Z",
        "revoked the previous credential key_1",
    ] {
        assert_eq!(lines.lines_with("INFO", expected).len(), 1, "{expected}");
    }
    assert_eq!(
        lines.lines_with("WARN", "").len() + lines.lines_with("ERROR", "").len(),
        0
    );
}

/// A hold outlasts the overlap, unless it ends before.
#[tokio::test]
async fn a_retired_credential_on_hold_is_not_announced_as_revoked() {
    let end = time::after(at(), HOUR * 30);
    for (until, expected) in [
        (
            end,
            "retired key_1, which is on hold until 2026-11-25T09:00:00Z",
        ),
        (
            HELD_UNTIL_RELEASED,
            "retired key_1, which is on hold until it is released",
        ),
        (
            time::after(at(), Duration::from_secs(60)),
            "retired key_1; revoking it after 2026-11-24T04:00:00Z",
        ),
    ] {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut changes = current(1);
        changes.push(Change::from(CredentialHold {
            rotation: rotation(1),
            until: Some(until),
            operator: None,
        }));
        let (lines, _guard) = CapturedLog::capture();
        let mut engine = fakes.engine(changes, HOUR).await;
        engine.request_rotation(&key(), rotation_request());
        fakes.run_for(&mut engine, Duration::ZERO).await;
        assert_eq!(lines.lines_with("INFO", expected).len(), 1, "{expected}");
    }
}

#[tokio::test]
async fn an_expiring_credential_without_a_successor_logs_an_error() {
    let fakes = Fakes::new(&[("key_1", "by hand")]);
    let adopted = Change::from(Adoption {
        rotation: rotation(1),
        scope: Scope::AdminKeys,
        sequence: 1,
        credential: CredentialMetadata {
            id: CredentialId::new("key_1".to_owned()),
            redacted_value: None,
            created_at: Some(time::before(at(), HOUR * 24)),
            expires_at: Some(time::after(at(), HOUR)),
        },
        name: Some("label-1".to_owned()),
        hold: None,
        event: LifecycleEvent::Adopted,
        seen_in: Vec::new(),
        sinks: Vec::new(),
        operator: None,
    });
    fakes.write_ledger(vec![(key(), vec![adopted])]).await;
    let managed = fakes.managed_key(key(), |_| {});
    let (lines, _guard) = CapturedLog::capture();
    let mut engine = fakes.open_engine(vec![managed], RunMode::Once).await;
    fakes.fail_creates(Some((ErrorKind::Refused, Effect::NotApplied)));
    fakes.run_for(&mut engine, Duration::ZERO).await;
    assert_eq!(
        lines
            .lines_with("ERROR", "expires at 2026-11-24T04:00:00Z")
            .len(),
        1
    );
    fakes.fail_creates(None);
    fakes.run_for(&mut engine, Duration::from_secs(60)).await;
    let state = engine.state(&key()).unwrap();
    assert_eq!(fakes.place_of(state.current().unwrap().sequence), 3);
    assert_eq!(
        lines.lines_with("ERROR", "expires at").len(),
        1,
        "and no more"
    );
}

#[tokio::test]
async fn missing_and_found_credentials_are_logged() {
    let fakes = Fakes::new(&[]);
    let (lines, _guard) = CapturedLog::capture();
    fakes.write_ledger(vec![(key(), current(1))]).await;
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, Duration::ZERO).await;
    assert_eq!(
        lines
            .lines_with("WARN", "the provider does not show key_1")
            .len(),
        1
    );
    fakes.add_credential("key_1", "label-1");
    fakes.run_for(&mut engine, HOUR).await;
    assert_eq!(
        lines
            .lines_with("INFO", "billing: the provider shows key_1 again")
            .len(),
        1
    );
    // It disappears again, permanently.
    fakes.remove_credential("key_1");
    engine
        .maintenance
        .reconcile_now(&Scope::AdminKeys, fakes.now());
    fakes.run_for(&mut engine, HOUR).await;
    assert_eq!(
        lines
            .lines_with(
                "WARN",
                "billing: the provider no longer has key_1, so it counts as deleted"
            )
            .len(),
        1
    );
    assert_eq!(fakes.live_ids().len(), 1, "it is replaced");
}

#[tokio::test]
async fn a_missing_expiry_is_logged_once() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(Vec::new()).await;
    let managed = fakes.managed_key(key(), |policy| policy.expires_after = Some(HOUR * 24 * 90));
    let (lines, _guard) = CapturedLog::capture();
    let mut engine = fakes.open_engine(vec![managed], RunMode::Once).await;
    fakes.run_for(&mut engine, HOUR * 24 * 70).await;
    assert!(fakes.journal_details("created").len() >= 2);
    assert_eq!(
        lines
            .lines_with("WARN", "expires-after has no effect")
            .len(),
        1
    );
}

/// Returns the log lines of these changes of a key.
async fn logged_lines(changes: &[Change]) -> Vec<String> {
    let fakes = Fakes::new(&[]);
    let engine = fakes.engine(current(1), HOUR).await;
    let state = engine.state(&key()).unwrap();
    let (lines, _guard) = CapturedLog::capture();
    log_changes(state, state, changes, at());
    lines.lines_with("", "billing")
}

/// What a create made whose answer was lost was never revoked.
#[tokio::test]
async fn a_credential_that_is_alive_again_is_logged_with_what_was_recorded() {
    let fakes = Fakes::new(&[]);
    let engine = fakes.engine(current(1), HOUR).await;
    let row = engine.state(&key()).unwrap().current().unwrap().clone();
    for (phase, expected) in [
        (Phase::Failed, "although its create was recorded as failed"),
        (Phase::Revoked, "was recorded as revoked but is alive"),
    ] {
        let mut ended = row.clone();
        ended.phase = phase;
        let found = Transition {
            credential: row.credential.clone(),
            ended_row: Some(Box::new(ended)),
            ..Transition::new(&row.id, LifecycleEvent::FoundAlive)
        };
        let lines = logged_lines(&[Change::from(found)]).await;
        assert!(
            lines.iter().any(|line| line.contains(expected)),
            "{lines:?}"
        );
    }
}

fn paused(until: Option<Timestamp>) -> Change {
    let pause = Pause { from: at(), until };
    Change::from(PauseUpdate {
        pause,
        operator: None,
    })
}

#[tokio::test]
async fn a_pause_is_logged_with_its_end() {
    for (change, expected) in [
        (
            paused(Some(time::after(at(), HOUR))),
            "billing: paused until 2026-11-24T04:00:00Z",
        ),
        (paused(None), "paused until `rekeyd resume billing`"),
        (paused(Some(at())), "billing: resumed"),
    ] {
        let lines = logged_lines(&[change]).await;
        assert!(
            lines.len() == 1 && lines[0].contains(expected),
            "{expected}: {lines:?}"
        );
    }
}

#[tokio::test]
async fn a_changed_timetable_is_logged_and_the_first_is_not() {
    let change = Change::from(TimetableChange {
        timetable: "0 7 * * * | UTC | 0s".to_owned(),
        counts_from: None,
        pending_run: None,
    });
    let fakes = Fakes::new(&[]);
    let engine = fakes.engine(current(1), HOUR).await;
    let mut before = engine.state(&key()).unwrap().clone();
    for (timetable, lines) in [(None, 0), (Some("0 3 * * * | UTC | 0s"), 1)] {
        before.timetable = timetable.map(str::to_owned);
        let (captured, _guard) = CapturedLog::capture();
        log_changes(&before, &before, std::slice::from_ref(&change), at());
        assert_eq!(
            captured
                .lines_with("INFO", "billing: the schedule is now")
                .len(),
            lines
        );
    }
}

/// A repeated deferral is a line of the level `debug`.
#[tokio::test]
async fn the_first_deferral_is_logged_despite_an_earlier_error() {
    let fakes = Fakes::new(&[]);
    let engine = fakes.engine(current(1), HOUR).await;
    let mut state = engine.state(&key()).unwrap().clone();
    let deferral = Change::from(RevocationDeferral {
        rotation: rotation(1),
        retry_at: time::after(at(), HOUR),
        kind: DeferralKind::RecentlyUsed,
        reason: "it was used".to_owned(),
        final_warning: false,
    });
    let recently_used = Some(DeferralKind::RecentlyUsed);
    for (recorded, lines) in [(None, 1), (recently_used, 0)] {
        state.live[0].error = Some("its secret was lost in a restart".to_owned());
        state.live[0].deferral = recorded;
        let (captured, _guard) = CapturedLog::capture();
        log_changes(&state, &state, std::slice::from_ref(&deferral), at());
        let expected = "billing: key_1 is not revoked yet: it was used";
        assert_eq!(captured.lines_with("INFO", expected).len(), lines);
    }
}

#[tokio::test]
async fn an_orphan_is_not_logged_as_a_previous_credential() {
    let fakes = Fakes::new(&[]);
    let engine = fakes.engine(current(1), HOUR).await;
    let mut before = engine.state(&key()).unwrap().clone();
    let deleted = Change::from(Transition::new(&rotation(1), LifecycleEvent::Deleted));
    for (phase, expected) in [
        (
            Phase::Retired,
            "billing: revoked the previous credential key_1",
        ),
        (
            Phase::Orphaned,
            "billing: revoked the orphaned credential key_1",
        ),
    ] {
        before.live[0].phase = phase;
        let mut after = before.clone();
        after.live.clear();
        let (captured, _guard) = CapturedLog::capture();
        log_changes(&before, &after, std::slice::from_ref(&deleted), at());
        assert_eq!(captured.lines_with("INFO", expected).len(), 1, "{phase}");
    }
}

#[tokio::test]
async fn delivery_results_are_logged() {
    let result = |on_change, error: Option<&str>, retry_at| {
        Change::from(DeliveryResult {
            on_change,
            error: error.map(str::to_owned),
            retry_at,
            ..DeliveryResult::uncertain(&rotation(1), &sink_id())
        })
    };
    let later = Some(time::after(at(), HOUR));
    for (change, level, expected) in [
        (
            result(OnChangeState::Pending, None, None),
            "INFO",
            "wrote file (file:/x); running its on-change program",
        ),
        (
            result(OnChangeState::Failed, Some("exit 1"), later),
            "WARN",
            "its on-change program failed: exit 1; retrying in 1 h",
        ),
        (
            result(OnChangeState::NotPending, Some("no file"), None),
            "WARN",
            "file (file:/x) no longer holds the credential: no file",
        ),
        (
            result(OnChangeState::NotPending, Some("full"), later),
            "WARN",
            "delivery to file (file:/x) failed: full; retrying in 1 h",
        ),
    ] {
        let lines = logged_lines(&[change]).await;
        assert!(
            lines.len() == 1 && lines[0].contains(level) && lines[0].contains(expected),
            "{expected}: {lines:?}"
        );
    }
}

/// Each decision is a line of the level `debug`, once for as long as it stays the same.
#[tokio::test]
async fn decisions_are_logged_when_they_change() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(vec![(key(), current(1))]).await;
    let (lines, _guard) = CapturedLog::capture_from(tracing::Level::DEBUG);
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.add_credential("key_1", "label-1");
    fakes.run_for(&mut engine, HOUR).await;
    let not_due = "billing: no rotation starts: none is due before ";
    assert_eq!(lines.lines_with("DEBUG", not_due).len(), 1);
    // The same again, for an operator who has just changed the level.
    engine.log_decisions_again();
    fakes.run_for(&mut engine, Duration::ZERO).await;
    assert_eq!(lines.lines_with("DEBUG", not_due).len(), 2);

    fakes.fail_provider(Some(ErrorKind::Unreachable));
    let request = RotationRequest {
        operator: None,
        revoke_previous: false,
        replacement: crate::engine::ReplaceApproval::Refused,
    };
    engine.request_rotation(&key(), request);
    fakes.run_for(&mut engine, Duration::from_secs(60)).await;
    let held_back = "billing: no rotation starts: condition provider: ";
    assert_eq!(lines.lines_with("DEBUG", held_back).len(), 1);
    fakes.fail_provider(None);
    fakes.run_for(&mut engine, HOUR / 2).await;
    let kept = " is not revoked now: its overlap or its hold lasts until ";
    assert_eq!(lines.lines_with("DEBUG", kept).len(), 1);
}
