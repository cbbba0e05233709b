//! `[security]`.

use std::path::PathBuf;

use super::top_table::TOP;
use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::{ConfigOption, Section, ValueType};
use crate::config_reader::values;

/// `[security]`.
pub const SECURITY: Section = Section {
    name: "security",
    about: "Exceptions from what rekeyd requires of this host.",
    options: &[ConfigOption::new(
        "trusted-paths",
        ValueType::Texts("^/"),
        r#"["/srv/app"]"#,
        "Folders, links and files that rekeyd uses although other users own them or can write to \
         them. Each of these users can then read and replace what is below.",
    )
    .or("[]")
    .with_details(
        "Each path is that of the one part that `rekeyd check` names, without symbolic links; \
         what is below it is still checked.",
    )],
};

/// Reads the paths that are allowed as they are.
pub(super) fn read_trusted_paths(
    top: &ConfigTable<'_>,
    report: &mut ProblemReport,
) -> Vec<PathBuf> {
    let table = top.subtable(TOP, "security", report);
    table.reject_unknown(&[SECURITY], report);
    let Some(value) = table.get(SECURITY, "trusted-paths") else {
        return Vec::new();
    };
    let items = value.text_items(report).unwrap_or_default();
    let paths = items.iter().filter_map(|item| {
        // The root is none that others could own.
        values::read_path(item, report)
    });
    paths.collect()
}
