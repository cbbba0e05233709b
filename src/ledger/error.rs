//! The errors of the ledger.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::core::apply::ApplyError;
use crate::ledger::damage::LedgerDamage;
use crate::ledger::foreign_object::ForeignObject;
use crate::ledger::missing_object::MissingObject;

/// An error of opening, reading or writing the ledger.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// Another process is the writer.
    #[error("the ledger {} is in use by {holder}; hint: stop that process first; `sudo \
             rekeyd ledger locks` names each process with a lock", .path.display())]
    Locked {
        /// The ledger.
        path: PathBuf,
        /// The record of its holder.
        holder: String,
    },
    /// The lock file cannot be created or opened.
    #[error("cannot open the lock file {}: {reason}", .path.display())]
    LockFile {
        /// The lock file.
        path: PathBuf,
        /// The system's error, with a hint.
        reason: String,
    },
    /// The file system has no file locks.
    #[error("cannot lock {}: {reason}; hint: move the ledger to a local disk, because this file \
             system has no file locks", .path.display())]
    LocksUnsupported {
        /// The file.
        path: PathBuf,
        /// The system's error.
        reason: String,
    },
    /// A newer rekeyd wrote the ledger.
    #[error("the ledger {} has version {found_version}, but this rekeyd supports only versions up \
             to {supported_version}; hint: install the newer rekeyd again, because a ledger cannot \
             be downgraded", .path.display())]
    NewerVersion {
        /// The ledger.
        path: PathBuf,
        /// Its version.
        found_version: i64,
        /// The newest supported version.
        supported_version: i64,
    },
    /// An earlier release wrote the ledger, and a reader does not migrate it.
    #[error("the ledger {} has the format of rekeyd {release}; hint: `rekeyd run` or `rekeyd once` \
             migrates it and keeps the old file as {}", .path.display(), .kept_path.display())]
    NotMigrated {
        /// The ledger.
        path: PathBuf,
        /// The release that wrote it.
        release: &'static str,
        /// The path at which the migration keeps the previous file.
        kept_path: PathBuf,
    },
    /// An earlier release wrote the ledger, and its migration failed.
    #[error("cannot migrate the ledger {} of rekeyd {release}: {reason}", .path.display())]
    Migration {
        /// The ledger.
        path: PathBuf,
        /// The release that wrote it.
        release: &'static str,
        /// The cause.
        reason: String,
    },
    /// The copy of a ledger before its migration cannot be written.
    #[error("cannot write {}, the copy of the ledger before its migration: {reason}", .path.display())]
    KeptFile {
        /// The path of the copy.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// A copy of a ledger cannot be written.
    #[error("cannot write the copy {}: {reason}", .path.display())]
    Copy {
        /// The path of the copy.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// The archive of a ledger cannot be used.
    #[error("cannot use the archive {}: {reason}", .path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// The cause, with a hint.
        reason: String,
    },
    /// The ledger belongs to another provider or organization.
    #[error("the ledger {} belongs to {recorded}, but the configuration names {configured}; hint: \
             restore base-url and organization, or give this provider its own ledger", .path.display())]
    IdentityMismatch {
        /// The ledger.
        path: PathBuf,
        /// The identity in the ledger.
        recorded: String,
        /// The identity in the configuration.
        configured: String,
    },
    /// The ledger was last written with another configuration, and this one names none.
    #[error("the ledger {} was last used with {}, and {} sets no `[ledger] path`; it may belong to \
             another organization; hint: give this configuration its own ledger, or set that path \
             in it to share the ledger", .path.display(), .recorded.display(), .configured.display())]
    OtherConfiguration {
        /// The ledger.
        path: PathBuf,
        /// The configuration file of its latest writer.
        recorded: PathBuf,
        /// The configuration file that names no ledger.
        configured: PathBuf,
    },
    /// Another host wrote the ledger last.
    #[error("the ledger {} was last written on another machine, and two machines with one ledger \
             revoke each other's keys; hint: if the other machine has stopped for good, run \
             `rekeyd run --take-over`", .path.display())]
    OtherHost {
        /// The ledger.
        path: PathBuf,
    },
    /// The file is no SQLite database.
    #[error("{} is not a ledger, because it is not an SQLite database; hint: move it away, or \
             correct [ledger] path", .path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The ledger does not exist, and a reader does not create it.
    #[error("no ledger at {}; hint: `rekeyd run` creates it", .path.display())]
    NotFound {
        /// Its path.
        path: PathBuf,
    },
    /// The ledger does not exist any more.
    #[error("the ledger {} is gone, although {} shows that there was one; hint: restore it, \
             or the newest backup with `rekeyd restore PATH`; without it, rekeyd does not know the \
             keys that it created", .path.display(), .trace.display())]
    Gone {
        /// Its path.
        path: PathBuf,
        /// A file beside it that only a rekeyd with a ledger makes.
        trace: PathBuf,
    },
    /// The ledger has no content any more.
    #[error("the ledger {} is empty, although {} shows that it was not; hint: put it back, or the \
             newest backup with `rekeyd restore PATH`; without it, rekeyd does not know the keys \
             that it made", .path.display(), .note.display())]
    Emptied {
        /// Its path.
        path: PathBuf,
        /// The note of its last checkpoint.
        note: PathBuf,
    },
    /// The folder of the ledger does not exist.
    #[error("cannot open the ledger {}: folder {} does not exist; hint: mount its disk, or create it",
            .path.display(), .folder.display())]
    FolderMissing {
        /// The ledger.
        path: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// The ledger cannot be opened or prepared.
    #[error("cannot open the ledger {}: {reason}", .path.display())]
    Open {
        /// The ledger.
        path: PathBuf,
        /// The error of SQLite or of the system.
        reason: String,
    },
    /// The log beside the ledger may belong to another file.
    #[error("the log beside the ledger {} may not belong to it: {reason}; do not remove the log, \
             because it may hold the only record of a live credential; hint: if somebody copied a \
             ledger there, set the log aside: {set_aside}{}; to restore a backup, use `rekeyd \
             restore`",
            .path.display(), keep_advice(.keep.as_deref()))]
    ForeignLog {
        /// The ledger.
        path: PathBuf,
        /// What speaks against it.
        reason: String,
        /// The commands that set the log aside.
        set_aside: String,
        /// The command that copies the log into the ledger, if there is one to copy it into.
        keep: Option<String>,
    },
    /// The schema has SQL of another program.
    #[error("the ledger {} has {object}, which rekeyd did not create, and which may change or \
             refuse what rekeyd records; hint: {}", .path.display(), .object.advice(.path))]
    ForeignObject {
        /// The ledger.
        path: PathBuf,
        /// What it has.
        object: ForeignObject,
    },
    /// The schema lacks something of rekeyd's own.
    #[error("the ledger {} has no {object}, which rekeyd created and another program dropped; \
             hint: {}", .path.display(), .object.advice())]
    MissingObject {
        /// The ledger.
        path: PathBuf,
        /// What it lacks.
        object: MissingObject,
    },
    /// The disk has no room for what the ledger writes.
    #[error("cannot write the ledger {}: {reason}; hint: {advice}", .path.display())]
    NoRoom {
        /// The ledger.
        path: PathBuf,
        /// What is full.
        reason: String,
        /// What to do about it.
        advice: String,
    },
    /// The files of the open ledger changed.
    #[error("the files of the ledger {} changed while rekeyd was using them: {damage}; rekeyd sends \
             nothing more to the provider; hint: stop rekeyd, restore the newest backup with \
             `rekeyd restore PATH`, and start it; it then reports the credentials that the backup \
             lacks as lookalikes, for you to adopt or revoke", .path.display())]
    Damaged {
        /// The ledger.
        path: PathBuf,
        /// The change.
        damage: LedgerDamage,
    },
    /// The note of the last checkpoint cannot be written.
    #[error("cannot record the ledger's last checkpoint: {0}")]
    CheckpointNote(String),
    /// The ledger has content that rekeyd never writes.
    #[error(
        "the ledger has content that rekeyd never writes: {0}; hint: restore the newest backup \
             with `rekeyd restore PATH`"
    )]
    Corrupt(String),
    /// A change that the key's state does not allow.
    #[error("cannot record a change: {0}")]
    Rejected(#[from] ApplyError),
    /// The database failed to read or write.
    #[error("cannot read or write the ledger: {error}{advice}", error = .0, advice = full_disk_advice(.0))]
    Database(DatabaseError),
    /// SQLite ended the transaction of this change because of another one.
    #[error("cannot write the ledger: another change in the same transaction failed ({0})")]
    BatchAborted(String),
    /// The writer has stopped, because the process ends.
    #[error("cannot write the ledger: its writer has stopped")]
    WriterStopped,
}

impl LedgerError {
    /// Returns whether the error is about the content of the ledger, and not about
    /// whether the ledger can be written.
    #[must_use]
    pub fn is_content_error(&self) -> bool {
        match self {
            Self::Corrupt(_) | Self::Rejected(_) => true,
            Self::Database(_) => self.is_constraint_violation(),
            Self::Locked { .. }
            | Self::LockFile { .. }
            | Self::LocksUnsupported { .. }
            | Self::NewerVersion { .. }
            | Self::NotMigrated { .. }
            | Self::Migration { .. }
            | Self::KeptFile { .. }
            | Self::Copy { .. }
            | Self::Archive { .. }
            | Self::IdentityMismatch { .. }
            | Self::OtherHost { .. }
            | Self::OtherConfiguration { .. }
            | Self::NotADatabase { .. }
            | Self::NotFound { .. }
            | Self::Gone { .. }
            | Self::Emptied { .. }
            | Self::FolderMissing { .. }
            | Self::Open { .. }
            | Self::ForeignLog { .. }
            | Self::ForeignObject { .. }
            | Self::MissingObject { .. }
            | Self::Damaged { .. }
            | Self::NoRoom { .. }
            | Self::CheckpointNote(_)
            | Self::BatchAborted(_)
            | Self::WriterStopped => false,
        }
    }

    /// Returns the error of reading an archive. What it advises for a ledger, such as to restore
    /// a backup, helps no archive.
    #[must_use]
    pub fn of_archive(self, path: &Path) -> Self {
        let reason = match &self {
            Self::Archive { .. } | Self::NewerVersion { .. } => return self,
            Self::Corrupt(reason) => reason.clone(),
            Self::Database(error) => error.to_string(),
            Self::Locked { .. }
            | Self::LockFile { .. }
            | Self::LocksUnsupported { .. }
            | Self::NotMigrated { .. }
            | Self::Migration { .. }
            | Self::KeptFile { .. }
            | Self::Copy { .. }
            | Self::IdentityMismatch { .. }
            | Self::OtherHost { .. }
            | Self::OtherConfiguration { .. }
            | Self::NotADatabase { .. }
            | Self::NotFound { .. }
            | Self::Gone { .. }
            | Self::Emptied { .. }
            | Self::FolderMissing { .. }
            | Self::Open { .. }
            | Self::ForeignLog { .. }
            | Self::ForeignObject { .. }
            | Self::MissingObject { .. }
            | Self::Damaged { .. }
            | Self::NoRoom { .. }
            | Self::CheckpointNote(_)
            | Self::Rejected(_)
            | Self::BatchAborted(_)
            | Self::WriterStopped => {
                let text = self.to_string();
                let (text, _) = text.split_once("; hint: ").unwrap_or((&text, ""));
                text.to_owned()
            }
        };
        Self::Archive {
            path: path.to_owned(),
            reason: format!(
                "it is damaged: {reason}; hint: use another copy of this file: the ledger does not \
                 have what was archived any more"
            ),
        }
    }

    /// Returns whether a ledger that should be there is not.
    #[must_use]
    pub const fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::Gone { .. } | Self::Emptied { .. } | Self::FolderMissing { .. }
        )
    }

    /// Returns whether the disk of the ledger is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        let is_in_database = || matches!(self, Self::Database(error) if error.is_disk_full());
        matches!(self, Self::NoRoom { .. }) || is_in_database()
    }

    /// Returns whether another program has locked the database.
    #[must_use]
    pub fn is_locked_by_program(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_locked())
    }

    /// Returns whether SQLite could not compile a statement, or a value has another type:
    /// the tables are not those of rekeyd.
    pub(super) fn has_other_tables(&self) -> bool {
        matches!(self, Self::Database(error) if error.has_other_tables())
    }

    /// Returns whether a trigger or a constraint refused a statement.
    pub(super) fn is_constraint_violation(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_constraint_violation())
    }

    /// Returns whether SQLite found the file damaged, or no database at all.
    pub(super) fn is_malformed(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_malformed())
    }
}

/// Returns what to do about a full disk. Its free space may be larger than a commit needs.
fn full_disk_advice(error: &DatabaseError) -> &'static str {
    if error.is_disk_full() {
        "; hint: free some space on the disk of the ledger; 64 MiB are enough"
    } else {
        ""
    }
}

fn keep_advice(command: Option<&str>) -> String {
    let advice =
        command.map(|command| format!("; otherwise copy the log into the ledger: {command}"));
    advice.unwrap_or_default()
}

/// An error of the database library, opaque outside the ledger.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct DatabaseError(Arc<rusqlite::Error>);

impl DatabaseError {
    pub(super) fn inner(&self) -> &rusqlite::Error {
        &self.0
    }

    /// Returns SQLite's extended code.
    pub(super) fn extended_code(&self) -> Option<i32> {
        self.0.sqlite_error().map(|error| error.extended_code)
    }

    fn is_malformed(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        let code = self.0.sqlite_error_code();
        code.is_some_and(|code| [DatabaseCorrupt, NotADatabase].contains(&code))
    }

    fn has_other_tables(&self) -> bool {
        let code = self.extended_code();
        code.is_none_or(|code| code == rusqlite::ffi::SQLITE_ERROR)
    }

    fn is_locked(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
        let code = self.0.sqlite_error_code();
        code.is_some_and(|code| [DatabaseBusy, DatabaseLocked].contains(&code))
    }

    pub(super) fn is_disk_full(&self) -> bool {
        self.0.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
    }

    fn is_constraint_violation(&self) -> bool {
        self.0.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation)
    }
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(DatabaseError(Arc::new(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_of_another_program_is_no_full_disk() {
        use rusqlite::ffi::{SQLITE_BUSY, SQLITE_FULL, SQLITE_IOERR, SQLITE_LOCKED};
        for (code, expected) in [
            (SQLITE_BUSY, true),
            (SQLITE_LOCKED, true),
            (SQLITE_FULL, false),
            (SQLITE_IOERR, false),
        ] {
            let error = rusqlite::ffi::Error::new(code);
            let error = LedgerError::from(rusqlite::Error::SqliteFailure(error, None));
            assert_eq!(error.is_locked_by_program(), expected, "{code}");
        }
    }
}
