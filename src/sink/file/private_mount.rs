//! Folders that a service sees as private ones: no consumer finds a file there.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

/// The folders that systemd hides from a service or replaces, by
/// `PrivateTmp=` and `ProtectHome=`.
const PRIVATE_FOLDERS: [&str; 5] = ["/tmp", "/var/tmp", "/home", "/root", "/run/user"];

/// What the root of such a mount has in it, as the kernel shows it.
const PRIVATE_MOUNT_MARKERS: [&str; 2] = ["/systemd-private-", "/systemd/inaccessible/"];

/// What is wrong with a file there, as this process sees the place.
pub(super) fn check_path(path: &Path) -> Option<String> {
    let above = PRIVATE_FOLDERS
        .iter()
        .find(|above| path.starts_with(above))?;
    if is_on_root_mount(path) {
        return None;
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    is_on_private_mount(path, &mounts).then(|| {
        format!(
            "{} is below {above}, which the service does not share with others \
             (PrivateTmp=, ProtectHome=): its consumers would not find it there; give another \
             path, in a folder of its own below /etc or /srv",
            path.display()
        )
    })
}

/// Whether the folder of `path` certainly is on the mount of the root, and so on
/// none that was made for a service. To read all mounts takes as long as to
/// replace a file, and this is asked before each rotation.
fn is_on_root_mount(path: &Path) -> bool {
    let mount = |folder: &Path| {
        let found = statx(CWD, folder, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
        // Kernels before 5.8 do not report it.
        let is_told = found.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        is_told.then_some(found.stx_mnt_id)
    };
    let folder = path.parent().and_then(mount);
    folder.is_some() && folder == mount(Path::new("/"))
}

/// Whether the mount that `path` is on is one that systemd made for a service;
/// `mounts` as in `/proc/self/mountinfo`, see proc(5).
fn is_on_private_mount(path: &Path, mounts: &str) -> bool {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        Some((fields.next()?, fields.next()?))
    });
    let covers = mounts.filter(|(_, place)| path.starts_with(place));
    // The last of those that are nearest hides the others.
    let nearest = covers.max_by_key(|(_, place)| place.len());
    nearest.is_some_and(|(root, _)| PRIVATE_MOUNT_MARKERS.iter().any(|sign| root.contains(sign)))
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
            "it cannot be seen"
        );
    }
}
