//! Targets that cannot be replaced, and what a replacement keeps.
//!
//! Some need what only root may do on this host. Where a test cannot build its world, it
//! says what is missing.
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use rekeyd::sink::file::settings::WriteMode;
use rekeyd::sink::{Acceptance, Sink};
use rustix::fs::{XattrFlags, getxattr, setxattr};

use crate::file::{CHILD_FOLDER, FileFixture, SECRET_VALUE, payload, set_mode};
use crate::support::host::{has_program, has_root, report_missing, report_unsupported};
use crate::support::limit::TestLimit;

/// The attribute with the access control list of a file.
const ACL: &str = "system.posix_acl_access";
const DEFAULT_ACL: &str = "system.posix_acl_default";

/// Reports that a child in front of which `program` runs cannot be started.
fn report_no_child(program: &str) {
    if has_program(program) {
        report_unsupported(&format!(
            "{program} does not start this binary as another user"
        ));
    }
}

/// Runs `child`, a test of this binary that needs [`CHILD_FOLDER`], with `command` in
/// front of it. Returns `None` if `command` itself does not work here.
fn run_child(command: &[&str], folder: &Path, child: &str) -> Option<Output> {
    let _limit = TestLimit::start();
    let works = |arguments: &[&str]| {
        let status = Command::new(command[0])
            .args(&command[1..])
            .args(arguments)
            .output();
        status.is_ok_and(|output| output.status.success())
    };
    let own = std::env::current_exe().unwrap();
    if !works(&["true"]) || !works(&[own.to_str()?, "--list"]) {
        return None;
    }
    let output = Command::new(command[0])
        .args(&command[1..])
        .arg(own)
        .args(["--exact", child])
        .env(CHILD_FOLDER, folder)
        .output();
    output.ok()
}

fn assert_passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

#[tokio::test]
async fn immutable_and_append_only_targets_are_refused() {
    for (flag, on_folder, expected) in [
        ("i", false, "target: it is immutable; hint: chattr -i"),
        ("a", false, "target: it is append-only; hint: chattr -a"),
        ("i", true, "the folder is immutable; hint: chattr -i"),
        ("a", true, "the folder is append-only; hint: chattr -a"),
    ] {
        let mut place = FileFixture::new();
        fs::write(&place.target.path, "old").unwrap();
        let changed = if on_folder {
            place.folder().to_owned()
        } else {
            place.target.path.clone()
        };
        let chattr = |change: String| {
            let output = Command::new("chattr").arg(change).arg(&changed).output();
            output.is_ok_and(|output| output.status.success())
        };
        if !chattr(format!("+{flag}")) {
            if has_program("chattr") && has_root() {
                report_unsupported("this file system has no immutable files");
            }
            return;
        }
        let modes = [WriteMode::Replace, WriteMode::InPlace];
        for write in modes {
            place.target.write = write;
            let problems = place.sink().check().await;
            // In place, the folder does not matter.
            let is_refused = !on_folder || write == WriteMode::Replace;
            assert_eq!(
                !problems.is_empty(),
                is_refused,
                "{flag} {on_folder} {problems:?}"
            );
            if is_refused {
                assert_eq!(problems.len(), 1, "{problems:?}");
                assert!(problems[0].message.contains(expected), "{problems:?}");
                assert!(problems[0].message.contains(&format!("chattr -{flag}")));
                place.assert_delivery_refused(expected).await;
                assert_eq!(place.content(), "old");
            }
        }
        assert!(chattr(format!("-{flag}")));
        assert!(place.sink().check().await.is_empty());
    }
}

