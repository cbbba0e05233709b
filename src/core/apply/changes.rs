//! Random changes of one key, for property tests.

use std::time::Duration;

use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::core::change::{
    AddedSink, Adoption, Change, ComparedFileAccess, CredentialHold, CredentialName,
    CredentialUpdate, DeadlineUpdate, DeliveryResult, DeliveryStart, DowntimeReason, DueRun,
    EndedSighting, FoundCredential, ImmediateRevocation, KeyBackoff, MissedRun, MissingCredential,
    NarrowedFile, OnChangeState, OverlapExtension, PauseUpdate, PreviousRevocation, RejectedAnswer,
    RemovedSink, RetiredSighting, RetryRequest, RetrySchedule, ReturnedSink, RevocationDeferral,
    RevokedDuplicate, RotationIntent, ScheduleChange, SeenFileAccess, SinkDrift, SinkRequirement,
    SkippedDelivery, TimetableChange, Transition, WithdrawnRepair,
};
use crate::core::ids::{CredentialId, Label, RotationId, SinkId};
use crate::core::lifecycle::LifecycleEvent;
use crate::core::scope::Scope;
use crate::core::state::{
    CredentialMetadata, DeferralKind, DeliveryState, FileAccess, FileNote, LeftFile, MissingSince,
    ModeNarrowing, Pause, RevocationDeadline, Trigger, WideningCause,
};

pub(crate) fn at() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

pub(crate) fn sink(name: &str) -> SinkId {
    SinkId {
        name: name.to_owned(),
        target: format!("file:/{name}"),
    }
}

fn rotation(number: u8) -> RotationId {
    RotationId::new([number; 8])
}

pub(crate) fn credential(number: u8) -> CredentialMetadata {
    CredentialMetadata {
        id: CredentialId::new(format!("key_{number}")),
        redacted_value: number
            .is_multiple_of(2)
            .then(|| format!("sk-admin...{number}")),
        created_at: Some(at() + Duration::from_millis(400)),
        expires_at: None,
    }
}

/// Returns the intent of a rotation whose id and sequence are `number`.
pub(crate) fn intent(number: u8) -> RotationIntent {
    RotationIntent {
        rotation: rotation(number),
        scope: Scope::AdminKeys,
        sequence: number.into(),
        label: Label::from_recorded(format!("label-{number}")),
        trigger: Trigger::First,
        scheduled_for: Some(at()),
        not_created_before: Some(at()),
        timetable: "@daily".to_owned(),
        sinks: vec![(sink("file"), true)],
        operator: None,
    }
}

pub(crate) fn adoption(number: u8, event: LifecycleEvent) -> Adoption {
    Adoption {
        rotation: rotation(number),
        scope: Scope::AdminKeys,
        sequence: number.into(),
        credential: credential(number),
        name: Some(format!("made-by-hand-{number}")),
        hold: None,
        event,
        seen_in: Vec::new(),
        sinks: vec![(sink("file"), true)],
        operator: None,
    }
}

/// Returns the changes from the intent to the current credential.
pub(crate) fn current(number: u8) -> Vec<Change> {
    let (id, transition) = (rotation(number), |event| {
        Transition::new(&rotation(number), event)
    });
    vec![
        intent(number).into(),
        Transition {
            credential: Some(credential(number)),
            ..transition(LifecycleEvent::Created)
        }
        .into(),
        transition(LifecycleEvent::Verified).into(),
        DeliveryStart {
            rotation: id.clone(),
            sink: sink("file"),
        }
        .into(),
        DeliveryResult {
            state: DeliveryState::Accepted,
            accepted_at: Some(at()),
            ..DeliveryResult::uncertain(&id, &sink("file"))
        }
        .into(),
        transition(LifecycleEvent::Delivered).into(),
    ]
}

/// Returns parts of successful rotations, mixed with arbitrary changes.
pub(crate) fn changes() -> impl Strategy<Value = Vec<Change>> {
    let lives = (1_u8..3, 0_usize..7).prop_map(|(number, steps)| {
        let mut life = current(number);
        life.truncate(steps);
        life
    });
    vec(
        prop_oneof![
            3 => lives,
            6 => any_transition().prop_map(|change| vec![change]),
            2 => any_rotation_change().prop_map(|change| vec![change]),
            3 => any_delivery_change().prop_map(|change| vec![change]),
            1 => any_key_change().prop_map(|change| vec![change]),
        ],
        1..24,
    )
    .prop_map(|lives| lives.into_iter().flatten().collect())
}

fn any_number() -> impl Strategy<Value = u8> {
    1_u8..4
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    (0_u64..4_000).prop_map(|millis| at() + Duration::from_millis(millis * 250))
}

fn any_transition() -> impl Strategy<Value = Change> {
    let event = proptest::sample::select(LifecycleEvent::ALL.to_vec());
    let more = (any::<bool>(), any_time(), any::<bool>());
    (any_number(), event, more).prop_map(|(number, event, (with_credential, until, is_failure))| {
        if matches!(
            event,
            LifecycleEvent::Adopted | LifecycleEvent::AdoptedAlongside
        ) {
            return adoption(number, event).into();
        }
        // A retirement without a revocation time would be rejected.
        let retires = matches!(event, LifecycleEvent::Superseded | LifecycleEvent::Replaced);
        Transition {
            credential: with_credential.then(|| credential(number)),
            name: with_credential.then(|| format!("name-{number}")),
            has_wrong_redaction: with_credential && is_failure,
            revoke_after: retires.then_some(until),
            error: is_failure.then(|| "no answer".to_owned()),
            ..Transition::new(&rotation(number), event)
        }
        .into()
    })
}

