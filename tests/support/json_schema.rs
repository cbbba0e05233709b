//! The JSON Schemas of `docs/schemas`.
#![allow(dead_code)]

use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;

/// Returns the schema of that name.
pub(crate) fn schema(name: &str) -> Validator {
    compile(name, &read_schema(name))
}

/// Returns the schema of that name, which refuses members that it does not describe.
pub(crate) fn strict_schema(name: &str) -> Validator {
    let mut schema = read_schema(name);
    forbid_other_members(&mut schema);
    compile(name, &schema)
}

fn forbid_other_members(schema: &mut Value) {
    if let Some(object) = schema.as_object_mut() {
        if object.get("properties").is_some_and(Value::is_object) {
            object.insert("additionalProperties".to_owned(), false.into());
        }
        object.values_mut().for_each(forbid_other_members);
    } else if let Some(items) = schema.as_array_mut() {
        items.iter_mut().for_each(forbid_other_members);
    }
}

fn read_schema(name: &str) -> Value {
    let path = format!("docs/schemas/{name}.schema.json");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn compile(name: &str, schema: &Value) -> Validator {
    jsonschema::validator_for(schema).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Returns what the schema refuses in a value, one line each.
pub(crate) fn problems(schema: &Validator, value: &Value) -> Vec<String> {
    let errors = schema.iter_errors(value);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

/// Returns a text of TOML as JSON.
pub(crate) fn from_toml(text: &str) -> Value {
    let table: toml::Table = text.parse().unwrap();
    serde_json::to_value(table).unwrap()
}
