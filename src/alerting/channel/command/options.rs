//! Reads the options of `[[notify]]` with `type = "command"`.

use crate::config_reader::command_line::read_command_line;
use crate::config_reader::files::NamedFiles;
use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::{ConfigOption, Section, ValueType};
use crate::core::command::CommandLine;

/// The options that only a command has.
pub(super) const OPTIONS: Section = Section {
    name: "notify.command",
    about: "A program that reads the JSON from its standard input.",
    options: &[ConfigOption::new(
        "argv",
        ValueType::CommandLine,
        r#"["/usr/local/bin/page-someone"]"#,
        "The program, by its absolute path, and its arguments.",
    )
    .required()],
};

/// The checked options of `[[notify]]` with `type = "command"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandChannelTarget {
    /// The program and its arguments.
    pub argv: CommandLine,
}

/// Reads the program that `table` names.
pub(super) fn read(
    table: &ConfigTable<'_>,
    files: &mut NamedFiles,
    report: &mut ProblemReport,
) -> Option<CommandChannelTarget> {
    let Some(value) = table.get(OPTIONS, "argv") else {
        let purpose = "a program that reads the notification from its standard input";
        report.add_missing_option(&table.location, OPTIONS, "argv", purpose);
        return None;
    };
    let argv = read_command_line(&value, report)?;
    // A file sink that replaced the program would have its secret executed.
    files.add_program("argv", argv.path().to_owned());
    Some(CommandChannelTarget { argv })
}
