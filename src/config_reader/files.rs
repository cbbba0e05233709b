//! The files that a table names, so that no two options claim one file.

use std::path::PathBuf;

use super::location::Location;

/// The files that a sink or a channel names. They are claimed even when another
/// option of the table is wrong, so that two sinks with one file are reported
/// together with the options that they lack.
#[derive(Debug, Default)]
pub struct NamedFiles {
    /// The file that is replaced, and the location of its option.
    pub(crate) written: Option<(PathBuf, Location)>,
    /// Files that are only read or executed, each with its option.
    pub(crate) read_only: Vec<(&'static str, PathBuf)>,
    /// Those of them that hold a secret.
    pub(crate) secrets: Vec<PathBuf>,
    /// Those of them that are run.
    pub(crate) programs: Vec<PathBuf>,
}

impl NamedFiles {
    /// Adds a program.
    pub(crate) fn add_program(&mut self, option: &'static str, path: PathBuf) {
        self.programs.push(path.clone());
        self.read_only.push((option, path));
    }

    /// Adds a file with a secret, which is only read.
    pub(crate) fn add_secret(&mut self, option: &'static str, path: PathBuf) {
        self.secrets.push(path.clone());
        self.read_only.push((option, path));
    }
}