#[tokio::test]
async fn mount_point_is_refused_or_written_in_place() {
    let place = FileFixture::new();
    fs::write(&place.target.path, "hidden").unwrap();
    fs::write(place.folder().join("mounted"), "a longer old secret\n").unwrap();
    let script = "mount --bind \"$REKEYD_TEST_CHILD_FOLDER/mounted\" \
                  \"$REKEYD_TEST_CHILD_FOLDER/target\" 2>/dev/null; exec \"$@\"";
    let command = ["unshare", "-m", "sh", "-c", script, "sh"];
    let child = "irreplaceable::child_replaces_mount_point";
    let Some(output) = run_child(&command, place.folder(), child) else {
        report_missing("the right to mount in a namespace (unshare)");
        return;
    };
    assert_passed(&output);
    assert_eq!(place.content(), "hidden", "outside of the mount namespace");
    let mounted = fs::read_to_string(place.folder().join("mounted")).unwrap();
    assert_eq!(mounted, format!("{SECRET_VALUE}\n"));
}

/// Does nothing unless the test above runs it.
#[tokio::test]
async fn child_replaces_mount_point() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else {
        return;
    };
    let mut place = FileFixture::in_folder(folder.into());
    place
        .assert_delivery_refused("it is a mount point; hint: mount its folder")
        .await;
    place.target.write = WriteMode::InPlace;
    assert!(place.sink().check().await.is_empty());
    place.sink().deliver(&payload(SECRET_VALUE)).await.unwrap();
    assert_eq!(place.content(), format!("{SECRET_VALUE}\n"));
}

#[tokio::test]
async fn file_of_another_user_in_a_sticky_folder_is_refused() {
    if !has_root() {
        return;
    }
    let place = FileFixture::new();
    fs::write(&place.target.path, "old").unwrap();
    chown(&place.target.path, Some(4713), Some(4711)).unwrap();
    chown(place.folder(), None, Some(4711)).unwrap();
    set_mode(place.folder(), 0o1770);
    let user = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups"];
    let child = "irreplaceable::child_replaces_file_of_another_user";
    let Some(output) = run_child(&user, place.folder(), child) else {
        report_no_child("setpriv");
        return;
    };
    assert_passed(&output);
    assert_eq!(place.content(), "old");
}

/// Does nothing unless the test above runs it.
#[tokio::test]
async fn child_replaces_file_of_another_user() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else {
        return;
    };
    let place = FileFixture::in_folder(folder.into());
    let expected = "belongs to uid 4713, and the sticky bit of";
    place.assert_delivery_refused(expected).await;
    place.assert_delivery_refused("hint: chown 4711").await;
}

#[tokio::test]
async fn writing_in_place_keeps_the_file_and_sets_its_mode() {
    let mut place = FileFixture::new();
    place.target.write = WriteMode::InPlace;
    place.target.mode = 0o640;
    // A missing file is created.
    place.sink().deliver(&payload(SECRET_VALUE)).await.unwrap();
    let first = fs::metadata(&place.target.path).unwrap();
    assert_eq!(first.mode() & 0o7777, 0o640);
    for old in ["", "short", &"long ".repeat(100)] {
        fs::write(&place.target.path, old).unwrap();
        set_mode(&place.target.path, 0o666);
        place.sink().deliver(&payload(SECRET_VALUE)).await.unwrap();
        assert_eq!(place.content(), format!("{SECRET_VALUE}\n"));
        let found = fs::metadata(&place.target.path).unwrap();
        assert_eq!((found.ino(), found.mode() & 0o7777), (first.ino(), 0o640));
        assert_eq!(place.file_names(), ["target"]);
    }
    fs::remove_file(&place.target.path).unwrap();
    fs::create_dir(&place.target.path).unwrap();
    place.assert_delivery_refused("not a regular file").await;
}

