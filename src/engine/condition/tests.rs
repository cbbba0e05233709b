//! What holds, what it rules out, and whose matter a failure is.

use super::*;
use crate::provider::{Outcome, Retry};

const ALL: [Condition; 5] = [
    Condition::Ledger,
    Condition::Credential,
    Condition::Organization,
    Condition::Clock,
    Condition::Provider,
];

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn each_is_told_once_and_passes_once() {
    let conditions = Conditions::default();
    assert!(conditions.may_begin());
    for condition in ALL {
        assert!(!conditions.clear(condition), "it did not hold");
        conditions.raise(condition, "first");
        conditions.raise(condition, "second");
        assert!(conditions.holds(condition));
        assert_eq!(conditions.held(), [(condition, "first".to_owned())]);
        assert!(!conditions.may_begin());
        let unwritten = conditions.take_unwritten();
        assert_eq!(unwritten, [(condition, Some("first".to_owned()))]);
        assert_eq!(conditions.take_unwritten(), []);
        assert!(conditions.clear(condition));
        assert!(!conditions.holds(condition) && conditions.may_begin());
        assert_eq!(conditions.take_unwritten(), [(condition, None)]);
    }
}

#[test]
fn the_worst_comes_first() {
    let conditions = Conditions::default();
    for condition in ALL.into_iter().rev() {
        conditions.raise(condition, condition.as_str());
    }
    let held = conditions.held().into_iter();
    let held: Vec<_> = held.map(|(condition, _)| condition).collect();
    assert_eq!(held, ALL);
    let words = ALL.map(Condition::as_str);
    let expected = ["ledger", "credential", "organization", "clock", "provider"];
    assert_eq!(words, expected);
}

#[test]
fn each_rules_out_what_it_makes_unsafe() {
    for condition in ALL {
        let conditions = Conditions::default();
        assert_eq!(conditions.allowed(), Allowed::ALL);
        conditions.raise(condition, "why");
        let expected = match condition {
            Condition::Provider | Condition::Credential => Allowed {
                provider: false,
                clock: true,
            },
            Condition::Clock => Allowed {
                provider: true,
                clock: false,
            },
            Condition::Ledger | Condition::Organization => Allowed::ALL,
        };
        assert_eq!(conditions.allowed(), expected, "{condition:?}");
    }
}

#[test]
fn the_last_pace_of_a_probe_is_kept() {
    for (condition, paces) in [
        (Condition::Ledger, &[1, 2, 5, 5][..]),
        (Condition::Provider, &[1, 2, 5, 15, 30, 60, 60]),
        (Condition::Credential, &[5, 15, 30, 60, 300, 300]),
        (Condition::Clock, &[30, 60, 60]),
        (Condition::Organization, &[300, 300]),
    ] {
        for (attempt, pace) in (1..).zip(paces) {
            let pace = Duration::from_secs(*pace);
            assert_eq!(condition.pause(attempt), pace, "{condition:?} {attempt}");
        }
        assert_eq!(condition.pause(0), condition.pause(1));
        let last = Duration::from_secs(paces[paces.len() - 1]);
        assert_eq!(condition.pause(u32::MAX), last);
    }
}

#[test]
fn clocks_agree_within_five_minutes() {
    let ours = at("2026-11-24T03:00:00Z");
    for (theirs, agrees) in [
        ("2026-11-24T03:00:00Z", true),
        ("2026-11-24T03:05:00Z", true),
        ("2026-11-24T02:55:00Z", true),
        ("2026-11-24T03:05:01Z", false),
        ("2026-11-24T02:54:59Z", false),
    ] {
        assert_eq!(agree(at(theirs), ours), agrees, "{theirs}");
        let conditions = Conditions::default();
        conditions.hear(Some(at(theirs)), ours, Duration::ZERO);
        assert_eq!(conditions.holds(Condition::Clock), !agrees, "{theirs}");
    }
    let words = disagreement(Some(at("2026-11-24T04:00:00Z")), ours);
    assert!(
        words.contains("2026-11-24T03:00:00Z") && words.contains("2026-11-24T04:00:00Z"),
        "{words}"
    );
}

#[test]
fn a_word_of_the_provider_counts_for_five_minutes() {
    let conditions = Conditions::default();
    assert!(!conditions.heard_lately(at("2026-11-24T03:00:00Z")));
    conditions.hear(None, at("2026-11-24T03:00:00Z"), Duration::ZERO);
    for (now, lately) in [
        ("2026-11-24T03:05:00Z", true),
        ("2026-11-24T03:05:01Z", false),
        // The clock was set back.
        ("2026-11-24T02:55:00Z", true),
        ("2026-11-24T02:54:59Z", false),
    ] {
        assert_eq!(conditions.heard_lately(at(now)), lately, "{now}");
    }
}

#[test]
fn what_is_told_once_is_told_once() {
    let conditions = Conditions::default();
    assert!(conditions.once("a"));
    assert!(!conditions.once("a"));
    assert!(conditions.once("b"));
}

#[test]
fn a_failure_is_everybodys_unless_it_is_about_the_request() {
    let error = |cause| ProviderError {
        operation: String::new(),
        outcome: Outcome::Unknown,
        retry: Retry::Later(None),
        cause,
        message: String::new(),
        request_id: None,
        date: None,
    };
    for (cause, condition) in [
        (Cause::NoCredential, Some(Condition::Credential)),
        (Cause::CredentialRefused, Some(Condition::Credential)),
        (Cause::Forbidden, Some(Condition::Credential)),
        (Cause::Unreachable, Some(Condition::Provider)),
        (Cause::NoAnswer, Some(Condition::Provider)),
        (Cause::ServerError, Some(Condition::Provider)),
        (Cause::BadAnswer, Some(Condition::Provider)),
        (Cause::NotFound, None),
        (Cause::Refused, None),
        (Cause::RateLimited, None),
        (Cause::QuotaExhausted, None),
    ] {
        assert_eq!(of_error(&error(cause)), condition, "{cause:?}");
    }
}

/// What is held from a time that is long over would not be held at all.
#[test]
fn an_overlap_never_counts_from_a_clock_that_is_behind() {
    let conditions = Conditions::default();
    let minute = Duration::from_secs(60);
    let from = |now: &str, monotonic| conditions.held_from(at(now), monotonic);
    assert_eq!(from("2026-11-24T03:00:00Z", minute), None);
    conditions.hear(
        Some(at("2026-11-24T03:00:00Z")),
        at("2026-11-24T03:00:00Z"),
        minute,
    );
    for (now, later, expected) in [
        ("2026-11-24T03:10:00Z", 10, "2026-11-24T03:10:00Z"),
        // A moment behind, as clocks are.
        ("2026-11-24T03:09:58Z", 10, "2026-11-24T03:09:58Z"),
        ("2026-11-24T03:09:57Z", 10, "2026-11-24T03:10:01Z"),
        // Set back since it was heard, in whole seconds.
        ("2026-11-21T03:00:00Z", 30, "2026-11-24T03:30:01Z"),
        // Ahead, it is held for longer than it must be.
        ("2026-11-27T03:00:00Z", 30, "2026-11-27T03:00:00Z"),
    ] {
        let found = from(now, minute * (1 + later));
        assert_eq!(found, Some(at(expected)), "{now}");
    }
}
