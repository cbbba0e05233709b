//! The file that keeps the sandbox's projects, accounts and keys over a restart: JSON that
//! only its owner can read. It contains the secrets, since a sandbox without them could
//! not be rehearsed against twice. Never use it for anything real.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::core::os_error;
use crate::sandbox::state::account::SandboxAccount;
use crate::sandbox::state::key::SandboxKey;
use crate::sandbox::state::project::SandboxProject;
use crate::sandbox::state::sandbox_state::SandboxState;

/// The version of the form that is written.
const VERSION: u32 = 2;

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct StateFile<K, A, P> {
    version: u32,
    keys: K,
    accounts: A,
    projects: P,
}

/// The error of the file.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// It cannot be read.
    #[error("cannot read the state file {}: {}", path.display(), os_error::describe(source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// It is not the JSON that a sandbox writes. The position alone, since the
    /// parser's message could quote a secret.
    #[error(
        "the state file {} is invalid at line {line}, column {column}; hint: delete it to start \
         without keys",
        path.display()
    )]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line of the first mistake, from 1.
        line: usize,
        /// Its column.
        column: usize,
    },
    /// A later version of the sandbox wrote it.
    #[error(
        "the state file {} is of version {version}, which this rekeyd does not know; hint: \
         use another file",
        path.display()
    )]
    LaterVersion {
        /// The file.
        path: PathBuf,
        /// The version of its form.
        version: u32,
    },
    /// It cannot be written.
    #[error("cannot write the state file {}: {}", path.display(), os_error::describe(source))]
    NotWritten {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

pub(super) fn load(path: &Path) -> Result<SandboxState, StateFileError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(SandboxState::default()),
        Err(source) => {
            let path = path.to_owned();
            return Err(StateFileError::Unreadable { path, source });
        }
    };
    if is_list_of_keys(&text) {
        return parse(path, &text).map(|keys| to_state(keys, Vec::new(), Vec::new()));
    }
    let file: StateFile<_, _, _> = parse(path, &text)?;
    if file.version > VERSION {
        return Err(StateFileError::LaterVersion {
            path: path.to_owned(),
            version: file.version,
        });
    }
    Ok(to_state(file.keys, file.accounts, file.projects))
}

/// Whether the file is of the first version: the list of admin keys alone.
fn is_list_of_keys(text: &[u8]) -> bool {
    text.trim_ascii_start().first() == Some(&b'[')
}

fn parse<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T, StateFileError> {
    serde_json::from_slice(text).map_err(|error| StateFileError::Invalid {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
    })
}

fn to_state(
    keys: Vec<SandboxKey>,
    accounts: Vec<SandboxAccount>,
    projects: Vec<SandboxProject>,
) -> SandboxState {
    SandboxState {
        keys: keys.into(),
        accounts: accounts.into(),
        projects: projects.into(),
        ..SandboxState::default()
    }
}

/// Replaces the file atomically.
pub(super) fn save(path: &Path, state: &SandboxState) -> Result<(), StateFileError> {
    let write_error = |source| StateFileError::NotWritten {
        path: path.to_owned(),
        source,
    };
    let content = StateFile {
        version: VERSION,
        keys: state.keys.all(),
        accounts: state.accounts.all(),
        projects: state.projects.all(),
    };
    let text = serde_json::to_vec_pretty(&content).map_err(|error| write_error(error.into()))?;
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
