//! The read side of the ledger, for commands: it returns domain types.

pub(super) mod history;
pub(super) mod operator_note;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, Transaction};

use crate::core::channel_state::ChannelState;
use crate::core::condition::{Condition, ListenerProblem};
use crate::core::decide::key_names::RecordedNames;
use crate::core::ids::{CredentialId, KeyName};
use crate::core::notification::ChannelId;
use crate::core::scope::Scope;
use crate::core::state::KeyState;
use crate::core::time;
use crate::ledger::archive_file;
use crate::ledger::channel_state;
use crate::ledger::crash::{self, RecordedCrashes};
use crate::ledger::error::LedgerError;
use crate::ledger::identity::{
    ConfigurationIdentity, LedgerIdentity, check_configuration, check_identity,
};
use crate::ledger::key_names;
use crate::ledger::last_run::{self, LastRun};
use crate::ledger::ledger_file::cannot_open;
use crate::ledger::reconciliation::{self, Reconciliation, RemoteCredential};
use crate::ledger::rotation_request::{self, RecordedRequest};
use crate::ledger::version::LedgerVersion;
use crate::ledger::{copy_in_memory, read, read_only};

/// A ledger that is only read, with or without a running writer.
pub struct LedgerReader {
    connection: Connection,
    path: PathBuf,
    /// When the ledger was as this shows it, if that is a snapshot of an earlier time.
    as_of: Option<(Timestamp, SnapshotReason)>,
}

/// Why a reader sees a snapshot in place of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotReason {
    /// No daemon runs that could show the ledger.
    NoDaemon,
    /// The running daemon could not send a copy, such as one that is too large.
    NotSent,
}

