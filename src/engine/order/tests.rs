//! What becomes of each order, and what is said.

use std::time::Duration;

use super::*;
use crate::core::change::{Adoption, Intent};
use crate::core::names::KeyName;
use crate::core::record::{CredentialFacts, Trigger};
use crate::engine::tests::fake::{Fakes, at, key};
use crate::engine::tests::rows::{created, current, moved, rotation};
use crate::engine::{Course, Engine, Wish};

const OVERLAP: Duration = Duration::from_secs(3_600);

fn id(text: &str) -> CredentialId {
    CredentialId::new(text.to_owned())
}

fn why() -> Option<ByHand> {
    Some(ByHand {
        reason: Some("it leaked".to_owned()),
        by: "ada".to_owned(),
    })
}

fn revoke(credential: &str, force: bool) -> Order {
    Order::Revoke {
        credential: id(credential),
        force,
        by_hand: why(),
    }
}

fn hold(credential: Option<&str>, until: Option<Timestamp>) -> Order {
    Order::Hold {
        credential: credential.map(id),
        until,
        by_hand: why(),
    }
}

fn adopt(credential: &str) -> Order {
    Order::Adopt {
        credential: id(credential),
        by_hand: why(),
    }
}

/// Gives the order, and what was said to it.
async fn ask(fakes: &Fakes, engine: &mut Engine, order: Order) -> Result<String, String> {
    let (reply, answer) = oneshot::channel();
    assert!(engine.order(
        &key(),
        Asked {
            order,
            begun: Arc::default(),
            reply
        }
    ));
    fakes.run(engine, Duration::ZERO).await;
    answer.await.unwrap()
}

fn refused(said: Result<String, String>, part: &str) {
    let said = said.unwrap_err();
    assert!(said.contains(part), "{said}");
}

/// A key with a current credential, `key_1`, and a second one that is newer.
async fn rotated_again(fakes: &Fakes) -> Engine {
    let mut engine = fakes.engine(current(1), OVERLAP).await;
    let wish = Wish {
        by_hand: None,
        revoke_previous: false,
    };
    engine.wish(&key(), wish);
    fakes.run(&mut engine, Duration::ZERO).await;
    assert_eq!(fakes.alive().len(), 2);
    engine
}

fn newest(engine: &Engine) -> String {
    let current = engine.state(&key()).unwrap().current().unwrap();
    current.credential.as_ref().unwrap().id.as_str().to_owned()
}

#[tokio::test]
async fn what_a_sink_may_hold_is_revoked_by_force_alone() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), OVERLAP).await;
    let said = ask(&fakes, &mut engine, revoke("key_1", false)).await;
    refused(said, "held by file (file:/x)");
    assert_eq!(fakes.alive(), ["key_1"]);
    let said = ask(&fakes, &mut engine, revoke("key_1", true)).await;
    assert_eq!(said, Ok("revoked key_1".to_owned()));
    assert!(!fakes.alive().contains(&"key_1".to_owned()));
    let told = fakes.told("revoked-by-hand").remove(0);
    assert!(told.contains("it leaked") && told.contains("ada"), "{told}");
    let said = ask(&fakes, &mut engine, revoke("key_1", true)).await;
    refused(said, "not alive in this ledger");
}

#[tokio::test]
async fn a_sink_lets_go_one_overlap_after_it_took_a_newer_one() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = rotated_again(&fakes).await;
    // Otherwise the schedule would revoke it when the overlap is over.
    let later = time::after(at(), OVERLAP * 24);
    let said = ask(&fakes, &mut engine, hold(Some("key_1"), Some(later))).await;
    let expected = "the schedule does not revoke key_1 before 2026-11-25T03:00:00Z";
    assert_eq!(said, Ok(expected.to_owned()));
    fakes
        .run(&mut engine, OVERLAP - Duration::from_secs(1))
        .await;
    let said = ask(&fakes, &mut engine, revoke("key_1", false)).await;
    refused(said, "may be held by file");
    fakes.run(&mut engine, Duration::from_secs(1)).await;
    let said = ask(&fakes, &mut engine, revoke("key_1", false)).await;
    assert_eq!(said, Ok("revoked key_1".to_owned()));
    assert_eq!(fakes.alive(), [newest(&engine)]);
}

