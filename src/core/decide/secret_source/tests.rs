//! When a secret may be taken again from a file.

use std::time::Duration;

use super::*;
use crate::core::ids::{CredentialId, KeyName, RotationId};
use crate::core::scope::Scope;
use crate::core::state::{CredentialMetadata, DeliveryState, MissingSince, RevocationDeadline};
use crate::core::time;

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn sink(name: &str) -> SinkId {
    SinkId {
        name: name.to_owned(),
        target: format!("file:/{name}"),
    }
}

/// Returns a key whose newest rotation left a file at one of its two sinks.
fn key(phase: Phase, other: DeliveryState) -> KeyState {
    let mut rotation = Rotation::new(
        RotationId::new([2; 8]),
        Scope::AdminKeys,
        2,
        Trigger::Schedule,
        phase,
        time::before(now(), Duration::from_secs(3_600)),
    );
    rotation.credential = Some(CredentialMetadata {
        id: CredentialId::new("key_2".to_owned()),
        redacted_value: None,
        created_at: None,
        expires_at: None,
    });
    rotation.add_deliveries(&[(sink("a"), true)], DeliveryState::Accepted);
    rotation.add_deliveries(&[(sink("b"), true)], other);
    rotation.deliveries[0].accepted_at = Some(now());
    rotation.deliveries[0].file = Some(FileNote {
        device: 1,
        inode: 2,
        size: 3,
        modified_at: 4,
        changed_at: 5,
    });
    let mut key = KeyState::unknown(KeyName::new("billing").unwrap());
    (key.sequence, key.newest_phase) = (2, Some(phase));
    key.live = vec![rotation];
    key
}

type Change = fn(&mut KeyState);

/// The conditions that hold for both uses of a file, each broken alone.
const REFUSED: [(&str, Change); 8] = [
    ("to end by a deadline", |key| {
        key.live[0].deadline = Some(RevocationDeadline {
            at: now(),
            is_forced: false,
        });
    }),
    ("a newer rotation", |key| key.sequence = 3),
    ("asked to end", |key| key.live[0].revoke_now = true),
    ("adopted", |key| key.live[0].trigger = Trigger::Adopted),
    ("no note", |key| key.live[0].deliveries[0].file = None),
    ("no credential", |key| key.live[0].credential = None),
    ("gone", |key| {
        key.live[0].missing = Some(MissingSince {
            since: now(),
            checks: 1,
        });
    }),
    ("expired", |key| {
        key.live[0].credential.as_mut().unwrap().expires_at = Some(now());
    }),
];

#[test]
fn only_the_newest_verified_rotation_goes_on() {
    let resumes = |key: &KeyState| may_resume(&key.live[0], key, now());
    assert!(resumes(&key(Phase::Verified, DeliveryState::Refused)));
    for phase in [Phase::Created, Phase::Stranded, Phase::Retired] {
        assert!(!resumes(&key(phase, DeliveryState::Refused)), "{phase}");
    }
    for (name, change) in REFUSED {
        let mut key = key(Phase::Verified, DeliveryState::Refused);
        change(&mut key);
        assert!(!resumes(&key), "{name}");
    }
}

#[test]
fn only_sinks_that_never_accepted_it_are_given_the_current_one() {
    let required = [sink("a"), sink("b"), sink("c")];
    let added = |key: &KeyState| added_sinks(key, &required, now());
    for (state, expected) in [
        (DeliveryState::Pending, vec![sink("b"), sink("c")]),
        (DeliveryState::Uncertain, vec![sink("b"), sink("c")]),
        (DeliveryState::Refused, vec![sink("b"), sink("c")]),
        (DeliveryState::Missed, vec![sink("c")]),
        (DeliveryState::Removed, vec![sink("c")]),
    ] {
        assert_eq!(added(&key(Phase::Current, state)), expected, "{state:?}");
    }
    // What it held was changed: a repair is another credential.
    let mut drifted = key(Phase::Current, DeliveryState::Uncertain);
    drifted.live[0].deliveries[1].accepted_at = Some(now());
    assert_eq!(added(&drifted), [sink("c")]);
    let more: [(&str, Change); 1] = [("the previous ones are to end", |key| {
        key.revoke_previous = true;
    })];
    for (name, change) in REFUSED.into_iter().chain(more) {
        let mut key = key(Phase::Current, DeliveryState::Pending);
        change(&mut key);
        assert_eq!(added(&key), [], "{name}");
    }
}

#[test]
fn no_sink_is_added_beside_an_open_rotation() {
    let mut key = key(Phase::Current, DeliveryState::Pending);
    let mut open = key.live[0].clone();
    (open.id, open.sequence) = (RotationId::new([1; 8]), 1);
    open.phase = Phase::Verified;
    key.live.insert(0, open);
    assert_eq!(added_sinks(&key, &[sink("c")], now()), []);
}

#[test]
fn delivery_goes_on_with_the_secret_or_after_the_file_is_written() {
    let mut key = key(Phase::Current, DeliveryState::Uncertain);
    let served = |key: &KeyState, has_secret| sinks_in_delivery(key, has_secret).len();
    assert_eq!((served(&key, true), served(&key, false)), (1, 0));
    key.live[0].deliveries[1].written_at = Some(now());
    assert_eq!((served(&key, true), served(&key, false)), (1, 1));
    key.live[0].deliveries[1].required = false;
    assert_eq!(served(&key, true), 0);
}
