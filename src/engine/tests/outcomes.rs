//! The outcomes of creates and deliveries, and the back-off after each.

use std::time::Duration;

use crate::core::ids::KeyName;
use crate::core::lifecycle::Phase;
use crate::core::state::{Delivery, DeliveryState};
use crate::core::time;
use crate::engine::drift::DRIFT_BATCH_SIZE;
use crate::engine::tests::fake::{Fakes, at, key};
use crate::engine::tests::rotation_changes::current;
use crate::engine::{Engine, RunMode};
use crate::provider::{Effect, ErrorKind};
use crate::sink::Acceptance;

const SECOND: Duration = Duration::from_secs(1);

async fn started_engine(fakes: &Fakes) -> Engine {
    fakes.write_ledger(Vec::new()).await;
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Once).await;
    fakes.run_for(&mut engine, Duration::ZERO).await;
    engine
}

#[tokio::test]
async fn a_create_that_was_not_applied_is_not_searched_for() {
    for (kind, counted) in [(ErrorKind::RateLimited, 0), (ErrorKind::Refused, 1)] {
        let fakes = Fakes::new(&[]);
        fakes.fail_creates(Some((kind, Effect::NotApplied)));
        let engine = started_engine(&fakes).await;
        let calls = fakes.take_calls();
        assert!(
            !calls.iter().any(|call| call.starts_with("find")),
            "{calls:?}"
        );
        assert!(fakes.journal_details("not-created")[0].contains(&format!("{kind:?}")));
        let state = engine.state(&key()).unwrap();
        assert_eq!((state.open_rotation(), state.attempt), (None, counted));
    }
}

#[tokio::test]
async fn an_unknown_create_is_searched_for_and_never_resent() {
    let fakes = Fakes::new(&[]);
    fakes.fail_creates(Some((ErrorKind::ServerError, Effect::Unknown)));
    let mut engine = started_engine(&fakes).await;
    let open = engine.state(&key()).unwrap().open_rotation().unwrap();
    assert_eq!((open.phase, open.attempt), (Phase::Intended, 1));
    assert!(open.error.as_ref().unwrap().contains("ServerError"));
    fakes.run_for(&mut engine, SECOND).await;
    assert!(engine.state(&key()).unwrap().open_rotation().is_none());
    assert_eq!(fakes.journal_details("label-not-found").len(), 1);
    let calls = fakes.take_calls();
    assert_eq!(calls.iter().filter(|call| *call == "create").count(), 1);
}

#[tokio::test]
async fn server_errors_do_not_use_up_the_verify_timeout() {
    let fakes = Fakes::new(&[]);
    fakes.fail_calls(Some(("verify", ErrorKind::ServerError)));
    let mut engine = started_engine(&fakes).await;
    // This is longer than `verify-timeout`.
    fakes.run_for(&mut engine, SECOND * 7_200).await;
    let open = engine.state(&key()).unwrap().open_rotation().unwrap();
    assert_eq!(open.phase, Phase::Created);
    let first = open.sequence;
    fakes.fail_calls(None);
    fakes.run_for(&mut engine, SECOND * 3_600).await;
    let current = engine.state(&key()).unwrap().current().unwrap();
    assert_eq!(current.sequence, first);
}

/// Returns the state of the open rotation's delivery, and the delay until its retry.
fn delivery(engine: &Engine, fakes: &Fakes) -> (DeliveryState, Duration) {
    let open = engine.state(&key()).unwrap().open_rotation().unwrap();
    let Delivery {
        state, retry_at, ..
    } = &open.deliveries[0];
    (*state, time::until(fakes.now(), retry_at.unwrap()))
}

