//! What the configuration in the file would create, drop, retarget or leave unmanaged: by
//! the ledger, for `check` and `reload --dry-run`.

use std::collections::BTreeMap;

use crate::cli::failure::Failure;
use crate::cli::renamed_keys::rename_states;
use crate::config::settings::{KeySettings, Settings};
use crate::core::decide::key_names::Rename;
use crate::core::first_few::join_few;
use crate::core::ids::{KeyName, SinkId};
use crate::core::policy::InitialRotation;
use crate::core::state::{Delivery, DeliveryState, KeyState, Rotation};
use crate::core::time;
use crate::core::unmanaged::unmanaged;
use crate::daemon::error::ServiceError;
use crate::daemon::key_names;
use crate::ledger::LedgerReader;

/// Returns a line for each change, in the order of the keys' names.
///
/// # Errors
/// The ledger cannot be read, or the names do not fit it.
pub(crate) fn config_effects(
    settings: &Settings,
    ledger: Option<&LedgerReader>,
) -> Result<Vec<String>, Failure> {
    let (mut states, renames) = match ledger {
        None => (BTreeMap::new(), Vec::new()),
        Some(ledger) => {
            let snapshot = ledger.snapshot()?;
            let recorded = snapshot.recorded_names()?;
            let renames = key_names::renames(settings, &recorded).map_err(ServiceError::from)?;
            (snapshot.key_states()?, renames)
        }
    };
    rename_states(&mut states, &renames);
    let mut lines = Vec::new();
    for Rename { from, to } in &renames {
        lines.push((
            to.clone(),
            format!("renamed from {from}, with its credentials"),
        ));
    }
    for key in &settings.keys {
        let state = states.remove(&key.name);
        let of_key = key_lines(key, state.as_ref()).into_iter();
        lines.extend(of_key.map(|line| (key.name.clone(), line)));
    }
    for (key, state) in states {
        lines.extend(dropped_line(&state).map(|line| (key, line)));
    }
    lines.sort_by(|(one, _), (other, _)| one.cmp(other));
    let lines = lines.into_iter();
    Ok(lines
        .map(|(key, line): (KeyName, String)| format!("{key}: {line}"))
        .collect())
}

fn key_lines(key: &KeySettings, state: Option<&KeyState>) -> Vec<String> {
    let Some(state) = state.filter(|state| state.sequence > 0) else {
        let when = match key.policy.initial_rotation {
            InitialRotation::Now => "at once",
            InitialRotation::Scheduled => "at its first scheduled time",
        };
        return vec![format!("new: rekeyd creates a credential {when}")];
    };
    if let Some(retirement) = state.retirement {
        let at = time::to_text(retirement.at);
        let undo = format!("`rekeyd retire {} --undo`", key.name);
        return vec![format!("not rotated: it was retired at {at}; hint: {undo}")];
    }
    let newest = state.live.iter().max_by_key(|row| row.sequence);
    newest.map_or_else(Vec::new, |newest| sink_lines(key, newest))
}

/// Compares the sinks of a key with those of its newest credential.
fn sink_lines(key: &KeySettings, newest: &Rotation) -> Vec<String> {
    let holds = |delivery: &&Delivery| delivery.state != DeliveryState::Removed;
    let recorded: Vec<&SinkId> = newest
        .deliveries
        .iter()
        .filter(holds)
        .map(|delivery| &delivery.sink)
        .collect();
    let configured: Vec<&SinkId> = key.sinks.iter().map(|sink| &sink.id).collect();
    let added = configured.iter().filter(|sink| !recorded.contains(sink));
    let dropped = recorded.iter().filter(|sink| !configured.contains(sink));
    let with_name = |sinks: &[&SinkId], name: &str| sinks.iter().any(|sink| sink.name == name);
    let added = added.map(|sink| {
        let former = recorded
            .iter()
            .find(|former| former.name == sink.name && !configured.contains(former));
        match former {
            Some(former) => format!(
                "retargets the sink {} from {} to {}; the former target counts as a holder for one \
                 more overlap",
                sink.name, former.target, sink.target
            ),
            None => format!("adds the sink {} ({})", sink.name, sink.target),
        }
    });
    let dropped = dropped
        .filter(|sink| !with_name(&configured, &sink.name))
        .map(|sink| {
            format!(
                "drops the sink {} ({}), which counts as a holder for one more overlap",
                sink.name, sink.target
            )
        });
    added.chain(dropped).collect()
}

/// Describes a key that is in the ledger alone, while it has a live credential.
fn dropped_line(state: &KeyState) -> Option<String> {
    if let Some(unmanaged) = unmanaged(state) {
        return Some(unmanaged.text(&state.key));
    }
    let credentials = state.live.iter().filter_map(Rotation::credential);
    let ids: Vec<_> = credentials.map(|credential| &credential.id).collect();
    (!ids.is_empty()).then(|| {
        format!(
            "dropped; rekeyd revokes {} as planned, and rotates the key no more",
            join_few(ids)
        )
    })
}
