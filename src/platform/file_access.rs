//! Whether another user may read a file of this host.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::platform::access_list::ACCESS_LIST;
use crate::platform::users;

/// The rights of a class of users, in the digit of the mode.
const READ: u32 = 0o4;
const SEARCH: u32 = 0o1;

/// Whether a user with this primary group may read a file: its own permissions let it,
/// and those of each folder on the way to it, by either of its names if a symbolic link
/// is one of them. Blocks on the disk.
///
/// Deliberately not read: access control lists. Where there is one, nobody but the
/// owner may read, since the mode shows more rights than the group has.
#[must_use]
pub fn may_read(user: u32, primary_group: u32, file: &Path) -> bool {
    let Ok(real) = std::fs::canonicalize(file) else {
        return false;
    };
    let has_right = |path: &Path, right: u32| {
        let Ok(metadata) = path.metadata() else {
            return false;
        };
        let is_owner = user == metadata.uid();
        (is_owner || !has_access_list(path)) && {
            let is_in_group =
                |group: u32| users::is_member(user, primary_group, &group.to_string());
            rights(&metadata, user, is_in_group) & right != 0
        }
    };
    let mut folders = file.ancestors().skip(1).chain(real.ancestors().skip(1));
    has_right(&real, READ) && folders.all(|folder| has_right(folder, SEARCH))
}

/// Returns the rights of a user by the mode: those of the first class that it is in.
fn rights(metadata: &Metadata, user: u32, is_in_group: impl Fn(u32) -> bool) -> u32 {
    let shift = if user == metadata.uid() {
        6
    } else if is_in_group(metadata.gid()) {
        3
    } else {
        0
    };
    (metadata.mode() >> shift) & 0o7
}

fn has_access_list(path: &Path) -> bool {
    let mut value = [0_u8; 0];
    rustix::fs::getxattr(path, ACCESS_LIST, &mut value[..]).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_first_class_that_a_user_is_in_counts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let owner = file.as_file().metadata().unwrap().uid();
        let other = owner.wrapping_add(4711);
        for (mode, [own, group, others]) in [
            (0o640, [6, 4, 0]),
            (0o604, [6, 0, 4]),
            (0o044, [0, 4, 4]),
            (0o700, [7, 0, 0]),
            (0o1644, [6, 4, 4]),
        ] {
            file.as_file()
                .set_permissions(Permissions::from_mode(mode))
                .unwrap();
            let metadata = file.as_file().metadata().unwrap();
            let of = |user, is_member| rights(&metadata, user, |_| is_member);
            assert_eq!(
                [of(owner, false), of(other, true), of(other, false)],
                [own, group, others]
            );
            assert_eq!(of(owner, true), own, "{mode:o}");
        }
    }

    #[test]
    fn a_file_is_as_closed_as_its_folders() {
        let root = tempfile::tempdir().unwrap();
        let owner = root.path().metadata().unwrap().uid();
        let other = owner.wrapping_add(4711);
        let inner = root.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let (file, link) = (inner.join("file"), root.path().join("link"));
        std::fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        for (modes, expected) in [
            ([0o755, 0o755, 0o644], true),
            ([0o711, 0o711, 0o604], true),
            ([0o755, 0o755, 0o640], false),
            ([0o755, 0o750, 0o644], false),
            ([0o750, 0o755, 0o644], false),
            ([0o744, 0o755, 0o644], false),
        ] {
            set(root.path(), 0o755);
            set(&inner, modes[1]);
            set(&file, modes[2]);
            set(root.path(), modes[0]);
            for path in [&file, &link] {
                // The folder of temporary files may be closed itself.
                let is_open = root.path().ancestors().skip(1).all(|folder| {
                    folder
                        .metadata()
                        .is_ok_and(|metadata| metadata.mode() & 0o001 != 0)
                });
                let found = may_read(other, other, path);
                assert_eq!(found, expected && is_open, "{modes:?} {}", path.display());
            }
        }
        assert!(!may_read(other, other, &root.path().join("absent")));
    }
}
