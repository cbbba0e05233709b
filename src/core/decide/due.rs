//! When a key is due: a pure function of the configuration, the ledger and the
//! time.
//!
//! Deliberately not here: what else delays a due key besides its own `retry_at`,
//! such as a condition.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::change::{Change, DowntimeReason, TimetableChange};
use crate::core::ids::SinkId;
use crate::core::lifecycle::Phase;
use crate::core::policy::{InitialRotation, KeyPolicy, SinkHold, plausible_retry, sink_hold};
use crate::core::schedule::timetable::Timetable;
use crate::core::state::{DeliveryState, KeyState, Rotation, Trigger};
use crate::core::time;

/// Whether a rotation of a key is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// No rotation is due now.
    NotDue {
        /// When one is due; none if never, or if a rotation is open.
        next: Option<Timestamp>,
    },
    /// A missed run is too old to be made up for: record that, and decide again.
    MissedRunSkipped {
        /// The missed run.
        firing: Timestamp,
        /// Why it was missed.
        reason: DowntimeReason,
    },
    /// A rotation is due now.
    Now {
        /// When it became due.
        since: Timestamp,
        /// The run of the timetable that it is for.
        scheduled_for: Option<Timestamp>,
        /// Why it is due.
        trigger: Trigger,
        /// Why that run was missed, if it was.
        missed_reason: Option<DowntimeReason>,
    },
}

/// A time in which no process could start a scheduled run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Downtime {
    /// Its start.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// Its cause.
    pub reason: DowntimeReason,
}

impl Downtime {
    /// Returns the downtime before a process that started at `at`.
    #[must_use]
    pub const fn before_start(at: Timestamp) -> Self {
        Self {
            from: Timestamp::MIN,
            to: at,
            reason: DowntimeReason::NotRunning,
        }
    }

    /// Returns an empty downtime, for a command that only reads and knows of none.
    #[must_use]
    pub const fn none(now: Timestamp) -> Self {
        Self {
            from: now,
            to: now,
            reason: DowntimeReason::NotRunning,
        }
    }
}

/// Decides whether a rotation of a key is due at `now`. `required` are the key's
/// required sinks, and `downtime` is the latest one.
#[must_use]
pub fn check_due(
    policy: &KeyPolicy,
    required: &[SinkId],
    state: &KeyState,
    downtime: Downtime,
    now: Timestamp,
) -> Due {
    if state.open_rotation().is_some() {
        return Due::NotDue { next: None };
    }
    let downtime = Downtime {
        to: downtime.to.min(now),
        ..downtime
    };
    let expiry_due = state.current().and_then(last_quarter_start);
    // The consumers have no working credential, or soon have none: neither a pause
    // nor `catch-up-window` delays the rotation.
    let is_urgent = expiry_due.is_some_and(|at| at <= now) || state.has_lost_credential();
    let retry_at = plausible_retry(state.retry_at, now);
    let (trigger, firing) = match find_candidate(policy, required, state, downtime, now) {
        _ if is_urgent => (Trigger::Repair, None),
        _ if state.is_paused(now) => {
            let until = state.pause.and_then(|pause| pause.until);
            let next = until.into_iter().chain(expiry_due).min();
            return Due::NotDue { next };
        }
        DueCandidate::NotDue { next } => {
            let next = next.into_iter().chain(expiry_due).min();
            let next = next.map(|next| retry_at.map_or(next, |retry| retry.max(next)));
            return Due::NotDue { next };
        }
        DueCandidate::MissedRunSkipped { firing, reason } => {
            return Due::MissedRunSkipped { firing, reason };
        }
        DueCandidate::Triggered { trigger, firing } => (trigger, firing),
    };
    let scheduled_for = firing.map(|firing| firing.at);
    match retry_at {
        Some(at) if at > now => Due::NotDue { next: Some(at) },
        Some(_) | None => Due::Now {
            since: scheduled_for.max(retry_at).unwrap_or(downtime.to),
            scheduled_for,
            trigger,
            missed_reason: firing.and_then(|firing| firing.missed_reason),
        },
    }
}

