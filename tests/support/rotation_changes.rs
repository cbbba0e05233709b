//! The changes that lead to a rotation in each phase.
#![allow(dead_code, reason = "no test uses all of it")]

use rekeyd::core::change::{
    Adoption, Change, DeliveryResult, DeliveryStart, OnChangeState, RotationIntent, Transition,
};
use rekeyd::core::ids::{CredentialId, Label, RotationId};
use rekeyd::core::lifecycle::LifecycleEvent;
use rekeyd::core::scope::Scope;
use rekeyd::core::state::{CredentialMetadata, DeliveryState, LeftFile, Trigger};

use super::fake::{ACCESS, at, sink_id};

pub(crate) fn rotation(number: u64) -> RotationId {
    RotationId::new(number.to_be_bytes())
}

/// Adopts the manually created credential `key_<number>` as the current one.
pub(crate) fn adopted(number: u64, scope: Scope) -> Change {
    Change::from(Adoption {
        rotation: rotation(number),
        scope,
        sequence: number,
        credential: CredentialMetadata {
            id: CredentialId::new(format!("key_{number}")),
            redacted_value: None,
            created_at: Some(at()),
            expires_at: None,
        },
        name: Some("by hand".to_owned()),
        hold: None,
        event: LifecycleEvent::Adopted,
        seen_in: Vec::new(),
        sinks: Vec::new(),
        operator: None,
    })
}

pub(crate) fn intended(number: u64) -> Vec<Change> {
    vec![Change::from(RotationIntent {
        rotation: rotation(number),
        scope: Scope::AdminKeys,
        sequence: number,
        label: Label::from_recorded(format!("label-{number}")),
        trigger: Trigger::First,
        scheduled_for: None,
        not_created_before: None,
        timetable: String::new(),
        sinks: vec![(sink_id(), true)],
        operator: None,
    })]
}

pub(crate) fn transitioned(number: u64, event: LifecycleEvent) -> Change {
    Change::from(Transition::new(&rotation(number), event))
}

pub(crate) fn created(number: u64) -> Vec<Change> {
    let mut changes = intended(number);
    changes.push(Change::from(Transition {
        credential: Some(CredentialMetadata {
            id: CredentialId::new(format!("key_{number}")),
            redacted_value: None,
            created_at: Some(at()),
            expires_at: None,
        }),
        ..Transition::new(&rotation(number), LifecycleEvent::Created)
    }));
    changes
}

/// Returns the changes up to a verified rotation whose delivery has started.
pub(crate) fn delivery_started(number: u64) -> Vec<Change> {
    let mut changes = created(number);
    changes.push(transitioned(number, LifecycleEvent::Verified));
    changes.push(Change::from(DeliveryStart {
        rotation: rotation(number),
        sink: sink_id(),
    }));
    changes
}

pub(crate) fn accepted(number: u64) -> Vec<Change> {
    let mut changes = delivery_started(number);
    changes.push(Change::from(DeliveryResult {
        on_change: OnChangeState::NotPending,
        rotation: rotation(number),
        sink: sink_id(),
        state: DeliveryState::Accepted,
        accepted_at: Some("2026-11-24T03:00:00Z".parse().unwrap()),
        retry_at: None,
        file: Some(LeftFile {
            note: None,
            access: Some(ACCESS),
        }),
        error: None,
    }));
    changes
}

pub(crate) fn current(number: u64) -> Vec<Change> {
    let mut changes = accepted(number);
    changes.push(transitioned(number, LifecycleEvent::Delivered));
    changes
}
