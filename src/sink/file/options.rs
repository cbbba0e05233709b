//! Reads the options of a sink with `type = "file"`.

use std::path::PathBuf;

use super::settings::{DEFAULT_MODE, FileFormat, FileTarget, OnChange, WriteMode};
use super::temp_name;
use crate::config_reader::command_line::read_command_line;
use crate::config_reader::files::NamedFiles;
use crate::config_reader::reader::{ConfigTable, ConfigValue};
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::{ConfigOption, DefaultValue, Section, ValueType};
use crate::config_reader::values::{self, DEFAULT_TIMEOUT, timeout_option};
use crate::core::variable_name::is_variable_name;

/// The options that only a file sink has.
pub(super) const OPTIONS: Section = Section {
    name: "sink.file",
    about: "A file on this host, replaced as a whole.",
    options: &[
        ConfigOption::new(
            "path",
            ValueType::Path,
            r#""/etc/billing/openai.key""#,
            "The file. Its folder must exist. The folders on its path must belong to root, rekeyd's \
             user or the user who gets the file, and nobody else may be able to write to them.",
        )
        .required()
        .with_details(
            "Let the group only read the folder, with mode 2750. rekeyd refuses a symbolic link. A \
             link on the path to the folder must belong to root or rekeyd's user. \
             `trusted-paths` in `[security]` allows exceptions. If the folder is replaced while rekeyd runs, rekeyd does not \
             write to a new one that belongs to another user, or in which the path leads to a file \
             of rekeyd's own or of another sink; a reload accepts the new owner. Under systemd the \
             unit needs the folder in `ReadWritePaths=`, and rekeyd refuses places that are \
             private to the service, such as /tmp and /home.",
        ),
        ConfigOption::new(
            "write",
            ValueType::Choice(&["replace", "in-place"]),
            r#""in-place""#,
            "How the file gets new content. `\"replace\"`: rekeyd moves a new file over the \
             current one, and every reader sees the whole old or the whole new content. \
             `\"in-place\"`: rekeyd writes to the current file, for a file that cannot be \
             replaced, such as one that is mounted into a container; a reader may see a mixture of \
             old and new, and a crash may leave one.",
        )
        .or(r#""replace""#)
        .with_details(
            "With `\"replace\"`, the new file keeps the owner, group, access control list and \
             extended attributes of the current one. rekeyd syncs the file and its folder, except \
             a folder that its file system cannot sync (CIFS, some FUSE file systems). Before it \
             creates a credential, it refuses a file system that cannot store the owner, group or \
             mode of the file (vfat, CIFS).",
        ),
        ConfigOption::new(
            "format",
            ValueType::Choice(&["raw", "env", "json"]),
            r#""env""#,
            "The content of the file. `\"raw\"`: the secret and a newline. `\"env\"`: \
             `VARIABLE=secret` and a newline. `\"json\"`: an object with the secret and facts \
             about its credential.",
        )
        .or(r#""raw""#)
        .with_details(
            "The object has `key`, `credential_id`, `created_at`, `expires_at`, \
             `redacted_value`, `sequence` and `value`.",
        ),
        ConfigOption::new(
            "variable",
            ValueType::Text("^[A-Za-z_][A-Za-z0-9_]*$"),
            r#""OPENAI_ADMIN_KEY""#,
            "The variable of `format = \"env\"`.",
        )
        .or(r#""OPENAI_ADMIN_KEY""#)
        .only_with("format", Some("env")),
        ConfigOption::new(
            "mode",
            ValueType::Text("^0?[46][0246]0$"),
            r#""0640""#,
            "The permissions of the owner and the group, as octal digits in quotes. Other users \
             have none.",
        )
        .or(r#""0600""#),
        ConfigOption::new(
            "owner",
            values::ACCOUNT,
            r#""billing""#,
            "The user that owns the file, by name or number. Setting it needs privileges. Without \
             this option, rekeyd does not replace a file whose owner would lose access to it, and \
             `rekeyd check` reports that.",
        )
        .with_default(DefaultValue::Described("unchanged"))
        .with_details("Under systemd the drop-in `owner.conf` grants the privileges."),
        ConfigOption::new(
            "group",
            values::ACCOUNT,
            r#""billing""#,
            "The group of the file, by name or number. Setting it needs privileges, except for a \
             group that rekeyd's user is in; a folder with the setgid bit passes on its group \
             without any. Without this option, rekeyd does not replace a file whose group would \
             lose access to it.",
        )
        .with_default(DefaultValue::Described("unchanged")),
        ConfigOption::new(
            "on-change",
            ValueType::CommandLine,
            r#"["/usr/bin/systemctl", "reload", "billing"]"#,
            "A program, by its absolute path, and its arguments, to run after the file has \
             changed: for consumers that do not watch their file. rekeyd runs it again until it \
             exits with 0, even after a restart, and the previous credential stays alive until \
             then. It receives no secret.",
        ),
        timeout_option("on-change-timeout", "The time limit of one run.")
            .only_with("on-change", None),
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
        files.add_program("on-change", program);
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
    if path.file_name().is_some_and(temp_name::is_temp_name) {
        let message = "the name has the form of a temporary file, which rekeyd removes";
        report.add_problem(&value.location, message, "use another name");
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
    let owner = get("owner").and_then(|value| values::read_account(&value, report));
    let group = get("group").and_then(|value| values::read_account(&value, report));
    let on_change = read_on_change(table, report);
    Some(FileTarget {
        path: path?,
        write: write?,
        format: format?,
        mode: mode?,
        has_mode_option: get("mode").is_some(),
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
        Some(value) => values::read_duration(&value, report),
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
    Some(match values::read_choice(&value, report)? {
        "in-place" => WriteMode::InPlace,
        _ => WriteMode::Replace,
    })
}

fn read_format(table: &ConfigTable<'_>, report: &mut ProblemReport) -> Option<FileFormat> {
    let format = match table.get(OPTIONS, "format") {
        Some(value) => values::read_choice(&value, report)?,
        None => "raw",
    };
    let variable = table.get(OPTIONS, "variable");
    if format == "env" {
        let variable = match variable {
            Some(value) => read_variable_name(&value, report)?,
            None => DEFAULT_VARIABLE.to_owned(),
        };
        return Some(FileFormat::Env { variable });
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
    let message = "not a valid variable name";
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
            let hint = value.expected("an octal mode");
            report.add_problem(&value.location, "not a valid mode", hint);
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
    report.add_problem(&value.location, problem, hint);
    None
}
