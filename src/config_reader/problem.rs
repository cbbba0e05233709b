//! What is wrong, where, and what would be right.

use std::fmt;
use std::path::{Path, PathBuf};

/// Who can repair a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// Only an edit of the configuration: the daemon does not start.
    Configuration,
    /// The host may: the daemon starts, shows it and tries again, unless it is
    /// the ledger that cannot be opened.
    Host,
}

/// One problem of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Who can repair it.
    pub kind: ProblemKind,
    /// The configuration file.
    pub file: PathBuf,
    /// The line in it, from 1, where there is one.
    pub line: Option<usize>,
    /// The option, such as `key.billing.sink[0].path`; empty for the file.
    pub option: String,
    /// What was found.
    pub message: String,
    /// What is allowed, or what to do; empty where the message says it.
    pub hint: String,
}

impl Problem {
    /// A problem that the host may repair, of an option of the configuration in
    /// `file`. It has no line.
    #[must_use]
    pub fn for_host(file: &Path, at: String, message: String) -> Self {
        Self {
            kind: ProblemKind::Host,
            file: file.to_owned(),
            line: None,
            option: at,
            message,
            hint: String::new(),
        }
    }
}

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
