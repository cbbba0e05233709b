//! Limits and refusals of creates: one cause for all keys of a scope, found by one probe.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::core::change::{Change, PauseUpdate};
use crate::core::condition::Condition;
use crate::core::ids::KeyName;
use crate::core::notification::{ChannelId, EventKind};
use crate::core::scope::Scope;
use crate::core::state::Pause;
use crate::core::subscriptions::{Subscription, Subscriptions};
use crate::engine::tests::captured_log::CapturedLog;
use crate::engine::tests::fake::{Fakes, at, key};
use crate::engine::tests::notifications::send_all;
use crate::engine::tests::rotation_changes::{current, intended};
use crate::engine::tests::{key_name, rotation_request};
use crate::engine::{Engine, PendingRotation, RunMode, Services};
use crate::provider::{Effect, ErrorKind};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Returns an engine with this number of keys that are due, and no rows.
async fn engine_with_due_keys(fakes: &Fakes, count: u64) -> Engine {
    fakes.write_ledger(Vec::new()).await;
    let managed = (0..count).map(|number| fakes.managed_key(key_name(number), |_| {}));
    let services = Services {
        subscriptions: Arc::new(Subscriptions::new(vec![Subscription {
            channel: ChannelId::new("command:/bin/page".to_owned()),
            on: BTreeSet::from(EventKind::DEFAULT),
            keys: None,
            remind_every: None,
        }])),
        max_in_flight: 8,
        ..fakes.services()
    };
    Engine::open(services, managed.collect(), RunMode::Daemon)
        .await
        .unwrap()
}

fn refuse_creates(fakes: &Fakes, kind: ErrorKind) {
    fakes.fail_creates(Some((kind, Effect::NotApplied)));
}

fn conditions(engine: &Engine) -> Vec<(Condition, Option<Scope>)> {
    let active = engine.active_conditions().into_iter();
    active
        .map(|active| (active.condition, active.scope))
        .collect()
}

fn creates(fakes: &Fakes) -> usize {
    let calls = fakes.take_calls();
    calls.iter().filter(|call| *call == "create").count()
}

fn notifications(fakes: &Fakes) -> Vec<String> {
    fakes.query_rows(
        "SELECT trim(key || ' ' || alert_kind || ' ' || state) FROM notification ORDER BY id",
    )
}

/// Asserts that no key has an error or a counted failure.
fn assert_unharmed(engine: &Engine, count: u64) {
    for number in 0..count {
        let state = engine.state(&key_name(number)).unwrap();
        assert_eq!((state.attempt, &state.last_error), (0, &None), "{number}");
    }
}

#[tokio::test]
async fn a_limit_costs_a_few_creates_and_one_line_however_many_keys_are_due() {
    let fakes = Fakes::new(&[]);
    let mut engine = engine_with_due_keys(&fakes, 40).await;
    refuse_creates(&fakes, ErrorKind::RateLimited);
    let (lines, _guard) = CapturedLog::capture();
    fakes.run_for(&mut engine, 45 * SECOND).await;
    let scope = Some(Scope::AdminKeys);
    assert_eq!(conditions(&engine), [(Condition::CreateLimit, scope)]);
    // Eight may be on their way; probes follow after 2, 7 and 22 seconds, and the jitter.
    let sent = creates(&fakes);
    assert!((1 + 3..=8 + 3).contains(&sent), "{sent}");
    assert_eq!(lines.lines_with("ERROR", ""), [""; 0]);
    let begun = lines.lines_with("WARN", "no credential is created: ");
    assert_eq!(begun.len(), 1, "{begun:?}");
    assert_unharmed(&engine, 40);
    assert!(!engine.is_idle());
    for number in 0..40 {
        let outlook = engine.pending_rotation(&key_name(number));
        assert_eq!(outlook, Some(PendingRotation::AfterCondition), "{number}");
        let reason = engine.awaited_by(&key_name(number)).unwrap();
        assert!(reason.contains("the next attempt is at"), "{reason}");
    }
    assert_eq!(notifications(&fakes), [""; 0], "it may pass by itself");
    fakes.run_for(&mut engine, 5 * MINUTE).await;
    assert_eq!(notifications(&fakes), ["create-limit begun"]);
    send_all(&engine).await;
    assert_eq!(lines.lines_with("ERROR", "").len(), 1, "it lasts");

    fakes.fail_creates(None);
    creates(&fakes);
    fakes.run_for(&mut engine, 6 * MINUTE).await;
    assert_eq!(creates(&fakes), 40);
    assert_eq!(fakes.live_ids().len(), 40);
    assert_eq!(conditions(&engine), []);
    assert_eq!(
        notifications(&fakes),
        ["create-limit begun", "create-limit over"]
    );
    assert!(engine.is_idle());
    assert_eq!(fakes.query_rows("SELECT name FROM condition"), [""; 0]);
}

