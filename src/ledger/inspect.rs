//! What would keep a process from becoming the ledger's writer, as far as that
//! can be seen without changing anything.

use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::ledger::error::LedgerError;
use crate::ledger::open::{self, Identity, expect};
use crate::ledger::read;

/// Below it systemd makes the folder that a unit's `StateDirectory=` names when
/// the service starts.
const STATE: &str = "/var/lib";

/// Looks at the ledger at `path` and the folder that it stands in. `machine` is
/// this one's, where it has an id. One that is not there yet is nothing wrong.
///
/// # Errors
/// Why it cannot be opened, or is not to be.
pub fn inspect(path: &Path, ours: &Identity, machine: Option<&str>) -> Result<(), LedgerError> {
    let folder = folder_of(path);
    let cannot = |why| LedgerError::Open {
        path: path.to_owned(),
        why,
    };
    match folder.metadata() {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(cannot(format!("{} is not a folder", folder.display()))),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(cannot(error.to_string()));
        }
        Err(_) if folder.starts_with(STATE) => return Ok(()),
        Err(_) => return Err(no_folder(path)),
    }
    let access = Access::WRITE_OK | Access::EXEC_OK;
    if let Err(error) = accessat(CWD, folder, access, AtFlags::EACCESS) {
        let why = std::io::Error::from(error);
        return Err(cannot(format!(
            "cannot write the folder {}: {why}",
            folder.display()
        )));
    }
    if !path.exists() {
        return Ok(());
    }
    let (connection, version) = read::open_any(path)?;
    if version == 0 {
        // Nothing was ever written to it.
        return Ok(());
    }
    expect(&connection, path, ours)?;
    match (open::machine(&connection)?, machine) {
        (Some(theirs), Some(ours)) if theirs != ours => Err(LedgerError::OtherMachine {
            path: path.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// The folder of the ledger at `path` is missing.
pub(super) fn no_folder(path: &Path) -> LedgerError {
    LedgerError::Open {
        path: path.to_owned(),
        why: format!(
            "the folder {} does not exist; make it",
            folder_of(path).display()
        ),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
