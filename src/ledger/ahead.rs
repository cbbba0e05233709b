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

use crate::core::record::KeyState;
use crate::ledger::error::LedgerError;
use crate::ledger::read;

/// What is being read ahead.
pub struct Ahead {
    reading: JoinHandle<Result<Read, LedgerError>>,
}

/// What was read, and by what it is known whether it still holds.
struct Read {
    path: PathBuf,
    connection: Connection,
    file: Option<(u64, u64)>,
    version: i64,
    states: Vec<KeyState>,
}

impl Ahead {
    /// Begins to read the ledger at `path`. None if there is no thread for it.
    #[must_use]
    pub fn begin(path: &Path) -> Option<Self> {
        let path = path.to_owned();
        let reader = thread::Builder::new().name("ledger-ahead".to_owned());
        let reading = reader.spawn(move || Read::all(path)).ok()?;
        Some(Self { reading })
    }

    /// How every key stands, in the order of their names, if that could be read
    /// and the ledger is still the same. The caller holds the
    /// [`crate::ledger::WriterLock`] and has written nothing yet; whatever went
    /// wrong will be told when the ledger is read in the ordinary way.
    #[must_use]
    pub fn states(self) -> Option<Vec<KeyState>> {
        let read = self.reading.join().ok()?.ok()?;
        read.holds().unwrap_or(false).then_some(read.states)
    }
}

impl Read {
    fn all(path: PathBuf) -> Result<Self, LedgerError> {
        let file = file(&path);
        let connection = read::open(&path)?;
        // Before the rows: a commit in between is seen by it.
        let version = data_version(&connection)?;
        let moment = connection.unchecked_transaction()?;
        let states = read::key_states(&moment, None)?;
        moment.finish()?;
        Ok(Self {
            path,
            connection,
            file,
            version,
            states,
        })
    }

    /// Whether nobody has written to the ledger, or put another in its place.
    fn holds(&self) -> Result<bool, LedgerError> {
        let is_there = self.file.is_some() && self.file == file(&self.path);
        Ok(is_there && self.version == data_version(&self.connection)?)
    }
}

/// Which file it is.
fn file(path: &Path) -> Option<(u64, u64)> {
    let of = |found: Metadata| (found.dev(), found.ino());
    path.metadata().ok().map(of)
}

/// Another number once another connection has committed anything; see
/// <https://www.sqlite.org/pragma.html#pragma_data_version>.
fn data_version(connection: &Connection) -> Result<i64, LedgerError> {
    let version = connection.query_row("PRAGMA data_version", [], |row| row.get(0));
    Ok(version?)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::core::change::Change;
    use crate::core::names::KeyName;
    use crate::ledger::{Identity, write};

    /// A ledger with one key, and its writer.
    fn ledger(path: &Path) -> Connection {
        let identity = Identity {
            provider: "https://example.com/v1".to_owned(),
            organization: String::new(),
        };
        let writer = crate::ledger::open(path, &identity, Timestamp::UNIX_EPOCH).unwrap();
        defer(&writer);
        writer
    }

    fn defer(writer: &Connection) {
        let key = KeyName::new("billing").unwrap();
        let deferred = Change::Deferred {
            attempt: 1,
            retry_at: Timestamp::UNIX_EPOCH,
            problem: "no".to_owned(),
        };
        write::record(writer, &key, Timestamp::UNIX_EPOCH, &[deferred]).unwrap();
    }

    /// What is read ahead while `meanwhile` happens.
    fn read_while(path: &Path, meanwhile: impl FnOnce()) -> Option<usize> {
        let ahead = Ahead::begin(path).unwrap();
        while !ahead.reading.is_finished() {
            thread::yield_now();
        }
        meanwhile();
        ahead.states().map(|states| states.len())
    }

    #[test]
    fn it_counts_unless_somebody_has_written_since() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        assert_eq!(read_while(&path, || {}), None, "there is none");
        assert!(!path.exists());
        let writer = ledger(&path);
        assert_eq!(read_while(&path, || {}), Some(1));
        assert_eq!(read_while(&path, || defer(&writer)), None);
        assert_eq!(read_while(&path, || {}), Some(1));
        // As at every start of a writer.
        assert_eq!(read_while(&path, || drop(writer)), Some(1));
    }

    #[test]
    fn it_does_not_count_for_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join("b"));
        drop(ledger(&path));
        drop(ledger(&other));
        let put_back = || std::fs::rename(&other, &path).unwrap();
        assert_eq!(read_while(&path, put_back), None);
        let lost = || std::fs::remove_file(&path).unwrap();
        assert_eq!(read_while(&path, lost), None);
    }
}