/// Whoever had the file opened it before, and would read what is written into it for another.
#[tokio::test]
async fn file_of_a_former_owner_is_not_written_in_place() {
    if !has_root() {
        return;
    }
    let mut place = FileFixture::new();
    place.target.write = WriteMode::InPlace;
    place.target.owner = Some("4712".into());
    fs::write(&place.target.path, "old").unwrap();
    chown(&place.target.path, Some(4713), Some(4713)).unwrap();
    let mut opened = fs::File::open(&place.target.path).unwrap();
    let expected = "belongs to uid 4713, who may have it open";
    let problems = place.sink().check().await;
    assert!(problems[0].message.contains(expected), "{problems:?}");
    place.assert_delivery_refused(expected).await;
    place.assert_delivery_refused("set owner = \"4713\"").await;
    let mut read = String::new();
    opened.read_to_string(&mut read).unwrap();
    assert_eq!(read, "old");
    // Root's own file, that of the owner, and a new one are his.
    for former in [Some(0), Some(4712), None] {
        match former {
            Some(former) => chown(&place.target.path, Some(former), None).unwrap(),
            None => fs::remove_file(&place.target.path).unwrap(),
        }
        place.sink().deliver(&payload(SECRET_VALUE)).await.unwrap();
        assert_eq!(place.content(), format!("{SECRET_VALUE}\n"));
        assert_eq!(fs::metadata(&place.target.path).unwrap().uid(), 4712);
    }
}

