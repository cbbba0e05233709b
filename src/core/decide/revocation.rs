//! Whether a credential is revoked now: the one decision behind every deletion.
//!
//! [`decide`] takes the observations made so far and names the next one that it
//! needs, so that the provider is sent no other request. `docs/design/revocation.md`
//! lists the reasons of a revocation and what blocks each.

mod candidate;
mod deferral;
mod due_time;
mod files;
mod holding_sinks;
mod leak;
mod observation;
mod reason;
mod recheck;
mod sharing;
mod sighting;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

pub use self::candidate::{Candidate, OtherHolder};
pub use self::deferral::{DeferReason, Deferral};
use self::deferral::{FINAL_WARNING_LEAD, IN_USE_RECHECK_PAUSE};
pub use self::due_time::{
    DueTime, depends_on_time, due_time, has_newer_current, sink_overlaps, was_passed_over,
};
use self::files::{defer_by_files, end_of_wait};
pub use self::holding_sinks::holding_sinks;
use self::leak::defer_unreplaced;
pub use self::leak::{
    LeakWait, describe_deadline, describe_leak, has_verified_successor, leak_due_at, leak_reason,
    leak_wait, next_deadline, wants_successor,
};
pub use self::observation::{FileEvidence, Identity, Observation, ObservationPart, RemoteAnswer};
pub use self::reason::RevocationReason;
pub use self::recheck::{RecheckCause, moves_targets, rotations_to_recheck, without_deferrals};
pub use self::sharing::describe_unmoved;
use self::sharing::{all_holding_sinks, unmoved_key};
use self::sighting::defer_sighted;
use crate::core::active_credential::CredentialUsage;
use crate::core::first_few::join_few;
use crate::core::ids::SinkId;
use crate::core::lifecycle::Phase;
use crate::core::policy::{KeyPolicy, MISSING_CHECK_INTERVAL};
use crate::core::reported_time::ReportedTime;
use crate::core::state::{DeliveryState, Rotation, Trigger};
use crate::core::time;

/// The precision of the header with the provider's time, and what an answer takes to arrive.
const DATE_PRECISION: Duration = Duration::from_secs(2);

/// The decision about a credential to revoke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// Observe this part, and then decide again.
    Observe(ObservationPart),
    /// Delete it.
    Delete,
    /// Record it as revoked: the provider does not have it.
    AlreadyGone,
    /// Decide again later.
    Defer(Deferral),
    /// Keep it.
    Blocked(Blocker),
}

/// The reason not to revoke a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocker {
    /// Its revocation is not due before this time, or, with none, not for this
    /// reason.
    NotDue(Option<Timestamp>),
    /// The decision depends on a time, and this host's clock disagrees with the
    /// provider's.
    Clock,
    /// rekeyd authenticates with it.
    SelfCredential,
    /// rekeyd may authenticate with it: nothing shows that it does not.
    MayBeInUse,
    /// Sinks may hold it.
    HeldBy(Vec<SinkId>),
    /// A consumer used it, or may have: rekeyd's own last use was earlier.
    UsedByConsumer,
    /// The provider does not show it under its recorded name.
    OtherName,
    /// A row has this credential: it is no duplicate.
    HasRow,
    /// The file of a sink holds it, although no row says so.
    HeldElsewhere,
}

impl fmt::Display for Blocker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotDue(Some(at)) => {
                return write!(formatter, "it is not due before {}", time::to_text(*at));
            }
            Self::HeldBy(sinks) => {
                let names = join_few(sinks.iter().map(|sink| &sink.name));
                return write!(formatter, "sinks may hold it: {names}");
            }
            Self::NotDue(None) => "it is not due",
            Self::Clock => "this host's clock and the provider's disagree",
            Self::SelfCredential => "rekeyd authenticates with it",
            Self::MayBeInUse => "rekeyd may authenticate with it",
            Self::UsedByConsumer => "a consumer used it",
            Self::OtherName => "the provider shows it under another name",
            Self::HasRow => "the ledger has a row of it",
            Self::HeldElsewhere => "the file of a sink holds it, although no row says so",
        })
    }
}

