//! The condition "ledger": when it is raised, and how the engine checks that the ledger is
//! still this process's.

use std::sync::Arc;

use crate::core::condition::Condition;
use crate::engine::conditions::Conditions;
use crate::engine::probe::describe_problem;
use crate::engine::scheduler::{Completion, Engine};
use crate::ledger::LedgerError;

/// Raises the condition of a ledger that cannot be written.
pub(crate) fn raise_ledger_condition(conditions: &Conditions, error: &LedgerError) {
    let problem = match error {
        // The remedy is not on the disk.
        LedgerError::Locked { .. } => error.to_string(),
        error => describe_problem(Condition::Ledger, &error.to_string()),
    };
    conditions.raise(Condition::Ledger, &problem);
}

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
