//! Which runs of a timetable count for a key: from when, and by which timetable.

use jiff::Timestamp;

use crate::core::change::{Change, TimetableChange};
use crate::core::decide::due::downtime::Downtime;
use crate::core::policy::{InitialRotation, KeyPolicy};
use crate::core::schedule::timetable::Timetable;
use crate::core::state::KeyState;
use crate::core::time;

/// Returns the first run that counts, whether or not it is due; a pending run of
/// the previous timetable is earlier.
pub(crate) fn first_firing(
    policy: &KeyPolicy,
    state: &KeyState,
    now: Timestamp,
) -> Option<Timestamp> {
    let since = counted_from(state, now, now).unwrap_or(now);
    let firings = policy
        .timetable
        .firings_from(age_origin_or(state, since, now));
    let next = firings.next_after(since);
    next.into_iter().chain(state.pending_run).min()
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
/// the age of its credential.
#[must_use]
pub fn age_origin(state: &KeyState, now: Timestamp) -> Timestamp {
    age_origin_or(state, now, now)
}

/// Returns the change to record before the runs of a key are counted by `policy`,
/// if its timetable changed. Runs before the new timetable was recorded do not
/// count. A missed run of the previous timetable, which `parse` reads, is still
/// made up for.
#[must_use]
pub fn timetable_change(
    policy: &KeyPolicy,
    state: &KeyState,
    downtime: Downtime,
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
    match &state.timetable {
        Some(previous) if timetable.matches_text(previous) => None,
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
            change(Some(now), missed.or(state.pending_run))
        }
    }
}
