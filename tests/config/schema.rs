//! The JSON Schema of the configuration and the reader agree.

use std::path::Path;

use rekeyd::config::{Environment, options, parse};
use rekeyd::config_reader::section::{ConfigOption, DefaultValue, Section, ValueType};
use toml::{Table, Value};

use crate::json_schema::{from_toml, problems, schema};

/// A value of each type of TOML that JSON has.
const VALUES: [&str; 6] = ["1", "1.5", "true", "\"?\"", "[]", "{}"];

fn value_of(text: &str) -> Value {
    let mut table: Table = format!("value = {text}").parse().unwrap();
    table.remove("value").unwrap()
}

/// Returns a table with the required options of some sections.
fn required_options(sections: &[Section]) -> Table {
    let options = sections.iter().flat_map(|section| section.options);
    let required = options.filter(|option| option.default == DefaultValue::Required);
    required
        .map(|option| (option.name.to_owned(), value_of(option.example)))
        .collect()
}

/// Returns a configuration with an option of a section, and all that it needs.
fn configuration_with(section: Section, option: &ConfigOption, value: Value) -> Table {
    let mut top: Table = "provider.credential-file = \"/k\"\nkey.billing.schedule = \"@weekly\"\n"
        .parse()
        .unwrap();
    let mut table = Table::new();
    if let Some(need) = option.needs {
        let example = section.find(need.option).unwrap().example;
        let needed = need.text.map_or(value_of(example), Value::from);
        table.insert(need.option.to_owned(), needed);
    }
    if let ("sink.webhook", "owner" | "unauthenticated-receiver") = (section.name, option.name) {
        // They have no effect with https.
        table.insert("url".to_owned(), "http://localhost:1/".into());
    }
    table.insert(option.name.to_owned(), value);
    let mut sink = required_options(&[options_of("sink"), options_of("sink.file")]);
    sink.insert("name".to_owned(), "tested".into());
    let mut channel = required_options(&[options_of("notify"), options_of("notify.sendmail")]);
    let (group, kind) = section.name.split_once('.').unwrap_or((section.name, ""));
    match (group, kind) {
        ("top", _) => top.extend(table),
        ("sink", "") => sink.extend(table),
        ("notify", "") => channel.extend(table),
        ("sink", kind) => {
            sink = required_options(&[section]);
            sink.insert("type".to_owned(), kind.into());
            sink.insert("name".to_owned(), "tested".into());
            sink.extend(table);
        }
        ("notify", kind) => {
            channel = required_options(&[section]);
            channel.insert("type".to_owned(), kind.into());
            channel.extend(table);
        }
        ("key", _) => {
            let key = top["key"]["billing"].as_table_mut().unwrap();
            if matches!(option.default, DefaultValue::RequiredUnless(_)) {
                key.clear();
            }
            key.extend(table);
        }
        (name, _) => {
            let present = top.entry(name).or_insert_with(|| Table::new().into());
            present.as_table_mut().unwrap().extend(table);
        }
    }
    if let Some(key) = top["key"].get_mut("billing") {
        let key = key.as_table_mut().unwrap();
        // A key needs a required sink, whatever the other says.
        let required: Table = "type = \"file\"\nname = \"other\"\npath = \"/o\""
            .parse()
            .unwrap();
        key.entry("sink")
            .or_insert_with(|| vec![required, sink].into());
    }
    if group == "notify" {
        top.insert("notify".to_owned(), vec![channel].into());
    }
    top
}

fn options_of(name: &str) -> Section {
    let mut sections = options::all_sections().into_iter();
    sections.find(|section| section.name == name).unwrap()
}

/// Returns the options that the reader refuses in a configuration.
fn refused_options(text: &str) -> Vec<String> {
    let now = "2026-11-24T03:00:00Z".parse().unwrap();
    let parsed = parse(Path::new("/etc/c.toml"), text, &Environment::empty(now));
    let problems = parsed.err().unwrap_or_default();
    problems.into_iter().map(|problem| problem.option).collect()
}

