//! What to do next about a key: a pure function of what the ledger says, what
//! this process holds in memory, and the time.
//!
//! Deliberately not here: whether a new rotation is due ([`crate::core::due`])
//! and what a step's outcome means ([`crate::core::conclude`]).

use std::time::Duration;

use jiff::Timestamp;

use crate::core::change::{Begun, Change, Moved};
use crate::core::conclude::{self, Overlap};
use crate::core::names::{CredentialId, RotationId, SinkId};
use crate::core::policy::{
    BETWEEN_LOOKS, Held, KeyPolicy, Overlaps, UNMANAGED_OVERLAP, believed, held, held_for,
    overlap_of,
};
use crate::core::record::{Delivery, DeliveryState, KeyState, Rotation};
use crate::core::rotation::{Event, Phase};
use crate::core::secret::Secret;
use crate::core::time;

/// What this process remembers of the rotation it began, and loses when it
/// ends.
#[derive(Debug, Clone)]
pub struct Memory {
    /// The rotation that this is about.
    pub rotation: RotationId,
    /// Whether its create was sent. Without an answer that was understood, the
    /// create is unclear.
    pub sent: bool,
    /// Its secret.
    pub secret: Option<Secret>,
    /// When the secret worked for the first time.
    pub worked_at: Option<Timestamp>,
    /// When it worked for the second time.
    pub verified_at: Option<Timestamp>,
    /// The credential that was current then, and before when it is not revoked
    /// by the schedule: what receivers are told, the same in every try.
    pub previous: Option<(CredentialId, Timestamp)>,
    /// How long the provider has refused it, outages left out.
    pub refused_for: Duration,
    /// When it was refused last, if nothing else has happened since.
    pub refused_at: Option<Timestamp>,
}

impl Memory {
    /// Of a rotation whose intent was just recorded.
    #[must_use]
    pub fn new(rotation: RotationId) -> Self {
        Self {
            rotation,
            sent: false,
            secret: None,
            worked_at: None,
            verified_at: None,
            previous: None,
            refused_for: Duration::ZERO,
            refused_at: None,
        }
    }
}

/// What to do next. At most one thing outside, and what is recorded before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Record this; nothing is done outside.
    Record(Vec<Change>),
    /// Send the create of a rotation whose intent is recorded.
    Create(RotationId),
    /// Look for the label of a create that is unclear.
    Find {
        /// The rotation.
        rotation: RotationId,
        /// Whether an earlier process sent it.
        after_restart: bool,
    },
    /// Ask the provider whether the new secret works.
    Verify(RotationId),
    /// Deliver to a sink; that it begins is recorded.
    Deliver {
        /// The rotation.
        rotation: RotationId,
        /// The sink.
        sink: SinkId,
    },
    /// Run what follows the change of a sink's file; that it has changed is
    /// recorded.
    After {
        /// The rotation.
        rotation: RotationId,
        /// The sink.
        sink: SinkId,
    },
    /// Delete the credential at the provider.
    Revoke(RotationId),
    /// Ask the provider again for a credential that it said it does not have.
    Look(RotationId),
    /// Nothing before this moment, or ever.
    Wait(Option<Timestamp>),
}

/// What the daemon's conditions leave to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// Whether the provider may be asked for anything.
    pub provider: bool,
    /// Whether this host's clock is believed: no credential is revoked, or
    /// taken for gone, because of a time that may be wrong.
    pub clock: bool,
}

impl Allowed {
    /// Nothing is wrong.
    pub const ALL: Self = Self {
        provider: true,
        clock: true,
    };
}

/// Why what is open of a key is given up that is not configured any more.
const KEY_REMOVED: &str = "the key was removed";

/// What to do next about a key. `policy` is none for a key that is not
/// configured any more. What `allowed` rules out is not waited for: when that
/// passes, everything is looked at anew.
#[must_use]
pub fn next_step(
    key: &KeyState,
    memory: Option<&Memory>,
    policy: Option<&KeyPolicy>,
    allowed: Allowed,
    now: Timestamp,
) -> Step {
    let mut wait: Option<Timestamp> = None;
    // What is open comes first; otherwise the oldest.
    let open = key.live.iter().filter(|rotation| rotation.phase.is_open());
    let settled = key.live.iter().filter(|rotation| !rotation.phase.is_open());
    for rotation in open.chain(settled) {
        let memory = memory.filter(|memory| memory.rotation == rotation.id);
        let steps = [
            step_of(rotation, key, memory, policy, now),
            look(rotation, now),
        ];
        for step in steps {
            if let Step::Wait(until) = step {
                wait = wait.into_iter().chain(until).min();
            } else if may(&step, rotation, allowed) {
                return step;
            }
        }
    }
    Step::Wait(wait)
}

