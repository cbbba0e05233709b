//! The read side of the ledger: what the commands show, as domain types.

pub(super) mod history;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, Transaction};

use crate::core::ids::KeyName;
use crate::core::scope::Scope;
use crate::core::state::KeyState;
use crate::ledger::error::LedgerError;
use crate::ledger::identity::{LedgerIdentity, check_identity};
use crate::ledger::reconciliation::{self, Reconciliation, RemoteCredential};
use crate::ledger::version::LedgerVersion;
use crate::ledger::{read, read_only};

/// A ledger that is only read, beside its writer or alone.
pub struct LedgerReader {
    connection: Connection,
    path: PathBuf,
}

impl LedgerReader {
    /// Opens the ledger at `path`.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`], or why it cannot be read.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        Ok(Self {
            connection: read_only::open(path)?,
            path: path.to_owned(),
        })
    }

    /// As [`LedgerReader::open`]; none if there is no ledger yet.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn open_existing(path: &Path) -> Result<Option<Self>, LedgerError> {
        match Self::open(path) {
            Ok(reader) => Ok(Some(reader)),
            Err(LedgerError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Begins to read: everything that the snapshot returns was recorded at the
    /// same moment, whatever a daemon writes meanwhile. While it lives, the log
    /// of the ledger cannot be copied into the ledger completely.
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

/// The ledger at one moment: that of the first read.
pub struct LedgerSnapshot<'r> {
    transaction: Transaction<'r>,
    path: &'r Path,
}

impl LedgerSnapshot<'_> {
    /// Refuses a ledger that holds other credentials than `ours`.
    ///
    /// # Errors
    /// [`LedgerError::IdentityMismatch`], or it cannot be read.
    pub fn check_identity(&self, ours: &LedgerIdentity) -> Result<(), LedgerError> {
        check_identity(&self.transaction, self.path, LedgerVersion::CURRENT, ours)
    }

    /// Returns the state of every key that the ledger knows.
    ///
    /// # Errors
    /// The ledger cannot be read, or a row is none that rekeyd writes.
    pub fn key_states(&self) -> Result<BTreeMap<KeyName, KeyState>, LedgerError> {
        let states = read::key_states(&self.transaction, None)?.into_iter();
        Ok(states.map(|state| (state.key.clone(), state)).collect())
    }

    /// Returns the state of one key.
    ///
    /// # Errors
    /// As [`LedgerSnapshot::key_states`].
    pub fn key_state(&self, key: &KeyName) -> Result<KeyState, LedgerError> {
        read::key_state(&self.transaction, key)
    }

    /// Returns when the present series of failures of `key` began.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn failing_since(&self, key: &KeyName) -> Result<Option<Timestamp>, LedgerError> {
        read::failing_since(&self.transaction, key)
    }

    /// Returns the problems of the daemon's conditions, worst first. One that
    /// stops nothing, such as a rejected configuration, comes last.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn conditions(&self) -> Result<Vec<String>, LedgerError> {
        conditions(&self.transaction)
    }

    /// Compares the provider's list of a scope with every row ever written, and returns
    /// the state of each credential of ours, expected or not.
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
}

/// The conditions that stop rotations, worst first.
const CONDITIONS_BY_SEVERITY: [&str; 5] =
    ["ledger", "credential", "organization", "clock", "provider"];

fn conditions(connection: &Connection) -> Result<Vec<String>, LedgerError> {
    let mut found = connection.prepare("SELECT name, reason FROM condition ORDER BY since")?;
    let found = found.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    let mut found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let rank = |word: &str| {
        CONDITIONS_BY_SEVERITY
            .iter()
            .position(|known| *known == word)
    };
    found.sort_by_key(|(word, _)| rank(word).unwrap_or(CONDITIONS_BY_SEVERITY.len()));
    Ok(found.into_iter().map(|(_, problem)| problem).collect())
}
