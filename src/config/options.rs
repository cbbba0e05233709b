//! All options, with what they take and mean. The file is checked against them, and
//! the documentation is made from them.

use crate::alerting::channel::CHANNEL_TYPES;
use crate::config_reader::section::Section;
use crate::provider::kind::KEY_KINDS;
use crate::sink::SINK_TYPES;

pub use super::control::{CONTROL, METRICS};
pub use super::key_options::{DEFAULTS, KEY};
pub use super::log::LOG;
pub use super::provider::{LEDGER, PROVIDER};
pub use super::security::SECURITY;
pub use super::top_table::TOP;

/// Lists every section: those of the file, and that of each type of sink, type
/// of channel and kind of key.
#[must_use]
pub fn all_sections() -> Vec<Section> {
    let file = [
        TOP,
        PROVIDER,
        LEDGER,
        CONTROL,
        METRICS,
        LOG,
        SECURITY,
        DEFAULTS,
        KEY,
        crate::sink::target::COMMON_OPTIONS,
        crate::alerting::channel::target::COMMON_OPTIONS,
    ];
    let sinks = SINK_TYPES.iter().map(|sink_type| sink_type.options);
    let channels = CHANNEL_TYPES
        .iter()
        .map(|channel_type| channel_type.options);
    let kinds = KEY_KINDS.iter().map(|kind| kind.options);
    file.into_iter()
        .chain(sinks)
        .chain(channels)
        .chain(kinds)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_reader::suggestion::{RENAMED_OPTIONS, renamed_to};

    #[test]
    fn renamed_options_name_options_that_exist_and_are_none_themselves() {
        let sections = all_sections().into_iter();
        let all: Vec<&str> = sections.flat_map(|section| section.names()).collect();
        for (old, new) in RENAMED_OPTIONS {
            assert_eq!(renamed_to(old, &all), Some(new));
            assert!(!all.contains(&old), "{old}");
            assert_eq!(renamed_to(old, &["path"]), None, "{old}");
        }
        assert_eq!(renamed_to("schedule", &all), None);
    }
}
