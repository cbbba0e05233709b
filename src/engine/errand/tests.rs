//! When each errand is due, and what holds it up.

use super::*;
use crate::core::change::Change;
use crate::core::rotation::Event;
use crate::engine::tests::fake::{Fakes, at, key};
use crate::engine::tests::rows::{intended, moved};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

fn now() -> Timestamp {
    "2026-11-24T03:00:00Z".parse().unwrap()
}

fn later(span: Duration) -> Timestamp {
    time::after(now(), span)
}

/// Nothing is planned but the look at the sinks, in an hour.
fn idle() -> Errands {
    Errands {
        held: BTreeSet::new(),
        probe_at: None,
        probing: false,
        probes: 0,
        regular: None,
        sweeps: BTreeSet::new(),
        sweeping: false,
        unanswered: 0,
        compared_at: None,
        last_sweep: None,
        look_at: later(HOUR),
        organization_is_right: false,
    }
}

fn held(conditions: &[Condition]) -> BTreeSet<Condition> {
    conditions.iter().copied().collect()
}

#[test]
fn a_sweep_at_a_time_puts_no_earlier_one_off() {
    let mut errands = idle();
    errands.sweep_at(later(MINUTE));
    assert_eq!(errands.next_at(), Some(later(MINUTE)));
    errands.sweep_at(later(MINUTE * 2));
    assert_eq!(errands.next_at(), Some(later(MINUTE)), "not instead");
}

#[test]
fn a_sweep_is_due_when_its_time_has_come_and_none_is_under_way() {
    let fine = Conditions::default();
    let mut errands = idle();
    errands.sweep_after_unclear(now());
    assert_eq!(errands.next_at(), Some(later(MINUTE)));
    assert_eq!(errands.due(&fine, now()), []);
    assert_eq!(errands.due(&fine, later(MINUTE)), [Errand::Sweep]);
    // While it is under way no other begins, nor is one planned.
    errands.sweep_now(later(MINUTE));
    assert_eq!(errands.due(&fine, later(MINUTE * 20)), []);
    assert_eq!(errands.next_at(), Some(later(HOUR)));
    assert!(errands.swept(true, HOUR * 6, later(MINUTE * 20)));
    assert_eq!(errands.compared_at, Some(later(MINUTE * 20)));
    // The one after a quarter of an hour has waited, that after an hour is to come.
    assert_eq!(errands.next_at(), Some(later(MINUTE * 15)));
    assert_eq!(errands.due(&fine, later(MINUTE * 20)), [Errand::Sweep]);
    assert!(
        !errands.swept(true, HOUR * 6, later(MINUTE * 21)),
        "not the first"
    );
    let at_an_hour = errands.due(&fine, later(HOUR));
    assert_eq!(at_an_hour, [Errand::Sweep, Errand::LookAtSinks]);
}

#[test]
fn a_sweep_without_an_answer_is_tried_again_soon_and_its_pace_slackens() {
    let fine = Conditions::default();
    let mut errands = idle();
    errands.sweep_now(now());
    let mut at = now();
    for pace in [5, 30, 60, 300, 300] {
        assert_eq!(errands.due(&fine, at), [Errand::Sweep]);
        assert!(!errands.swept(false, HOUR * 6, at));
        assert_eq!(errands.compared_at, None);
        at = time::after(at, Duration::from_secs(pace));
        assert_eq!(errands.next_at(), Some(at), "{pace}");
    }
    // With an answer it begins anew.
    assert_eq!(errands.due(&fine, at), [Errand::Sweep]);
    assert!(errands.swept(true, MINUTE, at));
    at = time::after(at, MINUTE);
    assert_eq!(errands.due(&fine, at), [Errand::Sweep]);
    errands.swept(false, MINUTE, at);
    assert_eq!(errands.next_at(), Some(time::after(at, MINUTE / 12)));
}

#[test]
fn sweeps_for_a_reason_have_no_successors_of_their_own() {
    let fine = Conditions::default();
    let mut errands = idle();
    errands.look_at = later(HOUR * 1_000);
    let every = HOUR * 6;
    errands.swept(true, every, now());
    errands.sweep_after_unclear(now());
    for _ in 0..3 {
        errands.sweep_at(later(every));
    }
    let mut minutes = Vec::new();
    for _ in 0..5 {
        let at = errands.next_at().unwrap();
        assert_eq!(errands.due(&fine, at), [Errand::Sweep]);
        errands.swept(true, every, at);
        minutes.push(time::until(now(), at).as_secs() / 60);
    }
    assert_eq!(minutes, [1, 15, 60, 60 + 360, 60 + 720]);
}

#[test]
fn a_sweep_waits_while_nobody_could_answer_or_record_it() {
    for (condition, waits) in [
        (Condition::Provider, true),
        (Condition::Credential, true),
        (Condition::Ledger, true),
        (Condition::Clock, false),
        (Condition::Organization, false),
    ] {
        let conditions = Conditions::default();
        conditions.raise(condition, "why");
        let mut errands = idle();
        errands.sweep_now(now());
        let due = errands.due(&conditions, now());
        assert_eq!(due.is_empty(), waits, "{condition:?}");
    }
}

