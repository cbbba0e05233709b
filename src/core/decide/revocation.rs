//! Whether a credential is revoked now: the one decision behind every deletion.
//!
//! [`decide`] takes the observations made so far and names the next one that it
//! needs, so that the provider is sent no other request. `docs/design/revocation.md`
//! lists the reasons of a revocation and what blocks each.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::ids::{CredentialId, SinkId};
use crate::core::lifecycle::Phase;
use crate::core::policy::{
    KeyPolicy, MISSING_CHECK_INTERVAL, SinkHold, SinkOverlaps, UNMANAGED_OVERLAP, delivery_hold,
    overlap_or_default, sink_hold_with,
};
use crate::core::state::{DeliveryState, KeyState, Rotation, Trigger};
use crate::core::time;

/// The delay until the revocation of a credential in use is decided again.
const IN_USE_RECHECK_PAUSE: Duration = Duration::from_secs(15 * 60);

/// How long before the revocation of a credential in use its final warning is
/// raised.
const FINAL_WARNING_LEAD: Duration = time::DAY;

/// The reason to revoke a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationReason {
    /// It retired, its overlap is over, and a newer credential works.
    Superseded,
    /// It retired, and is revoked even if a sink holds it: by `rotate
    /// --revoke-previous`, by `revoke --force`, or because it was evicted.
    Immediate,
    /// Its rotation was abandoned, or it was found alive after its revocation.
    Orphan,
    /// It has the label of another credential and no row.
    DuplicateLabel,
    /// It is stranded, and a new rotation would exceed `max-live-credentials`.
    Eviction,
    /// An operator ran `rekeyd revoke`.
    Operator {
        /// Whether sinks may be left with a revoked credential.
        force: bool,
    },
}

impl RevocationReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Superseded,
        Self::Immediate,
        Self::Orphan,
        Self::DuplicateLabel,
        Self::Eviction,
        Self::Operator { force: false },
        Self::Operator { force: true },
    ];

    /// Returns the reason to revoke a rotation's credential without a command; none
    /// in a phase whose credentials are kept.
    #[must_use]
    pub const fn of_rotation(rotation: &Rotation) -> Option<Self> {
        match rotation.phase {
            Phase::Retired if rotation.revoke_now => Some(Self::Immediate),
            Phase::Retired => Some(Self::Superseded),
            Phase::Orphaned => Some(Self::Orphan),
            Phase::Intended
            | Phase::Created
            | Phase::Verified
            | Phase::Current
            | Phase::Stranded
            | Phase::Revoked
            | Phase::Failed => None,
        }
    }

    /// Returns its word in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::Immediate => "immediate",
            Self::Orphan => "orphan",
            Self::DuplicateLabel => "duplicate-label",
            Self::Eviction => "eviction",
            Self::Operator { force: false } => "operator",
            Self::Operator { force: true } => "operator-force",
        }
    }
}

/// A credential to revoke, with the facts that need no request to the provider.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The key that it belongs to.
    pub key: &'a KeyState,
    /// Its rotation; none for a duplicate, which has no row.
    pub rotation: Option<&'a Rotation>,
    /// Its id.
    pub credential: &'a CredentialId,
    /// The key's policy; none for a key that is not configured any more.
    pub policy: Option<&'a KeyPolicy>,
    /// The reason to revoke it.
    pub reason: RevocationReason,
    /// Whether no clock condition is active.
    pub is_clock_trusted: bool,
}

/// The observations for one decision. A part that was not observed yet is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observation {
    /// The provider's answer about the credential.
    pub credential: Option<RemoteAnswer>,
    /// The provider's time in that answer, if the answer had one.
    pub server_time: Option<Timestamp>,
    /// Whether rekeyd authenticates with the credential.
    pub usage: Option<CredentialUsage>,
    /// Whether the provider has the credential that replaced it.
    pub successor_exists: Option<bool>,
}

/// The provider's answer about one credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteAnswer {
    /// The provider does not have it.
    Gone,
    /// It is alive.
    Live {
        /// The last use that the provider recorded.
        last_used_at: Option<Timestamp>,
    },
}

/// Whether rekeyd itself authenticates with a credential. It is observed after a
/// request that makes rekeyd switch to a newer one if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CredentialUsage {
    /// rekeyd does not use it.
    Unused,
    /// rekeyd used it before the one in use, which works, and would fall back to
    /// it.
    Previous,
    /// rekeyd uses it, or may.
    InUse,
}

