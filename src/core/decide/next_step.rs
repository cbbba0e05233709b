//! The next step of a key: a pure function of the ledger, the volatile state of
//! its open rotation, and the time.
//!
//! Deliberately not here: whether a new rotation is due ([`crate::core::decide::due`]),
//! what a step's outcome means ([`crate::core::decide::outcome`]), and whether a
//! credential is revoked ([`crate::core::decide::revocation`]).

use jiff::Timestamp;

use crate::core::change::{Change, OverlapExtension, SkippedDelivery};
use crate::core::decide::outcome::{self, OverlapBounds};
use crate::core::decide::revocation::{
    DueTime, depends_on_time, due_time, has_newer_current, leak_due_at, sink_overlaps,
};
use crate::core::decide::secret_source::{self, is_in_delivery};
use crate::core::ids::{RotationId, SinkId};
use crate::core::in_flight::InFlight;
use crate::core::lifecycle::{LifecycleEvent, Phase};
use crate::core::policy::{
    KeyPolicy, MISSING_CHECK_INTERVAL, SinkHold, overlap_or_default, plausible_retry, sink_hold,
    sink_hold_with,
};
use crate::core::state::{Delivery, KeyState, Rotation};
use crate::core::time;

/// The next step of a key: at most one external effect, or the changes to record
/// before one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Record these changes, without an external effect.
    Record(Vec<Change>),
    /// Send the create of a rotation whose intent is recorded.
    Create(RotationId),
    /// Search for the label of a create whose outcome is unknown.
    FindLabel {
        /// The rotation.
        rotation: RotationId,
        /// Whether an earlier process sent it.
        after_restart: bool,
    },
    /// Take the secret of a rotation again from a file that it was delivered to.
    TakeSecret(RotationId),
    /// Verify the new secret.
    Verify(RotationId),
    /// Deliver to a sink, once the delivery has a place at its destination. Its start
    /// is recorded before the first byte is sent.
    Deliver {
        /// The rotation.
        rotation: RotationId,
        /// The sink.
        sink: SinkId,
    },
    /// Run the `on-change` command of a sink whose written file is recorded.
    RunOnChange {
        /// The rotation.
        rotation: RotationId,
        /// The sink.
        sink: SinkId,
    },
    /// Decide about the revocation of the credential, and delete it if it is due.
    Revoke(RotationId),
    /// Check again for a credential that the provider does not have.
    RecheckMissing(RotationId),
    /// Do nothing before this time; with none, until the state changes.
    Wait(Option<Timestamp>),
}

/// The steps that the daemon's conditions, and its other work for the key, permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permits {
    /// Whether the provider may be sent requests.
    pub can_use_provider: bool,
    /// Whether requests that read may be sent.
    pub can_read: bool,
    /// Whether deletions may be sent.
    pub can_delete: bool,
    /// Whether this host's clock is trusted. Without it, no credential is revoked or
    /// recorded as gone because of a time.
    pub can_trust_clock: bool,
    /// Whether optional sinks are delivered to. Without it, a step that a busy
    /// receiver must not delay is decided.
    pub can_deliver_optional: bool,
}

impl Permits {
    /// The permits while no condition is active.
    pub const ALL: Self = Self {
        can_use_provider: true,
        can_read: true,
        can_delete: true,
        can_trust_clock: true,
        can_deliver_optional: true,
    };

    const fn can_revoke(self) -> bool {
        self.can_use_provider && self.can_read && self.can_delete
    }
}

/// The error of an open rotation that is abandoned because its key was removed.
const KEY_REMOVED: &str = "the key was removed";

/// The error of an open rotation that is given up because its key was retired.
const KEY_RETIRED: &str = "the key was retired";

/// The error of an open rotation that is given up because its key leaked.
const LEAKED: &str = "abandoned, because the key may have leaked";

