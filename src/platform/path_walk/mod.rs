//! Opens what a path leads to, part by part, and finds who else could lead it elsewhere.
//!
//! A path is as safe as its weakest part: who owns or may write a folder on the way can put
//! another folder, file or link in the place of the next part. No call of the kernel checks
//! that, so each part is opened relative to the one before, without following links, and
//! checked by what was opened.

mod trust;
mod weakness;

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

pub use self::trust::{PathTrust, TrustedPaths, is_foreign, is_unmapped};
pub use self::weakness::{ForeignLink, GroupMember, PathPart, Weakness, WeaknessKind};

/// The number of symbolic links that the kernel follows in one path.
const MAX_LINKS: usize = 40;

/// The file system whose links lead where their text does not say.
const PROC_FILE_SYSTEM: i128 = 0x9fa0;

/// Opens a part to go on from it, without a right to read it. Of a folder that is mounted
/// when it is used, `DIRECTORY` opens what is mounted.
const PART_FLAGS: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Where a path leads to: a name in a folder that was opened.
#[derive(Debug)]
pub struct WalkedPath {
    /// The folder, opened without a right to read it.
    folder: OwnedFd,
    /// The name in it, `.` for the folder itself.
    name: OsString,
    /// The same as a path without links.
    pub path: PathBuf,
    /// The links of other users that lead there, allowed ones included.
    pub foreign_links: Vec<ForeignLink>,
    /// What leads there and could be led elsewhere by others, in the order of the path.
    pub weaknesses: Vec<Weakness>,
}

/// A folder that was opened for reading.
#[derive(Debug)]
pub struct OpenedFolder {
    /// The folder.
    pub folder: OwnedFd,
    /// The links of other users on the way to it.
    pub foreign_links: Vec<ForeignLink>,
}

impl WalkedPath {
    /// Opens the folder that is there.
    ///
    /// # Errors
    /// The system's.
    pub fn open_folder(self) -> Result<OpenedFolder, Errno> {
        Ok(OpenedFolder {
            folder: self.open(OFlags::RDONLY | OFlags::DIRECTORY)?,
            foreign_links: self.foreign_links,
        })
    }

    /// Opens what is there, unless a link was put there meanwhile.
    ///
    /// # Errors
    /// The system's; [`Errno::LOOP`] for a link.
    pub fn open(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&self.folder, &self.name, flags, Mode::empty())
    }

    /// Returns the attributes of an entry of the folder that the path leads to.
    ///
    /// # Errors
    /// The system's.
    pub fn stat_entry(&self, name: &OsStr) -> Result<Stat, Errno> {
        fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Returns the attributes of what is there.
    ///
    /// # Errors
    /// The system's.
    pub fn stat(&self) -> Result<Stat, Errno> {
        fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Returns the attributes of the folder that the path leads to.
    ///
    /// # Errors
    /// The system's.
    pub fn stat_folder(&self) -> Result<Stat, Errno> {
        fs::fstat(&self.folder)
    }

    /// Returns the name in the folder.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Creates a file in the folder, for writing and for its owner alone, where nothing is.
    ///
    /// # Errors
    /// The system's; [`Errno::EXIST`] for whatever is there, a link included.
    pub fn create_entry(&self, name: &OsStr) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR)
    }

    /// Creates a folder in the folder, for its owner alone, and opens it.
    ///
    /// # Errors
    /// The system's; [`Errno::EXIST`] for whatever is there, a link included.
    pub fn create_folder(&self) -> Result<OwnedFd, Errno> {
        fs::mkdirat(&self.folder, &self.name, Mode::RWXU)?;
        self.open(OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Removes an entry of the folder, which is no folder itself.
    ///
    /// # Errors
    /// The system's.
    pub fn remove_entry(&self, name: &OsStr) -> Result<(), Errno> {
        fs::unlinkat(&self.folder, name, AtFlags::empty())
    }

    /// Gives an entry of the folder the name that the path leads to, where nothing is.
    ///
    /// # Errors
    /// The system's; [`Errno::EXIST`] for whatever is there.
    pub fn rename_entry_here(&self, name: &OsStr) -> Result<(), Errno> {
        let (folder, own) = (&self.folder, &self.name);
        match fs::renameat_with(folder, name, folder, own, RenameFlags::NOREPLACE) {
            // The file system has no such operation.
            Err(Errno::INVAL | Errno::NOSYS) => match self.stat() {
                Ok(_) => Err(Errno::EXIST),
                Err(_) => fs::renameat(folder, name, folder, own),
            },
            renamed => renamed,
        }
    }

    /// Writes the folder to disk.
    ///
    /// # Errors
    /// The system's.
    pub fn sync_folder(&self) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        fs::fsync(fs::openat(&self.folder, ".", flags, Mode::empty())?)
    }
}

