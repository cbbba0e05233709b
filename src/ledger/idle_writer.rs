//! Writers that outlive the process of a simulation.
//!
//! A simulation runs tens of thousands of processes. Each would read the schema and
//! prepare its statements again, which takes longer than all else that it does.

use jiff::Timestamp;

use crate::ledger::error::LedgerError;
use crate::ledger::open::{LedgerOptions, OpenLedger, begin_process};

/// The writer of a process of a simulation that has ended, with its connection.
pub struct IdleWriter(OpenLedger);

impl IdleWriter {
    pub(super) const fn new(ledger: OpenLedger) -> Self {
        Self(ledger)
    }

    /// Opens the ledger for the next process, as if it were opened anew.
    pub(super) fn reopen(
        self,
        options: &LedgerOptions,
        now: Timestamp,
    ) -> Result<OpenLedger, LedgerError> {
        begin_process(&self.0.connection, options, now)?;
        Ok(self.0)
    }
}
