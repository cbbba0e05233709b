//! Whose matter a failure is: one that is about the request counts for its
//! key, one that is everybody's for none.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::change::Change;
use crate::core::rotation::Event;
use crate::core::time;
use crate::engine::condition::Condition;
use crate::engine::tests::fake::{Fakes, at, key};
use crate::engine::tests::rows::{created, current, intended, moved};
use crate::engine::{Course, Engine};
use crate::provider::Cause;

/// And how often it is counted for the key.
const CAUSES: [(Cause, u32); 2] = [(Cause::RateLimited, 1), (Cause::Unreachable, 0)];

const LOOKS: Duration = Duration::from_secs(8 * 60);

fn orphaned() -> Vec<Change> {
    let mut changes = created(1);
    changes.push(moved(1, Event::GivenUp));
    changes
}

fn holds(engine: &Engine) -> bool {
    let problems = engine.problems();
    problems
        .iter()
        .any(|(held, _)| *held == Condition::Provider)
}

async fn opened(fakes: &Fakes, changes: Vec<Change>, course: Course) -> Engine {
    fakes.ledger(vec![(key(), changes)]).await;
    let managed = fakes.managed(key(), |_| {});
    fakes.open(vec![managed], course).await
}

#[tokio::test]
async fn of_a_search_or_a_deletion() {
    for changes in [intended(1), orphaned()] {
        for (cause, counted) in CAUSES {
            let fakes = Fakes::new(&[("key_1", "label-1")]);
            let mut engine = opened(&fakes, changes.clone(), Course::Once).await;
            fakes.fail(Some(cause));
            fakes.run(&mut engine, Duration::ZERO).await;
            let state = engine.state(&key()).unwrap();
            assert_eq!(state.live[0].attempt, counted, "{cause:?}");
            assert_eq!(holds(&engine), counted == 0, "{cause:?}");
        }
    }
}

#[tokio::test]
async fn of_a_look_for_what_is_missing() {
    for (cause, counted) in CAUSES {
        let fakes = Fakes::new(&[]);
        let mut engine = opened(&fakes, current(1), Course::Daemon).await;
        fakes.run(&mut engine, Duration::ZERO).await;
        let since = |engine: &Engine| -> Timestamp {
            let current = engine.state(&key()).unwrap().current().unwrap();
            current.missing.unwrap().since
        };
        assert_eq!(since(&engine), at());
        fakes.fail(Some(cause));
        fakes.run(&mut engine, LOOKS).await;
        // No answer is no look: it is waited for anew.
        let expected = if counted == 1 {
            time::after(at(), LOOKS)
        } else {
            at()
        };
        assert_eq!(since(&engine), expected, "{cause:?}");
    }
}