#[tokio::test]
async fn an_uncertain_delivery_stays_uncertain_after_a_refusal() {
    let fakes = Fakes::new(&[]);
    fakes.fail_deliveries(Some(Acceptance::NotAccepted));
    let mut engine = started_engine(&fakes).await;
    let refused = (DeliveryState::Refused, SECOND);
    assert_eq!(delivery(&engine, &fakes), refused);
    fakes.run_for(&mut engine, SECOND).await;
    let refused = (DeliveryState::Refused, SECOND * 2);
    assert_eq!(delivery(&engine, &fakes), refused);
    fakes.fail_deliveries(Some(Acceptance::Uncertain));
    fakes.run_for(&mut engine, SECOND * 2).await;
    let uncertain = (DeliveryState::Uncertain, SECOND * 5);
    assert_eq!(delivery(&engine, &fakes), uncertain);
    fakes.fail_deliveries(Some(Acceptance::NotAccepted));
    fakes.run_for(&mut engine, SECOND * 5).await;
    let uncertain = (DeliveryState::Uncertain, SECOND * 15);
    assert_eq!(delivery(&engine, &fakes), uncertain);
    fakes.fail_deliveries(None);
    fakes.run_for(&mut engine, SECOND * 15).await;
    assert!(engine.state(&key()).unwrap().current().is_some());
}

#[tokio::test]
async fn an_unresponsive_sink_is_retried_more_slowly() {
    let fakes = Fakes::new(&[]);
    fakes.fail_deliveries(Some(Acceptance::Rejected));
    let engine = started_engine(&fakes).await;
    let refused = (DeliveryState::Refused, SECOND * 60);
    assert_eq!(delivery(&engine, &fakes), refused);
    // So is a sink that has failed for an hour.
    let fakes = Fakes::new(&[]);
    fakes.fail_deliveries(Some(Acceptance::NotAccepted));
    let mut engine = started_engine(&fakes).await;
    fakes.run_for(&mut engine, SECOND * 3_599).await;
    assert!(delivery(&engine, &fakes).1 <= SECOND * 300);
    fakes.run_for(&mut engine, SECOND * 600).await;
    let hour = time::after(at(), SECOND * 3_600);
    assert!(fakes.now() > hour);
    assert!(delivery(&engine, &fakes).1 > SECOND * 300);
}

#[tokio::test]
async fn sink_drift_starts_a_repair_rotation() {
    let fakes = Fakes::new(&[]);
    let mut engine = started_engine(&fakes).await;
    fakes.run_for(&mut engine, SECOND * 3_600).await;
    let current = engine.state(&key()).unwrap().current().unwrap();
    assert_eq!(fakes.place_of(current.sequence), 1);
    fakes.set_drifted(current.credential.as_ref().unwrap().id.as_str());
    fakes.run_for(&mut engine, SECOND * 7_200).await;
    let current = engine.state(&key()).unwrap().current().unwrap();
    assert_eq!(fakes.place_of(current.sequence), 2);
}

#[tokio::test]
async fn drift_checks_cover_all_batches_of_keys() {
    let last = u64::try_from(2 * DRIFT_BATCH_SIZE).unwrap() + 1;
    let live = (1..=last).map(|number| (format!("key_{number}"), format!("label-{number}")));
    let live: Vec<_> = live.collect();
    let live = live.iter().map(|(id, label)| (id.as_str(), label.as_str()));
    let fakes = Fakes::new(&live.collect::<Vec<_>>());
    let name = |number: u64| KeyName::new(&format!("key-{number:04}")).unwrap();
    let rows = (1..=last).map(|number| (name(number), current(number)));
    fakes.write_ledger(rows.collect()).await;
    let managed = (1..=last).map(|number| fakes.managed_key(name(number), |_| {}));
    let mut engine = fakes.open_engine(managed.collect(), RunMode::Once).await;
    fakes.set_drifted(&format!("key_{last}"));
    fakes.run_for(&mut engine, Duration::ZERO).await;
    let rotated = fakes.query_rows("SELECT key FROM rotation WHERE \"trigger\" = 'repair'");
    assert_eq!(rotated, [name(last).as_str()]);
}