/// Whether and why a rotation is due, regardless of pause and back-off.
enum DueCandidate {
    NotDue {
        next: Option<Timestamp>,
    },
    MissedRunSkipped {
        firing: Timestamp,
        reason: DowntimeReason,
    },
    Triggered {
        trigger: Trigger,
        firing: Option<DueFiring>,
    },
}

/// A scheduled run that is due.
#[derive(Debug, Clone, Copy)]
struct DueFiring {
    at: Timestamp,
    missed_reason: Option<DowntimeReason>,
}

fn find_candidate(
    policy: &KeyPolicy,
    required: &[SinkId],
    state: &KeyState,
    downtime: Downtime,
    now: Timestamp,
) -> DueCandidate {
    let triggered = |trigger, firing| DueCandidate::Triggered { trigger, firing };
    let Some(current) = state.current() else {
        return match (state.newest_phase, policy.initial_rotation) {
            (Some(newest), _) => triggered(trigger_without_current(newest), None),
            (None, InitialRotation::Now) => triggered(Trigger::First, None),
            (None, InitialRotation::Scheduled) => {
                match schedule_candidate(policy, state, downtime, now) {
                    DueCandidate::Triggered { firing, .. } => triggered(Trigger::First, firing),
                    candidate @ (DueCandidate::NotDue { .. }
                    | DueCandidate::MissedRunSkipped { .. }) => candidate,
                }
            }
        };
    };
    if needs_repair(current, required, state, policy.overlap) {
        return triggered(Trigger::Repair, None);
    }
    let by_schedule = schedule_candidate(policy, state, downtime, now);
    if state.sequence > current.sequence && state.newest_phase.is_some_and(is_unsuccessful) {
        let firing = match by_schedule {
            DueCandidate::Triggered { firing, .. } => firing,
            DueCandidate::NotDue { .. } | DueCandidate::MissedRunSkipped { .. } => None,
        };
        return triggered(Trigger::Retry, firing);
    }
    by_schedule
}

/// Returns the last run that is due and not yet made up for.
fn schedule_candidate(
    policy: &KeyPolicy,
    state: &KeyState,
    downtime: Downtime,
    now: Timestamp,
) -> DueCandidate {
    // The runs of a new key count from now on.
    let since = counted_from(state, downtime.to, now).unwrap_or(now);
    let firings = policy
        .timetable
        .firings_from(age_origin_or(state, since, now));
    let Some(firing) = firings.last_between(since, now).or(state.pending_run) else {
        let next = firings.next_after(since.max(now));
        return DueCandidate::NotDue { next };
    };
    let missed = find_downtime(firing, state, downtime, now);
    if let (Some((reason, until)), Some(window)) = (missed, policy.catch_up_window)
        && time::until(firing, until) > window
    {
        return DueCandidate::MissedRunSkipped { firing, reason };
    }
    let trigger = if missed.is_some() {
        Trigger::CatchUp
    } else {
        Trigger::Schedule
    };
    DueCandidate::Triggered {
        trigger,
        firing: Some(DueFiring {
            at: firing,
            missed_reason: missed.map(|(reason, _)| reason),
        }),
    }
}

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

/// Returns why a run was missed, and when the downtime ended.
fn find_downtime(
    firing: Timestamp,
    state: &KeyState,
    downtime: Downtime,
    now: Timestamp,
) -> Option<(DowntimeReason, Timestamp)> {
    let pause = state.pause.and_then(|pause| {
        Some(Downtime {
            from: time::before(pause.from, Duration::from_secs(1)),
            to: pause.until.filter(|until| *until <= now)?,
            reason: DowntimeReason::Paused,
        })
    });
    [Some(downtime), pause]
        .into_iter()
        .flatten()
        .filter(|downtime| downtime.from < firing && firing < downtime.to)
        .map(|downtime| (downtime.reason, downtime.to))
        .max_by_key(|(_, until)| *until)
}

