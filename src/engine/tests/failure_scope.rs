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

/// Kinds of errors, with the number of failures that each counts for the key.
const ERROR_KINDS: [(ErrorKind, u32); 2] =
    [(ErrorKind::RateLimited, 1), (ErrorKind::Unreachable, 0)];

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
    for changes in [intended(1), orphaned()] {
        for (kind, counted) in ERROR_KINDS {
            let fakes = Fakes::new(&[("key_1", "label-1")]);
            let mut engine = engine_with(&fakes, changes.clone(), RunMode::Once).await;
            fakes.fail_provider(Some(kind));
            fakes.run_for(&mut engine, Duration::ZERO).await;
            let state = engine.state(&key()).unwrap();
            assert_eq!(state.live[0].attempt, counted, "{kind:?}");
            assert_eq!(
                is_provider_condition_active(&engine),
                counted == 0,
                "{kind:?}"
            );
        }
    }
}

#[tokio::test]
async fn global_failures_of_a_presence_check_count_for_no_key() {
    for (kind, counted) in ERROR_KINDS {
        let fakes = Fakes::new(&[]);
        let mut engine = engine_with(&fakes, current(1), RunMode::Daemon).await;
        fakes.run_for(&mut engine, Duration::ZERO).await;
        let since = |engine: &Engine| -> Timestamp {
            let current = engine.state(&key()).unwrap().current().unwrap();
            current.missing.unwrap().since
        };
        assert_eq!(since(&engine), at());
        fakes.fail_provider(Some(kind));
        fakes.run_for(&mut engine, CHECK_INTERVAL).await;
        // A check without an answer does not count, and is retried after the interval.
        let expected = if counted == 1 {
            time::after(at(), CHECK_INTERVAL)
        } else {
            at()
        };
        assert_eq!(since(&engine), expected, "{kind:?}");
    }
}
