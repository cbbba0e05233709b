//! Why nothing happens with a key now, for the log of somebody who looks for the cause.
//!
//! These functions decide nothing: they name what the decisions follow from.

use std::fmt;

use jiff::Timestamp;

use crate::core::decide::revocation::{DueTime, due_time, has_newer_current};
use crate::core::ids::RotationId;
use crate::core::lifecycle::Phase;
use crate::core::policy::{KeyPolicy, plausible_retry};
use crate::core::state::{KeyState, Rotation};
use crate::core::time;

/// Why no rotation starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotStarted {
    /// The key is not configured.
    NotConfigured,
    /// A rotation is open.
    Open {
        /// Its phase.
        phase: Phase,
        /// When its step is tried again, if one failed.
        retry_at: Option<Timestamp>,
    },
    /// The key is paused.
    Paused {
        /// When the pause ends; none until an operator resumes the key.
        until: Option<Timestamp>,
    },
    /// The last attempts failed.
    BackedOff {
        /// The number of failures in a row.
        attempt: u32,
        /// When the next attempt is made.
        until: Timestamp,
    },
    /// No run is due.
    NotDue {
        /// When the next one is; none if never.
        next: Option<Timestamp>,
    },
}

impl fmt::Display for NotStarted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConfigured => formatter.write_str("the key is not configured"),
            Self::Open { phase, retry_at } => {
                write!(formatter, "a rotation is open, in the phase {phase}")?;
                match retry_at {
                    Some(at) => {
                        write!(formatter, "; its next attempt is at {}", time::to_text(*at))
                    }
                    None => Ok(()),
                }
            }
            Self::Paused { until: Some(until) } => {
                write!(formatter, "it is paused until {}", time::to_text(*until))
            }
            Self::Paused { until: None } => formatter.write_str("it is paused"),
            Self::BackedOff { attempt, until } => write!(
                formatter,
                "attempt {attempt} failed; the next one is at {}",
                time::to_text(*until)
            ),
            Self::NotDue { next: Some(next) } => {
                write!(formatter, "none is due before {}", time::to_text(*next))
            }
            Self::NotDue { next: None } => formatter.write_str("none is due"),
        }
    }
}

/// Returns why no rotation of a key starts, as far as its own state says. `next` is its next
/// run by schedule.
#[must_use]
pub fn explain_rotation(
    state: &KeyState,
    is_configured: bool,
    next: Option<Timestamp>,
    now: Timestamp,
) -> NotStarted {
    let later = |at| plausible_retry(at, now).filter(|at| *at > now);
    if let Some(open) = state.open_rotation() {
        return NotStarted::Open {
            phase: open.phase,
            retry_at: later(open.retry_at),
        };
    }
    if !is_configured {
        return NotStarted::NotConfigured;
    }
    if state.is_paused(now) {
        let until = state.pause.and_then(|pause| pause.until);
        return NotStarted::Paused { until };
    }
    match later(state.retry_at) {
        Some(until) => NotStarted::BackedOff {
            attempt: state.attempt,
            until,
        },
        None => NotStarted::NotDue { next },
    }
}

/// Why a credential is not revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotRevoked {
    /// No newer credential of the key works yet.
    NoSuccessor,
    /// A sink may hold it, and has not accepted a newer one.
    MayBeHeld,
    /// Its overlap, or a hold, has not ended.
    Until(Timestamp),
    /// It is decided again then.
    DecidedAt(Timestamp),
    /// It is due.
    Due,
}

impl fmt::Display for NotRevoked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuccessor => formatter.write_str("no newer credential is current"),
            Self::MayBeHeld => {
                formatter.write_str("a sink may hold it, and has not accepted a newer one")
            }
            Self::Until(at) => write!(
                formatter,
                "its overlap or its hold lasts until {}",
                time::to_text(*at)
            ),
            Self::DecidedAt(at) => {
                write!(formatter, "it is decided again at {}", time::to_text(*at))
            }
            Self::Due => formatter.write_str("it is due, and waits for the provider or the clock"),
        }
    }
}

/// Returns why each earlier credential of a key is not revoked.
#[must_use]
pub fn explain_revocations(
    state: &KeyState,
    policy: Option<&KeyPolicy>,
    now: Timestamp,
) -> Vec<(RotationId, NotRevoked)> {
    let live = state.live.iter();
    live.filter_map(|rotation| {
        let reason = explain_revocation(rotation, state, policy, now)?;
        Some((rotation.id.clone(), reason))
    })
    .collect()
}

/// Returns none for a credential that is in use.
fn explain_revocation(
    rotation: &Rotation,
    state: &KeyState,
    policy: Option<&KeyPolicy>,
    now: Timestamp,
) -> Option<NotRevoked> {
    match rotation.phase {
        Phase::Stranded | Phase::Retired | Phase::Orphaned => {}
        Phase::Intended
        | Phase::Created
        | Phase::Verified
        | Phase::Current
        | Phase::Revoked
        | Phase::Failed => return None,
    }
    let needs_successor = rotation.phase != Phase::Orphaned;
    if needs_successor && !has_newer_current(rotation, state) {
        return Some(NotRevoked::NoSuccessor);
    }
    Some(match due_time(rotation, state, policy) {
        DueTime::Never => NotRevoked::MayBeHeld,
        DueTime::From(Some(at)) if at > now => NotRevoked::Until(at),
        DueTime::From(_) => match plausible_retry(rotation.retry_at, now) {
            Some(at) if at > now => NotRevoked::DecidedAt(at),
            Some(_) | None => NotRevoked::Due,
        },
    })
}
