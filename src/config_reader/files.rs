//! The files that a table names, so that no two options claim one file.

use std::path::PathBuf;

use super::location::Location;

/// The files that a sink or a channel names. They count also when something
/// else about their table is wrong: a file that two sinks write is reported
/// together with the options that these lack.
#[derive(Debug, Default)]
pub struct NamedFiles {
    /// The file that is replaced, and where the configuration says so.
    pub(crate) written: Option<(PathBuf, Location)>,
    /// Files that are only read or executed, each with its option.
    pub(crate) read_only: Vec<(&'static str, PathBuf)>,
}