/// Returns an access control list in the form of the kernel: the owner reads and writes,
/// user 4712 has `named`, the group `group`, and the mask is `mask`.
fn access_list(named: u16, group: u16, mask: u16) -> Vec<u8> {
    let everybody = u32::MAX;
    let entries = [
        (0x01_u16, 6_u16, everybody),
        (0x02, named, 4712),
        (0x04, group, everybody),
        (0x10, mask, everybody),
        (0x20, 0, everybody),
    ];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(rights.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = getxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

fn set_attribute(path: &Path, name: &str, value: &[u8]) -> bool {
    setxattr(path, name, value, XattrFlags::empty()).is_ok()
}

#[tokio::test]
async fn access_list_and_attributes_are_kept() {
    for write in [WriteMode::Replace, WriteMode::InPlace] {
        for (mode, list, expected) in [
            (0o600, access_list(4, 0, 4), access_list(4, 0, 4)),
            (0o640, access_list(4, 4, 4), access_list(4, 4, 4)),
            (0o640, access_list(4, 0, 4), access_list(4, 4, 4)),
            (0o600, access_list(6, 4, 4), access_list(6, 0, 4)),
            (0o640, access_list(4, 0, 0), access_list(4, 4, 4)),
            (0o660, access_list(4, 0, 4), access_list(4, 6, 6)),
        ] {
            let mut place = FileFixture::new();
            place.target.write = write;
            place.target.mode = mode;
            let path = place.target.path.clone();
            fs::write(&path, "old").unwrap();
            if !set_attribute(&path, ACL, &list) || !set_attribute(&path, "user.origin", b"ops") {
                report_unsupported(
                    "this file system has no access control lists and user attributes",
                );
                return;
            }
            assert!(place.sink().check().await.is_empty());
            for number in 0..2 {
                let secret = format!("{SECRET_VALUE}{number}");
                place.sink().deliver(&payload(&secret)).await.unwrap();
                assert_eq!(place.content(), format!("{secret}\n"));
                let found = attribute(&path, ACL).unwrap();
                assert_eq!(found, expected, "{write:?} {mode:o} {list:?}");
                assert_eq!(attribute(&path, "user.origin").unwrap(), b"ops");
            }
            assert_eq!(place.file_names(), ["target"]);
        }
    }
}

#[tokio::test]
async fn default_access_list_of_the_folder_counts_for_new_files_alone() {
    let mut place = FileFixture::new();
    place.target.mode = 0o640;
    let path = place.target.path.clone();
    if !set_attribute(place.folder(), DEFAULT_ACL, &access_list(4, 0, 7)) {
        report_unsupported("this file system has no access control lists");
        return;
    }
    // The mode is what the configuration says, and the named user reads.
    let expected = access_list(4, 4, 4);
    for _ in 0..2 {
        place.sink().deliver(&payload(SECRET_VALUE)).await.unwrap();
        assert_eq!(attribute(&path, ACL).as_ref(), Some(&expected));
    }
    // A file whose list was removed gets none again.
    rustix::fs::removexattr(&path, ACL).unwrap();
    set_mode(&path, 0o640);
    place.sink().deliver(&payload(SECRET_VALUE)).await.unwrap();
    assert_eq!(attribute(&path, ACL), None);
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o640);
    // Entries that were emptied get the rights of the folder's list again.
    assert!(set_attribute(&path, ACL, &access_list(0, 4, 4)));
    place.sink().deliver(&payload(SECRET_VALUE)).await.unwrap();
    assert_eq!(attribute(&path, ACL), Some(expected));
}

/// An entry that lets a user read and has no effect is a consumer that cannot read.
#[tokio::test]
async fn reader_by_a_list_that_the_mode_shuts_out_is_refused() {
    for (write, has_file) in [
        (WriteMode::Replace, false),
        (WriteMode::Replace, true),
        (WriteMode::InPlace, false),
        (WriteMode::InPlace, true),
    ] {
        let mut place = FileFixture::new();
        place.target.write = write;
        place.target.mode = 0o600;
        let path = place.target.path.clone();
        let (changed, name) = if has_file {
            fs::write(&path, "old").unwrap();
            (path.as_path(), ACL)
        } else {
            (place.folder(), DEFAULT_ACL)
        };
        let (mask, removal) = if has_file { (0, "-x") } else { (7, "-d -x") };
        if !set_attribute(changed, name, &access_list(6, 0, mask)) {
            report_unsupported("this file system has no access control lists");
            return;
        }
        let problems = place.sink().check().await;
        let removal = format!("run `setfacl {removal} u:4712 {}`", changed.display());
        for expected in ["lets user 4712 read", "set mode = \"0640\"", &removal] {
            assert!(problems[0].message.contains(expected), "{problems:?}");
        }
        place.assert_delivery_refused("lets user 4712 read").await;
        // The remedy helps, also for the files that follow.
        place.target.mode = 0o640;
        assert!(place.sink().check().await.is_empty());
        for _ in 0..2 {
            place.sink().deliver(&payload(SECRET_VALUE)).await.unwrap();
            let found = attribute(&path, ACL).unwrap();
            assert_eq!(found, access_list(6, 4, 4), "{write:?} {has_file}");
        }
    }
}

#[tokio::test]
async fn file_in_place_that_its_group_can_read_is_refused() {
    if !has_root() {
        return;
    }
    let place = FileFixture::new();
    fs::write(&place.target.path, "old").unwrap();
    // On every system a user other than that of the child is in group 1.
    chown(&place.target.path, Some(4713), Some(1)).unwrap();
    set_mode(&place.target.path, 0o660);
    set_mode(place.folder(), 0o755);
    let user = ["setpriv", "--reuid=4711", "--regid=4711", "--groups=1"];
    let child = "irreplaceable::child_writes_file_of_another_group_in_place";
    let Some(output) = run_child(&user, place.folder(), child) else {
        report_no_child("setpriv");
        return;
    };
    assert_passed(&output);
    assert_eq!(place.content(), format!("{SECRET_VALUE}\n"));
}

/// Does nothing unless the test above runs it.
#[tokio::test]
async fn child_writes_file_of_another_group_in_place() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else {
        return;
    };
    let mut place = FileFixture::in_folder(folder.into());
    place.target.write = WriteMode::InPlace;
    for (mode, is_refused) in [(0o600, true), (0o640, true), (0o660, false)] {
        place.target.mode = mode;
        let problems = place.sink().check().await;
        assert_eq!(!problems.is_empty(), is_refused, "{mode:o} {problems:?}");
        if is_refused {
            place.assert_delivery_refused("mode = \"0660\"").await;
        }
    }
    place.sink().deliver(&payload(SECRET_VALUE)).await.unwrap();
}

