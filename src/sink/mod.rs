//! Sinks: the receivers of new secrets.
//!
//! [`Sink`] is the contract with the engine. A type of sink is a folder here
//! with its options, its target's identity, its rehearsal and its behaviour
//! ([`target::SinkTarget`]), and a line in [`SINK_TYPES`].

pub mod command;
mod contract;
pub(crate) mod drift;
mod error;
pub mod file;
pub(crate) mod inspection;
// docs/development/adding-a-sink.md has this source, which therefore has to compile.
#[cfg(test)]
#[path = "../../tests/docs/null_sink.rs"]
pub mod null;
mod program_log;
pub mod protected_files;
pub mod recording;
pub mod self_credential;
pub mod target;
mod target_content;
pub mod webhook;

use std::path::PathBuf;

use self::target::SinkType;
use crate::core::state::FileNote;

pub use self::contract::{
    AccessReport, BlockingAccessCheck, BlockingDriftCheck, BlockingInspection, DeliveredPayload,
    Destination, Payload, ReplacedCredential, Sink,
};
pub use self::error::{
    Acceptance, DeliveryError, Drift, DriftKind, SinkError, SinkProblem, SinkProblemKind,
};

pub use self::target_content::{TargetContent, UnseenCause};

/// Every type of sink, in the order in which messages list them.
pub static SINK_TYPES: &[&SinkType] = &[
    &file::TYPE,
    &webhook::TYPE,
    &command::TYPE,
    &self_credential::TYPE,
];

/// Returns the path in the text of a target that replaces a file. For sinks
/// that are no longer configured, the ledger holds nothing but this text.
#[must_use]
pub fn replaced_path(target_text: &str) -> Option<PathBuf> {
    let (name, identity) = target_text.split_once(':')?;
    let kind = SINK_TYPES.iter().find(|sink_type| sink_type.name == name)?;
    let path = kind.replaces_file.then(|| PathBuf::from(identity));
    path.filter(|path| path.is_absolute())
}

/// Returns the keys in the file of a target that is no longer configured, if that is the
/// file that a delivery left, unchanged.
pub async fn read_noted_target(target_text: &str, note: FileNote) -> TargetContent {
    match target_text.split_once(':') {
        Some((name, path)) if name == file::TYPE.name => {
            file::read_noted_path(PathBuf::from(path), note).await
        }
        Some(_) | None => TargetContent::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_named_after_their_types() {
        let example = &null::TYPE;
        assert_eq!(example.options.name, format!("sink.{}", example.name));
        for (number, sink_type) in SINK_TYPES.iter().enumerate() {
            assert_eq!(sink_type.options.name, format!("sink.{}", sink_type.name));
            let earlier = &SINK_TYPES[..number];
            assert!(
                earlier.iter().all(|other| other.name != sink_type.name),
                "{}",
                sink_type.name
            );
        }
    }

    #[test]
    fn only_targets_that_are_files_have_a_path() {
        for (text, expected) in [
            ("file:/etc/a:b", Some("/etc/a:b")),
            ("self:/etc/rekeyd/key", Some("/etc/rekeyd/key")),
            ("command:/bin/put", None),
            ("webhook:https://host/path", None),
            ("removed-type:/etc/key", None),
            ("/etc/key", None),
            ("file:etc/key", None),
            ("file:", None),
            ("file", None),
            ("FILE:/etc/key", None),
            (" file:/etc/key", None),
            ("", None),
        ] {
            assert_eq!(replaced_path(text), expected.map(PathBuf::from), "{text}");
        }
    }
}
