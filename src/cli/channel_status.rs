//! How the notification channels stand.

use std::collections::BTreeMap;

use crate::config::settings::Settings;
use crate::core::channel_state::ChannelState;
use crate::core::notification::ChannelId;
use crate::core::plural::counted;
use crate::core::time;

/// The state of a configured channel.
pub(crate) struct ChannelStatus {
    /// Its name.
    pub(super) name: String,
    /// Its id.
    pub(super) id: ChannelId,
    /// How it stands.
    pub(super) state: ChannelState,
}

impl ChannelStatus {
    /// Returns the status of each configured channel.
    pub(crate) fn of_channels(
        settings: &Settings,
        mut recorded: BTreeMap<ChannelId, ChannelState>,
    ) -> Vec<Self> {
        let channels = settings.notify.iter();
        let statuses = channels.map(|channel| {
            let id = channel.subscription.channel.clone();
            let state = recorded.remove(&id).unwrap_or_default();
            Self {
                name: channel.name.clone(),
                id,
                state,
            }
        });
        statuses.collect()
    }

    /// Returns the id of the channel.
    pub(crate) const fn id(&self) -> &ChannelId {
        &self.id
    }

    /// Returns what is wrong with the channel, if its last attempt failed.
    pub(crate) fn problem(&self) -> Option<String> {
        let failure = self.state.failure.as_ref()?;
        let undelivered = match self.state.undelivered {
            0 => String::new(),
            count => format!("; {} undelivered", counted(count, "notification")),
        };
        let last = match self.state.last_sent_at {
            Some(at) => format!("; the last was accepted at {}", time::to_text(at)),
            None => "; none was accepted yet".to_owned(),
        };
        Some(format!(
            "notifications to {} fail: {}{undelivered}{last}; hint: when this is repaired, run \
             `rekeyd notify --test {}`",
            self.name, failure.error, self.name
        ))
    }
}
