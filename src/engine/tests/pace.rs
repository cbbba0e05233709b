//! Whether the engine keeps pace.

use std::time::Duration;

use crate::core::condition::Condition;
use crate::engine::RunMode;
use crate::engine::pace::PATIENCE;
use crate::engine::tests::fake::{Fakes, key};
use crate::engine::tests::{HOUR, rotation_request};

const SECOND: Duration = Duration::from_secs(1);

/// Rest is no lack of pace, and neither is a key that begins at once.
#[tokio::test(start_paused = true)]
async fn resting_and_working_engines_keep_pace() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(Vec::new()).await;
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, HOUR / 4).await;
    assert!(engine.keeps_pace());
    tokio::time::advance(PATIENCE * 100).await;
    assert!(engine.keeps_pace());
}

#[tokio::test(start_paused = true)]
async fn a_due_key_that_is_not_begun_is_a_lack() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(Vec::new()).await;
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, HOUR / 4).await;
    engine.request_rotation(&key(), rotation_request());
    assert!(engine.keeps_pace(), "it has just become due");
    tokio::time::advance(PATIENCE + SECOND).await;
    assert!(!engine.keeps_pace());
    engine
        .services()
        .conditions
        .raise(Condition::Ledger, "full");
    assert!(engine.keeps_pace(), "the condition holds it back");
    engine.services().conditions.clear(Condition::Ledger);
    assert!(engine.keeps_pace(), "it could begin only now");
    tokio::time::advance(PATIENCE + SECOND).await;
    assert!(!engine.keeps_pace());
    engine.start_due();
    assert!(engine.keeps_pace());
    engine.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_not_taken_is_a_lack() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(Vec::new()).await;
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, HOUR / 4).await;
    engine.check_ledger();
    tokio::time::sleep(PATIENCE + SECOND * 2).await;
    assert!(!engine.keeps_pace());
    engine.process_completions().await;
    assert!(engine.keeps_pace());
}
