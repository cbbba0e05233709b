//! The types of notification channel.

use super::target::ChannelType;
use super::{command, sendmail, webhook};

/// Every type of channel that a configuration may name, one line each, in the
/// order in which messages list them. [`super::file`] stands in for all of them
/// in a rehearsal.
pub static CHANNEL_TYPES: [&ChannelType; 3] = [&webhook::TYPE, &command::TYPE, &sendmail::TYPE];