fn may(step: &Step, rotation: &Rotation, allowed: Allowed) -> bool {
    match step {
        Step::Record(_) | Step::Deliver { .. } | Step::After { .. } | Step::Wait(_) => true,
        Step::Create(_) | Step::Find { .. } | Step::Verify(_) => allowed.provider,
        Step::Revoke(_) => allowed.provider && (allowed.clock || is_nobodys(rotation)),
        Step::Look(_) => allowed.provider && allowed.clock,
    }
}

/// An orphan that no sink ever took: no time counts for it.
fn is_nobodys(rotation: &Rotation) -> bool {
    rotation.phase == Phase::Orphaned && {
        let mut deliveries = rotation.deliveries.iter();
        deliveries.all(|delivery| !delivery.was_begun())
    }
}

/// The next look for a credential that the provider said it does not have.
fn look(rotation: &Rotation, now: Timestamp) -> Step {
    let Some(missing) = rotation.missing else {
        return Step::Wait(None);
    };
    let at = time::after(missing.since, BETWEEN_LOOKS * missing.looks);
    not_before(believed(Some(at), now), now, || {
        Step::Look(rotation.id.clone())
    })
}

fn step_of(
    rotation: &Rotation,
    key: &KeyState,
    memory: Option<&Memory>,
    policy: Option<&KeyPolicy>,
    now: Timestamp,
) -> Step {
    let id = &rotation.id;
    let overlap = overlap_of(policy);
    let secret = memory.filter(|memory| memory.secret.is_some());
    match (rotation.phase, secret, policy) {
        (Phase::Intended, _, _) => match memory {
            Some(memory) if !memory.sent && policy.is_none() => {
                Step::Record(vec![conclude::not_sent(rotation, KEY_REMOVED)])
            }
            Some(memory) if !memory.sent => Step::Create(id.clone()),
            memory => not_before(believed(rotation.retry_at, now), now, || Step::Find {
                rotation: id.clone(),
                after_restart: memory.is_none(),
            }),
        },
        // Its secret is where it belongs, and is not needed any more.
        (Phase::Verified, _, Some(_)) if rotation.is_written() => {
            deliver_required(rotation, key, Overlap::of(overlap, memory), now)
        }
        (Phase::Created | Phase::Verified, None, _) => {
            Step::Record(vec![Change::Moved(Moved::new(id, Event::FoundOpen))])
        }
        // A key that is not configured any more has nowhere to deliver to.
        (Phase::Created | Phase::Verified, Some(_), None) => {
            Step::Record(conclude::given_up(rotation, KEY_REMOVED))
        }
        (Phase::Created, Some(memory), Some(policy)) => {
            let settled = memory.worked_at.map(|at| time::after(at, policy.settle));
            not_before(believed(rotation.retry_at.max(settled), now), now, || {
                Step::Verify(id.clone())
            })
        }
        (Phase::Verified, Some(_), Some(_)) => {
            deliver_required(rotation, key, Overlap::of(overlap, memory), now)
        }
        (Phase::Current, secret, Some(policy)) => {
            deliver_optional(rotation, policy, secret.is_some(), now)
        }
        (Phase::Current, _, None) => miss_optional(rotation, Delivery::is_owed),
        (Phase::Stranded, _, _) => match held(rotation, key, overlap) {
            Held::Open => Step::Wait(None),
            // Nothing newer works yet: this may be the newest that does.
            Held::Not | Held::Until(_) if !has_newer_current(rotation, key) => Step::Wait(None),
            until @ (Held::Not | Held::Until(_)) => Step::Record(vec![conclude::retire(
                rotation,
                Event::Replaced,
                until,
                time::after(now, overlap),
                now,
            )]),
        },
        (Phase::Retired, _, _) => retired(rotation, key, policy.map(|_| overlap), now),
        (Phase::Orphaned, _, _) => orphaned(rotation, key, policy.map(|_| overlap), now),
        (Phase::Revoked | Phase::Failed, _, _) => Step::Wait(None),
    }
}

/// A retired credential goes when nobody may hold it any more and a newer one
/// works; by a person's word, as soon as it is retired. An overlap that became
/// longer moves it, one that became shorter does not. Of a key that is not
/// configured any more it goes as planned.
fn retired(rotation: &Rotation, key: &KeyState, overlap: Option<Duration>, now: Timestamp) -> Step {
    let hold = rotation.hold_until;
    if rotation.revoke_now {
        return revoke_at(rotation, hold, now);
    }
    // Without a newer one it may be the newest that works.
    if !has_newer_current(rotation, key) {
        return Step::Wait(None);
    }
    match held_for(rotation, key, overlaps(overlap)) {
        Held::Open => Step::Wait(None),
        // What is over tells nobody anything.
        Held::Until(at)
            if at > now && Some(time::next_whole_second(at)) > rotation.revoke_after =>
        {
            Step::Record(vec![Change::Extended {
                rotation: rotation.id.clone(),
                revoke_after: time::next_whole_second(at),
            }])
        }
        Held::Not | Held::Until(_) => revoke_at(rotation, rotation.revoke_after.max(hold), now),
    }
}

