//! The JSON Schema of the configuration, by which editors complete and check it.

use rekeyd::alerting::channel::CHANNEL_TYPES;
use rekeyd::alerting::channel::target::COMMON_OPTIONS as CHANNEL_OPTIONS;
use rekeyd::config::options;
use rekeyd::config_reader::section::{ConfigOption, DefaultValue, Section, ValueType};
use rekeyd::sink::SINK_TYPES;
use rekeyd::sink::target::COMMON_OPTIONS as SINK_OPTIONS;
use serde_json::{Map, Value, json};

use super::markup::comment_text;
use super::meaning_of;

/// The form of a path that names a file.
const PATH_PATTERN: &str = "^/.*[^/]$";

/// The form of a URL that the reader may accept.
const URL_PATTERN: &str = "^https?://[^/]";

/// The form of a name of a key.
const NAME_PATTERN: &str = "^[a-z0-9][a-z0-9-]{0,47}$";

/// Returns the schema, as a file.
pub(super) fn render() -> String {
    let mut schema = object(&[options::TOP]);
    let properties = schema["properties"].as_object_mut().unwrap();
    for section in [
        options::PROVIDER,
        options::LEDGER,
        options::CONTROL,
        options::METRICS,
        options::LOG,
        options::SECURITY,
        options::DEFAULTS,
    ] {
        set(properties, section, object(&[section]));
    }
    let sinks = SINK_TYPES.iter().map(|kind| (kind.name, kind.options));
    let channels = CHANNEL_TYPES.iter().map(|kind| (kind.name, kind.options));
    let mut key = object(&[options::DEFAULTS, options::KEY]);
    let sink = json!({"type": "array", "minItems": 1, "items": by_type(SINK_OPTIONS, sinks)});
    set(
        key["properties"].as_object_mut().unwrap(),
        SINK_OPTIONS,
        sink,
    );
    let keys = json!({
        "type": "object",
        "propertyNames": {"pattern": NAME_PATTERN},
        "additionalProperties": key,
    });
    set(properties, options::KEY, keys);
    let channels = json!({"type": "array", "items": by_type(CHANNEL_OPTIONS, channels)});
    set(properties, CHANNEL_OPTIONS, channels);
    let described = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "The configuration of rekeyd",
    });
    let mut whole = described.as_object().unwrap().clone();
    whole.extend(schema.as_object().unwrap().clone());
    format!("{:#}\n", Value::Object(whole))
}

/// Sets the schema of the member that a section is named after.
fn set(properties: &mut Map<String, Value>, section: Section, mut schema: Value) {
    schema["description"] = json!(comment_text(section.about));
    properties[section.name] = schema;
}

/// Returns the schema of a table with the options of some sections.
fn object(sections: &[Section]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    let mut schema = json!({"type": "object", "additionalProperties": false});
    let options = sections.iter().flat_map(|section| section.options);
    for option in options {
        properties.insert(option.name.to_owned(), property(option));
        match option.default {
            DefaultValue::Required => required.push(option.name),
            DefaultValue::RequiredUnless(other) => {
                let one = json!([{"required": [option.name]}, {"required": [other]}]);
                // Both options say it.
                if schema.get("oneOf").is_none() {
                    schema["oneOf"] = one;
                }
            }
            DefaultValue::None | DefaultValue::Value(_) | DefaultValue::Described(_) => {}
        }
        if let Some(need) = option.needs {
            schema["dependencies"][option.name] = match need.text {
                None => json!([need.option]),
                Some(text) => json!({
                    "required": [need.option],
                    "properties": {need.option: {"const": text}},
                }),
            };
        }
    }
    schema["properties"] = Value::Object(properties);
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// Returns the schema of a table whose option `type` decides which others it has.
fn by_type(common: Section, types: impl Iterator<Item = (&'static str, Section)>) -> Value {
    let branch = |(name, section): (&'static str, Section)| {
        let mut schema = object(&[common, section]);
        schema["properties"]["type"]["const"] = json!(name);
        schema["properties"]["type"]["examples"] = json!([name]);
        schema["title"] = json!(name);
        schema["description"] = json!(comment_text(section.about));
        schema
    };
    json!({"oneOf": types.map(branch).collect::<Vec<_>>()})
}

fn property(option: &ConfigOption) -> Value {
    let mut schema = value_schema(option.value);
    let mut description = comment_text(&meaning_of(option));
    if !option.details.is_empty() {
        description.push_str(&format!(" {}", comment_text(option.details)));
    }
    if let DefaultValue::Described(text) = option.default {
        description.push_str(&format!(" Default: {}.", comment_text(text)));
    }
    schema["description"] = json!(description);
    if let DefaultValue::Value(default) = option.default {
        schema["default"] = from_toml(default);
    }
    if !matches!(option.value, ValueType::Table | ValueType::Tables) {
        schema["examples"] = json!([from_toml(option.example)]);
    }
    schema
}

fn value_schema(value: ValueType) -> Value {
    let texts = |pattern: &str| json!({"type": "array", "items": text(pattern)});
    match value {
        ValueType::Text(pattern) => text(pattern),
        ValueType::Choice(words) => json!({"type": "string", "enum": words}),
        ValueType::TypeName => json!({"type": "string"}),
        ValueType::Flag => json!({"type": "boolean"}),
        ValueType::Number(minimum, maximum) => {
            json!({"type": "integer", "minimum": minimum, "maximum": maximum})
        }
        ValueType::Duration(..) => text("^[0-9]+[smhd]$"),
        ValueType::Path => text(PATH_PATTERN),
        ValueType::Url => text(URL_PATTERN),
        ValueType::Texts(pattern) => texts(pattern),
        ValueType::TextOrTexts(pattern) => {
            let mut list = texts(pattern);
            list["minItems"] = json!(1);
            json!({"anyOf": [text(pattern), list]})
        }
        ValueType::Choices(words) => {
            json!({"type": "array", "items": {"type": "string", "enum": words}})
        }
        ValueType::CommandLine => json!({
            "type": "array", "minItems": 1, "items": [text(PATH_PATTERN)],
            "additionalItems": {"type": "string"},
        }),
        ValueType::Table => json!({"type": "object"}),
        ValueType::Tables => json!({"type": "array", "items": {"type": "object"}}),
    }
}

fn text(pattern: &str) -> Value {
    if pattern.is_empty() {
        json!({"type": "string"})
    } else {
        json!({"type": "string", "pattern": pattern})
    }
}

/// Returns a value of TOML as JSON.
fn from_toml(value: &str) -> Value {
    let table: toml::Table = format!("value = {value}").parse().unwrap();
    serde_json::to_value(&table["value"]).unwrap()
}
