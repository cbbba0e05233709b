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
    /// Not now.
    NotDue {
        /// When it is; none if never, or if one is open.
        next: Option<Timestamp>,
    },
    /// A missed run is too old to be made up for: that is recorded, and then it is
    /// decided again.
    MissedRunSkipped {
        /// The missed run.
        firing: Timestamp,
        /// Why it was missed.
        reason: DowntimeReason,
    },
    /// Now.
    Now {
        /// Since when.
        since: Timestamp,
        /// For which run of its timetable.
        scheduled_for: Option<Timestamp>,
        /// Why.
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
    /// Why.
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

    /// Returns the downtime for a command that only reads at `now`, and cannot know
    /// of others.
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
/// required sinks, and `absence` is the last downtime.
#[must_use]
pub fn check_due(
    policy: &KeyPolicy,
    required: &[SinkId],
    state: &KeyState,
    absence: Downtime,
    now: Timestamp,
) -> Due {
    if state.open_rotation().is_some() {
        return Due::NotDue { next: None };
    }
    let absence = Downtime {
        to: absence.to.min(now),
        ..absence
    };
    let ends = state.current().and_then(last_quarter_start);
    // Consumers that have no working credential, or soon have none: neither a
    // pause nor a window delays the rotation.
    let in_spite = ends.is_some_and(|at| at <= now) || state.has_lost_credential();
    let retry_at = plausible_retry(state.retry_at, now);
    let (trigger, firing) = match find_candidate(policy, required, state, absence, now) {
        _ if in_spite => (Trigger::Repair, None),
        _ if state.is_paused(now) => {
            let until = state.pause.and_then(|pause| pause.until);
            let next = until.into_iter().chain(ends).min();
            return Due::NotDue { next };
        }
        DueCandidate::NotDue { next } => {
            let next = next.into_iter().chain(ends).min();
            let next = next.map(|next| retry_at.map_or(next, |retry| retry.max(next)));
            return Due::NotDue { next };
        }
        DueCandidate::MissedRunSkipped {
            firing,
            reason: why,
        } => {
            return Due::MissedRunSkipped {
                firing,
                reason: why,
            };
        }
        DueCandidate::Triggered { trigger, firing } => (trigger, firing),
    };
    let scheduled_for = firing.map(|firing| firing.at);
    match retry_at {
        Some(at) if at > now => Due::NotDue { next: Some(at) },
        Some(_) | None => Due::Now {
            since: scheduled_for.max(retry_at).unwrap_or(absence.to),
            scheduled_for,
            trigger,
            missed_reason: firing.and_then(|firing| firing.missed_reason),
        },
    }
}

/// Why a rotation is due, without regard to pause and back-off.
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
    absence: Downtime,
    now: Timestamp,
) -> DueCandidate {
    let reason = |trigger, firing| DueCandidate::Triggered { trigger, firing };
    let Some(current) = state.current() else {
        return match (state.newest_phase, policy.initial_rotation) {
            (Some(newest), _) => reason(trigger_without_current(newest), None),
            (None, InitialRotation::Now) => reason(Trigger::First, None),
            (None, InitialRotation::Scheduled) => {
                match schedule_candidate(policy, state, absence, now) {
                    DueCandidate::Triggered { firing, .. } => reason(Trigger::First, firing),
                    found @ (DueCandidate::NotDue { .. }
                    | DueCandidate::MissedRunSkipped { .. }) => found,
                }
            }
        };
    };
    if needs_repair(current, required, state, policy.overlap) {
        return reason(Trigger::Repair, None);
    }
    let counted = schedule_candidate(policy, state, absence, now);
    if state.sequence > current.sequence && state.newest_phase.is_some_and(is_unsuccessful) {
        let firing = match counted {
            DueCandidate::Triggered { firing, .. } => firing,
            DueCandidate::NotDue { .. } | DueCandidate::MissedRunSkipped { .. } => None,
        };
        return reason(Trigger::Retry, firing);
    }
    counted
}

/// Returns the last run that is due and was not made up for.
fn schedule_candidate(
    policy: &KeyPolicy,
    state: &KeyState,
    absence: Downtime,
    now: Timestamp,
) -> DueCandidate {
    // The runs of a key that was never seen before count from now.
    let since = counted_from(state, absence.to, now).unwrap_or(now);
    let firings = policy
        .timetable
        .firings_from(age_origin_or(state, since, now));
    let Some(firing) = firings.last_between(since, now).or(state.pending_run) else {
        let next = firings.next_after(since.max(now));
        return DueCandidate::NotDue { next };
    };
    let missed = find_downtime(firing, state, absence, now);
    if let (Some((why, until)), Some(window)) = (missed, policy.catch_up_window)
        && time::until(firing, until) > window
    {
        return DueCandidate::MissedRunSkipped {
            firing,
            reason: why,
        };
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
            missed_reason: missed.map(|(why, _)| why),
        }),
    }
}

