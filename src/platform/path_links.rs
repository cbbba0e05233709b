//! Opens folders without a gap between the check of the symbolic links on the way and their
//! use.
//!
//! A symbolic link lends its creator the rights of the process that follows it: the owner
//! of a folder on the way to a file can let the path lead to any folder of the host.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The number of symbolic links that the kernel follows in one path.
const MAX_LINKS: usize = 40;

/// How often a path is resolved again because a link came into it meanwhile.
const MAX_TRIES: usize = 4;

/// The file system whose links lead where their text does not say.
const PROC_FILE_SYSTEM: i128 = 0x9fa0;

/// A symbolic link that belongs to neither root nor the user of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignLink {
    /// Where it is.
    pub path: PathBuf,
    /// The user that it belongs to.
    pub owner: u32,
}

/// A path without symbolic links, as far as it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedPath {
    /// The path.
    pub path: PathBuf,
    /// The links of other users that led to it.
    pub foreign_links: Vec<ForeignLink>,
    /// Whether it has a link of `/proc`, which only the kernel can follow.
    has_proc_link: bool,
}

/// A folder that was opened for reading.
#[derive(Debug)]
pub struct OpenedFolder {
    /// The folder.
    pub folder: OwnedFd,
    /// The links of other users on the way to it.
    pub foreign_links: Vec<ForeignLink>,
}

/// Opens the folder at `path`, and returns the links of other users that led to it. Blocks.
///
/// # Errors
/// The system's.
pub fn open_folder(path: &Path) -> Result<OpenedFolder, Errno> {
    let mut opened = (path.to_owned(), Vec::new());
    for _ in 0..MAX_TRIES {
        let (link_free, foreign_links) = opened;
        match open_without_links(&link_free) {
            Ok(folder) => {
                return Ok(OpenedFolder {
                    folder,
                    foreign_links,
                });
            }
            Err(Errno::LOOP) => {}
            // A kernel without the call, or a filter that does not know it.
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::TOOBIG) => {
                let foreign_links = resolve(path)?.foreign_links;
                let folder = fs::open(path, FOLDER_FLAGS, Mode::empty())?;
                return Ok(OpenedFolder {
                    folder,
                    foreign_links,
                });
            }
            Err(error) => return Err(error),
        }
        let resolved = resolve(path)?;
        if resolved.has_proc_link {
            return Ok(OpenedFolder {
                folder: fs::open(path, FOLDER_FLAGS, Mode::empty())?,
                foreign_links: resolved.foreign_links,
            });
        }
        opened = (resolved.path, resolved.foreign_links);
    }
    Err(Errno::LOOP)
}

const FOLDER_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

fn open_without_links(path: &Path) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::NO_SYMLINKS;
    fs::openat2(CWD, path, FOLDER_FLAGS, Mode::empty(), resolve)
}

/// Follows the symbolic links of an absolute path, the last part's among them. Blocks.
///
/// # Errors
/// [`Errno::LOOP`] for too many links.
pub fn resolve(path: &Path) -> Result<ResolvedPath, Errno> {
    let mut resolved = ResolvedPath {
        path: PathBuf::from("/"),
        foreign_links: Vec::new(),
        has_proc_link: false,
    };
    let mut rest = Vec::new();
    push_parts(&mut rest, path);
    let mut count = 0;
    while let Some(part) = rest.pop() {
        if part == ".." {
            resolved.path.pop();
            continue;
        }
        if part == "/" {
            resolved.path = PathBuf::from("/");
            continue;
        }
        let entry = resolved.path.join(part);
        match read_link(&entry) {
            Some(Link::Text { target, owner }) => {
                count += 1;
                if count > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                if is_foreign(owner) {
                    resolved
                        .foreign_links
                        .push(ForeignLink { path: entry, owner });
                }
                push_parts(&mut rest, &target);
            }
            Some(Link::OfProc) => {
                resolved.has_proc_link = true;
                resolved.path = entry;
            }
            None => resolved.path = entry,
        }
    }
    Ok(resolved)
}

/// Whether a user is neither root nor the one of this process.
#[must_use]
pub fn is_foreign(owner: u32) -> bool {
    owner != 0 && owner != rustix::process::geteuid().as_raw()
}

/// Puts the parts of a path before those that wait, the first one last.
fn push_parts(rest: &mut Vec<OsString>, path: &Path) {
    let parts = path.components().rev();
    rest.extend(
        parts
            .filter(|part| *part != Component::CurDir)
            .map(|part| part.as_os_str().to_owned()),
    );
}

enum Link {
    Text { target: PathBuf, owner: u32 },
    OfProc,
}

/// Reads the link at `path`, if it is one. Owner and text are of one link.
fn read_link(path: &Path) -> Option<Link> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let link = fs::open(path, flags, Mode::empty()).ok()?;
    let stat = fs::fstat(&link).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        return None;
    }
    let is_of_proc =
        fs::fstatfs(&link).is_ok_and(|system| i128::from(system.f_type) == PROC_FILE_SYSTEM);
    if is_of_proc {
        return Some(Link::OfProc);
    }
    let target = fs::readlinkat(&link, "", Vec::new()).ok()?;
    Some(Link::Text {
        target: OsString::from_vec(target.into_bytes()).into(),
        owner: stat.st_uid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    #[test]
    fn links_are_followed_as_the_kernel_does() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name);
        std::fs::create_dir_all(at("a/b/c")).unwrap();
        symlink("a/b", at("relative")).unwrap();
        symlink(at("relative/c"), at("absolute")).unwrap();
        symlink("../../relative", at("a/b/up")).unwrap();
        symlink("loop", at("loop")).unwrap();
        for (name, expected) in [
            ("a/b/c", "a/b/c"),
            ("relative/c", "a/b/c"),
            ("absolute", "a/b/c"),
            ("absolute/..", "a/b"),
            ("a/b/up/c", "a/b/c"),
            ("relative/up/./c/../c", "a/b/c"),
        ] {
            assert_eq!(resolve(&at(name)).unwrap().path, at(expected), "{name}");
            let opened = fs::fstat(&open_folder(&at(name)).unwrap().folder).unwrap();
            let kernel = at(name).metadata().unwrap();
            assert_eq!(opened.st_ino, kernel.ino(), "{name}");
        }
        assert_eq!(
            resolve(&at("relative/new/x")).unwrap().path,
            at("a/b/new/x")
        );
        assert_eq!(resolve(&at("loop/x")), Err(Errno::LOOP));
        assert_eq!(open_folder(&at("loop")).unwrap_err(), Errno::LOOP);
        assert_eq!(open_folder(&at("missing")).unwrap_err(), Errno::NOENT);
        open_folder(Path::new("/proc/self/cwd")).unwrap();
    }

    /// Only root can make a link of another user.
    #[test]
    fn links_of_other_users_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (link, folder) = (root.join("link"), root.join("folder"));
        std::fs::create_dir(&folder).unwrap();
        symlink(&folder, &link).unwrap();
        assert_eq!(open_folder(&link).unwrap().foreign_links, []);
        let foreign = 4_711;
        if std::os::unix::fs::lchown(&link, Some(foreign), None).is_err() {
            return;
        }
        let expected = [ForeignLink {
            path: link.clone(),
            owner: foreign,
        }];
        assert_eq!(open_folder(&link).unwrap().foreign_links, expected);
        assert_eq!(resolve(&link.join("new")).unwrap().foreign_links, expected);
        assert_eq!(open_folder(&folder).unwrap().foreign_links, []);
    }
}
