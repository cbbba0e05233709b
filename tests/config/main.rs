//! The configuration file: what is read, what is refused, and in which words.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../support/configuration.rs"]
mod configuration;

mod example;
mod fuzz;
mod messages;
mod notify;
mod settings;
mod sinks;
