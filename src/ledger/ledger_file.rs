//! Opens the ledger's own files, without SQLite.
//!
//! Closing any descriptor of a file drops every POSIX lock that the process has on it,
//! those of SQLite among them. So a process opens a file of a ledger here only while it
//! has no connection to that ledger, or keeps the descriptor until the connection is
//! closed.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{Error, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{OFlags, StatFs, fstatfs, statfs};
use rustix::io::Errno;

use crate::core::os_error;
use crate::ledger::error::LedgerError;
use crate::ledger::paths::{files_of_sqlite, sibling_path};
use crate::platform::own_files::{
    ACCESS_OF_OTHERS, NarrowedMode, is_fs_group_widening, narrow_mode,
};
use crate::platform::users;

/// The mode of the ledger's files: a user who can read a file can lock it, and keep the
/// writer out.
pub(super) const LEDGER_FILE_MODE: u32 = 0o600;

/// The bits of a mode that let others than the owner write.
const WRITE_OF_OTHERS: u32 = 0o022;

/// The reason why a read-only file cannot be opened.
pub(super) const READ_ONLY_REASON: &str =
    "it or its folder is read-only; hint: let rekeyd write to both";

/// The reason why a folder cannot be opened as a ledger.
pub(super) const IS_DIRECTORY_REASON: &str = "it is a folder; hint: use the path of a file";

/// The reason why a device, a pipe or a socket cannot be used.
const NO_REGULAR_FILE_REASON: &str = "it is not a regular file";

/// The reason why a link cannot be used.
const LINK_REASON: &str = "it is a symbolic link";

/// What to do about something else in the place of a file that rekeyd alone makes.
pub(super) const REMOVE_ADVICE: &str = "remove it, so that rekeyd makes a file of its own there";

/// The file systems on which `flock` locks the whole file as `fcntl` does (`flock(2)`):
/// NFS, SMB in its three versions, and 9p.
const WHOLE_FILE_LOCK_SYSTEMS: [(u64, &str); 5] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB"),
    (0x0102_1997, "9p"),
];

/// Opens a ledger for reading, and returns at once if it is a pipe that nobody writes to.
///
/// # Errors
/// It cannot be opened, or is no regular file.
pub(super) fn open_regular(path: &Path) -> Result<File, Error> {
    open_with(OpenOptions::new().read(true), OFlags::empty(), path)
}

/// Opens a file beside a ledger for reading, as [`open_regular`] does. It is never a link:
/// rekeyd alone makes it.
///
/// # Errors
/// As [`open_regular`], or it is a link.
pub(super) fn open_beside(path: &Path) -> Result<File, Error> {
    open_with(OpenOptions::new().read(true), OFlags::NOFOLLOW, path)
}

/// Opens or creates a ledger for reading and writing, as [`open_regular`] does.
///
/// # Errors
/// As [`open_regular`].
fn open_or_create_regular(path: &Path) -> Result<File, Error> {
    open_or_create(OFlags::empty(), path)
}

/// Opens or creates a file beside a ledger for reading and writing, as [`open_beside`] does.
///
/// # Errors
/// As [`open_beside`].
pub(super) fn open_or_create_beside(path: &Path) -> Result<File, Error> {
    open_or_create(OFlags::NOFOLLOW, path)
}

fn open_or_create(flags: OFlags, path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match open_with(options.clone().create_new(true), flags, path) {
        Ok(file) => {
            // The umask has taken rights from the mode.
            file.set_permissions(Permissions::from_mode(LEDGER_FILE_MODE))?;
            Ok(file)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            open_with(options.create(true).truncate(false), flags, path)
        }
        Err(error) => Err(error),
    }
}

fn open_with(options: &mut OpenOptions, flags: OFlags, path: &Path) -> Result<File, Error> {
    let flags = i32::try_from((flags | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let opened = options
        .mode(LEDGER_FILE_MODE)
        .custom_flags(flags)
        .open(path);
    let file = opened.map_err(|error| {
        if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) {
            Error::other(LINK_REASON)
        } else if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) {
            // A socket, or a device that is not there.
            Error::other(NO_REGULAR_FILE_REASON)
        } else {
            error
        }
    })?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(Error::other(NO_REGULAR_FILE_REASON));
    }
    Ok(file)
}

/// Creates the ledger at `path` with [`LEDGER_FILE_MODE`], unless it exists. SQLite would
/// use the umask alone.
///
/// # Errors
/// The system's.
pub(super) fn create_if_missing(path: &Path) -> Result<(), LedgerError> {
    if path.exists() {
        return Ok(());
    }
    let created = open_or_create_regular(path);
    created.map(drop).map_err(|error| cannot_open(path, &error))
}

