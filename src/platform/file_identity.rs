//! The identity of a file: whether two paths name one file.
//!
//! A path is one name of many: a folder may be reached through a symbolic link,
//! `..` or a bind mount, and a file may have hard links, a bind mount of its own
//! or a folder that ignores case. The kernel compares folders and files by
//! device and inode, and so does this module.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use icu_normalizer::DecomposingNormalizerBorrowed;
use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags};

use crate::core::path::normalize;

/// The number of symbolic links that the kernel follows in one path.
const MAX_LINKS: usize = 40;

/// The flag of a folder that compares names without regard to case
/// (`FS_CASEFOLD_FL` of the kernel).
const CASEFOLD_FLAG: u32 = 0x4000_0000;

/// The file systems that compare names without regard to case: FAT, exFAT, SMB, NTFS by
/// its two drivers, HFS+, and the shared folders of VirtualBox.
const CASE_IGNORING_FILE_SYSTEMS: [u32; 8] = [
    0x4d44,
    0x2011_bab0,
    0xff53_4d42,
    0xfe53_4d42,
    0x5346_544e,
    0x7366_746e,
    0x482b,
    0x786f_4256,
];

/// A file or folder as the kernel compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Inode {
    device: u64,
    number: u64,
}

/// A folder and its owner at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderNote {
    /// The folder.
    pub inode: Inode,
    /// The user that it belongs to.
    pub owner: u32,
}

impl FolderNote {
    /// Returns the note of a folder.
    #[must_use]
    pub fn new(stat: &fs::Stat) -> Self {
        Self {
            inode: Inode::new(stat),
            owner: stat.st_uid,
        }
    }
}

/// The identities found at many paths.
pub struct FoundIdentities {
    /// The identities of each path, in the order of the paths.
    pub identities: Vec<Vec<FileIdentity>>,
    /// The folders of the paths that exist.
    pub folders: HashMap<PathBuf, FolderNote>,
}

/// A fact that two paths share only if they name one file, now or once the file
/// is created.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FileIdentity {
    /// An entry of a folder.
    Entry {
        /// The folder: the nearest one that exists.
        folder: Inode,
        /// The rest of the path in it, in lower case where the folder ignores
        /// case.
        name: OsString,
    },
    /// The file itself.
    File(Inode),
    /// A path that cannot be looked up, without `.` and `..`.
    Path(OsString),
}

/// A path whose identity is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookedUpPath {
    /// The path.
    pub path: PathBuf,
    /// What is appended to the name of the file that the path leads to, after
    /// symbolic links: SQLite names the files of a database like that.
    pub suffix: &'static str,
    /// Whether only its name in its folder counts, for a file that is removed
    /// and created again each time.
    pub is_name_only: bool,
}

impl LookedUpPath {
    /// Returns a path without a suffix.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self {
            path,
            suffix: "",
            is_name_only: false,
        }
    }
}

/// Whether two absolute paths name one file. Blocks on the disk, unless they are equal.
///
/// Only what the disk shows counts: `..` behind a symbolic link leads elsewhere than it
/// seems, and a relative path is that of another process.
#[must_use]
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    if !one.is_absolute() || !other.is_absolute() {
        return false;
    }
    if one == other {
        return true;
    }
    let mut lookup = IdentityLookup::default();
    let own = lookup.identities(&LookedUpPath::new(one.to_owned()));
    let others = lookup.identities(&LookedUpPath::new(other.to_owned()));
    let is_text = |identity: &FileIdentity| matches!(identity, FileIdentity::Path(_));
    own.iter()
        .any(|identity| !is_text(identity) && others.contains(identity))
}

/// Returns the identities of each of `paths`. A file system may hang: after `limit` all
/// are identified by the path alone.
#[must_use]
pub fn find_identities(paths: Vec<LookedUpPath>, limit: Duration) -> FoundIdentities {
    let by_path = paths.iter().map(|path| vec![path_identity(path)]);
    let mut found = FoundIdentities {
        identities: by_path.collect(),
        folders: HashMap::new(),
    };
    let (sender, receiver) = mpsc::channel();
    let look_up = move || {
        let mut lookup = IdentityLookup::default();
        let identities = paths.iter().map(|path| lookup.identities(path));
        let identities = identities.collect();
        let folders = lookup.folders.into_iter();
        let notes = folders.filter_map(|(path, folder)| Some((path, folder?.note)));
        let folders = notes.collect();
        // An error means that nobody waits any more.
        let _ = sender.send(FoundIdentities {
            identities,
            folders,
        });
    };
    let thread = std::thread::Builder::new().name("file-identities".to_owned());
    if thread.spawn(look_up).is_ok()
        && let Ok(looked_up) = receiver.recv_timeout(limit)
    {
        found = looked_up;
    }
    found
}