#[tokio::test]
async fn no_create_is_sent_before_the_pause_that_the_provider_asks_for() {
    let fakes = Fakes::new(&[]);
    let mut engine = engine_with_due_keys(&fakes, 20).await;
    refuse_creates(&fakes, ErrorKind::RateLimited);
    fakes.request_pause(Some(100 * SECOND));
    fakes.run_for(&mut engine, SECOND).await;
    let sent = creates(&fakes);
    assert!((1..=8).contains(&sent), "{sent}");
    fakes.run_for(&mut engine, 98 * SECOND).await;
    assert_eq!(creates(&fakes), 0);
    // The jitter adds ten seconds at most.
    fakes.run_for(&mut engine, 12 * SECOND).await;
    assert_eq!(creates(&fakes), 1, "one probe");
    fakes.run_for(&mut engine, 88 * SECOND).await;
    assert_eq!(creates(&fakes), 0);
}

/// One key delivers and revokes while creates are refused.
#[tokio::test]
async fn a_closed_gate_holds_back_creates_alone() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), 10 * MINUTE).await;
    fakes.fail_deliveries(Some(crate::sink::Acceptance::NotAccepted));
    engine.request_rotation(&key(), rotation_request());
    fakes.run_for(&mut engine, SECOND).await;
    let new = KeyName::new("new").unwrap();
    let keys = vec![
        fakes.managed_key(key(), |policy| policy.overlap = 10 * MINUTE),
        fakes.managed_key(new.clone(), |_| {}),
    ];
    refuse_creates(&fakes, ErrorKind::QuotaExhausted);
    engine.reconfigure(engine.services().clone(), keys);
    fakes.run_for(&mut engine, SECOND).await;
    assert_eq!(conditions(&engine)[0].0, Condition::Quota);
    assert!(engine.state(&key()).unwrap().open_rotation().is_some());
    fakes.fail_deliveries(None);
    fakes.run_for(&mut engine, 30 * MINUTE).await;
    assert_eq!(conditions(&engine)[0].0, Condition::Quota);
    let state = engine.state(&key()).unwrap();
    assert!(state.open_rotation().is_none(), "it is delivered");
    assert_eq!(fakes.live_ids().len(), 1, "the previous one is revoked");
    assert!(engine.state(&new).unwrap().current().is_none());
}

#[tokio::test]
async fn what_a_person_asks_for_passes_a_closed_gate_and_opens_it() {
    let fakes = Fakes::new(&[]);
    let mut engine = engine_with_due_keys(&fakes, 3).await;
    refuse_creates(&fakes, ErrorKind::RateLimited);
    fakes.request_pause(Some(HOUR));
    fakes.run_for(&mut engine, SECOND).await;
    creates(&fakes);
    assert!(engine.conditions_before_request(&key_name(1)).is_empty());
    engine.request_rotation(&key_name(1), rotation_request());
    fakes.run_for(&mut engine, SECOND).await;
    assert_eq!(creates(&fakes), 1);
    assert!(!engine.has_pending_request(&key_name(1)));
    let problem = engine.conditions_before_work(&key_name(1));
    assert!(problem[0].problem.contains("RateLimited"), "{problem:?}");
    fakes.fail_creates(None);
    engine.request_rotation(&key_name(1), rotation_request());
    fakes.run_for(&mut engine, 10 * SECOND).await;
    assert_eq!(fakes.live_ids().len(), 3, "the others follow");
    assert_eq!(conditions(&engine), []);
}

/// A paused key is not tried again after a request that failed.
#[tokio::test]
async fn without_a_due_key_the_condition_ends_by_itself() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut changes = current(1);
    changes.push(Change::from(PauseUpdate {
        pause: Pause {
            from: at(),
            until: None,
        },
        operator: None,
    }));
    let mut engine = fakes.engine(changes, HOUR).await;
    fakes.run_for(&mut engine, SECOND).await;
    refuse_creates(&fakes, ErrorKind::RateLimited);
    fakes.request_pause(Some(100 * SECOND));
    engine.request_rotation(&key(), rotation_request());
    fakes.run_for(&mut engine, 90 * SECOND).await;
    assert_eq!(creates(&fakes), 1);
    assert_eq!(conditions(&engine)[0].0, Condition::CreateLimit);
    let problem = engine.request_problem(&key()).unwrap();
    assert!(problem.contains("RateLimited"), "{problem}");
    fakes.run_for(&mut engine, 30 * SECOND).await;
    assert_eq!(conditions(&engine), []);
    assert_eq!(creates(&fakes), 0, "nothing asks for one");
    assert!(engine.is_idle());
}