fn any_rotation_change() -> impl Strategy<Value = Change> {
    (any_number(), 0_u8..13, any_time(), any::<bool>()).prop_map(|(number, kind, time, flag)| {
        let rotation = rotation(number);
        match kind {
            0 => RetrySchedule {
                rotation,
                attempt: number.into(),
                retry_at: time,
                error: "no answer".to_owned(),
            }
            .into(),
            1 => OverlapExtension {
                rotation,
                revoke_after: time,
            }
            .into(),
            2 => RevocationDeferral {
                rotation,
                retry_at: time,
                kind: DeferralKind::RecentlyUsed,
                reason: "it was used".to_owned(),
                final_warning: flag,
            }
            .into(),
            3 => MissingCredential {
                rotation,
                missing: MissingSince {
                    since: time,
                    checks: number.into(),
                },
            }
            .into(),
            4 => FoundCredential { rotation }.into(),
            5 => RetryRequest {
                rotation,
                operator: None,
            }
            .into(),
            6 => CredentialHold {
                rotation,
                until: flag.then_some(time),
                operator: None,
            }
            .into(),
            7 => ImmediateRevocation { rotation }.into(),
            10 => DeadlineUpdate {
                rotation,
                deadline: RevocationDeadline {
                    at: time,
                    is_forced: flag,
                },
                holders: Vec::new(),
                operator: None,
            }
            .into(),
            9 => CredentialName {
                rotation,
                name: "made-by-hand".to_owned(),
            }
            .into(),
            11 => CredentialUpdate {
                rotation,
                credential: credential(number),
                is_endless: number.is_multiple_of(3),
            }
            .into(),
            8 => RejectedAnswer {
                rotation,
                problem: "it existed before".to_owned(),
                is_doubt: false,
            }
            .into(),
            _ => RevokedDuplicate {
                rotation,
                credential: CredentialId::new("key_double".to_owned()),
            }
            .into(),
        }
    })
}

fn file_access(number: u8) -> FileAccess {
    FileAccess {
        owner: number.into(),
        group: u32::MAX,
        mode: 0o640,
    }
}

fn any_delivery_change() -> impl Strategy<Value = Change> {
    let sink = proptest::sample::select(vec![sink("file"), sink("webhook"), sink("command")]);
    let state = proptest::sample::select(DeliveryState::ALL.to_vec());
    let subject = (any_number(), sink, 0_u8..15, state);
    (subject, any_time(), any::<bool>()).prop_map(|((number, sink, kind, state), time, flag)| {
        let rotation = rotation(number);
        match kind {
            0 => DeliveryStart { rotation, sink }.into(),
            1 => SkippedDelivery { rotation, sink }.into(),
            2 => AddedSink {
                rotation,
                sink,
                required: flag,
            }
            .into(),
            3 => RemovedSink {
                rotation,
                sink,
                removed_at: flag.then_some(time),
            }
            .into(),
            4 => ReturnedSink {
                rotation,
                sink,
                is_unchanged: flag,
            }
            .into(),
            5 => SinkRequirement {
                rotation,
                sink,
                required: flag,
            }
            .into(),
            6 => SinkDrift {
                rotation,
                sink,
                problem: "it is empty".to_owned(),
            }
            .into(),
            7 => RetiredSighting {
                rotation,
                sink,
                required: flag,
            }
            .into(),
            9 => WithdrawnRepair { rotation, sink }.into(),
            10 => SeenFileAccess {
                rotation,
                sink,
                access: file_access(number),
            }
            .into(),
            11 => ComparedFileAccess {
                rotation,
                sink,
                problem: flag.then(|| "it belongs to somebody else".to_owned()),
            }
            .into(),
            12 => NarrowedFile {
                rotation,
                sink,
                mode: ModeNarrowing {
                    from: 0o666,
                    to: 0o600,
                    cause: WideningCause::Other,
                },
            }
            .into(),
            8 => EndedSighting {
                rotation,
                sink,
                at: time,
            }
            .into(),
            _ => DeliveryResult {
                rotation,
                sink,
                state,
                on_change: if flag {
                    OnChangeState::Failed
                } else {
                    OnChangeState::NotPending
                },
                accepted_at: (state == DeliveryState::Accepted).then_some(time),
                retry_at: flag.then_some(time),
                error: flag.then(|| "exit 1".to_owned()),
                file: flag.then(|| LeftFile {
                    note: Some(FileNote {
                        device: 1,
                        inode: number.into(),
                        size: 20,
                        modified_at: -1,
                        changed_at: i64::MAX,
                    }),
                    access: number.is_multiple_of(2).then(|| file_access(number)),
                }),
            }
            .into(),
        }
    })
}

fn any_key_change() -> impl Strategy<Value = Change> {
    (0_u8..8, any_time(), any::<bool>()).prop_map(|(kind, time, flag)| match kind {
        0 => KeyBackoff {
            attempt: 1,
            retry_at: time,
            problem: "no answer".to_owned(),
            is_before_create: flag,
            is_extra: false,
        }
        .into(),
        1 => ScheduleChange::Recovered.into(),
        2 => TimetableChange {
            timetable: "@hourly".to_owned(),
            counts_from: flag.then_some(time),
            pending_run: flag.then_some(time),
        }
        .into(),
        3 => MissedRun {
            firing: time,
            reason: DowntimeReason::Suspended,
            is_skipped: flag,
        }
        .into(),
        7 => DueRun { firing: time }.into(),
        4 => PreviousRevocation {
            is_pending: flag,
            operator: None,
        }
        .into(),
        _ => PauseUpdate {
            pause: Pause {
                from: time,
                until: flag.then_some(time),
            },
            operator: None,
        }
        .into(),
    })
}
