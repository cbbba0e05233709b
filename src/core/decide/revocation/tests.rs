//! Every combination of observation, reason, phase and hold, against a table of rules.

mod files;
mod sightings;

use std::time::Duration;

use jiff::tz::TimeZone;

use super::*;
use crate::core::ids::{CredentialId, KeyName, Label, RotationId};
use crate::core::policy::UNMANAGED_OVERLAP;
use crate::core::schedule::Schedule;
use crate::core::scope::Scope;
use crate::core::state::{CredentialMetadata, Delivery, KeyState, Retirement, RevocationDeadline};

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);
/// The overlap of every key here, so that an unconfigured key has the same.
const OVERLAP: Duration = UNMANAGED_OVERLAP;

const PHASES: [Phase; 9] = [
    Phase::Intended,
    Phase::Created,
    Phase::Verified,
    Phase::Current,
    Phase::Retired,
    Phase::Stranded,
    Phase::Orphaned,
    Phase::Revoked,
    Phase::Failed,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Never,
    Past,
    Future,
}

/// The delivery of the credential to its one required sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sink {
    None,
    NotDelivered,
    Accepted,
    RemovedLongAgo,
    RemovedRecently,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remote {
    NotAsked,
    Gone,
    NeverUsed,
    /// rekeyd's own verification used it.
    UsedLongAgo,
    /// A consumer used it ten minutes ago.
    UsedRecently,
    /// The answer has a last use that cannot be read.
    UseUnreadable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProviderTime {
    Missing,
    Same,
    Other,
}

/// One combination of facts and observations.
#[derive(Debug, Clone, Copy)]
struct Case {
    reason: RevocationReason,
    phase: Phase,
    revoke_now: bool,
    has_newer: bool,
    sink: Sink,
    hold: When,
    overlap_end: When,
    is_configured: bool,
    is_clock_trusted: bool,
    has_row: bool,
    answer: Remote,
    identity: Identity,
    usage: Option<CredentialUsage>,
    successor: Option<bool>,
    provider_time: ProviderTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Observe(ObservationPart),
    Delete,
    AlreadyGone,
    DeferSelfCredential,
    DeferMayBeInUse,
    DeferUsed,
    DeferUseUnreadable,
    DeferSuccessor,
    DeferOtherName,
    NotDue,
    Clock,
    SelfCredential,
    MayBeInUse,
    OtherName,
    HeldBy,
    Used,
    HasRow,
}

impl Case {
    fn is_scheduled(&self) -> bool {
        matches!(
            self.reason,
            RevocationReason::Superseded
                | RevocationReason::Immediate
                | RevocationReason::Orphan
                | KEY_RETIRED
        )
    }

    fn is_leaked(&self) -> bool {
        matches!(self.reason, RevocationReason::Leaked { .. })
    }

    fn is_insisted(&self) -> bool {
        matches!(
            self.reason,
            RevocationReason::Operator { force: true } | RevocationReason::Leaked { force: true }
        )
    }

    fn fits_phase(&self) -> bool {
        match self.reason {
            RevocationReason::Superseded => self.phase == Phase::Retired && !self.revoke_now,
            RevocationReason::Immediate => self.phase == Phase::Retired && self.revoke_now,
            RevocationReason::Orphan => self.phase == Phase::Orphaned,
            RevocationReason::KeyRetired { .. } => {
                matches!(self.phase, Phase::Retired | Phase::Orphaned)
            }
            RevocationReason::Leaked { .. } => matches!(
                self.phase,
                Phase::Current | Phase::Retired | Phase::Stranded | Phase::Orphaned
            ),
            RevocationReason::DuplicateLabel
            | RevocationReason::Eviction
            | RevocationReason::Operator { .. } => true,
        }
    }

    fn waits_for_sinks(&self) -> bool {
        self.reason == RevocationReason::Superseded
            || (matches!(self.reason, RevocationReason::Orphan | KEY_RETIRED) && !self.revoke_now)
    }

    /// Returns whether the sink holds it now, by a trusted clock.
    fn is_held(&self) -> bool {
        match self.sink {
            Sink::None | Sink::RemovedLongAgo => false,
            // A process whose last commits are lost may have delivered it.
            Sink::NotDelivered => self.phase == Phase::Stranded,
            Sink::Accepted | Sink::RemovedRecently => true,
        }
    }

    fn is_unidentified(&self) -> bool {
        match self.identity {
            // The answers that the provider has no such credential show no name.
            _ if self.answer == Remote::Gone => false,
            Identity::Confirmed => false,
            Identity::ConfirmedByOperator => {
                self.reason != RevocationReason::Operator { force: true }
            }
            Identity::OtherName | Identity::Unproven => true,
        }
    }

    fn may_be_used(&self) -> bool {
        matches!(self.answer, Remote::UsedRecently | Remote::UseUnreadable)
    }

    fn is_clock_confirmed(&self) -> bool {
        self.is_clock_trusted && self.provider_time == ProviderTime::Same
    }

    fn depends_on_time(&self) -> bool {
        self.reason == RevocationReason::Superseded
            || (self.waits_for_sinks() && self.phase == Phase::Retired)
            || (self.is_scheduled() && self.hold == When::Past)
            || (self.waits_for_sinks() && self.sink == Sink::RemovedLongAgo)
    }
}

/// A rule; the first one that applies decides.
type Rule = (&'static str, fn(&Case) -> bool, Expected);
const KEY_RETIRED: RevocationReason = RevocationReason::KeyRetired {
    is_immediate: false,
};
const OPERATOR: RevocationReason = RevocationReason::Operator { force: false };
const RULES: [Rule; 32] = [
    (
        "the credential of a row is no duplicate",
        |case| case.reason == RevocationReason::DuplicateLabel && case.has_row,
        Expected::HasRow,
    ),
    (
        "the reason does not fit the phase",
        |case| !case.fits_phase(),
        Expected::NotDue,
    ),
    (
        "the newest working credential is kept",
        |case| case.reason == RevocationReason::Superseded && !case.has_newer,
        Expected::NotDue,
    ),
    (
        "a leaked credential is kept until a newer one is verified",
        |case| case.is_leaked() && !case.has_newer,
        Expected::NotDue,
    ),
    (
        "a credential that a sink holds is kept",
        |case| case.waits_for_sinks() && case.is_held(),
        Expected::NotDue,
    ),
    (
        "its overlap is not over",
        |case| {
            case.overlap_end == When::Future
                && (case.reason == RevocationReason::Superseded
                    || (case.reason == KEY_RETIRED && case.waits_for_sinks()))
        },
        Expected::NotDue,
    ),
    (
        "an operator holds it",
        |case| case.is_scheduled() && case.hold == When::Future,
        Expected::NotDue,
    ),
    (
        "only a stranded credential is evicted",
        |case| case.reason == RevocationReason::Eviction && case.phase != Phase::Stranded,
        Expected::NotDue,
    ),
    (
        "a delivered credential is not evicted",
        |case| {
            case.reason == RevocationReason::Eviction
                && !matches!(case.sink, Sink::None | Sink::NotDelivered)
        },
        Expected::NotDue,
    ),
    (
        "an operator's revocation is blocked by the sinks that hold it",
        |case| case.reason == OPERATOR && case.is_held(),
        Expected::HeldBy,
    ),
    (
        "no overlap is over while the clock is not trusted",
        |case| {
            case.reason == OPERATOR
                && case.sink == Sink::RemovedLongAgo
                && (!case.is_clock_trusted || case.provider_time == ProviderTime::Other)
        },
        Expected::HeldBy,
    ),
    (
        "the decision needs a fresh answer of the provider",
        |case| case.answer == Remote::NotAsked,
        Expected::Observe(ObservationPart::Credential),
    ),
    (
        "a credential that is gone is recorded as revoked",
        |case| {
            case.answer == Remote::Gone && case.reason != RevocationReason::Operator { force: true }
        },
        Expected::AlreadyGone,
    ),
    (
        "the decision needs to know whether rekeyd uses it",
        |case| case.usage.is_none(),
        Expected::Observe(ObservationPart::Usage),
    ),
    (
        "an operator cannot revoke the credential that rekeyd uses",
        |case| {
            case.usage == Some(CredentialUsage::InUse)
                && matches!(case.reason, RevocationReason::Operator { .. })
        },
        Expected::SelfCredential,
    ),
    (
        "the credential that rekeyd uses is not evicted",
        |case| {
            case.usage == Some(CredentialUsage::InUse) && case.reason == RevocationReason::Eviction
        },
        Expected::SelfCredential,
    ),
    (
        "the credential that rekeyd uses is kept",
        |case| case.usage == Some(CredentialUsage::InUse),
        Expected::DeferSelfCredential,
    ),
    (
        "an operator can insist on what rekeyd only may use",
        |case| {
            case.usage == Some(CredentialUsage::MayBeInUse)
                && case.is_insisted()
                && !case.is_unidentified()
        },
        Expected::Delete,
    ),
    (
        "a credential that rekeyd may use is revoked by no other command and not evicted",
        |case| {
            case.usage == Some(CredentialUsage::MayBeInUse)
                && matches!(
                    case.reason,
                    RevocationReason::Operator { force: false } | RevocationReason::Eviction
                )
        },
        Expected::MayBeInUse,
    ),
    (
        "a credential that rekeyd may use is kept",
        |case| case.usage == Some(CredentialUsage::MayBeInUse) && !case.is_insisted(),
        Expected::DeferMayBeInUse,
    ),
    (
        "a credential that the provider does not show under its name is not revoked by a \
         command without that name, and not evicted",
        |case| {
            case.is_unidentified()
                && matches!(
                    case.reason,
                    RevocationReason::Operator { .. } | RevocationReason::Eviction
                )
        },
        Expected::OtherName,
    ),
    (
        "a credential that the provider does not show under its name is kept",
        Case::is_unidentified,
        Expected::DeferOtherName,
    ),
    (
        "a wrong clock does not cause a revocation",
        |case| case.depends_on_time() && !case.is_clock_confirmed(),
        Expected::Clock,
    ),
    (
        "a credential in use is deferred",
        |case| {
            matches!(case.reason, RevocationReason::Superseded | KEY_RETIRED)
                && case.is_configured
                && case.answer == Remote::UsedRecently
        },
        Expected::DeferUsed,
    ),
    (
        "a credential whose last use cannot be read counts as used now",
        |case| {
            matches!(case.reason, RevocationReason::Superseded | KEY_RETIRED)
                && case.is_configured
                && case.answer == Remote::UseUnreadable
        },
        Expected::DeferUseUnreadable,
    ),
    (
        "the decision needs to know whether the successor exists",
        |case| case.reason == RevocationReason::Superseded && case.successor.is_none(),
        Expected::Observe(ObservationPart::Successor),
    ),
    (
        "a credential without a successor is deferred",
        |case| case.reason == RevocationReason::Superseded && case.successor == Some(false),
        Expected::DeferSuccessor,
    ),
    (
        "a credential that a consumer used is not evicted",
        |case| case.reason == RevocationReason::Eviction && case.may_be_used(),
        Expected::Used,
    ),
    (
        "a superseded credential is revoked",
        |case| case.reason == RevocationReason::Superseded,
        Expected::Delete,
    ),
    (
        "an operator's command revokes it",
        |case| matches!(case.reason, RevocationReason::Operator { .. }),
        Expected::Delete,
    ),
    (
        "a stranded credential is evicted",
        |case| case.reason == RevocationReason::Eviction,
        Expected::Delete,
    ),
    (
        "every other credential is revoked",
        |_| true,
        Expected::Delete,
    ),
];

#[test]
fn every_case_is_decided_by_the_first_rule_that_applies() {
    let mut used = [0_u64; RULES.len()];
    for_each_case(|case, decided| {
        let rule = RULES
            .iter()
            .position(|(_, applies, _)| applies(case))
            .unwrap();
        used[rule] += 1;
        let (name, _, expected) = RULES[rule];
        assert_eq!(tag(decided), expected, "{name}: {case:?}");
    });
    for ((name, ..), count) in RULES.iter().zip(used) {
        assert!(count > 0, "no case is decided by the rule: {name}");
    }
}

#[test]
fn no_credential_is_deleted_that_is_in_use_held_newest_or_due_by_a_wrong_clock() {
    let mut deletions = 0_u64;
    for_each_case(|case, decided| {
        if *decided != Revocation::Delete {
            return;
        }
        deletions += 1;
        assert_ne!(case.answer, Remote::NotAsked, "{case:?}");
        let usage = case.usage.unwrap();
        assert_ne!(usage, CredentialUsage::InUse, "{case:?}");
        assert!(
            case.is_insisted() || usage != CredentialUsage::MayBeInUse,
            "{case:?}"
        );
        assert!(!case.is_unidentified(), "{case:?}");
        // Sinks do not count for a forced revocation, an unused stranded credential
        // and a duplicate, whose secret no sink has.
        let ignores_sinks = match case.reason {
            RevocationReason::Operator { force } => force,
            RevocationReason::Immediate | RevocationReason::Leaked { .. } => true,
            RevocationReason::Orphan => case.revoke_now,
            RevocationReason::KeyRetired { is_immediate } => is_immediate || case.revoke_now,
            RevocationReason::Eviction => !case.may_be_used(),
            RevocationReason::DuplicateLabel => !case.has_row,
            RevocationReason::Superseded => false,
        };
        assert!(ignores_sinks || !case.is_held(), "{case:?}");
        if case.is_leaked() {
            assert!(case.has_newer, "{case:?}");
        }
        if case.reason == RevocationReason::Superseded {
            assert_eq!(case.successor, Some(true), "{case:?}");
            assert!(case.has_newer, "{case:?}");
        }
        assert!(
            !case.depends_on_time() || case.is_clock_confirmed(),
            "{case:?}"
        );
    });
    assert!(deletions > 1_000, "{deletions}");
}

#[test]
fn final_warning_is_set_on_the_last_day_of_the_delay() {
    let (mut rotation, key) = superseded();
    let policy = policy();
    for (remaining, warns, pause) in [
        (HOUR * 48, false, MINUTE * 15),
        (HOUR * 24 + MINUTE, false, MINUTE * 15),
        (HOUR * 24, true, MINUTE * 15),
        (MINUTE * 5, true, MINUTE * 5),
    ] {
        rotation.revoke_after = Some(time::before(
            time::after(now(), remaining),
            policy.max_revoke_delay,
        ));
        let observation = observation(Remote::UsedRecently, ProviderTime::Same);
        let decided = decide(&candidate(&rotation, &key, &policy), &observation, now());
        let Revocation::Defer(deferral) = decided else {
            panic!("{decided:?}");
        };
        assert_eq!(deferral.final_warning, warns, "{remaining:?}");
        assert_eq!(deferral.until, time::after(now(), pause), "{remaining:?}");
        let text = deferral.message();
        assert!(
            text.starts_with("it was used at 2026-11-24T11:50:00Z; it is revoked at "),
            "{text}"
        );
        assert_eq!(
            text.ends_with("; hint: check that its consumers use the new one"),
            warns,
            "{text}"
        );
    }
    // At the end of the delay, it is revoked even if it is in use.
    rotation.revoke_after = Some(time::before(now(), policy.max_revoke_delay));
    let observation = observation(Remote::UsedRecently, ProviderTime::Same);
    let decided = decide(&candidate(&rotation, &key, &policy), &observation, now());
    assert_eq!(decided, Revocation::Delete);
}

#[test]
fn use_by_own_verification_does_not_defer_revocation() {
    let (mut rotation, key) = superseded();
    let policy = policy();
    let observation = observation(Remote::UsedRecently, ProviderTime::Same);
    for (current_minutes_ago, is_deferred) in [(11, true), (10, false), (9, false)] {
        rotation.current_at = Some(time::before(now(), MINUTE * current_minutes_ago));
        let decided = decide(&candidate(&rotation, &key, &policy), &observation, now());
        let deferred = matches!(decided, Revocation::Defer(_));
        assert_eq!(deferred, is_deferred, "{current_minutes_ago}");
    }
}

/// The provider's clock shows when the credential was used last: by it, the credential is
/// idle, and the use is that of rekeyd before it became current.
#[test]
fn idle_time_is_that_of_the_providers_clock() {
    let (rotation, key) = superseded();
    let policy = policy();
    let current_at = rotation.current_at.unwrap();
    let idle = policy.revoke_when_idle_for;
    let second = Duration::from_secs(1);
    for (ahead, used_for, used_at, is_used) in [
        // Idle for a second less, and a second more, than it must be.
        (MINUTE * 4, Some(idle - second), None, true),
        (MINUTE * 4, Some(idle + second), None, false),
        (Duration::ZERO, Some(idle - second), None, true),
        (Duration::ZERO, Some(idle + second), None, false),
        // Used right after it became current, which is earlier by the provider's clock.
        (
            MINUTE * 4,
            None,
            Some(time::before(current_at, MINUTE * 3)),
            true,
        ),
        (
            MINUTE * 4,
            None,
            Some(time::before(current_at, MINUTE * 4)),
            false,
        ),
        (
            Duration::ZERO,
            None,
            Some(time::before(current_at, second)),
            false,
        ),
        (
            Duration::ZERO,
            None,
            Some(time::after(current_at, second)),
            true,
        ),
    ] {
        let mut policy = policy.clone();
        if used_at.is_some() {
            policy.revoke_when_idle_for = HOUR * 6;
        }
        let provider_now = time::before(now(), ahead);
        let used_at = used_at.or(used_for.map(|span| time::before(provider_now, span)));
        let last_use = ReportedTime::At(used_at.unwrap());
        let observed = Observation {
            credential: Some(RemoteAnswer::Live {
                last_use,
                identity: Identity::Confirmed,
            }),
            server_time: Some(provider_now),
            ..observation(Remote::NeverUsed, ProviderTime::Same)
        };
        let decided = decide(&candidate(&rotation, &key, &policy), &observed, now());
        let expected = if is_used {
            Expected::DeferUsed
        } else {
            Expected::Delete
        };
        assert_eq!(
            tag(&decided),
            expected,
            "{ahead:?} {used_for:?} {last_use:?}"
        );
    }
}

#[test]
fn deferral_messages_state_the_reason() {
    let doubtful = Deferral::self_credential(CredentialUsage::MayBeInUse, now());
    assert!(
        doubtful
            .message()
            .starts_with("it may be rekeyd's own admin key: ")
    );
    let own = Deferral::self_credential(CredentialUsage::InUse, now());
    assert_eq!(own.message(), "it is rekeyd's own admin key");
    assert_eq!(own.until, time::after(now(), MINUTE * 15));
    let (rotation, key) = superseded();
    let policy = policy();
    let mut observation = observation(Remote::NeverUsed, ProviderTime::Same);
    observation.successor_exists = Some(false);
    let decided = decide(&candidate(&rotation, &key, &policy), &observation, now());
    let Revocation::Defer(deferral) = decided else {
        panic!("{decided:?}");
    };
    assert_eq!(
        deferral.message(),
        "the provider does not show its successor"
    );
    assert_eq!(deferral.until, time::after(now(), MISSING_CHECK_INTERVAL));
}

#[test]
fn adopted_credentials_are_not_evicted() {
    let case = Case {
        phase: Phase::Stranded,
        ..plain_case()
    };
    let mut rotation = rotation(&case);
    assert!(is_evictable(&rotation));
    rotation.trigger = Trigger::Adopted;
    assert!(!is_evictable(&rotation), "an operator has delivered it");
}

#[test]
fn reasons_have_distinct_words() {
    let words: std::collections::BTreeSet<_> = RevocationReason::ALL
        .iter()
        .map(|reason| reason.as_str())
        .collect();
    assert_eq!(words.len(), RevocationReason::ALL.len());
}

#[test]
fn a_credential_is_identified_by_its_name_or_else_by_its_creation() {
    let (earlier, later) = (Some(now()), Some(time::after(now(), HOUR)));
    for (recorded, shown, confirmed, expected) in [
        (
            (Some("a"), earlier),
            (Some("a"), later),
            None,
            Identity::Confirmed,
        ),
        (
            (Some("a"), None),
            (Some("a"), None),
            None,
            Identity::Confirmed,
        ),
        (
            (Some("a"), earlier),
            (None, earlier),
            None,
            Identity::Confirmed,
        ),
        ((None, earlier), (None, earlier), None, Identity::Confirmed),
        (
            (Some("a"), earlier),
            (None, later),
            None,
            Identity::Unproven,
        ),
        ((Some("a"), None), (None, None), None, Identity::Unproven),
        (
            (Some("a"), earlier),
            (Some("b"), earlier),
            None,
            Identity::OtherName,
        ),
        (
            (Some("a"), earlier),
            (Some("A"), earlier),
            None,
            Identity::OtherName,
        ),
        (
            (None, earlier),
            (Some("b"), earlier),
            None,
            Identity::OtherName,
        ),
        (
            (Some("a"), earlier),
            (Some("b"), earlier),
            Some("a"),
            Identity::OtherName,
        ),
        (
            (Some("a"), earlier),
            (Some("b"), earlier),
            Some("b"),
            Identity::ConfirmedByOperator,
        ),
        (
            (Some("a"), None),
            (None, None),
            Some(""),
            Identity::ConfirmedByOperator,
        ),
    ] {
        let identity = Identity::compare(recorded, shown, confirmed);
        assert_eq!(identity, expected, "{recorded:?} {shown:?} {confirmed:?}");
    }
}

fn for_each_case(mut check: impl FnMut(&Case, &Revocation)) {
    let policy = policy();
    let observations = observations();
    for_each_ledger_case(|mut case| {
        let rotation = rotation(&case);
        let key = key_state(&case, &rotation);
        let id = match case.has_row {
            true => credential_id(1),
            false => credential_id(9),
        };
        let candidate = Candidate {
            key: &key,
            rotation: (case.reason != RevocationReason::DuplicateLabel).then_some(&rotation),
            credential: &id,
            policy: case.is_configured.then_some(&policy),
            others: &[],
            reason: case.reason,
            is_clock_trusted: case.is_clock_trusted,
        };
        for (answer, identity, usage, successor, provider_time, observation) in &observations {
            case.answer = *answer;
            case.identity = *identity;
            case.usage = *usage;
            case.successor = *successor;
            case.provider_time = *provider_time;
            check(&case, &decide(&candidate, observation, now()));
        }
    });
}

fn for_each_ledger_case(mut check: impl FnMut(Case)) {
    const BOTH: [bool; 2] = [false, true];
    const SINKS: [Sink; 5] = [
        Sink::None,
        Sink::NotDelivered,
        Sink::Accepted,
        Sink::RemovedLongAgo,
        Sink::RemovedRecently,
    ];
    for reason in RevocationReason::ALL {
        for phase in PHASES {
            for sink in SINKS {
                for hold in [When::Never, When::Past, When::Future] {
                    for overlap_end in [When::Past, When::Future] {
                        for revoke_now in BOTH {
                            for has_newer in BOTH {
                                for is_configured in BOTH {
                                    for is_clock_trusted in BOTH {
                                        for has_row in rows_of(reason) {
                                            check(Case {
                                                reason,
                                                phase,
                                                revoke_now,
                                                has_newer,
                                                sink,
                                                hold,
                                                overlap_end,
                                                is_configured,
                                                is_clock_trusted,
                                                has_row: *has_row,
                                                ..plain_case()
                                            });
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn rows_of(reason: RevocationReason) -> &'static [bool] {
    if reason == RevocationReason::DuplicateLabel {
        &[true, false]
    } else {
        &[true]
    }
}

type Observed = (
    Remote,
    Identity,
    Option<CredentialUsage>,
    Option<bool>,
    ProviderTime,
    Observation,
);

/// Returns the identities that are combined with an answer: one answer has all of them.
fn identities(answer: Remote, provider_time: ProviderTime) -> &'static [Identity] {
    if answer == Remote::NeverUsed && provider_time == ProviderTime::Same {
        &[
            Identity::Confirmed,
            Identity::ConfirmedByOperator,
            Identity::OtherName,
            Identity::Unproven,
        ]
    } else {
        &[Identity::Confirmed]
    }
}

fn observations() -> Vec<Observed> {
    let mut all = Vec::new();
    for answer in [
        Remote::NotAsked,
        Remote::Gone,
        Remote::NeverUsed,
        Remote::UsedLongAgo,
        Remote::UsedRecently,
        Remote::UseUnreadable,
    ] {
        for provider_time in [
            ProviderTime::Missing,
            ProviderTime::Same,
            ProviderTime::Other,
        ] {
            for usage in [
                None,
                Some(CredentialUsage::Unused),
                Some(CredentialUsage::Previous),
                Some(CredentialUsage::MayBeInUse),
                Some(CredentialUsage::InUse),
            ] {
                for successor_exists in [None, Some(false), Some(true)] {
                    for identity in identities(answer, provider_time) {
                        let mut observation = Observation {
                            usage,
                            successor_exists,
                            ..observation(answer, provider_time)
                        };
                        if let Some(RemoteAnswer::Live {
                            identity: shown, ..
                        }) = &mut observation.credential
                        {
                            *shown = *identity;
                        }
                        all.push((
                            answer,
                            *identity,
                            usage,
                            successor_exists,
                            provider_time,
                            observation,
                        ));
                    }
                }
            }
        }
    }
    all
}

fn tag(decided: &Revocation) -> Expected {
    match decided {
        Revocation::Observe(part) => Expected::Observe(*part),
        Revocation::Delete => Expected::Delete,
        Revocation::AlreadyGone => Expected::AlreadyGone,
        Revocation::Defer(deferral) => match deferral.reason {
            DeferReason::UsedByOtherKey => panic!("no other key has it"),
            DeferReason::HeldAgain { .. } => panic!("no target was seen with it"),
            DeferReason::HeldElsewhere { .. } | DeferReason::FileUnseen { .. } => {
                panic!("no file holds it")
            }
            DeferReason::SelfCredential => Expected::DeferSelfCredential,
            DeferReason::MayBeInUse => Expected::DeferMayBeInUse,
            DeferReason::RecentlyUsed { .. } => Expected::DeferUsed,
            DeferReason::UseUnreadable { .. } => Expected::DeferUseUnreadable,
            DeferReason::SuccessorMissing => Expected::DeferSuccessor,
            DeferReason::OtherName => Expected::DeferOtherName,
        },
        Revocation::Blocked(blocker) => match blocker {
            Blocker::NotDue(_) => Expected::NotDue,
            Blocker::HeldElsewhere => panic!("no file holds it"),
            Blocker::Clock => Expected::Clock,
            Blocker::SelfCredential => Expected::SelfCredential,
            Blocker::MayBeInUse => Expected::MayBeInUse,
            Blocker::HeldBy(sinks) => {
                assert_eq!(*sinks, [sink_id()]);
                Expected::HeldBy
            }
            Blocker::UsedByConsumer => Expected::Used,
            Blocker::OtherName => Expected::OtherName,
            Blocker::HasRow => Expected::HasRow,
        },
    }
}

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn policy() -> KeyPolicy {
    KeyPolicy {
        overlap: OVERLAP,
        ..KeyPolicy::new(Schedule::parse("@yearly", TimeZone::UTC).unwrap())
    }
}

/// Returns the case of a retired credential that may be revoked.
fn plain_case() -> Case {
    Case {
        reason: RevocationReason::Superseded,
        phase: Phase::Retired,
        revoke_now: false,
        has_newer: true,
        sink: Sink::None,
        hold: When::Never,
        overlap_end: When::Past,
        is_configured: true,
        is_clock_trusted: true,
        has_row: true,
        answer: Remote::NeverUsed,
        identity: Identity::Confirmed,
        usage: Some(CredentialUsage::Unused),
        successor: Some(true),
        provider_time: ProviderTime::Same,
    }
}

fn superseded() -> (Rotation, KeyState) {
    let case = plain_case();
    let rotation = rotation(&case);
    let key = key_state(&case, &rotation);
    (rotation, key)
}

fn candidate<'a>(
    rotation: &'a Rotation,
    key: &'a KeyState,
    policy: &'a KeyPolicy,
) -> Candidate<'a> {
    Candidate {
        key,
        rotation: Some(rotation),
        credential: &rotation.credential.as_ref().unwrap().id,
        policy: Some(policy),
        others: &[],
        reason: RevocationReason::Superseded,
        is_clock_trusted: true,
    }
}

fn observation(answer: Remote, provider_time: ProviderTime) -> Observation {
    let live = |last_use| {
        Some(RemoteAnswer::Live {
            last_use,
            identity: Identity::Confirmed,
        })
    };
    let used = |span| live(ReportedTime::At(time::before(now(), span)));
    Observation {
        credential: match answer {
            Remote::NotAsked => None,
            Remote::Gone => Some(RemoteAnswer::Gone),
            Remote::NeverUsed => live(ReportedTime::None),
            Remote::UsedLongAgo => used(HOUR * 5 - MINUTE * 5),
            Remote::UsedRecently => used(MINUTE * 10),
            Remote::UseUnreadable => live(ReportedTime::Unreadable),
        },
        server_time: match provider_time {
            ProviderTime::Missing => None,
            ProviderTime::Same => Some(now()),
            ProviderTime::Other => Some(time::after(now(), MINUTE * 6)),
        },
        usage: Some(CredentialUsage::Unused),
        successor_exists: Some(true),
        files: Some(FileEvidence::Absent),
    }
}

fn credential_id(number: u64) -> CredentialId {
    CredentialId::new(format!("key_{number}"))
}

fn sink_id() -> SinkId {
    SinkId {
        name: "file".to_owned(),
        target: "file:/x".to_owned(),
    }
}

fn time_of(when: When) -> Option<Timestamp> {
    match when {
        When::Never => None,
        When::Past => Some(time::before(now(), HOUR)),
        When::Future => Some(time::after(now(), HOUR)),
    }
}

/// Returns a rotation that started five hours ago and became current twenty minutes
/// later, or was stranded two hours ago.
fn rotation(case: &Case) -> Rotation {
    let is_stranded = case.phase == Phase::Stranded;
    Rotation {
        label: Some(Label::new(
            &KeyName::new("billing").unwrap(),
            now(),
            [1, 2, 3],
        )),
        credential: Some(CredentialMetadata {
            id: credential_id(1),
            redacted_value: None,
            created_at: None,
            expires_at: None,
        }),
        current_at: Some(time::before(now(), HOUR * 5 - MINUTE * 20)),
        revoke_after: time_of(case.overlap_end),
        stranded_at: is_stranded.then(|| time::before(now(), HOUR * 2)),
        hold_until: time_of(case.hold),
        revoke_now: case.revoke_now,
        deadline: case.is_leaked().then(|| RevocationDeadline {
            at: now(),
            is_forced: case.reason == RevocationReason::Leaked { force: true },
        }),
        maybe_created: true,
        deliveries: deliveries(case.sink),
        ..Rotation::new(
            RotationId::new([1; 8]),
            Scope::AdminKeys,
            1,
            Trigger::Schedule,
            case.phase,
            time::before(now(), HOUR * 5),
        )
    }
}

fn deliveries(sink: Sink) -> Vec<Delivery> {
    let delivery = |state, removed_at| {
        vec![Delivery {
            sink: sink_id(),
            required: true,
            state,
            maybe_accepted: false,
            attempts: 1,
            last_attempt_at: None,
            written_at: None,
            sighting: None,
            file: None,
            file_access: None,
            accepted_at: None,
            removed_at,
            retry_at: None,
            error: None,
        }]
    };
    match sink {
        Sink::None => Vec::new(),
        Sink::NotDelivered => delivery(DeliveryState::Pending, None),
        Sink::Accepted => delivery(DeliveryState::Accepted, None),
        Sink::RemovedLongAgo => {
            let at = time::before(now(), OVERLAP + HOUR);
            delivery(DeliveryState::Removed, Some(at))
        }
        Sink::RemovedRecently => {
            let at = time::before(now(), OVERLAP / 2);
            delivery(DeliveryState::Removed, Some(at))
        }
    }
}

fn key_state(case: &Case, rotation: &Rotation) -> KeyState {
    let mut key = KeyState::unknown(KeyName::new("billing").unwrap());
    key.live.push(rotation.clone());
    if let RevocationReason::KeyRetired { is_immediate } = case.reason {
        key.retirement = Some(Retirement {
            at: time::before(now(), OVERLAP / 2),
            is_immediate,
        });
    }
    if case.has_newer {
        key.live.push(Rotation {
            id: RotationId::new([2; 8]),
            scope: Scope::AdminKeys,
            sequence: 2,
            phase: Phase::Current,
            deadline: None,
            deliveries: Vec::new(),
            credential: Some(CredentialMetadata {
                id: credential_id(2),
                redacted_value: None,
                created_at: None,
                expires_at: None,
            }),
            ..rotation.clone()
        });
    }
    key
}
