//! The alerts of one key, by its state and the time.

use jiff::tz::TimeZone;

use super::*;
use crate::core::ids::{CredentialId, KeyName, RotationId};
use crate::core::schedule::Schedule;
use crate::core::scope::Scope;
use crate::core::state::{
    CredentialMetadata, DeferralKind, DeliveryState, Retirement, Sighting, Trigger,
};

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
        scheduled_for: Some(started),
        credential: Some(CredentialMetadata {
            id: CredentialId::new(format!("key_{sequence}")),
            redacted_value: None,
            created_at: Some(started),
            expires_at: None,
        }),
        current_at: Some(started),
        maybe_created: true,
        ..Rotation::new(
            RotationId::new([u8::try_from(sequence).unwrap(); 8]),
            Scope::AdminKeys,
            sequence,
            Trigger::Schedule,
            phase,
            started,
        )
    }
}

fn state(live: Vec<Rotation>) -> KeyState {
    let newest = live
        .last()
        .map(|rotation| (rotation.sequence, rotation.phase));
    let mut state = KeyState::unknown(key());
    if let Some((sequence, phase)) = newest {
        (state.sequence, state.newest_phase) = (sequence, Some(phase));
    }
    state.live = live;
    state
}

fn policy() -> KeyPolicy {
    KeyPolicy::new(Schedule::parse("@hourly", TimeZone::UTC).unwrap())
}

/// The active alerts by word and credential, and when they are evaluated again.
struct EvaluatedAlerts {
    alerts: Vec<String>,
    texts: Vec<String>,
    recheck_at: Option<Timestamp>,
}