/// Returns the first run that counts, whether or not it is due; a pending run of
/// the timetable before is older.
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
    absence: Downtime,
    now: Timestamp,
) -> Option<(DowntimeReason, Timestamp)> {
    let pause = state.pause.and_then(|pause| {
        Some(Downtime {
            from: time::before(pause.from, Duration::from_secs(1)),
            to: pause.until.filter(|until| *until <= now)?,
            reason: DowntimeReason::Paused,
        })
    });
    [Some(absence), pause]
        .into_iter()
        .flatten()
        .filter(|absence| absence.from < firing && firing < absence.to)
        .map(|absence| (absence.reason, absence.to))
        .max_by_key(|(_, until)| *until)
}

/// Returns the time after which runs count; none for a key that was never rotated
/// and whose first sight was not recorded. A row from an implausible future is
/// ignored: runs count from the end of the downtime, and the next rotation
/// corrects it. Otherwise the key would not rotate until that date.
fn counted_from(state: &KeyState, watching_since: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let believed = |at: Timestamp| at <= time::after(now, time::CLOCK_TOLERANCE);
    let started = state.current().map(|current| current.started_at);
    let started = started.map(|at| if believed(at) { at } else { watching_since });
    // Without a rotation either, only the downtime says from when runs count.
    let otherwise = started.map_or(watching_since, |_| Timestamp::MIN);
    let counts_from = state
        .counts_from
        .map(|at| if believed(at) { at } else { otherwise });
    started.max(counts_from)
}

/// Returns from when the age of the current credential counts: its creation by
/// the provider's clock, if that is plausible.
fn age_origin_or(state: &KeyState, since: Timestamp, now: Timestamp) -> Timestamp {
    let current = state.current();
    let born = current.and_then(|current| {
        let credential = current.credential.as_ref()?;
        credential.created_at.or(Some(current.started_at))
    });
    born.filter(|born| *born <= time::after(now, time::CLOCK_TOLERANCE))
        .unwrap_or(since)
}

/// Returns from when the runs of a key are listed for people, by the age of its
/// current credential where that counts.
#[must_use]
pub fn age_origin(state: &KeyState, now: Timestamp) -> Timestamp {
    age_origin_or(state, now, now)
}

/// Returns the change to record before the runs of a key are counted by `policy`,
/// if its timetable changed. Runs before the new timetable was recorded do not
/// count; a due run of the timetable before, which `read` parses, is still made up
/// for.
#[must_use]
pub fn timetable_change(
    policy: &KeyPolicy,
    state: &KeyState,
    absence: Downtime,
    read: impl FnOnce(&str) -> Option<Timetable>,
    now: Timestamp,
) -> Option<Change> {
    let timetable = &policy.timetable;
    let timetabled = |counts_from: Option<Timestamp>, owed| {
        Some(Change::from(TimetableChange {
            timetable: timetable.to_text(),
            counts_from: counts_from.map(time::whole_seconds),
            pending_run: owed,
        }))
    };
    match &state.timetable {
        Some(before) if timetable.matches_text(before) => None,
        // It is recorded with the first intent.
        None if state.newest_phase.is_none() && policy.initial_rotation == InitialRotation::Now => {
            None
        }
        None if state.newest_phase.is_none() => timetabled(Some(now), None),
        // A ledger from before timetables were recorded.
        None => timetabled(state.counts_from, state.pending_run),
        Some(before) => {
            let owed = read(before).and_then(|timetable| {
                let since = counted_from(state, absence.to, now)?;
                let firings = timetable.firings_from(age_origin_or(state, since, now));
                firings.last_between(since, now)
            });
            timetabled(Some(now), owed.or(state.pending_run))
        }
    }
}

/// Returns when the current credential of a key expires, if that is so soon that
/// its successor should exist: what prevents it is urgent.
#[must_use]
pub fn imminent_expiry(state: &KeyState, now: Timestamp) -> Option<Timestamp> {
    let current = state.current()?;
    let near = last_quarter_start(current).is_some_and(|at| at <= now);
    current.credential.as_ref()?.expires_at.filter(|_| near)
}

/// Returns when the last quarter of the life of a key's current credential begins,
/// and when it expires; none if it does not.
#[must_use]
pub fn expiry_window(state: &KeyState) -> Option<(Timestamp, Timestamp)> {
    let current = state.current()?;
    let end = current.credential.as_ref()?.expires_at?;
    Some((last_quarter_start(current)?, end))
}

/// Returns when the last quarter of a credential's life begins, if it expires: its
/// successor is created while there is time for failures.
fn last_quarter_start(current: &Rotation) -> Option<Timestamp> {
    let credential = current.credential.as_ref()?;
    let end = credential.expires_at?;
    let begin = credential.created_at.unwrap_or(current.started_at);
    Some(time::before(end, time::until(begin, end) / 4))
}

/// Returns why a key without a current credential is due, by how its newest
/// rotation ended.
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

/// Returns whether a sink that a successor is delivered to may hold the secret of
/// `stranded` indefinitely. A sink that is not configured any more never accepts a
/// newer one, and the key would be due for ever.
fn is_held_by_configured_sink(
    stranded: &Rotation,
    required: &[SinkId],
    state: &KeyState,
    overlap: Duration,
) -> bool {
    let mut reached = stranded.clone();
    reached
        .deliveries
        .retain(|delivery| required.contains(&delivery.sink));
    sink_hold(&reached, state, overlap) == SinkHold::Indefinite
}

#[cfg(test)]
mod tests;
