//! Which machine this is.

use std::path::Path;

use ring::digest::{SHA256, digest};

use crate::core::hex;

/// Where the machine's id stands.
const MACHINE_ID_PATH: &str = "/etc/machine-id";

/// What is hashed with the id: machine-id(5) asks not to use it bare.
const SALT: &[u8] = b"rekeyd ledger ";

/// A hash of this machine's id, 32 hexadecimal digits; none where there is no
/// id, as in a small container.
#[must_use]
pub fn id() -> Option<String> {
    read_hashed_id(Path::new(MACHINE_ID_PATH))
}

/// The name of this host, as its messages are known by.
#[must_use]
pub fn hostname() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}

fn read_hashed_id(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let id = text.trim();
    // systemd writes "uninitialized" there before the first boot is done.
    if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
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
        for (text, there) in [
            ("0123456789abcdef0123456789abcdef\n", true),
            ("uninitialized\n", false),
            ("", false),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(
                read_hashed_id(&path).map(|hash| hash.len()),
                there.then_some(32),
                "{text}"
            );
        }
        std::fs::write(&path, "0123456789abcdef0123456789abcdef").unwrap();
        assert!(!read_hashed_id(&path).unwrap().contains("0123456789abcdef"));
    }
}