fn path_identity(looked_up: &LookedUpPath) -> FileIdentity {
    let mut path = normalize(&looked_up.path).into_os_string();
    path.push(looked_up.suffix);
    FileIdentity::Path(path)
}

/// Looks identities up, and each folder once: thousands of sinks share few.
#[derive(Default)]
pub(crate) struct IdentityLookup {
    folders: HashMap<PathBuf, Option<Folder>>,
}

#[derive(Clone, Copy)]
struct Folder {
    note: FolderNote,
    ignores_case: bool,
}

impl IdentityLookup {
    /// Returns what identifies the file at a path: its name in its folder, that
    /// of each symbolic link that the path leads through, and the file itself.
    pub(crate) fn identities(&mut self, looked_up: &LookedUpPath) -> Vec<FileIdentity> {
        let mut identities = vec![path_identity(looked_up)];
        if looked_up.is_name_only {
            identities.extend(self.entry(&looked_up.path));
            return identities;
        }
        let mut path = looked_up.path.clone();
        let mut found = None;
        for _ in 0..MAX_LINKS {
            let mut file = path.clone().into_os_string();
            file.push(looked_up.suffix);
            identities.extend(self.entry(Path::new(&file)));
            let Ok(stat) = fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW) else {
                break;
            };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                found = Some(Inode::new(&stat));
                break;
            }
            let Ok(target) = std::fs::read_link(&path) else {
                break;
            };
            path = path.parent().unwrap_or(Path::new("/")).join(target);
        }
        if !looked_up.suffix.is_empty() {
            let mut file = path.into_os_string();
            file.push(looked_up.suffix);
            found = fs::stat(Path::new(&file))
                .ok()
                .map(|stat| Inode::new(&stat));
        }
        identities.extend(found.map(FileIdentity::File));
        identities
    }

    /// Returns the entry that a path names in the nearest folder that exists.
    fn entry(&mut self, path: &Path) -> Option<FileIdentity> {
        let name = path.file_name()?;
        let parent = path.parent()?;
        let (folder, name) = match self.folder(parent) {
            Some(folder) => (folder, name.to_owned()),
            None => {
                let (folder, mut rest) = self.nearest_folder(parent)?;
                rest.push(name);
                (folder, rest.into_os_string())
            }
        };
        let name = if folder.ignores_case {
            folded_name(&name)
        } else {
            name
        };
        Some(FileIdentity::Entry {
            folder: folder.note.inode,
            name,
        })
    }

    /// Returns the last folder of a path that exists, and the rest of the path in it.
    fn nearest_folder(&mut self, path: &Path) -> Option<(Folder, PathBuf)> {
        let mut existing = PathBuf::from("/");
        let mut folder = self.folder(&existing)?;
        let mut rest = PathBuf::new();
        for part in path.components() {
            match part {
                // A folder that does not exist is no symbolic link.
                Component::ParentDir if rest.pop() => {}
                Component::ParentDir | Component::Normal(_) if rest.as_os_str().is_empty() => {
                    existing.push(part);
                    match self.folder(&existing) {
                        Some(found) => folder = found,
                        None => {
                            existing.pop();
                            rest.push(part);
                        }
                    }
                }
                Component::Normal(_) => rest.push(part),
                Component::ParentDir
                | Component::CurDir
                | Component::RootDir
                | Component::Prefix(_) => {}
            }
        }
        Some((folder, rest))
    }

    fn folder(&mut self, path: &Path) -> Option<Folder> {
        match self.folders.entry(path.to_owned()) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => *entry.insert(look_up_folder(path)),
        }
    }
}

fn look_up_folder(path: &Path) -> Option<Folder> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = fs::open(path, flags, Mode::empty()).ok()?;
    Some(Folder {
        note: FolderNote::new(&fs::fstat(&opened).ok()?),
        ignores_case: is_on_case_ignoring_system(&opened) || has_casefold_flag(path),
    })
}

