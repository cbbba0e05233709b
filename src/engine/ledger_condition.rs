//! The condition "ledger": what its problem says.

use crate::core::condition::Condition;
use crate::engine::conditions::Conditions;
use crate::engine::probe::describe_problem;
use crate::ledger::LedgerError;

/// Raises the condition of a ledger that cannot be written, or whose files are damaged.
pub(crate) fn raise_ledger_condition(conditions: &Conditions, error: &LedgerError) {
    let text = error.to_string();
    if matches!(error, LedgerError::Damaged { .. }) {
        return conditions.raise_for_good(Condition::Ledger, &text);
    }
    // The remedy of a lost lock, or of another program's SQL, or of a lost table, is not
    // on the disk, and a full disk is all that is wrong.
    let has_remedy = error.is_disk_full()
        || matches!(
            error,
            LedgerError::Locked { .. }
                | LedgerError::ForeignObject { .. }
                | LedgerError::MissingObject { .. }
        );
    let problem = if has_remedy {
        text
    } else if error.is_locked_by_program() {
        format!(
            "{text}: another program has locked it; hint: run `rekeyd ledger locks` as root, and \
             stop the process that it names"
        )
    } else {
        describe_problem(Condition::Ledger, &text)
    };
    conditions.raise(Condition::Ledger, &problem);
}