/// Takes the rights of others from the files of the ledger at `path` that belong to this
/// process's user and have no other name, and logs what that changed, and what it could not
/// change. Opens none of them for reading: closing it would drop a lock.
pub(super) fn narrow_modes(path: &Path) {
    narrow_files(path).log();
}

fn narrow_files(path: &Path) -> NarrowedFiles {
    let files = files_of_sqlite(path).into_iter();
    let own = ["lock", "checkpoint"].map(|ending| sibling_path(path, &format!(".{ending}")));
    let mut narrowed = NarrowedFiles::default();
    for file in files.chain(own) {
        let found = file.symlink_metadata().ok();
        let Some(found) = found.filter(Metadata::is_file) else {
            continue;
        };
        // One that cannot be narrowed is opened as it is.
        match narrow_mode(&file, 0) {
            Ok(Some(mode)) => narrowed.add(&file, mode, found.gid()),
            Ok(None) | Err(_) => narrowed.add_kept(&file, &found),
        }
    }
    narrowed
}

/// The files of a ledger whose modes were narrowed, as one line for each cause.
#[derive(Default)]
struct NarrowedFiles {
    /// Those with the rights that earlier releases gave.
    earlier: Vec<String>,
    /// Those with the rights that Kubernetes gives to `fsGroup`.
    fs_group: Vec<String>,
    /// Those that others could change.
    exposed: Vec<String>,
    /// Those that are open to others and stay so, each with the reason.
    kept: Vec<String>,
}

impl NarrowedFiles {
    fn add(&mut self, file: &Path, mode: NarrowedMode, group: u32) {
        let NarrowedMode { from, to } = mode;
        let files = if is_fs_group_widening(from, to, group) {
            &mut self.fs_group
        } else if from & WRITE_OF_OTHERS == 0 {
            &mut self.earlier
        } else {
            &mut self.exposed
        };
        files.push(format!("{} ({from:04o})", file.display()));
    }

    /// Adds a file whose mode was not changed, if others have rights on it.
    fn add_kept(&mut self, file: &Path, found: &Metadata) {
        let mode = found.mode() & 0o7777;
        if mode & ACCESS_OF_OTHERS == 0 {
            return;
        }
        let file = file.display();
        self.kept.push(if found.nlink() > 1 {
            format!(
                "{file} ({mode:04o}) has another name, which may be another program's; hint: find \
                 it with `find / -xdev -samefile {file}`, remove it, and restart rekeyd"
            )
        } else {
            let user = users::name_or_number(found.uid());
            format!(
                "{file} ({mode:04o}) belongs to {user}, or its mode cannot be changed; hint: \
                 `chmod 600 {file}`"
            )
        });
    }

    fn log(&self) {
        for kept in &self.kept {
            tracing::warn!("other users can open a file of the ledger: {kept}");
        }
        let list = |files: &[String]| files.join(", ");
        if !self.earlier.is_empty() {
            tracing::info!(
                "only their owner can read these files from now on: {}; other users read \
                 them through the control socket of the running rekeyd",
                list(&self.earlier)
            );
        }
        if !self.fs_group.is_empty() {
            tracing::info!(
                "narrowed the files of the ledger that had the rights that fsGroup gives to mode \
                 0600: {}",
                list(&self.fs_group)
            );
        }
        if !self.exposed.is_empty() {
            tracing::warn!(
                "narrowed the files of the ledger that other users could change: {}; hint: find \
                 out who opened them, and compare the ledger with the provider by `rekeyd audit`",
                list(&self.exposed)
            );
        }
    }
}

/// Checks that SQLite can open `path` without waiting: it is a regular file, or missing.
///
/// # Errors
/// It is another kind of file.
pub(super) fn check_regular(path: &Path) -> Result<(), Error> {
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(metadata) if !metadata.is_file() => Err(Error::other(NO_REGULAR_FILE_REASON)),
        // SQLite reports what it cannot open.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Checks that a file beside a ledger, which rekeyd alone makes, is a regular file or missing.
///
/// # Errors
/// It is a link, or another kind of file.
pub(super) fn check_beside(path: &Path) -> Result<(), Error> {
    match path.symlink_metadata() {
        Ok(found) if found.is_symlink() => Err(Error::other(LINK_REASON)),
        Ok(_) | Err(_) => check_regular(path),
    }
}

/// Returns whether the error is that something else is in the place of a file that rekeyd alone
/// makes.
pub(super) fn is_no_own_file(error: &Error) -> bool {
    // The kind of the errors that are made here.
    matches!(error.kind(), ErrorKind::Other | ErrorKind::IsADirectory)
}

/// Returns the error of a ledger that cannot be opened.
pub(super) fn cannot_open(path: &Path, error: &Error) -> LedgerError {
    LedgerError::Open {
        path: path.to_owned(),
        reason: if error.kind() == ErrorKind::IsADirectory {
            IS_DIRECTORY_REASON.to_owned()
        } else {
            os_error::describe(error)
        },
    }
}

/// Returns the name of the file's network file system if `flock` locks the whole file
/// there as `fcntl` does: it would meet SQLite's own locks.
pub(super) fn network_file_system(file: impl AsFd) -> Option<&'static str> {
    network_file_system_of(fstatfs(file).ok()?)
}