fn is_on_case_ignoring_system(folder: impl AsFd) -> bool {
    fs::fstatfs(folder).is_ok_and(|system| {
        // The type has another width on each platform.
        let system = u32::try_from(system.f_type & 0xffff_ffff).unwrap_or_default();
        CASE_IGNORING_FILE_SYSTEMS.contains(&system)
    })
}

/// Returns a name as the open folder that it is in compares it.
pub(crate) fn compared_name(folder: impl AsFd, name: &OsStr) -> OsString {
    let flags = fs::ioctl_getflags(&folder);
    let has_flag = flags.is_ok_and(|flags| flags.bits() & CASEFOLD_FLAG != 0);
    if has_flag || is_on_case_ignoring_system(&folder) {
        folded_name(name)
    } else {
        name.to_owned()
    }
}

/// Whether a folder has the attribute `+F` of chattr(1).
fn has_casefold_flag(path: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let attributes = fs::open(path, flags, Mode::empty())
        .and_then(|folder| fs::ioctl_getflags(&folder))
        .map(|attributes| attributes.bits());
    attributes.is_ok_and(|attributes| attributes & CASEFOLD_FLAG != 0)
}

impl Inode {
    /// Returns the inode of a file or folder.
    #[must_use]
    pub const fn new(stat: &fs::Stat) -> Self {
        Self {
            device: stat.st_dev,
            number: stat.st_ino,
        }
    }
}

/// Returns one text for all names that a folder without regard to case may take for one.
///
/// ext4 and f2fs decompose letters (NFD), leave out what is not shown, and fold the case
/// (`utf8nfdicf` of the kernel). Two names that only some of these systems take for one
/// also count as one here.
pub(crate) fn folded_name(name: &OsStr) -> OsString {
    let Some(text) = name.to_str() else {
        return name.to_ascii_lowercase();
    };
    let decompose = |text: &str| {
        let normalizer = DecomposingNormalizerBorrowed::new_nfd();
        normalizer.normalize(text).into_owned()
    };
    let shown: String = text.chars().filter(|c| !is_ignorable(*c)).collect();
    // Some letters share a capital (ſ and s, ς and σ), or a small letter (ẞ and ß).
    let folded = decompose(&shown)
        .to_lowercase()
        .to_uppercase()
        .to_lowercase();
    decompose(&folded).into()
}

