//! Folders that systemd makes private to a service, where no consumer finds a
//! file.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

/// The folders that systemd hides from a service or replaces for it, with
/// `PrivateTmp=` and `ProtectHome=`.
const PRIVATE_FOLDERS: [&str; 5] = ["/tmp", "/var/tmp", "/home", "/root", "/run/user"];

/// Parts of the root path of such a mount, as the kernel lists it.
const PRIVATE_MOUNT_MARKERS: [&str; 2] = ["/systemd-private-", "/systemd/inaccessible/"];

/// Returns the problem of a file at `path`, in the mount namespace of this
/// process.
pub(super) fn check_path(path: &Path) -> Option<String> {
    if is_on_root_mount(path) {
        return None;
    }
    // A symbolic link may lead there from any other folder.
    let folder = std::fs::canonicalize(path.parent()?);
    let real_path = match folder {
        Ok(folder) => folder.join(path.file_name()?),
        Err(_) => path.to_owned(),
    };
    let private_folder = PRIVATE_FOLDERS
        .iter()
        .find(|private_folder| real_path.starts_with(private_folder))?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    is_on_private_mount(&real_path, &mounts).then(|| {
        format!(
            "{} is below {private_folder}, which the service does not share with others \
             (PrivateTmp=, ProtectHome=): its consumers would not find it there; give another \
             path, in a folder of its own below /etc or /srv",
            path.display()
        )
    })
}

/// Whether the folder of `path` certainly is on the root mount, and so on none
/// that systemd made for a service. Reading all mounts takes as long as
/// replacing a file, and each rotation runs this check.
fn is_on_root_mount(path: &Path) -> bool {
    let mount_id = |folder: &Path| {
        let stat = statx(CWD, folder, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
        // Kernels before 5.8 do not report it.
        let is_reported = stat.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        is_reported.then_some(stat.stx_mnt_id)
    };
    let folder = path.parent().and_then(mount_id);
    folder.is_some() && folder == mount_id(Path::new("/"))
}

/// Whether the mount that holds `path` is one that systemd made for a service.
/// `mounts` has the format of `/proc/self/mountinfo`, see proc(5).
fn is_on_private_mount(path: &Path, mounts: &str) -> bool {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        Some((fields.next()?, fields.next()?))
    });
    let covering = mounts.filter(|(_, mount_point)| path.starts_with(mount_point));
    // The last of several mounts at one mount point hides the others.
    let nearest = covering.max_by_key(|(_, mount_point)| mount_point.len());
    nearest.is_some_and(|(root, _)| {
        PRIVATE_MOUNT_MARKERS
            .iter()
            .any(|marker| root.contains(marker))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_mount_is_detected() {
        let mounts = "\
            22 1 254:1 / / rw - ext4 /dev/vda1 rw\n\
            30 22 254:1 /tmp/systemd-private-6b5c-rekeyd.service-x1/tmp /tmp rw - ext4 /dev/vda1 rw\n\
            31 22 0:25 /systemd/inaccessible/dir /home ro - tmpfs tmpfs rw\n\
            32 31 254:1 /home/shared /home/shared rw - ext4 /dev/vda1 rw\n";
        for (path, private) in [
            ("/tmp/key", true),
            ("/home/anna/key", true),
            ("/home/shared/key", false),
            ("/var/tmp/key", false),
            ("/etc/billing/key", false),
        ] {
            assert_eq!(
                is_on_private_mount(Path::new(path), mounts),
                private,
                "{path}"
            );
        }
        assert!(!is_on_private_mount(Path::new("/tmp/key"), ""));
    }

    #[test]
    fn root_mount_is_detected_by_mount_id() {
        assert!(is_on_root_mount(Path::new("/key")));
        assert!(!is_on_root_mount(Path::new("/proc/key")), "another mount");
        assert!(
            !is_on_root_mount(Path::new("/none/key")),
            "a folder that does not exist"
        );
    }
}
