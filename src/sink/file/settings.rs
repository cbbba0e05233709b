//! The checked options of a sink with `type = "file"`.

use std::path::PathBuf;
use std::time::Duration;

use crate::core::command::CommandLine;

/// The permission bits of a file by default: only its owner may use it.
pub(crate) const DEFAULT_MODE: u32 = 0o600;

/// `type = "file"`.
#[derive(Debug, Clone)]
pub struct FileTarget {
    /// The file that is replaced; absolute.
    pub path: PathBuf,
    /// Its content.
    pub format: FileFormat,
    /// Its permission bits.
    pub mode: u32,
    /// The user it is given to, by name or number.
    pub owner: Option<String>,
    /// The group it is given to, by name or number.
    pub group: Option<String>,
    /// What is run once it has changed.
    pub on_change: Option<Box<OnChange>>,
}

/// A program that is run once a file has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnChange {
    /// What is run.
    pub argv: CommandLine,
    /// The time that one run may take.
    pub timeout: Duration,
}

/// The content of a file sink's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFormat {
    /// The secret and a newline.
    Raw,
    /// `VARIABLE=secret` and a newline.
    Env {
        /// The variable's name.
        variable: String,
    },
    /// One JSON object with the secret as `value`, and a newline.
    Json,
}

impl FileTarget {
    /// A file with the secret and a newline, and the defaults otherwise.
    #[must_use]
    pub const fn with_defaults(path: PathBuf) -> Self {
        Self {
            path,
            format: FileFormat::Raw,
            mode: DEFAULT_MODE,
            owner: None,
            group: None,
            on_change: None,
        }
    }
}
