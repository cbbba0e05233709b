//! The options of a sink with `type = "command"`.

use super::options::Section;
use super::quote::looks_secret;
use super::reader::{Table, Value};
use super::report::Report;
use super::values;
use crate::core::command::CommandLine;
use crate::core::settings::CommandTarget;

/// Reads what the sink in `table` runs.
pub(super) fn target(table: &Table<'_>, report: &mut Report) -> Option<CommandTarget> {
    let Some(value) = table.get(Section::Command, "argv") else {
        let hint = "add argv = [\"/…\"], the program that reads the secret from its standard input";
        report.missing(&table.place, "has no argv", hint);
        return None;
    };
    let argv = command_line(&value, report)?;
    Some(CommandTarget { argv })
}

/// A program and its arguments, one by one: never a line for a shell.
pub(super) fn command_line(value: &Value<'_>, report: &mut Report) -> Option<CommandLine> {
    let items = value.list_of_text(report)?;
    let Some((program, arguments)) = items.split_first() else {
        let hint = "a program by its path from the root, and its arguments, are allowed";
        report.wrong(&value.place, "names no program", hint);
        return None;
    };
    let program = values::path(program, report);
    let arguments: Vec<_> = arguments
        .iter()
        .map(|value| argument(value, report))
        .collect();
    Some(CommandLine {
        program: program?.into_os_string().into_string().ok()?,
        arguments: arguments.into_iter().collect::<Option<_>>()?,
    })
}

/// The arguments of a program can be seen by everybody on the host.
fn argument(value: &Value<'_>, report: &mut Report) -> Option<String> {
    let text = value.text(report)?;
    if looks_secret(text) && !text.starts_with('/') {
        report.wrong(
            &value.place,
            "this looks like a secret",
            "no secret may stand in this file: the new one comes on the command's standard \
             input, and others are named by their file",
        );
        return None;
    }
    if text.contains('\0') {
        let hint = "no program can be given one";
        report.wrong(&value.place, "has a NUL character", hint);
        return None;
    }
    Some(text.to_owned())
}
