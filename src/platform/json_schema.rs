//! JSON Schemas of what rekeyd prints and sends, made from its structures. Only tests use
//! them; `REKEYD_DOCS=write cargo test --lib json_schema` writes the files again.

use std::borrow::Cow;
use std::path::Path;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::core::lifecycle::Phase;
use crate::core::notification::{AlertKind, EventKind, NotificationState};
use crate::core::state::{DeferralKind, DeliveryState, Trigger};

/// Compares the schema of a structure with its file in `docs/schemas`, or writes it.
#[track_caller]
pub(crate) fn check_file<T: JsonSchema>(name: &str) {
    let settings = SchemaSettings::draft07().for_serialize();
    let settings = settings.with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), format!("rekeyd: {name}").into());
    let text = format!("{:#}\n", schema.as_value());
    let path = format!("docs/schemas/{name}.schema.json");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(&path);
    if std::env::var_os("REKEYD_DOCS").is_some_and(|value| value == "write") {
        std::fs::write(&file, &text).unwrap();
    }
    let present = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        present == text,
        "{path} is not the schema of its structure; hint: run \
         REKEYD_DOCS=write cargo test --lib json_schema"
    );
}

/// Implements the schema of an enumeration that is written as a word.
macro_rules! words {
    ($($type:ident),*) => {$(
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "enum": $type::ALL.map($type::as_str).as_slice()})
            }
        }
    )*};
}

words!(
    Phase,
    Trigger,
    DeliveryState,
    DeferralKind,
    EventKind,
    AlertKind,
    NotificationState
);
