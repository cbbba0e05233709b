//! The files and folders that are rekeyd's alone, whatever a program does to their modes.
//!
//! Landlock keeps a program from the content of these files, but not from `chmod`, `setfacl` or
//! `chgrp`: it has the user of rekeyd. So their modes are narrowed again after each program, and
//! now and then, and what their access control lists give to others is taken away.

use std::fs::{Permissions, set_permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{
    FileType, Mode, OFlags, Stat, StatVfsMountFlags, XattrFlags, fchmod, fstat, fstatvfs, open,
    setxattr,
};

use super::access_list::{
    self, ACCESS_LIST, AccessEntry, MASK, NAMED_GROUP, NAMED_USER, OWNING_GROUP,
};
use super::{path_walk, run_blocking, users};
use crate::core::shell;

/// The bits of a mode that give access to others than the owner.
pub(crate) const ACCESS_OF_OTHERS: u32 = 0o077;

/// The bits of a mode that give access to the group.
const RIGHTS_OF_GROUP: u32 = 0o070;

/// The bits of a mode that Kubernetes adds to the files of a volume for `fsGroup`.
const FS_GROUP_RIGHTS: u32 = 0o660;

/// How long the files may take: their file system may hang.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// A file or a folder of rekeyd's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFile {
    /// Its path.
    pub path: PathBuf,
    /// The rights of others that it may have, as bits of a mode.
    allowed: u32,
    /// The group whose rights `allowed` has; any, if there is none.
    group: Option<u32>,
    /// Whether its access control list may name nobody else.
    has_closed_list: bool,
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
    /// Returns a file or folder of which others may have the rights in `allowed`, bits of a mode.
    #[must_use]
    pub const fn with_rights(path: PathBuf, allowed: u32) -> Self {
        Self {
            path,
            allowed,
            group: None,
            has_closed_list: false,
        }
    }

    /// Returns a secret, whose group may keep the rights that it has now, as others may by its
    /// mode, but not by its access control list. Without a file, its group may read it.
    #[must_use]
    pub fn secret(path: PathBuf) -> Self {
        Self {
            has_closed_list: true,
            ..Self::as_it_is(path, 0o040)
        }
    }

    /// Returns a folder, of which others may keep the rights that they have now.
    #[must_use]
    pub fn folder_as_it_is(path: PathBuf) -> Self {
        Self::as_it_is(path, 0)
    }

    fn as_it_is(path: PathBuf, without_file: u32) -> Self {
        let found = path.symlink_metadata().ok();
        Self {
            allowed: found.as_ref().map_or(without_file, |found| found.mode()),
            group: found.map(|found| found.gid()),
            path,
            has_closed_list: false,
        }
    }

    /// Returns the rights that others may have if it has this group.
    fn allowed_with(&self, group: u32) -> u32 {
        match self.group {
            Some(own) if own != group => self.allowed & !RIGHTS_OF_GROUP,
            Some(_) | None => self.allowed,
        }
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
            // One that is missing is open to nobody.
            let _ = close(file, latest.as_deref());
        }
    };
    let describe = || "checking the modes of rekeyd's own files".to_owned();
    if let Err(error) = run_blocking(describe, CHECK_TIMEOUT, work).await {
        tracing::warn!("{error}");
    }
}

/// Takes from others what they may not have of a file, and logs it.
fn close(file: &OwnFile, program: Option<&str>) -> io::Result<()> {
    let opened = OpenedFile::open(&file.path)?;
    if !is_of_this_user(&opened.found) {
        return Ok(());
    }
    let allowed = file.allowed_with(opened.found.st_gid);
    if let Some(NarrowedMode { from, to }) = opened.narrow(allowed)? {
        let change = format!("(mode {from:04o}), and is narrowed to {to:04o}");
        log_change(&file.path, &change, program);
    }
    if file.has_closed_list {
        for entry in opened.close_list()? {
            let whom = describe_entry(&entry);
            let change = format!("({whom}, in its access control list), whose entry is removed");
            log_change(&file.path, &change, program);
        }
    }
    Ok(())
}

fn describe_entry(entry: &AccessEntry) -> String {
    match entry.tag {
        NAMED_GROUP => format!("the group {}", users::describe_group(entry.id)),
        _ => users::describe_user(entry.id),
    }
}

