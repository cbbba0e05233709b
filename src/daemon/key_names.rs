//! Renames the keys of the ledger as the configuration says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::settings::Settings;
use crate::core::decide::key_names::{NameProblem, RecordedNames, Rename, plan_renames};
use crate::core::ids::KeyName;
use crate::core::state::KeyState;

/// The names of a configuration that do not fit the ledger.
#[derive(Debug, thiserror::Error)]
#[error("{}", describe(file, problems))]
pub struct UnfitNames {
    /// The configuration file.
    pub file: PathBuf,
    /// Every problem.
    pub problems: Vec<NameProblem>,
}

fn describe(file: &Path, problems: &[NameProblem]) -> String {
    let file = file.display();
    let lines = problems.iter().map(|problem| format!("{file}: {problem}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the keys of the ledger that these settings rename.
///
/// # Errors
/// Names that do not fit the ledger.
pub fn renames(settings: &Settings, recorded: &RecordedNames) -> Result<Vec<Rename>, UnfitNames> {
    let configured = settings.keys.iter();
    let configured = configured.map(|key| (&key.name, key.was.as_ref()));
    plan_renames(configured, recorded).map_err(|problems| UnfitNames {
        file: settings.file.clone(),
        problems,
    })
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
