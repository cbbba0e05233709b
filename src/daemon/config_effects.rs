//! What another configuration creates, drops, retargets or leaves unmanaged, by the ledger.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::settings::{KeySettings, Settings};
use crate::core::decide::key_names::Rename;
use crate::core::first_few::join_few;
use crate::core::ids::{KeyName, SinkId};
use crate::core::policy::InitialRotation;
use crate::core::state::{Delivery, DeliveryState, KeyState, Rotation};
use crate::core::time;
use crate::core::unmanaged::unmanaged;
use crate::daemon::key_names::rename_states;

/// A change, as a text for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigEffect {
    /// The name of the key in the configuration, or else in the ledger.
    pub(crate) key: KeyName,
    /// What happens to it.
    pub(crate) text: String,
}

impl fmt::Display for ConfigEffect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.key, self.text)
    }
}

/// Returns each change that a configuration makes to the keys of a ledger, in the order of
/// their names.
pub(crate) fn config_effects(
    settings: &Settings,
    mut states: BTreeMap<KeyName, KeyState>,
    renames: &[Rename],
) -> Vec<ConfigEffect> {
    rename_states(&mut states, renames);
    let mut effects = Vec::new();
    let mut add = |key: &KeyName, text| {
        let key = key.clone();
        effects.push(ConfigEffect { key, text });
    };
    for Rename { from, to } in renames {
        add(to, format!("renamed from {from}, with its credentials"));
    }
    for key in &settings.keys {
        let state = states.remove(&key.name);
        for text in key_lines(key, state.as_ref()) {
            add(&key.name, text);
        }
    }
    for (key, state) in &states {
        if let Some(text) = dropped_line(state) {
            add(key, text);
        }
    }
    effects.sort_by(|one, other| one.key.cmp(&other.key));
    effects
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