impl LedgerReader {
    /// Opens the ledger at `path`.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`], or the ledger cannot be read.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        Ok(Self {
            connection: read_only::open(path)?,
            path: path.to_owned(),
            as_of: None,
        })
    }

    /// Opens the copy of the ledger at `path` that [`crate::ledger::Ledger::copy`] returned.
    ///
    /// # Errors
    /// It is none, or of another version.
    pub fn of_copy(path: &Path, content: &[u8]) -> Result<Self, LedgerError> {
        let connection = copy_in_memory::open_copy(content)?;
        if LedgerVersion::read(&connection, path)? != LedgerVersion::CURRENT {
            return Err(LedgerError::Open {
                path: path.to_owned(),
                reason: "the running rekeyd has another version; hint: use the same version for this command".to_owned(),
            });
        }
        Ok(Self {
            connection,
            path: path.to_owned(),
            as_of: None,
        })
    }

    /// Opens the archive in `file`, which was opened at `path`, to show its history.
    ///
    /// # Errors
    /// It is none, is of a newer version, or cannot be read.
    pub fn of_archive(path: &Path, file: File) -> Result<Self, LedgerError> {
        let content = archive_file::read_content(path, file)?;
        Ok(Self {
            connection: archive_file::open_content(path, &content)?,
            path: path.to_owned(),
            as_of: None,
        })
    }

    /// Opens the snapshot at `path` that a writer left.
    ///
    /// # Errors
    /// There is none, it cannot be read, or is of another version.
    pub fn open_snapshot(path: &Path, reason: SnapshotReason) -> Result<Self, LedgerError> {
        let failed = |error: std::io::Error| cannot_open(path, &error);
        let taken_at = path.metadata().and_then(|found| found.modified());
        Ok(Self {
            as_of: Some((time::from_system(taken_at.map_err(failed)?), reason)),
            ..Self::open_whole(path)?
        })
    }

    /// Returns when the ledger was as this shows it, and why that is shown, if it is a
    /// snapshot of an earlier time.
    #[must_use]
    pub const fn as_of(&self) -> Option<(Timestamp, SnapshotReason)> {
        self.as_of
    }

    /// Opens a copy of a ledger that has no log, and creates none beside it.
    ///
    /// # Errors
    /// It cannot be read, or is of another version.
    pub(super) fn open_whole(path: &Path) -> Result<Self, LedgerError> {
        let (connection, version) = read_only::open_immutable(path)?;
        if version != LedgerVersion::CURRENT {
            return Err(of_other_version(path));
        }
        Ok(Self {
            connection,
            path: path.to_owned(),
            as_of: None,
        })
    }

    /// Opens the ledger at `path`; none if the first start has yet to make it.
    ///
    /// # Errors
    /// The ledger is gone, or cannot be read.
    pub fn open_existing(path: &Path) -> Result<Option<Self>, LedgerError> {
        match Self::open(path) {
            Ok(reader) => Ok(Some(reader)),
            Err(LedgerError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the ledger at `path` without creating a file beside it; none if the first start
    /// has yet to make it, or if it cannot be read so.
    ///
    /// # Errors
    /// The ledger is gone or of another version, or cannot be read.
    pub fn open_untouched(path: &Path) -> Result<Option<Self>, LedgerError> {
        match read_only::check_exists(path) {
            Ok(()) => {}
            Err(LedgerError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        match read_only::open_untouched(path)? {
            Some((connection, LedgerVersion::CURRENT)) => Ok(Some(Self {
                connection,
                path: path.to_owned(),
                as_of: None,
            })),
            Some(_) => Err(of_other_version(path)),
            None => Ok(None),
        }
    }

    /// Returns a snapshot, whose reads all show the ledger at one moment, whatever the
    /// daemon writes meanwhile. During its lifetime, SQLite cannot copy the whole
    /// write-ahead log into the ledger.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn snapshot(&self) -> Result<LedgerSnapshot<'_>, LedgerError> {
        Ok(LedgerSnapshot {
            transaction: self.connection.unchecked_transaction()?,
            path: &self.path,
        })
    }
}

fn of_other_version(path: &Path) -> LedgerError {
    LedgerError::Open {
        path: path.to_owned(),
        reason: "it is of another version".to_owned(),
    }
}

/// The ledger at the moment of the first read.
pub struct LedgerSnapshot<'a> {
    pub(super) transaction: Transaction<'a>,
    path: &'a Path,
}

impl LedgerSnapshot<'_> {
    /// Rejects a ledger that was last written with another configuration than one that names
    /// no ledger.
    ///
    /// # Errors
    /// [`LedgerError::OtherConfiguration`], or the ledger cannot be read.
    pub fn check_configuration(
        &self,
        configuration: &ConfigurationIdentity,
    ) -> Result<(), LedgerError> {
        let version = LedgerVersion::CURRENT;
        check_configuration(&self.transaction, self.path, version, configuration)
    }

    /// Rejects a ledger whose identity is not `configured`.
    ///
    /// # Errors
    /// [`LedgerError::IdentityMismatch`], or the ledger cannot be read.
    pub fn check_identity(&self, configured: &LedgerIdentity) -> Result<(), LedgerError> {
        let version = LedgerVersion::CURRENT;
        check_identity(&self.transaction, self.path, version, configured)
    }

    /// Returns the state of every key in the ledger.
    ///
    /// # Errors
    /// The ledger cannot be read, or has a row that rekeyd never writes.
    pub fn key_states(&self) -> Result<BTreeMap<KeyName, KeyState>, LedgerError> {
        let states = read::key_states(&self.transaction, None)?.into_iter();
        Ok(states.map(|state| (state.key.clone(), state)).collect())
    }

    /// Returns the names of all keys.
    ///
    /// # Errors
    /// As [`LedgerSnapshot::key_states`].
    pub fn recorded_names(&self) -> Result<RecordedNames, LedgerError> {
        key_names::recorded_names(&self.transaction)
    }

    /// Returns the state of one key.
    ///
    /// # Errors
    /// As [`LedgerSnapshot::key_states`].
    pub fn key_state(&self, key: &KeyName) -> Result<KeyState, LedgerError> {
        read::key_state(&self.transaction, key)
    }

    /// Returns the time of the first of a key's latest consecutive failures.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn failing_since(&self, key: &KeyName) -> Result<Option<Timestamp>, LedgerError> {
        read::failing_since(&self.transaction, key)
    }

    /// Returns the lookalikes in the last list of a scope that have no row since, with
    /// their names, newest first by the time in their labels.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn lookalikes(&self, scope: &Scope) -> Result<Vec<(CredentialId, String)>, LedgerError> {
        reconciliation::all_lookalikes(&self.transaction, scope)
    }

    /// Returns the problems of the daemon's conditions, worst first. A problem that blocks
    /// nothing, such as a rejected configuration, comes last.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn conditions(&self) -> Result<Vec<String>, LedgerError> {
        conditions(&self.transaction)
    }

    /// Returns why the daemon cannot listen on a place, if it has recorded that.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn listener_problem(
        &self,
        listener: ListenerProblem,
    ) -> Result<Option<String>, LedgerError> {
        let query = "SELECT reason FROM condition WHERE name = ?1";
        let mut query = self.transaction.prepare(query)?;
        let mut reasons = query.query_map([listener.as_str()], |row| row.get(0))?;
        Ok(reasons.next().transpose()?)
    }

    /// Returns how each notification channel stands that has a notification.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn channel_states(&self) -> Result<BTreeMap<ChannelId, ChannelState>, LedgerError> {
        channel_state::channel_states(&self.transaction)
    }

    /// Returns the requested rotations that have not started, by key.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn rotation_requests(&self) -> Result<Vec<RecordedRequest>, LedgerError> {
        rotation_request::read(&self.transaction)
    }

    /// Returns the latest process that rotates by schedule, and the time of the newest
    /// event.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn last_run(&self) -> Result<Option<(LastRun, Option<Timestamp>)>, LedgerError> {
        let Some(run) = last_run::read(&self.transaction)? else {
            return Ok(None);
        };
        Ok(Some((run, last_run::newest_event_at(&self.transaction)?)))
    }

    /// Returns the last crash, and how many there were since a time; none without one.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn crashes(&self, since: Timestamp) -> Result<Option<RecordedCrashes>, LedgerError> {
        crash::read(&self.transaction, since)
    }

    /// Returns the time of a key's latest failure to start or to finish a rotation.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn failed_at(&self, key: &KeyName) -> Result<Option<Timestamp>, LedgerError> {
        read::failed_at(&self.transaction, key)
    }

    /// Compares the provider's list of a scope with every row, and returns the state of each
    /// recorded credential, expected or not.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn reconcile(
        &self,
        scope: &Scope,
        listed: Vec<RemoteCredential>,
    ) -> Result<Reconciliation, LedgerError> {
        reconciliation::reconcile(&self.transaction, scope, listed, |_| true)
    }

    /// Returns whether a list has none of the credentials that the last one of its scope
    /// had, so that it may be another organization's.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn is_foreign_list(
        &self,
        scope: &Scope,
        listed: &[CredentialId],
    ) -> Result<bool, LedgerError> {
        reconciliation::is_foreign(&self.transaction, scope, listed)
    }
}

fn conditions(connection: &Connection) -> Result<Vec<String>, LedgerError> {
    let mut query = connection.prepare("SELECT name, reason FROM condition ORDER BY since")?;
    let conditions = query.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    let mut conditions = conditions.collect::<rusqlite::Result<Vec<_>>>()?;
    // Worst first, and last what blocks nothing.
    let rank = |word: &str| {
        let mut known = Condition::ALL.iter();
        known.position(|condition| condition.as_str() == word)
    };
    conditions.sort_by_key(|(word, _)| rank(word).unwrap_or(Condition::ALL.len()));
    Ok(conditions.into_iter().map(|(_, problem)| problem).collect())
}
