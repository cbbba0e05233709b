//! Facts of one key, and what is told of them.

use jiff::tz::TimeZone;

use super::*;
use crate::core::names::{CredentialId, KeyName, RotationId};
use crate::core::record::{CredentialFacts, Delivery, DeliveryState, Trigger};
use crate::core::schedule::Schedule;

const NOW: &str = "2026-11-24T03:10:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn key() -> KeyName {
    KeyName::new("k").unwrap()
}

fn rotation(sequence: u64, phase: Phase) -> Rotation {
    let started = at("2026-11-24T03:00:00Z");
    Rotation {
        id: RotationId::new([u8::try_from(sequence).unwrap(); 8]),
        sequence,
        trigger: Trigger::Schedule,
        scheduled_for: Some(started),
        started_at: started,
        label: None,
        credential: Some(CredentialFacts {
            id: CredentialId::new(format!("key_{sequence}")),
            redacted_value: None,
            created_at: Some(started),
            expires_at: None,
        }),
        phase,
        current_at: Some(started),
        retired_at: None,
        revoke_after: None,
        revoked_at: None,
        error: None,
        attempt: 0,
        retry_at: None,
        stranded_at: None,
        missing: None,
        hold_until: None,
        revoke_now: false,
        deliveries: Vec::new(),
    }
}

fn state(live: Vec<Rotation>) -> KeyState {
    let newest = live.last().map(|one| (one.sequence, one.phase));
    let mut state = KeyState::unknown(key());
    if let Some((sequence, phase)) = newest {
        (state.sequence, state.newest) = (sequence, Some(phase));
    }
    state.live = live;
    state
}

fn policy() -> KeyPolicy {
    KeyPolicy::new(Schedule::parse("@hourly", TimeZone::UTC).unwrap())
}

/// What is held, by its word and credential, and when it is looked at again.
struct Look {
    held: Vec<String>,
    texts: Vec<String>,
    again: Option<Timestamp>,
}