/// Decides whether a credential is revoked. The files of the configured sinks are
/// observed last, so that they are read as late as possible, and for no credential that
/// stays anyway.
#[must_use]
pub fn decide(candidate: &Candidate<'_>, observation: &Observation, now: Timestamp) -> Revocation {
    match decide_without_files(candidate, observation, now) {
        Revocation::Delete => decide_by_files(candidate, observation, now),
        decided @ (Revocation::Observe(_)
        | Revocation::AlreadyGone
        | Revocation::Defer(_)
        | Revocation::Blocked(_)) => decided,
    }
}

/// Keeps a credential that the file of a configured sink holds, or may hold, although no
/// row says so: its consumer would be left with a dead key.
fn decide_by_files(
    candidate: &Candidate<'_>,
    observation: &Observation,
    now: Timestamp,
) -> Revocation {
    let reason = candidate.reason;
    // No file delays the end of what leaked, and an operator can insist.
    if let RevocationReason::Leaked { .. } | RevocationReason::Operator { force: true } = reason {
        return Revocation::Delete;
    }
    let Some(evidence) = observation.files else {
        return Revocation::Observe(ObservationPart::Files);
    };
    if evidence == FileEvidence::Absent {
        return Revocation::Delete;
    }
    let end = end_of_wait(candidate, evidence, now);
    match reason {
        RevocationReason::Superseded
        | RevocationReason::Immediate
        | RevocationReason::Orphan
        | RevocationReason::KeyRetired { .. } => {
            defer_by_files(evidence, end, now).map_or(Revocation::Delete, Revocation::Defer)
        }
        RevocationReason::Eviction if end.is_some_and(|end| now >= end) => Revocation::Delete,
        RevocationReason::DuplicateLabel
        | RevocationReason::Eviction
        | RevocationReason::Operator { .. }
        | RevocationReason::Leaked { .. } => Revocation::Blocked(Blocker::HeldElsewhere),
    }
}

fn decide_without_files(
    candidate: &Candidate<'_>,
    observation: &Observation,
    now: Timestamp,
) -> Revocation {
    if let Some(blocker) = blocker(candidate, observation, now) {
        return Revocation::Blocked(blocker);
    }
    if let Some(deferral) = defer_shared(candidate, now) {
        return Revocation::Defer(deferral);
    }
    let (last_use, identity) = match observation.credential {
        None => return Revocation::Observe(ObservationPart::Credential),
        // No answer shows whose credential it is: it is deleted only if an operator
        // insists.
        Some(RemoteAnswer::Gone) => match candidate.reason {
            RevocationReason::Operator { force: true } => (ReportedTime::None, Identity::Confirmed),
            RevocationReason::Operator { force: false }
            | RevocationReason::Leaked { .. }
            | RevocationReason::Superseded
            | RevocationReason::Immediate
            | RevocationReason::Orphan
            | RevocationReason::KeyRetired { .. }
            | RevocationReason::DuplicateLabel
            | RevocationReason::Eviction => return Revocation::AlreadyGone,
        },
        Some(RemoteAnswer::Live { last_use, identity }) => (last_use, identity),
    };
    match observation.usage {
        None => return Revocation::Observe(ObservationPart::Usage),
        Some(usage @ (CredentialUsage::InUse | CredentialUsage::MayBeInUse)) => {
            if let Some(kept) = keep_self_credential(candidate.reason, usage, now) {
                return kept;
            }
        }
        Some(CredentialUsage::Previous | CredentialUsage::Unused) => {}
    }
    if let Some(kept) = keep_unidentified(candidate.reason, identity, now) {
        return kept;
    }
    if is_time_based(candidate) && !clock_agrees(candidate, observation, now) {
        return Revocation::Blocked(Blocker::Clock);
    }
    match (candidate.reason, candidate.rotation) {
        (RevocationReason::Superseded, Some(rotation)) => {
            decide_superseded(candidate, rotation, last_use, observation, now)
        }
        (RevocationReason::KeyRetired { is_immediate }, Some(rotation)) => decide_key_retired(
            candidate,
            rotation,
            is_immediate,
            last_use,
            observation,
            now,
        ),
        (RevocationReason::Eviction, Some(rotation)) => {
            decide_eviction(candidate.policy, rotation, last_use, observation, now)
        }
        // Another key's newest working credential must not end before its successor.
        (RevocationReason::Immediate | RevocationReason::Orphan, Some(_))
            if !candidate.others.is_empty() =>
        {
            if let Some(deferral) = defer_sighted(candidate, now) {
                return Revocation::Defer(deferral);
            }
            decide_by_successor(observation, now)
        }
        (
            RevocationReason::Immediate
            | RevocationReason::Orphan
            | RevocationReason::DuplicateLabel
            | RevocationReason::Leaked { .. }
            | RevocationReason::Operator { .. },
            _,
        ) => Revocation::Delete,
        (
            RevocationReason::Superseded
            | RevocationReason::KeyRetired { .. }
            | RevocationReason::Eviction,
            None,
        ) => Revocation::Blocked(Blocker::NotDue(None)),
    }
}

