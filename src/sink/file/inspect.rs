//! What a file holds that somebody else may have written.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;
use secrecy::zeroize::Zeroizing;

use super::target::{TargetLocation, access_of, is_regular};
use crate::core::key_shape::MIN_KEY_BYTES;
use crate::core::state::{FileNote, LeftFile};
use crate::sink::{TargetContent, UnseenCause};

/// The limit of a read. What is longer may hold a key behind it.
const MAX_READ_BYTES: usize = 64 * 1024;

/// The number of nanoseconds in a second.
const NANOSECONDS: i64 = 1_000_000_000;

/// Looks for keys in the file, whatever its format. A symbolic link and anything else
/// that is no regular file is not read: no delivery replaces it.
pub(super) fn inspect(location: &TargetLocation) -> TargetContent {
    match open(location.path()) {
        Ok(file) => read_keys(&file),
        Err(Errno::NOENT) => inspect_missing(location),
        Err(Errno::ACCESS | Errno::PERM) => inspect_unreadable(location),
        Err(error) => TargetContent::Unseen(unseen_cause(error)),
    }
}

fn unseen_cause(error: Errno) -> UnseenCause {
    match error {
        Errno::NOENT | Errno::NOTDIR => UnseenCause::FolderMissing,
        Errno::ACCESS | Errno::PERM => UnseenCause::PermissionDenied,
        Errno::LOOP | Errno::NXIO => UnseenCause::NotRegular,
        Errno::AGAIN => UnseenCause::Leased,
        error => UnseenCause::Failed(error),
    }
}

/// Tells a missing file from one whose folder is away: a disk that is not mounted says
/// nothing about the files on it.
fn inspect_missing(location: &TargetLocation) -> TargetContent {
    match fs::stat(location.folder()) {
        Ok(_) => TargetContent::NoKey,
        Err(error) => TargetContent::Unseen(unseen_cause(error)),
    }
}

/// Looks for keys in the file that a delivery left. It is unknown if anything about the
/// file has changed since, also while it is read.
pub(super) fn read_noted(path: &Path, note: FileNote) -> TargetContent {
    let Ok(file) = open(path) else {
        return TargetContent::Unknown;
    };
    if note_of(&file) != Some(note) {
        return TargetContent::Unknown;
    }
    let content = read_keys(&file);
    if note_of(&file) == Some(note) {
        content
    } else {
        TargetContent::Unknown
    }
}

/// Returns what identifies a file that was delivered, and who can get it.
pub(super) fn left_file(file: impl AsFd) -> Option<LeftFile> {
    let stat = fs::fstat(file).ok().filter(is_regular)?;
    Some(LeftFile {
        note: note_of_stat(&stat),
        access: Some(access_of(&stat)),
    })
}

/// Returns what identifies a file as it is now.
fn note_of(file: impl AsFd) -> Option<FileNote> {
    note_of_stat(&fs::fstat(file).ok().filter(is_regular)?)
}

fn note_of_stat(stat: &Stat) -> Option<FileNote> {
    let nanoseconds = |seconds: i64, rest: i64| seconds.checked_mul(NANOSECONDS)?.checked_add(rest);
    Some(FileNote {
        device: stat.st_dev.cast_signed(),
        inode: stat.st_ino.cast_signed(),
        size: stat.st_size,
        modified_at: nanoseconds(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).ok()?)?,
        changed_at: nanoseconds(stat.st_ctime, i64::try_from(stat.st_ctime_nsec).ok()?)?,
    })
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    fs::open(path, flags, Mode::empty())
}

fn read_keys(file: &OwnedFd) -> TargetContent {
    let stat = match fs::fstat(file) {
        Ok(stat) if is_regular(&stat) => stat,
        Ok(_) => return TargetContent::Unseen(UnseenCause::NotRegular),
        Err(error) => return TargetContent::Unseen(unseen_cause(error)),
    };
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    if size > MAX_READ_BYTES {
        return TargetContent::Unreadable(UnseenCause::TooLong);
    }
    // Its whole size at once, so that no copy of a secret is left behind.
    let mut content = Zeroizing::new(vec![0; size]);
    let mut length = 0;
    while length < size {
        match rustix::io::read(file, &mut content[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) => return TargetContent::Unseen(unseen_cause(error)),
        }
    }
    // Keys are ASCII: what stands around them may be anything, and UTF-16 has zeros
    // between their characters.
    content.truncate(length);
    content.retain(|byte| *byte != 0);
    for byte in &mut *content {
        if !byte.is_ascii() {
            *byte = b' ';
        }
    }
    let text = std::str::from_utf8(&content);
    text.map_or(TargetContent::Unknown, TargetContent::from_text)
}