#[tokio::test]
async fn a_quota_is_notified_at_once_and_probed_for_slowly() {
    for (kind, cause) in [
        (ErrorKind::QuotaExhausted, "quota begun"),
        (ErrorKind::ScopeRefused, "create-refusal begun"),
    ] {
        let fakes = Fakes::new(&[]);
        let mut engine = engine_with_due_keys(&fakes, 20).await;
        refuse_creates(&fakes, kind);
        fakes.run_for(&mut engine, SECOND).await;
        assert_eq!(notifications(&fakes), [cause]);
        fakes.run_for(&mut engine, HOUR).await;
        let sent = creates(&fakes);
        assert!((1 + 3..=8 + 3).contains(&sent), "{sent}");
        assert_unharmed(&engine, 20);
    }
}

#[tokio::test]
async fn a_refusal_is_the_keys_own_until_three_keys_got_it() {
    let fakes = Fakes::new(&[]);
    let mut engine = engine_with_due_keys(&fakes, 2).await;
    refuse_creates(&fakes, ErrorKind::Refused);
    fakes.run_for(&mut engine, MINUTE).await;
    assert_eq!(conditions(&engine), []);
    let failing: Vec<_> = (0..2)
        .map(|number| format!("key-{number} failing begun"))
        .collect();
    assert_eq!(notifications(&fakes), failing);
    let keys = (0..6).map(|number| fakes.managed_key(key_name(number), |_| {}));
    engine.reconfigure(engine.services().clone(), keys.collect());
    fakes.run_for(&mut engine, MINUTE).await;
    assert_eq!(conditions(&engine)[0].0, Condition::CreateRefusal);
    for number in 2..6 {
        let state = engine.state(&key_name(number)).unwrap();
        assert_eq!(state.last_error, None, "{number}");
    }
    assert_eq!(notifications(&fakes).len(), 3, "one for all others");
}

#[tokio::test]
async fn a_success_between_shows_that_a_refusal_is_the_keys_own() {
    let fakes = Fakes::new(&[]);
    let mut engine = engine_with_due_keys(&fakes, 2).await;
    refuse_creates(&fakes, ErrorKind::Refused);
    fakes.run_for(&mut engine, SECOND).await;
    fakes.fail_creates(None);
    let keys = |count: u64| {
        let keys = (0..count).map(|number| fakes.managed_key(key_name(number), |_| {}));
        keys.collect()
    };
    engine.reconfigure(engine.services().clone(), keys(3));
    fakes.run_for(&mut engine, SECOND).await;
    refuse_creates(&fakes, ErrorKind::Refused);
    engine.reconfigure(engine.services().clone(), keys(4));
    fakes.run_for(&mut engine, SECOND).await;
    assert_eq!(conditions(&engine), []);
    assert!(engine.state(&key_name(3)).unwrap().last_error.is_some());
}

/// A sink that is away is the key's own trouble, and is shown beside a closed gate.
#[tokio::test]
async fn a_closed_gate_hides_no_other_trouble() {
    let fakes = Fakes::new(&[]);
    let mut engine = engine_with_due_keys(&fakes, 1).await;
    refuse_creates(&fakes, ErrorKind::QuotaExhausted);
    fakes.run_for(&mut engine, SECOND).await;
    fakes.refuse_preflight(true);
    let keys = (0..2).map(|number| fakes.managed_key(key_name(number), |_| {}));
    engine.reconfigure(engine.services().clone(), keys.collect());
    fakes.run_for(&mut engine, 40 * SECOND).await;
    assert_eq!(conditions(&engine)[0].0, Condition::Quota);
    let state = engine.state(&key_name(1)).unwrap();
    assert!(state.last_error.is_some());
    let sent = notifications(&fakes);
    assert!(sent.contains(&"key-1 failing begun".to_owned()), "{sent:?}");
    // A probe is the create of a key whose sinks are in order.
    creates(&fakes);
    fakes.run_for(&mut engine, 2 * HOUR).await;
    assert_eq!(creates(&fakes), 0);
}

/// Only the requests of one class are limited: nothing else waits.
#[tokio::test]
async fn limited_deletions_hold_back_revocations_alone() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), MINUTE).await;
    fakes.run_for(&mut engine, SECOND).await;
    fakes.fail_calls(Some(("delete", ErrorKind::RateLimited)));
    engine.request_rotation(&key(), rotation_request());
    fakes.run_for(&mut engine, 20 * MINUTE).await;
    let scope = Some(Scope::AdminKeys);
    assert_eq!(conditions(&engine), [(Condition::DeleteLimit, scope)]);
    let sent = |calls: &[String]| {
        calls
            .iter()
            .filter(|call| call.starts_with("delete"))
            .count()
    };
    let deletes = sent(&fakes.take_calls());
    assert!((5..=9).contains(&deletes), "{deletes}");
    assert_eq!(engine.state(&key()).unwrap().live[0].attempt, 0);
    engine.request_rotation(&key(), rotation_request());
    fakes.run_for(&mut engine, SECOND).await;
    assert_eq!(fakes.live_ids().len(), 3, "creates continue");
    fakes.fail_calls(None);
    fakes.run_for(&mut engine, 20 * MINUTE).await;
    assert_eq!(conditions(&engine), []);
    assert_eq!(fakes.live_ids().len(), 1);
}

