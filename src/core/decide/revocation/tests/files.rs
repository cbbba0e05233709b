//! Files of configured sinks that hold a credential without a row.

use super::*;

/// Every reason that would delete now, and what a file that holds the credential makes
/// of it.
#[test]
fn file_without_a_row_keeps_a_credential_unless_somebody_insists() {
    const WAITING_REASONS: [RevocationReason; 6] = [
        RevocationReason::Superseded,
        RevocationReason::Immediate,
        RevocationReason::Orphan,
        RevocationReason::DuplicateLabel,
        RevocationReason::Eviction,
        RevocationReason::Operator { force: false },
    ];
    let policy = policy();
    let mut deleted = std::collections::BTreeSet::new();
    for_each_ledger_case(|case| {
        let rotation = rotation(&case);
        let key = key_state(&case, &rotation);
        let id = credential_id(if case.has_row { 1 } else { 9 });
        let candidate = Candidate {
            key: &key,
            rotation: (case.reason != RevocationReason::DuplicateLabel).then_some(&rotation),
            credential: &id,
            policy: Some(&policy),
            others: &[],
            reason: case.reason,
            is_clock_trusted: true,
        };
        let mut observation = observation(Remote::NeverUsed, ProviderTime::Same);
        if decide(&candidate, &observation, now()) != Revocation::Delete {
            return;
        }
        deleted.insert(case.reason.as_str());
        for held in [None, Some(true)] {
            observation.is_held_elsewhere = held;
            let decided = decide(&candidate, &observation, now());
            let keeps = WAITING_REASONS.contains(&case.reason);
            match held {
                _ if !keeps => assert_eq!(decided, Revocation::Delete, "{case:?}"),
                None => assert_eq!(
                    decided,
                    Revocation::Observe(ObservationPart::Files),
                    "{case:?}"
                ),
                Some(_) => assert!(
                    matches!(
                        decided,
                        Revocation::Blocked(Blocker::HeldElsewhere)
                            | Revocation::Defer(Deferral {
                                reason: DeferReason::HeldElsewhere,
                                ..
                            })
                    ),
                    "{case:?}: {decided:?}"
                ),
            }
        }
    });
    assert_eq!(deleted.len(), RevocationReason::ALL.len(), "{deleted:?}");
}