/// Returns whether a credential may be evicted: it is stranded, rekeyd created it,
/// and no delivery of it was recorded.
#[must_use]
pub fn is_evictable(rotation: &Rotation) -> bool {
    rotation.phase == Phase::Stranded && rotation.trigger != Trigger::Adopted && {
        let mut deliveries = rotation.deliveries.iter();
        deliveries.all(|delivery| delivery.state == DeliveryState::Pending)
    }
}

/// Returns what blocks the revocation by the ledger alone.
fn blocker(
    candidate: &Candidate<'_>,
    observation: &Observation,
    now: Timestamp,
) -> Option<Blocker> {
    let not_due = |due: DueTime| match due {
        DueTime::Never => Some(Blocker::NotDue(None)),
        DueTime::From(at) => at
            .filter(|at| *at > now)
            .map(|at| Blocker::NotDue(Some(at))),
    };
    let reason = candidate.reason;
    match (reason, candidate.rotation) {
        (RevocationReason::DuplicateLabel, _) => {
            let mut live = candidate.key.live.iter();
            let has_row = live.any(|rotation| {
                let credential = rotation.credential.as_ref();
                credential.is_some_and(|credential| credential.id == *candidate.credential)
            });
            (has_row || !candidate.others.is_empty()).then_some(Blocker::HasRow)
        }
        (_, None) => Some(Blocker::NotDue(None)),
        (
            RevocationReason::Superseded
            | RevocationReason::Immediate
            | RevocationReason::Orphan
            | RevocationReason::KeyRetired { .. },
            Some(rotation),
        ) => {
            if RevocationReason::of_rotation(rotation, candidate.key) != Some(reason) {
                return Some(Blocker::NotDue(None));
            }
            not_due(due_time(rotation, candidate.key, candidate.policy))
        }
        (RevocationReason::Eviction, Some(rotation)) => {
            let is_evictable = is_evictable(rotation) && candidate.others.is_empty();
            (!is_evictable).then_some(Blocker::NotDue(None))
        }
        (RevocationReason::Leaked { .. }, Some(rotation)) => {
            match leak_due_at(rotation, candidate.key, now) {
                Some(at) => not_due(DueTime::From(Some(at))),
                None => Some(Blocker::NotDue(None)),
            }
        }
        (RevocationReason::Operator { force: true }, Some(_)) => None,
        (RevocationReason::Operator { force: false }, Some(_)) => {
            let sinks = all_holding_sinks(candidate, observation, now);
            if !sinks.is_empty() {
                return Some(Blocker::HeldBy(sinks));
            }
            overlap_of_passed_over(candidate, now).map(|at| Blocker::NotDue(Some(at)))
        }
    }
}

/// Returns the end of the overlap of a credential that no sink was seen to hold when a
/// key adopted it. Its consumers may have read it before.
fn overlap_of_passed_over(candidate: &Candidate<'_>, now: Timestamp) -> Option<Timestamp> {
    let others = candidate.others.iter().map(|other| &other.rotation);
    let passed_over = candidate.rotation.into_iter().chain(others);
    passed_over
        .filter(|rotation| was_passed_over(rotation))
        .filter_map(|rotation| rotation.revoke_after)
        .filter(|at| *at > now || !candidate.is_clock_trusted)
        .max()
}

/// Keeps a credential that rekeyd authenticates with, or may. An operator can insist
/// on the revocation of one that it only may.
fn keep_self_credential(
    reason: RevocationReason,
    usage: CredentialUsage,
    now: Timestamp,
) -> Option<Revocation> {
    let is_certain = usage == CredentialUsage::InUse;
    match reason {
        RevocationReason::Superseded
        | RevocationReason::Immediate
        | RevocationReason::Orphan
        | RevocationReason::KeyRetired { .. }
        | RevocationReason::DuplicateLabel => {
            Some(Revocation::Defer(Deferral::self_credential(usage, now)))
        }
        RevocationReason::Operator { force: true } | RevocationReason::Leaked { force: true }
            if !is_certain =>
        {
            None
        }
        RevocationReason::Leaked { .. } => {
            let deferral = Deferral::self_credential(usage, now);
            Some(Revocation::Defer(deferral.for_reason(reason, now)))
        }
        RevocationReason::Eviction | RevocationReason::Operator { .. } => {
            Some(Revocation::Blocked(if is_certain {
                Blocker::SelfCredential
            } else {
                Blocker::MayBeInUse
            }))
        }
    }
}

