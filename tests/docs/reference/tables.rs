//! The tables of options in the book, between two comments of a page.

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

fn row(option: &ConfigOption) -> String {
    let default = default_text(option).map(|text| format!("{} ", markup::cell(&text)));
    let default = format!(" {}", default.unwrap_or_default());
    let meaning = markup::cell(&meaning_of(option));
    format!("| `{}` |{default}| {meaning} |\n", option.name)
}