/// Whether a value of TOML may have the type of an option.
fn fits(value_type: ValueType, value: &Value) -> bool {
    match value_type {
        ValueType::Text(_)
        | ValueType::Choice(_)
        | ValueType::TypeName
        | ValueType::Duration(..)
        | ValueType::Path
        | ValueType::Url => value.is_str(),
        ValueType::Flag => value.is_bool(),
        ValueType::Number(..) => value.is_integer(),
        ValueType::Texts(_)
        | ValueType::Choices(_)
        | ValueType::CommandLine
        | ValueType::Tables => value.is_array(),
        ValueType::TextOrTexts(_) => value.is_str() || value.is_array(),
        ValueType::Table => value.is_table(),
    }
}

#[test]
fn reader_and_schema_accept_every_example() {
    let schema = schema("config");
    for section in options::all_sections() {
        for option in section.options {
            let table = configuration_with(section, option, value_of(option.example));
            let text = table.to_string();
            assert!(refused_options(&text).is_empty(), "{text}");
            assert_eq!(problems(&schema, &from_toml(&text)), [""; 0], "{text}");
        }
    }
}

/// An option that were described and not read would not be refused.
#[test]
fn reader_and_schema_refuse_every_wrong_type() {
    let schema = schema("config");
    for section in options::all_sections() {
        for option in section.options {
            let mut wrong: Vec<Value> = VALUES.into_iter().map(value_of).collect();
            wrong.retain(|value| !fits(option.value, value));
            if fits(option.value, &value_of("[]")) {
                wrong.push(value_of("[1]"));
            }
            for value in wrong {
                let table = configuration_with(section, option, value);
                let text = table.to_string();
                let is_named = |path: &String| {
                    let path = path.strip_suffix("[0]").unwrap_or(path);
                    path == option.name || path.ends_with(&format!(".{}", option.name))
                };
                let refused = refused_options(&text);
                assert!(refused.iter().any(is_named), "{text}\n{refused:?}");
                assert!(!schema.is_valid(&from_toml(&text)), "{text}");
            }
        }
    }
}

#[test]
fn reader_and_schema_refuse_every_unknown_option() {
    let schema = schema("config");
    for section in options::all_sections() {
        let Some(option) = section.options.first() else {
            continue;
        };
        let unknown = ConfigOption {
            name: "no-such-option",
            needs: None,
            ..*option
        };
        let table = configuration_with(section, &unknown, 1.into());
        let text = table.to_string();
        let refused = refused_options(&text);
        let is_named = |path: &String| path.ends_with("no-such-option");
        assert!(refused.iter().any(is_named), "{text}\n{refused:?}");
        assert!(!schema.is_valid(&from_toml(&text)), "{text}");
    }
}

/// Returns a configuration without a required option, for the reader and the schema.
#[test]
fn reader_and_schema_refuse_a_table_without_a_required_option() {
    let schema = schema("config");
    for section in options::all_sections() {
        for option in section.options {
            let is_required = match option.default {
                DefaultValue::Required | DefaultValue::RequiredUnless(_) => true,
                DefaultValue::None | DefaultValue::Value(_) | DefaultValue::Described(_) => false,
            };
            if !is_required {
                continue;
            }
            let table = configuration_with(section, option, value_of(option.example));
            let text = table.to_string();
            let line = format!("{} = ", option.name);
            let without: String = text
                .split_inclusive('\n')
                .filter(|rest| !rest.starts_with(&line))
                .collect();
            if without == text {
                // A list of tables has a header instead.
                continue;
            }
            assert!(!refused_options(&without).is_empty(), "{without}");
            assert!(!schema.is_valid(&from_toml(&without)), "{without}");
        }
    }
}

#[test]
fn reader_and_schema_refuse_an_option_without_the_one_it_needs() {
    let schema = schema("config");
    for section in options::all_sections() {
        for option in section
            .options
            .iter()
            .filter(|option| option.needs.is_some())
        {
            let alone = ConfigOption {
                needs: None,
                ..*option
            };
            let text = configuration_with(section, &alone, value_of(option.example)).to_string();
            assert!(!refused_options(&text).is_empty(), "{text}");
            assert!(!schema.is_valid(&from_toml(&text)), "{text}");
        }
    }
}
