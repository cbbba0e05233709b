//! Folders that systemd makes private to a service, where no consumer finds a
//! file.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
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
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    is_on_private_mount(&real_path, &mounts).then(|| {
        format!(
            "{} is in {private_folder}, which is private to the service (PrivateTmp=, \
             ProtectHome=), so consumers would not find it there; hint: use a folder of its own \
             below /etc or /srv",
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
fn is_on_private_mount(path: &Path, mounts: &[u8]) -> bool {
    let mounts = mounts.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ').skip(3);
        Some((decode_field(fields.next()?), decode_field(fields.next()?)))
    });
    let covering = mounts.filter(|(_, mount_point)| path.starts_with(mount_point));
    // The last of several mounts at one mount point hides the others.
    let nearest = covering.max_by_key(|(_, mount_point)| mount_point.len());
    nearest.is_some_and(|(root, _)| {
        let root = root.to_string_lossy();
        PRIVATE_MOUNT_MARKERS
            .iter()
            .any(|marker| root.contains(marker))
    })
}

/// Returns a field of a list of mounts with its octal escapes decoded: the kernel writes
/// blanks, tabs, line breaks and backslashes as `\040` and the like.
fn decode_field(field: &[u8]) -> Cow<'_, OsStr> {
    if !field.contains(&b'\\') {
        return Cow::Borrowed(OsStr::from_bytes(field));
    }
    let mut decoded = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let escape = (*first == b'\\')
            .then(|| after.first_chunk::<3>())
            .flatten();
        let byte = escape.and_then(|digits| {
            let is_octal = digits.iter().all(|digit| matches!(digit, b'0'..=b'7'));
            let text = std::str::from_utf8(digits).ok().filter(|_| is_octal)?;
            u8::from_str_radix(text, 8).ok()
        });
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    Cow::Owned(OsString::from_vec(decoded))
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
                is_on_private_mount(Path::new(path), mounts.as_bytes()),
                private,
                "{path}"
            );
        }
        assert!(!is_on_private_mount(Path::new("/tmp/key"), b""));
    }

    #[test]
    fn escapes_of_mounts_are_decoded() {
        for (field, expected) in [
            (&b"/tmp"[..], &b"/tmp"[..]),
            (br"/a\040b\011\012\134", b"/a b\t\n\\"),
            (br"/a\0401", b"/a 1"),
            (br"/a\134040", br"/a\040"),
            (br"/a\\", br"/a\\"),
            (br"/a\04", br"/a\04"),
            (br"/a\08", br"/a\08"),
            (br"/a\+40", br"/a\+40"),
            (br"/a\400", br"/a\400"),
            (b"/a\xff", b"/a\xff"),
            (b"", b""),
        ] {
            assert_eq!(decode_field(field).as_bytes(), expected, "{field:?}");
        }
        let mounts = b"30 22 254:1 /x/systemd-private-1/tmp /tmp/a\\040b rw - ext4 /dev/vda1 rw\n\
                       31 22 0:3 /\xff /mnt/\xff rw - ext4 /dev/vda2 rw\n";
        assert!(is_on_private_mount(Path::new("/tmp/a b/key"), mounts));
        assert!(!is_on_private_mount(Path::new("/tmp/a/key"), mounts));
        assert!(!is_on_private_mount(Path::new("/tmp/a bc/key"), mounts));
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
