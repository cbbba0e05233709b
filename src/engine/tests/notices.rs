//! What people are told of a running engine.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::core::audience::{Audience, Listener};
use crate::core::names::KeyName;
use crate::core::notice::{NotifierId, Occasion};
use crate::engine::{Course, Engine, ManagedKey, Parts};
use crate::provider::Cause;
use crate::sink::Taken;

use super::fake::{Fakes, key};
use super::{HOUR, wish};

const SECOND: Duration = Duration::from_secs(1);

/// What was written, in order.
const NOTICES: &str = "SELECT trim(key || ' ' || cause || ' ' || state) FROM notice ORDER BY id";

fn audience(on: &[Occasion]) -> Audience {
    Audience::new(vec![Listener {
        id: NotifierId::new("command:/bin/page".to_owned()),
        on: on.iter().copied().collect::<BTreeSet<_>>(),
        keys: None,
    }])
}

async fn open(fakes: &Fakes, managed: Vec<ManagedKey>, on: &[Occasion]) -> Engine {
    let parts = Parts {
        audience: Arc::new(audience(on)),
        ..fakes.parts()
    };
    Engine::open(parts, managed, Course::Daemon).await.unwrap()
}

fn hourly(fakes: &Fakes) -> ManagedKey {
    fakes.key_with("@hourly", &[("a", true)])
}

#[tokio::test]
async fn a_sink_that_takes_nothing_is_told_once_and_when_it_does_again() {
    let fakes = Fakes::new(&[]);
    fakes.ledger(Vec::new()).await;
    fakes.fail_deliveries(Some(Taken::No));
    let mut engine = open(&fakes, vec![hourly(&fakes)], &Occasion::DEFAULT).await;
    fakes.run(&mut engine, 25 * SECOND).await;
    assert_eq!(fakes.rows(NOTICES), [""; 0], "it may pass by itself");
    fakes.run(&mut engine, 10 * SECOND).await;
    assert_eq!(fakes.rows(NOTICES), ["billing failing begun"]);
    // The failure goes on, also in the next process.
    fakes.run(&mut engine, 600 * SECOND).await;
    engine.stop().await;
    drop(engine);
    let mut engine = open(&fakes, vec![hourly(&fakes)], &Occasion::DEFAULT).await;
    fakes.run(&mut engine, 600 * SECOND).await;
    assert_eq!(fakes.rows(NOTICES), ["billing failing begun"]);
    fakes.fail_deliveries(None);
    fakes.run(&mut engine, 600 * SECOND).await;
    let both = ["billing failing begun", "billing failing over"];
    assert_eq!(fakes.rows(NOTICES), both);
    assert_eq!(fakes.rows("SELECT cause FROM cause"), [""; 0]);
}

#[tokio::test]
async fn a_provider_that_is_away_is_one_cause_for_all_keys() {
    let fakes = Fakes::new(&[]);
    fakes.ledger(Vec::new()).await;
    let managed = || {
        let names = ["a", "b", "c"].map(|name| KeyName::new(name).unwrap());
        names
            .map(|name| ManagedKey {
                name,
                ..hourly(&fakes)
            })
            .into()
    };
    let mut engine = open(&fakes, managed(), &Occasion::DEFAULT).await;
    fakes.run(&mut engine, 10 * SECOND).await;
    fakes.fail(Some(Cause::Unreachable));
    // All become overdue meanwhile.
    fakes.run(&mut engine, 5 * HOUR).await;
    assert_eq!(fakes.rows(NOTICES), ["provider begun"]);
    engine.stop().await;
    drop(engine);
    let mut engine = open(&fakes, managed(), &Occasion::DEFAULT).await;
    fakes.run(&mut engine, HOUR).await;
    assert_eq!(fakes.rows(NOTICES), ["provider begun"], "after a restart");
    fakes.fail(None);
    fakes.run(&mut engine, 3 * HOUR).await;
    assert_eq!(fakes.rows(NOTICES), ["provider begun", "provider over"]);
}