fn look(state: &KeyState, told: &[Matter], change: impl FnOnce(&mut Facts<'_>)) -> Look {
    look_with(&policy(), state, told, change)
}

fn look_with(
    policy: &KeyPolicy,
    state: &KeyState,
    told: &[Matter],
    change: impl FnOnce(&mut Facts<'_>),
) -> Look {
    let mut facts = Facts {
        state,
        configured: Some((policy, &[])),
        failing_since: None,
        troubled_since: None,
        watching_since: Some(at("2026-11-20T00:00:00Z")),
        held_up: false,
    };
    change(&mut facts);
    let found = causes(&facts, |cause| told.contains(&cause.matter), at(NOW));
    let word = |cause: &Cause| match &cause.credential {
        Some(id) => format!("{} {id}", cause.matter.as_str()),
        None => cause.matter.as_str().to_owned(),
    };
    Look {
        held: found.held.keys().map(word).collect(),
        texts: found.held.values().map(|held| held.text.clone()).collect(),
        again: found.look_at,
    }
}

/// A key whose open rotation is not taken by its sink.
fn undelivered() -> KeyState {
    let mut open = rotation(2, Phase::Verified);
    open.deliveries = vec![Delivery {
        sink: SinkId {
            name: "file".to_owned(),
            target: "file:/x".to_owned(),
        },
        required: true,
        state: DeliveryState::Refused,
        maybe_taken: false,
        attempts: 3,
        last_attempt_at: None,
        accepted_at: None,
        written_at: None,
        removed_at: None,
        retry_at: None,
        error: Some("the folder is gone".to_owned()),
    }];
    state(vec![rotation(1, Phase::Current), open])
}

#[test]
fn what_is_in_order_is_told_to_nobody() {
    let found = look(&state(vec![rotation(1, Phase::Current)]), &[], |_| {});
    assert_eq!((found.held, found.again), (vec![], None));
}

#[test]
fn trouble_is_told_when_it_has_lasted() {
    let state = undelivered();
    // It was seen a moment ago: it is looked at again.
    let found = look(&state, &[], |facts| {
        facts.troubled_since = Some(at("2026-11-24T03:09:50Z"));
    });
    let again = Some(at("2026-11-24T03:10:20Z"));
    assert_eq!((found.held, found.again), (vec![], again));
    let found = look(&state, &[], |facts| {
        facts.troubled_since = Some(at("2026-11-24T03:09:30Z"));
    });
    assert_eq!(found.held, ["failing"]);
    assert!(
        found.texts[0].contains("not delivered to file (file:/x): the folder is gone"),
        "{:?}",
        found.texts
    );
    assert!(found.texts[0].ends_with("`rekeyd status k` shows how it stands"));
    // Of a process that began a moment ago, and of one that ends.
    let found = look(&state, &[], |facts| {
        facts.troubled_since = Some(at("2026-11-24T02:00:00Z"));
        facts.watching_since = Some(at("2026-11-24T03:09:59Z"));
    });
    assert_eq!(found.held, [""; 0]);
    let found = look(&state, &[], |facts| facts.watching_since = None);
    assert_eq!(found.held, ["failing"]);
    // What is wrong with rekeyd as a whole is the cause.
    let found = look(&state, &[], |facts| {
        facts.watching_since = None;
        facts.held_up = true;
    });
    assert_eq!(found.held, [""; 0]);
}

#[test]
fn what_was_told_lasts_until_all_is_in_order() {
    let told = [Matter::Failing];
    for (live, lasts) in [
        (vec![rotation(1, Phase::Current)], false),
        // After a restart: nothing has failed yet, and nothing is repaired.
        (
            vec![rotation(1, Phase::Current), rotation(2, Phase::Stranded)],
            true,
        ),
        (
            vec![rotation(1, Phase::Current), rotation(2, Phase::Verified)],
            true,
        ),
        (
            vec![rotation(1, Phase::Retired), rotation(2, Phase::Current)],
            false,
        ),
    ] {
        let state = state(live);
        let found = look(&state, &told, |_| {});
        assert_eq!(found.held == ["failing"], lasts, "{state:?}");
    }
    let mut failed = state(vec![rotation(1, Phase::Current)]);
    failed.problem = Some("no rotation begun".to_owned());
    assert_eq!(look(&failed, &told, |_| {}).held, ["failing"]);
    // Of a key that is removed, nobody waits for a rotation.
    let found = look(&failed, &told, |facts| facts.configured = None);
    assert_eq!(found.held, [""; 0]);
}

#[test]
fn a_fresh_secret_may_be_refused_for_a_while() {
    let mut open = rotation(2, Phase::Created);
    (open.attempt, open.error) = (7, Some("refused".to_owned()));
    let mut state = state(vec![rotation(1, Phase::Current), open]);
    let found = look(&state, &[], |facts| facts.watching_since = None);
    assert_eq!(found.held, [""; 0]);
    state.live[1].phase = Phase::Retired;
    let found = look(&state, &[], |facts| facts.watching_since = None);
    assert_eq!(found.held, ["failing"]);
}

#[test]
fn a_key_is_overdue_when_somebody_could_have_rotated_it() {
    let policy = KeyPolicy {
        deliver_for: Duration::from_secs(300),
        ..policy()
    };
    let mut current = rotation(1, Phase::Current);
    current.started_at = at("2026-11-24T02:30:00Z");
    let state = state(vec![current]);
    let look = |told: &[Matter], watching: Option<&str>, held_up| {
        look_with(&policy, &state, told, |facts| {
            facts.watching_since = watching.map(at);
            facts.held_up = held_up;
        })
    };
    let long = Some("2026-11-20T00:00:00Z");
    assert_eq!(look(&[], long, false).held, ["overdue"]);
    assert_eq!(look(&[], None, false).held, ["overdue"]);
    assert_eq!(look(&[], long, true).held, [""; 0]);
    // The provider was away until a moment ago.
    let found = look(&[], Some("2026-11-24T03:09:00Z"), false);
    let again = Some(at("2026-11-24T03:14:01Z"));
    assert_eq!((found.held, found.again), (vec![], again));
    // What was told is not over by a restart, nor by an outage.
    let just_now = Some("2026-11-24T03:09:59Z");
    assert_eq!(look(&[Matter::Overdue], just_now, true).held, ["overdue"]);
}

#[test]
fn what_ends_soon_is_told_where_no_successor_comes() {
    let mut current = rotation(1, Phase::Current);
    current.credential.as_mut().unwrap().expires_at = Some(at("2026-11-24T03:13:00Z"));
    let mut state = state(vec![current]);
    // Its last quarter began at 03:09:45; a rotation is under way, perhaps.
    let found = look(&state, &[], |_| {});
    let half = Some(at("2026-11-24T03:11:22.5Z"));
    assert_eq!((found.held, found.again), (vec![], half));
    // Whoever cannot wait tells what has failed, and not what may be under way.
    let ends = |facts: &mut Facts<'_>| facts.watching_since = None;
    let found = look(&state, &[], ends);
    assert_eq!((found.held, found.again), (vec![], half));
    state.problem = Some("no rotation begun".to_owned());
    assert_eq!(look(&state, &[], ends).held, ["failing", "expiring key_1"]);
    state.problem = Some("no rotation begun".to_owned());
    let since = |facts: &mut Facts<'_>| facts.failing_since = Some(at("2026-11-24T03:00:00Z"));
    let found = look(&state, &[], since);
    assert_eq!(found.held, ["failing", "expiring key_1"]);
    assert!(
        found.texts[1].contains("ends at 2026-11-24T03:13:00Z"),
        "{:?}",
        found.texts
    );
    // Once told, it lasts as long as that credential is the current one.
    state.problem = None;
    assert_eq!(
        look(&state, &[Matter::Expiring], |_| {}).held,
        ["expiring key_1"]
    );
    state.live.push(rotation(2, Phase::Current));
    state.live[0].phase = Phase::Retired;
    assert_eq!(look(&state, &[Matter::Expiring], |_| {}).held, [""; 0]);
}

#[test]
fn orphans_and_holds_are_of_one_credential_each() {
    let mut used = rotation(1, Phase::Retired);
    used.error = Some(format!("it is still used; {LAST_DAY}"));
    let mut held = rotation(2, Phase::Retired);
    (held.revoke_after, held.hold_until) = (
        Some(at("2026-11-24T02:00:00Z")),
        Some(at("2026-11-24T12:00:00Z")),
    );
    let mut orphan = rotation(3, Phase::Orphaned);
    (orphan.attempt, orphan.error) = (1, Some("a server error".to_owned()));
    let state = state(vec![used, held, orphan, rotation(4, Phase::Current)]);
    let found = look(&state, &[], |_| {});
    assert_eq!(found.held, ["orphan key_3", "hold key_1", "hold key_2"]);
    assert!(
        found.texts[0].ends_with("revoking it fails: a server error"),
        "{:?}",
        found.texts
    );
}

#[test]
fn an_orphan_that_was_not_tried_yet_has_not_failed() {
    let mut orphan = rotation(1, Phase::Orphaned);
    orphan.error = Some("given up".to_owned());
    // A person holds it for some hours.
    orphan.hold_until = Some(at("2026-11-24T12:00:00Z"));
    let found = look(&state(vec![orphan]), &[], |_| {});
    assert_eq!(found.held, ["orphan key_1", "hold key_1"]);
    assert!(
        found.texts[0].ends_with("as soon as that is possible"),
        "{:?}",
        found.texts
    );
    // Of what is in use nothing is told.
    let mut current = rotation(1, Phase::Current);
    current.hold_until = Some(at("2026-11-24T12:00:00Z"));
    assert_eq!(look(&state(vec![current]), &[], |_| {}).held, [""; 0]);
}

#[test]
fn an_end_is_told_with_what_is_used_now() {
    let cause = Cause::of_key(&key(), Matter::Failing);
    let state = state(vec![rotation(1, Phase::Current)]);
    for (state, text) in [
        (None, "k is not failing any more"),
        (
            Some(&state),
            "k is not failing any more; its current credential is key_1",
        ),
    ] {
        assert_eq!(over(&cause, state), text);
    }
}

#[test]
fn a_hold_is_told_on_its_last_day() {
    let held = |until: Timestamp, revoke_after: &str| {
        let mut held = rotation(1, Phase::Retired);
        (held.hold_until, held.revoke_after) = (Some(until), Some(at(revoke_after)));
        let found = look(&state(vec![held, rotation(2, Phase::Current)]), &[], |_| {});
        (found.held.len(), found.again)
    };
    let early = "2026-11-24T02:00:00Z";
    let day = at("2026-11-26T00:00:00Z");
    assert_eq!(held(day, early), (0, Some(at("2026-11-25T00:00:00Z"))));
    // It goes later than that anyway, or never by itself, or at once.
    assert_eq!(held(day, "2026-11-27T00:00:00Z"), (0, None));
    assert_eq!(held(Timestamp::MAX, early), (0, None));
    assert_eq!(held(day, "2026-11-26T00:00:00Z"), (0, None));
    assert_eq!(held(at("2026-11-24T03:00:00Z"), early), (0, None));
    assert_eq!(held(at(NOW), early), (0, None));
    // To the second.
    assert_eq!(held(at("2026-11-25T03:10:00Z"), early), (1, None));
    let a_second = Some(at("2026-11-24T03:10:01Z"));
    assert_eq!(held(at("2026-11-25T03:10:01Z"), early), (0, a_second));
}
