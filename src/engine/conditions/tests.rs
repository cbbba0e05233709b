//! Which conditions are active, what they forbid, and which errors raise them.

use super::*;
use crate::core::gate::RequestClass;
use crate::core::ids::ProjectId;
use crate::core::scope::Scope;
use crate::provider::{Effect, RetryAdvice};

/// The conditions that stop every rotation.
const ALL: [Condition; 6] = [
    Condition::Ledger,
    Condition::Credential,
    Condition::Organization,
    Condition::Clock,
    Condition::Provider,
    Condition::Reconciliation,
];

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn each_condition_is_raised_once_and_cleared_once() {
    let conditions = Conditions::default();
    assert!(conditions.can_start_rotation(&Scope::AdminKeys));
    for condition in ALL {
        assert!(!conditions.clear(condition), "it was not active");
        conditions.raise(condition, "first");
        conditions.raise(condition, "second");
        assert!(conditions.is_active(condition));
        let newest = ActiveCondition {
            condition,
            scope: None,
            problem: "second".to_owned(),
        };
        assert_eq!(conditions.active(), [newest]);
        assert!(!conditions.can_start_rotation(&Scope::AdminKeys));
        let unrecorded = conditions.take_unrecorded();
        let expected = [((condition, None), Some("second".to_owned()))];
        assert_eq!(unrecorded, expected.into());
        assert_eq!(conditions.take_unrecorded(), BTreeMap::new());
        assert!(conditions.clear(condition));
        assert!(
            !conditions.is_active(condition) && conditions.can_start_rotation(&Scope::AdminKeys)
        );
        assert_eq!(
            conditions.take_unrecorded(),
            [((condition, None), None)].into()
        );
    }
}

#[test]
fn active_conditions_are_sorted_worst_first() {
    let conditions = Conditions::default();
    for condition in ALL.into_iter().rev() {
        conditions.raise(condition, condition.as_str());
    }
    let active = conditions.active().into_iter();
    let active: Vec<_> = active.map(|active| active.condition).collect();
    assert_eq!(active, ALL);
    let names = ALL.map(Condition::as_str);
    let expected = [
        "ledger",
        "credential",
        "organization",
        "clock",
        "provider",
        "reconciliation",
    ];
    assert_eq!(names, expected);
}

#[test]
fn each_condition_withdraws_the_permits_it_makes_unsafe() {
    for condition in ALL {
        let conditions = Conditions::default();
        assert_eq!(conditions.permits(&Scope::AdminKeys), Permits::ALL);
        conditions.raise(condition, "why");
        let expected = match condition {
            Condition::Provider | Condition::Credential => Permits {
                can_use_provider: false,
                can_trust_clock: true,
                ..Permits::ALL
            },
            Condition::Clock => Permits {
                can_use_provider: true,
                can_trust_clock: false,
                ..Permits::ALL
            },
            Condition::Ledger
            | Condition::Organization
            | Condition::Reconciliation
            | Condition::Quota
            | Condition::CreateRefusal
            | Condition::CreateLimit
            | Condition::ReadLimit
            | Condition::DeleteLimit => Permits::ALL,
        };
        assert_eq!(
            conditions.permits(&Scope::AdminKeys),
            expected,
            "{condition:?}"
        );
    }
}

#[test]
fn the_last_probe_delay_repeats() {
    for (condition, delays) in [
        (Condition::Ledger, &[1, 2, 5, 5][..]),
        (Condition::Provider, &[1, 2, 5, 15, 30, 60, 60]),
        (Condition::Credential, &[5, 15, 30, 60, 300, 300]),
        (Condition::Clock, &[30, 60, 60]),
        (Condition::Organization, &[300, 300]),
        (Condition::Reconciliation, &[300, 300]),
    ] {
        for (attempt, delay) in (1..).zip(delays) {
            let delay = Duration::from_secs(*delay);
            assert_eq!(
                condition.probe_delay(attempt),
                delay,
                "{condition:?} {attempt}"
            );
        }
        assert_eq!(condition.probe_delay(0), condition.probe_delay(1));
        let last = Duration::from_secs(delays[delays.len() - 1]);
        assert_eq!(condition.probe_delay(u32::MAX), last);
    }
}

#[test]
fn clocks_agree_within_five_minutes() {
    let host_time = at("2026-11-24T03:00:00Z");
    for (provider_time, agrees) in [
        ("2026-11-24T03:00:00Z", true),
        ("2026-11-24T03:05:00Z", true),
        ("2026-11-24T02:55:00Z", true),
        ("2026-11-24T03:05:01Z", false),
        ("2026-11-24T02:54:59Z", false),
    ] {
        assert_eq!(
            time::clocks_agree(at(provider_time), host_time),
            agrees,
            "{provider_time}"
        );
        let conditions = Conditions::default();
        conditions.observe_response(Some(at(provider_time)), host_time, Duration::ZERO);
        assert_eq!(
            conditions.is_active(Condition::Clock),
            !agrees,
            "{provider_time}"
        );
    }
    let message = clock_mismatch_message(Some(at("2026-11-24T04:00:00Z")), host_time);
    assert!(
        message.contains("2026-11-24T03:00:00Z") && message.contains("2026-11-24T04:00:00Z"),
        "{message}"
    );
    let unknown = clock_mismatch_message(None, host_time);
    assert!(
        unknown.contains("no readable Date") && unknown.contains("proxy"),
        "{unknown}"
    );
    assert!(!unknown.contains("set the clock"), "{unknown}");
}

