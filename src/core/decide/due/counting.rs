//! Which runs of a timetable count for a key: from when, and by which timetable.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::change::{Change, TimetableChange};
use crate::core::decide::due::downtime::Downtime;
use crate::core::policy::{InitialRotation, KeyPolicy};
use crate::core::schedule::timetable::{Timetable, spread_delay};
use crate::core::state::{KeyState, Trigger};
use crate::core::time;

/// Returns the first run that counts, whether or not it is due; a pending run of
/// the previous timetable is earlier.
pub(crate) fn first_firing(
    policy: &KeyPolicy,
    state: &KeyState,
    now: Timestamp,
) -> Option<Timestamp> {
    if let Some(run) = first_run_by_age(policy, state) {
        return Some(run);
    }
    let since = counted_from(state, now, now).unwrap_or(now);
    let firings = policy
        .timetable
        .firings_from(age_origin_or(state, since, now));
    let next = firings.next_after(since);
    next.into_iter().chain(state.pending_run).min()
}

/// Returns the recorded run of a timetable by age, before which no other counts. For a
/// credential that was adopted past its age, it is the time of the adoption until the
/// daemon has recorded a run.
pub(super) fn first_run_by_age(policy: &KeyPolicy, state: &KeyState) -> Option<Timestamp> {
    let max_age = policy.timetable.max_age()?;
    state
        .pending_run
        .or_else(|| adopted_past_age(max_age, state))
}

/// Returns the first second after the current credential was adopted, if it was older
/// than `max_age` then and no run was recorded or skipped since.
fn adopted_past_age(max_age: Duration, state: &KeyState) -> Option<Timestamp> {
    let current = state.current()?;
    let adopted_at = current.started_at;
    let is_counted = state.pending_run.is_some() || state.counts_from > Some(adopted_at);
    let is_adopted = current.trigger == Trigger::Adopted && !is_counted;
    // A skipped run is later than the adoption, so that it is not due again.
    let run = time::after(adopted_at, Duration::from_secs(1));
    (is_adopted && is_past_age(max_age, state, adopted_at)).then_some(run)
}

/// Returns whether the current credential of a key is older than `max_age`.
fn is_past_age(max_age: Duration, state: &KeyState, now: Timestamp) -> bool {
    let due_at = time::after(age_origin_or(state, now, now), max_age);
    state.current().is_some() && due_at <= now
}

/// Returns whether a key may fall due together with others as soon as their ages count:
/// its credential is past its age, or nothing is recorded of the key, as before it
/// adopts one.
#[must_use]
pub fn may_fall_due_with_others(policy: &KeyPolicy, state: &KeyState, now: Timestamp) -> bool {
    let Some(max_age) = policy.timetable.max_age() else {
        return false;
    };
    state.newest_phase.is_none() || is_past_age(max_age, state, now)
}

/// Returns the first run of a credential that was past its age at `from`, when its age
/// began to count. Many that fall due together are spread over one interval; a single
/// one is due at once.
fn spread_run(
    max_age: Duration,
    state: &KeyState,
    has_others_due: bool,
    from: Timestamp,
) -> Timestamp {
    let delay = if has_others_due {
        spread_delay(&state.key, max_age)
    } else {
        Duration::ZERO
    };
    time::whole_seconds(time::after(from, delay))
}

/// Returns the time after which runs count; none for a key that was never rotated
/// and has no recorded timetable. A recorded time in the implausible future is
/// ignored, because the key would not rotate before it: runs count from the end of
/// the downtime then, and the next rotation corrects the record.
pub(super) fn counted_from(
    state: &KeyState,
    downtime_end: Timestamp,
    now: Timestamp,
) -> Option<Timestamp> {
    let is_plausible = |at: Timestamp| at <= time::after(now, time::CLOCK_TOLERANCE);
    let started = state.current().map(|current| current.started_at);
    let started = started.map(|at| if is_plausible(at) { at } else { downtime_end });
    // Without a rotation either, only the end of the downtime is known.
    let fallback = started.map_or(downtime_end, |_| Timestamp::MIN);
    let counts_from = state
        .counts_from
        .map(|at| if is_plausible(at) { at } else { fallback });
    started.max(counts_from)
}

/// Returns the time from which the age of the current credential counts: its
/// creation by the provider's clock if that is plausible, and otherwise `since`.
pub(super) fn age_origin_or(state: &KeyState, since: Timestamp, now: Timestamp) -> Timestamp {
    let current = state.current();
    let created_at = current.and_then(|current| {
        let credential = current.credential.as_ref()?;
        credential.created_at.or(Some(current.started_at))
    });
    created_at
        .filter(|created_at| *created_at <= time::after(now, time::CLOCK_TOLERANCE))
        .unwrap_or(since)
}

/// Returns the time from which people are shown the runs of a key that rotates by
/// the age of its credential: one age before a recorded run that is to come, and
/// otherwise the creation of the credential.
#[must_use]
pub fn age_origin(policy: &KeyPolicy, state: &KeyState, now: Timestamp) -> Timestamp {
    let to_come = first_run_by_age(policy, state).filter(|run| *run > now);
    match (policy.timetable.max_age(), to_come) {
        (Some(max_age), Some(run)) => time::before(run, max_age),
        (None, _) | (_, None) => age_origin_or(state, now, now),
    }
}

/// Returns the change to record before the runs of a key are counted by `policy`, if its
/// timetable changed. Runs before the new timetable was recorded do not count. A missed run
/// of the previous timetable, which `parse` reads, still leads to a rotation. A credential
/// that is past its age when its age begins to count, because it was adopted or the
/// timetable changed, gets a run of its own: see `spread_run`.
#[must_use]
pub fn timetable_change(
    policy: &KeyPolicy,
    state: &KeyState,
    downtime: Downtime,
    has_others_due: bool,
    parse: impl FnOnce(&str) -> Option<Timetable>,
    now: Timestamp,
) -> Option<Change> {
    let timetable = &policy.timetable;
    let change = |counts_from: Option<Timestamp>, pending_run| {
        Some(Change::from(TimetableChange {
            timetable: timetable.to_text(),
            counts_from: counts_from.map(time::whole_seconds),
            pending_run,
        }))
    };
    let max_age = timetable.max_age();
    match &state.timetable {
        Some(previous) if timetable.matches_text(previous) => {
            let max_age = max_age?;
            let from = adopted_past_age(max_age, state)?;
            let run = spread_run(max_age, state, has_others_due, from);
            change(state.counts_from, Some(run))
        }
        // It is recorded with the first intent.
        None if state.newest_phase.is_none() && policy.initial_rotation == InitialRotation::Now => {
            None
        }
        None if state.newest_phase.is_none() => change(Some(now), None),
        // An earlier release wrote this ledger without timetables.
        None => change(state.counts_from, state.pending_run),
        Some(previous) => {
            let missed = parse(previous).and_then(|timetable| {
                let since = counted_from(state, downtime.to, now)?;
                let firings = timetable.firings_from(age_origin_or(state, since, now));
                firings.last_between(since, now)
            });
            // A run that is to come belongs to the previous timetable alone.
            let missed = missed.or(state.pending_run.filter(|run| *run <= now));
            let past_age = max_age.filter(|max_age| is_past_age(*max_age, state, now));
            let spread = past_age.map(|max_age| spread_run(max_age, state, has_others_due, now));
            change(Some(now), missed.or(spread))
        }
    }
}
