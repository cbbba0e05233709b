//! What a writer records in the lock file of its ledger: its command and process, the socket
//! at which it answers, and its end.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Error, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::core::redact::sanitize_bytes;
use crate::core::time;

/// The record of a writer whose lock file was removed.
pub(super) const UNKNOWN_HOLDER: &str = "another process";

/// What follows the command in the first line.
const HOLDER_MARK: &str = " (process ";

/// What the line with a writer's socket begins with.
const SOCKET_MARK: &[u8] = b"socket ";

/// What the line with a writer's end begins with.
const END_MARK: &str = "ended ";

/// The length of the longest record, in bytes.
const MAX_LENGTH: u64 = 1_024;

/// What a lock file says of the last writer, where none holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedWriter {
    /// Its command, such as `rekeyd run`.
    pub command: String,
    /// When it ended in order.
    pub at: Timestamp,
}

/// The text of a lock file, empty if it cannot be read.
pub(super) struct LockRecord(Vec<u8>);

impl LockRecord {
    pub(super) fn read(file: &mut File) -> Self {
        let mut text = Vec::new();
        // The lock counts, even if its record cannot be read.
        let _ = file.take(MAX_LENGTH).read_to_end(&mut text);
        Self(text)
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'\n')
    }

    /// Returns the command and the process of the writer.
    pub(super) fn holder(&self) -> String {
        let holder = self.lines().next().unwrap_or_default();
        let text = sanitize_bytes(holder, &[]);
        if text.is_empty() {
            UNKNOWN_HOLDER.to_owned()
        } else {
            text
        }
    }

    /// Returns the process of the writer.
    pub(super) fn process(&self) -> Option<u32> {
        let holder = String::from_utf8_lossy(self.lines().next()?);
        let (_, process) = holder.rsplit_once(HOLDER_MARK)?;
        process.strip_suffix(')')?.parse().ok()
    }

    /// Returns the socket at which the writer answers. The line is incomplete without the
    /// line break at its end.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        let last = self.lines().count().checked_sub(1)?;
        let mut lines = self.lines().take(last).skip(1);
        let path = lines.find_map(|line| line.strip_prefix(SOCKET_MARK))?;
        Some(PathBuf::from(OsStr::from_bytes(path)))
    }

    /// Returns the command and the end of a writer that ended in order.
    pub(super) fn ended_writer(&self) -> Option<EndedWriter> {
        let mut lines = self.lines().map(String::from_utf8_lossy);
        let holder = lines.next()?;
        let (command, _) = holder.split_once(HOLDER_MARK)?;
        let command = command.to_owned();
        let end = lines.find_map(|line| line.strip_prefix(END_MARK).map(str::to_owned))?;
        let at = time::from_text(end.trim_end()).ok()?;
        Some(EndedWriter { command, at })
    }
}

/// Records the writer, in place of what the file says. A reader finds the former record or
/// this one.
///
/// # Errors
/// The system's, or the file has another name, too, and no record of a writer.
pub(super) fn write_holder(
    file: &mut File,
    command: &str,
    socket: Option<&Path>,
) -> Result<(), Error> {
    file.seek(SeekFrom::Start(0))?;
    let LockRecord(former) = LockRecord::read(file);
    let former = String::from_utf8_lossy(&former);
    // A record may be torn, or zeros after a power failure. Nobody else makes a file here, but
    // one with another name may be somebody's.
    let is_shared = file.metadata()?.nlink() > 1;
    if is_shared && !former.is_empty() && !former.contains(HOLDER_MARK) {
        return Err(Error::other("it is no lock file of rekeyd's"));
    }
    let mut record = format!("{command}{HOLDER_MARK}{})\n", std::process::id()).into_bytes();
    let socket = socket.map(|path| path.as_os_str().as_bytes());
    // One line is one path.
    if let Some(socket) = socket.filter(|path| !path.contains(&b'\n')) {
        record.extend_from_slice(SOCKET_MARK);
        record.extend_from_slice(socket);
        record.push(b'\n');
    }
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&record)?;
    file.set_len(u64::try_from(record.len()).unwrap_or(u64::MAX))
}

/// Adds the time at which the writer ends.
pub(super) fn append_end(file: &mut File, at: Timestamp) -> Result<(), Error> {
    let end = format!("{END_MARK}{}\n", time::to_text(at));
    file.seek(SeekFrom::End(0))?;
    file.write_all(end.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> LockRecord {
        LockRecord(text.as_bytes().to_vec())
    }

    #[test]
    fn record_is_read_as_it_was_written() {
        let at: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        for (socket, is_recorded) in [
            (None, false),
            (Some("/run/rekeyd/control.sock"), true),
            (Some("/srv/with blanks and ended 2/s"), true),
            (Some("/srv/\nended 2026-11-24T12:00:00Z"), false),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            // An earlier, longer record.
            let former = format!("rekeyd once (process 1)\n{}", "x".repeat(300));
            file.write_all(former.as_bytes()).unwrap();
            let socket = socket.map(Path::new);
            write_holder(&mut file, "rekeyd run", socket).unwrap();
            file.rewind().unwrap();
            let read = LockRecord::read(&mut file);
            let holder = format!("rekeyd run (process {})", std::process::id());
            assert_eq!(read.holder(), holder);
            assert_eq!(read.process(), Some(std::process::id()));
            let expected = socket.filter(|_| is_recorded);
            assert_eq!(read.socket().as_deref(), expected);
            assert_eq!(read.ended_writer(), None, "{socket:?}");
            append_end(&mut file, at).unwrap();
            file.rewind().unwrap();
            let read = LockRecord::read(&mut file);
            let command = "rekeyd run".to_owned();
            assert_eq!(read.ended_writer(), Some(EndedWriter { command, at }));
        }
    }

    #[test]
    fn only_a_file_with_another_name_and_no_record_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("ledger.db.lock"), dir.path().join("other"));
        for (text, is_shared, is_replaced) in [
            ("", true, true),
            ("rekeyd run (process 1)\n", true, true),
            (
                "rekeyd once (process 1)\nended 2026-11-24T12:00:00Z\n",
                true,
                true,
            ),
            ("notes\n", true, false),
            ("\0", true, false),
            ("\0\0", false, true),
            ("rekeyd ru", false, true),
        ] {
            std::fs::write(&path, text).unwrap();
            if is_shared {
                std::fs::hard_link(&path, &other).unwrap();
            }
            let mut file = File::options().read(true).write(true).open(&path).unwrap();
            let written = write_holder(&mut file, "rekeyd run", None);
            assert_eq!(written.is_ok(), is_replaced, "{text:?}");
            let found = std::fs::read_to_string(&path).unwrap();
            assert_eq!(found == text, !is_replaced, "{text:?}");
            let _ = std::fs::remove_file(&other);
        }
    }

    #[test]
    fn incomplete_record_names_no_socket() {
        for text in [
            "",
            "\n",
            "rekeyd run (process 1)\n",
            "rekeyd run (process 1)\nsocket /run/s",
            "socket /run/s\n",
            "rekeyd run (process 1)\nsock /run/s\n",
        ] {
            assert_eq!(record(text).socket(), None, "{text:?}");
        }
        for text in [
            "",
            "rekeyd run",
            "rekeyd run (process x)",
            "rekeyd run (process 1",
        ] {
            assert_eq!(record(text).process(), None, "{text:?}");
        }
        let whole = record("rekeyd run (process 1)\nsocket /run/s\nended 2026-11-24T12:00:00Z\n");
        assert_eq!(whole.socket().as_deref(), Some(Path::new("/run/s")));
    }
}