/// Keeps a credential that the provider does not show under its recorded name: it may be
/// somebody else's. An operator can insist, and confirm the name that is shown.
fn keep_unidentified(
    reason: RevocationReason,
    identity: Identity,
    now: Timestamp,
) -> Option<Revocation> {
    match identity {
        Identity::Confirmed => return None,
        Identity::ConfirmedByOperator => {
            if reason == (RevocationReason::Operator { force: true }) {
                return None;
            }
        }
        Identity::OtherName | Identity::Unproven => {}
    }
    Some(match reason {
        RevocationReason::Superseded
        | RevocationReason::Immediate
        | RevocationReason::Orphan
        | RevocationReason::KeyRetired { .. }
        | RevocationReason::DuplicateLabel
        | RevocationReason::Leaked { .. } => Revocation::Defer(Deferral {
            until: time::after(now, IN_USE_RECHECK_PAUSE),
            reason: DeferReason::OtherName,
            final_warning: false,
        }),
        RevocationReason::Eviction | RevocationReason::Operator { .. } => {
            Revocation::Blocked(Blocker::OtherName)
        }
    })
}

/// Defers a revocation without a command while another key of the credential has not
/// moved to a newer one.
fn defer_shared(candidate: &Candidate<'_>, now: Timestamp) -> Option<Deferral> {
    match candidate.reason {
        RevocationReason::Superseded
        | RevocationReason::Immediate
        | RevocationReason::Orphan
        | RevocationReason::KeyRetired { .. } => {}
        RevocationReason::Leaked { .. } => return defer_unreplaced(candidate, now),
        RevocationReason::DuplicateLabel
        | RevocationReason::Eviction
        | RevocationReason::Operator { .. } => return None,
    }
    let unmoved = unmoved_key(candidate, now)?;
    let recheck = time::after(now, IN_USE_RECHECK_PAUSE);
    Some(Deferral {
        until: unmoved.moved_at.map_or(recheck, |at| at.min(recheck)),
        reason: DeferReason::UsedByOtherKey,
        final_warning: false,
    })
}

fn is_time_based(candidate: &Candidate<'_>) -> bool {
    match candidate.reason {
        RevocationReason::Superseded
        | RevocationReason::Immediate
        | RevocationReason::Orphan
        | RevocationReason::KeyRetired { .. } => {
            let rotation = candidate.rotation;
            // The overlaps of other keys are times.
            !candidate.others.is_empty()
                || rotation.is_none_or(|rotation| depends_on_time(rotation, candidate.key))
        }
        RevocationReason::DuplicateLabel
        | RevocationReason::Eviction
        | RevocationReason::Leaked { .. }
        | RevocationReason::Operator { .. } => false,
    }
}

fn clock_agrees(candidate: &Candidate<'_>, observation: &Observation, now: Timestamp) -> bool {
    candidate.is_clock_trusted
        && observation
            .server_time
            .is_some_and(|server_time| time::clocks_agree(server_time, now))
}

/// Defers a credential that a consumer still uses, or whose successor is missing:
/// the newest working credential is never revoked.
fn decide_superseded(
    candidate: &Candidate<'_>,
    rotation: &Rotation,
    last_use: ReportedTime,
    observation: &Observation,
    now: Timestamp,
) -> Revocation {
    let policy = candidate.policy;
    if let Some(deferral) = defer_sighted(candidate, now) {
        return Revocation::Defer(deferral);
    }
    if let Some(deferral) =
        policy.and_then(|policy| defer_recently_used(rotation, policy, last_use, observation, now))
    {
        return Revocation::Defer(deferral);
    }
    decide_by_successor(observation, now)
}

