//! The times at which the tasks are due, and what delays them.

use super::*;
use crate::core::change::Change;
use crate::core::ids::ProjectId;
use crate::core::lifecycle::LifecycleEvent;
use crate::core::scope::Scope;
use crate::engine::maintenance::reconciliation_schedule::FOLLOW_UP_DELAYS;
use crate::engine::tests::fake::{Fakes, at, key};
use crate::engine::tests::rotation_changes::{intended, transitioned};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

const LISTED: Option<Comparison> = Some(Comparison { generation: None });

fn now() -> Timestamp {
    "2026-11-24T03:00:00Z".parse().unwrap()
}

fn later(span: Duration) -> Timestamp {
    time::after(now(), span)
}

fn project() -> Scope {
    Scope::Project(ProjectId::new("proj_abc"))
}

fn reconciliation() -> MaintenanceTask {
    MaintenanceTask::Reconciliation(Scope::AdminKeys)
}

/// Returns a schedule in which only the drift check is planned, in an hour.
fn idle_schedule() -> MaintenanceSchedule {
    let scopes = [(Scope::AdminKeys, ReconciliationSchedule::default())];
    MaintenanceSchedule {
        active_conditions: BTreeSet::new(),
        probe_at: None,
        is_probing: false,
        probe_attempts: 0,
        requests_paused_until: None,
        scopes: scopes.into(),
        drift_check_at: later(HOUR),
    }
}

fn set_of(conditions: &[Condition]) -> BTreeSet<ConditionKey> {
    conditions
        .iter()
        .map(|condition| (*condition, None))
        .collect()
}

#[test]
fn a_later_deadline_does_not_postpone_a_reconciliation() {
    let mut schedule = idle_schedule();
    schedule.reconcile_by(later(MINUTE));
    assert_eq!(schedule.next_at(), Some(later(MINUTE)));
    schedule.reconcile_by(later(MINUTE * 2));
    assert_eq!(schedule.next_at(), Some(later(MINUTE)), "not postponed");
}

#[test]
fn a_reconciliation_is_due_at_its_time_unless_one_is_running() {
    let conditions = Conditions::default();
    let mut schedule = idle_schedule();
    schedule.schedule_follow_ups(&Scope::AdminKeys, now());
    assert_eq!(schedule.next_at(), Some(later(MINUTE)));
    assert_eq!(schedule.due(&conditions, now()), []);
    assert_eq!(schedule.due(&conditions, later(MINUTE)), [reconciliation()]);
    // While one runs, no other starts or is planned.
    schedule.reconcile_now(&Scope::AdminKeys, later(MINUTE));
    assert_eq!(schedule.due(&conditions, later(MINUTE * 20)), []);
    assert_eq!(schedule.next_at(), Some(later(HOUR)));
    assert!(schedule.finish_reconciliation(
        &Scope::AdminKeys,
        LISTED,
        HOUR * 6,
        later(MINUTE * 20)
    ));
    assert_eq!(schedule.all_reconciled_at(), Some(later(MINUTE * 20)));
    // The one after 15 minutes has waited; the one after an hour is next.
    assert_eq!(schedule.next_at(), Some(later(MINUTE * 15)));
    assert_eq!(
        schedule.due(&conditions, later(MINUTE * 20)),
        [reconciliation()]
    );
    assert!(
        !schedule.finish_reconciliation(&Scope::AdminKeys, LISTED, HOUR * 6, later(MINUTE * 21)),
        "not the first"
    );
    let at_an_hour = schedule.due(&conditions, later(HOUR));
    assert_eq!(at_an_hour, [reconciliation(), MaintenanceTask::DriftCheck]);
}

#[test]
fn failed_reconciliations_are_retried_with_backoff() {
    let conditions = Conditions::default();
    let mut schedule = idle_schedule();
    schedule.reconcile_now(&Scope::AdminKeys, now());
    let mut at = now();
    for delay in [5, 30, 60, 300, 300] {
        assert_eq!(schedule.due(&conditions, at), [reconciliation()]);
        assert!(!schedule.finish_reconciliation(&Scope::AdminKeys, None, HOUR * 6, at));
        assert_eq!(schedule.all_reconciled_at(), None);
        at = time::after(at, Duration::from_secs(delay));
        assert_eq!(schedule.next_at(), Some(at), "{delay}");
    }
    // A success resets the delays.
    assert_eq!(schedule.due(&conditions, at), [reconciliation()]);
    assert!(schedule.finish_reconciliation(&Scope::AdminKeys, LISTED, MINUTE, at));
    at = time::after(at, MINUTE);
    assert_eq!(schedule.due(&conditions, at), [reconciliation()]);
    schedule.finish_reconciliation(&Scope::AdminKeys, None, MINUTE, at);
    assert_eq!(schedule.next_at(), Some(time::after(at, MINUTE / 12)));
}