fn evaluate(
    state: &KeyState,
    raised: &[AlertKind],
    change: impl FnOnce(&mut AlertContext<'_>),
) -> EvaluatedAlerts {
    evaluate_with(&policy(), state, raised, change)
}

fn evaluate_with(
    policy: &KeyPolicy,
    state: &KeyState,
    raised: &[AlertKind],
    change: impl FnOnce(&mut AlertContext<'_>),
) -> EvaluatedAlerts {
    let mut context = AlertContext {
        state,
        configured: Some((policy, &[])),
        failing_since: None,
        alertable_since: None,
        operational_since: Some(at("2026-11-20T00:00:00Z")),
        has_global_alert: false,
        is_held_back: false,
    };
    change(&mut context);
    let found = active_alerts(&context, |alert| raised.contains(&alert.kind), at(NOW));
    let word = |alert: &Alert| match &alert.credential {
        Some(id) => format!("{} {id}", alert.kind.as_str()),
        None => alert.kind.as_str().to_owned(),
    };
    EvaluatedAlerts {
        alerts: found.active.keys().map(word).collect(),
        texts: found
            .active
            .values()
            .map(|details| details.text.clone())
            .collect(),
        recheck_at: found.recheck_at,
    }
}

/// Returns a key whose sink refused the open rotation's secret.
fn key_with_rejected_delivery() -> KeyState {
    let mut open = rotation(2, Phase::Verified);
    open.deliveries = vec![Delivery {
        sink: SinkId {
            name: "file".to_owned(),
            target: "file:/x".to_owned(),
        },
        required: true,
        state: DeliveryState::Refused,
        maybe_accepted: false,
        attempts: 3,
        last_attempt_at: None,
        accepted_at: None,
        written_at: None,
        sighting: None,
        file: None,
        file_access: None,
        removed_at: None,
        retry_at: None,
        error: Some("the folder is gone".to_owned()),
    }];
    state(vec![rotation(1, Phase::Current), open])
}

#[test]
fn healthy_key_raises_no_alert() {
    let found = evaluate(&state(vec![rotation(1, Phase::Current)]), &[], |_| {});
    assert_eq!((found.alerts, found.recheck_at), (vec![], None));
}

#[test]
fn failure_alerts_after_the_grace_period() {
    let state = key_with_rejected_delivery();
    // The error is too recent: it is evaluated again.
    let found = evaluate(&state, &[], |context| {
        context.alertable_since = Some(at("2026-11-24T03:09:50Z"));
    });
    let again = Some(at("2026-11-24T03:10:20Z"));
    assert_eq!((found.alerts, found.recheck_at), (vec![], again));
    let found = evaluate(&state, &[], |context| {
        context.alertable_since = Some(at("2026-11-24T03:09:30Z"));
    });
    assert_eq!(found.alerts, ["failing"]);
    assert!(
        found.texts[0].contains("not delivered to file (file:/x): the folder is gone"),
        "{:?}",
        found.texts
    );
    assert!(found.texts[0].ends_with("hint: follow it with `rekeyd status k`"));
    // A process that just started waits; a command that ends does not.
    let found = evaluate(&state, &[], |context| {
        context.alertable_since = Some(at("2026-11-24T02:00:00Z"));
        context.operational_since = Some(at("2026-11-24T03:09:59Z"));
    });
    assert_eq!(found.alerts, [""; 0]);
    let found = evaluate(&state, &[], |context| context.operational_since = None);
    assert_eq!(found.alerts, ["failing"]);
    // An alert of the daemon is the cause.
    let found = evaluate(&state, &[], |context| {
        context.operational_since = None;
        context.has_global_alert = true;
    });
    assert_eq!(found.alerts, [""; 0]);
}

#[test]
fn failing_alert_stays_active_until_the_key_is_repaired() {
    let raised = [AlertKind::Failing];
    for (live, lasts) in [
        (vec![rotation(1, Phase::Current)], false),
        // After a restart, the repair has not finished.
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
        let found = evaluate(&state, &raised, |_| {});
        assert_eq!(found.alerts == ["failing"], lasts, "{state:?}");
    }
    let mut failed = state(vec![rotation(1, Phase::Current)]);
    failed.last_error = Some("no rotation begun".to_owned());
    assert_eq!(evaluate(&failed, &raised, |_| {}).alerts, ["failing"]);
    // A removed key needs no rotation.
    let found = evaluate(&failed, &raised, |context| context.configured = None);
    assert_eq!(found.alerts, ["unmanaged"]);
}

#[test]
fn unverified_new_secret_raises_no_failing_alert() {
    let mut open = rotation(2, Phase::Created);
    (open.attempt, open.error) = (7, Some("refused".to_owned()));
    let mut state = state(vec![rotation(1, Phase::Current), open]);
    let found = evaluate(&state, &[], |context| context.operational_since = None);
    assert_eq!(found.alerts, [""; 0]);
    state.live[1].phase = Phase::Retired;
    let found = evaluate(&state, &[], |context| context.operational_since = None);
    assert_eq!(found.alerts, ["failing"]);
}

#[test]
fn overdue_counts_only_operational_time() {
    let policy = KeyPolicy {
        delivery_deadline: Duration::from_secs(300),
        ..policy()
    };
    let mut current = rotation(1, Phase::Current);
    current.started_at = at("2026-11-24T02:30:00Z");
    let state = state(vec![current]);
    let check = |raised: &[AlertKind], operational: Option<&str>, has_global_alert| {
        evaluate_with(&policy, &state, raised, |context| {
            context.operational_since = operational.map(at);
            context.has_global_alert = has_global_alert;
        })
    };
    let long = Some("2026-11-20T00:00:00Z");
    assert_eq!(check(&[], long, false).alerts, ["overdue"]);
    assert_eq!(check(&[], None, false).alerts, ["overdue"]);
    assert_eq!(check(&[], long, true).alerts, [""; 0]);
    // The provider's outage just ended.
    let found = check(&[], Some("2026-11-24T03:09:00Z"), false);
    let again = Some(at("2026-11-24T03:14:01Z"));
    assert_eq!((found.alerts, found.recheck_at), (vec![], again));
    // Neither a restart nor an outage resolves a raised alert.
    let just_now = Some("2026-11-24T03:09:59Z");
    assert_eq!(
        check(&[AlertKind::Overdue], just_now, true).alerts,
        ["overdue"]
    );
}

#[test]
fn expiring_credential_alerts_without_a_successor() {
    let mut current = rotation(1, Phase::Current);
    current.credential.as_mut().unwrap().expires_at = Some(at("2026-11-24T03:13:00Z"));
    let mut state = state(vec![current]);
    // Its last quarter began at 03:09:45; a rotation may be in progress.
    let found = evaluate(&state, &[], |_| {});
    let half = Some(at("2026-11-24T03:11:22.5Z"));
    assert_eq!((found.alerts, found.recheck_at), (vec![], half));
    // A command that cannot wait reports failures, not rotations in progress.
    let ends = |context: &mut AlertContext<'_>| context.operational_since = None;
    let found = evaluate(&state, &[], ends);
    assert_eq!((found.alerts, found.recheck_at), (vec![], half));
    state.last_error = Some("no rotation begun".to_owned());
    assert_eq!(
        evaluate(&state, &[], ends).alerts,
        ["failing", "expiring key_1"]
    );
    state.last_error = Some("no rotation begun".to_owned());
    let since =
        |context: &mut AlertContext<'_>| context.failing_since = Some(at("2026-11-24T03:00:00Z"));
    let found = evaluate(&state, &[], since);
    assert_eq!(found.alerts, ["failing", "expiring key_1"]);
    assert!(
        found.texts[1].contains("expires at 2026-11-24T03:13:00Z"),
        "{:?}",
        found.texts
    );
    // Once raised, the alert lasts while that credential is current.
    state.last_error = None;
    assert_eq!(
        evaluate(&state, &[AlertKind::Expiring], |_| {}).alerts,
        ["expiring key_1"]
    );
    state.live.push(rotation(2, Phase::Current));
    state.live[0].phase = Phase::Retired;
    assert_eq!(
        evaluate(&state, &[AlertKind::Expiring], |_| {}).alerts,
        [""; 0]
    );
}

#[test]
fn orphan_and_hold_alerts_name_their_credential() {
    let mut used = rotation(1, Phase::Retired);
    used.error = Some("it was used today".to_owned());
    used.final_warning = true;
    let mut held = rotation(2, Phase::Retired);
    (held.revoke_after, held.hold_until) = (
        Some(at("2026-11-24T02:00:00Z")),
        Some(at("2026-11-24T12:00:00Z")),
    );
    let mut orphan = rotation(3, Phase::Orphaned);
    (orphan.attempt, orphan.error) = (1, Some("a server error".to_owned()));
    let state = state(vec![used, held, orphan, rotation(4, Phase::Current)]);
    let found = evaluate(&state, &[], |_| {});
    assert_eq!(found.alerts, ["orphan key_3", "hold key_1", "hold key_2"]);
    assert!(
        found.texts[0].ends_with("the last attempt failed: a server error"),
        "{:?}",
        found.texts
    );
}

/// A person decides about a credential that rekeyd may work with, or that bears another
/// name. That rekeyd works with a superseded one passes by itself, unless it lasts.
#[test]
fn doubtful_credentials_raise_one_alert_each() {
    let deferred = |kind, since: &str| {
        let mut rotation = rotation(1, Phase::Retired);
        rotation.deferral = Some(kind);
        rotation.deferred_since = Some(at(since));
        rotation.error = Some("nothing shows it".to_owned());
        evaluate(
            &state(vec![rotation, self::rotation(2, Phase::Current)]),
            &[],
            |_| {},
        )
    };
    let (today, long_ago) = (NOW, "2026-11-01T00:00:00Z");
    for (kind, since, expected) in [
        (DeferralKind::MayBeInUse, today, Some("may-be-in-use key_1")),
        (DeferralKind::OtherName, today, Some("other-name key_1")),
        (
            DeferralKind::HeldElsewhere,
            today,
            Some("held-elsewhere key_1"),
        ),
        (
            DeferralKind::FileUnseen,
            today,
            Some("held-elsewhere key_1"),
        ),
        (DeferralKind::SelfCredential, today, None),
        (
            DeferralKind::SelfCredential,
            long_ago,
            Some("may-be-in-use key_1"),
        ),
        (DeferralKind::RecentlyUsed, long_ago, None),
        (DeferralKind::UseUnreadable, long_ago, None),
        (DeferralKind::SuccessorMissing, long_ago, None),
    ] {
        let alerts = deferred(kind, since).alerts;
        assert_eq!(
            alerts,
            Vec::from_iter(expected.map(str::to_owned)),
            "{kind:?}"
        );
    }
}

/// People who were notified of the wait are notified again before the revocation.
#[test]
fn wait_for_files_is_notified_of_again_on_its_last_day() {
    for kind in [DeferralKind::HeldElsewhere, DeferralKind::FileUnseen] {
        let mut retired = rotation(1, Phase::Retired);
        retired.deferral = Some(kind);
        retired.deferred_since = Some(at(NOW));
        (retired.final_warning, retired.error) = (true, Some("a file holds it".to_owned()));
        let state = state(vec![retired, rotation(2, Phase::Current)]);
        let mut alerts = evaluate(&state, &[], |_| {}).alerts;
        alerts.sort();
        let expected = ["held-elsewhere key_1", "held-elsewhere-ends key_1"];
        assert_eq!(alerts, expected, "{kind:?}");
    }
}

#[test]
fn orphan_without_a_revocation_attempt_shows_no_error() {
    let mut orphan = rotation(1, Phase::Orphaned);
    orphan.error = Some("abandoned".to_owned());
    // An operator holds it for some hours.
    orphan.hold_until = Some(at("2026-11-24T12:00:00Z"));
    let found = evaluate(&state(vec![orphan]), &[], |_| {});
    assert_eq!(found.alerts, ["orphan key_1", "hold key_1"]);
    assert!(
        found.texts[0].ends_with("as soon as possible"),
        "{:?}",
        found.texts
    );
    assert!(found.texts[0].contains("no sink ever accepted it"));
    // One that was delivered, and is alive although it was revoked.
    let mut delivered = rotation(1, Phase::Orphaned);
    let sink = SinkId {
        name: "file".to_owned(),
        target: "file:/x".to_owned(),
    };
    delivered.add_deliveries(&[(sink, true)], DeliveryState::Accepted);
    let text = evaluate(&state(vec![delivered]), &[], |_| {})
        .texts
        .remove(0);
    assert!(
        text.contains("although it was recorded as revoked"),
        "{text}"
    );
    // A current credential raises no alert.
    let mut current = rotation(1, Phase::Current);
    current.hold_until = Some(at("2026-11-24T12:00:00Z"));
    assert_eq!(evaluate(&state(vec![current]), &[], |_| {}).alerts, [""; 0]);
}

#[test]
fn resolved_text_names_the_current_credential() {
    let alert = Alert::for_key(&key(), AlertKind::Failing);
    let state = state(vec![rotation(1, Phase::Current)]);
    for (state, text) in [
        (None, "k is no longer failing"),
        (
            Some(&state),
            "k is no longer failing; its current credential is key_1",
        ),
    ] {
        assert_eq!(resolved_text(&alert, state), text);
    }
}

#[test]
fn hold_alerts_a_day_before_it_ends() {
    let alerts_of_hold = |until: Timestamp, revoke_after: &str| {
        let mut on_hold = rotation(1, Phase::Retired);
        (on_hold.hold_until, on_hold.revoke_after) = (Some(until), Some(at(revoke_after)));
        let key = state(vec![on_hold, rotation(2, Phase::Current)]);
        let found = evaluate(&key, &[], |_| {});
        (found.alerts.len(), found.recheck_at)
    };
    let early = "2026-11-24T02:00:00Z";
    let day = at("2026-11-26T00:00:00Z");
    let tomorrow = Some(at("2026-11-25T00:00:00Z"));
    assert_eq!(alerts_of_hold(day, early), (0, tomorrow));
    // It is revoked later than that anyway, or never by itself, or immediately.
    assert_eq!(alerts_of_hold(day, "2026-11-27T00:00:00Z"), (0, None));
    assert_eq!(alerts_of_hold(Timestamp::MAX, early), (0, None));
    assert_eq!(alerts_of_hold(day, "2026-11-26T00:00:00Z"), (0, None));
    assert_eq!(alerts_of_hold(at("2026-11-24T03:00:00Z"), early), (0, None));
    assert_eq!(alerts_of_hold(at(NOW), early), (0, None));
    // The boundary is exact to the second.
    assert_eq!(alerts_of_hold(at("2026-11-25T03:10:00Z"), early), (1, None));
    let a_second = Some(at("2026-11-24T03:10:01Z"));
    assert_eq!(
        alerts_of_hold(at("2026-11-25T03:10:01Z"), early),
        (0, a_second)
    );
}

/// People are notified at once, and again on the last day, whatever the overlap.
#[test]
fn retired_credential_in_a_target_raises_an_alert_at_once_and_on_the_last_day() {
    let policy = KeyPolicy {
        max_revoke_delay: time::DAY * 3,
        ..policy()
    };
    let seen = |since: &str, until: Option<&str>| {
        let mut retired = rotation(1, Phase::Retired);
        let sink = SinkId {
            name: "file".to_owned(),
            target: "file:/x".to_owned(),
        };
        retired.add_deliveries(&[(sink, true)], DeliveryState::Accepted);
        retired.deliveries[0].sighting = Some(Sighting {
            since: at(since),
            until: until.map(at),
        });
        // The revocation is deferred already, which raises no further alert.
        retired.deferral = Some(DeferralKind::HeldAgain);
        (retired.final_warning, retired.error) = (true, Some("held again".to_owned()));
        let state = state(vec![retired, rotation(2, Phase::Current)]);
        evaluate_with(&policy, &state, &[], |_| {})
    };
    let found = seen("2026-11-24T03:00:00Z", None);
    assert_eq!(found.alerts, ["held-again key_1"]);
    assert_eq!(found.recheck_at, Some(at("2026-11-26T03:00:00Z")));
    let text = &found.texts[0];
    assert!(
        text.contains("file (file:/x) holds the retired credential key_1 again")
            && text.contains("at 2026-11-27T03:00:00Z"),
        "{text}"
    );
    let found = seen("2026-11-22T03:00:00Z", None);
    assert_eq!(found.alerts, ["held-again key_1", "held-again-ends key_1"]);
    let found = seen("2026-11-22T03:00:00Z", Some("2026-11-24T03:00:00Z"));
    assert_eq!(found.alerts, [""; 0]);
}

#[test]
fn live_credential_of_a_removed_key_is_unmanaged_even_if_no_sink_shows_since_when() {
    let adopted = state(vec![rotation(1, Phase::Current)]);
    let removed = |operational_since: &str| {
        let since = at(operational_since);
        evaluate(&adopted, &[], |context| {
            context.configured = None;
            context.operational_since = Some(since);
        })
    };
    let found = removed("2026-11-20T00:00:00Z");
    assert_eq!(found.alerts, ["unmanaged"]);
    assert!(
        found.texts[0].contains("`rekeyd retire k`"),
        "{:?}",
        found.texts
    );
    // At first, the daemon may not have compared its sinks with the ledger.
    let found = removed(NOW);
    assert_eq!(found.alerts, [""; 0]);
    assert!(found.recheck_at.is_some());
    let retired = KeyState {
        retirement: Some(Retirement {
            at: at(NOW),
            is_immediate: false,
        }),
        ..adopted
    };
    let found = evaluate(&retired, &[], |context| context.configured = None);
    assert_eq!(found.alerts, [""; 0]);
}