/// As [`network_file_system`], of the file or folder at `path`, which is not opened.
pub(super) fn network_file_system_at(path: &Path) -> Option<&'static str> {
    network_file_system_of(statfs(path).ok()?)
}

fn network_file_system_of(found: StatFs) -> Option<&'static str> {
    network_file_system_name(u64::try_from(found.f_type).ok()?)
}

fn network_file_system_name(magic: u64) -> Option<&'static str> {
    let mut known = WHOLE_FILE_LOCK_SYSTEMS.iter();
    known.find_map(|(number, name)| (*number == magic).then_some(*name))
}

#[cfg(test)]
mod tests {
    use std::fs::set_permissions;

    use super::*;

    #[test]
    fn only_network_file_systems_lock_whole_files() {
        for (magic, name) in [
            (0x6969, Some("NFS")),
            (0xFF53_4D42, Some("CIFS")),
            (0xFE53_4D42, Some("SMB")),
            (0x517B, Some("SMB")),
            (0x0102_1997, Some("9p")),
            // ext4, tmpfs, XFS, btrfs, overlay, ZFS, bcachefs
            (0xEF53, None),
            (0x0102_1994, None),
            (0x5846_5342, None),
            (0x9123_683E, None),
            (0x794C_7630, None),
            (0x2FC1_2FC1, None),
            (0xCA45_1A4E, None),
        ] {
            assert_eq!(network_file_system_name(magic), name, "{magic:#x}");
        }
        let file = tempfile::tempfile().unwrap();
        assert_eq!(
            network_file_system(&file),
            None,
            "tests run on a local disk"
        );
    }

    #[test]
    fn files_are_narrowed_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        let at = |ending: &str| dir.path().join(format!("ledger.db{ending}"));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        let make = |path: &Path| {
            File::create(path).unwrap();
            set_permissions(path, Permissions::from_mode(0o664)).unwrap();
        };
        for ending in ["", "-wal", "-shm", ".lock"] {
            make(&at(ending));
        }
        let other = dir.path().join("other");
        make(&other);
        std::os::unix::fs::symlink(&other, at(".checkpoint")).unwrap();
        narrow_modes(&ledger);
        for ending in ["", "-wal", "-shm", ".lock"] {
            assert_eq!(mode(&at(ending)), 0o600, "{ending}");
        }
        assert_eq!(mode(&other), 0o664);
    }

    /// Another program may need the mode that a file has under its other name.
    #[test]
    fn file_with_another_name_keeps_its_mode_and_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        File::create(&ledger).unwrap();
        set_permissions(&ledger, Permissions::from_mode(0o644)).unwrap();
        std::fs::hard_link(&ledger, dir.path().join("copy")).unwrap();
        let kept = narrow_files(&ledger).kept;
        let mode = ledger.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o644);
        assert!(kept[0].contains("ledger.db (0644) has another name"));
        std::fs::remove_file(dir.path().join("copy")).unwrap();
        let narrowed = narrow_files(&ledger);
        assert_eq!((narrowed.kept.len(), narrowed.earlier.len()), (0, 1));
    }

    #[test]
    fn only_regular_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for path in [&pipe, &link, dir.path(), Path::new("/dev/null"), &socket] {
            assert!(open_regular(path).is_err(), "{}", path.display());
            assert!(check_regular(path).is_err(), "{}", path.display());
        }
        let file = dir.path().join("file");
        open_or_create_regular(&file).unwrap();
        open_regular(&file).unwrap();
        let link = dir.path().join("ledger.db");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        open_regular(&link).unwrap();
        for opened in [open_beside(&link), open_or_create_beside(&link)] {
            assert!(opened.unwrap_err().to_string().contains("symbolic link"));
        }
        check_regular(&file).unwrap();
        check_regular(&dir.path().join("missing")).unwrap();
    }
}