/// Follows an absolute path to a folder, whose own owner and mode count, too.
///
/// # Errors
/// The system's; [`Errno::NOTDIR`] for anything but a folder.
pub fn walk_to_folder(path: &Path, trust: &PathTrust<'_>) -> Result<WalkedPath, Errno> {
    let walked = Walk::new(trust)?.follow(path)?;
    if walked.name == "." {
        return Ok(walked);
    }
    match walked.stat() {
        Ok(_) => Err(Errno::NOTDIR),
        Err(error) => Err(error),
    }
}

/// Follows an absolute path to a file, which need not exist: all folders on the way count,
/// and what is there is left to the caller.
///
/// # Errors
/// The system's; [`Errno::ISDIR`] for a folder.
pub fn walk_to_file(path: &Path, trust: &PathTrust<'_>) -> Result<WalkedPath, Errno> {
    let walked = Walk::new(trust)?.follow(path)?;
    if walked.name == "." {
        return Err(Errno::ISDIR);
    }
    Ok(walked)
}

/// Returns how others could exchange a file that this process reads or runs, by its path or
/// by its own mode. Blocks.
///
/// # Errors
/// The system's.
pub fn find_weaknesses(path: &Path, trust: &PathTrust<'_>) -> Result<Vec<Weakness>, Errno> {
    let walked = walk_to_file(path, trust)?;
    let file = walked.open(OFlags::PATH)?;
    let own = trust.inspect_opened(&fs::fstat(&file)?, &file).into_iter();
    let own = own.map(|kind| Weakness {
        path: walked.path.clone(),
        part: PathPart::File,
        kind,
    });
    let own = own.filter(|weakness| !trust.is_allowed(&weakness.path));
    Ok(walked.weaknesses.into_iter().chain(own).collect())
}

/// Returns how another user could exchange a file that this process trusts, for people.
/// `None` also for a file that is missing or cannot be reached, which its use reports. Blocks.
#[must_use]
pub fn describe_exchange(path: &Path, trusted_paths: &TrustedPaths) -> Option<String> {
    let found = find_weaknesses(path, &trusted_paths.and_users(&[])).ok()?;
    let weakness = found.first()?;
    let path = path.display();
    let hint = weakness.hint();
    Some(format!(
        "{weakness}, so another user could exchange {path}; hint: {hint}"
    ))
}

/// Whether links of other users lead to an absolute path, as far as it exists. Blocks.
#[must_use]
pub fn has_foreign_link(path: &Path) -> bool {
    first_foreign_link(path).is_some()
}

/// Returns the first link of another user that leads to an absolute path, as far as it exists.
/// Blocks.
#[must_use]
pub fn first_foreign_link(path: &Path) -> Option<ForeignLink> {
    let trust = PathTrust::default();
    let mut walk = Walk::new(&trust).ok()?;
    walk.push(path);
    // What is missing is no link.
    while let Some(part) = walk.rest.pop() {
        if !walk.go(&part).is_ok_and(|goes_on| goes_on) {
            break;
        }
    }
    walk.foreign_links.into_iter().next()
}

/// A folder on the way.
struct Step {
    folder: OwnedFd,
    path: PathBuf,
    /// What its sticky bit excuses, unless it is the last one.
    excused: Vec<Weakness>,
}

struct Walk<'t> {
    trust: &'t PathTrust<'t>,
    /// The folder that the walk has come to.
    here: Step,
    /// The folders above it, the root first.
    above: Vec<Step>,
    /// The parts that are left, the next one last.
    rest: Vec<OsString>,
    links: usize,
    foreign_links: Vec<ForeignLink>,
    weaknesses: Vec<Weakness>,
}

impl<'t> Walk<'t> {
    fn new(trust: &'t PathTrust<'t>) -> Result<Self, Errno> {
        let root = fs::open("/", PART_FLAGS | OFlags::DIRECTORY, Mode::empty())?;
        let mut walk = Self {
            trust,
            here: Step {
                folder: root,
                path: PathBuf::from("/"),
                excused: Vec::new(),
            },
            above: Vec::new(),
            rest: Vec::new(),
            links: 0,
            foreign_links: Vec::new(),
            weaknesses: Vec::new(),
        };
        walk.inspect_here()?;
        Ok(walk)
    }

