//! The environment that the configuration depends on besides its file.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::core::secret_text::{self, SecretForm, SecretTextError};
use crate::platform::secret_file::{ADMIN_CREDENTIAL_NAME, ADMIN_KEY_VARIABLE};

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
    /// Whether the admin key that the service manager would pass to the
    /// service can be sent; `None` if this process was passed none.
    pub passed_admin_key: Option<Result<(), SecretTextError>>,
    /// Whether the admin key in `$OPENAI_ADMIN_KEY` can be sent; `None` if the
    /// variable is not set.
    pub admin_key_variable: Option<Result<(), SecretTextError>>,
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
            passed_admin_key: None,
            admin_key_variable: None,
            now,
        }
    }

    /// Lists the files that hold the admin key for the service of the
    /// configuration in `configuration`, whether or not they exist.
    pub(super) fn stored_admin_keys(&self, configuration: &Path) -> Vec<PathBuf> {
        let stores = CREDENTIAL_STORES.iter().map(PathBuf::from);
        let folders = stores.chain(self.credentials_directory.clone());
        folders
            .flat_map(|folder| stored_names(configuration).map(|name| folder.join(name)))
            .collect()
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
            passed_admin_key: None,
            admin_key_variable: variable(ADMIN_KEY_VARIABLE)
                .filter(|value| !value.is_empty())
                .map(|value| {
                    secret_text::parse_variable(value.into_vec(), SecretForm::AdminKey).map(drop)
                }),
            now,
        }
    }
}

/// Returns the names under which a service manager may pass the admin key to the
/// service of this configuration: one of its own, or that of the template's
/// instance.
fn stored_names(configuration: &Path) -> [OsString; 2] {
    let instance = configuration.file_stem().unwrap_or_default();
    let mut instance_name = OsString::from(ADMIN_CREDENTIAL_NAME);
    instance_name.push(".");
    instance_name.push(instance);
    [ADMIN_CREDENTIAL_NAME.into(), instance_name]
}

/// Returns the first of systemd's colon-separated folders.
fn first_directory(value: &OsString) -> Option<PathBuf> {
    std::env::split_paths(value)
        .next()
        .filter(|path| path.is_absolute())
}
