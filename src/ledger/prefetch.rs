//! Reads how all keys stand while the process that is to become the ledger's
//! writer still reads its configuration.
//!
//! With ten thousand keys either takes as long as the other. Until the lock is
//! held another process may write: what was read ahead counts only if nobody
//! has.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;

use crate::core::state::KeyState;
use crate::ledger::error::LedgerError;
use crate::ledger::read;

/// What is being read ahead.
pub struct Prefetch {
    reader_thread: JoinHandle<Result<PrefetchedStates, LedgerError>>,
}

/// What was read, and by what it is known whether it still holds.
struct PrefetchedStates {
    path: PathBuf,
    connection: Connection,
    file_id: Option<(u64, u64)>,
    data_version: i64,
    key_states: Vec<KeyState>,
}

impl Prefetch {
    /// Begins to read the ledger at `path`. None if there is no thread for it.
    #[must_use]
    pub fn start(path: &Path) -> Option<Self> {
        let path = path.to_owned();
        let reader = thread::Builder::new().name("ledger-ahead".to_owned());
        let reading = reader.spawn(move || PrefetchedStates::load(path)).ok()?;
        Some(Self {
            reader_thread: reading,
        })
    }

    /// How every key stands, in the order of their names, if that could be read
    /// and the ledger is still the same. The caller holds the
    /// [`crate::ledger::WriterLock`] and has written nothing yet; whatever went
    /// wrong will be told when the ledger is read in the ordinary way.
    #[must_use]
    pub fn into_key_states(self) -> Option<Vec<KeyState>> {
        let read = self.reader_thread.join().ok()?.ok()?;
        read.is_current()
            .unwrap_or(false)
            .then_some(read.key_states)
    }
}

impl PrefetchedStates {
    fn load(path: PathBuf) -> Result<Self, LedgerError> {
        let file = file_id_of(&path);
        let connection = read::open(&path)?;
        // Before the rows: a commit in between is seen by it.
        let version = read_data_version(&connection)?;
        let moment = connection.unchecked_transaction()?;
        let states = read::key_states(&moment, None)?;
        moment.finish()?;
        Ok(Self {
            path,
            connection,
            file_id: file,
            data_version: version,
            key_states: states,
        })
    }

    /// Whether nobody has written to the ledger, or put another in its place.
    fn is_current(&self) -> Result<bool, LedgerError> {
        let is_there = self.file_id.is_some() && self.file_id == file_id_of(&self.path);
        Ok(is_there && self.data_version == read_data_version(&self.connection)?)
    }
}

/// Which file it is.
fn file_id_of(path: &Path) -> Option<(u64, u64)> {
    let of = |found: Metadata| (found.dev(), found.ino());
    path.metadata().ok().map(of)
}

/// Another number once another connection has committed anything; see
/// <https://www.sqlite.org/pragma.html#pragma_data_version>.
fn read_data_version(connection: &Connection) -> Result<i64, LedgerError> {
    let version = connection.query_row("PRAGMA data_version", [], |row| row.get(0));
    Ok(version?)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::core::change::Change;
    use crate::core::ids::KeyName;
    use crate::ledger::{LedgerIdentity, write};

    /// A ledger with one key, and its writer.
    fn ledger_with_one_key(path: &Path) -> Connection {
        let identity = LedgerIdentity {
            provider: "https://example.com/v1".to_owned(),
            organization: String::new(),
        };
        let writer = crate::ledger::open(path, &identity, Timestamp::UNIX_EPOCH).unwrap();
        record_backoff(&writer);
        writer
    }

    fn record_backoff(writer: &Connection) {
        let key = KeyName::new("billing").unwrap();
        let deferred = Change::KeyBackedOff {
            attempt: 1,
            retry_at: Timestamp::UNIX_EPOCH,
            problem: "no".to_owned(),
        };
        write::record(writer, &key, Timestamp::UNIX_EPOCH, &[deferred]).unwrap();
    }

    /// What is read ahead while `meanwhile` happens.
    fn prefetch_during(path: &Path, meanwhile: impl FnOnce()) -> Option<usize> {
        let ahead = Prefetch::start(path).unwrap();
        while !ahead.reader_thread.is_finished() {
            thread::yield_now();
        }
        meanwhile();
        ahead.into_key_states().map(|states| states.len())
    }

    #[test]
    fn prefetch_is_discarded_after_another_commit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        assert_eq!(prefetch_during(&path, || {}), None, "there is none");
        assert!(!path.exists());
        let writer = ledger_with_one_key(&path);
        assert_eq!(prefetch_during(&path, || {}), Some(1));
        assert_eq!(prefetch_during(&path, || record_backoff(&writer)), None);
        assert_eq!(prefetch_during(&path, || {}), Some(1));
        // As at every start of a writer.
        assert_eq!(prefetch_during(&path, || drop(writer)), Some(1));
    }

    #[test]
    fn prefetch_is_discarded_when_the_file_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join("b"));
        drop(ledger_with_one_key(&path));
        drop(ledger_with_one_key(&other));
        let put_back = || std::fs::rename(&other, &path).unwrap();
        assert_eq!(prefetch_during(&path, put_back), None);
        let lost = || std::fs::remove_file(&path).unwrap();
        assert_eq!(prefetch_during(&path, lost), None);
    }
}
