//! The environment that the configuration depends on besides its file.

use std::ffi::OsString;
use std::path::PathBuf;

use jiff::Timestamp;

/// The folders that systemd searches for a `LoadCredential=` without a path.
const CREDENTIAL_STORES: [&str; 2] = ["/etc/credstore", "/etc/credstore.encrypted"];

/// The environment that the configuration depends on, as plain values.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The first folder of `$STATE_DIRECTORY`, which holds the ledger by
    /// default.
    pub state_directory: Option<PathBuf>,
    /// `$CREDENTIALS_DIRECTORY`, whose files are exempt from permission checks.
    pub credentials_directory: Option<PathBuf>,
    /// The folders from which the service manager would pass credentials to the
    /// service; empty if it has passed this process its own.
    pub credential_stores: Vec<PathBuf>,
    /// Whether `$OPENAI_ADMIN_KEY` is set.
    pub has_admin_key: bool,
    /// The time from which schedule gaps are measured.
    pub now: Timestamp,
}

impl Environment {
    /// Returns an environment without any of them.
    #[must_use]
    pub const fn empty(now: Timestamp) -> Self {
        Self {
            state_directory: None,
            credentials_directory: None,
            credential_stores: Vec::new(),
            has_admin_key: false,
            now,
        }
    }

    /// Reads the relevant variables through `variable`.
    pub fn read(now: Timestamp, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let folder = |name| variable(name).and_then(|value| first_directory(&value));
        let credentials_directory = folder("CREDENTIALS_DIRECTORY");
        let credential_stores = match credentials_directory {
            Some(_) => Vec::new(),
            None => CREDENTIAL_STORES.map(PathBuf::from).to_vec(),
        };
        Self {
            state_directory: folder("STATE_DIRECTORY"),
            credentials_directory,
            credential_stores,
            has_admin_key: variable("OPENAI_ADMIN_KEY").is_some_and(|value| !value.is_empty()),
            now,
        }
    }
}

/// Returns the first of systemd's colon-separated folders.
fn first_directory(value: &OsString) -> Option<PathBuf> {
    std::env::split_paths(value)
        .next()
        .filter(|path| path.is_absolute())
}