/// An orphan that no sink ever took goes at once. One that was taken for gone
/// while sinks had it, and is alive after all, has consumers: they are given a
/// newer one first, as with one that retired.
fn orphaned(
    rotation: &Rotation,
    key: &KeyState,
    overlap: Option<Duration>,
    now: Timestamp,
) -> Step {
    let hold = rotation.hold_until;
    match held_for(rotation, key, overlaps(overlap)) {
        _ if rotation.revoke_now => revoke_at(rotation, hold, now),
        Held::Not => revoke_at(rotation, hold, now),
        Held::Until(at) => revoke_at(rotation, hold.max(Some(at)), now),
        Held::Open => Step::Wait(None),
    }
}

/// How long sinks hold what they held; none for a key that is not configured
/// any more.
fn overlaps(overlap: Option<Duration>) -> Overlaps {
    Overlaps {
        accepted: overlap.unwrap_or_default(),
        removed: overlap.unwrap_or(UNMANAGED_OVERLAP),
    }
}

fn has_newer_current(rotation: &Rotation, key: &KeyState) -> bool {
    key.current()
        .is_some_and(|current| current.sequence > rotation.sequence)
}

fn revoke_at(rotation: &Rotation, at: Option<Timestamp>, now: Timestamp) -> Step {
    not_before(at.max(believed(rotation.retry_at, now)), now, || {
        Step::Revoke(rotation.id.clone())
    })
}

fn deliver_required(rotation: &Rotation, key: &KeyState, overlap: Overlap, now: Timestamp) -> Step {
    let mut required = rotation
        .deliveries
        .iter()
        .filter(|delivery| delivery.required);
    if required.all(|delivery| !delivery.is_owed()) {
        return Step::Record(conclude::delivered(rotation, key, overlap, now));
    }
    deliver(rotation, true, now)
}

fn deliver_optional(
    rotation: &Rotation,
    policy: &KeyPolicy,
    has_secret: bool,
    now: Timestamp,
) -> Step {
    if now >= time::after(rotation.started_at, policy.deliver_for) {
        return miss_optional(rotation, Delivery::is_owed);
    }
    if !has_secret {
        let missed = miss_optional(rotation, Delivery::needs_secret);
        if missed != Step::Wait(None) {
            return missed;
        }
    }
    deliver(rotation, false, now)
}

/// The next delivery of the required or of the optional sinks.
fn deliver(rotation: &Rotation, required: bool, now: Timestamp) -> Step {
    let mut wait: Option<Timestamp> = None;
    for delivery in &rotation.deliveries {
        if delivery.required != required || !delivery.is_owed() {
            continue;
        }
        match believed(delivery.retry_at, now) {
            Some(at) if at > now => wait = wait.into_iter().chain([at]).min(),
            Some(_) | None => return deliver_to(rotation, delivery),
        }
    }
    Step::Wait(wait)
}

fn deliver_to(rotation: &Rotation, delivery: &Delivery) -> Step {
    let (rotation, sink) = (rotation.id.clone(), delivery.sink.clone());
    if delivery.written_at.is_some() {
        Step::After { rotation, sink }
    } else if delivery.state == DeliveryState::Uncertain {
        Step::Deliver { rotation, sink }
    } else {
        Step::Record(vec![Change::Begun(Begun { rotation, sink })])
    }
}

/// Optional sinks that did not get the secret, and cannot any more.
fn miss_optional(rotation: &Rotation, cannot: impl Fn(&Delivery) -> bool) -> Step {
    let missed: Vec<_> = rotation
        .deliveries
        .iter()
        .filter(|delivery| !delivery.required && cannot(delivery))
        .map(|delivery| Change::SinkMissed {
            rotation: rotation.id.clone(),
            sink: delivery.sink.clone(),
        })
        .collect();
    if missed.is_empty() {
        Step::Wait(None)
    } else {
        Step::Record(missed)
    }
}

fn not_before(at: Option<Timestamp>, now: Timestamp, step: impl FnOnce() -> Step) -> Step {
    match at {
        Some(at) if at > now => Step::Wait(Some(at)),
        Some(_) | None => step(),
    }
}

#[cfg(test)]
mod tests;