/// A part of an [`Observation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObservationPart {
    /// [`Observation::credential`] and [`Observation::server_time`].
    Credential,
    /// [`Observation::usage`].
    Usage,
    /// [`Observation::successor_exists`].
    Successor,
}

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

/// A postponed revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deferral {
    /// When it is decided again.
    pub until: Timestamp,
    /// Why it is postponed.
    pub reason: DeferReason,
    /// Whether the credential is in use and revoked within a day.
    pub final_warning: bool,
}

impl Deferral {
    /// Returns the deferral of a credential that rekeyd authenticates with.
    #[must_use]
    pub fn self_credential(now: Timestamp) -> Self {
        Self {
            until: time::after(now, IN_USE_RECHECK_PAUSE),
            reason: DeferReason::SelfCredential,
            final_warning: false,
        }
    }

    /// Returns the reason as text for people.
    #[must_use]
    pub fn message(&self) -> String {
        let hint = if self.final_warning {
            "; see that its consumers read the new one"
        } else {
            ""
        };
        format!("{}{hint}", self.reason)
    }
}

/// The reason to defer a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeferReason {
    /// rekeyd authenticates with it.
    SelfCredential,
    /// A consumer used it within `revoke-when-idle-for`.
    RecentlyUsed {
        /// When it was last used.
        last_used_at: Timestamp,
        /// When it is revoked even if it is in use.
        revoked_at: Timestamp,
    },
    /// The provider does not have the credential that replaced it.
    SuccessorMissing,
}

impl fmt::Display for DeferReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SelfCredential => formatter.write_str("rekeyd itself works with it"),
            Self::RecentlyUsed {
                last_used_at,
                revoked_at,
            } => {
                let (used, last) = (time::to_text(*last_used_at), time::to_text(*revoked_at));
                write!(
                    formatter,
                    "it was used at {used}; it goes at {last} at the latest"
                )
            }
            Self::SuccessorMissing => {
                formatter.write_str("what replaced it is missing at the provider")
            }
        }
    }
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
    /// Sinks may hold it.
    HeldBy(Vec<SinkId>),
    /// A consumer used it: rekeyd's own last use was earlier.
    UsedByConsumer,
    /// A row has this credential: it is no duplicate.
    HasRow,
}

/// Decides whether a credential is revoked.
#[must_use]
pub fn decide(candidate: &Candidate<'_>, observation: &Observation, now: Timestamp) -> Revocation {
    if let Some(blocker) = blocker(candidate, observation, now) {
        return Revocation::Blocked(blocker);
    }
    let last_used_at = match observation.credential {
        None => return Revocation::Observe(ObservationPart::Credential),
        // One 404 may come from a stale replica, so an operator's revocation sends
        // the delete all the same.
        Some(RemoteAnswer::Gone) => match candidate.reason {
            RevocationReason::Operator { .. } => None,
            RevocationReason::Superseded
            | RevocationReason::Immediate
            | RevocationReason::Orphan
            | RevocationReason::DuplicateLabel
            | RevocationReason::Eviction => return Revocation::AlreadyGone,
        },
        Some(RemoteAnswer::Live { last_used_at }) => last_used_at,
    };
    match observation.usage {
        None => return Revocation::Observe(ObservationPart::Usage),
        Some(CredentialUsage::InUse) => return keep_self_credential(candidate.reason, now),
        Some(CredentialUsage::Previous | CredentialUsage::Unused) => {}
    }
    if is_time_based(candidate) && !clock_agrees(candidate, observation, now) {
        return Revocation::Blocked(Blocker::Clock);
    }
    match (candidate.reason, candidate.rotation) {
        (RevocationReason::Superseded, Some(rotation)) => {
            decide_superseded(candidate, rotation, last_used_at, observation, now)
        }
        (RevocationReason::Eviction, Some(rotation)) => {
            decide_eviction(candidate.policy, rotation, last_used_at)
        }
        (
            RevocationReason::Immediate
            | RevocationReason::Orphan
            | RevocationReason::DuplicateLabel
            | RevocationReason::Operator { .. },
            _,
        ) => Revocation::Delete,
        (RevocationReason::Superseded | RevocationReason::Eviction, None) => {
            Revocation::Blocked(Blocker::NotDue(None))
        }
    }
}

