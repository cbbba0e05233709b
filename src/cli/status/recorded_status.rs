//! The part of the ledger that `rekeyd status` reads.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;

use crate::core::ids::KeyName;
use crate::core::state::KeyState;
use crate::ledger::{LedgerError, LedgerReader};

/// The recorded state of all keys and of the daemon.
#[derive(Default)]
pub(super) struct RecordedStatus {
    pub(super) states: BTreeMap<KeyName, KeyState>,
    /// The start of each failing key's failure.
    pub(super) failing_since: BTreeMap<KeyName, Timestamp>,
    /// The problems that affect all keys, worst first.
    pub(super) problems: Vec<String>,
}

impl RecordedStatus {
    /// Reads everything in one snapshot; empty without a ledger.
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
