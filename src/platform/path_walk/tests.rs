//! Paths whose parts others could exchange, and paths that are right.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

use super::*;
use crate::platform::access_list::{
    self, ACCESS_LIST, AccessEntry, MASK, NAMED_GROUP, NAMED_USER, OTHERS, OWNER, OWNING_GROUP,
};
use crate::test_host::{has_program, has_root, report_unsupported};

/// A user and a group that this host has no name for.
const STRANGER: u32 = 4_711_000;

/// Makes one part of a path a weak one.
type Change<'a> = &'a dyn Fn(&Path);

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    fn folder(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.at(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Returns the weaknesses of the way to a folder, with paths relative to this place.
    fn weaknesses(&self, name: &str, trust: &PathTrust<'_>) -> Vec<(String, WeaknessKind)> {
        let walked = walk_to_folder(&self.at(name), trust).unwrap();
        self.named(walked.weaknesses)
    }

    fn named(&self, weaknesses: Vec<Weakness>) -> Vec<(String, WeaknessKind)> {
        let root = self.at("");
        let named = weaknesses.into_iter().map(|weakness| {
            let path = weakness.path.strip_prefix(&root).unwrap();
            (path.display().to_string(), weakness.kind)
        });
        named.collect()
    }
}

/// Returns a group of this host with one member besides root.
fn group_of_another() -> Option<(u32, u32)> {
    let groups = ["daemon", "bin", "mail", "nogroup", "nobody"];
    let found = groups.into_iter().find_map(|name| {
        let group = crate::platform::users::find_group(name).ok()?.as_raw();
        let members = crate::platform::users::group_members(group)?;
        match members[..] {
            [member] if member != 0 => Some((group, member)),
            _ => None,
        }
    });
    if found.is_none() {
        report_unsupported("no group in /etc/group has one member");
    }
    found
}

#[test]
fn folders_that_others_can_write_are_weak_at_any_depth() {
    let place = Place::new();
    place.folder("open", 0o777);
    place.folder("open/inner", 0o755);
    place.folder("sticky", 0o1777);
    place.folder("sticky/inner", 0o755);
    place.folder("closed", 0o755);
    let trust = PathTrust::default();
    let others = |name: &str| vec![(name.to_owned(), WeaknessKind::Others)];
    let shared = |name: &str| vec![(name.to_owned(), WeaknessKind::Shared)];
    for (name, expected) in [
        ("open", others("open")),
        ("open/inner", others("open")),
        ("sticky", shared("sticky")),
        ("sticky/inner", vec![]),
        ("sticky/inner/..", shared("sticky")),
        ("closed", vec![]),
        // Whoever writes there leads the next part elsewhere.
        ("open/inner/../../closed", others("open")),
        ("./closed/.", vec![]),
    ] {
        assert_eq!(place.weaknesses(name, &trust), expected, "{name}");
    }
    let allowed = [place.at("open")];
    let trust = PathTrust {
        allowed: &allowed,
        ..trust
    };
    assert_eq!(place.weaknesses("open/inner", &trust), []);
    assert_eq!(place.weaknesses("sticky", &trust), shared("sticky"));
}

#[test]
fn a_file_depends_on_its_folders_and_need_not_exist() {
    let place = Place::new();
    place.folder("open", 0o777);
    place.folder("sticky", 0o1777);
    place.folder("closed", 0o755);
    std::fs::write(place.at("closed/file"), "x").unwrap();
    symlink("closed/file", place.at("link")).unwrap();
    let trust = PathTrust::default();
    for (name, expected, path) in [
        ("open/file", vec!["open"], "open/file"),
        ("sticky/file", vec!["sticky"], "sticky/file"),
        ("closed/file", vec![], "closed/file"),
        ("closed/absent", vec![], "closed/absent"),
        ("link", vec![], "closed/file"),
        ("open/../link", vec!["open"], "closed/file"),
    ] {
        let walked = walk_to_file(&place.at(name), &trust).unwrap();
        assert_eq!(walked.path, place.at(path), "{name}");
        let weak = place.named(walked.weaknesses);
        let weak: Vec<_> = weak.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(weak, expected, "{name}");
    }
    let walked = walk_to_file(&place.at("closed/file"), &trust).unwrap();
    // What is put there afterwards is not followed.
    std::fs::remove_file(place.at("closed/file")).unwrap();
    symlink("/etc/passwd", place.at("closed/file")).unwrap();
    assert_eq!(walked.open(OFlags::RDONLY).unwrap_err(), Errno::LOOP);
    let error = |name: &str| walk_to_file(&place.at(name), &trust).unwrap_err();
    assert_eq!(error("closed"), Errno::ISDIR);
    assert_eq!(error("absent/file"), Errno::NOENT);
    assert_eq!(error("link/file"), Errno::NOTDIR);
    symlink("loop", place.at("loop")).unwrap();
    assert_eq!(error("loop/file"), Errno::LOOP);
    let error = |name: &str| walk_to_folder(&place.at(name), &trust).unwrap_err();
    assert_eq!(error("link"), Errno::NOTDIR);
    assert_eq!(error("absent"), Errno::NOENT);
}

#[test]
fn links_lead_where_the_kernel_follows_them() {
    let place = Place::new();
    place.folder("a/b/c", 0o755);
    symlink("a/b", place.at("relative")).unwrap();
    symlink(place.at("relative/c"), place.at("absolute")).unwrap();
    symlink("../../absolute/..", place.at("a/b/up")).unwrap();
    symlink("/", place.at("root")).unwrap();
    let trust = PathTrust::default();
    for name in [
        "relative",
        "absolute",
        "absolute/..",
        "a/b/up",
        "relative/up/c",
        "root",
        "root/../..",
        "a/../relative/./c",
    ] {
        let walked = walk_to_folder(&place.at(name), &trust).unwrap();
        assert_eq!(
            walked.path,
            place.at(name).canonicalize().unwrap(),
            "{name}"
        );
        let opened = walked.open(OFlags::RDONLY | OFlags::DIRECTORY).unwrap();
        let (found, expected) = (
            fs::fstat(&opened).unwrap(),
            fs::stat(place.at(name)).unwrap(),
        );
        assert_eq!(
            (found.st_dev, found.st_ino),
            (expected.st_dev, expected.st_ino),
            "{name}"
        );
    }
    // A link of the kernel leads where its text does not say.
    let opened = std::fs::File::open(place.at("a")).unwrap();
    let path = format!(
        "/proc/self/fd/{}/b",
        std::os::fd::AsRawFd::as_raw_fd(&opened)
    );
    let walked = walk_to_folder(Path::new(&path), &trust).unwrap();
    let (found, expected) = (walked.stat().unwrap(), fs::stat(place.at("a/b")).unwrap());
    assert_eq!(found.st_ino, expected.st_ino);
}

#[test]
fn folders_and_links_of_others_are_weak() {
    if !has_root() {
        return;
    }
    let place = Place::new();
    for name in ["theirs/inner", "ours", "sticky"] {
        place.folder(name, 0o755);
    }
    place.folder("sticky", 0o1777);
    place.folder("sticky/theirs/inner", 0o755);
    for name in ["theirs", "sticky/theirs"] {
        chown(place.at(name), Some(STRANGER), None).unwrap();
    }
    for name in ["link", "sticky/link"] {
        symlink(place.at("ours"), place.at(name)).unwrap();
        std::os::unix::fs::lchown(place.at(name), Some(STRANGER), None).unwrap();
    }
    let users = [STRANGER];
    let receiver = PathTrust {
        users: &users,
        ..PathTrust::default()
    };
    let owner = |name: &str| vec![(name.to_owned(), WeaknessKind::Owner(STRANGER))];
    let link = |name: &str| vec![(name.to_owned(), WeaknessKind::Link(STRANGER))];
    for (name, expected, for_receiver) in [
        ("theirs", owner("theirs"), vec![]),
        ("theirs/inner", owner("theirs"), vec![]),
        ("sticky/theirs/inner", owner("sticky/theirs"), vec![]),
        // Only root and this process's user give directions.
        ("link", link("link"), link("link")),
        ("sticky/link", link("sticky/link"), link("sticky/link")),
        ("ours", vec![], vec![]),
    ] {
        let found = place.weaknesses(name, &PathTrust::default());
        assert_eq!(found, expected, "{name}");
        assert_eq!(place.weaknesses(name, &receiver), for_receiver, "{name}");
    }
}

#[test]
fn a_group_is_as_safe_as_its_members() {
    if !has_root() {
        return;
    }
    let place = Place::new();
    let folder = place.folder("folder", 0o775);
    let found = || place.weaknesses("folder", &PathTrust::default());
    // Root's own group has no member but root, and this one none at all.
    for group in [0, STRANGER] {
        chown(&folder, Some(0), Some(group)).unwrap();
        assert_eq!(found(), []);
    }
    let Some((group, member)) = group_of_another() else {
        return;
    };
    chown(&folder, Some(0), Some(group)).unwrap();
    let kind = WeaknessKind::Group(group, GroupMember::User(member));
    assert_eq!(found(), [("folder".to_owned(), kind)]);
    let users = [member];
    let trust = PathTrust {
        users: &users,
        ..PathTrust::default()
    };
    assert_eq!(place.weaknesses("folder", &trust), []);
    std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(found(), []);
}

/// Gives a folder a list with this entry and this mask. Returns whether its file system has
/// lists.
fn set_access_list(folder: &Path, entry: (u16, u16, u32), mask: u16) -> bool {
    let none = u32::MAX;
    let mut entries = [
        (OWNER, 7, none),
        entry,
        (OWNING_GROUP, 5, none),
        (MASK, mask, none),
        (OTHERS, 5, none),
    ];
    // As the kernel wants them.
    entries.sort_by_key(|(tag, ..)| *tag);
    let entries = entries.map(|(tag, rights, id)| AccessEntry { tag, rights, id });
    let list = access_list::write(&entries);
    let set = fs::setxattr(folder, ACCESS_LIST, &list, fs::XattrFlags::empty());
    if set == Err(Errno::NOTSUP) {
        return false;
    }
    set.unwrap();
    true
}

#[test]
fn entries_of_an_access_list_count_as_far_as_its_mask_lets_them() {
    if !has_root() {
        return;
    }
    let place = Place::new();
    let folder = place.folder("folder", 0o755);
    let user = WeaknessKind::ListedUser(STRANGER);
    let Some((other_group, member)) = group_of_another() else {
        return;
    };
    let group = WeaknessKind::Group(other_group, GroupMember::User(member));
    for (entry, mask, expected) in [
        ((NAMED_USER, 7, STRANGER), 7, vec![user]),
        ((NAMED_USER, 7, STRANGER), 5, vec![]),
        ((NAMED_USER, 5, STRANGER), 7, vec![]),
        ((NAMED_GROUP, 6, other_group), 7, vec![group]),
        ((NAMED_GROUP, 6, 0), 7, vec![]),
        ((NAMED_USER, 7, 0), 7, vec![]),
    ] {
        if !set_access_list(&folder, entry, mask) {
            return;
        }
        let found = place.weaknesses("folder", &PathTrust::default());
        let kinds: Vec<_> = found.into_iter().map(|(_, kind)| kind).collect();
        assert_eq!(kinds, expected, "{entry:?} {mask:o}");
    }
}

#[test]
fn foreign_links_are_found_as_far_as_a_path_exists() {
    if !has_root() {
        return;
    }
    let place = Place::new();
    place.folder("folder", 0o755);
    symlink(place.at("folder"), place.at("link")).unwrap();
    symlink(place.at("link"), place.at("own")).unwrap();
    assert!(!has_foreign_link(&place.at("link/new/file")));
    std::os::unix::fs::lchown(place.at("link"), Some(STRANGER), None).unwrap();
    for (name, expected) in [
        ("link", true),
        ("link/new/file", true),
        ("own", true),
        ("own/..", true),
        ("folder", false),
        ("folder/new/file", false),
        ("absent/../link", false),
    ] {
        assert_eq!(has_foreign_link(&place.at(name)), expected, "{name}");
    }
}

fn run_as_root(command: &str) {
    let output = std::process::Command::new("sh")
        .args(["-c", command])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {said}");
}

/// A reader of a hint can copy its command, which leaves nothing to refuse.
#[test]
fn command_of_each_weakness_ends_it() {
    if !has_root() {
        return;
    }
    let (group, _) = group_of_another().unwrap_or((0, 0));
    let has_lists = has_program("setfacl");
    let writable = |path: &Path| {
        std::fs::set_permissions(path, Permissions::from_mode(0o757)).unwrap();
    };
    let owned = |path: &Path| chown(path, Some(STRANGER), None).unwrap();
    let of_group = |path: &Path| {
        chown(path, None, Some(group)).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(0o775)).unwrap();
    };
    let owned_and_writable = |path: &Path| {
        owned(path);
        std::fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    };
    let listed = |path: &Path| {
        if has_lists {
            set_access_list(path, (NAMED_USER, 7, STRANGER), 7);
        }
    };
    let weaken: [(&str, Change<'_>); 5] = [
        ("others", &writable),
        ("owner", &owned),
        ("group", &of_group),
        ("owner and others", &owned_and_writable),
        ("list", &listed),
    ];
    for (name, weaken) in weaken {
        for part in [
            "on the way's",
            "on the way's/folder",
            "on the way's/folder/file",
        ] {
            let place = Place::new();
            place.folder("on the way's/folder", 0o755);
            std::fs::write(place.at("on the way's/folder/file"), "").unwrap();
            weaken(&place.at(part));
            let file = place.at("on the way's/folder/file");
            let find = || find_weaknesses(&file, &PathTrust::default()).unwrap();
            let Some(weakness) = find().into_iter().next() else {
                assert!(name == "list" || group == 0, "{name}: {part}");
                continue;
            };
            let command = weakness.command("root");
            assert!(
                weakness.hint().contains(&format!("run `{command}`")),
                "{name}"
            );
            run_as_root(&command);
            assert_eq!(find(), [], "{name}: {command}");
        }
    }
}

#[test]
fn command_of_a_link_and_of_an_unreadable_list_end_them() {
    if !has_root() {
        return;
    }
    let place = Place::new();
    let folder = place.folder("folder", 0o755);
    symlink(&folder, place.at("link")).unwrap();
    std::os::unix::fs::lchown(place.at("link"), Some(STRANGER), None).unwrap();
    let walk = |name: &str| walk_to_folder(&place.at(name), &PathTrust::default()).unwrap();
    run_as_root(&walk("link").weaknesses[0].command("root"));
    assert_eq!(walk("link").weaknesses, []);
    if set_access_list(&folder, (NAMED_USER, 7, STRANGER), 7) {
        let unreadable = Weakness {
            kind: WeaknessKind::UnreadableList,
            ..walk("folder").weaknesses[0].clone()
        };
        run_as_root(&unreadable.command("root"));
        assert_eq!(walk("folder").weaknesses, []);
    }
}

/// Nobody may change `/tmp` for the sake of one file.
#[test]
fn shared_folder_stays_as_it_is() {
    let place = Place::new();
    place.folder("shared", 0o1777);
    let walked = walk_to_file(&place.at("shared/file"), &PathTrust::default()).unwrap();
    let hint = walked.weaknesses[0].hint_for("rekeyd");
    let expected = "use a folder of its own: run `install -d -m 2750 -o rekeyd /etc/billing`";
    assert_eq!(hint, expected);
}
