//! How notifications reach people: by a webhook, a command, a mail.
//!
//! Every channel gets the same JSON ([`message`]). A type of channel is a
//! folder here with its options, its target's identity and its behaviour
//! ([`target::ChannelTarget`]), and a line in [`CHANNEL_TYPES`]. Deliberately
//! not here: what is sent to whom, and when it is tried again.

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

/// Every type of channel that a configuration may name, one line each, in the
/// order in which messages list them. [`file`] stands in for all of them
/// in a rehearsal.
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
        let one: &dyn ChannelTarget = &file("/a");
        assert!(one.is_same(&file("/a")));
        assert!(!one.is_same(&file("/b")));
        assert!(!one.is_same(&mail));
    }

    #[test]
    fn sections_are_named_after_their_types() {
        for (number, one) in CHANNEL_TYPES.iter().enumerate() {
            assert_eq!(one.options.name, format!("notify.{}", one.name));
            let before = &CHANNEL_TYPES[..number];
            assert!(
                before.iter().all(|other| other.name != one.name),
                "{}",
                one.name
            );
        }
    }
}