/// Decides the next step of a key. `policy` is none for a key that is not
/// configured any more. A step that `permits` blocks sets no time to wait for: the
/// end of a condition wakes every key.
#[must_use]
pub fn next_step(
    key: &KeyState,
    in_flight: Option<&InFlight>,
    policy: Option<&KeyPolicy>,
    permits: Permits,
    now: Timestamp,
) -> Step {
    // What leaked ends at its deadline, whatever a rotation waits for.
    let mut wait: Option<Timestamp> = None;
    for leaked in key.live.iter().filter(|_| permits.can_revoke()) {
        match leak_due_at(leaked, key, now) {
            Some(at) if at <= now => return Step::Revoke(leaked.id.clone()),
            at => wait = wait.into_iter().chain(at).min(),
        }
    }
    // The open rotation comes first; otherwise the oldest.
    let open = key.live.iter().filter(|rotation| rotation.phase.is_open());
    let settled = key.live.iter().filter(|rotation| !rotation.phase.is_open());
    for rotation in open.chain(settled) {
        let in_flight = in_flight.filter(|in_flight| in_flight.rotation == rotation.id);
        let steps = [
            rotation_step(rotation, key, in_flight, policy, now),
            recheck_missing(rotation, now),
        ];
        for step in steps {
            if let Step::Wait(until) = step {
                wait = wait.into_iter().chain(until).min();
            } else if is_permitted(&step, rotation, key, permits) {
                return step;
            }
        }
    }
    Step::Wait(wait)
}

fn is_permitted(step: &Step, rotation: &Rotation, key: &KeyState, permits: Permits) -> bool {
    match step {
        Step::Record(_) | Step::Wait(_) => true,
        Step::Deliver { sink, .. } | Step::RunOnChange { sink, .. } => {
            permits.can_deliver_optional || !is_optional_delivery(rotation, sink)
        }
        Step::Create(_) => permits.can_use_provider,
        Step::TakeSecret(_) | Step::FindLabel { .. } | Step::Verify(_) => {
            permits.can_use_provider && permits.can_read
        }
        Step::Revoke(_) => {
            let needs_clock = !is_undelivered_orphan(rotation) || depends_on_time(rotation, key);
            permits.can_revoke() && (permits.can_trust_clock || !needs_clock)
        }
        Step::RecheckMissing(_) => {
            permits.can_use_provider && permits.can_read && permits.can_trust_clock
        }
    }
}

/// Returns whether no rotation waits for a delivery: the credential is current, and the
/// sink is not required.
#[must_use]
pub fn is_optional_delivery(rotation: &Rotation, sink: &SinkId) -> bool {
    let mut deliveries = rotation.deliveries.iter();
    let is_required = deliveries.any(|delivery| delivery.sink == *sink && delivery.required);
    rotation.phase == Phase::Current && !is_required
}

/// Returns whether no sink can have received an orphan, so that no overlap counts
/// for it.
fn is_undelivered_orphan(rotation: &Rotation) -> bool {
    rotation.phase == Phase::Orphaned && {
        let mut deliveries = rotation.deliveries.iter();
        deliveries.all(|delivery| !delivery.may_have_received())
    }
}

/// Returns the next check for a credential that the provider does not have.
fn recheck_missing(rotation: &Rotation, now: Timestamp) -> Step {
    let Some(missing) = rotation.missing else {
        return Step::Wait(None);
    };
    let at = time::after(missing.since, MISSING_CHECK_INTERVAL * missing.checks);
    wait_until_or(plausible_retry(Some(at), now), now, || {
        Step::RecheckMissing(rotation.id.clone())
    })
}

