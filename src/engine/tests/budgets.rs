//! What holds against any loop, and what holds a retired credential back.

use std::time::Duration;

use crate::core::change::Change;
use crate::core::lifecycle::LifecycleEvent;
use crate::core::policy::KeyPolicy;
use crate::engine::tests::captured_log::CapturedLog;
use crate::engine::tests::fake::{Fakes, key};
use crate::engine::tests::rotation_changes::{
    created, current, delivery_started, rotation, transitioned,
};
use crate::engine::{Engine, RotationRequest, RunMode};
use crate::provider::ErrorKind;

const HOUR: Duration = Duration::from_secs(3_600);
const ROTATION_REQUEST: RotationRequest = RotationRequest {
    operator: None,
    revoke_previous: false,
    replacement: crate::engine::ReplaceApproval::Refused,
};

async fn open(fakes: &Fakes, adapt: impl FnOnce(&mut KeyPolicy)) -> Engine {
    let managed = fakes.managed_key(key(), adapt);
    fakes.open_engine(vec![managed], RunMode::Once).await
}

fn take_create_count(fakes: &Fakes) -> usize {
    let calls = fakes.take_calls();
    calls.iter().filter(|call| *call == "create").count()
}

#[tokio::test]
async fn the_create_budget_holds_across_restarts() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(vec![(key(), Vec::new())]).await;
    fakes.refuse_secrets(true);
    let limits = |policy: &mut KeyPolicy| {
        policy.max_creates_per_day = 3;
        policy.verify_timeout = Duration::ZERO;
    };
    for _ in 0..4 {
        let mut engine = open(&fakes, limits).await;
        fakes.run_for(&mut engine, HOUR * 5).await;
    }
    assert_eq!(take_create_count(&fakes), 3, "within 20 hours");
    let mut engine = open(&fakes, limits).await;
    let problem = engine.state(&key()).unwrap().last_error.clone().unwrap();
    assert!(
        problem.contains("max-creates-per-day is used up"),
        "{problem}"
    );
    assert!(
        fakes.live_ids().is_empty(),
        "unverified credentials are revoked"
    );

    engine.request_rotation(&key(), ROTATION_REQUEST);
    fakes.run_for(&mut engine, Duration::ZERO).await;
    assert_eq!(
        take_create_count(&fakes),
        1,
        "an operator's request is not limited"
    );
    fakes.refuse_secrets(false);
    fakes.run_for(&mut engine, HOUR * 24).await;
    assert!(engine.state(&key()).unwrap().current().is_some());
}

/// Returns three rotations that are stranded after these changes.
fn stranded_three(changes: fn(u64) -> Vec<Change>) -> Vec<Change> {
    let each = (1..=3).flat_map(|number| {
        let mut changes = changes(number);
        changes.push(transitioned(number, LifecycleEvent::Interrupted));
        changes
    });
    each.collect()
}

const LIVE_CREDENTIALS: [(&str, &str); 3] = [
    ("key_1", "label-1"),
    ("key_2", "label-2"),
    ("key_3", "label-3"),
];

fn limit_to_three(policy: &mut KeyPolicy) {
    policy.max_live_credentials = 3;
    policy.overlap = HOUR;
}

#[tokio::test]
async fn an_unused_stranded_credential_is_evicted_at_the_live_limit() {
    let fakes = Fakes::new(&LIVE_CREDENTIALS);
    fakes
        .write_ledger(vec![(key(), stranded_three(created))])
        .await;
    let mut engine = open(&fakes, limit_to_three).await;
    fakes.run_for(&mut engine, HOUR / 2).await;
    assert_eq!(fakes.phase_of(&rotation(1)), "revoked");
    assert!(fakes.journal_details("replaced")[0].contains("because of max-live-credentials"));
    let state = engine.state(&key()).unwrap();
    assert!(state.current().is_some());
    assert_eq!(fakes.live_ids().len(), 3, "the others live for one overlap");
    fakes.run_for(&mut engine, HOUR * 2).await;
    assert_eq!(fakes.live_ids().len(), 1);
}

#[tokio::test]
async fn nothing_is_evicted_while_last_use_is_unknown() {
    for (is_global, counted) in [(false, 1), (true, 0)] {
        let fakes = Fakes::new(&LIVE_CREDENTIALS);
        fakes
            .write_ledger(vec![(key(), stranded_three(created))])
            .await;
        let mut engine = open(&fakes, limit_to_three).await;
        let kind = ErrorKind::ServerError;
        if is_global {
            fakes.fail_provider(Some(kind));
        } else {
            fakes.fail_calls(Some(("retrieve", kind)));
        }
        fakes.run_for(&mut engine, Duration::ZERO).await;
        assert_eq!(fakes.live_ids().len(), 3);
        let state = engine.state(&key()).unwrap();
        assert_eq!(state.attempt, counted, "{is_global}");
    }
}