/// Whether Unicode calls a character `Default_Ignorable_Code_Point`
/// (`DerivedCoreProperties.txt`, Unicode 16).
const fn is_ignorable(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A folder with a file under many names.
    fn set_up() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("out")).unwrap();
        std::fs::create_dir(at("other")).unwrap();
        symlink("out", at("link")).unwrap();
        symlink(at("link"), at("second-link")).unwrap();
        std::fs::write(at("out/key"), "x").unwrap();
        std::fs::hard_link(at("out/key"), at("other/hard")).unwrap();
        symlink("../out/key", at("other/soft")).unwrap();
        symlink("../out/absent", at("other/dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        std::fs::create_dir(at("out/sub")).unwrap();
        symlink("out/sub", at("deep")).unwrap();
        std::fs::write(at("key"), "x").unwrap();
        dir
    }

    #[test]
    fn names_of_one_file_are_compared_by_the_disk() {
        let dir = set_up();
        let is_same = |one: &str, other: &str| {
            let (one, other) = (dir.path().join(one), dir.path().join(other));
            let is_same = is_same_file(&one, &other);
            assert_eq!(is_same, is_same_file(&other, &one));
            is_same
        };
        for (one, other) in [
            ("out/key", "out/key"),
            ("out/key", "out/../out/./key"),
            ("out/key", "link/key"),
            ("out/key", "second-link/key"),
            ("out/key", "second-link/../out/key"),
            ("out/key", "other/hard"),
            ("out/key", "other/soft"),
            ("other/hard", "other/soft"),
            // Files that do not exist yet.
            ("out/absent", "link/absent"),
            ("out/absent", "other/dangling"),
            ("out/a/b/absent", "link/a/c/../b/absent"),
            // A symbolic link's `..` is that of its target.
            ("out/key", "deep/../key"),
            ("out/absent", "deep/../absent"),
            ("out/a/absent", "deep/../a/absent"),
            ("out/a/absent", "deep/x/../../a/absent"),
            ("out/absent", "out/nowhere/../absent"),
        ] {
            assert!(is_same(one, other), "{one} and {other}");
        }
        for (one, other) in [
            ("out/key", "other/key"),
            ("out/key", "out/key2"),
            ("out/absent", "other/absent"),
            ("out/a/absent", "out/absent"),
            ("out/absent", "loop"),
            ("loop/key", "out/key"),
            ("key", "deep/../key"),
            ("absent", "deep/../absent"),
            ("a/absent", "deep/../a/absent"),
            ("a/absent", "deep/x/../../a/absent"),
            ("out/absent", "absent"),
            ("out/absent", "out/absent2"),
            ("out/absent", "out/absent/absent"),
        ] {
            assert!(!is_same(one, other), "{one} and {other}");
        }
        let (relative, file) = (Path::new("out/key"), dir.path().join("out/key"));
        assert!(!is_same_file(relative, &file));
        assert!(!is_same_file(relative, relative), "of two processes");
    }

    #[test]
    fn suffix_belongs_to_the_end_of_the_links() {
        let dir = set_up();
        let wal = |name: &str| LookedUpPath {
            path: dir.path().join(name),
            suffix: "-wal",
            is_name_only: false,
        };
        let plain = |name: &str| LookedUpPath::new(dir.path().join(name));
        let mut lookup = IdentityLookup::default();
        let mut shares = |one: &LookedUpPath, other: &LookedUpPath| {
            let others = lookup.identities(other);
            let own = lookup.identities(one);
            own.iter().any(|identity| others.contains(identity))
        };
        assert!(shares(&wal("other/soft"), &plain("link/key-wal")));
        assert!(shares(&wal("other/soft"), &plain("other/soft-wal")));
        assert!(!shares(&wal("other/soft"), &plain("out/key")));
    }

    #[test]
    fn folder_that_ignores_case_ignores_it_for_files_that_do_not_exist() {
        let dir = tempfile::tempdir().unwrap();
        if has_casefold_flag(dir.path()) {
            return;
        }
        let (one, other) = (dir.path().join("KEY"), dir.path().join("key"));
        assert!(!is_same_file(&one, &other), "this folder does not");
    }

    #[test]
    fn names_that_a_folder_without_regard_to_case_takes_for_one_are_equal() {
        for names in [
            &["key.txt", "KEY.TXT", "Key.tXt"][..],
            &["\u{c4}", "\u{e4}", "a\u{308}", "A\u{308}"],
            &["\u{17f}\u{212a}", "sk", "SK"],
            &["\u{3c2}", "\u{3c3}", "\u{3a3}"],
            &["\u{df}", "ss", "\u{1e9e}"],
            &["\u{212b}", "\u{e5}", "a\u{30a}"],
            // Marks of one letter in another order.
            &["a\u{323}\u{302}", "a\u{302}\u{323}", "\u{1ead}"],
            &["\u{390}", "\u{1fd3}", "\u{3b9}\u{308}\u{301}"],
            &[
                "ke\u{ad}y",
                "k\u{200b}ey",
                "key\u{fe0f}",
                "\u{feff}key",
                "key",
            ],
        ] {
            let folded = names.iter().map(|name| folded_name(OsStr::new(name)));
            let distinct: std::collections::HashSet<_> = folded.collect();
            assert_eq!(distinct.len(), 1, "{names:?}");
        }
        for (one, other) in [
            ("key", "key2"),
            ("a", "\u{e4}"),
            ("i", "j"),
            ("key", "k ey"),
        ] {
            let is_same = folded_name(OsStr::new(one)) == folded_name(OsStr::new(other));
            assert!(!is_same, "{one} {other}");
        }
    }

    #[test]
    fn identities_keep_the_order_of_the_paths() {
        let dir = set_up();
        let paths = ["out/key", "nowhere/key", "link/key"];
        let paths = paths.map(|name| LookedUpPath::new(dir.path().join(name)));
        let found = find_identities(paths.to_vec(), Duration::from_secs(60)).identities;
        assert_eq!(found.len(), 3);
        for (path, identities) in paths.iter().zip(&found) {
            assert_eq!(identities[0], path_identity(path));
        }
        assert!(found[0].iter().any(|identity| found[2].contains(identity)));
        assert!(!found[0].iter().any(|identity| found[1].contains(identity)));
    }
}
