//! Reads TOML tables so that every value keeps its location, and every problem
//! is reported at once, with its line.
//!
//! The module that an option configures knows its meaning: `config` the
//! sections of the file, a folder below `sink` its type of sink, a folder below
//! `alerting/channel` its type of notification channel. All of them read their
//! options through this module.

pub mod command_line;
pub mod files;
pub mod location;
pub mod problem;
pub mod quote;
pub mod reader;
pub mod render;
pub mod report;
pub mod section;
pub mod snippet;
pub mod source;
pub mod suggestion;
mod syntax_error;
pub mod values;
