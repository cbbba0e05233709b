//! The configuration file: read, checked, every problem at once.
//!
//! [`load`] gives what the program needs, or everything that only an edit of
//! the file can repair. What the host may repair is [`host_problems`].

mod check;
mod keys;
mod paths;
mod problem;
mod reader;
mod sinks;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::core::settings::{Settings, SinkTarget};
use crate::host::secret_file::{self, Checks};
pub use problem::Problem;

/// The longest file that is read: 10,000 keys with three sinks each fit.
const LONGEST_FILE: u64 = 16 * 1024 * 1024;

/// What the configuration depends on besides its file.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `$STATE_DIRECTORY`: the first folder of it holds the ledger by default.
    pub state_directory: Option<PathBuf>,
}

impl Environment {
    /// The environment that this process was started with.
    #[must_use]
    pub fn of_this_process() -> Self {
        let folders = std::env::var_os("STATE_DIRECTORY");
        let first = folders.and_then(|folders| std::env::split_paths(&folders).next());
        Self {
            state_directory: first.filter(|path| path.is_absolute()),
        }
    }

    fn ledger(&self) -> PathBuf {
        let folder = self.state_directory.clone();
        folder
            .unwrap_or_else(|| PathBuf::from("/var/lib/rekeyd"))
            .join("ledger.db")
    }
}

/// Reads the configuration at `path`.
///
/// # Errors
/// Every problem that only an edit of the file can repair, in the order of
/// their lines.
pub fn load(path: &Path, environment: &Environment) -> Result<Settings, Vec<Problem>> {
    let file = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let whole = |message: String| {
        vec![Problem {
            file: file.clone(),
            line: None,
            at: String::new(),
            message,
        }]
    };
    let text = read(&file).map_err(whole)?;
    check::check(&file, &text, environment)
}

/// Checks a configuration's text as if it stood in `file`.
///
/// # Errors
/// As [`load`].
pub fn parse(file: &Path, text: &str, environment: &Environment) -> Result<Settings, Vec<Problem>> {
    check::check(file, text, environment)
}

fn read(file: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let found = std::fs::metadata(file).map_err(cannot)?;
    if !found.is_file() {
        return Err("it is no file".to_owned());
    }
    if found.len() > LONGEST_FILE {
        return Err("it is longer than 16 MiB".to_owned());
    }
    let us = rustix::process::geteuid().as_raw();
    if found.uid() != 0 && found.uid() != us {
        return Err(format!(
            "it belongs to user {}, who could change what rekeyd does; chown root {}",
            found.uid(),
            file.display()
        ));
    }
    if found.mode() & 0o022 != 0 {
        return Err(format!(
            "others can write it, and so change what rekeyd does; chmod go-w {}",
            file.display()
        ));
    }
    std::fs::read_to_string(file).map_err(cannot)
}

/// What is wrong on this host with the files of secrets that `settings` names.
#[must_use]
pub fn host_problems(settings: &Settings) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut look = |at: &str, path: &Path| {
        if let Err(message) = secret_file::inspect(path, Checks::Full) {
            problems.push(Problem {
                file: settings.file.clone(),
                line: None,
                at: at.to_owned(),
                message,
            });
        }
    };
    if let Some(path) = &settings.provider.credential_file {
        look("provider.credential-file", path);
    }
    for key in &settings.keys {
        for sink in &key.sinks {
            if let SinkTarget::Webhook(target) = &sink.target
                && let Some(path) = &target.bearer_token_file
            {
                look(
                    &format!("key.{}: sink {}: bearer-token-file", key.name, sink.id.name),
                    path,
                );
            }
        }
    }
    problems
}