fn log_change(path: &Path, change: &str, program: Option<&str>) {
    let path = path.display();
    match program {
        Some(program) => tracing::warn!(
            program,
            "{path} was open to other users {change}; the program {program} ran just before; hint: \
             check what it does with the rights of rekeyd's user, and replace the secret if the \
             file holds one"
        ),
        None => tracing::warn!(
            "{path} was open to other users {change}; hint: find the process of rekeyd's user that \
             changed it, and replace the secret if the file holds one"
        ),
    }
}

/// Describes who else can read a file with a secret by its access control list, for people:
/// its mode shows only what the list grants at most. Blocks.
#[must_use]
pub fn describe_listed_readers(path: &Path) -> Option<String> {
    let found = OpenedFile::open(path).ok()?;
    let entries = access_list::read(found.name()).ok()??;
    let entry = foreign_entries(&entries).next()?;
    let letter = match entry.tag {
        NAMED_GROUP => 'g',
        _ => 'u',
    };
    let quoted = shell::quote(&path.to_string_lossy());
    let (path, whom) = (path.display(), describe_entry(entry));
    Some(format!(
        "the access control list of {path} gives its secret to {whom}; hint: run `setfacl -x \
         {letter}:{} {quoted}`",
        entry.id
    ))
}

/// Returns the entries that give rights to others than root and this process's user.
fn foreign_entries(entries: &[AccessEntry]) -> impl Iterator<Item = &AccessEntry> {
    let mask = access_list::mask(entries);
    let in_effect = entries.iter().filter(move |entry| entry.rights & mask != 0);
    in_effect.filter(|entry| match entry.tag {
        NAMED_USER => path_walk::is_foreign(entry.id),
        NAMED_GROUP => {
            let members = users::group_members(entry.id);
            members.is_none_or(|members| members.into_iter().any(path_walk::is_foreign))
        }
        _ => false,
    })
}

/// A file or folder, opened without a right to read it, so that closing it drops no lock. What
/// is changed is what was looked at: nobody can put a link in its place meanwhile.
struct OpenedFile {
    opened: OwnedFd,
    found: Stat,
}

impl OpenedFile {
    fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = open(path, flags, Mode::empty())?;
        let found = fstat(&opened)?;
        Ok(Self { opened, found })
    }

    /// Returns the name that the kernel gives it, as a path.
    fn name(&self) -> String {
        format!("/proc/self/fd/{}", self.opened.as_raw_fd())
    }

    fn narrow(&self, allowed: u32) -> io::Result<Option<NarrowedMode>> {
        let from = self.found.st_mode & 0o7777;
        let to = from & !(ACCESS_OF_OTHERS & !allowed);
        if to == from {
            return Ok(None);
        }
        set_permissions(self.name(), Permissions::from_mode(to))?;
        Ok(Some(NarrowedMode { from, to }))
    }

    /// Removes the entries of others from the access control list. Returns them.
    fn close_list(&self) -> io::Result<Vec<AccessEntry>> {
        let Some(mut entries) = access_list::read(self.name())? else {
            return Ok(Vec::new());
        };
        let foreign: Vec<_> = foreign_entries(&entries).copied().collect();
        if foreign.is_empty() {
            return Ok(foreign);
        }
        let mask = access_list::mask(&entries);
        entries.retain(|entry| !foreign.contains(entry));
        if !entries.iter().any(AccessEntry::is_named) {
            // Without a mask, the group would have what the mask had taken from it.
            entries.retain(|entry| entry.tag != MASK);
            let group = entries.iter_mut().filter(|entry| entry.tag == OWNING_GROUP);
            group.for_each(|entry| entry.rights &= mask);
        }
        let list = access_list::write(&entries);
        setxattr(self.name(), ACCESS_LIST, &list, XattrFlags::empty())?;
        Ok(foreign)
    }
}

/// Takes from others the rights that are not `allowed` at a file with one name, or at a folder,
/// if this process's user owns it. Returns the modes if it changed.
///
/// # Errors
/// The system's.
pub fn narrow_mode(path: &Path, allowed: u32) -> io::Result<Option<NarrowedMode>> {
    let opened = OpenedFile::open(path)?;
    match is_of_this_user(&opened.found) {
        true => opened.narrow(allowed),
        false => Ok(None),
    }
}

