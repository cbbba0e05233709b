//! What the configuration depends on besides its file.

use std::ffi::OsString;
use std::path::PathBuf;

use jiff::Timestamp;

/// Where systemd looks for what `LoadCredential=` names without a path.
const CREDENTIAL_STORES: [&str; 2] = ["/etc/credstore", "/etc/credstore.encrypted"];

/// What the configuration depends on besides its file, as plain values.
#[derive(Debug, Clone)]
pub struct Environment {
    /// `$STATE_DIRECTORY`, the first of it: where the ledger is by default.
    pub state_directory: Option<PathBuf>,
    /// `$CREDENTIALS_DIRECTORY`: what is in it is not checked for its rights.
    pub credentials_directory: Option<PathBuf>,
    /// Where the service manager takes credentials from that it would give to
    /// the service; none where it has given this process its own.
    pub credential_stores: Vec<PathBuf>,
    /// Whether there is an `$OPENAI_ADMIN_KEY`.
    pub has_admin_key: bool,
    /// The time from which the gaps of schedules are measured.
    pub now: Timestamp,
}

impl Environment {
    /// An environment without any of them.
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

    /// Reads the variables that count through `variable`.
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

/// systemd gives several directories with colons between them.
fn first_directory(value: &OsString) -> Option<PathBuf> {
    std::env::split_paths(value)
        .next()
        .filter(|path| path.is_absolute())
}
