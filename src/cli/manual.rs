//! `rekeyd man`: the manual pages, with the sections that the command line does not
//! describe itself. The book shows the same tables.

use std::io::Write;

use clap::error::ErrorKind;
use clap_mangen::Man;

use crate::cli::failure::Failure;
use crate::cli::output;

/// What the foot of each page names.
const SOURCE: &str = concat!("rekeyd ", env!("CARGO_PKG_VERSION"));

/// The width of a line in the source of a page.
const WIDTH: usize = 80;

/// The exit codes, each with its meaning in Markdown.
pub const EXIT_STATUS: [(&str, &str); 5] = [
    ("0", "Done."),
    (
        "1",
        "Failed. `status`: a key is failing or overdue, there is a problem that concerns all keys, \
         credentials that are not in the ledger look like rekeyd's, or the daemon is not running \
         and `rekeyd once` did not run last. `audit`: the ledger and the provider disagree, there are such \
         credentials, or a key that is neither configured nor retired has a live one.",
    ),
    ("2", "Wrong use of the command line."),
    ("75", "Another process holds the ledger. Try again later."),
    ("78", "Wrong configuration. Correct it."),
];

/// The variables of the environment, each with its meaning in Markdown.
pub const ENVIRONMENT: [(&str, &str); 7] = [
    (
        "REKEYD_CONFIG",
        "The configuration file, unless `--config` names one.",
    ),
    (
        "REKEYD_LOG",
        "The level of the log, unless `--log-level` sets it.",
    ),
    (
        "OPENAI_ADMIN_KEY",
        "rekeyd's own admin key, for rehearsals. rekeyd tries it after `credential-file` and \
         systemd's credential.",
    ),
    (
        "CREDENTIALS_DIRECTORY",
        "Set by systemd: the folder with the credential `openai-admin-key`.",
    ),
    (
        "STATE_DIRECTORY",
        "Set by systemd: the folder of the ledger, unless the configuration names one.",
    ),
    (
        "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY",
        "The proxy for requests, and the hosts without one. Requests to this host use none.",
    ),
    (
        "NO_COLOR, TERM",
        "No colours if `NO_COLOR` is set, or if `TERM` is `dumb`.",
    ),
];

/// The files, each with its meaning in Markdown.
const FILES: [(&str, &str); 9] = [
    ("/etc/rekeyd/config.toml", "The configuration."),
    (
        "/var/lib/rekeyd/ledger.db",
        "The ledger: one SQLite file, which any SQLite tool can read.",
    ),
    (
        "/var/lib/rekeyd/last-crash",
        "The end of an earlier rekeyd by an error in its own program, until the next start reports \
         it.",
    ),
    (
        "/var/cache/rekeyd/ledger.db",
        "A copy of the ledger for the group `rekeyd`, which reads it while no rekeyd runs.",
    ),
    ("/run/rekeyd/control.sock", "The control socket."),
    (
        "/etc/credstore/openai-admin-key",
        "rekeyd's own admin key, which systemd gives to the service.",
    ),
    (
        "/usr/share/rekeyd/schemas",
        "JSON Schemas of the configuration, of notifications, of webhooks and of the output of \
         commands.",
    ),
    (
        "/usr/share/doc/rekeyd/docs",
        "The documentation: a book whose contents are in `SUMMARY.md`.",
    ),
    (
        "/usr/share/doc/rekeyd/examples",
        "An example of every option, drop-ins for the units, and alert rules.",
    ),
];

/// Commands that show the program at work, each with what it does.
pub const EXAMPLES: [(&str, &str); 5] = [
    ("rekeyd demo", "Shows rekeyd at work, without an account."),
    (
        "rekeyd check --online",
        "Prints every problem of the configuration, and tries the provider and the sinks.",
    ),
    (
        "rekeyd rotate billing --reason \"left a laptop on a train\"",
        "Rotates a key now, and waits until it is delivered.",
    ),
    (
        "rekeyd history billing --since 30d --json",
        "Lists the rotations of a key in the last thirty days.",
    ),
    (
        "rekeyd hold key_abc123 --until 7d",
        "Keeps a credential from being revoked for a week.",
    ),
];

/// The commands that are explained together with a command.
const RELATED: [(&str, &[&str]); 21] = [
    ("run", &["once", "reload", "status"]),
    ("once", &["run"]),
    ("check", &["reload"]),
    ("rotate", &["revoke", "history"]),
    ("revoke", &["rotate", "audit"]),
    ("hold", &["release"]),
    ("release", &["hold"]),
    ("adopt", &["audit"]),
    ("pause", &["resume"]),
    ("resume", &["pause"]),
    ("retire", &["rotate", "revoke", "status"]),
    ("reload", &["check", "run"]),
    ("use-credential", &["reload", "check"]),
    ("audit", &["adopt", "revoke"]),
    ("status", &["show", "history"]),
    ("show", &["status", "history"]),
    ("history", &["show", "schedule"]),
    ("schedule", &["history"]),
    ("backup", &["restore"]),
    ("restore", &["backup"]),
    ("demo", &["sandbox"]),
];

/// Prints the manual page of the program, or of one of its commands.
pub(super) fn print(program: clap::Command, command: Option<&str>) -> Result<(), Failure> {
    // `rekeyd help` has no page of its own.
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let mut page = Vec::new();
    match command {
        None => write_program(program, &mut page)?,
        Some(name) => {
            let message = format!("unknown command {name:?}");
            match program.find_subcommand(name).cloned() {
                Some(subcommand) => write_command(subcommand, name, &mut page)?,
                None => program.error(ErrorKind::InvalidValue, message).exit(),
            }
        }
    }
    output::print(&page)
}