fn rotation_step(
    rotation: &Rotation,
    key: &KeyState,
    in_flight: Option<&InFlight>,
    policy: Option<&KeyPolicy>,
    now: Timestamp,
) -> Step {
    let id = &rotation.id;
    let overlap = overlap_or_default(policy);
    let given_up = if key.is_retired() {
        KEY_RETIRED
    } else {
        KEY_REMOVED
    };
    let active = policy.filter(|_| !key.is_retired());
    let secret = in_flight.filter(|in_flight| in_flight.secret.is_some());
    match (rotation.phase, secret, active) {
        (Phase::Intended, _, _) => match in_flight {
            Some(in_flight) if !in_flight.create_sent && active.is_none() => {
                Step::Record(vec![outcome::cancel_create(rotation, given_up)])
            }
            Some(in_flight) if !in_flight.create_sent && rotation.deadline.is_some() => {
                Step::Record(vec![outcome::cancel_create(rotation, LEAKED)])
            }
            Some(in_flight) if !in_flight.create_sent => Step::Create(id.clone()),
            // The ledger could not be read to check the answer.
            Some(in_flight) if in_flight.answer.is_some() => Step::Create(id.clone()),
            in_flight => wait_until_or(plausible_retry(rotation.retry_at, now), now, || {
                Step::FindLabel {
                    rotation: id.clone(),
                    after_restart: in_flight.is_none(),
                }
            }),
        },
        (Phase::Created | Phase::Verified, in_flight, _)
            if rotation.deadline.is_some()
                && (in_flight.is_some() || rotation.can_finish_without_secret()) =>
        {
            Step::Record(outcome::abandon(rotation, LEAKED))
        }
        // Its sinks have the secret; the rest of the rotation does not need it.
        (Phase::Verified, _, Some(_)) if rotation.can_finish_without_secret() => {
            deliver_required(rotation, key, OverlapBounds::new(overlap, in_flight), now)
        }
        (Phase::Verified, None, Some(_)) if secret_source::may_resume(rotation, key, now) => {
            wait_until_or(plausible_retry(rotation.retry_at, now), now, || {
                Step::TakeSecret(id.clone())
            })
        }
        (Phase::Created | Phase::Verified, None, _) => {
            Step::Record(outcome::interrupt(rotation, key, active, now))
        }
        // A removed key has no sinks, and none of a retired key counts.
        (Phase::Created | Phase::Verified, Some(_), None) => {
            Step::Record(outcome::abandon(rotation, given_up))
        }
        (Phase::Created, Some(in_flight), Some(policy)) => {
            let settled = in_flight
                .first_verified_at
                .map(|at| time::after(at, policy.verify_interval));
            wait_until_or(
                plausible_retry(rotation.retry_at.max(settled), now),
                now,
                || Step::Verify(id.clone()),
            )
        }
        (Phase::Verified, Some(_), Some(_)) => {
            deliver_required(rotation, key, OverlapBounds::new(overlap, in_flight), now)
        }
        (Phase::Current | Phase::Stranded, _, _) if key.is_retired() => {
            Step::Record(outcome::retire_with_key(rotation, key, overlap, now))
        }
        (Phase::Current, secret, Some(policy)) => {
            let is_added = |delivery: &Delivery| is_in_delivery(delivery, secret.is_some());
            let added = deliver(rotation, is_added, now);
            let Step::Wait(until) = added else {
                return added;
            };
            let optional = deliver_optional(rotation, policy, secret.is_some(), now);
            if let Step::Wait(other) = optional {
                Step::Wait(until.into_iter().chain(other).min())
            } else {
                optional
            }
        }
        (Phase::Current, _, None) => skip_optional(rotation, Delivery::is_outstanding),
        (Phase::Stranded, _, _) => match sink_hold(rotation, key, overlap) {
            SinkHold::Indefinite => Step::Wait(None),
            // Without a newer one, it may be the newest working credential.
            SinkHold::None | SinkHold::Until(_) if !has_newer_current(rotation, key) => {
                Step::Wait(None)
            }
            until @ (SinkHold::None | SinkHold::Until(_)) => Step::Record(vec![outcome::retire(
                rotation,
                LifecycleEvent::Replaced,
                until,
                time::after(now, overlap),
                now,
            )]),
        },
        (Phase::Retired, _, _) => retired_step(rotation, key, policy, now),
        (Phase::Orphaned, _, _) => revoke_when_due(rotation, key, policy, now),
        (Phase::Revoked | Phase::Failed, _, _) => Step::Wait(None),
    }
}

