//! What the ledger tells a command that looks at every key.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;

use crate::core::ids::KeyName;
use crate::core::state::KeyState;
use crate::ledger::{LedgerError, read};

/// What the ledger tells of all keys and of the daemon as a whole.
#[derive(Default)]
pub(super) struct LedgerSnapshot {
    pub(super) states: BTreeMap<KeyName, KeyState>,
    /// Since when each failing key has been failing.
    pub(super) failing_since: BTreeMap<KeyName, Timestamp>,
    /// What is wrong with the daemon as a whole, worst first.
    pub(super) problems: Vec<String>,
}

impl LedgerSnapshot {
    /// Everything at one moment; a ledger that does not exist yet tells
    /// nothing.
    pub(super) fn read(ledger: &Path) -> Result<Self, LedgerError> {
        let connection = match read::open(ledger) {
            Ok(connection) => connection,
            Err(LedgerError::NotFound { .. }) => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        // A daemon may be writing in between.
        let moment = connection.unchecked_transaction()?;
        let states = read::all_key_states(&moment)?;
        let mut failing_since = BTreeMap::new();
        for (key, state) in &states {
            if state.attempt > 0
                && let Some(at) = read::failing_since(&moment, key)?
            {
                failing_since.insert(key.clone(), at);
            }
        }
        Ok(Self {
            states,
            failing_since,
            problems: read::conditions(&moment)?,
        })
    }
}
