//! What is written about options is made from their descriptions in the program: the
//! example configuration, the options in the manual page, the tables of the book and the
//! JSON Schema of the configuration.
//!
//! `REKEYD_DOCS=write cargo test --test docs reference` writes them again.

mod config_schema;
mod example;
mod man_page;
mod markup;
pub(crate) mod tables;

use std::path::Path;

use rekeyd::alerting::channel::CHANNEL_TYPES;
use rekeyd::config::options;
use rekeyd::config_reader::section::{ConfigOption, DefaultValue, Section, ValueType};
use rekeyd::sink::SINK_TYPES;
use rekeyd::sink::target::COMMON_OPTIONS as SINK_OPTIONS;

use crate::json_schema::schema;
use crate::links::pages_below;

/// The variable that has the documents written.
const WRITE: &str = "REKEYD_DOCS";

/// Returns every document with the text that the options make of it.
fn documents() -> Vec<(String, String)> {
    let read = |path: &str| {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
        text.unwrap_or_default()
    };
    let man = "man/rekeyd.toml.5";
    let mut documents = vec![
        ("config.example.toml".to_owned(), example::render()),
        (man.to_owned(), man_page::render(&read(man))),
        (
            "docs/schemas/config.schema.json".to_owned(),
            config_schema::render(),
        ),
    ];
    for page in pages_below("docs") {
        let page = page.display().to_string();
        let text = read(&page);
        let rendered = tables::render(&text);
        documents.push((page, rendered));
    }
    documents
}

#[test]
fn documents_match_the_options() {
    let is_writing = std::env::var_os(WRITE).is_some_and(|value| value == "write");
    let mut stale = Vec::new();
    for (path, expected) in documents() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(&path);
        if std::fs::read_to_string(&file).is_ok_and(|text| text == expected) {
            continue;
        }
        if is_writing {
            std::fs::write(file, expected).unwrap();
        } else {
            stale.push(path);
        }
    }
    assert!(
        stale.is_empty(),
        "{} do not match the options in src; hint: edit the descriptions there, and run \
         REKEYD_DOCS=write cargo test --test docs reference",
        stale.join(", ")
    );
}

#[test]
fn every_section_has_a_table_in_the_book() {
    let pages = pages_below("docs");
    let texts: Vec<String> = pages
        .iter()
        .map(|page| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)))
        .collect::<Result<_, _>>()
        .unwrap();
    for section in options::all_sections() {
        if section == options::TOP || section.options.is_empty() {
            continue;
        }
        let begin = tables::begin_of(section.name);
        assert!(
            texts.iter().any(|text| text.contains(&begin)),
            "no page has the line {begin}"
        );
    }
}

#[test]
fn every_schema_is_valid_and_in_the_book() {
    let page = include_str!("../../../docs/schemas.md");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schemas");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(page.contains(&format!("(schemas/{name})")), "{name}");
        // Compiling it checks it.
        schema(name.strip_suffix(".schema.json").unwrap());
        count += 1;
    }
    assert!(count > 5);
}

#[test]
fn descriptions_are_sentences() {
    let check = |name: &str, text: &str| {
        assert!(text.ends_with('.'), "{name}: {text}");
        assert_eq!(text.matches('`').count() % 2, 0, "{name}: {text}");
        assert!(!text.contains("  "), "{name}: {text}");
    };
    for section in options::all_sections() {
        if section == options::TOP {
            // Its members are sections, which say what they are.
            continue;
        }
        check(section.name, section.about);
        for option in section.options {
            check(option.name, option.meaning);
            if !option.details.is_empty() {
                check(option.name, option.details);
            }
        }
    }
}

/// Returns a section by its name.
fn section(name: &str) -> Section {
    let found = options::all_sections()
        .into_iter()
        .find(|section| section.name == name);
    found.unwrap_or_else(|| panic!("there is no section {name}"))
}

/// Returns the meaning of an option, with its range or the types that it names.
fn meaning_of(option: &ConfigOption) -> String {
    let meaning = option.meaning;
    if option.value == ValueType::TypeName {
        let types = list_of_types(option);
        return format!("{}: {types}.", meaning.strip_suffix('.').unwrap());
    }
    let range = option.range_text().map(|range| format!(" {range}"));
    format!("{meaning}{}", range.unwrap_or_default())
}

/// Returns the types of sink or of channel that an option names.
fn list_of_types(option: &ConfigOption) -> String {
    let names: Vec<&str> = if SINK_OPTIONS.options.contains(option) {
        SINK_TYPES.iter().map(|kind| kind.name).collect()
    } else {
        CHANNEL_TYPES.iter().map(|kind| kind.name).collect()
    };
    let names: Vec<String> = names.iter().map(|name| format!("`\"{name}\"`")).collect();
    let (last, others) = names.split_last().unwrap();
    format!("{} or {last}", others.join(", "))
}

/// Returns what holds without an option, or that it is required; none without a default.
fn default_text(option: &ConfigOption) -> Option<String> {
    match option.default {
        DefaultValue::Required => Some("required".to_owned()),
        DefaultValue::RequiredUnless(other) => Some(format!("required unless `{other}` is set")),
        DefaultValue::None => None,
        DefaultValue::Value(value) => Some(format!("`{value}`")),
        DefaultValue::Described(text) => Some(text.to_owned()),
    }
}
