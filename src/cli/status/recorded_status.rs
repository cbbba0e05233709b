//! What `rekeyd status` reads of the ledger.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;

use crate::core::ids::KeyName;
use crate::core::state::KeyState;
use crate::ledger::{LedgerError, LedgerReader};

/// What the ledger holds about all keys and about the daemon as a whole.
#[derive(Default)]
pub(super) struct RecordedStatus {
    pub(super) states: BTreeMap<KeyName, KeyState>,
    /// Since when each failing key has been failing.
    pub(super) failing_since: BTreeMap<KeyName, Timestamp>,
    /// The problems of the daemon as a whole, worst first.
    pub(super) problems: Vec<String>,
}

impl RecordedStatus {
    /// Reads everything at one moment; nothing if there is no ledger yet.
    pub(super) fn read(ledger: &Path) -> Result<Self, LedgerError> {
        let Some(reader) = LedgerReader::open_existing(ledger)? else {
            return Ok(Self::default());
        };
        let snapshot = reader.snapshot()?;
        let states = snapshot.key_states()?;
        let mut failing_since = BTreeMap::new();
        for (key, state) in &states {
            if state.attempt > 0
                && let Some(at) = snapshot.failing_since(key)?
            {
                failing_since.insert(key.clone(), at);
            }
        }
        Ok(Self {
            states,
            failing_since,
            problems: snapshot.conditions()?,
        })
    }
}