/// Defers the last credential of a retired key that a consumer still uses, unless it ends
/// at once. Nothing replaces it there; another key of the credential has a newer one.
fn decide_key_retired(
    candidate: &Candidate<'_>,
    rotation: &Rotation,
    is_immediate: bool,
    last_use: ReportedTime,
    observation: &Observation,
    now: Timestamp,
) -> Revocation {
    if let Some(deferral) = defer_sighted(candidate, now) {
        return Revocation::Defer(deferral);
    }
    let policy = candidate.policy.filter(|_| !is_immediate);
    if let Some(deferral) =
        policy.and_then(|policy| defer_recently_used(rotation, policy, last_use, observation, now))
    {
        return Revocation::Defer(deferral);
    }
    if candidate.others.is_empty() {
        return Revocation::Delete;
    }
    decide_by_successor(observation, now)
}

/// Deletes a credential if the provider has what replaced it, for every key of the
/// credential that is not retired.
fn decide_by_successor(observation: &Observation, now: Timestamp) -> Revocation {
    match observation.successor_exists {
        None => Revocation::Observe(ObservationPart::Successor),
        Some(true) => Revocation::Delete,
        Some(false) => Revocation::Defer(Deferral {
            until: time::after(now, MISSING_CHECK_INTERVAL),
            reason: DeferReason::SuccessorMissing,
            final_warning: false,
        }),
    }
}

fn defer_recently_used(
    rotation: &Rotation,
    policy: &KeyPolicy,
    last_use: ReportedTime,
    observation: &Observation,
    now: Timestamp,
) -> Option<Deferral> {
    // The last use is a time of the provider's clock.
    let provider_now = observation.server_time.unwrap_or(now);
    let last_used_at = match last_use {
        ReportedTime::None => return None,
        ReportedTime::At(at) => at,
        ReportedTime::Unreadable => provider_now,
    };
    // A use before it became current was rekeyd's own verification.
    let by_consumer = rotation
        .current_at
        .is_none_or(|at| last_used_at > provider_time(at, provider_now, now));
    let is_recent =
        by_consumer && time::until(last_used_at, provider_now) < policy.revoke_when_idle_for;
    let revoked_at = time::after(rotation.revoke_after?, policy.max_revoke_delay);
    if !is_recent || now >= revoked_at {
        return None;
    }
    let remaining = time::until(now, revoked_at);
    Some(Deferral {
        until: time::after(now, IN_USE_RECHECK_PAUSE.min(remaining)),
        reason: match last_use {
            ReportedTime::At(last_used_at) => DeferReason::RecentlyUsed {
                last_used_at,
                revoked_at,
            },
            ReportedTime::None | ReportedTime::Unreadable => {
                DeferReason::UseUnreadable { revoked_at }
            }
        },
        final_warning: remaining <= FINAL_WARNING_LEAD,
    })
}

/// Returns the provider's time at the time `at` of this host, whose clock shows `now` when
/// the provider's shows `provider_now`. Only a clock that is ahead counts: it must not make
/// the use by a consumer that of rekeyd. The header with the provider's time has whole
/// seconds.
fn provider_time(at: Timestamp, provider_now: Timestamp, now: Timestamp) -> Timestamp {
    let ahead = time::until(provider_now, now);
    time::before(at, ahead.saturating_sub(DATE_PRECISION))
}

/// Blocks the eviction of a credential that a consumer used: a process whose last
/// commits are not in this ledger may have delivered it. rekeyd itself uses a
/// credential only until its verification ends or it is stranded.
fn decide_eviction(
    policy: Option<&KeyPolicy>,
    rotation: &Rotation,
    last_use: ReportedTime,
    observation: &Observation,
    now: Timestamp,
) -> Revocation {
    let verified_by = policy.map(|policy| {
        let longest = policy.verify_timeout + policy.verify_interval;
        time::after(rotation.started_at, longest)
    });
    let stranded_at = rotation.stranded_at.unwrap_or(rotation.started_at);
    let own_use_until = verified_by.map_or(stranded_at, |at| at.min(stranded_at));
    let provider_now = observation.server_time.unwrap_or(now);
    let own_use_until = provider_time(own_use_until, provider_now, now);
    match last_use {
        ReportedTime::None => Revocation::Delete,
        ReportedTime::At(used) if used <= own_use_until => Revocation::Delete,
        ReportedTime::At(_) | ReportedTime::Unreadable => {
            Revocation::Blocked(Blocker::UsedByConsumer)
        }
    }
}

#[cfg(test)]
mod tests;
