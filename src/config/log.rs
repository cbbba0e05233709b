//! `[log]`.

use super::settings::LogSettings;
use super::top_table::TOP;
use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::{ConfigOption, Section, ValueType};
use crate::config_reader::values;
use crate::platform::log::filter::LogFilter;
use crate::platform::log::format::LogFormat;

/// `[log]`.
pub const LOG: Section = Section {
    name: "log",
    about: "What `rekeyd run` and `rekeyd once` log.",
    options: &[
        ConfigOption::new(
            "level",
            ValueType::Text("^.+$"),
            r#""info,engine=debug""#,
            "The least important level that is logged: `error`, `warn`, `info`, `debug` or \
             `trace`, also for single modules.",
        )
        .or(r#""info""#)
        .with_details(
            "`--log-level` and `REKEYD_LOG` count before it, and `rekeyd log-level` replaces it \
             in the running daemon.",
        ),
        ConfigOption::new(
            "format",
            ValueType::Choice(&LogFormat::NAMES),
            r#""json""#,
            "The form of the log. It is read at the start alone; `--log-format` counts before it.",
        )
        .or(r#""auto""#),
    ],
};

/// Reads `[log]`.
pub(super) fn read_log(top: &ConfigTable<'_>, report: &mut ProblemReport) -> LogSettings {
    let table = top.subtable(TOP, "log", report);
    table.reject_unknown(&[LOG], report);
    let format = table.get(LOG, "format");
    let format = format.and_then(|value| values::read_choice(&value, report));
    LogSettings {
        level: read_level(&table, report),
        format: format.and_then(LogFormat::from_text).unwrap_or_default(),
    }
}

fn read_level(table: &ConfigTable<'_>, report: &mut ProblemReport) -> Option<LogFilter> {
    let value = table.get(LOG, "level")?;
    match value.text(report)?.parse::<LogFilter>() {
        Ok(filter) => Some(filter),
        Err(error) => {
            report.add_problem(&value.location, error.to_string(), error.hint());
            None
        }
    }
}
