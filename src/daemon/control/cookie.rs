//! The cookie of the ledger's owner: a random text beside the ledger, which only its owner
//! and root can read.
//!
//! Programs that the daemon runs have the daemon's user, as the owner of the ledger has at a
//! shell. A request of that user counts only with a proof that it knows the cookie
//! (`proof.rs`), and a program can be kept from reading the folder of the ledger.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::core::hex;
use crate::daemon::control::proof::CookieKey;
use crate::platform::entropy::Entropy;

const COOKIE_BYTES: usize = 32;

const COOKIE_MODE: u32 = 0o600;

/// The cookie of a running daemon.
pub(crate) struct OwnerCookie {
    path: PathBuf,
    key: CookieKey,
    /// The device and inode of the file.
    identity: (u64, u64),
}

impl OwnerCookie {
    /// Writes a new cookie beside the ledger at `ledger`, in the place of an earlier
    /// daemon's.
    ///
    /// # Errors
    /// The system's. An earlier daemon's is removed then, too: a command would take this one
    /// for another process.
    pub(crate) fn create(ledger: &Path, entropy: &dyn Entropy) -> io::Result<Self> {
        let created = Self::write(ledger, entropy);
        if created.is_err() {
            let _ = fs::remove_file(cookie_path(ledger));
        }
        created
    }

    fn write(ledger: &Path, entropy: &dyn Entropy) -> io::Result<Self> {
        let mut random = Zeroizing::new([0; COOKIE_BYTES]);
        entropy.fill(random.as_mut()).map_err(io::Error::other)?;
        let text = Zeroizing::new(hex::encode(random.as_ref()));
        let path = cookie_path(ledger);
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(".new");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(COOKIE_MODE);
        let mut file = options.open(&unfinished)?;
        // A default ACL of the folder takes the place of the mode.
        file.set_permissions(fs::Permissions::from_mode(COOKIE_MODE))?;
        writeln!(file, "{}", text.as_str())?;
        fs::rename(&unfinished, &path)?;
        let found = file.metadata()?;
        Ok(Self {
            path,
            key: CookieKey::new(text),
            identity: (found.dev(), found.ino()),
        })
    }

    /// Returns the path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the key of proofs.
    pub(super) const fn key(&self) -> &CookieKey {
        &self.key
    }

    /// Returns whether the file is still in its place.
    pub(crate) fn is_in_place(&self) -> bool {
        let found = fs::symlink_metadata(&self.path);
        found.is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }
}

impl Drop for OwnerCookie {
    fn drop(&mut self) {
        // A later daemon's stays.
        if self.is_in_place() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Reads the cookie of the daemon that writes the ledger at `ledger`, if it belongs to `owner`.
#[must_use]
pub(crate) fn read_cookie(ledger: &Path, owner: u32) -> Option<CookieKey> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let mut options = OpenOptions::new();
    options.read(true);
    options.custom_flags(i32::try_from(flags).unwrap_or_default());
    let file = options.open(cookie_path(ledger)).ok()?;
    let found = file.metadata().ok()?;
    (found.is_file() && found.uid() == owner)
        .then(|| read_line(&file).ok().map(CookieKey::new))
        .flatten()
}

fn read_line(file: &File) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let limit = u64::try_from(COOKIE_BYTES * 4).unwrap_or_default();
    file.take(limit).read_to_string(&mut text)?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// Returns the path of the cookie of the daemon that writes the ledger at `ledger`.
fn cookie_path(ledger: &Path) -> PathBuf {
    let mut path = ledger.as_os_str().to_owned();
    path.push(".cookie");
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::entropy::SystemEntropy;

    fn create(ledger: &Path) -> OwnerCookie {
        OwnerCookie::create(ledger, &SystemEntropy::new()).unwrap()
    }

    fn text_at(place: &Path) -> String {
        fs::read_to_string(place).unwrap().trim().to_owned()
    }

    fn own_user() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn cookie_is_new_at_each_start_and_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        assert!(read_cookie(&ledger, own_user()).is_none());
        let first = create(&ledger);
        let mode = fs::metadata(first.path()).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let shown = text_at(first.path());
        assert_eq!(shown.len(), 2 * COOKIE_BYTES);
        assert!(read_cookie(&ledger, own_user()).unwrap() == *first.key());
        assert!(read_cookie(&ledger, own_user() + 1).is_none());
        // What an interrupted start left is replaced, and so is the cookie of a killed daemon.
        fs::write(dir.path().join("ledger.db.cookie.new"), "x").unwrap();
        let second = create(&ledger);
        assert!(!first.is_in_place() && second.is_in_place());
        assert_ne!(text_at(second.path()), shown);
        assert!(read_cookie(&ledger, own_user()).unwrap() == *second.key());
        // The earlier one removes nothing of the later one.
        drop(first);
        assert!(second.is_in_place());
        drop(second);
        assert!(read_cookie(&ledger, own_user()).is_none());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    /// A command that reads it would take this daemon for another process.
    #[test]
    fn failed_start_leaves_no_cookie_of_an_earlier_one() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        std::mem::forget(create(&ledger));
        fs::create_dir(dir.path().join("ledger.db.cookie.new")).unwrap();
        assert!(OwnerCookie::create(&ledger, &SystemEntropy::new()).is_err());
        assert!(!dir.path().join("ledger.db.cookie").exists());
    }

    #[test]
    fn cookie_is_read_from_a_regular_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        let place = dir.path().join("ledger.db.cookie");
        fs::write(dir.path().join("elsewhere"), "text").unwrap();
        std::os::unix::fs::symlink("elsewhere", &place).unwrap();
        assert!(read_cookie(&ledger, own_user()).is_none(), "a link");
        fs::remove_file(&place).unwrap();
        fs::create_dir(&place).unwrap();
        assert!(read_cookie(&ledger, own_user()).is_none(), "a folder");
        assert!(OwnerCookie::create(&ledger, &SystemEntropy::new()).is_err());
    }
}
