//! When a key is due: a pure function of the configuration, the ledger and the
//! time.
//!
//! Deliberately not here: what else delays a due key besides its own `retry_at`,
//! such as a condition.

mod counting;
mod downtime;
mod expiry;

use std::time::Duration;

use jiff::Timestamp;

pub(crate) use self::counting::first_firing;
pub use self::counting::{age_origin, may_fall_due_with_others, timetable_change};
use self::counting::{age_origin_or, counted_from, first_run_by_age};
pub use self::downtime::Downtime;
use self::downtime::find_downtime;
use self::expiry::last_quarter_start;
pub use self::expiry::{expiry_window, imminent_expiry};
use crate::core::change::DowntimeReason;
use crate::core::decide::revocation::wants_successor;
use crate::core::ids::SinkId;
use crate::core::lifecycle::Phase;
use crate::core::policy::{InitialRotation, KeyPolicy, SinkHold, plausible_retry, sink_hold};
use crate::core::state::{DeliveryState, KeyState, Rotation, Trigger};
use crate::core::time;

/// Whether a rotation of a key is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// No rotation is due now.
    NotDue {
        /// When one is due; none if never, if a rotation is open, or if the key is retired.
        next: Option<Timestamp>,
    },
    /// A missed run is older than `catch-up-window`: record that, and decide again.
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
    if state.open_rotation().is_some() || state.is_retired() {
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
    let is_leaked = wants_successor(state);
    let retry_at = plausible_retry(state.retry_at, now);
    let (trigger, firing) = match find_candidate(policy, required, state, downtime, now) {
        _ if is_leaked => (Trigger::Manual, None),
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

/// Returns the last run that is due and that no rotation has followed yet.
fn schedule_candidate(
    policy: &KeyPolicy,
    state: &KeyState,
    downtime: Downtime,
    now: Timestamp,
) -> DueCandidate {
    let first_by_age = first_run_by_age(policy, state);
    // A clock that was ahead may have recorded one that is still to come.
    let due_run = state.due_run.filter(|run| *run <= now);
    if let Some(run) = first_by_age.filter(|run| *run > now && due_run.is_none()) {
        return DueCandidate::NotDue { next: Some(run) };
    }
    let first_by_age = first_by_age.filter(|run| *run <= now);
    // The runs of a new key count from now on.
    let since = counted_from(state, downtime.to, now).unwrap_or(now);
    let firings = policy
        .timetable
        .firings_from(age_origin_or(state, since, now));
    let last = firings.last_between(since, now);
    let Some(firing) = last
        .max(first_by_age)
        .or(state.pending_run.filter(|run| *run <= now))
        .or(due_run)
    else {
        let next = firings.next_after(since.max(now));
        return DueCandidate::NotDue { next };
    };
    let missed = find_downtime(firing, state, downtime, now);
    if let (Some((reason, until)), Some(window)) = (missed, policy.catch_up_window)
        && time::until(firing, until) > window
    {
        // One that was due while a process ran still is, whatever was missed since.
        return match due_run {
            Some(due) => DueCandidate::Triggered {
                trigger: Trigger::Schedule,
                firing: Some(DueFiring {
                    at: due,
                    missed_reason: None,
                }),
            },
            None => DueCandidate::MissedRunSkipped { firing, reason },
        };
    }
    let missed = missed.filter(|_| due_run != Some(firing));
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
/// accepted it or no longer holds it, or a stranded credential waits for a newer one. An
/// adopted one needs none in a sink that was never seen to hold it.
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
    let has_lost = |sink: &SinkId| {
        let mut deliveries = current.deliveries.iter();
        deliveries.any(|delivery| delivery.sink == *sink && delivery.has_drifted())
    };
    let mut stranded = state
        .live
        .iter()
        .filter(|rotation| rotation.phase == Phase::Stranded);
    (!adopted && !required.iter().all(accepted))
        || required.iter().any(has_lost)
        || stranded.any(|stranded| {
            stranded.sequence > current.sequence
                || is_holder_configured_sink(stranded, required, state, overlap)
        })
}

/// Returns whether a configured sink may hold the secret of `stranded`
/// indefinitely. Removed sinks do not count: they never accept a newer secret, and
/// the key would stay due for ever.
fn is_holder_configured_sink(
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
