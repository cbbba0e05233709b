//! The note beside the ledger that tells a log that belongs to it from one that does not.
//!
//! SQLite applies any valid write-ahead log to the file beside it: after a backup was
//! copied over the ledger, the log of the former ledger restores what was to be undone, or
//! damages the copy. Only checkpoints change the file itself. So the writer, which runs
//! them all, notes the file's identity, size and modification time around each of them.

use std::fs::{File, Metadata};
use std::io::{Error, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::{os_error, shell};
use crate::ledger::error::LedgerError;
use crate::ledger::kept_file::create_private;
use crate::ledger::ledger_file::{
    READ_ONLY_REASON, REMOVE_ADVICE, cannot_open, check_beside, is_no_own_file, open_beside,
    open_or_create_beside, open_regular,
};
use crate::ledger::paths::{files_of_sqlite, sibling_path};
use crate::ledger::version::APPLICATION_ID;

/// The longest note, in bytes.
const MAX_LENGTH: u64 = 4096;

/// What the writer noted last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum NotedState {
    /// A checkpoint was about to change this file.
    UnderWay { device: u64, inode: u64 },
    /// The file after the last checkpoint. Its log may hold more.
    Done(FileStamp),
    /// The file after an orderly stop. Its log is empty.
    Closed(FileStamp),
}

/// The length of the header of a SQLite file, up to and with its `application_id`.
const HEADER_LENGTH: usize = 72;

/// A file at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileStamp {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    /// The seconds of its modification time, and the nanoseconds.
    modified: (i64, i64),
}

impl FileStamp {
    pub(super) fn new(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Whether the log beside a ledger belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogOrigin {
    /// There is no log. The ledger is the file that an orderly stop left, or it is not.
    Empty { is_unchanged: bool },
    /// It belongs to the ledger.
    Own,
    /// It may belong to the ledger: an integrity check decides.
    Unclear,
    /// It may belong to another file, for this reason.
    Foreign(ForeignReason),
}

/// What speaks against a log that stands beside a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ForeignReason {
    /// There is no ledger, or one without a page. SQLite deletes its log when any process
    /// opens it.
    #[error("the ledger is missing or empty")]
    NoLedger,
    /// Another file has the ledger's name.
    #[error("another file has the ledger's name")]
    OtherFile,
    /// Nothing says which file the log belongs to.
    #[error("the record of its checkpoints is missing")]
    NoNote,
    /// The ledger changed after the last checkpoint.
    #[error("another program wrote to the ledger")]
    WrittenByOther,
}

impl LogOrigin {
    /// Returns whether the ledger may not be what its last writer left, so that its pages
    /// must be checked, and its credentials compared with the provider.
    pub(super) const fn is_uncertain(self) -> bool {
        match self {
            Self::Empty { is_unchanged } => !is_unchanged,
            Self::Own => false,
            Self::Unclear | Self::Foreign(_) => true,
        }
    }

    /// Returns whether the ledger is not the file that its last writer left, as after a
    /// copy was put in its place. What a crash left has a log.
    pub(super) const fn is_of_other_time(self) -> bool {
        matches!(
            self,
            Self::Empty {
                is_unchanged: false
            }
        )
    }

