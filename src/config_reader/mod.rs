//! Reads TOML tables so that every value keeps its location, and every problem
//! is reported at once, with its line.
//!
//! What an option means is known to the module that it configures: the
//! sections of the file in `config`, a type of sink in its folder below
//! `sink`, a type of notification channel in its folder below
//! `alerting/channel`. All of them read their options through this module.

pub mod command_line;
pub mod files;
pub mod location;
pub mod problem;
pub mod quote;
pub mod reader;
pub mod report;
pub mod section;
pub mod suggestion;
pub mod values;
