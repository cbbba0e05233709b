//! The condition "ledger": what its problem says.

use crate::core::condition::Condition;
use crate::engine::conditions::Conditions;
use crate::engine::probe::describe_problem;
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