    /// Returns whether the ledger may lack what its last writer recorded, so that its
    /// credentials are compared with the provider before anything begins. Older copies of
    /// the ledger and its log, put back together, look like what a crash left.
    pub(super) const fn may_lack_commits(self) -> bool {
        match self {
            Self::Empty { is_unchanged } => !is_unchanged,
            Self::Own | Self::Unclear | Self::Foreign(_) => true,
        }
    }
}

/// Returns whether the log beside the ledger at `path` belongs to it.
///
/// # Errors
/// The attributes of a file cannot be read.
pub(super) fn log_origin(path: &Path) -> Result<LogOrigin, Error> {
    let [ledger, log, _] = files_of_sqlite(path);
    let journal = sibling_path(&ledger, "-journal");
    let found = stat(&ledger)?.map(|metadata| FileStamp::new(&metadata));
    let length = |file: &Path| Ok::<_, Error>(stat(file)?.map_or(0, |metadata| metadata.len()));
    let is_first_start = found.is_none_or(|found| found.size == 0)
        && length(&note_path(&ledger))? == 0
        && is_of_new_file(&journal)?;
    let has_journal = length(&journal)? > 0 && !is_first_start;
    let has_log = length(&log)? > 0 || has_journal;
    let origin = compare(found, has_log, read_note(&ledger)?);
    if origin == LogOrigin::Unclear && is_note_missing(&ledger)? {
        return Ok(LogOrigin::Foreign(ForeignReason::NoNote));
    }
    Ok(origin)
}

/// Returns whether a rollback journal has nothing to restore, because the file beside it had
/// no page when its transaction began: that of a ledger whose very first start was killed.
fn is_of_new_file(journal: &Path) -> Result<bool, Error> {
    const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    let mut header = [0; 20];
    match open_regular(journal).and_then(|file| file.read_exact_at(&mut header, 0)) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => {
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    // After its magic: the number of its records, a nonce, and the pages that the file had.
    let (records, pages) = (&header[8..12], &header[16..20]);
    Ok(header[..8] == MAGIC && records == [0; 4] && pages == [0; 4])
}

/// Returns whether the ledger at `ledger` should have a note, and has none. Since 0.2.0 a
/// ledger has its note before its log; it may be the ledger that is not its own.
fn is_note_missing(ledger: &Path) -> Result<bool, Error> {
    if stat(&note_path(ledger))?.is_some() {
        return Ok(false);
    }
    let mut header = [0; HEADER_LENGTH];
    match open_regular(ledger)?.read_exact_at(&mut header, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
        Err(error) => return Err(error),
    }
    let id = u32::from_be_bytes([header[68], header[69], header[70], header[71]]);
    Ok(i64::from(id) == APPLICATION_ID)
}

/// Decides by the file that is found and what was noted of it.
fn compare(found: Option<FileStamp>, has_log: bool, noted: Option<NotedState>) -> LogOrigin {
    if !has_log {
        let is_unchanged = match (found, noted) {
            (Some(found), Some(NotedState::Closed(closed))) => found == closed,
            _ => false,
        };
        return LogOrigin::Empty { is_unchanged };
    }
    let Some(found) = found.filter(|found| found.size > 0) else {
        return LogOrigin::Foreign(ForeignReason::NoLedger);
    };
    let is_same = |device, inode| (found.device, found.inode) == (device, inode);
    match noted {
        // A ledger of an earlier release, or a note that was being written.
        None => LogOrigin::Unclear,
        Some(NotedState::UnderWay { device, inode }) if is_same(device, inode) => {
            LogOrigin::Unclear
        }
        Some(NotedState::UnderWay { .. }) => LogOrigin::Foreign(ForeignReason::OtherFile),
        Some(NotedState::Done(noted) | NotedState::Closed(noted)) => {
            if found == noted {
                LogOrigin::Own
            } else if found.inode != noted.inode {
                LogOrigin::Foreign(ForeignReason::OtherFile)
            } else if (found.size, found.modified) != (noted.size, noted.modified) {
                LogOrigin::Foreign(ForeignReason::WrittenByOther)
            } else {
                // The numbers of devices may change when the host starts.
                LogOrigin::Unclear
            }
        }
    }
}

/// Returns the error of a log that may belong to another file, with the commands that set
/// it aside. `can_keep` is whether the log can be copied into the ledger.
fn foreign_log_error(path: &Path, reason: String, can_keep: bool) -> LedgerError {
    let [ledger, log, _] = files_of_sqlite(path);
    let journal = sibling_path(&ledger, "-journal");
    let is_there = |file: &&PathBuf| file.metadata().is_ok_and(|metadata| metadata.len() > 0);
    let files = [log, journal];
    let moves = files.iter().filter(is_there).map(|file| {
        let (from, to) = (shell_path(file), shell_path(&free_name(file, "aside")));
        format!("mv -n -- {from} {to}")
    });
    LedgerError::ForeignLog {
        path: path.to_owned(),
        reason,
        set_aside: moves.collect::<Vec<_>>().join(" && "),
        keep: can_keep.then(|| {
            format!(
                "sqlite3 {} 'PRAGMA integrity_check; PRAGMA wal_checkpoint(TRUNCATE)'",
                shell_path(&ledger)
            )
        }),
    }
}

/// Returns the error of a log that may belong to another file.
pub(super) fn foreign_log(path: &Path, reason: ForeignReason) -> LedgerError {
    let can_keep = reason != ForeignReason::NoLedger;
    foreign_log_error(path, reason.to_string(), can_keep)
}

/// Returns the error of a log with which the ledger is damaged, as `found` says.
pub(super) fn log_that_damages(path: &Path, found: &LedgerError) -> LedgerError {
    foreign_log_error(path, found.to_string(), true)
}

/// Returns a path beside `file`, with `ending` and perhaps a number, that does not exist.
pub(super) fn free_name(file: &Path, ending: &str) -> PathBuf {
    let mut number = 1;
    let mut name = sibling_path(file, &format!(".{ending}"));
    while name.symlink_metadata().is_ok() {
        number += 1;
        name = sibling_path(file, &format!(".{ending}-{number}"));
    }
    name
}

fn shell_path(path: &Path) -> String {
    shell::quote(&path.to_string_lossy())
}

fn stat(path: &Path) -> Result<Option<Metadata>, Error> {
    match path.metadata() {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the path of the note of the ledger at `ledger`, which is no link.
fn note_path(ledger: &Path) -> PathBuf {
    sibling_path(ledger, ".checkpoint")
}

/// Reads the note. One that was being written when the host lost its power counts as none.
fn read_note(ledger: &Path) -> Result<Option<NotedState>, Error> {
    let file = match open_beside(&note_path(ledger)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(MAX_LENGTH).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text).ok())
}

/// Copies the note of the ledger at `ledger`, if it has one, beside the file at `other`, which
/// becomes another name of that ledger.
///
/// # Errors
/// The system's.
pub(super) fn copy_note(ledger: &Path, other: &Path) -> Result<(), Error> {
    let mut note = match open_beside(&note_path(ledger)) {
        Ok(note) => note.take(MAX_LENGTH),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut copy = create_private(&note_path(other))?;
    std::io::copy(&mut note, &mut copy)?;
    copy.sync_data()
}

/// Removes the note beside a file that is no ledger any more.
pub(super) fn remove_note(ledger: &Path) {
    // Without its ledger it says nothing.
    let _ = std::fs::remove_file(note_path(ledger));
}

/// Returns the note of the ledger at `path` if it shows that the file was longer.
pub(super) fn note_of_longer_file(path: &Path) -> Option<PathBuf> {
    let [ledger, ..] = files_of_sqlite(path);
    let found = ledger.metadata().ok()?;
    match read_note(&ledger).ok()?? {
        NotedState::Done(noted) | NotedState::Closed(noted) if noted.size > found.size() => {
            Some(note_path(&ledger))
        }
        NotedState::Done(_) | NotedState::Closed(_) | NotedState::UnderWay { .. } => None,
    }
}

/// The note of a ledger, for its writer.
#[derive(Debug)]
pub(super) struct CheckpointNote {
    ledger: PathBuf,
    file: File,
    is_synced: bool,
}

/// Checks that nothing else is in the place of the note of the ledger at `path`.
///
/// # Errors
/// [`LedgerError::Open`].
pub(super) fn check_note(path: &Path) -> Result<(), LedgerError> {
    let [ledger, ..] = files_of_sqlite(path);
    let note = note_path(&ledger);
    check_beside(&note).map_err(|error| unusable_note(path, note, &error))
}

/// Returns the error of a note that cannot be opened, of the ledger at `path`.
fn unusable_note(path: &Path, note: PathBuf, error: &Error) -> LedgerError {
    if is_no_own_file(error) {
        let reason = os_error::describe(error);
        return LedgerError::Open {
            path: note,
            reason: format!("{reason}; hint: {REMOVE_ADVICE}"),
        };
    }
    if [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem].contains(&error.kind()) {
        return cannot_open(path, &Error::other(READ_ONLY_REASON));
    }
    cannot_open(&note, error)
}

impl CheckpointNote {
    /// Opens or creates the note of the ledger at `path`. Without `is_synced` it may not
    /// survive a power failure.
    ///
    /// # Errors
    /// [`LedgerError::Open`].
    pub(super) fn open(path: &Path, is_synced: bool) -> Result<Self, LedgerError> {
        let [ledger, ..] = files_of_sqlite(path);
        let note = note_path(&ledger);
        let file =
            open_or_create_beside(&note).map_err(|error| unusable_note(path, note, &error))?;
        Ok(Self {
            ledger,
            file,
            is_synced,
        })
    }

    /// Notes that a checkpoint is about to change the ledger.
    ///
    /// # Errors
    /// The system's: the checkpoint must not start.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        let found = self.ledger.metadata()?;
        self.write(NotedState::UnderWay {
            device: found.dev(),
            inode: found.ino(),
        })
    }

    /// Notes the ledger after a checkpoint, or as it was opened.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        let found = FileStamp::new(&self.ledger.metadata()?);
        self.write(NotedState::Done(found))
    }

    /// Notes the ledger at an orderly stop, with an empty log.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn close(&mut self) -> Result<(), Error> {
        let found = FileStamp::new(&self.ledger.metadata()?);
        self.write(NotedState::Closed(found))
    }

    /// Writes the note in place, which needs no room on a full disk.
    fn write(&mut self, state: NotedState) -> Result<(), Error> {
        let mut text = serde_json::to_string(&state)?;
        text.push('\n');
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(text.as_bytes())?;
        self.file.set_len(text.len() as u64)?;
        if self.is_synced {
            self.file.sync_data()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEDGER: FileStamp = FileStamp {
        device: 1,
        inode: 2,
        size: 8192,
        modified: (1_700_000_000, 5),
    };

    /// A kill in the very first start leaves the header of a journal that restores nothing.
    #[test]
    fn journal_of_a_first_start_is_no_log() {
        const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
        let header = |magic: [u8; 8], records: u8, pages: u8| {
            let mut journal = vec![0; 512];
            journal[..8].copy_from_slice(&magic);
            (journal[11], journal[19]) = (records, pages);
            journal
        };
        let first = header(MAGIC, 0, 0);
        for (ledger, note, journal, is_foreign) in [
            (Some(""), Some(""), first.clone(), false),
            (Some(""), None, first.clone(), false),
            (None, None, first.clone(), false),
            (Some(""), Some("{}"), first.clone(), true),
            (Some(""), Some(""), header(MAGIC, 1, 0), true),
            (Some(""), Some(""), header(MAGIC, 0, 9), true),
            (Some(""), Some(""), header([1; 8], 0, 0), true),
            (Some(""), Some(""), vec![1; 9], true),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("ledger.db");
            let files = [(path.clone(), ledger), (note_path(&path), note)];
            for (file, content) in files {
                if let Some(content) = content {
                    std::fs::write(file, content).unwrap();
                }
            }
            std::fs::write(sibling_path(&path, "-journal"), &journal).unwrap();
            let origin = log_origin(&path).unwrap();
            assert_eq!(
                matches!(origin, LogOrigin::Foreign(_)),
                is_foreign,
                "{ledger:?} {note:?} {:?}",
                &journal[..9]
            );
        }
    }

    #[test]
    fn log_belongs_to_the_file_that_was_noted() {
        use LogOrigin::{Empty, Foreign, Own, Unclear};
        let other_file = FileStamp { inode: 9, ..LEDGER };
        let other_device = FileStamp {
            device: 9,
            ..LEDGER
        };
        let other_size = FileStamp {
            size: 4096,
            ..LEDGER
        };
        let other_time = FileStamp {
            modified: (1_700_000_000, 6),
            ..LEDGER
        };
        let empty = FileStamp { size: 0, ..LEDGER };
        let under_way = Some(NotedState::UnderWay {
            device: 1,
            inode: 2,
        });
        let done = Some(NotedState::Done(LEDGER));
        let closed = Some(NotedState::Closed(LEDGER));
        let another = Foreign(ForeignReason::OtherFile);
        let written = Foreign(ForeignReason::WrittenByOther);
        let missing = Foreign(ForeignReason::NoLedger);
        let changed = Empty {
            is_unchanged: false,
        };
        for (found, has_log, noted, expected) in [
            (Some(LEDGER), true, done, Own),
            (Some(LEDGER), true, closed, Own),
            (Some(LEDGER), true, None, Unclear),
            (Some(LEDGER), true, under_way, Unclear),
            (Some(other_time), true, under_way, Unclear),
            (Some(other_file), true, under_way, another),
            (Some(other_file), true, done, another),
            (Some(other_file), true, closed, another),
            (Some(other_size), true, done, written),
            (Some(other_time), true, done, written),
            (Some(other_device), true, done, Unclear),
            (Some(empty), true, None, missing),
            (Some(empty), true, under_way, missing),
            (None, true, done, missing),
            (None, true, None, missing),
            (Some(LEDGER), false, closed, Empty { is_unchanged: true }),
            (Some(LEDGER), false, done, changed),
            (Some(other_file), false, closed, changed),
            (Some(other_time), false, closed, changed),
            (Some(LEDGER), false, under_way, changed),
            (Some(LEDGER), false, None, changed),
            (None, false, closed, changed),
            (None, false, None, changed),
        ] {
            assert_eq!(
                compare(found, has_log, noted),
                expected,
                "{found:?} {has_log} {noted:?}"
            );
        }
    }

    #[test]
    fn note_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        std::fs::write(&ledger, "content").unwrap();
        let stamp = FileStamp::new(&ledger.metadata().unwrap());
        let mut note = CheckpointNote::open(&ledger, true).unwrap();
        note.finish().unwrap();
        let ledger = ledger.canonicalize().unwrap();
        assert_eq!(read_note(&ledger).unwrap(), Some(NotedState::Done(stamp)));
        note.begin().unwrap();
        let under_way = NotedState::UnderWay {
            device: stamp.device,
            inode: stamp.inode,
        };
        assert_eq!(read_note(&ledger).unwrap(), Some(under_way));
        note.close().unwrap();
        assert_eq!(read_note(&ledger).unwrap(), Some(NotedState::Closed(stamp)));
        let members = r#""device":1,"inode":2,"size":3,"modified":[4,5]"#;
        let whole = format!(r#"{{"state":"done",{members}}}"#);
        std::fs::write(note_path(&ledger), &whole).unwrap();
        assert!(read_note(&ledger).unwrap().is_some());
        for torn in [
            String::new(),
            "{\"state\":\"done\",\"dev".to_owned(),
            "\0\0\0\0".to_owned(),
            format!("{whole}\0"),
            format!("{whole}{whole}"),
            format!("{whole}{}", " ".repeat(5_000)) + "x",
            format!(r#"{{"state":"open",{members}}}"#),
            format!(r#"{{"state":"done","state":"closed",{members}}}"#),
            format!(r#"{{"state":"done",{members},"inode":9}}"#),
            whole.replace('2', "-2"),
            whole.replace('2', "2.0"),
            whole.replace('2', "\"2\""),
            whole.replace('2', "99999999999999999999"),
            whole.replace("[4,5]", "[4]"),
            whole.replace("[4,5]", "[4,5,6]"),
        ] {
            std::fs::write(note_path(&ledger), &torn).unwrap();
            let note = read_note(&ledger).unwrap();
            assert_eq!(note.is_some(), torn.ends_with('x'), "{torn:?}");
        }
        std::fs::write(note_path(&ledger), b"\xff\xfe").unwrap();
        assert_eq!(read_note(&ledger).unwrap(), None);
    }
}
