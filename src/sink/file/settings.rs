//! The checked options of a sink with `type = "file"`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::core::command::CommandLine;
use crate::sink::file::access_advice;

/// The default permission bits of a file: read and write for its owner alone.
pub(crate) const DEFAULT_MODE: u32 = 0o600;

/// The options of `type = "file"`.
#[derive(Debug, Clone)]
pub struct FileTarget {
    /// The absolute path of the file that is replaced.
    pub path: PathBuf,
    /// The way in which it receives new content.
    pub write: WriteMode,
    /// Its content.
    pub format: FileFormat,
    /// Its permission bits.
    pub mode: u32,
    /// Whether the configuration says so: otherwise they are the default.
    pub has_mode_option: bool,
    /// The user that owns it, by name or number.
    pub owner: Option<String>,
    /// Its group, by name or number.
    pub group: Option<String>,
    /// The program that runs after each replacement.
    pub on_change: Option<Box<OnChange>>,
}

/// The way in which a file receives new content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// A new file is renamed over the present one.
    Replace,
    /// The present file is written, which is not atomic. A missing file is
    /// created as with `Replace`.
    InPlace,
}

/// A program that runs after a file was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnChange {
    /// The program and its arguments.
    pub argv: CommandLine,
    /// The time limit of one run.
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
    /// Returns what a delivery writes: the folder in which it replaces the file,
    /// or the file itself.
    #[must_use]
    pub fn written_path(&self) -> &Path {
        match self.write {
            WriteMode::InPlace if self.path.exists() => &self.path,
            WriteMode::InPlace | WriteMode::Replace => self.path.parent().unwrap_or(Path::new("/")),
        }
    }

    /// Returns whether the file needs another folder, because this process cannot be let into
    /// its own without harm to others. Blocks.
    #[must_use]
    pub fn needs_other_folder(&self) -> bool {
        access_advice::needs_other_folder(&self.path)
    }

    /// Returns a target with the secret and a newline, and the defaults
    /// otherwise.
    #[must_use]
    pub const fn with_defaults(path: PathBuf) -> Self {
        Self {
            path,
            write: WriteMode::Replace,
            format: FileFormat::Raw,
            mode: DEFAULT_MODE,
            has_mode_option: false,
            owner: None,
            group: None,
            on_change: None,
        }
    }
}
