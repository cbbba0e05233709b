//! Reads the options of a sink with `type = "command"`.

use crate::config_reader::command_line::read_command_line;
use crate::config_reader::files::NamedFiles;
use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::{ConfigOption, Section, ValueType};
use crate::core::command::CommandLine;

/// The options that only a command sink has.
pub(super) const OPTIONS: Section = Section {
    name: "sink.command",
    about: "A program that reads the secret and a newline from its standard input. It exits with 0 \
            if it accepted the secret, and with 75 if it did not and rekeyd should run it again \
            later. After any other code it may have accepted the secret, and rekeyd runs it again.",
    options: &[ConfigOption::new(
        "argv",
        ValueType::CommandLine,
        r#"["/usr/local/bin/put-secret", "billing"]"#,
        "The program, by its absolute path, and its arguments: there is no shell.",
    )
    .required()
    .with_details(
        "Its environment is `PATH`, `LANG`, `REKEYD_KEY`, `REKEYD_ROTATION`, `REKEYD_SEQUENCE`, \
         `REKEYD_SINK` and `REKEYD_CREDENTIAL_ID`, and nothing else.",
    )],
};

/// The checked options of a sink with `type = "command"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandTarget {
    /// The program and its arguments.
    pub argv: CommandLine,
}

/// Reads the program that the sink in `table` runs.
pub(super) fn read(
    table: &ConfigTable<'_>,
    files: &mut NamedFiles,
    report: &mut ProblemReport,
) -> Option<CommandTarget> {
    let Some(value) = table.get(OPTIONS, "argv") else {
        let purpose = "a program that reads the secret from its standard input";
        report.add_missing_option(&table.location, OPTIONS, "argv", purpose);
        return None;
    };
    let argv = read_command_line(&value, report)?;
    // A file sink that replaced the program would have its secret executed.
    files.add_program("argv", argv.path().to_owned());
    Some(CommandTarget { argv })
}
