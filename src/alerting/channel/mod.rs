//! The channels that carry notifications to people: webhook, command, mail.
//!
//! Every channel sends the same JSON ([`message`]). A type of channel is a
//! folder here with its options, its target's identity and its behaviour
//! ([`target::ChannelTarget`]), and a line in [`CHANNEL_TYPES`]. The choice of
//! recipients and the retries are deliberately elsewhere, in the subscriptions
//! and the dispatcher.

pub mod command;
mod contract;
mod error;
pub mod file;
pub mod message;
pub mod sendmail;
mod support;
pub mod target;
pub mod webhook;

use self::target::ChannelType;

pub use self::contract::{Channel, TIMEOUT};
pub use self::error::{ChannelError, ChannelErrorKind};

/// Every type of channel that a configuration may name, in the order in which
/// messages list them. In a rehearsal [`file`] replaces all of them.
pub static CHANNEL_TYPES: &[&ChannelType] = &[&webhook::TYPE, &command::TYPE, &sendmail::TYPE];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerting::channel::file::FileChannelTarget;
    use crate::alerting::channel::sendmail::SendmailChannelTarget;
    use crate::alerting::channel::target::ChannelTarget;

    #[test]
    fn targets_are_the_same_only_with_equal_type_and_options() {
        let file = |path: &str| FileChannelTarget { path: path.into() };
        let mail = SendmailChannelTarget {
            to: vec!["/a".to_owned()],
        };
        let target: &dyn ChannelTarget = &file("/a");
        assert!(target.is_same(&file("/a")));
        assert!(!target.is_same(&file("/b")));
        assert!(!target.is_same(&mail));
    }

    #[test]
    fn sections_are_named_after_their_types() {
        for (number, channel_type) in CHANNEL_TYPES.iter().enumerate() {
            assert_eq!(
                channel_type.options.name,
                format!("notify.{}", channel_type.name)
            );
            let earlier = &CHANNEL_TYPES[..number];
            assert!(
                earlier.iter().all(|other| other.name != channel_type.name),
                "{}",
                channel_type.name
            );
        }
    }
}