/// Returns the time after which runs count; none for a key that was never rotated
/// and has no recorded timetable. A recorded time in the implausible future is
/// ignored, because the key would not rotate before it: runs count from the end of
/// the downtime then, and the next rotation corrects the record.
fn counted_from(state: &KeyState, downtime_end: Timestamp, now: Timestamp) -> Option<Timestamp> {
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
fn age_origin_or(state: &KeyState, since: Timestamp, now: Timestamp) -> Timestamp {
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

/// Returns when the current credential of a key expires, if that is so soon that
/// its successor should exist already.
#[must_use]
pub fn imminent_expiry(state: &KeyState, now: Timestamp) -> Option<Timestamp> {
    let current = state.current()?;
    let is_imminent = last_quarter_start(current).is_some_and(|at| at <= now);
    let expires_at = current.credential.as_ref()?.expires_at;
    expires_at.filter(|_| is_imminent)
}

/// Returns when the last quarter of the life of a key's current credential begins,
/// and when the credential expires; none if it never does.
#[must_use]
pub fn expiry_window(state: &KeyState) -> Option<(Timestamp, Timestamp)> {
    let current = state.current()?;
    let end = current.credential.as_ref()?.expires_at?;
    Some((last_quarter_start(current)?, end))
}

/// Returns when the last quarter of a credential's life begins, if it expires. Its
/// successor is created then, so that failures have time to pass.
fn last_quarter_start(current: &Rotation) -> Option<Timestamp> {
    let credential = current.credential.as_ref()?;
    let end = credential.expires_at?;
    let begin = credential.created_at.unwrap_or(current.started_at);
    Some(time::before(end, time::until(begin, end) / 4))
}

/// Returns why a key without a current credential is due, by the phase of its
/// newest rotation.
fn trigger_without_current(newest: Phase) -> Trigger {
    match newest {
        Phase::Failed | Phase::Orphaned => Trigger::Retry,
        Phase::Intended
        | Phase::Created
        | Phase::Verified
        | Phase::Current
        | Phase::Retired
        | Phase::Stranded
        | Phase::Revoked => Trigger::Repair,
    }
}

fn is_unsuccessful(newest: Phase) -> bool {
    match newest {
        Phase::Failed | Phase::Orphaned | Phase::Revoked => true,
        Phase::Intended
        | Phase::Created
        | Phase::Verified
        | Phase::Current
        | Phase::Retired
        | Phase::Stranded => false,
    }
}

/// Returns whether the current credential needs a repair: a required sink has not
/// accepted it, or a stranded credential waits for a newer one.
fn needs_repair(
    current: &Rotation,
    required: &[SinkId],
    state: &KeyState,
    overlap: Duration,
) -> bool {
    let accepted = |sink: &SinkId| {
        current
            .deliveries
            .iter()
            .any(|delivery| delivery.sink == *sink && delivery.state == DeliveryState::Accepted)
    };
    let adopted = current.trigger == Trigger::Adopted;
    let mut stranded = state
        .live
        .iter()
        .filter(|rotation| rotation.phase == Phase::Stranded);
    (!adopted && !required.iter().all(accepted))
        || stranded.any(|stranded| {
            stranded.sequence > current.sequence
                || is_held_by_configured_sink(stranded, required, state, overlap)
        })
}

/// Returns whether a configured sink may hold the secret of `stranded`
/// indefinitely. Removed sinks do not count: they never accept a newer secret, and
/// the key would stay due for ever.
fn is_held_by_configured_sink(
    stranded: &Rotation,
    required: &[SinkId],
    state: &KeyState,
    overlap: Duration,
) -> bool {
    let mut configured = stranded.clone();
    configured
        .deliveries
        .retain(|delivery| required.contains(&delivery.sink));
    sink_hold(&configured, state, overlap) == SinkHold::Indefinite
}

#[cfg(test)]
mod tests;