fn write_program(program: clap::Command, page: &mut Vec<u8>) -> Result<(), Failure> {
    let usage = program.clone().render_usage().to_string();
    let manual = Man::new(program).source(SOURCE);
    manual.render_title(page)?;
    manual.render_name_section(page)?;
    write_synopsis(page, &usage)?;
    manual.render_description_section(page)?;
    manual.render_options_section(page)?;
    manual.render_subcommands_section(page)?;
    write_entries(page, "EXIT STATUS", &EXIT_STATUS)?;
    write_entries(page, "ENVIRONMENT", &ENVIRONMENT)?;
    write_entries(page, "FILES", &FILES)?;
    write_entries(page, "EXAMPLES", &EXAMPLES)?;
    write_references(page, &["rekeyd.toml(5)", "systemd.exec(5)"])?;
    manual.render_version_section(page)?;
    Ok(())
}

fn write_command(subcommand: clap::Command, name: &str, page: &mut Vec<u8>) -> Result<(), Failure> {
    let usage = subcommand.clone().render_usage().to_string();
    let manual = Man::new(subcommand).source(SOURCE);
    manual.render_title(page)?;
    manual.render_name_section(page)?;
    write_synopsis(page, &usage)?;
    manual.render_description_section(page)?;
    manual.render_options_section(page)?;
    page.write_all(b".SH \"EXIT STATUS\"\n.BR rekeyd (1)\nlists the exit codes.\n")?;
    let related = RELATED.iter().find(|(command, _)| *command == name);
    let related = related.map_or(&[][..], |(_, related)| *related);
    let mut references = vec!["rekeyd(1)".to_owned()];
    references.extend(related.iter().map(|command| format!("rekeyd-{command}(1)")));
    references.push("rekeyd.toml(5)".to_owned());
    let references: Vec<&str> = references.iter().map(String::as_str).collect();
    write_references(page, &references)?;
    manual.render_version_section(page)?;
    Ok(())
}

/// Writes how the command is called, as `--help` shows it: a list of all options would leave
/// out their values.
fn write_synopsis(page: &mut Vec<u8>, usage: &str) -> Result<(), Failure> {
    page.write_all(b".SH SYNOPSIS\n")?;
    let lines = usage.trim_start_matches("Usage:").lines();
    let lines: Vec<_> = lines.map(|line| escape_roff(line.trim())).collect();
    Ok(writeln!(page, "{}", lines.join("\n.br\n"))?)
}

fn write_entries(
    page: &mut Vec<u8>,
    heading: &str,
    entries: &[(&str, &str)],
) -> Result<(), Failure> {
    writeln!(page, ".SH \"{heading}\"")?;
    for (name, meaning) in entries {
        write!(page, ".TP\n{}{}", roff(&format!("`{name}`")), roff(meaning))?;
    }
    Ok(())
}

fn write_references(page: &mut Vec<u8>, references: &[&str]) -> Result<(), Failure> {
    page.write_all(b".SH \"SEE ALSO\"\n")?;
    for (number, reference) in references.iter().enumerate() {
        let comma = if number + 1 < references.len() {
            ","
        } else {
            ""
        };
        let (name, section) = reference.split_once('(').unwrap_or((reference, ""));
        let name = escape_roff(name);
        writeln!(page, ".BR {name} ({section}{comma}")?;
    }
    Ok(())
}

/// Returns a text of Markdown, in which nothing but code is marked, as lines of roff.
#[must_use]
pub fn roff(text: &str) -> String {
    let marked = text.split('`').enumerate().map(|(number, part)| {
        let escaped = escape_roff(part);
        if number % 2 == 1 {
            // A line that ended in code would also end its bold text.
            format!("\\fB{}\\fR", escaped.replace(' ', "\\ "))
        } else {
            escaped
        }
    });
    let text: String = marked.collect();
    wrap(&text, WIDTH, |line| {
        let is_request = line.starts_with(['.', '\'']);
        let guard = if is_request { "\\&" } else { "" };
        format!("{guard}{line}\n")
    })
}

/// Returns the text with the letters escaped that mean something to roff.
#[must_use]
pub fn escape_roff(text: &str) -> String {
    text.replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('"', "\\(dq")
        .replace('\'', "\\(aq")
}

/// Wraps a text at blanks, and formats each line.
pub fn wrap(text: &str, width: usize, format: impl Fn(&str) -> String) -> String {
    let mut wrapped = String::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            wrapped.push_str(&format(&line));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    wrapped.push_str(&format(&line));
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_becomes_roff() {
        for (text, expected) in [
            (
                "`\"a\"`: see `rekeyd rotate`.",
                "\\fB\\(dqa\\(dq\\fR: see \\fBrekeyd\\ rotate\\fR.\n",
            ),
            ("x-y isn't \\n", "x\\-y isn\\(aqt \\en\n"),
            (".x", "\\&.x\n"),
        ] {
            assert_eq!(roff(text), expected);
        }
    }

    #[test]
    fn related_commands_exist() {
        use clap::CommandFactory as _;
        let program = crate::cli::Cli::command();
        for (command, related) in RELATED {
            for name in related.iter().chain([&command]) {
                let is_known = program.find_subcommand(name).is_some();
                assert!(is_known || cfg!(not(feature = "demo")), "{name}");
            }
        }
    }
}