/// Tells a file that is too short for a key from one whose content this process may not
/// read.
fn inspect_unreadable(location: &TargetLocation) -> TargetContent {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    match fs::statat(fs::CWD, location.path(), flags) {
        Ok(stat) if is_regular(&stat) => {
            let may_hold_key =
                usize::try_from(stat.st_size).is_ok_and(|size| size >= MIN_KEY_BYTES);
            if may_hold_key {
                TargetContent::Unreadable(UnseenCause::PermissionDenied)
            } else {
                TargetContent::NoKey
            }
        }
        Ok(_) => TargetContent::Unseen(UnseenCause::NotRegular),
        Err(error) => TargetContent::Unseen(unseen_cause(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::secret::Secret;
    use crate::sink::file::settings::FileTarget;

    const KEY: &str = "sk-admin-AbCd0123EfGh4567";

    #[test]
    fn a_key_is_found_in_any_encoding_and_never_cut_off() {
        let utf16 = |text: &str, to_bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            text.encode_utf16().flat_map(to_bytes).collect()
        };
        let line = format!("\u{feff}{KEY}\r\n");
        for (content, expected) in [
            (format!("{KEY}\n").into_bytes(), "key"),
            (utf16(&line, u16::to_le_bytes), "key"),
            (utf16(&line, u16::to_be_bytes), "key"),
            ([b"Schl\xfcssel: ", KEY.as_bytes(), b"\xff"].concat(), "key"),
            (utf16("\u{feff}sk-admin-", u16::to_le_bytes), "cut"),
            (utf16("sk-admin-\n", u16::to_be_bytes), "cut"),
            (vec![b' '; MAX_READ_BYTES], "none"),
            (vec![b' '; MAX_READ_BYTES + 1], "unreadable"),
            (vec![0; 100], "none"),
            (Vec::new(), "none"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            std::fs::write(&path, &content).unwrap();
            let location = TargetLocation::unguarded(Arc::new(FileTarget::with_defaults(path)));
            let found = match inspect(&location) {
                TargetContent::Keys(keys) => {
                    let keys: Vec<_> = keys.iter().map(Secret::expose).collect();
                    if keys == ["sk-admin-"] {
                        "cut"
                    } else {
                        assert_eq!(keys, [KEY]);
                        "key"
                    }
                }
                TargetContent::NoKey => "none",
                TargetContent::Unreadable(UnseenCause::TooLong) => "unreadable",
                TargetContent::Unreadable(_)
                | TargetContent::Unseen(_)
                | TargetContent::Unknown => "unknown",
            };
            assert_eq!(found, expected, "{} bytes", content.len());
        }
    }

    /// What is not there holds nothing, and what is out of sight may hold anything.
    #[test]
    fn a_file_out_of_sight_is_told_from_an_absent_one() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(dir.path().join("plain"), KEY).unwrap();
        std::os::unix::fs::symlink("../plain", folder.join("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.join("dangling")).unwrap();
        std::fs::create_dir(folder.join("dir")).unwrap();
        let fifo = folder.join("fifo");
        fs::mknodat(fs::CWD, &fifo, fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        for (path, cause) in [
            ("folder/absent", None),
            ("folder/link", Some(UnseenCause::NotRegular)),
            ("folder/dangling", Some(UnseenCause::NotRegular)),
            ("folder/dir", Some(UnseenCause::NotRegular)),
            ("folder/fifo", Some(UnseenCause::NotRegular)),
            ("away/key", Some(UnseenCause::FolderMissing)),
            ("away/further/key", Some(UnseenCause::FolderMissing)),
            ("plain/key", Some(UnseenCause::FolderMissing)),
        ] {
            let target = FileTarget::with_defaults(dir.path().join(path));
            let content = inspect(&TargetLocation::unguarded(Arc::new(target)));
            assert_eq!(content.unseen_cause(), cause, "{path}: {content:?}");
            assert!(content.keys().is_empty(), "{path}");
        }
    }
}
