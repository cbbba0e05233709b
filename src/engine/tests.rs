//! What concerns all keys: how many are at work, what wakes them, and what
//! their credentials together say of the organization.

#[path = "../../tests/support/fake.rs"]
pub(crate) mod fake;
#[path = "../../tests/support/lines.rs"]
pub(crate) mod lines;
#[path = "../../tests/support/rows.rs"]
pub(crate) mod rows;

mod budgets;
mod causes;
mod clocks;
mod conditions;
mod notices;
mod outcomes;
mod recovery;
mod seen;
mod sweep;
mod told;
mod wishes;

use std::time::Duration;

use super::*;
use crate::core::change::{Adoption, Change};
use crate::core::names::CredentialId;
use crate::core::record::CredentialFacts;
use crate::core::rotation::Event;
use crate::engine::tests::fake::{Fakes, at, key};
use crate::engine::tests::rows::{current, rotation};

const HOUR: Duration = Duration::from_secs(3_600);

fn name(number: u64) -> KeyName {
    KeyName::new(&format!("key-{number}")).unwrap()
}

/// Every key with a current credential `key_NUMBER` made by hand.
async fn adopted(fakes: &Fakes, numbers: &[u64]) -> Engine {
    let rows = numbers.iter().map(|number| {
        let adopted = Change::Adopted(Adoption {
            rotation: rotation(*number),
            credential: CredentialFacts {
                id: CredentialId::new(format!("key_{number}")),
                redacted_value: None,
                created_at: Some(at()),
                expires_at: None,
            },
            event: Event::Adopted,
            sinks: Vec::new(),
            by_hand: None,
        });
        (name(*number), vec![adopted])
    });
    fakes.ledger(rows.collect()).await;
    let managed = numbers
        .iter()
        .map(|number| fakes.managed(name(*number), |_| {}));
    fakes.open(managed.collect(), Course::Daemon).await
}

fn wish() -> Wish {
    Wish {
        by_hand: None,
        revoke_previous: false,
    }
}

fn is_wrong(engine: &Engine) -> bool {
    let problems = engine.problems();
    problems
        .iter()
        .any(|(held, problem)| *held == Condition::Organization && problem.contains("rotate --all"))
}

#[tokio::test]
async fn half_of_the_credentials_gone_are_replaced() {
    let fakes = Fakes::new(&[("key_1", "by hand"), ("key_2", "by hand")]);
    let mut engine = adopted(&fakes, &[1, 2, 3, 4]).await;
    fakes.run(&mut engine, HOUR).await;
    assert!(!is_wrong(&engine));
    assert_eq!(fakes.alive().len(), 4);
}

#[tokio::test]
async fn most_of_them_gone_once_more_are_told_once_more() {
    let fakes = Fakes::new(&[("key_1", "by hand")]);
    let mut engine = adopted(&fakes, &[1, 2, 3]).await;
    fakes.run(&mut engine, HOUR).await;
    assert!(is_wrong(&engine));
    assert_eq!(fakes.alive(), ["key_1"], "nothing is made");
    // A person is sure, and stays so until all is as it was.
    engine.wish_all(&wish());
    assert!(!is_wrong(&engine));
    fakes.run(&mut engine, HOUR * 48).await;
    assert!(!is_wrong(&engine));
    assert_eq!(fakes.alive().len(), 3);
    assert!(engine.is_at_rest());
    // Then it happens again.
    for id in fakes.alive() {
        fakes.take(&id);
    }
    engine.errands.sweep_now(fakes.now());
    fakes.run(&mut engine, HOUR).await;
    assert!(is_wrong(&engine));
    assert!(fakes.alive().is_empty());
}

#[tokio::test]
async fn no_more_keys_are_at_work_than_allowed() {
    for most in [1, 2, 5] {
        let fakes = Fakes::new(&[]);
        fakes.ledger(Vec::new()).await;
        let managed = (1..=4).map(|number| fakes.managed(name(number), |_| {}));
        let mut engine = fakes.open(managed.collect(), Course::Once).await;
        Arc::get_mut(&mut engine.parts).unwrap().max_in_flight = most;
        engine.start_due();
        assert_eq!(engine.keys_at_work, most.min(4));
        engine.stop().await;
        assert_eq!(engine.keys_at_work, 0);
    }
}

#[tokio::test]
async fn what_comes_up_while_a_key_is_at_work_is_done_afterwards() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), HOUR).await;
    fakes.run(&mut engine, HOUR).await;
    engine.wish(&key(), wish());
    engine.start_due();
    assert_eq!(engine.keys_at_work, 1);
    // The one that is at work has taken up the first.
    assert!(!engine.is_wished(&key()));
    assert!(engine.wish(&key(), wish()));
    assert!(engine.is_wished(&key()));
    assert!(!engine.is_at_rest());
    assert!(!engine.wish(&name(9), wish()), "it is not configured");
    fakes.run(&mut engine, HOUR / 2).await;
    assert!(!engine.is_wished(&key()));
    let state = engine.state(&key()).unwrap();
    assert_eq!(state.sequence, 3, "two more");
    assert!(engine.is_at_rest());
}

#[tokio::test]
async fn a_credential_is_known_by_its_row() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let engine = fakes.engine(current(1), HOUR).await;
    let known = CredentialId::new("key_1".to_owned());
    assert_eq!(engine.key_of(&known).await.unwrap(), Some(key()));
    let other = CredentialId::new("key_2".to_owned());
    assert_eq!(engine.key_of(&other).await.unwrap(), None);
}
