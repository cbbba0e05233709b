//! The top of the file.

use crate::config_reader::section::{ConfigOption, Section, ValueType};

/// The top of the file: the names of its tables.
pub const TOP: Section = Section {
    name: "top",
    about: "",
    options: &[
        ConfigOption::new("provider", ValueType::Table, "{ max-in-flight = 8 }", ""),
        ConfigOption::new(
            "ledger",
            ValueType::Table,
            r#"{ path = "/var/lib/rekeyd/ledger.db" }"#,
            "",
        ),
        ConfigOption::new("control", ValueType::Table, r#"{ admins = ["ops"] }"#, ""),
        ConfigOption::new(
            "metrics",
            ValueType::Table,
            r#"{ listen = "127.0.0.1:9464" }"#,
            "",
        ),
        ConfigOption::new("log", ValueType::Table, r#"{ level = "debug" }"#, ""),
        ConfigOption::new(
            "security",
            ValueType::Table,
            r#"{ trusted-paths = ["/srv/app"] }"#,
            "",
        ),
        ConfigOption::new("defaults", ValueType::Table, r#"{ overlap = "24h" }"#, ""),
        ConfigOption::new("key", ValueType::Table, "{}", ""),
        ConfigOption::new("notify", ValueType::Tables, "[]", ""),
    ],
};
