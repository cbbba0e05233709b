//! What to do about a folder or a file that this process may not write to. The advice
//! takes no access from anybody, and opens no folder that holds files of others.

use std::ffi::OsStr;
use std::fs::read_dir;
use std::path::{Path, PathBuf};

use rustix::fs::{self, Access, AtFlags, CWD};

use super::temp_name::targets_of;
use crate::core::shell::quote;
use crate::platform::{path_walk, secret_file, users};

/// The bits that let the owner work in a folder.
const OWNER_ALL: u32 = 0o700;

/// The top folders below which every folder belongs to the system.
const SYSTEM_FOLDERS: [&str; 11] = [
    "bin", "boot", "dev", "lib", "lib64", "proc", "run", "sbin", "sys", "tmp", "usr",
];

/// What decides about the advice on a folder.
struct FolderFacts<'a> {
    folder: &'a Path,
    /// A folder that the file could have of its own.
    own_folder: PathBuf,
    /// The user of this process, by name or number.
    user: &'a str,
    owned_by_process: bool,
    belongs_to_root: bool,
    mode: u32,
    /// Whether it has no other content than the file.
    is_dedicated: bool,
}

impl<'a> FolderFacts<'a> {
    /// Returns the facts about the folder of a file, if this process cannot use it.
    fn of_unusable(file: &'a Path, user: &'a str) -> Option<Self> {
        let folder = file.parent().unwrap_or(Path::new("/"));
        let needed = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        let is_usable = fs::accessat(CWD, folder, needed, AtFlags::EACCESS).is_ok();
        let stat = fs::stat(folder).ok().filter(|_| !is_usable)?;
        Some(Self {
            folder,
            own_folder: own_folder(file),
            user,
            owned_by_process: stat.st_uid == rustix::process::geteuid().as_raw(),
            belongs_to_root: stat.st_uid == 0,
            mode: stat.st_mode,
            is_dedicated: is_dedicated(file),
        })
    }

    /// Returns whether the file can stay in the folder.
    const fn can_stay(&self) -> bool {
        self.owned_by_process || (self.belongs_to_root && self.is_dedicated)
    }
}

/// Returns the advice about the folder of a file in which this process may not create
/// files, with a leading `; hint: `. Empty if nothing is known to help.
pub(super) fn folder_advice(file: &Path) -> String {
    let Some(user) = affected_user() else {
        return String::new();
    };
    if secret_file::is_onlooker() {
        return "; hint: run this command as root or as rekeyd's user, because only they see \
                whether rekeyd can write there"
            .to_owned();
    }
    let folder = file.parent().unwrap_or(Path::new("/"));
    if let Some(closed) = closed_ancestor(folder) {
        return format!(
            "; hint: move the file to another folder, such as /etc/billing, because {user} may not \
             enter {}",
            closed.display()
        );
    }
    let facts = FolderFacts::of_unusable(file, &user);
    facts.as_ref().map(folder_remedy).unwrap_or_default()
}

/// Returns whether the advice about the folder of a file is to use another one, so that
/// nothing else about this folder matters.
pub(super) fn needs_other_folder(file: &Path) -> bool {
    let Some(user) = affected_user().filter(|_| !secret_file::is_onlooker()) else {
        return false;
    };
    let folder = file.parent().unwrap_or(Path::new("/"));
    let facts = FolderFacts::of_unusable(file, &user);
    closed_ancestor(folder).is_some() || facts.is_some_and(|facts| !facts.can_stay())
}

/// Returns the advice about a file that is written in place, as [`folder_advice`] does.
pub(super) fn file_advice(path: &Path) -> String {
    let (Some(user), Ok(stat)) = (affected_user(), fs::stat(path)) else {
        return String::new();
    };
    if secret_file::is_onlooker() {
        return String::new();
    }
    let path = quote(&path.to_string_lossy());
    if stat.st_uid == rustix::process::geteuid().as_raw() {
        format!("; hint: let {user} write to it: chmod u+rw {path}")
    } else if stat.st_uid == 0 {
        // Root keeps its access, and so does the group.
        format!("; hint: let {user} write to it: chown {user} {path}")
    } else {
        format!("; hint: let {user} write to it through its group")
    }
}