#[tokio::test]
async fn what_rekeyd_works_with_is_never_revoked() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), OVERLAP).await;
    fakes.use_any(true);
    let said = ask(&fakes, &mut engine, revoke("key_1", true)).await;
    refused(said, "what rekeyd itself works with");
    assert_eq!(fakes.alive(), ["key_1"]);
}

#[tokio::test]
async fn nor_does_the_schedule_revoke_it() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = rotated_again(&fakes).await;
    fakes.use_any(true);
    fakes.run(&mut engine, OVERLAP * 3).await;
    assert_eq!(fakes.alive().len(), 2);
    assert!(fakes.told("held-back")[0].contains("rekeyd itself works with it"));
    fakes.use_any(false);
    fakes.run(&mut engine, OVERLAP).await;
    assert_eq!(fakes.alive(), [newest(&engine)]);
}

#[tokio::test]
async fn an_orphan_that_is_held_goes_by_hand() {
    let mut changes = current(1);
    changes.extend(created(2));
    changes.push(moved(2, Event::GivenUp));
    let until = Some(time::after(at(), OVERLAP * 24));
    changes.push(Change::Hold {
        rotation: crate::engine::tests::rows::rotation(2),
        until,
        by_hand: None,
    });
    let fakes = Fakes::new(&[("key_1", "label-1"), ("key_2", "label-2")]);
    let mut engine = fakes.engine(changes, OVERLAP).await;
    let said = ask(&fakes, &mut engine, revoke("key_2", false)).await;
    assert_eq!(said, Ok("revoked key_2".to_owned()));
    assert_eq!(fakes.told("deleted").len(), 1);
    assert_eq!(fakes.alive()[0], "key_1");
}

#[tokio::test]
async fn a_hold_is_of_one_or_of_all_and_ends() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = rotated_again(&fakes).await;
    let until = Some(time::after(at(), OVERLAP * 2));
    let said = ask(&fakes, &mut engine, hold(Some("key_9"), until)).await;
    refused(said, "key_9 is not alive");
    let said = ask(&fakes, &mut engine, hold(None, until)).await;
    let all = format!("key_1, {}", newest(&engine));
    let expected = format!("the schedule does not revoke {all} before 2026-11-24T05:00:00Z");
    assert_eq!(said, Ok(expected));
    fakes.run(&mut engine, OVERLAP).await;
    assert_eq!(fakes.alive().len(), 2, "it is held");
    let said = ask(&fakes, &mut engine, hold(Some("key_1"), None)).await;
    assert_eq!(said, Ok("the schedule may revoke key_1 again".to_owned()));
    fakes.run(&mut engine, Duration::from_secs(60)).await;
    assert_eq!(fakes.alive(), [newest(&engine)]);
    let held = fakes.told("hold").len();
    assert_eq!(held, 2, "both of all");
}

#[tokio::test]
async fn a_key_without_a_credential_has_nothing_to_hold() {
    let fakes = Fakes::new(&[]);
    fakes.ledger(Vec::new()).await;
    let managed = fakes.managed(key(), |_| {});
    let mut engine = fakes.open(vec![managed], Course::ByHand).await;
    let said = ask(&fakes, &mut engine, hold(None, None)).await;
    refused(said, "billing has no live credential");
    let (reply, _answer) = oneshot::channel();
    let order = hold(None, None);
    let other = KeyName::new("other").unwrap();
    assert!(!engine.order(
        &other,
        Asked {
            order,
            begun: Arc::default(),
            reply
        }
    ));
}

#[tokio::test]
async fn what_is_adopted_is_current_or_stands_beside() {
    let fakes = Fakes::new(&[("key_a", "by hand"), ("key_b", "by hand")]);
    fakes.ledger(Vec::new()).await;
    let managed = fakes.managed(key(), |_| {});
    let mut engine = fakes.open(vec![managed], Course::ByHand).await;
    let said = ask(&fakes, &mut engine, adopt("key_z")).await;
    refused(said, "the provider has no credential key_z");
    let said = ask(&fakes, &mut engine, adopt("key_a")).await;
    assert_eq!(said, Ok("adopted key_a as current of billing".to_owned()));
    let said = ask(&fakes, &mut engine, adopt("key_a")).await;
    refused(said, "in this ledger already, as one of the key billing");
    let said = ask(&fakes, &mut engine, adopt("key_b")).await;
    assert_eq!(said, Ok("adopted key_b as stranded of billing".to_owned()));
}

