//! When each errand is due, and what holds it up.

use super::*;
use crate::core::change::Change;
use crate::core::lifecycle::LifecycleEvent;
use crate::engine::tests::fake::{Fakes, at, key};
use crate::engine::tests::rotation_changes::{intended, transitioned};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

fn now() -> Timestamp {
    "2026-11-24T03:00:00Z".parse().unwrap()
}

fn later(span: Duration) -> Timestamp {
    time::after(now(), span)
}

/// Nothing is planned but the look at the sinks, in an hour.
fn idle_schedule() -> MaintenanceSchedule {
    MaintenanceSchedule {
        active_conditions: BTreeSet::new(),
        probe_at: None,
        is_probing: false,
        probe_attempts: 0,
        regular_at: None,
        extra_reconciliations: BTreeSet::new(),
        is_reconciling: false,
        failed_reconciliations: 0,
        reconciled_at: None,
        last_reconciliation: None,
        drift_check_at: later(HOUR),
        is_organization_confirmed: false,
    }
}

fn set_of(conditions: &[Condition]) -> BTreeSet<Condition> {
    conditions.iter().copied().collect()
}

#[test]
fn a_later_deadline_does_not_postpone_a_reconciliation() {
    let mut errands = idle_schedule();
    errands.reconcile_by(later(MINUTE));
    assert_eq!(errands.next_at(), Some(later(MINUTE)));
    errands.reconcile_by(later(MINUTE * 2));
    assert_eq!(errands.next_at(), Some(later(MINUTE)), "not instead");
}

#[test]
fn a_reconciliation_is_due_at_its_time_unless_one_is_running() {
    let fine = Conditions::default();
    let mut errands = idle_schedule();
    errands.schedule_follow_ups(now());
    assert_eq!(errands.next_at(), Some(later(MINUTE)));
    assert_eq!(errands.due(&fine, now()), []);
    assert_eq!(
        errands.due(&fine, later(MINUTE)),
        [MaintenanceTask::Reconciliation]
    );
    // While it is under way no other begins, nor is one planned.
    errands.reconcile_now(later(MINUTE));
    assert_eq!(errands.due(&fine, later(MINUTE * 20)), []);
    assert_eq!(errands.next_at(), Some(later(HOUR)));
    assert!(errands.finish_reconciliation(true, HOUR * 6, later(MINUTE * 20)));
    assert_eq!(errands.reconciled_at, Some(later(MINUTE * 20)));
    // The one after a quarter of an hour has waited, that after an hour is to come.
    assert_eq!(errands.next_at(), Some(later(MINUTE * 15)));
    assert_eq!(
        errands.due(&fine, later(MINUTE * 20)),
        [MaintenanceTask::Reconciliation]
    );
    assert!(
        !errands.finish_reconciliation(true, HOUR * 6, later(MINUTE * 21)),
        "not the first"
    );
    let at_an_hour = errands.due(&fine, later(HOUR));
    assert_eq!(
        at_an_hour,
        [MaintenanceTask::Reconciliation, MaintenanceTask::DriftCheck]
    );
}

#[test]
fn failed_reconciliations_are_retried_with_backoff() {
    let fine = Conditions::default();
    let mut errands = idle_schedule();
    errands.reconcile_now(now());
    let mut at = now();
    for pace in [5, 30, 60, 300, 300] {
        assert_eq!(errands.due(&fine, at), [MaintenanceTask::Reconciliation]);
        assert!(!errands.finish_reconciliation(false, HOUR * 6, at));
        assert_eq!(errands.reconciled_at, None);
        at = time::after(at, Duration::from_secs(pace));
        assert_eq!(errands.next_at(), Some(at), "{pace}");
    }
    // With an answer it begins anew.
    assert_eq!(errands.due(&fine, at), [MaintenanceTask::Reconciliation]);
    assert!(errands.finish_reconciliation(true, MINUTE, at));
    at = time::after(at, MINUTE);
    assert_eq!(errands.due(&fine, at), [MaintenanceTask::Reconciliation]);
    errands.finish_reconciliation(false, MINUTE, at);
    assert_eq!(errands.next_at(), Some(time::after(at, MINUTE / 12)));
}

#[test]
fn extra_reconciliations_do_not_repeat() {
    let fine = Conditions::default();
    let mut errands = idle_schedule();
    errands.drift_check_at = later(HOUR * 1_000);
    let every = HOUR * 6;
    errands.finish_reconciliation(true, every, now());
    errands.schedule_follow_ups(now());
    for _ in 0..3 {
        errands.reconcile_by(later(every));
    }
    let mut minutes = Vec::new();
    for _ in 0..5 {
        let at = errands.next_at().unwrap();
        assert_eq!(errands.due(&fine, at), [MaintenanceTask::Reconciliation]);
        errands.finish_reconciliation(true, every, at);
        minutes.push(time::until(now(), at).as_secs() / 60);
    }
    assert_eq!(minutes, [1, 15, 60, 60 + 360, 60 + 720]);
}

#[test]
fn reconciliation_waits_for_the_provider_and_the_ledger() {
    for (condition, waits) in [
        (Condition::Provider, true),
        (Condition::Credential, true),
        (Condition::Ledger, true),
        (Condition::Clock, false),
        (Condition::Organization, false),
    ] {
        let conditions = Conditions::default();
        conditions.raise(condition, "why");
        let mut errands = idle_schedule();
        errands.reconcile_now(now());
        let due = errands.due(&conditions, now());
        assert_eq!(due.is_empty(), waits, "{condition:?}");
    }
}

