//! What a create and a delivery come to, and how long is waited after each.

use std::time::Duration;

use crate::core::names::KeyName;
use crate::core::record::{Delivery, DeliveryState};
use crate::core::rotation::Phase;
use crate::core::time;
use crate::engine::looks::{IN_FLIGHT, LOOKS_AT_ONCE};
use crate::engine::tests::fake::{Fakes, at, key};
use crate::engine::tests::rows::current;
use crate::engine::{Course, Engine};
use crate::provider::{Cause, Outcome};
use crate::sink::Taken;

const SECOND: Duration = Duration::from_secs(1);

async fn begun(fakes: &Fakes) -> Engine {
    fakes.ledger(Vec::new()).await;
    let managed = fakes.managed(key(), |_| {});
    let mut engine = fakes.open(vec![managed], Course::Once).await;
    fakes.run(&mut engine, Duration::ZERO).await;
    engine
}

#[tokio::test]
async fn a_create_that_was_certainly_not_done_is_not_looked_for() {
    for (cause, counted) in [(Cause::RateLimited, 1), (Cause::Refused, 1)] {
        let fakes = Fakes::new(&[]);
        fakes.fail_creates(Some((cause, Outcome::NotDone)));
        let engine = begun(&fakes).await;
        let calls = fakes.take_calls();
        assert!(
            !calls.iter().any(|call| call.starts_with("find")),
            "{calls:?}"
        );
        assert!(fakes.told("not-done")[0].contains(&format!("{cause:?}")));
        let state = engine.state(&key()).unwrap();
        assert_eq!((state.open(), state.attempt), (None, counted));
    }
}

#[tokio::test]
async fn an_unclear_create_is_looked_for_after_a_while_and_never_sent_again() {
    let fakes = Fakes::new(&[]);
    fakes.fail_creates(Some((Cause::ServerError, Outcome::Unknown)));
    let mut engine = begun(&fakes).await;
    let open = engine.state(&key()).unwrap().open().unwrap();
    assert_eq!((open.phase, open.attempt), (Phase::Intended, 1));
    assert!(open.error.as_ref().unwrap().contains("ServerError"));
    fakes.run(&mut engine, SECOND).await;
    assert!(engine.state(&key()).unwrap().open().is_none());
    assert_eq!(fakes.told("label-not-found").len(), 1);
    let calls = fakes.take_calls();
    assert_eq!(calls.iter().filter(|call| *call == "create").count(), 1);
}

#[tokio::test]
async fn what_says_nothing_of_a_secret_does_not_count_against_it() {
    let fakes = Fakes::new(&[]);
    fakes.fail_only(Some(("verify", Cause::ServerError)));
    let mut engine = begun(&fakes).await;
    // Longer than a secret may be refused.
    fakes.run(&mut engine, SECOND * 7_200).await;
    let open = engine.state(&key()).unwrap().open().unwrap();
    assert_eq!((open.sequence, open.phase), (1, Phase::Created));
    fakes.fail_only(None);
    fakes.run(&mut engine, SECOND * 3_600).await;
    let current = engine.state(&key()).unwrap().current().unwrap();
    assert_eq!(current.sequence, 1);
}

/// The delivery of what is open, and how long it waits.
fn delivery(engine: &Engine, fakes: &Fakes) -> (DeliveryState, Duration) {
    let open = engine.state(&key()).unwrap().open().unwrap();
    let Delivery {
        state, retry_at, ..
    } = &open.deliveries[0];
    (*state, time::until(fakes.now(), retry_at.unwrap()))
}

#[tokio::test]
async fn a_sink_that_may_have_taken_it_holds_it_whatever_it_says_later() {
    let fakes = Fakes::new(&[]);
    fakes.fail_deliveries(Some(Taken::No));
    let mut engine = begun(&fakes).await;
    let refused = (DeliveryState::Refused, SECOND);
    assert_eq!(delivery(&engine, &fakes), refused);
    fakes.run(&mut engine, SECOND).await;
    let refused = (DeliveryState::Refused, SECOND * 2);
    assert_eq!(delivery(&engine, &fakes), refused);
    fakes.fail_deliveries(Some(Taken::Maybe));
    fakes.run(&mut engine, SECOND * 2).await;
    let uncertain = (DeliveryState::Uncertain, SECOND * 5);
    assert_eq!(delivery(&engine, &fakes), uncertain);
    fakes.fail_deliveries(Some(Taken::No));
    fakes.run(&mut engine, SECOND * 5).await;
    let uncertain = (DeliveryState::Uncertain, SECOND * 15);
    assert_eq!(delivery(&engine, &fakes), uncertain);
    fakes.fail_deliveries(None);
    fakes.run(&mut engine, SECOND * 15).await;
    assert!(engine.state(&key()).unwrap().current().is_some());
}

#[tokio::test]
async fn a_stubborn_sink_is_asked_more_slowly() {
    let fakes = Fakes::new(&[]);
    fakes.fail_deliveries(Some(Taken::Refused));
    let engine = begun(&fakes).await;
    let refused = (DeliveryState::Refused, SECOND * 60);
    assert_eq!(delivery(&engine, &fakes), refused);
    // And so is one that has been tried for an hour.
    let fakes = Fakes::new(&[]);
    fakes.fail_deliveries(Some(Taken::No));
    let mut engine = begun(&fakes).await;
    fakes.run(&mut engine, SECOND * 3_599).await;
    assert!(delivery(&engine, &fakes).1 <= SECOND * 300);
    fakes.run(&mut engine, SECOND * 600).await;
    let hour = time::after(at(), SECOND * 3_600);
    assert!(fakes.now() > hour);
    assert!(delivery(&engine, &fakes).1 > SECOND * 300);
}

#[tokio::test]
async fn what_a_sink_has_lost_is_made_good_by_another() {
    let fakes = Fakes::new(&[]);
    let mut engine = begun(&fakes).await;
    fakes.run(&mut engine, SECOND * 3_600).await;
    let current = engine.state(&key()).unwrap().current().unwrap();
    assert_eq!(current.sequence, 1);
    fakes.lose(current.credential.as_ref().unwrap().id.as_str());
    fakes.run(&mut engine, SECOND * 7_200).await;
    let current = engine.state(&key()).unwrap().current().unwrap();
    assert_eq!(current.sequence, 2);
}

#[tokio::test]
async fn however_many_keys_there_are_the_sinks_of_all_are_looked_at() {
    let fakes = Fakes::new(&[]);
    let name = |number: u64| KeyName::new(&format!("key-{number:04}")).unwrap();
    let last = u64::try_from(IN_FLIGHT * LOOKS_AT_ONCE).unwrap() + 1;
    let rows = (1..=last).map(|number| (name(number), current(number)));
    fakes.ledger(rows.collect()).await;
    let managed = (1..=last).map(|number| fakes.managed(name(number), |_| {}));
    let mut engine = fakes.open(managed.collect(), Course::Once).await;
    fakes.lose(&format!("key_{last}"));
    fakes.run(&mut engine, Duration::ZERO).await;
    let rotated = fakes.rows("SELECT key FROM rotation WHERE \"trigger\" = 'repair'");
    assert_eq!(rotated, [name(last).as_str()]);
}