/// The mask of a file that belongs to somebody else stays as it is, whatever the mode says.
#[tokio::test]
async fn masked_reader_of_a_foreign_file_in_place_is_refused() {
    let place = FileFixture::new();
    let path = place.target.path.clone();
    fs::write(&path, "old").unwrap();
    if !has_root() {
        return;
    }
    if !set_attribute(&path, ACL, &access_list(4, 6, 2)) {
        report_unsupported("this file system has no access control lists");
        return;
    }
    chown(&path, Some(4713), Some(1)).unwrap();
    set_mode(place.folder(), 0o755);
    let user = ["setpriv", "--reuid=4711", "--regid=4711", "--groups=1"];
    for (mask, child) in [
        (2, "irreplaceable::child_finds_a_masked_reader"),
        (6, "irreplaceable::child_finds_no_masked_reader"),
    ] {
        assert!(set_attribute(&path, ACL, &access_list(4, 6, mask)));
        let Some(output) = run_child(&user, place.folder(), child) else {
            report_no_child("setpriv");
            return;
        };
        assert_passed(&output);
    }
    assert_eq!(place.content(), format!("{SECRET_VALUE}\n"));
}

/// Returns the fixture of a child of the test above; none if that does not run it.
fn foreign_file_in_place() -> Option<FileFixture> {
    let mut place = FileFixture::in_folder(std::env::var_os(CHILD_FOLDER)?.into());
    place.target.write = WriteMode::InPlace;
    place.target.mode = 0o660;
    Some(place)
}

#[tokio::test]
async fn child_finds_a_masked_reader() {
    let Some(place) = foreign_file_in_place() else {
        return;
    };
    let problems = place.sink().check().await;
    let path = place.target.path.display();
    for expected in [
        "lets user 4712 read, but its mask allows no reading".to_owned(),
        format!("run `setfacl -m u:4712:r {path}`"),
    ] {
        assert!(problems[0].message.contains(&expected), "{problems:?}");
    }
    place.assert_delivery_refused("its mask").await;
}

#[tokio::test]
async fn child_finds_no_masked_reader() {
    let Some(place) = foreign_file_in_place() else {
        return;
    };
    let problems = place.sink().check().await;
    assert!(problems.is_empty(), "{problems:?}");
    place.sink().deliver(&payload(SECRET_VALUE)).await.unwrap();
}

/// A process without privileges cannot set the attributes of a security module.
#[tokio::test]
async fn attribute_that_would_be_lost_is_refused() {
    if !has_root() {
        return;
    }
    let place = FileFixture::new();
    fs::write(&place.target.path, "old").unwrap();
    // A valid value of its form, version 2 without any capability.
    let capability = [&2_u32.to_le_bytes()[..], &[0; 16]].concat();
    let capability = [&0x0200_0000_u32.to_le_bytes()[..], &capability[4..]].concat();
    if !set_attribute(&place.target.path, "security.capability", &capability) {
        report_unsupported("this file system has no attribute security.capability");
        return;
    }
    chown(place.folder(), Some(4711), Some(4711)).unwrap();
    let user = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups"];
    let child = "irreplaceable::child_loses_attribute";
    let Some(output) = run_child(&user, place.folder(), child) else {
        report_no_child("setpriv");
        return;
    };
    assert_passed(&output);
    assert_eq!(place.content(), "old");
}

/// Does nothing unless the test above runs it.
#[tokio::test]
async fn child_loses_attribute() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else {
        return;
    };
    let place = FileFixture::in_folder(folder.into());
    let expected = "cannot copy the attribute security.capability from the current file";
    place.assert_preflight_refused(expected).await;
    let error = place
        .sink()
        .deliver(&payload(SECRET_VALUE))
        .await
        .unwrap_err();
    assert_eq!(error.acceptance, Acceptance::NotAccepted);
    assert!(error.message.contains(expected), "{error}");
    assert_eq!(place.file_names(), ["target"]);
}