#[tokio::test]
async fn an_outage_of_seconds_is_told_to_nobody() {
    let fakes = Fakes::new(&[]);
    fakes.ledger(Vec::new()).await;
    let mut engine = open(&fakes, vec![hourly(&fakes)], &Occasion::DEFAULT).await;
    fakes.run(&mut engine, 10 * SECOND).await;
    fakes.fail(Some(Cause::Unreachable));
    engine.wish(&key(), wish());
    fakes.run(&mut engine, 10 * SECOND).await;
    fakes.fail(None);
    fakes.run(&mut engine, HOUR).await;
    assert_eq!(fakes.rows(NOTICES), [""; 0]);
}

#[tokio::test]
async fn each_rotation_is_told_to_who_wants_to_know() {
    let fakes = Fakes::new(&[]);
    fakes.ledger(Vec::new()).await;
    let mut engine = open(&fakes, vec![hourly(&fakes)], &Occasion::DEFAULT).await;
    fakes.run(&mut engine, 600 * SECOND).await;
    engine.stop().await;
    drop(engine);
    // What was there before anybody asked is no news.
    let mut engine = open(&fakes, vec![hourly(&fakes)], &[Occasion::Rotated]).await;
    fakes.run(&mut engine, 600 * SECOND).await;
    assert_eq!(fakes.rows(NOTICES), [""; 0]);
    fakes.run(&mut engine, 2 * HOUR).await;
    let twice = ["billing rotated once", "billing rotated once"];
    assert_eq!(fakes.rows(NOTICES), twice);
    assert_eq!(fakes.rows("SELECT cause FROM cause"), ["rotated"]);
    engine.stop().await;
    drop(engine);
    let mut engine = open(&fakes, vec![hourly(&fakes)], &[Occasion::Rotated]).await;
    fakes.run(&mut engine, 60 * SECOND).await;
    assert_eq!(fakes.rows(NOTICES), twice);
}

#[tokio::test]
async fn a_lookalike_is_told_once() {
    let label = "billing-20261123T030000Z-5f3a9c";
    let fakes = Fakes::new(&[("key_x", label)]);
    fakes.ledger(Vec::new()).await;
    for _ in 0..2 {
        let mut engine = open(&fakes, vec![hourly(&fakes)], &[Occasion::Lookalike]).await;
        fakes.run(&mut engine, HOUR).await;
        assert_eq!(fakes.rows(NOTICES), ["billing lookalike once"]);
        engine.stop().await;
    }
}

#[tokio::test]
async fn without_anybody_to_tell_nothing_is_remembered() {
    let fakes = Fakes::new(&[]);
    fakes.ledger(Vec::new()).await;
    fakes.fail_deliveries(Some(Taken::No));
    let mut engine = open(&fakes, vec![hourly(&fakes)], &Occasion::DEFAULT).await;
    fakes.run(&mut engine, 60 * SECOND).await;
    assert_eq!(fakes.rows("SELECT cause FROM cause"), ["failing"]);
    let parts = Parts {
        audience: Arc::default(),
        ..engine.parts().clone()
    };
    engine.reconfigure(parts, vec![hourly(&fakes)]);
    fakes.run(&mut engine, HOUR).await;
    for table in ["cause", "notice", "telling"] {
        let rows = fakes.rows(&format!("SELECT 'row' FROM {table}"));
        assert_eq!(rows, [""; 0], "{table}");
    }
}

#[tokio::test]
async fn whoever_ends_tells_what_is_wrong_as_it_stands() {
    let fakes = Fakes::new(&[]);
    fakes.ledger(Vec::new()).await;
    fakes.fail_deliveries(Some(Taken::No));
    let mut engine = open(&fakes, vec![hourly(&fakes)], &Occasion::DEFAULT).await;
    fakes.run(&mut engine, SECOND).await;
    engine.stop().await;
    engine.tell_what_is_wrong().await;
    assert_eq!(fakes.rows(NOTICES), ["billing failing begun"]);
    engine.tell_what_is_wrong().await;
    assert_eq!(fakes.rows(NOTICES), ["billing failing begun"]);
}
