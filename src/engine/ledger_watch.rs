//! Watches the ledger's files while the engine runs.

use std::sync::Arc;

use crate::engine::ledger_condition::raise_ledger_condition;
use crate::engine::scheduler::{Completion, Engine};

impl Engine {
    /// Checks that the ledger is still this process's, and raises the condition "ledger" if
    /// it is not. The event loop calls it each second, so that a daemon without work
    /// notices it, too.
    pub fn check_ledger(&mut self) {
        if std::mem::replace(&mut self.is_checking_ledger, true) {
            return;
        }
        let services = Arc::clone(&self.services);
        self.running.spawn(async move {
            if let Err(error) = services.ledger.check_files().await {
                raise_ledger_condition(&services.conditions, &error);
            }
            Completion::LedgerCheck
        });
    }
}