/// Returns the user of this process. Permissions do not apply to root.
fn affected_user() -> Option<String> {
    let user = rustix::process::geteuid().as_raw();
    (user != 0).then(|| users::user_name(user).unwrap_or_else(|| user.to_string()))
}

fn folder_remedy(facts: &FolderFacts<'_>) -> String {
    let (folder, user) = (quote(&facts.folder.to_string_lossy()), facts.user);
    let lacks_mode = facts.mode & OWNER_ALL != OWNER_ALL;
    match (facts.owned_by_process, lacks_mode) {
        (true, true) => return format!("; hint: let {user} write to it: chmod u+rwx {folder}"),
        (true, false) => {
            return "; hint: check whether SELinux, AppArmor or the unit denies it".to_owned();
        }
        (false, _) => {}
    }
    if facts.can_stay() {
        let mode = if lacks_mode {
            format!(" && chmod u+rwx {folder}")
        } else {
            String::new()
        };
        return format!("; hint: let {user} write to it: chown {user} {folder}{mode}");
    }
    format!(
        "; hint: use a folder that only {user} can write to, such as {0}: install -d -o {user} -m 2750 {0}",
        quote(&facts.own_folder.to_string_lossy())
    )
}

/// Returns the topmost folder above `folder` that this process may not enter.
fn closed_ancestor(folder: &Path) -> Option<&Path> {
    let above: Vec<_> = folder.ancestors().skip(1).collect();
    let mut from_root = above.into_iter().rev();
    from_root.find(|path| fs::accessat(CWD, *path, Access::EXEC_OK, AtFlags::EACCESS).is_err())
}

/// Whether the folder has no other content than the file, and is no folder of the system.
fn is_dedicated(file: &Path) -> bool {
    let folder = file.parent().unwrap_or(Path::new("/"));
    !is_system_folder(folder) && holds_only(folder, file)
}

/// Whether a folder has no other content than the file and its temporary file. Not if the
/// folder cannot be read.
fn holds_only(folder: &Path, file: &Path) -> bool {
    let own = file.file_name().unwrap_or_default();
    let is_ours = |name: &OsStr| name == own || targets_of(name).iter().any(|target| target == own);
    read_dir(folder).is_ok_and(|mut entries| {
        entries.all(|entry| entry.is_ok_and(|entry| is_ours(&entry.file_name())))
    })
}

/// Whether a folder belongs to the system, although it may be empty.
fn is_system_folder(folder: &Path) -> bool {
    let mut parts = folder.iter().skip(1);
    let top = parts.next().and_then(|top| top.to_str());
    let below = parts.count();
    match top {
        Some("etc" | "srv" | "opt" | "home" | "mnt" | "media") => {
            below == 0 || folder == Path::new("/etc/opt")
        }
        Some("var") => below < 2,
        // Such as /usr and /run, and a folder of an administrator's own.
        Some(top) => below == 0 || SYSTEM_FOLDERS.contains(&top),
        None => true,
    }
}

/// Returns the path of a folder that the file could have of its own, and that this process
/// can reach and trust: not below a folder that it may not enter, or whose owner could
/// exchange what is in it.
fn own_folder(file: &Path) -> PathBuf {
    let folder = file.parent().unwrap_or(Path::new("/"));
    if let Some(barrier) = first_barrier(folder) {
        let mut beside = barrier.file_name().unwrap_or_default().to_owned();
        beside.push("-keys");
        return barrier.with_file_name(beside);
    }
    let name = file.file_name().unwrap_or_default();
    let stem = file.file_stem().unwrap_or(name);
    let mut own = stem.to_owned();
    if stem == name {
        own.push(".d");
    }
    file.with_file_name(own)
}

