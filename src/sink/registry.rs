//! The types of sink.

use std::path::PathBuf;

use super::target::SinkType;
use super::{command, file, self_credential, webhook};

/// Every type of sink, one line each, in the order in which messages list them.
pub static SINK_TYPES: [&SinkType; 4] = [
    &file::TYPE,
    &webhook::TYPE,
    &command::TYPE,
    &self_credential::TYPE,
];

/// The path in the text of the target of a sink that is no longer configured,
/// if it replaced a file: only the ledger knows that sink.
#[must_use]
pub fn replaced_path(target_text: &str) -> Option<PathBuf> {
    let (name, identity) = target_text.split_once(':')?;
    let kind = SINK_TYPES.iter().find(|one| one.name == name)?;
    kind.replaces_file.then(|| PathBuf::from(identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_targets_that_are_files_have_a_path() {
        for (text, expected) in [
            ("file:/etc/a:b", Some("/etc/a:b")),
            ("self:/etc/rekeyd/key", Some("/etc/rekeyd/key")),
            ("command:/bin/put", None),
            ("webhook:https://host/path", None),
            ("removed-type:/etc/key", None),
            ("/etc/key", None),
        ] {
            assert_eq!(replaced_path(text), expected.map(PathBuf::from), "{text}");
        }
    }
}
