//! Which retired credentials are kept because a target holds them again.

use std::time::Duration;

use super::*;
use crate::core::ids::{CredentialId, KeyName, RotationId, SinkId};
use crate::core::schedule::Schedule;
use crate::core::scope::Scope;
use crate::core::state::{CredentialMetadata, MissingSince, Sighting, Trigger};
use crate::core::time::{DAY, HOUR};

const DELAY: Duration = Duration::from_secs(3 * 24 * 3_600);

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn policy() -> KeyPolicy {
    KeyPolicy {
        max_revoke_delay: DELAY,
        ..KeyPolicy::new(Schedule::parse("@yearly", jiff::tz::TimeZone::UTC).unwrap())
    }
}

fn rotation(number: u8, phase: Phase, sighted_for: Option<Duration>) -> Rotation {
    let mut rotation = Rotation::new(
        RotationId::new([number; 8]),
        Scope::AdminKeys,
        number.into(),
        Trigger::Schedule,
        phase,
        time::before(now(), DAY * 30),
    );
    rotation.credential = Some(CredentialMetadata {
        id: CredentialId::new(format!("key_{number}")),
        redacted_value: None,
        created_at: None,
        expires_at: None,
    });
    let sink = SinkId {
        name: "file".to_owned(),
        target: "file:/x".to_owned(),
    };
    rotation.add_deliveries(&[(sink, true)], DeliveryState::Accepted);
    rotation.deliveries[0].sighting = sighted_for.map(|span| Sighting {
        since: time::before(now(), span),
        until: None,
    });
    rotation
}

/// Returns the retired rotation of the tests, seen an hour ago.
fn sighted() -> Rotation {
    rotation(1, Phase::Retired, Some(HOUR))
}

fn key(retired: Rotation) -> KeyState {
    let mut key = KeyState::unknown(KeyName::new("billing").unwrap());
    key.live = vec![retired, rotation(2, Phase::Current, None)];
    key
}

#[test]
fn target_is_left_as_it_is_for_a_live_retired_credential_alone() {
    type Change = fn(&mut Rotation);
    let cases: [(&str, Change, bool); 9] = [
        ("retired", |_| {}, true),
        ("current", |row| row.phase = Phase::Current, false),
        ("revoked", |row| row.phase = Phase::Revoked, false),
        ("orphaned", |row| row.phase = Phase::Orphaned, false),
        ("stranded", |row| row.phase = Phase::Stranded, false),
        ("asked to end", |row| row.revoke_now = true, false),
        (
            "gone",
            |row| {
                row.missing = Some(MissingSince {
                    since: now(),
                    checks: 1,
                });
            },
            false,
        ),
        (
            "expired",
            |row| row.credential.as_mut().unwrap().expires_at = Some(now()),
            false,
        ),
        (
            "expires later",
            |row| row.credential.as_mut().unwrap().expires_at = Some(time::after(now(), HOUR)),
            true,
        ),
    ];
    for (name, change, expected) in cases {
        let mut row = sighted();
        change(&mut row);
        assert_eq!(is_tolerated(&row, now()), expected, "{name}");
    }
}

#[test]
fn repair_comes_when_the_delay_or_the_credential_ends() {
    type Change = fn(&mut KeyState);
    let end = Some(time::after(time::before(now(), HOUR), DELAY));
    let cases: [(&str, Change, Option<Timestamp>); 6] = [
        ("seen an hour ago", |_| {}, end),
        (
            "it expires before",
            |key| {
                let credential = key.live[0].credential.as_mut().unwrap();
                credential.expires_at = Some(time::after(now(), HOUR));
            },
            Some(time::after(now(), HOUR)),
        ),
        (
            "asked to end",
            |key| key.live[0].revoke_now = true,
            Some(now()),
        ),
        (
            "not seen any more",
            |key| {
                let sighting = key.live[0].deliveries[0].sighting.as_mut().unwrap();
                sighting.until = Some(now());
            },
            None,
        ),
        (
            "the repair has begun",
            |key| key.live[1].deliveries[0].state = DeliveryState::Uncertain,
            None,
        ),
        (
            "nothing is current",
            |key| key.live[1].phase = Phase::Stranded,
            None,
        ),
    ];
    for (name, change, expected) in cases {
        let mut key = key(sighted());
        change(&mut key);
        assert_eq!(
            next_repair(&key, Some(&policy()), now()),
            expected,
            "{name}"
        );
    }
}

#[test]
fn end_of_a_tolerated_credential_is_noticed() {
    let before = key(sighted());
    let asked = {
        let mut key = before.clone();
        key.live[0].revoke_now = true;
        key
    };
    let revoked = {
        let mut key = before.clone();
        key.live.remove(0);
        key
    };
    assert!(!has_lost_tolerance(&before, &before, now()));
    assert!(has_lost_tolerance(&before, &asked, now()));
    assert!(has_lost_tolerance(&before, &revoked, now()));
    assert!(!has_lost_tolerance(&asked, &revoked, now()));
}