#[tokio::test]
async fn beside_an_open_rotation_what_is_adopted_is_not_current() {
    let intent = Intent {
        rotation: RotationId::new([1; 8]),
        label: crate::core::names::Label::recorded("label-1".to_owned()),
        trigger: Trigger::First,
        scheduled_for: None,
        timetable: String::new(),
        sinks: Vec::new(),
        by_hand: None,
    };
    let fakes = Fakes::new(&[("key_a", "by hand")]);
    fakes
        .ledger(vec![(key(), vec![Change::Intended(intent)])])
        .await;
    let managed = fakes.managed(key(), |_| {});
    let mut engine = fakes.open(vec![managed], Course::ByHand).await;
    let said = ask(&fakes, &mut engine, adopt("key_a")).await;
    assert_eq!(said, Ok("adopted key_a as stranded of billing".to_owned()));
}

#[tokio::test]
async fn what_rekeyd_works_with_is_adopted_by_the_key_that_replaces_it() {
    let fakes = Fakes::new(&[("key_a", "by hand")]);
    fakes.ledger(Vec::new()).await;
    let managed = fakes.managed(key(), |_| {});
    let mut engine = fakes.open(vec![managed], Course::ByHand).await;
    fakes.use_any(true);
    let said = ask(&fakes, &mut engine, adopt("key_a")).await;
    refused(said, "only a key with the sink \"self\"");
}

#[tokio::test]
async fn whoever_pauses_a_key_is_told_when_it_is_rotated_in_spite_of_that() {
    let fakes = Fakes::new(&[("key_1", "by hand")]);
    let adopted = Change::Adopted(Adoption {
        rotation: rotation(1),
        credential: CredentialFacts {
            id: id("key_1"),
            redacted_value: None,
            created_at: Some(at()),
            expires_at: Some(time::after(at(), OVERLAP * 8)),
        },
        event: Event::Adopted,
        sinks: Vec::new(),
        by_hand: None,
    });
    let mut engine = fakes.engine(vec![adopted], OVERLAP).await;
    let warning = "ends at 2026-11-24T11:00:00Z; billing is rotated from 2026-11-24T09:00:00Z on";
    for (hours, warned) in [(5, false), (6, false), (7, true)] {
        let order = Order::Pause {
            until: Some(time::after(at(), OVERLAP * hours)),
            by_hand: why(),
        };
        let said = ask(&fakes, &mut engine, order).await.unwrap();
        assert_eq!(said.contains(warning), warned, "{said}");
    }
}

#[tokio::test]
async fn what_is_resumed_is_rotated_by_schedule_again() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), OVERLAP).await;
    let resume = || Order::Resume { by_hand: why() };
    let said = ask(&fakes, &mut engine, resume()).await;
    assert_eq!(said, Ok("billing is not paused".to_owned()));
    let pause = Order::Pause {
        until: None,
        by_hand: why(),
    };
    let said = ask(&fakes, &mut engine, pause).await.unwrap();
    assert!(said.ends_with("before `rekeyd resume billing`"), "{said}");
    fakes.move_on(OVERLAP);
    let said = ask(&fakes, &mut engine, resume()).await;
    assert_eq!(said, Ok("billing is rotated by schedule again".to_owned()));
    let pause = engine.state(&key()).unwrap().pause.unwrap();
    assert_eq!((pause.from, pause.until), (at(), Some(fakes.now())));
    assert!(!pause.holds(fakes.now()));
}

#[tokio::test]
async fn a_hold_without_an_end_is_one_until_it_is_released() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = rotated_again(&fakes).await;
    let order = hold(Some("key_1"), Some(Timestamp::MAX));
    let said = ask(&fakes, &mut engine, order).await.unwrap();
    assert!(
        said.ends_with("revoke key_1 before `rekeyd release`"),
        "{said}"
    );
}

#[tokio::test]
async fn a_hold_until_a_time_that_is_over_is_refused_and_ends_no_other() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), OVERLAP).await;
    let later = time::after(fakes.now(), OVERLAP);
    let said = ask(&fakes, &mut engine, hold(Some("key_1"), Some(later))).await;
    assert!(said.is_ok());
    for until in [fakes.now(), time::before(fakes.now(), OVERLAP)] {
        let said = ask(&fakes, &mut engine, hold(Some("key_1"), Some(until))).await;
        refused(said, "a time that is over");
    }
    let state = engine.state(&key()).unwrap();
    assert_eq!(state.live[0].hold_until, Some(later));
}