#[test]
fn a_provider_response_is_recent_for_five_minutes() {
    let conditions = Conditions::default();
    assert!(!conditions.has_recent_response(at("2026-11-24T03:00:00Z")));
    conditions.observe_response(None, at("2026-11-24T03:00:00Z"), Duration::ZERO);
    for (now, is_recent) in [
        ("2026-11-24T03:05:00Z", true),
        ("2026-11-24T03:05:01Z", false),
        // The clock was set back.
        ("2026-11-24T02:55:00Z", true),
        ("2026-11-24T02:54:59Z", false),
    ] {
        assert_eq!(conditions.has_recent_response(at(now)), is_recent, "{now}");
    }
}

#[test]
fn first_occurrence_is_reported_once_per_name() {
    let conditions = Conditions::default();
    assert!(conditions.is_first_occurrence("a"));
    assert!(!conditions.is_first_occurrence("a"));
    assert!(conditions.is_first_occurrence("b"));
}

#[test]
fn every_error_of_a_harmless_request_is_a_condition() {
    let error = |kind| ProviderError {
        operation: String::new(),
        effect: Effect::Unknown,
        retry: RetryAdvice::Later(None),
        kind,
        message: String::new(),
        class: RequestClass::Read,
        code: None,
        request_id: None,
        server_time: None,
    };
    for (kind, condition) in [
        (ErrorKind::NoCredential, Condition::Credential),
        (ErrorKind::CredentialRefused, Condition::Credential),
        (ErrorKind::Forbidden, Condition::Credential),
        (ErrorKind::Unreachable, Condition::Provider),
        (ErrorKind::NoAnswer, Condition::Provider),
        (ErrorKind::ServerError, Condition::Provider),
        (ErrorKind::BadAnswer, Condition::Provider),
        (ErrorKind::NotFound, Condition::Provider),
        (ErrorKind::Refused, Condition::Provider),
        (ErrorKind::RateLimited, Condition::Provider),
        (ErrorKind::QuotaExhausted, Condition::Provider),
        (ErrorKind::ScopeRefused, Condition::Provider),
    ] {
        assert_eq!(condition_of_error(&error(kind)), condition, "{kind:?}");
    }
}

/// An overlap that starts at a time long past would already be over.
#[test]
fn overlap_never_starts_at_a_clock_that_is_behind() {
    let conditions = Conditions::default();
    let minute = Duration::from_secs(60);
    let overlap_start = |now: &str, monotonic| conditions.overlap_start(at(now), monotonic);
    assert_eq!(overlap_start("2026-11-24T03:00:00Z", minute), None);
    conditions.observe_response(
        Some(at("2026-11-24T03:00:00Z")),
        at("2026-11-24T03:00:00Z"),
        minute,
    );
    for (now, later, expected) in [
        ("2026-11-24T03:10:00Z", 10, "2026-11-24T03:10:00Z"),
        // A moment behind, as most clocks are.
        ("2026-11-24T03:09:58Z", 10, "2026-11-24T03:09:58Z"),
        ("2026-11-24T03:09:57Z", 10, "2026-11-24T03:10:01Z"),
        // Set back since the response, in whole seconds.
        ("2026-11-21T03:00:00Z", 30, "2026-11-24T03:30:01Z"),
        // With a clock that is ahead, the overlap lasts longer than necessary.
        ("2026-11-27T03:00:00Z", 30, "2026-11-27T03:00:00Z"),
    ] {
        let start = overlap_start(now, minute * (1 + later));
        assert_eq!(start, Some(at(expected)), "{now}");
    }
}

#[test]
fn a_condition_of_a_scope_stops_its_keys_alone() {
    let project = Scope::Project(ProjectId::new("proj_abc"));
    for condition in ALL {
        let conditions = Conditions::default();
        conditions.raise_in(&project, condition, "why");
        assert!(!conditions.can_start_rotation(&project), "{condition:?}");
        assert!(conditions.is_active_in(&project, condition));
        assert!(conditions.can_start_rotation(&Scope::AdminKeys));
        assert!(!conditions.is_active_in(&Scope::AdminKeys, condition));
        assert_eq!(conditions.permits(&Scope::AdminKeys), Permits::ALL);
        assert!(!conditions.is_active(condition), "not for the daemon");
        assert!(conditions.is_provider_usable() && !conditions.is_clear());
        assert!(!conditions.clear(condition), "it belongs to the scope");
        // A condition of the daemon stops the keys of both scopes, and each ends on its
        // own.
        conditions.raise(condition, "why");
        assert!(!conditions.can_start_rotation(&Scope::AdminKeys));
        assert_eq!(conditions.active().len(), 2);
        assert!(conditions.clear_in(&project, condition));
        assert!(!conditions.can_start_rotation(&project));
        assert!(conditions.clear(condition) && conditions.is_clear());
    }
}

#[test]
fn a_condition_of_one_scope_does_not_withdraw_the_permits_of_another() {
    let project = Scope::Project(ProjectId::new("proj_abc"));
    let conditions = Conditions::default();
    conditions.raise_in(&project, Condition::Provider, "why");
    assert!(!conditions.permits(&project).can_use_provider);
    assert!(conditions.permits(&project).can_trust_clock);
    conditions.raise_in(&project, Condition::Clock, "why");
    assert!(!conditions.permits(&project).can_trust_clock);
    assert_eq!(conditions.permits(&Scope::AdminKeys), Permits::ALL);
}
