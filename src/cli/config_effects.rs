//! What the configuration in the file would create, drop, retarget or leave unmanaged: by
//! the ledger, for `check` and `reload --dry-run`.

use std::collections::BTreeMap;

use crate::cli::failure::Failure;
use crate::config::settings::Settings;
use crate::core::unmanaged::unmanaged;
use crate::daemon::config_effects::{self, ConfigEffect};
use crate::daemon::error::ServiceError;
use crate::daemon::key_names;
use crate::ledger::LedgerReader;

/// Returns each change, in the order of the keys' names. A key that the `running` daemon does
/// not have either was dropped before.
///
/// # Errors
/// The ledger cannot be read, or the names do not fit it.
pub(crate) fn config_effects(
    settings: &Settings,
    ledger: Option<&LedgerReader>,
    running: Option<&Settings>,
) -> Result<Vec<ConfigEffect>, Failure> {
    let (mut states, renames) = match ledger {
        None => (BTreeMap::new(), Vec::new()),
        Some(ledger) => {
            let snapshot = ledger.snapshot()?;
            let recorded = snapshot.recorded_names()?;
            let renames = key_names::renames(settings, &recorded).map_err(ServiceError::from)?;
            (snapshot.key_states()?, renames)
        }
    };
    if let Some(running) = running {
        states.retain(|name, state| {
            let mut configured = running.keys.iter().chain(&settings.keys);
            configured.any(|key| key.name == *name)
                || renames.iter().any(|rename| rename.from == *name)
                || unmanaged(state).is_some()
        });
    }
    Ok(config_effects::config_effects(settings, states, &renames))
}