/// Returns the step of a retired credential. A longer overlap moves its revocation, a
/// shorter one does not.
fn retired_step(
    rotation: &Rotation,
    key: &KeyState,
    policy: Option<&KeyPolicy>,
    now: Timestamp,
) -> Step {
    if !rotation.revoke_now
        && has_newer_current(rotation, key)
        && let SinkHold::Until(at) = sink_hold_with(rotation, key, sink_overlaps(policy))
        && at > now
        && Some(time::next_whole_second(at)) > rotation.revoke_after
    {
        return Step::Record(vec![Change::from(OverlapExtension {
            rotation: rotation.id.clone(),
            revoke_after: time::next_whole_second(at),
        })]);
    }
    revoke_when_due(rotation, key, policy, now)
}

fn revoke_when_due(
    rotation: &Rotation,
    key: &KeyState,
    policy: Option<&KeyPolicy>,
    now: Timestamp,
) -> Step {
    match due_time(rotation, key, policy) {
        DueTime::Never => Step::Wait(None),
        DueTime::From(at) => {
            wait_until_or(at.max(plausible_retry(rotation.retry_at, now)), now, || {
                Step::Revoke(rotation.id.clone())
            })
        }
    }
}

fn deliver_required(
    rotation: &Rotation,
    key: &KeyState,
    overlap: OverlapBounds,
    now: Timestamp,
) -> Step {
    let mut required = rotation
        .deliveries
        .iter()
        .filter(|delivery| delivery.required);
    if required.all(|delivery| !delivery.is_outstanding()) {
        return Step::Record(outcome::make_current(rotation, key, overlap, now));
    }
    deliver(rotation, |delivery| delivery.required, now)
}

fn deliver_optional(
    rotation: &Rotation,
    policy: &KeyPolicy,
    has_secret: bool,
    now: Timestamp,
) -> Step {
    if now >= time::after(rotation.started_at, policy.delivery_deadline) {
        return skip_optional(rotation, Delivery::is_outstanding);
    }
    if !has_secret {
        let skipped = skip_optional(rotation, Delivery::needs_secret);
        if skipped != Step::Wait(None) {
            return skipped;
        }
    }
    deliver(rotation, |delivery| !delivery.required, now)
}

/// Returns the next of the deliveries that `counts` selects.
fn deliver(rotation: &Rotation, counts: impl Fn(&Delivery) -> bool, now: Timestamp) -> Step {
    let mut wait: Option<Timestamp> = None;
    for delivery in &rotation.deliveries {
        if !counts(delivery) || !delivery.is_outstanding() {
            continue;
        }
        match plausible_retry(delivery.retry_at, now) {
            Some(at) if at > now => wait = wait.into_iter().chain([at]).min(),
            Some(_) | None => return delivery_step(rotation, delivery),
        }
    }
    Step::Wait(wait)
}

fn delivery_step(rotation: &Rotation, delivery: &Delivery) -> Step {
    let (rotation, sink) = (rotation.id.clone(), delivery.sink.clone());
    if delivery.written_at.is_some() {
        Step::RunOnChange { rotation, sink }
    } else {
        Step::Deliver { rotation, sink }
    }
}

/// Skips the optional deliveries that `is_hopeless` selects.
fn skip_optional(rotation: &Rotation, is_hopeless: impl Fn(&Delivery) -> bool) -> Step {
    let skipped: Vec<_> = rotation
        .deliveries
        .iter()
        .filter(|delivery| !delivery.required && is_hopeless(delivery))
        .map(|delivery| {
            Change::from(SkippedDelivery {
                rotation: rotation.id.clone(),
                sink: delivery.sink.clone(),
            })
        })
        .collect();
    if skipped.is_empty() {
        Step::Wait(None)
    } else {
        Step::Record(skipped)
    }
}

fn wait_until_or(at: Option<Timestamp>, now: Timestamp, step: impl FnOnce() -> Step) -> Step {
    match at {
        Some(at) if at > now => Step::Wait(Some(at)),
        Some(_) | None => step(),
    }
}

#[cfg(test)]
mod tests;
