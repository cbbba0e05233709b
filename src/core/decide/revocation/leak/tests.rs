//! When a leaked credential ends, by its phase and by what is newer.

use super::*;
use crate::core::ids::{CredentialId, KeyName, RotationId};
use crate::core::scope::Scope;
use crate::core::state::{CredentialMetadata, DeferralKind};

const MINUTE: Duration = Duration::from_secs(60);

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

/// Returns a deadline so many seconds from now.
fn deadline(seconds: i64) -> RevocationDeadline {
    RevocationDeadline {
        at: now() + jiff::SignedDuration::from_secs(seconds),
        is_forced: false,
    }
}

fn row(sequence: u64, phase: Phase, deadline: Option<RevocationDeadline>) -> Rotation {
    Rotation {
        deadline,
        current_at: (phase == Phase::Current).then(now),
        credential: Some(CredentialMetadata {
            id: CredentialId::new(format!("key_{sequence}")),
            redacted_value: None,
            created_at: None,
            expires_at: None,
        }),
        ..Rotation::new(
            RotationId::new(sequence.to_be_bytes()),
            Scope::AdminKeys,
            sequence,
            Trigger::Manual,
            phase,
            now(),
        )
    }
}

fn key(live: Vec<Rotation>) -> KeyState {
    KeyState {
        sequence: live.last().map_or(0, |row| row.sequence),
        live,
        ..KeyState::unknown(KeyName::new("billing").unwrap())
    }
}

#[test]
fn what_is_newer_and_verified_replaces_a_leaked_credential() {
    let adopted = Rotation {
        trigger: Trigger::Adopted,
        ..row(2, Phase::Current, None)
    };
    let was_current = Rotation {
        current_at: Some(now()),
        ..row(2, Phase::Retired, None)
    };
    for (newer, is_verified, wants) in [
        (row(2, Phase::Intended, None), false, false),
        (row(2, Phase::Created, None), false, false),
        (row(2, Phase::Verified, None), true, false),
        (row(2, Phase::Current, None), true, false),
        (was_current, true, false),
        (row(2, Phase::Retired, None), false, true),
        (row(2, Phase::Stranded, None), false, true),
        (row(2, Phase::Orphaned, None), false, true),
        (adopted, false, true),
        // It ends by the same order, by a later and by an earlier one.
        (row(2, Phase::Current, Some(deadline(30))), false, true),
        (row(2, Phase::Verified, Some(deadline(31))), true, true),
        (row(2, Phase::Current, Some(deadline(29))), false, true),
    ] {
        let leaked = row(1, Phase::Retired, Some(deadline(30)));
        let key = key(vec![leaked.clone(), newer.clone()]);
        let found = has_verified_successor(&leaked, &key, deadline(30));
        assert_eq!(found, is_verified, "{newer:?}");
        assert_eq!(wants_successor(&key), wants, "{newer:?}");
    }
    assert!(!wants_successor(&key(vec![row(1, Phase::Current, None)])));
    assert!(wants_successor(&key(vec![row(
        1,
        Phase::Current,
        Some(deadline(-30))
    )])));
}

#[test]
fn leaked_credential_ends_at_its_deadline() {
    let retry = |seconds| Some(deadline(seconds).at);
    for (phase, at, retry_at, expected) in [
        (Phase::Current, 30, None, Some(30)),
        (Phase::Stranded, 30, None, Some(30)),
        (Phase::Retired, -5, None, Some(-5)),
        (Phase::Orphaned, 30, None, Some(30)),
        (Phase::Retired, 30, retry(10), Some(30)),
        (Phase::Retired, 30, retry(40), Some(40)),
        (Phase::Retired, -5, retry(4), Some(4)),
        // A time that no back-off reaches is ignored.
        (Phase::Retired, 30, retry(100_000), Some(30)),
        // These end by themselves first.
        (Phase::Created, 30, None, None),
        (Phase::Verified, 30, None, None),
    ] {
        let mut leaked = row(1, phase, Some(deadline(at)));
        leaked.retry_at = retry_at;
        // Neither a hold nor the overlap counts.
        leaked.hold_until = Some(time::after(now(), MINUTE * 60));
        leaked.revoke_after = Some(time::after(now(), MINUTE * 60));
        let key = key(vec![leaked.clone(), row(2, Phase::Verified, None)]);
        let expected = expected.map(|seconds| deadline(seconds).at);
        let due = leak_due_at(&leaked, &key, now());
        assert_eq!(due, expected, "{phase} {at} {retry_at:?}");
        let reason = leak_reason(&leaked, &key, now());
        let is_due = expected.is_some_and(|at| at <= now());
        assert_eq!(
            reason,
            is_due.then_some(RevocationReason::Leaked { force: false })
        );
        let next = next_deadline(&key, now());
        let is_to_come = expected.is_some() && at > 0;
        assert_eq!(next, is_to_come.then(|| deadline(at).at), "{phase} {at}");
    }
}

#[test]
fn status_says_what_each_waits_for() {
    let waits = |leaked: Rotation, newer: Phase| {
        let key = key(vec![leaked.clone(), row(2, newer, None)]);
        let text = describe_leak(&leaked, &key, now()).unwrap();
        (leak_wait(&leaked, &key, now()).unwrap(), text)
    };
    let (wait, text) = waits(row(1, Phase::Current, Some(deadline(30))), Phase::Verified);
    assert_eq!(wait, LeakWait::Deadline(deadline(30).at));
    assert!(
        text.ends_with("is revoked at 2026-11-24T12:00:30Z"),
        "{text}"
    );
    for at in [-30, 30] {
        let (wait, text) = waits(row(1, Phase::Current, Some(deadline(at))), Phase::Created);
        assert_eq!(wait, LeakWait::Successor);
        assert!(text.ends_with("`rekeyd revoke key_1 --force`"), "{text}");
        let tense = if at > 0 { "is to be" } else { "was to be" };
        assert!(text.contains(&format!("and {tense} revoked at")), "{text}");
    }
    for (at, expected) in [
        (-1, "was to be revoked at 2026-11-24T11:59:59Z"),
        (0, "was to be revoked at 2026-11-24T12:00:00Z"),
        (1, "is revoked at 2026-11-24T12:00:01Z"),
    ] {
        assert_eq!(describe_deadline(deadline(at), now()), expected);
    }
    let (wait, _) = waits(row(1, Phase::Current, Some(deadline(0))), Phase::Verified);
    assert_eq!(wait, LeakWait::Request);
    for (kind, step) in [
        (Some(DeferralKind::SelfCredential), "`rekeyd reload`"),
        (
            Some(DeferralKind::MayBeInUse),
            "`rekeyd revoke key_1 --force`",
        ),
        (
            Some(DeferralKind::UsedByOtherKey),
            "`rekeyd revoke key_1 --force`",
        ),
        // Its error has the command.
        (Some(DeferralKind::OtherName), "why it is kept"),
        (None, "why it is kept"),
    ] {
        let kept = Rotation {
            deferral: kind,
            attempt: u32::from(kind.is_none()),
            error: Some("why it is kept".to_owned()),
            ..row(1, Phase::Current, Some(deadline(-1)))
        };
        let (wait, text) = waits(kept, Phase::Verified);
        assert_eq!(wait, LeakWait::Obstacle("why it is kept".to_owned(), kind));
        assert!(text.contains(": why it is kept"), "{text}");
        assert!(text.ends_with(step), "{text}");
    }
    let plain = row(1, Phase::Current, None);
    assert_eq!(leak_wait(&plain, &key(vec![plain.clone()]), now()), None);
}
