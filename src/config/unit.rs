//! The systemd unit that runs a configuration, and where that unit takes the admin key from.

use std::path::Path;

use crate::platform::secret_file::ADMIN_CREDENTIAL_NAME;
use crate::platform::service_unit::{ServiceUnit, StoredCredential};

/// The configuration of a command or a unit that names none.
pub const DEFAULT_FILE: &str = "/etc/rekeyd/config.toml";

/// Returns the unit that runs the configuration in `file`.
#[must_use]
pub fn find_unit(file: &Path) -> Option<ServiceUnit> {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    ServiceUnit::find(&file, Path::new(DEFAULT_FILE))
}

/// Returns the units that run the configuration in `file` and are in use, or else the one
/// that would.
#[must_use]
pub fn units_in_use(file: &Path) -> Vec<ServiceUnit> {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    ServiceUnit::find_in_use(&file, Path::new(DEFAULT_FILE))
}

/// Returns the file that the service manager passes as the admin key to the service of the
/// configuration in `file`, whether or not it is there.
#[must_use]
pub fn stored_admin_key(file: &Path) -> Option<StoredCredential> {
    find_unit(file)?.credential_place(ADMIN_CREDENTIAL_NAME)
}
