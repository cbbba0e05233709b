//! The scope of a failure: a failure of one request counts for its key, a global one
//! for no key.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::change::Change;
use crate::core::condition::Condition;
use crate::core::lifecycle::LifecycleEvent;
use crate::core::time;
use crate::engine::tests::fake::{Fakes, at, key};
use crate::engine::tests::rotation_changes::{created, current, intended, transitioned};
use crate::engine::{Engine, RunMode};
use crate::provider::ErrorKind;

/// Whether every request fails or the one of the key alone, with the number of failures
/// that it counts for the key.
const FAILURES: [(bool, u32); 2] = [(false, 1), (true, 0)];

/// Every kind of error that says nothing about one credential.
const ERROR_KINDS: [ErrorKind; 4] = [
    ErrorKind::RateLimited,
    ErrorKind::Refused,
    ErrorKind::ServerError,
    ErrorKind::Unreachable,
];

/// Makes every request fail, or those of one kind alone.
fn fail(fakes: &Fakes, call: &'static str, kind: ErrorKind, is_global: bool) {
    if is_global {
        fakes.fail_provider(Some(kind));
    } else {
        fakes.fail_calls(Some((call, kind)));
    }
}

const CHECK_INTERVAL: Duration = Duration::from_secs(8 * 60);

fn orphaned() -> Vec<Change> {
    let mut changes = created(1);
    changes.push(transitioned(1, LifecycleEvent::Abandoned));
    changes
}

fn is_provider_condition_active(engine: &Engine) -> bool {
    let problems = engine.active_conditions();
    problems
        .iter()
        .any(|active| active.condition == Condition::Provider)
}

async fn engine_with(fakes: &Fakes, changes: Vec<Change>, mode: RunMode) -> Engine {
    fakes.write_ledger(vec![(key(), changes)]).await;
    let managed = fakes.managed_key(key(), |_| {});
    fakes.open_engine(vec![managed], mode).await
}

#[tokio::test]
async fn global_failures_of_find_and_delete_count_for_no_key() {
    for (changes, call) in [(intended(1), "find"), (orphaned(), "retrieve")] {
        for kind in ERROR_KINDS {
            for (is_global, counted) in FAILURES {
                let fakes = Fakes::new(&[("key_1", "label-1")]);
                let mut engine = engine_with(&fakes, changes.clone(), RunMode::Once).await;
                fail(&fakes, call, kind, is_global);
                fakes.run_for(&mut engine, Duration::ZERO).await;
                let state = engine.state(&key()).unwrap();
                // A limit concerns every such request of the scope.
                let is_limit = kind == ErrorKind::RateLimited;
                let counted = if is_limit { 0 } else { counted };
                assert_eq!(state.live[0].attempt, counted, "{call} {kind:?}");
                let is_active = is_provider_condition_active(&engine);
                assert_eq!(is_active, is_global && !is_limit, "{call} {kind:?}");
            }
        }
    }
}

#[tokio::test]
async fn global_failures_of_a_presence_check_count_for_no_key() {
    for kind in ERROR_KINDS {
        for (is_global, counted) in FAILURES {
            let fakes = Fakes::new(&[]);
            let mut engine = engine_with(&fakes, current(1), RunMode::Daemon).await;
            fakes.run_for(&mut engine, Duration::ZERO).await;
            let since = |engine: &Engine| -> Timestamp {
                let current = engine.state(&key()).unwrap().current().unwrap();
                current.missing.unwrap().since
            };
            assert_eq!(since(&engine), at());
            fail(&fakes, "retrieve", kind, is_global);
            fakes.run_for(&mut engine, CHECK_INTERVAL).await;
            // A check without an answer does not count, and is retried after the interval.
            let expected = if counted == 1 && kind != ErrorKind::RateLimited {
                time::after(at(), CHECK_INTERVAL)
            } else {
                at()
            };
            assert_eq!(since(&engine), expected, "{kind:?} {is_global}");
        }
    }
}
