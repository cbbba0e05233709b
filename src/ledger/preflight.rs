//! Checks whether a process could become the ledger's writer, without changing
//! anything.

use std::io::{Error, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::core::os_error;
use crate::ledger::absence::{absence_error, emptiness_error, is_created_by_systemd, resolve_link};
use crate::ledger::checkpoint::check_integrity;
use crate::ledger::checkpoint_note::{LogOrigin, check_note, log_that_damages};
use crate::ledger::error::LedgerError;
use crate::ledger::free_space::FreeSpace;
use crate::ledger::identity::{self, ConfigurationIdentity, LedgerIdentity};
use crate::ledger::last_run::{self, LastRun};
use crate::ledger::ledger_file::{
    IS_DIRECTORY_REASON, READ_ONLY_REASON, check_beside, network_file_system_at,
};
use crate::ledger::lock::{WriterLock, unusable_lock_file};
use crate::ledger::open::into_open_error;
use crate::ledger::paths::{lock_path, missing_directory_error, parent_directory, sibling_path};
use crate::ledger::version::LedgerVersion;
use crate::ledger::{first_release, foreign_schema, kept_file, read, read_only};

/// A migration that the next writer makes at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingMigration {
    /// The release that wrote the ledger.
    pub release: &'static str,
    /// The path of the file that keeps the previous ledger.
    pub kept_path: PathBuf,
}

/// What is worth knowing of a ledger that a process could write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerNotes {
    /// The migration that the next writer makes.
    pub pending_migration: Option<PendingMigration>,
    /// The name of its network file system, on which its inode is not locked.
    pub network_file_system: Option<&'static str>,
    /// The tables and indexes that other programs have added.
    pub further_objects: Vec<String>,
    /// The latest process that rotated by schedule.
    pub last_run: Option<LastRun>,
}

/// Checks the ledger at `path` and the files and folder that it needs. `host` is this
/// host's id, if it has one. A ledger that the first start has yet to make is no problem;
/// write access and room on the disk are checked only for the folder's owner.
///
/// # Errors
/// The error with which a writer would fail to open the ledger, or that it is gone.
pub fn check_usable(
    path: &Path,
    configured: &LedgerIdentity,
    configuration: &ConfigurationIdentity,
    host: Option<&str>,
) -> Result<LedgerNotes, LedgerError> {
    let folder = parent_directory(path);
    let cannot = |reason: String| LedgerError::Open {
        path: path.to_owned(),
        reason,
    };
    let owner = match folder.metadata() {
        Ok(metadata) if metadata.is_dir() => metadata.uid(),
        Ok(_) => return Err(cannot(format!("{} is not a folder", folder.display()))),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(cannot(os_error::describe(&error)));
        }
        Err(_) if is_created_by_systemd(folder) => return Ok(LedgerNotes::default()),
        Err(_) => return Err(missing_directory_error(path)),
    };
    let is_writer = owner == rustix::process::geteuid().as_raw();

    let lock = lock_path(path);
    check_beside(&lock)
        .and_then(|()| check_file_access(&lock, is_writer))
        .map_err(|error| unusable_lock_file(lock.clone(), &error))?;
    check_note(path)?;
    let log = sibling_path(path, "-wal");
    for file in [path.to_owned(), log.clone(), sibling_path(path, "-shm")] {
        // SQLite gives an empty log of its own user the mode of the ledger.
        if file == log && is_writer && log.metadata().is_ok_and(|found| found.len() == 0) {
            continue;
        }
        check_file_access(&file, is_writer).map_err(|error| {
            let kind = error.kind();
            if kind == ErrorKind::IsADirectory && file == path {
                cannot(IS_DIRECTORY_REASON.to_owned())
            } else if [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem].contains(&kind) {
                cannot(READ_ONLY_REASON.to_owned())
            } else {
                cannot(format!(
                    "{}: {}",
                    file.display(),
                    os_error::describe(&error)
                ))
            }
        })?;
    }
    if let Ok(false) = path.try_exists() {
        let absence = absence_error(path);
        if absence.is_loss() {
            return Err(absence);
        }
    }
    if is_writer {
        FreeSpace::for_check(path).check_start()?;
    }
    Ok(LedgerNotes {
        network_file_system: network_file_system_at(path).or(network_file_system_at(folder)),
        ..check_content(path, configured, configuration, host)?
    })
}

/// Checks that a path is a regular file that can be written, or that it can be created.
fn check_file_access(file: &Path, is_writer: bool) -> Result<(), Error> {
    let (checked, access) = match file.metadata() {
        Ok(metadata) if metadata.is_dir() => return Err(ErrorKind::IsADirectory.into()),
        Ok(metadata) if !metadata.is_file() => {
            return Err(Error::other("it is not a regular file"));
        }
        Ok(_) => (file.to_owned(), Access::READ_OK | Access::WRITE_OK),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let folder = parent_directory(&resolve_link(file)).to_owned();
            (folder, Access::WRITE_OK | Access::EXEC_OK)
        }
        // Another user than the writer needs no access.
        Err(_) if !is_writer => return Ok(()),
        Err(error) => return Err(error),
    };
    match accessat(CWD, &checked, access, AtFlags::EACCESS) {
        Err(error) if is_writer || error == rustix::io::Errno::NOENT => Err(error.into()),
        _ => Ok(()),
    }
}

/// Checks that the ledger's recorded identity is that of the configuration and this host, and
/// returns what is worth knowing of its content.
fn check_content(
    path: &Path,
    configured: &LedgerIdentity,
    configuration: &ConfigurationIdentity,
    host: Option<&str>,
) -> Result<LedgerNotes, LedgerError> {
    let origin = read_only::check_log(path)?;
    // A running writer checks the pages itself. Looked up before the connection, whose locks
    // this would drop.
    let must_check = WriterLock::holder(path).is_none();
    let Some((connection, version)) = read_only::open_untouched(path)? else {
        return Ok(LedgerNotes::default());
    };
    if must_check && let Err(error) = check_integrity(&connection) {
        return Err(if origin == LogOrigin::Unclear {
            log_that_damages(path, &error)
        } else {
            into_open_error(path, error)
        });
    }
    if must_check && version == LedgerVersion::CURRENT {
        read::key_states(&connection, None).map_err(|error| into_open_error(path, error))?;
    }
    identity::check_configuration(&connection, path, version, configuration)
        .and_then(|()| identity::check_identity(&connection, path, version, configured))
        .and_then(|()| identity::check_host(&connection, path, version, host))
        .map_err(|error| into_open_error(path, error))?;
    let emptiness = (version == LedgerVersion::Empty).then(|| emptiness_error(path));
    if let Some(loss) = emptiness.filter(LedgerError::is_loss) {
        return Err(loss);
    }
    let pending_migration = match version {
        LedgerVersion::FirstRelease(_) => Some(PendingMigration {
            release: first_release::RELEASE,
            kept_path: kept_file::kept_path(path, first_release::RELEASE),
        }),
        LedgerVersion::Empty | LedgerVersion::Supported(_) => None,
    };
    Ok(LedgerNotes {
        pending_migration,
        network_file_system: None,
        further_objects: foreign_schema::further_objects(&connection, version)?,
        last_run: if version == LedgerVersion::CURRENT {
            last_run::read(&connection)?
        } else {
            None
        },
    })
}
