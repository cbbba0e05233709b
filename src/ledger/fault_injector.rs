//! The disk of a simulation.

use async_trait::async_trait;

use crate::core::state::KeyState;
use crate::ledger::error::LedgerError;
use crate::ledger::idle_writer::IdleWriter;

/// The disk of a simulation, which injects faults.
#[async_trait]
pub trait FaultInjector: Send + Sync {
    /// Runs before a transaction; an error fails it.
    async fn before_transaction(&self) -> Result<(), LedgerError>;

    /// Runs after a transaction, before its callers get their replies; an error replaces
    /// the replies, although the transaction has ended.
    async fn after_transaction(&self) -> Result<(), LedgerError>;

    /// Runs within each transaction that records changes of a key, with the computed
    /// state and the state that is read back.
    fn after_record(&self, computed: &KeyState, read: &KeyState);

    /// Returns a writer of an earlier process that has the ledger open, if one was kept.
    fn take_writer(&self) -> Option<IdleWriter> {
        None
    }

    /// Keeps the writer of a process that has ended.
    fn keep_writer(&self, writer: IdleWriter) {
        drop(writer);
    }
}
