//! What would keep a process from becoming the ledger's writer, as far as that
//! can be seen without changing anything.

use std::io::{Error, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::ledger::error::LedgerError;
use crate::ledger::lock::lock_path;
use crate::ledger::open::{
    FOLDER, Identity, READ_ONLY, beside, expect, expect_machine, on_opening,
};
use crate::ledger::read;

/// systemd makes it, and a folder in it for each instance, when the service
/// starts (`StateDirectory=` in the units).
const STATE: &str = "/var/lib/rekeyd";

/// Where systemd is what runs this host (`sd_booted(3)`).
const SYSTEMD: &str = "/run/systemd/system";

/// Looks at the ledger at `path` and at what it needs around it. `machine` is
/// this one's, where it has an id. One that is not there yet is nothing wrong;
/// what may be written is looked at by whom its folder belongs to.
///
/// # Errors
/// Why it cannot be opened, or is not to be.
pub fn inspect(path: &Path, ours: &Identity, machine: Option<&str>) -> Result<(), LedgerError> {
    let folder = folder_of(path);
    let cannot = |why: String| LedgerError::Open {
        path: path.to_owned(),
        why,
    };
    let owner = match folder.metadata() {
        Ok(found) if found.is_dir() => found.uid(),
        Ok(_) => return Err(cannot(format!("{} is not a folder", folder.display()))),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(cannot(error.to_string()));
        }
        Err(_) if is_made_by_systemd(folder) => return Ok(()),
        Err(_) => return Err(no_folder(path)),
    };
    let writes = owner == rustix::process::geteuid().as_raw();

    let lock = lock_path(path);
    can_write(&lock, writes).map_err(|error| LedgerError::Lock {
        path: lock.clone(),
        why: error.to_string(),
    })?;
    for file in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")] {
        can_write(&file, writes).map_err(|error| {
            let kind = error.kind();
            if kind == ErrorKind::IsADirectory && file == path {
                cannot(FOLDER.to_owned())
            } else if [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem].contains(&kind) {
                cannot(READ_ONLY.to_owned())
            } else {
                cannot(format!("{}: {error}", file.display()))
            }
        })?;
    }
    content(path, ours, machine)
}

/// Whether a file of the ledger is one, and can be written or made.
fn can_write(file: &Path, writes: bool) -> Result<(), Error> {
    let (asked, access) = match file.metadata() {
        Ok(found) if found.is_dir() => return Err(ErrorKind::IsADirectory.into()),
        Ok(found) if !found.is_file() => return Err(Error::other("it is no regular file")),
        Ok(_) => (file.to_owned(), Access::READ_OK | Access::WRITE_OK),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let folder = folder_of(&target(file)).to_owned();
            (folder, Access::WRITE_OK | Access::EXEC_OK)
        }
        // Another user may not look at it.
        Err(_) if !writes => return Ok(()),
        Err(error) => return Err(error),
    };
    match accessat(CWD, &asked, access, AtFlags::EACCESS) {
        Err(error) if writes || error == rustix::io::Errno::NOENT => Err(error.into()),
        _ => Ok(()),
    }
}

/// What stands at `path`, or where a link there leads to.
fn target(path: &Path) -> PathBuf {
    match path.read_link() {
        Ok(target) => folder_of(path).join(target),
        Err(_) => path.to_owned(),
    }
}

/// Whether what the ledger says lets this process write it.
fn content(path: &Path, ours: &Identity, machine: Option<&str>) -> Result<(), LedgerError> {
    let can_read = accessat(CWD, path, Access::READ_OK, AtFlags::EACCESS).is_ok();
    let (log, index) = (beside(path, "-wal").exists(), beside(path, "-shm").exists());
    let opened = match (can_read, log, index) {
        (true, true, true) => read::open_any(path)?,
        // To read it otherwise SQLite would make both.
        (true, false, false) => read::open_alone(path)?,
        _ => return Ok(()),
    };
    let (connection, version) = opened;
    if version == 0 {
        // Its tables are still to be made.
        return Ok(());
    }
    let expected = expect(&connection, path, ours);
    let expected = expected.and_then(|()| expect_machine(&connection, path, machine));
    expected.map(drop).map_err(|error| on_opening(path, error))
}

fn is_made_by_systemd(folder: &Path) -> bool {
    // A link that leads nowhere is in its way.
    let is_free = folder.symlink_metadata().is_err();
    let state = Path::new(STATE);
    let is_state = folder == state || folder.parent() == Some(state);
    is_free && is_state && Path::new(SYSTEMD).exists()
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