#[test]
fn the_sinks_are_looked_at_every_hour() {
    let fine = Conditions::default();
    let mut errands = idle();
    assert_eq!(errands.due(&fine, later(HOUR)), [Errand::LookAtSinks]);
    assert_eq!(errands.due(&fine, later(HOUR)), []);
    assert_eq!(errands.next_at(), Some(later(HOUR * 2)));
}

#[test]
fn one_probe_runs_while_something_holds_and_its_pace_slackens() {
    let fine = Conditions::default();
    let mut errands = idle();
    assert!(!errands.plan_probe(&held(&[]), now()));
    assert_eq!(errands.next_at(), Some(later(HOUR)), "nothing to probe for");
    let holds = held(&[Condition::Provider]);
    let mut at = now();
    for pace in [1, 2, 5, 15] {
        assert!(!errands.plan_probe(&holds, at));
        at = time::after(at, Duration::from_secs(pace));
        assert_eq!(errands.next_at(), Some(at), "{pace}");
        // Asked again, it stays where it is.
        assert!(!errands.plan_probe(&holds, at));
        assert_eq!(errands.next_at(), Some(at), "{pace}");
        let before = time::before(at, Duration::from_millis(1));
        assert_eq!(errands.due(&fine, before), []);
        assert_eq!(errands.due(&fine, at), [Errand::Probe]);
        // While it runs there is no other.
        assert!(!errands.plan_probe(&holds, at));
        assert_eq!(errands.due(&fine, at), []);
        assert_eq!(errands.next_at(), Some(later(HOUR)));
        errands.probed();
    }
}

#[test]
fn what_begins_is_probed_for_at_once_and_what_passes_is_told() {
    let mut errands = idle();
    let clock = held(&[Condition::Clock]);
    assert!(!errands.plan_probe(&clock, now()));
    assert_eq!(errands.next_at(), Some(later(MINUTE / 2)));
    // A second one, with a quicker pace.
    let both = held(&[Condition::Clock, Condition::Provider]);
    assert!(!errands.plan_probe(&both, now()));
    assert_eq!(errands.next_at(), Some(later(MINUTE / 60)));
    // One of them passes, then the other.
    assert!(errands.plan_probe(&clock, now()));
    assert!(errands.plan_probe(&held(&[]), now()));
    assert_eq!(errands.next_at(), Some(later(HOUR)));
    assert!(!errands.plan_probe(&held(&[]), now()));
    // The next one begins at the first pace again.
    assert!(!errands.plan_probe(&held(&[Condition::Provider]), now()));
    assert_eq!(errands.next_at(), Some(later(MINUTE / 60)));
}

#[test]
fn while_something_holds_only_the_probe_is_waited_for() {
    let mut errands = idle();
    errands.sweep_now(now());
    assert_eq!(errands.next_at(), Some(now()));
    errands.plan_probe(&held(&[Condition::Provider]), now());
    assert_eq!(errands.next_at(), Some(later(MINUTE / 60)));
}

#[test]
fn when_the_clock_was_set_back_everything_planned_is_done_now() {
    let mut errands = idle();
    errands.sweep_after_unclear(later(HOUR * 24));
    errands.plan_probe(&held(&[Condition::Organization]), later(HOUR * 24));
    errands.look_at = later(HOUR * 24);
    errands.plan_anew(now());
    let due = errands.due(&Conditions::default(), now());
    assert_eq!(due, [Errand::Probe, Errand::Sweep, Errand::LookAtSinks]);
    // What was not planned is not done.
    let mut errands = idle();
    errands.plan_anew(now());
    let due = errands.due(&Conditions::default(), now());
    assert_eq!(due, [Errand::Sweep, Errand::LookAtSinks]);
}

/// What is planned at the start, so long after a sweep.
async fn at_start(rows: Vec<Change>, course: Course, after: Duration) -> Errands {
    let fakes = Fakes::new(&[]);
    fakes.ledger(vec![(key(), rows)]).await;
    fakes.move_on(after);
    fakes.open(Vec::new(), course).await.errands
}

#[tokio::test]
async fn a_daemon_compares_at_start_and_others_if_it_is_long_ago() {
    let lately = HOUR * 24;
    let long = HOUR * 24 * 1_000;
    for (course, after, compares) in [
        (Course::Daemon, lately, true),
        (Course::Once, lately, false),
        (Course::ByHand, lately, false),
        (Course::Daemon, long, true),
        (Course::Once, long, true),
        (Course::ByHand, long, true),
    ] {
        let errands = at_start(Vec::new(), course, after).await;
        assert_eq!(errands.regular.is_some(), compares, "{course:?} {after:?}");
        assert_eq!(
            errands.compared_at.is_none(),
            compares,
            "{course:?} {after:?}"
        );
        let looks_now = errands.look_at == time::after(at(), after);
        assert_eq!(looks_now, course != Course::ByHand);
    }
}

#[tokio::test]
async fn what_was_unclear_lately_is_compared_again() {
    let mut rows = intended(1);
    rows.push(moved(1, Event::LabelNotFound));
    let errands = at_start(rows.clone(), Course::Once, MINUTE).await;
    assert_eq!(errands.compared_at, None);
    assert!(errands.regular.is_some());
    assert_eq!(errands.sweeps.len(), AFTER_UNCLEAR.len());
    let errands = at_start(rows, Course::Once, HOUR * 2).await;
    assert!(errands.compared_at.is_some());
    assert_eq!(errands.next_sweep(), None);
}