/// A restored backup has no deliveries after its copy: a consumer may use a credential
/// that is stranded only now.
#[tokio::test]
async fn a_credential_used_before_it_was_stranded_is_not_evicted() {
    let mut changes = created(1);
    changes.push(transitioned(1, LifecycleEvent::Interrupted));
    changes.extend(created(2));
    changes.push(transitioned(2, LifecycleEvent::Interrupted));
    changes.extend(created(3));
    let fakes = Fakes::new(&LIVE_CREDENTIALS);
    fakes.write_ledger(vec![(key(), changes)]).await;
    fakes.advance_clock(HOUR);
    for (id, _) in LIVE_CREDENTIALS {
        fakes.mark_used(id);
    }
    fakes.advance_clock(HOUR * 10);
    let mut engine = open(&fakes, limit_to_three).await;
    fakes.run_for(&mut engine, HOUR).await;
    assert_eq!(fakes.phase_of(&rotation(3)), "stranded");
    assert_eq!(fakes.live_ids(), ["key_1", "key_2", "key_3"]);
}

#[tokio::test]
async fn used_or_delivered_credentials_are_not_evicted() {
    for changes in [created as fn(u64) -> Vec<Change>, delivery_started] {
        let fakes = Fakes::new(&LIVE_CREDENTIALS);
        fakes
            .write_ledger(vec![(key(), stranded_three(changes))])
            .await;
        fakes.advance_clock(HOUR);
        for (id, _) in LIVE_CREDENTIALS {
            fakes.mark_used(id);
        }
        let mut engine = open(&fakes, limit_to_three).await;
        fakes.run_for(&mut engine, HOUR * 24).await;
        assert_eq!(fakes.live_ids(), ["key_1", "key_2", "key_3"]);
        let problem = engine.state(&key()).unwrap().last_error.clone().unwrap();
        assert!(problem.contains("max-live-credentials = 3"), "{problem}");
        let (lines, _guard) = CapturedLog::capture();
        engine.request_rotation(&key(), ROTATION_REQUEST);
        fakes.run_for(&mut engine, HOUR * 3).await;
        assert_eq!(
            fakes.live_ids().len(),
            1,
            "an operator's rotation replaced them"
        );
        assert_eq!(lines.lines_with("WARN", "rotating anyway").len(), 1);
    }
}

#[tokio::test]
async fn revocation_of_a_used_credential_is_deferred_and_warned_of_a_day_before() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    fakes.write_ledger(vec![(key(), current(1))]).await;
    let (lines, _guard) = CapturedLog::capture();
    let mut engine = open(&fakes, |policy| {
        policy.overlap = HOUR;
        policy.max_revoke_delay = HOUR * 72;
    })
    .await;
    engine.request_rotation(&key(), ROTATION_REQUEST);
    for hour in 1..=72 {
        for _ in 0..4 {
            fakes.run_for(&mut engine, HOUR / 4).await;
            fakes.mark_used("key_1");
        }
        assert_eq!(fakes.live_ids().len(), 2, "after {hour} hours");
        // It is revoked at 73 hours, so its last day starts at 49 hours.
        let warned = usize::from(hour >= 49);
        let warnings = lines.lines_with("WARN", "is not revoked yet").len();
        assert_eq!(warnings, warned, "after {hour} hours");
    }
    assert_eq!(lines.lines_with("INFO", "is not revoked yet").len(), 1);
    fakes.run_for(&mut engine, HOUR * 2).await;
    assert_eq!(fakes.live_ids().len(), 1, "the delay has a limit");
}

#[tokio::test]
async fn an_idle_credential_is_no_longer_deferred() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    fakes.write_ledger(vec![(key(), current(1))]).await;
    let mut engine = open(&fakes, |policy| policy.overlap = HOUR).await;
    engine.request_rotation(&key(), ROTATION_REQUEST);
    fakes.run_for(&mut engine, HOUR / 2).await;
    fakes.mark_used("key_1");
    fakes.run_for(&mut engine, HOUR * 3 / 4).await;
    assert_eq!(fakes.live_ids().len(), 2, "used within the hour");
    fakes.run_for(&mut engine, HOUR / 2).await;
    assert_eq!(fakes.live_ids().len(), 1);
}