/// A revocation that waits delays no rotation: one that something else delays is overdue.
#[tokio::test]
async fn a_revocation_that_waits_hides_no_overdue_rotation() {
    let fakes = Fakes::new(&[]);
    let mut engine = engine_with_due_keys(&fakes, 1).await;
    let managed = fakes.managed_key(key_name(0), |policy| policy.overlap = MINUTE);
    engine.reconfigure(engine.services().clone(), vec![managed]);
    fakes.run_for(&mut engine, SECOND).await;
    fakes.fail_calls(Some(("delete", ErrorKind::RateLimited)));
    engine.request_rotation(&key_name(0), rotation_request());
    fakes.run_for(&mut engine, 5 * MINUTE).await;
    assert_eq!(conditions(&engine)[0].0, Condition::DeleteLimit);
    fakes.fail_deliveries(Some(crate::sink::Acceptance::NotAccepted));
    engine.request_rotation(&key_name(0), rotation_request());
    fakes.run_for(&mut engine, 2 * HOUR).await;
    assert_eq!(conditions(&engine)[0].0, Condition::DeleteLimit);
    let sent = notifications(&fakes);
    assert!(sent.contains(&"key-0 overdue begun".to_owned()), "{sent:?}");
}

#[tokio::test]
async fn limited_reads_hold_back_what_begins_with_one() {
    let fakes = Fakes::new(&[]);
    let mut engine = engine_with_due_keys(&fakes, 20).await;
    fakes.fail_calls(Some(("verify", ErrorKind::RateLimited)));
    fakes.run_for(&mut engine, 10 * MINUTE).await;
    let scope = Some(Scope::AdminKeys);
    assert_eq!(conditions(&engine), [(Condition::ReadLimit, scope)]);
    let calls = fakes.take_calls();
    let verified = calls.iter().filter(|call| *call == "verify").count();
    assert!((6..=20).contains(&verified), "{verified}");
    assert_eq!(notifications(&fakes), ["read-limit begun"]);
    fakes.fail_calls(None);
    fakes.run_for(&mut engine, 10 * MINUTE).await;
    assert_eq!(conditions(&engine), []);
    assert_eq!(fakes.live_ids().len(), 20, "no secret is lost");
    for number in 0..20 {
        assert!(engine.state(&key_name(number)).unwrap().current().is_some());
    }
}

/// The harmless request before a start is limited as other requests that read.
#[tokio::test]
async fn a_limited_check_before_a_start_closes_the_gate_of_reads() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(Vec::new()).await;
    fakes.advance_clock(HOUR);
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Once).await;
    fakes.fail_calls(Some(("check", ErrorKind::RateLimited)));
    fakes.run_for(&mut engine, SECOND).await;
    let scope = Some(Scope::AdminKeys);
    assert_eq!(conditions(&engine), [(Condition::ReadLimit, scope)]);
    assert_eq!(engine.state(&key()).unwrap().attempt, 0);
    fakes.fail_calls(None);
    fakes.run_for(&mut engine, MINUTE).await;
    assert!(engine.state(&key()).unwrap().current().is_some());
    assert_eq!(conditions(&engine), []);
}

/// Each search for the label of an unclear create finds the same duplicate again.
#[tokio::test]
async fn a_limit_of_deletions_repeats_no_search_at_once() {
    let fakes = Fakes::new(&[("key_1", "label-1"), ("key_double", "label-1")]);
    let mut engine = fakes.engine(intended(1), HOUR).await;
    fakes.fail_calls(Some(("delete", ErrorKind::RateLimited)));
    fakes.run_for(&mut engine, MINUTE).await;
    assert_eq!(conditions(&engine)[0].0, Condition::DeleteLimit);
    let calls = fakes.take_calls();
    let searches = calls.iter().filter(|call| call.starts_with("find"));
    assert!((1..=6).contains(&searches.count()), "{calls:?}");
    fakes.fail_calls(None);
    fakes.run_for(&mut engine, HOUR).await;
    assert!(!fakes.live_ids().contains(&"key_double".to_owned()));
    assert_eq!(conditions(&engine), []);
}
