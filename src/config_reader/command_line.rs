//! A program and its arguments, as an option contains them.

use super::quote::is_secret_like;
use super::reader::ConfigValue;
use super::report::ProblemReport;
use super::values;
use crate::core::command::CommandLine;

/// Reads a program and its arguments as a list. A line for a shell is refused.
pub(crate) fn read_command_line(
    value: &ConfigValue<'_>,
    report: &mut ProblemReport,
) -> Option<CommandLine> {
    let items = value.text_items(report)?;
    let Some((program, arguments)) = items.split_first() else {
        let message = value.expected("a program and its arguments");
        report.add_problem(&value.location, message, "");
        return None;
    };
    let program = values::read_path(program, report);
    let arguments: Vec<_> = arguments
        .iter()
        .map(|value| read_argument(value, report))
        .collect();
    Some(CommandLine {
        program: program?.into_os_string().into_string().ok()?,
        arguments: arguments.into_iter().collect::<Option<_>>()?,
    })
}

/// Reads one argument. Refuses a secret, since every user of the host can see
/// the arguments of a program.
fn read_argument(value: &ConfigValue<'_>, report: &mut ProblemReport) -> Option<String> {
    let text = value.text(report)?;
    if is_secret_like(text) && !text.starts_with('/') {
        report.add_problem(
            &value.location,
            "looks like a secret, and every user of this host can see arguments",
            "write the secret to a file, and pass the path of the file",
        );
        return None;
    }
    if text.contains('\0') {
        let message = "contains a NUL character, which no argument can have";
        report.add_problem(&value.location, message, "remove it");
        return None;
    }
    Some(text.to_owned())
}
