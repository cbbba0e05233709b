//! Reads the options of a sink with `type = "file"`.

use std::path::PathBuf;

use super::settings::{DEFAULT_MODE, FileFormat, FileTarget, OnChange, WriteMode};
use crate::config_reader::command_line::read_command_line;
use crate::config_reader::files::NamedFiles;
use crate::config_reader::quote::{expected_one_of, quoted};
use crate::config_reader::reader::{ConfigTable, ConfigValue};
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::{ConfigOption, Section};
use crate::config_reader::values::{self, DEFAULT_TIMEOUT, MAX_TIMEOUT, MIN_TIMEOUT};
use crate::core::variable_name::is_variable_name;

/// The options that only a file sink has.
pub(super) const OPTIONS: Section = Section {
    name: "sink.file",
    options: &[
        ConfigOption::new("path", r#""/etc/billing/openai.key""#),
        ConfigOption::new("write", r#""in-place""#),
        ConfigOption::new("format", r#""env""#),
        ConfigOption::new("variable", r#""OPENAI_ADMIN_KEY""#),
        ConfigOption::new("mode", r#""0640""#),
        ConfigOption::new("owner", r#""billing""#),
        ConfigOption::new("group", r#""billing""#),
        ConfigOption::new(
            "on-change",
            r#"["/usr/bin/systemctl", "reload", "billing"]"#,
        ),
        ConfigOption::new("on-change-timeout", r#""30s""#),
    ],
};

/// The default variable of `format = "env"`.
const DEFAULT_VARIABLE: &str = "OPENAI_ADMIN_KEY";

/// Reads the options of the file that the sink in `table` replaces.
pub(super) fn read(
    table: &ConfigTable<'_>,
    files: &mut NamedFiles,
    report: &mut ProblemReport,
) -> Option<FileTarget> {
    let path = read_path(table, report);
    if let Some(path) = &path {
        files.written = Some((path.clone(), table.location_of(OPTIONS, "path")));
    }
    let target = read_target(table, path, report)?;
    if let Some(on_change) = &target.on_change {
        let program = on_change.argv.path().to_owned();
        files.read_only.push(("on-change", program));
    }
    Some(target)
}

/// Reads the path of the file that the sink in `table` replaces. Refuses a path
/// with `..`, which may lead elsewhere behind a symbolic link, so that two
/// claims of one file could not be compared.
fn read_path(table: &ConfigTable<'_>, report: &mut ProblemReport) -> Option<PathBuf> {
    let Some(value) = table.get(OPTIONS, "path") else {
        report.add_missing_option(&table.location, OPTIONS, "path", "the file to write");
        return None;
    };
    let path = values::read_path(&value, report)?;
    if values::has_parent_component(&path) {
        let message = "the path contains `..`";
        report.add_problem(&value.location, message, "use a path without it");
        return None;
    }
    Some(path)
}

/// Reads the options of the sink's file besides its path.
fn read_target(
    table: &ConfigTable<'_>,
    path: Option<PathBuf>,
    report: &mut ProblemReport,
) -> Option<FileTarget> {
    let get = |name| table.get(OPTIONS, name);
    let write = read_write_mode(table, report);
    let format = read_format(table, report);
    let mode = match get("mode") {
        Some(value) => read_mode(&value, report),
        None => Some(DEFAULT_MODE),
    };
    let owner = get("owner").and_then(|value| read_account(&value, report));
    let group = get("group").and_then(|value| read_account(&value, report));
    let on_change = read_on_change(table, report);
    Some(FileTarget {
        path: path?,
        write: write?,
        format: format?,
        mode: mode?,
        owner,
        group,
        on_change: on_change?,
    })
}

/// Reads the program that runs after the file was replaced. Returns
/// `Some(None)` without one, and `None` after a problem.
fn read_on_change(
    table: &ConfigTable<'_>,
    report: &mut ProblemReport,
) -> Option<Option<Box<OnChange>>> {
    let get = |name| table.get(OPTIONS, name);
    let timeout = match get("on-change-timeout") {
        Some(value) if get("on-change").is_none() => {
            let message = "has no effect without `on-change`";
            report.add_problem(&value.location, message, "add `on-change`, or remove it");
            return None;
        }
        Some(value) => values::read_duration(&value, MIN_TIMEOUT, MAX_TIMEOUT, report),
        None => Some(DEFAULT_TIMEOUT),
    };
    let Some(argv) = get("on-change") else {
        return Some(None);
    };
    let argv = read_command_line(&argv, report)?;
    let timeout = timeout?;
    Some(Some(Box::new(OnChange { argv, timeout })))
}

fn read_write_mode(table: &ConfigTable<'_>, report: &mut ProblemReport) -> Option<WriteMode> {
    let Some(value) = table.get(OPTIONS, "write") else {
        return Some(WriteMode::Replace);
    };
    match value.text(report)? {
        "replace" => Some(WriteMode::Replace),
        "in-place" => Some(WriteMode::InPlace),
        other => {
            let message = format!("unknown value {}", quoted(other));
            let hint = expected_one_of(["replace", "in-place"].into_iter());
            report.add_problem(&value.location, message, hint);
            None
        }
    }
}

fn read_format(table: &ConfigTable<'_>, report: &mut ProblemReport) -> Option<FileFormat> {
    let format_option = table.get(OPTIONS, "format");
    let format = match &format_option {
        Some(value) => value.text(report)?,
        None => "raw",
    };
    let variable = table.get(OPTIONS, "variable");
    match format {
        "env" => {
            let variable = match variable {
                Some(value) => read_variable_name(&value, report)?,
                None => DEFAULT_VARIABLE.to_owned(),
            };
            return Some(FileFormat::Env { variable });
        }
        "raw" | "json" => {}
        other => {
            let location = format_option
                .as_ref()
                .map_or(&table.location, |value| &value.location);
            let message = format!("unknown format {}", quoted(other));
            let hint = expected_one_of(["raw", "env", "json"].into_iter());
            report.add_problem(location, message, hint);
            return None;
        }
    }
    if let Some(value) = variable {
        let message = format!("has no effect with format = \"{format}\"");
        report.add_problem(
            &value.location,
            message,
            "remove it, or set format = \"env\"",
        );
    }
    Some(if format == "json" {
        FileFormat::Json
    } else {
        FileFormat::Raw
    })
}

fn read_variable_name(value: &ConfigValue<'_>, report: &mut ProblemReport) -> Option<String> {
    let text = value.text(report)?;
    if is_variable_name(text) {
        return Some(text.to_owned());
    }
    let message = format!("{} is not a valid variable name", quoted(text));
    let hint = "use letters, digits and `_`, and do not begin with a digit";
    report.add_problem(&value.location, message, hint);
    None
}

fn read_mode(value: &ConfigValue<'_>, report: &mut ProblemReport) -> Option<u32> {
    let text = value.text(report)?;
    let is_octal = matches!(text.len(), 3 | 4) && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let bits = u32::from_str_radix(text, 8).ok().filter(|_| is_octal);
    let problem = match bits {
        None => {
            let message = format!("{} is not a valid mode", quoted(text));
            let hint = value.expected("an octal mode");
            report.add_problem(&value.location, message, hint);
            return None;
        }
        Some(bits) if bits & 0o7000 != 0 => "sets a setuid, setgid or sticky bit",
        // A secret that every user can read is no secret.
        Some(bits) if bits & 0o007 != 0 => "gives every user of this host access to the secret",
        Some(bits) if bits & 0o110 != 0 => "makes the file executable",
        Some(bits) if bits & 0o400 == 0 => "does not let the owner read the file",
        Some(bits) => return Some(bits),
    };
    let hint = "use mode = \"0640\" or mode = \"0600\"";
    report.add_problem(&value.location, format!("{} {problem}", quoted(text)), hint);
    None
}

/// Reads a user or group, by name or number.
/// [`Sink::check`](crate::sink::Sink::check) checks whether the account
/// exists.
fn read_account(value: &ConfigValue<'_>, report: &mut ProblemReport) -> Option<String> {
    let text = value.text(report)?;
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b':' | b'/');
    if !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_allowed) {
        return Some(text.to_owned());
    }
    let message = format!("{} is not a valid user or group", quoted(text));
    let hint = value.expected("a name or a number");
    report.add_problem(&value.location, message, hint);
    None
}
