//! The keys of the ledger under the names that the configuration file gives them.

use std::collections::BTreeMap;

use crate::config::settings::Settings;
use crate::core::decide::key_names::Rename;
use crate::core::ids::KeyName;
use crate::core::state::KeyState;
use crate::daemon::key_names;
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

/// Renames keys as the next start or reload does in the ledger.
pub(crate) fn rename_states(states: &mut BTreeMap<KeyName, KeyState>, renames: &[Rename]) {
    for Rename { from, to } in renames {
        // A key of the new name has no rotation.
        states.remove(to);
        let Some(mut state) = states.remove(from) else {
            continue;
        };
        state.former_names.retain(|name| name != to);
        state.former_names.push(from.clone());
        state.key = to.clone();
        states.insert(to.clone(), state);
    }
}