/// The earliest time at which a credential may be revoked without a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DueTime {
    /// Not before the ledger changes.
    Never,
    /// From this time on; none is immediately.
    From(Option<Timestamp>),
}

/// Returns from when a retired or orphaned credential may be revoked.
///
/// A retired credential is revoked when no sink can hold it any more and a newer one
/// works; by an operator's request, as soon as it is retired. An orphan that no
/// sink received is revoked immediately. An orphan that was recorded as gone while
/// sinks held it has consumers, which get a newer one first.
#[must_use]
pub fn due_time(rotation: &Rotation, key: &KeyState, policy: Option<&KeyPolicy>) -> DueTime {
    let hold = rotation.hold_until;
    let held = sink_hold_with(rotation, key, sink_overlaps(policy));
    match RevocationReason::of_rotation(rotation) {
        Some(RevocationReason::Superseded) => match held {
            // Without a newer one, it may be the newest working credential.
            _ if !has_newer_current(rotation, key) => DueTime::Never,
            SinkHold::Indefinite => DueTime::Never,
            SinkHold::None => DueTime::From(rotation.revoke_after.max(hold)),
            SinkHold::Until(at) => DueTime::From(rotation.revoke_after.max(hold).max(Some(at))),
        },
        Some(RevocationReason::Orphan) if !rotation.revoke_now => match held {
            SinkHold::None => DueTime::From(hold),
            SinkHold::Until(at) => DueTime::From(hold.max(Some(at))),
            SinkHold::Indefinite => DueTime::Never,
        },
        Some(RevocationReason::Immediate | RevocationReason::Orphan) => DueTime::From(hold),
        Some(
            RevocationReason::DuplicateLabel
            | RevocationReason::Eviction
            | RevocationReason::Operator { .. },
        )
        | None => DueTime::Never,
    }
}

/// Returns whether a revocation without a command depends on a time, so that a
/// wrong clock could cause it.
#[must_use]
pub fn depends_on_time(rotation: &Rotation, key: &KeyState) -> bool {
    let overlap = SinkOverlaps::uniform(UNMANAGED_OVERLAP);
    let is_held = || sink_hold_with(rotation, key, overlap) != SinkHold::None;
    let waits_for_sinks = rotation.phase == Phase::Retired || is_held();
    rotation.hold_until.is_some() || (waits_for_sinks && !rotation.revoke_now)
}

/// Returns the sinks that may hold a credential now. While the clock is not
/// trusted, no overlap counts as over.
#[must_use]
pub fn holding_sinks(
    candidate: &Candidate<'_>,
    observation: &Observation,
    now: Timestamp,
) -> Vec<SinkId> {
    let Some(rotation) = candidate.rotation else {
        return Vec::new();
    };
    let is_trusted = candidate.is_clock_trusted && !clock_disagrees(observation, now);
    let overlaps = SinkOverlaps::uniform(overlap_or_default(candidate.policy));
    let deliveries = rotation.deliveries.iter();
    let required = deliveries.filter(|delivery| delivery.required);
    let holding = required.filter(|delivery| {
        match delivery_hold(delivery, rotation, candidate.key, overlaps) {
            SinkHold::None => false,
            SinkHold::Until(at) => at > now || !is_trusted,
            SinkHold::Indefinite => true,
        }
    });
    holding.map(|delivery| delivery.sink.clone()).collect()
}

/// Returns the overlaps of a policy's sinks.
#[must_use]
pub fn sink_overlaps(policy: Option<&KeyPolicy>) -> SinkOverlaps {
    SinkOverlaps {
        after_acceptance: policy.map_or(Duration::ZERO, |policy| policy.overlap),
        after_removal: overlap_or_default(policy),
    }
}

