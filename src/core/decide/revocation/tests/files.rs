//! Files of configured sinks that hold a credential without a row.

use super::*;
use crate::core::state::DeferralKind;

/// Every reason that would delete now, and what a file that holds the credential makes
/// of it.
#[test]
fn file_without_a_row_keeps_a_credential_unless_somebody_insists() {
    const WAITING_REASONS: [RevocationReason; 8] = [
        RevocationReason::Superseded,
        RevocationReason::Immediate,
        RevocationReason::Orphan,
        RevocationReason::KeyRetired {
            is_immediate: false,
        },
        RevocationReason::KeyRetired { is_immediate: true },
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
        for held in [None, Some(FileEvidence::Holding)] {
            observation.files = held;
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
                                reason: DeferReason::HeldElsewhere { .. },
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

/// Which credentials a file keeps, and until when.
#[test]
fn a_file_has_a_bound_unless_a_person_gave_the_credential_to_it() {
    let policy = policy();
    let delay = policy.max_revoke_delay;
    let seen_long_ago = time::before(now(), delay);
    let case = plain_case();
    for (trigger, evidence, deferral, is_kept) in [
        (Trigger::Adopted, FileEvidence::Holding, None, true),
        (
            Trigger::Adopted,
            FileEvidence::Holding,
            Some(DeferralKind::HeldElsewhere),
            true,
        ),
        (Trigger::Adopted, FileEvidence::Unseen, None, true),
        (
            Trigger::Adopted,
            FileEvidence::Unseen,
            Some(DeferralKind::HeldElsewhere),
            true,
        ),
        (
            Trigger::Adopted,
            FileEvidence::Unseen,
            Some(DeferralKind::FileUnseen),
            false,
        ),
        (Trigger::Schedule, FileEvidence::Holding, None, true),
        (
            Trigger::Schedule,
            FileEvidence::Holding,
            Some(DeferralKind::RecentlyUsed),
            true,
        ),
        (
            Trigger::Schedule,
            FileEvidence::Holding,
            Some(DeferralKind::HeldElsewhere),
            false,
        ),
    ] {
        let mut rotation = rotation(&case);
        rotation.trigger = trigger;
        rotation.deferral = deferral;
        rotation.deferred_since = deferral.map(|_| seen_long_ago);
        let key = key_state(&case, &rotation);
        let id = credential_id(1);
        let candidate = Candidate {
            key: &key,
            rotation: Some(&rotation),
            credential: &id,
            policy: Some(&policy),
            others: &[],
            reason: case.reason,
            is_clock_trusted: true,
        };
        let mut observation = observation(Remote::NeverUsed, ProviderTime::Same);
        observation.files = Some(evidence);
        let decided = decide(&candidate, &observation, now());
        let text = format!("{trigger:?} {evidence:?} {deferral:?}: {decided:?}");
        assert_eq!(decided != Revocation::Delete, is_kept, "{text}");
    }
}

#[test]
fn the_last_day_of_a_wait_for_files_is_marked() {
    let policy = policy();
    let case = plain_case();
    let day_before = time::before(now(), policy.max_revoke_delay.saturating_sub(time::DAY));
    for (trigger, since, is_last_day) in [
        (
            Trigger::Schedule,
            time::after(day_before, time::HOUR),
            false,
        ),
        (Trigger::Schedule, day_before, true),
        // It has no end.
        (Trigger::Adopted, day_before, false),
    ] {
        let mut rotation = rotation(&case);
        rotation.trigger = trigger;
        rotation.deferral = Some(DeferralKind::HeldElsewhere);
        rotation.deferred_since = Some(since);
        let key = key_state(&case, &rotation);
        let id = credential_id(1);
        let candidate = Candidate {
            key: &key,
            rotation: Some(&rotation),
            credential: &id,
            policy: Some(&policy),
            others: &[],
            reason: case.reason,
            is_clock_trusted: true,
        };
        let mut observation = observation(Remote::NeverUsed, ProviderTime::Same);
        observation.files = Some(FileEvidence::Holding);
        let decided = decide(&candidate, &observation, now());
        let Revocation::Defer(deferral) = decided else {
            panic!("{trigger:?}: {decided:?}");
        };
        assert_eq!(deferral.final_warning, is_last_day, "{trigger:?} {since}");
    }
}