/// Whether [`narrow_opened`] may change the mode of an opened file: it is a regular file of
/// this process's user with one name, on a file system that can be written.
#[must_use]
pub fn can_narrow(file: impl AsFd) -> bool {
    let is_of_process = fstat(&file).is_ok_and(|found| {
        FileType::from_raw_mode(found.st_mode).is_file() && is_of_this_user(&found)
    });
    let is_read_only =
        fstatvfs(&file).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY));
    is_of_process && !is_read_only
}

/// Takes the bits that are not `allowed` from the mode of an opened file, if [`can_narrow`]
/// allows that. Returns the modes if it changed.
///
/// # Errors
/// The system's.
pub fn narrow_opened(file: impl AsFd, allowed: u32) -> io::Result<Option<NarrowedMode>> {
    let from = fstat(&file)?.st_mode & 0o7777;
    let to = from & allowed;
    if from == to || !can_narrow(&file) {
        return Ok(None);
    }
    fchmod(&file, Mode::from_raw_mode(to))?;
    Ok(Some(NarrowedMode { from, to }))
}

/// Whether a narrowing from one mode to another takes back exactly what Kubernetes gives to a
/// file for the `fsGroup` of a pod: the group of its volumes, which may read and write. That
/// group is one of the groups of every process in the pod.
#[must_use]
pub fn is_fs_group_widening(from: u32, to: u32, group: u32) -> bool {
    let removed = from & !to;
    let is_given = from & FS_GROUP_RIGHTS == FS_GROUP_RIGHTS && from & 0o007 == to & 0o007;
    let is_only_that = removed != 0 && removed & !RIGHTS_OF_GROUP == 0 && from & 0o7000 == 0;
    is_given && is_only_that && is_group_of_process(group)
}

fn is_group_of_process(group: u32) -> bool {
    let groups = rustix::process::getgroups().unwrap_or_default();
    let mut groups = groups.into_iter().chain([rustix::process::getegid()]);
    groups.any(|own| own.as_raw() == group)
}

/// Whether a file or folder belongs to this process's user, and has no other name.
#[must_use]
pub fn is_of_this_user(found: &Stat) -> bool {
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

    /// The group keeps what the mode gives it, and others what they need to reach the file.
    #[test]
    fn entries_of_others_are_removed_from_the_list_of_a_secret() {
        const OWN: u32 = u32::MAX;
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("secret");
        let list = |user: (u32, u16), group: u16, mask: u16| {
            let entries = [
                (access_list::OWNER, 6, OWN),
                (NAMED_USER, user.1, user.0),
                (OWNING_GROUP, group, OWN),
                (MASK, mask, OWN),
                (access_list::OTHERS, 0, OWN),
            ];
            let entries = entries.map(|(tag, rights, id)| AccessEntry { tag, rights, id });
            access_list::write(&entries)
        };
        for (user, group, mask, is_removed, mode) in [
            ((4_712, 4), 4, 4, true, 0o640),
            // The mask had taken the right to write from the group.
            ((4_712, 4), 6, 4, true, 0o640),
            ((4_712, 4), 0, 4, true, 0o600),
            // It grants nothing, or something to root.
            ((4_712, 2), 4, 4, false, 0o640),
            ((0, 4), 4, 4, false, 0o640),
        ] {
            fs::write(&path, "x").unwrap();
            set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
            let secret = OwnFile::secret(path.clone());
            let list = list(user, group, mask);
            if setxattr(&path, ACCESS_LIST, &list, XattrFlags::empty()).is_err() {
                crate::test_host::report_unsupported(
                    "this file system has no access control lists",
                );
                return;
            }
            close(&secret, None).unwrap();
            let left = access_list::read(&path).unwrap().unwrap_or_default();
            let is_named = left.iter().any(AccessEntry::is_named);
            assert_eq!(is_named, !is_removed, "{user:?} {group} {mask}: {left:?}");
            let found = path.metadata().unwrap().permissions().mode() & 0o7777;
            assert_eq!(found, mode, "{user:?} {group} {mask}");
            fs::remove_file(&path).unwrap();
        }
    }
}
