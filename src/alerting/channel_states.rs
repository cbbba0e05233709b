//! How the channels of this process stand, for its metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::core::channel_state::ChannelState;
use crate::core::notification::ChannelId;

/// The state of each configured channel. The workers of the dispatcher update it.
#[derive(Debug, Default)]
pub(crate) struct ChannelStates(Mutex<BTreeMap<ChannelId, NamedState>>);

#[derive(Debug, Default)]
struct NamedState {
    name: String,
    state: ChannelState,
}

impl ChannelStates {
    /// Replaces the channels, each with its name. One that stays keeps its state.
    pub(crate) fn set_channels(&self, names: BTreeMap<ChannelId, String>) {
        let mut channels = self.lock();
        let mut former = std::mem::take(&mut *channels);
        for (id, name) in names {
            let state = former.remove(&id).unwrap_or_default().state;
            channels.insert(id, NamedState { name, state });
        }
    }

    /// Records how a channel stands, unless it was removed.
    pub(crate) fn update(&self, id: &ChannelId, state: ChannelState) {
        if let Some(channel) = self.lock().get_mut(id) {
            channel.state = state;
        }
    }

    /// Returns the state of each channel by its name.
    pub(crate) fn by_name(&self) -> BTreeMap<String, ChannelState> {
        let channels = self.lock();
        let states = channels.values();
        states
            .map(|channel| (channel.name.clone(), channel.state.clone()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ChannelId, NamedState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