#[test]
fn drift_is_checked_every_hour() {
    let fine = Conditions::default();
    let mut errands = idle_schedule();
    assert_eq!(
        errands.due(&fine, later(HOUR)),
        [MaintenanceTask::DriftCheck]
    );
    assert_eq!(errands.due(&fine, later(HOUR)), []);
    assert_eq!(errands.next_at(), Some(later(HOUR * 2)));
}

#[test]
fn one_probe_runs_at_a_time_with_backoff() {
    let fine = Conditions::default();
    let mut errands = idle_schedule();
    assert!(!errands.schedule_probe(&set_of(&[]), now()));
    assert_eq!(errands.next_at(), Some(later(HOUR)), "nothing to probe for");
    let holds = set_of(&[Condition::Provider]);
    let mut at = now();
    for pace in [1, 2, 5, 15] {
        assert!(!errands.schedule_probe(&holds, at));
        at = time::after(at, Duration::from_secs(pace));
        assert_eq!(errands.next_at(), Some(at), "{pace}");
        // Asked again, it stays where it is.
        assert!(!errands.schedule_probe(&holds, at));
        assert_eq!(errands.next_at(), Some(at), "{pace}");
        let before = time::before(at, Duration::from_millis(1));
        assert_eq!(errands.due(&fine, before), []);
        assert_eq!(errands.due(&fine, at), [MaintenanceTask::Probe]);
        // While it runs there is no other.
        assert!(!errands.schedule_probe(&holds, at));
        assert_eq!(errands.due(&fine, at), []);
        assert_eq!(errands.next_at(), Some(later(HOUR)));
        errands.finish_probe();
    }
}

#[test]
fn a_new_condition_restarts_the_probe_delays_and_a_cleared_one_is_reported() {
    let mut errands = idle_schedule();
    let clock = set_of(&[Condition::Clock]);
    assert!(!errands.schedule_probe(&clock, now()));
    assert_eq!(errands.next_at(), Some(later(MINUTE / 2)));
    // A second one, with a quicker pace.
    let both = set_of(&[Condition::Clock, Condition::Provider]);
    assert!(!errands.schedule_probe(&both, now()));
    assert_eq!(errands.next_at(), Some(later(MINUTE / 60)));
    // One of them passes, then the other.
    assert!(errands.schedule_probe(&clock, now()));
    assert!(errands.schedule_probe(&set_of(&[]), now()));
    assert_eq!(errands.next_at(), Some(later(HOUR)));
    assert!(!errands.schedule_probe(&set_of(&[]), now()));
    // The next one begins at the first pace again.
    assert!(!errands.schedule_probe(&set_of(&[Condition::Provider]), now()));
    assert_eq!(errands.next_at(), Some(later(MINUTE / 60)));
}

#[test]
fn active_conditions_suspend_reconciliation() {
    let mut errands = idle_schedule();
    errands.reconcile_now(now());
    assert_eq!(errands.next_at(), Some(now()));
    errands.schedule_probe(&set_of(&[Condition::Provider]), now());
    assert_eq!(errands.next_at(), Some(later(MINUTE / 60)));
}

#[test]
fn a_backward_clock_jump_makes_all_maintenance_due() {
    let mut errands = idle_schedule();
    errands.schedule_follow_ups(later(HOUR * 24));
    errands.schedule_probe(&set_of(&[Condition::Organization]), later(HOUR * 24));
    errands.drift_check_at = later(HOUR * 24);
    errands.reschedule_all(now());
    let due = errands.due(&Conditions::default(), now());
    assert_eq!(
        due,
        [
            MaintenanceTask::Probe,
            MaintenanceTask::Reconciliation,
            MaintenanceTask::DriftCheck
        ]
    );
    // What was not planned is not done.
    let mut errands = idle_schedule();
    errands.reschedule_all(now());
    let due = errands.due(&Conditions::default(), now());
    assert_eq!(
        due,
        [MaintenanceTask::Reconciliation, MaintenanceTask::DriftCheck]
    );
}

/// What is planned at the start, so long after a sweep.
async fn at_start(rows: Vec<Change>, course: RunMode, after: Duration) -> MaintenanceSchedule {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(vec![(key(), rows)]).await;
    fakes.advance_clock(after);
    fakes.open_engine(Vec::new(), course).await.maintenance
}

#[tokio::test]
async fn a_daemon_reconciles_at_start_and_commands_when_stale() {
    let lately = HOUR * 24;
    let long = HOUR * 24 * 1_000;
    for (course, after, compares) in [
        (RunMode::Daemon, lately, true),
        (RunMode::Once, lately, false),
        (RunMode::Command, lately, false),
        (RunMode::Daemon, long, true),
        (RunMode::Once, long, true),
        (RunMode::Command, long, true),
    ] {
        let errands = at_start(Vec::new(), course, after).await;
        assert_eq!(
            errands.regular_at.is_some(),
            compares,
            "{course:?} {after:?}"
        );
        assert_eq!(
            errands.reconciled_at.is_none(),
            compares,
            "{course:?} {after:?}"
        );
        let looks_now = errands.drift_check_at == time::after(at(), after);
        assert_eq!(looks_now, course != RunMode::Command);
    }
}

#[tokio::test]
async fn recent_unknown_creates_schedule_follow_ups() {
    let mut rows = intended(1);
    rows.push(transitioned(1, LifecycleEvent::LabelNotFound));
    let errands = at_start(rows.clone(), RunMode::Once, MINUTE).await;
    assert_eq!(errands.reconciled_at, None);
    assert!(errands.regular_at.is_some());
    assert_eq!(errands.extra_reconciliations.len(), FOLLOW_UP_DELAYS.len());
    let errands = at_start(rows, RunMode::Once, HOUR * 2).await;
    assert!(errands.reconciled_at.is_some());
    assert_eq!(errands.next_reconciliation(), None);
}
