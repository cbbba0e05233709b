//! The changes that lead to a rotation in each phase.
#![allow(dead_code, reason = "no test uses all of it")]

use rekeyd::core::change::{Answered, Begun, Change, Intent, Moved};
use rekeyd::core::names::{CredentialId, Label, RotationId};
use rekeyd::core::record::{CredentialFacts, DeliveryState, Trigger};
use rekeyd::core::rotation::Event;

use super::fake::{at, sink_id};

pub(crate) fn rotation(number: u64) -> RotationId {
    RotationId::new(number.to_be_bytes())
}

pub(crate) fn intended(number: u64) -> Vec<Change> {
    vec![Change::Intended(Intent {
        rotation: rotation(number),
        label: Label::recorded(format!("label-{number}")),
        trigger: Trigger::First,
        scheduled_for: None,
        timetable: String::new(),
        sinks: vec![(sink_id(), true)],
        by_hand: None,
    })]
}

pub(crate) fn moved(number: u64, event: Event) -> Change {
    Change::Moved(Moved::new(&rotation(number), event))
}

pub(crate) fn created(number: u64) -> Vec<Change> {
    let mut changes = intended(number);
    changes.push(Change::Moved(Moved {
        credential: Some(CredentialFacts {
            id: CredentialId::new(format!("key_{number}")),
            redacted_value: None,
            created_at: Some(at()),
            expires_at: None,
        }),
        ..Moved::new(&rotation(number), Event::Created)
    }));
    changes
}

/// Verified, and its delivery has begun.
pub(crate) fn begun(number: u64) -> Vec<Change> {
    let mut changes = created(number);
    changes.push(moved(number, Event::Worked));
    changes.push(Change::Begun(Begun {
        rotation: rotation(number),
        sink: sink_id(),
    }));
    changes
}

pub(crate) fn accepted(number: u64) -> Vec<Change> {
    let mut changes = begun(number);
    changes.push(Change::Answered(Answered {
        written: false,
        rotation: rotation(number),
        sink: sink_id(),
        state: DeliveryState::Accepted,
        accepted_at: Some("2026-11-24T03:00:00Z".parse().unwrap()),
        retry_at: None,
        error: None,
    }));
    changes
}

pub(crate) fn current(number: u64) -> Vec<Change> {
    let mut changes = accepted(number);
    changes.push(moved(number, Event::Delivered));
    changes
}
