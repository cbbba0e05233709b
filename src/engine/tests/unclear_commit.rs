//! A commit whose outcome is unknown: the worker reads the state before any other work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::core::state::KeyState;
use crate::engine::rotation_request::RotationRequest;
use crate::engine::tests::captured_log::CapturedLog;
use crate::engine::tests::fake::{Fakes, key};
use crate::engine::tests::rotation_changes::current;
use crate::engine::{Engine, RunMode};
use crate::ledger::{FaultInjector, LedgerError, WriterDriver};

const HOUR: Duration = Duration::from_secs(3_600);

/// A disk that loses the reply to the next commit of changes.
#[derive(Default)]
struct LosingDisk {
    loses_reply: AtomicBool,
    /// Whether this transaction recorded changes.
    has_recorded: AtomicBool,
}

#[async_trait]
impl FaultInjector for LosingDisk {
    async fn before_transaction(&self) -> Result<(), LedgerError> {
        Ok(())
    }

    async fn after_transaction(&self) -> Result<(), LedgerError> {
        let recorded = self.has_recorded.swap(false, Ordering::Relaxed);
        if recorded && self.loses_reply.swap(false, Ordering::Relaxed) {
            return Err(LedgerError::BatchAborted("no answer".to_owned()));
        }
        Ok(())
    }

    fn after_record(&self, computed: &KeyState, read: &KeyState) {
        assert_eq!(computed, read);
        self.has_recorded.store(true, Ordering::Relaxed);
    }
}

/// Returns an engine with one current credential on such a disk.
async fn engine_on(fakes: &Fakes, disk: &Arc<LosingDisk>) -> Engine {
    fakes.write_ledger(vec![(key(), current(1))]).await;
    let mut services = fakes.services();
    let disk: Arc<dyn FaultInjector> = Arc::clone(disk) as _;
    services.ledger = fakes.open_ledger_with(WriterDriver::TaskWithFaults(disk));
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = Engine::open(services, vec![managed], RunMode::Daemon)
        .await
        .unwrap();
    fakes.run_for(&mut engine, HOUR).await;
    engine
}

#[tokio::test]
async fn a_commit_with_a_lost_reply_is_read_logged_and_not_repeated() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let disk = Arc::new(LosingDisk::default());
    let mut engine = engine_on(&fakes, &disk).await;
    let (lines, _guard) = CapturedLog::capture();
    disk.loses_reply.store(true, Ordering::Relaxed);
    let request = RotationRequest {
        operator: None,
        revoke_previous: false,
        replacement: crate::engine::ReplaceApproval::Refused,
    };
    assert!(engine.request_rotation(&key(), request));
    fakes.run_for(&mut engine, HOUR * 2).await;

    assert!(!disk.loses_reply.load(Ordering::Relaxed), "one was lost");
    assert_eq!(
        lines.lines_with("INFO", "billing: rotating (manual)").len(),
        1
    );
    assert_eq!(
        lines.lines_with("WARN", "found no new credential").len(),
        1,
        "its create was never sent"
    );
    let triggers = "SELECT detail ->> 'trigger' FROM events WHERE event = 'started' ORDER BY seq";
    assert_eq!(fakes.query_rows(triggers), ["first", "manual", "retry"]);
    let current = engine.state(&key()).unwrap().current().unwrap();
    assert_eq!(fakes.place_of(current.sequence), 3);
}
