//! The identity of this host.

use std::path::Path;

use ring::digest::{SHA256, digest};

use crate::core::hex;

/// The file with the machine's id.
const MACHINE_ID_PATH: &str = "/etc/machine-id";

/// The text that is hashed with the id, since machine-id(5) forbids exposing
/// the id itself.
const SALT: &[u8] = b"rekeyd ledger ";

/// Returns a hash of this machine's id, 32 hexadecimal digits. A host without
/// an id, such as a small container, has none.
#[must_use]
pub fn id() -> Option<String> {
    read_hashed_id(Path::new(MACHINE_ID_PATH))
}

/// Returns the host name that this host's notifications carry.
#[must_use]
pub fn hostname() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}

fn read_hashed_id(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let id = text.trim();
    // systemd writes "uninitialized" there during the first boot. Zeros are no id, and
    // several hosts may have them.
    let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_id || id.bytes().all(|byte| byte == b'0') {
        return None;
    }
    let hash = digest(&SHA256, &[SALT, id.as_bytes()].concat());
    Some(hex::encode(&hash.as_ref()[..16]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_machine_id_is_hashed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("machine-id");
        assert_eq!(read_hashed_id(&path), None);
        for (text, is_valid) in [
            ("0123456789abcdef0123456789abcdef\n", true),
            ("0123456789abcdef0123456789abcdef", true),
            ("uninitialized\n", false),
            ("00000000000000000000000000000000\n", false),
            ("0123456789abcdef0123456789abcde\n", false),
            ("0123456789abcdef0123456789abcdef0\n", false),
            ("01234567-89ab-cdef-0123-456789abcdef\n", false),
            ("0123456789abcdef0123456789abcdeg\n", false),
            ("0123456789abcdef\n0123456789abcdef\n", false),
            ("", false),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(
                read_hashed_id(&path).map(|hash| hash.len()),
                is_valid.then_some(32),
                "{text}"
            );
        }
        std::fs::write(&path, "0123456789abcdef0123456789abcdef").unwrap();
        assert!(!read_hashed_id(&path).unwrap().contains("0123456789abcdef"));
    }
}
