//! The names of all options. The file is checked against them, and so are the
//! example and the manual page.

use crate::alerting::channel::CHANNEL_TYPES;
use crate::config_reader::section::Section;
use crate::provider::kind::KEY_KINDS;
use crate::sink::SINK_TYPES;

/// The top of the file: the names of its tables.
pub const TOP: Section = Section {
    name: "top",
    options: &[
        "provider", "ledger", "control", "metrics", "defaults", "key", "notify",
    ],
};

/// `[provider]`.
pub const PROVIDER: Section = Section {
    name: "provider",
    options: &[
        "base-url",
        "credential-file",
        "organization",
        "ca-file",
        "request-timeout",
        "max-in-flight",
        "reconcile-every",
    ],
};

/// `[ledger]`.
pub const LEDGER: Section = Section {
    name: "ledger",
    options: &["path"],
};

/// `[control]`.
pub const CONTROL: Section = Section {
    name: "control",
    options: &["socket", "admins"],
};

/// `[metrics]`.
pub const METRICS: Section = Section {
    name: "metrics",
    options: &["listen"],
};

/// `[defaults]`, and also every key.
pub const DEFAULTS: Section = Section {
    name: "defaults",
    options: &[
        "timezone",
        "jitter",
        "initial-rotation",
        "catch-up-window",
        "overlap",
        "verify-timeout",
        "verify-interval",
        "delivery-deadline",
        "max-creates-per-day",
        "max-live-credentials",
        "expires-after",
        "revoke-when-idle-for",
        "max-revoke-delay",
    ],
};

/// The options that only `[key.NAME]` has.
pub const KEY: Section = Section {
    name: "key",
    options: &["schedule", "every", "sink"],
};

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
        let all: Vec<&str> = sections
            .flat_map(|section| section.options)
            .copied()
            .collect();
        for (old, new) in RENAMED_OPTIONS {
            assert_eq!(renamed_to(old, &all), Some(new));
            assert!(!all.contains(&old), "{old}");
            assert_eq!(renamed_to(old, &["path"]), None, "{old}");
        }
        assert_eq!(renamed_to("schedule", &all), None);
    }
}