#[test]
fn extra_reconciliations_do_not_repeat() {
    let conditions = Conditions::default();
    let mut schedule = idle_schedule();
    schedule.drift_check_at = later(HOUR * 1_000);
    let interval = HOUR * 6;
    schedule.finish_reconciliation(&Scope::AdminKeys, LISTED, interval, now());
    schedule.schedule_follow_ups(&Scope::AdminKeys, now());
    for _ in 0..3 {
        schedule.reconcile_by(later(interval));
    }
    let mut minutes = Vec::new();
    for _ in 0..5 {
        let at = schedule.next_at().unwrap();
        assert_eq!(schedule.due(&conditions, at), [reconciliation()]);
        schedule.finish_reconciliation(&Scope::AdminKeys, LISTED, interval, at);
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
        let mut schedule = idle_schedule();
        schedule.reconcile_now(&Scope::AdminKeys, now());
        let due = schedule.due(&conditions, now());
        assert_eq!(due.is_empty(), waits, "{condition:?}");
    }
}

#[test]
fn drift_is_checked_every_hour() {
    let conditions = Conditions::default();
    let mut schedule = idle_schedule();
    assert_eq!(
        schedule.due(&conditions, later(HOUR)),
        [MaintenanceTask::DriftCheck]
    );
    assert_eq!(schedule.due(&conditions, later(HOUR)), []);
    assert_eq!(schedule.next_at(), Some(later(HOUR * 2)));
}

#[test]
fn one_probe_runs_at_a_time_with_backoff() {
    let conditions = Conditions::default();
    let mut schedule = idle_schedule();
    assert!(!schedule.schedule_probe(&set_of(&[]), now()));
    assert_eq!(
        schedule.next_at(),
        Some(later(HOUR)),
        "nothing to probe for"
    );
    let active = set_of(&[Condition::Provider]);
    let mut at = now();
    for delay in [1, 2, 5, 15] {
        assert!(!schedule.schedule_probe(&active, at));
        at = time::after(at, Duration::from_secs(delay));
        assert_eq!(schedule.next_at(), Some(at), "{delay}");
        // A second call does not move it.
        assert!(!schedule.schedule_probe(&active, at));
        assert_eq!(schedule.next_at(), Some(at), "{delay}");
        let before = time::before(at, Duration::from_millis(1));
        assert_eq!(schedule.due(&conditions, before), []);
        assert_eq!(schedule.due(&conditions, at), [MaintenanceTask::Probe]);
        // While the probe runs, no other starts.
        assert!(!schedule.schedule_probe(&active, at));
        assert_eq!(schedule.due(&conditions, at), []);
        assert_eq!(schedule.next_at(), Some(later(HOUR)));
        schedule.finish_probe();
    }
}

#[test]
fn a_new_condition_restarts_the_probe_delays_and_a_cleared_one_is_reported() {
    let mut schedule = idle_schedule();
    let clock = set_of(&[Condition::Clock]);
    assert!(!schedule.schedule_probe(&clock, now()));
    assert_eq!(schedule.next_at(), Some(later(MINUTE / 2)));
    // A second condition, with a shorter delay.
    let both = set_of(&[Condition::Clock, Condition::Provider]);
    assert!(!schedule.schedule_probe(&both, now()));
    assert_eq!(schedule.next_at(), Some(later(MINUTE / 60)));
    // One of them ends, then the other.
    assert!(schedule.schedule_probe(&clock, now()));
    assert!(schedule.schedule_probe(&set_of(&[]), now()));
    assert_eq!(schedule.next_at(), Some(later(HOUR)));
    assert!(!schedule.schedule_probe(&set_of(&[]), now()));
    // The next condition starts with the first delay again.
    assert!(!schedule.schedule_probe(&set_of(&[Condition::Provider]), now()));
    assert_eq!(schedule.next_at(), Some(later(MINUTE / 60)));
}

#[test]
fn active_conditions_suspend_reconciliation() {
    let mut schedule = idle_schedule();
    schedule.reconcile_now(&Scope::AdminKeys, now());
    assert_eq!(schedule.next_at(), Some(now()));
    schedule.schedule_probe(&set_of(&[Condition::Provider]), now());
    assert_eq!(schedule.next_at(), Some(later(MINUTE / 60)));
}

#[test]
fn a_backward_clock_jump_makes_all_maintenance_due() {
    let mut schedule = idle_schedule();
    schedule.schedule_follow_ups(&Scope::AdminKeys, later(HOUR * 24));
    schedule.schedule_probe(&set_of(&[Condition::Organization]), later(HOUR * 24));
    schedule.drift_check_at = later(HOUR * 24);
    schedule.reschedule_all(now());
    let due = schedule.due(&Conditions::default(), now());
    assert_eq!(
        due,
        [
            MaintenanceTask::Probe,
            reconciliation(),
            MaintenanceTask::DriftCheck
        ]
    );
    // A task that was not planned is not due.
    let mut schedule = idle_schedule();
    schedule.reschedule_all(now());
    let due = schedule.due(&Conditions::default(), now());
    assert_eq!(due, [reconciliation(), MaintenanceTask::DriftCheck]);
}

