//! Compares the documents with the program.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../support/command_lines.rs"]
mod command_lines;
#[path = "../support/json_schema.rs"]
mod json_schema;
#[path = "../support/mod.rs"]
mod support;

mod book;
mod console;
mod contracts;
mod control_api;
mod design_tables;
mod imports;
mod layering;
mod links;
mod messages;
mod monitoring;
mod names;
mod package;
mod parsers;
mod readme;
mod reference;
mod sink_example;
mod transitions;
