//! Whether this process may write the ledger, by whom it and its folders belong to: the same
//! for a process that works on keys, for a command, and for `rekeyd check`.

use crate::config::settings::Settings;
use crate::daemon::error::ServiceError;
use crate::daemon::exposure::check_exposure;
use crate::daemon::ownership::{refuse_root, refuse_root_worker};

/// Checks that this process may work on due keys. Blocks.
///
/// # Errors
/// Root would write the ledger of another user, or another user could exchange it.
pub(crate) fn check_worker(settings: &Settings) -> Result<(), ServiceError> {
    refuse_root_worker(settings)?;
    Ok(check_exposure(&settings.ledger, settings.trusted_paths())?)
}

/// Checks that a command which copies the ledger reads no other file in its place. Blocks.
///
/// # Errors
/// Another user could exchange it.
pub(crate) fn check_reader(settings: &Settings) -> Result<(), ServiceError> {
    Ok(check_exposure(&settings.ledger, settings.trusted_paths())?)
}

/// Checks that a command may write the ledger. Blocks.
///
/// # Errors
/// As [`check_worker`].
pub(super) fn check_command(settings: &Settings) -> Result<(), ServiceError> {
    refuse_root(settings)?;
    Ok(check_exposure(&settings.ledger, settings.trusted_paths())?)
}
