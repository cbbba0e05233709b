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
        let hint = "a program by its path from the root, and its arguments, are allowed";
        report.add_problem(&value.location, "names no program", hint);
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
            "this looks like a secret",
            "no secret may stand in this file: the new one comes on the command's standard \
             input, and others are named by their file",
        );
        return None;
    }
    if text.contains('\0') {
        let hint = "no program can be given one";
        report.add_problem(&value.location, "has a NUL character", hint);
        return None;
    }
    Some(text.to_owned())
}
