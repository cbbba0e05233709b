//! What holds against any loop, and what holds a retired credential back.

use std::time::Duration;

use crate::core::change::Change;
use crate::core::policy::KeyPolicy;
use crate::core::rotation::Event;
use crate::engine::tests::fake::{Fakes, key};
use crate::engine::tests::lines::Lines;
use crate::engine::tests::rows::{begun, created, current, moved, rotation};
use crate::engine::{Course, Engine, Wish};
use crate::provider::Cause;

const HOUR: Duration = Duration::from_secs(3_600);
const WISH: Wish = Wish {
    by_hand: None,
    revoke_previous: false,
};

async fn open(fakes: &Fakes, adapt: impl FnOnce(&mut KeyPolicy)) -> Engine {
    let managed = fakes.managed(key(), adapt);
    fakes.open(vec![managed], Course::Once).await
}

fn creates(fakes: &Fakes) -> usize {
    let calls = fakes.take_calls();
    calls.iter().filter(|call| *call == "create").count()
}

#[tokio::test]
async fn creates_per_day_holds_against_a_loop_also_across_restarts() {
    let fakes = Fakes::new(&[]);
    fakes.ledger(vec![(key(), Vec::new())]).await;
    fakes.refuse_secrets(true);
    let few = |policy: &mut KeyPolicy| {
        policy.creates_per_day = 3;
        policy.verify_for = Duration::ZERO;
    };
    for _ in 0..4 {
        let mut engine = open(&fakes, few).await;
        fakes.run(&mut engine, HOUR * 5).await;
    }
    assert_eq!(creates(&fakes), 3, "in twenty hours");
    let mut engine = open(&fakes, few).await;
    let problem = engine.state(&key()).unwrap().problem.clone().unwrap();
    assert!(problem.contains("creates-per-day is used up"), "{problem}");
    assert!(fakes.alive().is_empty(), "what never worked is revoked");

    engine.wish(&key(), WISH);
    fakes.run(&mut engine, Duration::ZERO).await;
    assert_eq!(creates(&fakes), 1, "by hand it is made all the same");
    fakes.refuse_secrets(false);
    fakes.run(&mut engine, HOUR * 24).await;
    assert!(engine.state(&key()).unwrap().current().is_some());
}

/// Three that are stranded, each after these changes.
fn stranded(changes: fn(u64) -> Vec<Change>) -> Vec<Change> {
    let each = (1..=3).flat_map(|number| {
        let mut changes = changes(number);
        changes.push(moved(number, Event::FoundOpen));
        changes
    });
    each.collect()
}

const ALIVE: [(&str, &str); 3] = [
    ("key_1", "label-1"),
    ("key_2", "label-2"),
    ("key_3", "label-3"),
];

fn at_most_three(policy: &mut KeyPolicy) {
    policy.live_at_most = 3;
    policy.overlap = HOUR;
}

#[tokio::test]
async fn at_live_at_most_what_was_never_delivered_or_used_gives_way() {
    let fakes = Fakes::new(&ALIVE);
    fakes.ledger(vec![(key(), stranded(created))]).await;
    let mut engine = open(&fakes, at_most_three).await;
    fakes.run(&mut engine, HOUR / 2).await;
    assert_eq!(fakes.phase_of(&rotation(1)), "revoked");
    assert!(fakes.told("replaced")[0].contains("it makes room"));
    let state = engine.state(&key()).unwrap();
    assert!(state.current().is_some());
    assert_eq!(fakes.alive().len(), 3, "the others live for one overlap");
    fakes.run(&mut engine, HOUR * 2).await;
    assert_eq!(fakes.alive().len(), 1);
}

#[tokio::test]
async fn where_it_cannot_be_asked_what_was_used_nothing_gives_way() {
    for (cause, counted) in [(Cause::RateLimited, 1), (Cause::Unreachable, 0)] {
        let fakes = Fakes::new(&ALIVE);
        fakes.ledger(vec![(key(), stranded(created))]).await;
        let mut engine = open(&fakes, at_most_three).await;
        fakes.fail(Some(cause));
        fakes.run(&mut engine, Duration::ZERO).await;
        assert_eq!(fakes.alive().len(), 3);
        let state = engine.state(&key()).unwrap();
        assert_eq!(state.attempt, counted, "{cause:?}");
    }
}

