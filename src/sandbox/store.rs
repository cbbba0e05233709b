//! The file that keeps the sandbox's keys over a restart: JSON that only its
//! owner can read. It contains the secrets, since a sandbox without them could
//! not be rehearsed against twice. Never use it for anything real.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::sandbox::state::SandboxState;

pub(super) fn load(path: &Path) -> Result<SandboxState, String> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(SandboxState::default()),
        Err(error) => {
            return Err(format!(
                "cannot read the sandbox's state {}: {error}",
                path.display()
            ));
        }
    };
    // The position alone, since the parser's message could quote a secret.
    serde_json::from_slice(&text)
        .map(SandboxState::from_keys)
        .map_err(|error| {
            format!(
                "the sandbox's state {} is not readable from line {}, column {} on; \
             delete it to begin anew",
                path.display(),
                error.line(),
                error.column()
            )
        })
}

/// Replaces the file atomically.
pub(super) fn save(path: &Path, state: &SandboxState) -> Result<(), String> {
    let write_error = |error: std::io::Error| {
        format!(
            "cannot write the sandbox's state {}: {error}",
            path.display()
        )
    };
    let text =
        serde_json::to_vec_pretty(state.keys()).map_err(|error| write_error(error.into()))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temp_path = PathBuf::from(name);
    // One that a crash left may have too many permissions.
    match fs::remove_file(&temp_path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(write_error(error)),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temp_path)
        .map_err(write_error)?;
    file.write_all(&text).map_err(write_error)?;
    // Not synced: a rehearsal need not survive a power failure, and every
    // request saves the state.
    fs::rename(&temp_path, path).map_err(write_error)
}
