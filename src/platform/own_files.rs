//! The files and folders that are rekeyd's alone, whatever a program does to their modes.
//!
//! Landlock keeps a program from the content of these files, but not from `chmod`: it has the
//! user of rekeyd. So their modes are narrowed again after each program, and now and then.

use std::fs::{Permissions, set_permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, open};

use super::run_blocking;

/// The bits of a mode that give access to others than the owner.
const ACCESS_OF_OTHERS: u32 = 0o077;

/// How long the files may take: their file system may hang.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// A file or a folder of rekeyd's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFile {
    /// Its path.
    pub path: PathBuf,
    /// The rights of others that it may have, as bits of a mode.
    pub allowed: u32,
}

/// A mode that was narrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NarrowedMode {
    /// The mode that it was.
    pub from: u32,
    /// The mode that it is now.
    pub to: u32,
}

/// What [`narrow_again`] checks, and the latest program that ran.
static WATCHED: Mutex<WatchedFiles> = Mutex::new(WatchedFiles {
    files: Vec::new(),
    latest_program: None,
});

struct WatchedFiles {
    files: Vec<OwnFile>,
    latest_program: Option<String>,
}

impl OwnFile {
    /// Returns a secret, which may keep the rights that others have now. Without a file, its
    /// group may read it.
    #[must_use]
    pub fn as_it_is(path: PathBuf) -> Self {
        let found = path.symlink_metadata().ok();
        let allowed = found.map_or(0o040, |found| found.permissions().mode());
        Self { path, allowed }
    }
}

/// Watches the modes of these files and folders from now on, in the place of others.
pub fn watch(files: Vec<OwnFile>) {
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    watched.files = files;
}

/// Narrows the modes of the watched files after `program` ran, or after whatever ran before.
/// Logs what another process of this user had changed.
pub async fn narrow_again(program: Option<&str>) {
    let (files, latest) = {
        let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = program {
            watched.latest_program = Some(program.to_owned());
        }
        (watched.files.clone(), watched.latest_program.clone())
    };
    if files.is_empty() {
        return;
    }
    let work = move || {
        for file in &files {
            if let Ok(Some(narrowed)) = narrow_mode(&file.path, file.allowed) {
                log_change(&file.path, narrowed, latest.as_deref());
            }
        }
    };
    let describe = || "checking the modes of rekeyd's own files".to_owned();
    if let Err(error) = run_blocking(describe, CHECK_TIMEOUT, work).await {
        tracing::warn!("{error}");
    }
}

fn log_change(path: &Path, narrowed: NarrowedMode, program: Option<&str>) {
    let path = path.display();
    let NarrowedMode { from, to } = narrowed;
    match program {
        Some(program) => tracing::warn!(
            program,
            "{path} was open to other users (mode {from:04o}), and is narrowed to {to:04o}; the \
             program {program} ran just before; hint: check what it does with the rights of \
             rekeyd's user, and replace the secret if the file holds one"
        ),
        None => tracing::warn!(
            "{path} was open to other users (mode {from:04o}), and is narrowed to {to:04o}; hint: \
             find the process of rekeyd's user that changed it, and replace the secret if the file \
             holds one"
        ),
    }
}

/// Takes from others the rights that are not `allowed` at a file with one name, or at a folder,
/// if this process's user owns it. Returns the modes if it changed. What is changed is what
/// was looked at: nobody can put a link in its place meanwhile. The descriptor cannot read, so
/// that closing it drops no lock.
///
/// # Errors
/// The system's.
pub fn narrow_mode(path: &Path, allowed: u32) -> io::Result<Option<NarrowedMode>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = open(path, flags, Mode::empty())?;
    let found = fstat(&opened)?;
    let from = found.st_mode & 0o7777;
    let to = from & !(ACCESS_OF_OTHERS & !allowed);
    if to == from || !is_of_this_user(&found) {
        return Ok(None);
    }
    let opened = format!("/proc/self/fd/{}", opened.as_raw_fd());
    set_permissions(opened, Permissions::from_mode(to))?;
    Ok(Some(NarrowedMode { from, to }))
}

/// Whether a file or folder belongs to this process's user, and has no other name.
fn is_of_this_user(found: &Stat) -> bool {
    let kind = FileType::from_raw_mode(found.st_mode);
    let has_one_name = kind.is_dir() || (kind.is_file() && found.st_nlink == 1);
    has_one_name && found.st_uid == rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_own_files_with_one_name_are_narrowed() {
        let place = tempfile::tempdir().unwrap();
        let make = |name: &str, mode: u32| {
            let path = place.path().join(name);
            fs::write(&path, "x").unwrap();
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path
        };
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        for (from, allowed, to) in [
            (0o666, 0, 0o600),
            (0o666, 0o040, 0o640),
            (0o644, 0o644, 0o644),
            (0o400, 0, 0o400),
        ] {
            let file = make("file", from);
            let narrowed = narrow_mode(&file, allowed).unwrap();
            assert_eq!(narrowed, (from != to).then_some(NarrowedMode { from, to }));
            assert_eq!(mode(&file), to);
        }
        let linked = make("linked", 0o666);
        fs::hard_link(&linked, place.path().join("second")).unwrap();
        assert_eq!(narrow_mode(&linked, 0).unwrap(), None);
        symlink(make("target", 0o666), place.path().join("link")).unwrap();
        assert_eq!(narrow_mode(&place.path().join("link"), 0).unwrap(), None);
        assert_eq!(mode(&place.path().join("target")), 0o666);
        assert!(narrow_mode(&place.path().join("missing"), 0).is_err());
        let folder = place.path().join("folder");
        fs::create_dir(&folder).unwrap();
        set_permissions(&folder, Permissions::from_mode(0o770)).unwrap();
        narrow_mode(&folder, 0o050).unwrap();
        assert_eq!(mode(&folder), 0o750);
    }
}
