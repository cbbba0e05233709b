//! The keys of the ledger under the names that the configuration file gives them.

use std::collections::BTreeMap;

use crate::config::settings::Settings;
use crate::core::decide::key_names::Rename;
use crate::core::ids::KeyName;
use crate::core::state::KeyState;
use crate::daemon::key_names::{self, rename_states};
use crate::ledger::{LedgerError, LedgerSnapshot};

/// Returns the renames of the file that the ledger does not have yet. One that does not fit
/// the ledger renames nothing: `check` and `reload` report it.
///
/// # Errors
/// The ledger cannot be read.
pub(crate) fn pending_renames(
    settings: &Settings,
    snapshot: &LedgerSnapshot<'_>,
) -> Result<Vec<Rename>, LedgerError> {
    if settings.keys.iter().all(|key| key.was.is_none()) {
        return Ok(Vec::new());
    }
    let recorded = snapshot.recorded_names()?;
    Ok(key_names::renames(settings, &recorded).unwrap_or_default())
}

/// Returns the states of the keys, each under its name in the file.
///
/// # Errors
/// The ledger cannot be read.
pub(crate) fn states_by_name(
    settings: &Settings,
    snapshot: &LedgerSnapshot<'_>,
) -> Result<BTreeMap<KeyName, KeyState>, LedgerError> {
    let mut states = snapshot.key_states()?;
    rename_states(&mut states, &pending_renames(settings, snapshot)?);
    Ok(states)
}
