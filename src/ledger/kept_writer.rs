//! The writer of a process of a simulation, which outlives it.

use std::sync::Arc;

use crate::ledger::fault_injector::FaultInjector;
use crate::ledger::idle_writer::IdleWriter;
use crate::ledger::open::OpenLedger;

/// The writer of a running process, which its disk keeps when the process ends.
pub(super) struct KeptWriter {
    pub(super) ledger: Option<OpenLedger>,
    disk: Arc<dyn FaultInjector>,
}

impl KeptWriter {
    pub(super) fn new(ledger: OpenLedger, disk: Arc<dyn FaultInjector>) -> Self {
        Self {
            ledger: Some(ledger),
            disk,
        }
    }
}

impl Drop for KeptWriter {
    fn drop(&mut self) {
        let ledger = self.ledger.take();
        // A process that panicked may have left a transaction.
        if let Some(ledger) = ledger.filter(|ledger| ledger.connection.is_autocommit()) {
            self.disk.keep_writer(IdleWriter::new(ledger));
        }
    }
}
