//! The names of all options. The file is checked against them, and so are the
//! example and the manual page.

use crate::alerting::channel::CHANNEL_TYPES;
use crate::config_reader::section::{ConfigOption, Section};
use crate::provider::kind::KEY_KINDS;
use crate::sink::SINK_TYPES;

/// The top of the file: the names of its tables.
pub const TOP: Section = Section {
    name: "top",
    options: &[
        ConfigOption::new("provider", "{ max-in-flight = 8 }"),
        ConfigOption::new("ledger", r#"{ path = "/var/lib/rekeyd/ledger.db" }"#),
        ConfigOption::new("control", r#"{ admins = ["ops"] }"#),
        ConfigOption::new("metrics", r#"{ listen = "127.0.0.1:9464" }"#),
        ConfigOption::new("defaults", r#"{ overlap = "24h" }"#),
        ConfigOption::new("key", "{}"),
        ConfigOption::new("notify", "[]"),
    ],
};

/// `[provider]`.
pub const PROVIDER: Section = Section {
    name: "provider",
    options: &[
        ConfigOption::new("base-url", r#""https://api.openai.com/v1""#),
        ConfigOption::new("credential-file", r#""/etc/rekeyd/admin-key""#),
        ConfigOption::new("organization", r#""org-abc123""#),
        ConfigOption::new("ca-file", r#""/etc/rekeyd/ca.pem""#),
        ConfigOption::new("request-timeout", r#""30s""#),
        ConfigOption::new("max-in-flight", "8"),
        ConfigOption::new("reconcile-every", r#""6h""#),
    ],
};

/// `[ledger]`.
pub const LEDGER: Section = Section {
    name: "ledger",
    options: &[ConfigOption::new("path", r#""/var/lib/rekeyd/ledger.db""#)],
};

/// `[control]`.
pub const CONTROL: Section = Section {
    name: "control",
    options: &[
        ConfigOption::new("socket", r#""/run/rekeyd/control.sock""#),
        ConfigOption::new("admins", r#"["ops"]"#),
    ],
};

/// `[metrics]`.
pub const METRICS: Section = Section {
    name: "metrics",
    options: &[ConfigOption::new("listen", r#""127.0.0.1:9464""#)],
};

/// `[defaults]`, and also every key.
pub const DEFAULTS: Section = Section {
    name: "defaults",
    options: &[
        ConfigOption::new("timezone", r#""Europe/Berlin""#),
        ConfigOption::new("jitter", r#""10m""#),
        ConfigOption::new("initial-rotation", r#""scheduled""#),
        ConfigOption::new("catch-up-window", r#""2h""#),
        ConfigOption::new("overlap", r#""24h""#),
        ConfigOption::new("verify-timeout", r#""2m""#),
        ConfigOption::new("verify-interval", r#""2s""#),
        ConfigOption::new("delivery-deadline", r#""1h""#),
        ConfigOption::new("max-creates-per-day", "24"),
        ConfigOption::new("max-live-credentials", "6"),
        ConfigOption::new("expires-after", r#""90d""#),
        ConfigOption::new("revoke-when-idle-for", r#""1h""#),
        ConfigOption::new("max-revoke-delay", r#""7d""#),
    ],
};

/// The options that only `[key.NAME]` has.
pub const KEY: Section = Section {
    name: "key",
    options: &[
        ConfigOption::new("schedule", r#""0 3 * * Mon""#),
        ConfigOption::new("every", r#""30d""#),
        ConfigOption::new("sink", "[]"),
    ],
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
        let all: Vec<&str> = sections.flat_map(|section| section.names()).collect();
        for (old, new) in RENAMED_OPTIONS {
            assert_eq!(renamed_to(old, &all), Some(new));
            assert!(!all.contains(&old), "{old}");
            assert_eq!(renamed_to(old, &["path"]), None, "{old}");
        }
        assert_eq!(renamed_to("schedule", &all), None);
    }
}
