//! A credential that the target of a sink holds again.

use super::*;
use crate::core::decide::revocation::candidate::OtherHolder;
use crate::core::state::Sighting;
use crate::core::time::DAY;

const DELAY: Duration = Duration::from_secs(3 * 24 * 3_600);

/// Decides about a retired credential that may be revoked, but was seen in its sink's
/// target since `since`.
fn decide_seen(since: Duration, change: impl FnOnce(&mut Rotation, &mut Case)) -> Revocation {
    let mut case = Case {
        sink: Sink::Accepted,
        ..plain_case()
    };
    let mut rotation = rotation(&case);
    rotation.deliveries[0].sighting = Some(Sighting {
        since: time::before(now(), since),
        until: None,
    });
    change(&mut rotation, &mut case);
    let mut key = key_state(&case, &rotation);
    // The sink accepted the newer one long before.
    let mut newer = deliveries(Sink::Accepted);
    newer[0].accepted_at = Some(time::before(now(), DAY * 20));
    key.live[1].deliveries = newer;
    let policy = KeyPolicy {
        max_revoke_delay: DELAY,
        ..policy()
    };
    let candidate = Candidate {
        reason: case.reason,
        ..candidate(&rotation, &key, &policy)
    };
    decide(
        &candidate,
        &observation(Remote::NeverUsed, ProviderTime::Same),
        now(),
    )
}

fn deferral(decided: &Revocation) -> Option<(Timestamp, bool)> {
    match decided {
        Revocation::Defer(
            deferral @ Deferral {
                reason: DeferReason::HeldAgain { .. },
                ..
            },
        ) => Some((deferral.until, deferral.final_warning)),
        Revocation::Defer(_)
        | Revocation::Observe(_)
        | Revocation::Delete
        | Revocation::AlreadyGone
        | Revocation::Blocked(_) => None,
    }
}

#[test]
fn revocation_waits_until_the_target_is_repaired() {
    let recheck = time::after(now(), MINUTE * 15);
    for (since, until, final_warning) in [
        (Duration::ZERO, recheck, false),
        (DAY, recheck, false),
        (DAY * 2, recheck, true),
        (DELAY - MINUTE, time::after(now(), MINUTE), true),
        // The repair is due, and waits for its sink.
        (DELAY, recheck, true),
        (DELAY * 3, recheck, true),
    ] {
        let decided = decide_seen(since, |_, _| {});
        assert_eq!(
            deferral(&decided),
            Some((until, final_warning)),
            "{since:?}"
        );
    }
}

#[test]
fn optional_target_delays_until_one_overlap_after_the_bound() {
    let optional = |since| {
        decide_seen(since, |rotation, _| {
            rotation.deliveries[0].required = false;
        })
    };
    assert!(deferral(&optional(DELAY + OVERLAP - MINUTE)).is_some());
    assert_eq!(optional(DELAY + OVERLAP), Revocation::Delete);
}

#[test]
fn ended_sighting_delays_by_one_overlap() {
    let ended = |ago: Duration| {
        decide_seen(DAY, |rotation, _| {
            let sighting = rotation.deliveries[0].sighting.as_mut().unwrap();
            sighting.until = Some(time::before(now(), ago));
        })
    };
    let due = time::after(now(), MINUTE);
    assert_eq!(
        ended(OVERLAP - MINUTE),
        Revocation::Blocked(Blocker::NotDue(Some(due)))
    );
    assert_eq!(ended(OVERLAP), Revocation::Delete);
}

/// A person who asks for the end of a credential is not kept waiting by a target, unless
/// the command itself respects sinks.
#[test]
fn only_the_schedule_waits_for_a_target() {
    let asked = decide_seen(DAY, |rotation, case| {
        rotation.revoke_now = true;
        case.reason = RevocationReason::Immediate;
    });
    assert_eq!(asked, Revocation::Delete);
    for (force, expected) in [
        (true, Revocation::Delete),
        (false, Revocation::Blocked(Blocker::HeldBy(vec![sink_id()]))),
    ] {
        let decided = decide_seen(DAY, |_, case| {
            case.reason = RevocationReason::Operator { force };
        });
        assert_eq!(decided, expected, "{force}");
    }
}

/// The target of another key's sink also keeps a shared credential alive.
#[test]
fn target_of_another_key_delays() {
    let case = Case {
        sink: Sink::Accepted,
        ..plain_case()
    };
    let (own, mut other) = (rotation(&case), rotation(&case));
    let mut key = key_state(&case, &own);
    let mut newer = deliveries(Sink::Accepted);
    newer[0].accepted_at = Some(time::before(now(), DAY * 20));
    key.live[1].deliveries = newer;
    let policy = policy();
    other.deliveries[0].sighting = Some(Sighting {
        since: now(),
        until: None,
    });
    let others = [OtherHolder {
        key: key.clone(),
        rotation: other,
        policy: Some(std::sync::Arc::new(policy.clone())),
    }];
    let candidate = Candidate {
        others: &others,
        ..candidate(&own, &key, &policy)
    };
    let observation = observation(Remote::NeverUsed, ProviderTime::Same);
    assert!(deferral(&decide(&candidate, &observation, now())).is_some());
}