/// Returns the topmost folder, from the root to `folder`, that this process may not enter or
/// that belongs to another user than root and its own.
fn first_barrier(folder: &Path) -> Option<&Path> {
    let parts: Vec<_> = folder.ancestors().collect();
    let mut from_root = parts.into_iter().rev();
    from_root.find(|path| {
        let can_enter = fs::accessat(CWD, *path, Access::EXEC_OK, AtFlags::EACCESS).is_ok();
        let owner = fs::stat(*path).map(|found| found.st_uid);
        !can_enter || owner.is_ok_and(path_walk::is_foreign)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_remedy_takes_and_opens_nothing() {
        let remedy = |owned_by_process, belongs_to_root, mode, is_dedicated| {
            folder_remedy(&FolderFacts {
                folder: Path::new("/etc/billing"),
                own_folder: PathBuf::from("/etc/billing/openai"),
                user: "rekeyd",
                owned_by_process,
                belongs_to_root,
                mode,
                is_dedicated,
            })
        };
        let chown = "; hint: let rekeyd write to it: chown rekeyd /etc/billing";
        let with_mode =
            "; hint: let rekeyd write to it: chown rekeyd /etc/billing && chmod u+rwx /etc/billing";
        let chmod = "; hint: let rekeyd write to it: chmod u+rwx /etc/billing";
        let module = "; hint: check whether SELinux, AppArmor or the unit denies it";
        let own = "; hint: use a folder that only rekeyd can write to, such as /etc/billing/openai: \
                   install -d -o rekeyd -m 2750 /etc/billing/openai";
        for (owned_by_process, belongs_to_root, mode, is_dedicated, expected) in [
            (true, false, 0o500, true, chmod),
            (true, false, 0o050, false, chmod),
            (true, false, 0o2750, true, module),
            (false, true, 0o2750, true, chown),
            (false, true, 0o2550, true, with_mode),
            // Root's folder with other files: a user who may write there may replace them.
            (false, true, 0o755, false, own),
            // The folder of a service, which would lose its access.
            (false, false, 0o750, true, own),
            (false, false, 0o750, false, own),
        ] {
            let found = remedy(owned_by_process, belongs_to_root, mode, is_dedicated);
            assert_eq!(found, expected);
        }
    }

    /// A folder inside another user's would be refused, or could not be reached.
    #[test]
    fn own_folder_is_not_below_a_folder_of_another_user() {
        let dir = tempfile::tempdir().unwrap();
        let theirs = dir.path().join("app");
        std::fs::create_dir_all(theirs.join("below")).unwrap();
        assert_eq!(own_folder(&theirs.join("k")), theirs.join("k.d"));
        // Only root can give a folder away.
        if std::os::unix::fs::chown(&theirs, Some(4_711), None).is_ok() {
            for file in ["k", "k.key", "below/k"] {
                let own = own_folder(&theirs.join(file));
                assert_eq!(own, dir.path().join("app-keys"), "{file}");
            }
        }
    }

    #[test]
    fn only_the_file_itself_may_be_in_a_folder_that_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.key");
        let holds_file_only = || holds_only(dir.path(), &file);
        assert!(holds_file_only());
        for name in ["a.key", ".a.key.rekeyd", ".a.key.0123456789abcdef.rekeyd"] {
            std::fs::write(dir.path().join(name), "").unwrap();
            assert!(holds_file_only(), "{name}");
        }
        std::fs::write(dir.path().join("b.conf"), "").unwrap();
        assert!(!holds_file_only());
        let missing = dir.path().join("missing/a.key");
        assert!(!holds_only(missing.parent().unwrap(), &missing));
    }

    #[test]
    fn system_folders_are_never_opened() {
        for (folder, expected) in [
            ("/", true),
            ("/etc", true),
            ("/etc/opt", true),
            ("/etc/billing", false),
            ("/srv", true),
            ("/srv/billing", false),
            ("/opt/billing/keys", false),
            ("/home", true),
            ("/var", true),
            ("/var/opt", true),
            ("/var/lib/billing", false),
            ("/usr/local/games", true),
            ("/run/user", true),
            ("/boot/efi", true),
            ("/root", true),
            ("/data", true),
            ("/data/billing", false),
        ] {
            assert_eq!(is_system_folder(Path::new(folder)), expected, "{folder}");
        }
    }
}