    fn follow(mut self, path: &Path) -> Result<WalkedPath, Errno> {
        self.push(path);
        while let Some(part) = self.rest.pop() {
            if !self.go(&part)? {
                return Ok(self.end(part));
            }
        }
        Ok(self.end(OsString::from(".")))
    }

    /// Goes on to the next part. Returns whether it is a folder or a link; otherwise it is
    /// where the path ends.
    fn go(&mut self, part: &OsString) -> Result<bool, Errno> {
        if part == "/" {
            if let Some(root) = self.above.drain(..).next() {
                self.here = root;
            }
            return Ok(true);
        }
        if part == ".." {
            if let Some(above) = self.above.pop() {
                self.here = above;
            }
            return Ok(true);
        }
        self.open_part(part)
    }

    fn open_part(&mut self, part: &OsString) -> Result<bool, Errno> {
        let path = self.here.path.join(part);
        match fs::openat(
            self.fd(),
            part,
            PART_FLAGS | OFlags::DIRECTORY,
            Mode::empty(),
        ) {
            Ok(folder) => {
                self.enter(folder, path)?;
                return Ok(true);
            }
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(Errno::NOENT) if self.rest.is_empty() => return Ok(false),
            Err(error) => return Err(error),
        }
        let found = fs::openat(self.fd(), part, PART_FLAGS, Mode::empty())?;
        let stat = fs::fstat(&found)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            self.follow_link(part, &found, &stat, path)?;
            return Ok(true);
        }
        if self.rest.is_empty() {
            Ok(false)
        } else {
            Err(Errno::NOTDIR)
        }
    }

    fn follow_link(
        &mut self,
        part: &OsString,
        link: &OwnedFd,
        stat: &Stat,
        path: PathBuf,
    ) -> Result<(), Errno> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        let system = fs::fstatfs(link)?;
        if i128::from(system.f_type) == PROC_FILE_SYSTEM {
            // Only the kernel can follow it, and only this user's processes have made it.
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let folder = fs::openat(self.fd(), part, flags, Mode::empty())?;
            return self.enter(folder, path);
        }
        if let Some(kind) = self.trust.inspect_link(stat.st_uid) {
            self.foreign_links.push(ForeignLink {
                path: path.clone(),
                owner: stat.st_uid,
            });
            self.note(Weakness {
                path,
                part: PathPart::Way,
                kind,
            });
        }
        let target = fs::readlinkat(link, "", Vec::new())?;
        self.push(&PathBuf::from(OsString::from_vec(target.into_bytes())));
        Ok(())
    }

    fn enter(&mut self, folder: OwnedFd, path: PathBuf) -> Result<(), Errno> {
        let entered = Step {
            folder,
            path,
            excused: Vec::new(),
        };
        self.above.push(std::mem::replace(&mut self.here, entered));
        self.inspect_here()
    }

    fn inspect_here(&mut self) -> Result<(), Errno> {
        let stat = fs::fstat(&self.here.folder)?;
        let is_sticky = Mode::from_raw_mode(stat.st_mode).contains(Mode::SVTX);
        for kind in self.trust.inspect_opened(&stat, &self.here.folder) {
            let weakness = Weakness {
                path: self.here.path.clone(),
                part: PathPart::Way,
                kind,
            };
            if is_sticky && weakness.kind.is_about_writers() {
                self.here.excused.push(weakness);
            } else {
                self.note(weakness);
            }
        }
        Ok(())
    }

    fn note(&mut self, weakness: Weakness) {
        let is_known = self.weaknesses.contains(&weakness);
        if !is_known && !self.trust.is_allowed(&weakness.path) {
            self.weaknesses.push(weakness);
        }
    }

    fn end(mut self, name: OsString) -> WalkedPath {
        for weakness in std::mem::take(&mut self.here.excused) {
            self.note(weakness);
        }
        let last_folder = &self.here.path;
        let of_folder = self.weaknesses.iter_mut();
        for weakness in of_folder.filter(|weakness| weakness.path == *last_folder) {
            weakness.part = PathPart::Folder;
        }
        let path = if name == "." {
            self.here.path
        } else {
            self.here.path.join(&name)
        };
        WalkedPath {
            folder: self.here.folder,
            name,
            path,
            foreign_links: self.foreign_links,
            weaknesses: self.weaknesses,
        }
    }

    /// Puts the parts of a path before those that are left.
    fn push(&mut self, path: &Path) {
        let parts = path.components().rev();
        let parts = parts.filter(|part| *part != Component::CurDir);
        self.rest
            .extend(parts.map(|part| part.as_os_str().to_owned()));
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.here.folder.as_fd()
    }
}
