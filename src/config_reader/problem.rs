//! The problems of a configuration, with their locations and remedies.

use std::fmt;
use std::path::{Path, PathBuf};

use super::snippet::Snippet;

/// The place where a problem can be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// The configuration file: the daemon does not start.
    Configuration,
    /// The host: the daemon starts, logs the problem and retries, unless it
    /// cannot open the ledger.
    Host,
}

/// One problem of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The place where it can be repaired.
    pub kind: ProblemKind,
    /// The configuration file.
    pub file: PathBuf,
    /// The line in the file, from 1, if the problem has one.
    pub line: Option<usize>,
    /// The option, such as `key.billing.sink[0].path`; empty for the file.
    pub option: String,
    /// The problem itself.
    pub message: String,
    /// The allowed values, or the remedy; empty if the message contains it.
    pub hint: String,
    /// The line, as a terminal shows it, if the problem has one.
    pub snippet: Option<Box<Snippet>>,
}

impl Problem {
    /// Returns a problem that the host may repair, for the option `location` of
    /// the configuration in `file`, without a line.
    #[must_use]
    pub fn for_host(file: &Path, location: String, message: String) -> Self {
        Self {
            kind: ProblemKind::Host,
            file: file.to_owned(),
            line: None,
            option: location,
            message,
            hint: String::new(),
            snippet: None,
        }
    }
}

/// Formats the problem in one line, as logs and scripts need it.
impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(formatter, ":{line}")?;
        }
        if !self.option.is_empty() {
            write!(formatter, ": {}", self.option)?;
        }
        write!(formatter, ": {}", self.message)?;
        if !self.hint.is_empty() {
            write!(formatter, "; {}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}