/// A restored ledger tells nothing of what was delivered after it was copied:
/// what was used since is some consumer's, although it is stranded only now.
#[tokio::test]
async fn what_was_used_before_it_was_stranded_does_not_give_way_either() {
    let mut changes = created(1);
    changes.push(moved(1, Event::FoundOpen));
    changes.extend(created(2));
    changes.push(moved(2, Event::FoundOpen));
    changes.extend(created(3));
    let fakes = Fakes::new(&ALIVE);
    fakes.ledger(vec![(key(), changes)]).await;
    fakes.move_on(HOUR);
    for (id, _) in ALIVE {
        fakes.use_now(id);
    }
    fakes.move_on(HOUR * 10);
    let mut engine = open(&fakes, at_most_three).await;
    fakes.run(&mut engine, HOUR).await;
    assert_eq!(fakes.phase_of(&rotation(3)), "stranded");
    assert_eq!(fakes.alive(), ["key_1", "key_2", "key_3"]);
}

#[tokio::test]
async fn what_was_used_or_may_be_held_does_not_give_way() {
    for changes in [created as fn(u64) -> Vec<Change>, begun] {
        let fakes = Fakes::new(&ALIVE);
        fakes.ledger(vec![(key(), stranded(changes))]).await;
        fakes.move_on(HOUR);
        for (id, _) in ALIVE {
            fakes.use_now(id);
        }
        let mut engine = open(&fakes, at_most_three).await;
        fakes.run(&mut engine, HOUR * 24).await;
        assert_eq!(fakes.alive(), ["key_1", "key_2", "key_3"]);
        let problem = engine.state(&key()).unwrap().problem.clone().unwrap();
        assert!(problem.contains("live-at-most is 3"), "{problem}");
        engine.wish(&key(), WISH);
        fakes.run(&mut engine, HOUR * 3).await;
        assert_eq!(fakes.alive().len(), 1, "a person has made room");
    }
}

#[tokio::test]
async fn what_is_still_used_is_held_back_and_a_person_is_told_the_day_before_it_goes() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    fakes.ledger(vec![(key(), current(1))]).await;
    let (lines, _guard) = Lines::listen();
    let mut engine = open(&fakes, |policy| {
        policy.overlap = HOUR;
        policy.hold_at_most = HOUR * 72;
    })
    .await;
    engine.wish(&key(), WISH);
    for hour in 1..=72 {
        for _ in 0..4 {
            fakes.run(&mut engine, HOUR / 4).await;
            fakes.use_now("key_1");
        }
        assert_eq!(fakes.alive().len(), 2, "after {hour} hours");
        // What goes at 73 hours is on its last day from 49 hours on.
        let warned = usize::from(hour >= 49);
        let found = lines.with("WARN", "is not revoked yet").len();
        assert_eq!(found, warned, "after {hour} hours");
    }
    assert_eq!(lines.with("INFO", "is not revoked yet").len(), 1);
    fakes.run(&mut engine, HOUR * 2).await;
    assert_eq!(fakes.alive().len(), 1, "at most so long");
}

#[tokio::test]
async fn what_is_not_used_any_more_is_held_back_no_longer() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    fakes.ledger(vec![(key(), current(1))]).await;
    let mut engine = open(&fakes, |policy| policy.overlap = HOUR).await;
    engine.wish(&key(), WISH);
    fakes.run(&mut engine, HOUR / 2).await;
    fakes.use_now("key_1");
    fakes.run(&mut engine, HOUR * 3 / 4).await;
    assert_eq!(fakes.alive().len(), 2, "used within the hour");
    fakes.run(&mut engine, HOUR / 2).await;
    assert_eq!(fakes.alive().len(), 1);
}
