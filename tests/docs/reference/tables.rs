//! The tables of options in the book, between two comments of a page.

use std::collections::BTreeMap;

use clap::CommandFactory as _;
use rekeyd::cli::Cli;
use rekeyd::cli::manual::{ENVIRONMENT, EXIT_STATUS};
use rekeyd::config_reader::section::ConfigOption;

use super::{default_text, markup, meaning_of, section};

/// The line that ends a table.
const END: &str = "<!-- end of options -->";

/// Returns the line before the table of a section.
pub(super) fn begin_of(section: &str) -> String {
    format!("<!-- options: {section} -->")
}

/// Returns a page with its tables as the options make them.
pub(super) fn render(page: &str) -> String {
    let mut rendered = String::new();
    let mut is_inside = false;
    for line in page.split_inclusive('\n') {
        if line.trim_end() == END {
            is_inside = false;
        }
        if !is_inside {
            rendered.push_str(line);
        }
        let name = line.trim_end().strip_prefix("<!-- options: ");
        if let Some(name) = name.and_then(|rest| rest.strip_suffix(" -->")) {
            assert!(!is_inside, "the table before {name} has no end");
            is_inside = true;
            rendered.push_str(&table(name));
        }
    }
    assert!(!is_inside, "a table has no end");
    rendered
}

/// Returns the table of a section of the configuration, or of the command line.
fn table(name: &str) -> String {
    let (head, entries) = match name {
        "exit-status" => ("code", &EXIT_STATUS[..]),
        "environment" => ("variable", &ENVIRONMENT[..]),
        "commands" => return command_options(),
        name => {
            let rows: String = section(name).options.iter().map(row).collect();
            return format!("| option | default | meaning |\n|---|---|---|\n{rows}");
        }
    };
    let rows: String = entries
        .iter()
        .map(|(name, meaning)| {
            let names: Vec<String> = name.split(", ").map(|name| format!("`{name}`")).collect();
            format!("| {} | {} |\n", names.join(", "), markup::cell(meaning))
        })
        .collect();
    format!("| {head} | meaning |\n|---|---|\n{rows}")
}

/// Returns the commands that the help lists.
pub(crate) fn commands() -> Vec<clap::Command> {
    let mut program = Cli::command();
    program.build();
    let all = program.get_subcommands().cloned();
    all.filter(|command| command.get_name() != "help" && !command.is_hide_set())
        .collect()
}

/// Returns the options of a command that not every command has.
pub(crate) fn options_of(command: &clap::Command) -> impl Iterator<Item = &clap::Arg> {
    let own = command.get_arguments().filter(|argument| {
        !argument.is_global_set() && !argument.is_hide_set() && !argument.is_positional()
    });
    own.filter(|argument| !matches!(argument.get_long(), Some("help" | "version")))
}

/// Returns the table of all options of commands, each with the commands that have it.
fn command_options() -> String {
    let mut rows: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for command in commands() {
        for option in options_of(&command) {
            let names = rows.entry(described(option)).or_default();
            names.push(format!("`{}`", command.get_name()));
        }
    }
    let rows: String = rows
        .iter()
        .map(|((option, meaning), commands)| {
            let commands = commands.join(", ");
            format!("| {option} | {commands} | {} |\n", markup::cell(meaning))
        })
        .collect();
    format!("| option | commands | meaning |\n|---|---|---|\n{rows}")
}

/// Returns an option with its value, and its meaning, as the help has them.
fn described(option: &clap::Arg) -> (String, String) {
    let takes_value = option.get_action().takes_values();
    let value = option.get_value_names().filter(|_| takes_value);
    let value = value
        .map(|names| format!(" {}", names[0]))
        .unwrap_or_default();
    let long = option.get_long().map(|long| format!("--{long}"));
    let short = option.get_short().map(|short| format!("-{short}"));
    let names = long.into_iter().chain(short);
    let names: Vec<_> = names.map(|name| format!("`{name}{value}`")).collect();
    let mut meaning = option.get_help().unwrap_or_default().to_string();
    let values = option.get_possible_values();
    let values: Vec<_> = values.iter().filter(|value| !value.is_hide_set()).collect();
    if takes_value && !values.is_empty() {
        let names = values.iter().map(|value| format!("`{}`", value.get_name()));
        meaning.push_str(&format!(": {}", names.collect::<Vec<_>>().join(", ")));
    }
    meaning.push('.');
    if let [default] = option.get_default_values()
        && takes_value
    {
        let default = default.to_string_lossy();
        meaning.push_str(&format!(" Default: `{default}`."));
    }
    (names.join(", "), meaning)
}

fn row(option: &ConfigOption) -> String {
    let default = default_text(option).map(|text| format!("{} ", markup::cell(&text)));
    let default = format!(" {}", default.unwrap_or_default());
    let meaning = markup::cell(&meaning_of(option));
    format!("| `{}` |{default}| {meaning} |\n", option.name)
}
