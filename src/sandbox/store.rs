//! The sandbox's keys over a restart: one JSON file that only its owner reads.
//! The secrets stand in it, since a sandbox that forgot them could not be
//! rehearsed against twice. Never point this at anything real.

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
    // Position only: the parser's own words could quote a secret.
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

/// Replaces the file as a whole.
pub(super) fn save(path: &Path, state: &SandboxState) -> Result<(), String> {
    let explain = |error: std::io::Error| {
        format!(
            "cannot write the sandbox's state {}: {error}",
            path.display()
        )
    };
    let text = serde_json::to_vec_pretty(state.keys()).map_err(|error| explain(error.into()))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    // One left by a crash may have other rights than it should.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(explain(error)),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .map_err(explain)?;
    file.write_all(&text).map_err(explain)?;
    // Not synced: a rehearsal need not outlive a power cut, and every request
    // comes by here.
    fs::rename(&beside, path).map_err(explain)
}
