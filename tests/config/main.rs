//! The configuration file: its settings, and the messages about its problems.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../support/configuration.rs"]
mod configuration;
#[path = "../support/json_schema.rs"]
mod json_schema;

mod example;
mod fuzz;
mod messages;
mod notify;
mod schema;
mod settings;
mod sinks;
mod terminal;
mod values;