/// Returns the schedule of a process that starts this long after a reconciliation.
async fn at_start(rows: Vec<Change>, run_mode: RunMode, after: Duration) -> MaintenanceSchedule {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(vec![(key(), rows)]).await;
    fakes.advance_clock(after);
    fakes.open_engine(Vec::new(), run_mode).await.maintenance
}

#[tokio::test]
async fn a_daemon_reconciles_at_start_and_commands_when_stale() {
    let recently = HOUR * 24;
    let long_after = HOUR * 24 * 1_000;
    for (run_mode, after, reconciles) in [
        (RunMode::Daemon, recently, true),
        (RunMode::Once, recently, false),
        (RunMode::Command, recently, false),
        (RunMode::Daemon, long_after, true),
        (RunMode::Once, long_after, true),
        (RunMode::Command, long_after, true),
    ] {
        let schedule = at_start(Vec::new(), run_mode, after).await;
        assert_eq!(
            schedule.scopes[&Scope::AdminKeys].regular_at.is_some(),
            reconciles,
            "{run_mode:?} {after:?}"
        );
        assert_eq!(
            schedule.all_reconciled_at().is_none(),
            reconciles,
            "{run_mode:?} {after:?}"
        );
        let checks_drift_now = schedule.drift_check_at == time::after(at(), after);
        assert_eq!(checks_drift_now, run_mode != RunMode::Command);
    }
}

#[tokio::test]
async fn recent_unknown_creates_schedule_follow_ups() {
    let mut rows = intended(1);
    rows.push(transitioned(1, LifecycleEvent::LabelNotFound));
    let schedule = at_start(rows.clone(), RunMode::Once, MINUTE).await;
    assert_eq!(schedule.all_reconciled_at(), None);
    assert!(schedule.scopes[&Scope::AdminKeys].regular_at.is_some());
    assert_eq!(
        schedule.scopes[&Scope::AdminKeys].extra.len(),
        FOLLOW_UP_DELAYS.len()
    );
    let schedule = at_start(rows, RunMode::Once, HOUR * 2).await;
    assert!(schedule.all_reconciled_at().is_some());
    assert_eq!(schedule.scopes[&Scope::AdminKeys].next_at(), None);
}

#[test]
fn each_scope_is_reconciled_on_its_own() {
    let conditions = Conditions::default();
    let mut schedule = idle_schedule();
    schedule.add_scope(&project(), now());
    schedule.reconcile_now(&Scope::AdminKeys, now());
    let of_project = MaintenanceTask::Reconciliation(project());
    assert_eq!(
        schedule.due(&conditions, now()),
        [reconciliation(), of_project.clone()]
    );
    assert!(schedule.finish_reconciliation(&Scope::AdminKeys, LISTED, HOUR, now()));
    assert!(!schedule.finish_reconciliation(&project(), None, HOUR, now()));
    assert_eq!(schedule.reconciled_at(&Scope::AdminKeys), Some(now()));
    assert_eq!(schedule.reconciled_at(&project()), None);
    assert_eq!(schedule.all_reconciled_at(), None, "not every scope was");
    assert_eq!(schedule.last_reconciliation(), None);
    // The failed one is retried, and the other waits for its interval.
    let retry = later(Duration::from_secs(5));
    assert_eq!(schedule.next_at(), Some(retry));
    assert_eq!(schedule.due(&conditions, retry), [of_project]);
    assert!(schedule.finish_reconciliation(&project(), LISTED, HOUR, retry));
    assert_eq!(
        schedule.all_reconciled_at(),
        Some(now()),
        "the earliest of both"
    );
    // A known scope is not started again.
    schedule.add_scope(&project(), retry);
    assert_eq!(schedule.due(&conditions, retry), []);
}

#[test]
fn a_condition_of_one_scope_suspends_its_reconciliation_alone() {
    let conditions = Conditions::default();
    conditions.raise_in(&project(), Condition::Provider, "the project is archived");
    let mut schedule = idle_schedule();
    schedule.add_scope(&project(), now());
    schedule.reconcile_now(&Scope::AdminKeys, now());
    schedule.schedule_probe(&conditions.active_keys(), now());
    assert_eq!(schedule.next_at(), Some(now()));
    assert_eq!(schedule.due(&conditions, now()), [reconciliation()]);
    schedule.finish_reconciliation(&Scope::AdminKeys, LISTED, HOUR, now());
    assert_eq!(schedule.next_at(), Some(later(MINUTE / 60)), "the probe");
    conditions.clear_in(&project(), Condition::Provider);
    assert!(schedule.schedule_probe(&conditions.active_keys(), now()));
    assert_eq!(
        schedule.due(&conditions, now()),
        [MaintenanceTask::Reconciliation(project())]
    );
}