/// Returns whether a newer credential of the key is current.
#[must_use]
pub fn has_newer_current(rotation: &Rotation, key: &KeyState) -> bool {
    key.current()
        .is_some_and(|current| current.sequence > rotation.sequence)
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
            has_row.then_some(Blocker::HasRow)
        }
        (_, None) => Some(Blocker::NotDue(None)),
        (
            RevocationReason::Superseded | RevocationReason::Immediate | RevocationReason::Orphan,
            Some(rotation),
        ) => {
            if RevocationReason::of_rotation(rotation) != Some(reason) {
                return Some(Blocker::NotDue(None));
            }
            not_due(due_time(rotation, candidate.key, candidate.policy))
        }
        (RevocationReason::Eviction, Some(rotation)) => {
            (!is_evictable(rotation)).then_some(Blocker::NotDue(None))
        }
        (RevocationReason::Operator { force: true }, Some(_)) => None,
        (RevocationReason::Operator { force: false }, Some(_)) => {
            let sinks = holding_sinks(candidate, observation, now);
            (!sinks.is_empty()).then_some(Blocker::HeldBy(sinks))
        }
    }
}

fn keep_self_credential(reason: RevocationReason, now: Timestamp) -> Revocation {
    match reason {
        RevocationReason::Superseded
        | RevocationReason::Immediate
        | RevocationReason::Orphan
        | RevocationReason::DuplicateLabel => Revocation::Defer(Deferral::self_credential(now)),
        RevocationReason::Eviction | RevocationReason::Operator { .. } => {
            Revocation::Blocked(Blocker::SelfCredential)
        }
    }
}

fn is_time_based(candidate: &Candidate<'_>) -> bool {
    match candidate.reason {
        RevocationReason::Superseded | RevocationReason::Immediate | RevocationReason::Orphan => {
            let rotation = candidate.rotation;
            rotation.is_none_or(|rotation| depends_on_time(rotation, candidate.key))
        }
        RevocationReason::DuplicateLabel
        | RevocationReason::Eviction
        | RevocationReason::Operator { .. } => false,
    }
}

fn clock_agrees(candidate: &Candidate<'_>, observation: &Observation, now: Timestamp) -> bool {
    candidate.is_clock_trusted
        && observation
            .server_time
            .is_some_and(|server_time| time::clocks_agree(server_time, now))
}

fn clock_disagrees(observation: &Observation, now: Timestamp) -> bool {
    observation
        .server_time
        .is_some_and(|server_time| !time::clocks_agree(server_time, now))
}

/// Defers a credential that a consumer still uses, or whose successor is missing:
/// the newest working credential is never revoked.
fn decide_superseded(
    candidate: &Candidate<'_>,
    rotation: &Rotation,
    last_used_at: Option<Timestamp>,
    observation: &Observation,
    now: Timestamp,
) -> Revocation {
    let policy = candidate.policy;
    if let Some(deferral) = policy.and_then(|policy| {
        let used = last_used_at?;
        defer_recently_used(rotation, policy, used, now)
    }) {
        return Revocation::Defer(deferral);
    }
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
    last_used_at: Timestamp,
    now: Timestamp,
) -> Option<Deferral> {
    // A use before it became current was rekeyd's own verification.
    let by_consumer = rotation.current_at.is_none_or(|at| last_used_at > at);
    let is_recent = by_consumer && time::until(last_used_at, now) < policy.revoke_when_idle_for;
    let revoked_at = time::after(rotation.revoke_after?, policy.max_revoke_delay);
    if !is_recent || now >= revoked_at {
        return None;
    }
    let remaining = time::until(now, revoked_at);
    Some(Deferral {
        until: time::after(now, IN_USE_RECHECK_PAUSE.min(remaining)),
        reason: DeferReason::RecentlyUsed {
            last_used_at,
            revoked_at,
        },
        final_warning: remaining <= FINAL_WARNING_LEAD,
    })
}

/// Blocks the eviction of a credential that a consumer used: a process whose last
/// commits are not in this ledger may have delivered it. rekeyd itself uses a
/// credential only until its verification ends or it is stranded.
fn decide_eviction(
    policy: Option<&KeyPolicy>,
    rotation: &Rotation,
    last_used_at: Option<Timestamp>,
) -> Revocation {
    let verified_by = policy.map(|policy| {
        let longest = policy.verify_timeout + policy.verify_interval;
        time::after(rotation.started_at, longest)
    });
    let stranded_at = rotation.stranded_at.unwrap_or(rotation.started_at);
    let own_use_until = verified_by.map_or(stranded_at, |at| at.min(stranded_at));
    if last_used_at.is_none_or(|used| used <= own_use_until) {
        Revocation::Delete
    } else {
        Revocation::Blocked(Blocker::UsedByConsumer)
    }
}

#[cfg(test)]
mod tests;
