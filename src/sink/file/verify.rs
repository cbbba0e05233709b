//! The drift check of a file: whether it still holds the delivered secret.
//!
//! The ledger holds nothing that a secret could be computed from, so the check compares the
//! suffix that the provider's redacted value shows, or the digest of a secret that passed
//! through this process.

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;

use super::settings::{FileFormat, FileTarget, WriteMode};
use super::target::{TargetLocation, is_regular};
use crate::core::expected_secret::ExpectedSecret;
use crate::core::secret::EndMatch;
use crate::platform::users;
use crate::sink::{Drift, DriftKind};

/// The limit of a read, larger than any content that rekeyd writes.
const MAX_READ_BYTES: usize = 64 * 1024;

#[derive(Deserialize)]
struct StoredJson<'a> {
    #[serde(borrow)]
    value: std::borrow::Cow<'a, str>,
}

/// Compares the file with the expected secret.
/// Returns `None` if they match, or if the file cannot be read.
pub(super) fn check_drift(location: &TargetLocation, expected: &ExpectedSecret) -> Option<Drift> {
    location.report_exchange();
    let format = &location.target.format;
    let path = location.path().display();
    let drift = |kind, message| Some(Drift { kind, message });
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match fs::open(location.path(), flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return drift(DriftKind::Missing, format!("{path} is gone")),
        Err(Errno::LOOP) => {
            return drift(
                DriftKind::Replaced,
                format!("{path} is now a symbolic link"),
            );
        }
        Err(_) => {
            let present = fs::statat(CWD, location.path(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
            let message = unreadable_difference(&location.target, &present)?;
            return drift(DriftKind::Replaced, format!("{path} {message}"));
        }
    };
    let stat = fs::fstat(&file).ok();
    let Some(stat) = stat.filter(is_regular) else {
        return drift(
            DriftKind::Replaced,
            format!("{path} is no longer a regular file"),
        );
    };
    // No larger than needed, since the whole buffer is wiped.
    let size = usize::try_from(stat.st_size).ok()?.min(MAX_READ_BYTES);
    let mut content = Zeroizing::new(vec![0; size]);
    let mut length = 0;
    while length < size {
        match rustix::io::read(&file, &mut content[length..]).ok()? {
            0 => break,
            count => length += count,
        }
    }
    let content = &content[..length];
    let compared = stored_value(format, content).map(|value| expected.compare(&value));
    match compared {
        Some(EndMatch::Different) => drift(
            DriftKind::OtherContent,
            format!("{path} holds a different key from the one that rekeyd delivered"),
        ),
        None => drift(
            DriftKind::OtherContent,
            format!("{path} no longer holds what rekeyd wrote"),
        ),
        Some(EndMatch::Same | EndMatch::Unknown) => None,
    }
}

/// Compares a file that this process cannot read with what a delivery leaves.
/// Returns the difference, or `None` where a delivery may have left it: it may
/// give the file to a user whose files rekeyd cannot read.
fn unreadable_difference(target: &FileTarget, present: &Stat) -> Option<String> {
    if !is_regular(present) {
        return Some("is no longer a regular file".to_owned());
    }
    let access_bits = Mode::RWXU | Mode::RWXO;
    let mode = Mode::from_raw_mode(present.st_mode);
    // The bits of the group may be the mask of an access control list.
    if mode & access_bits != Mode::from_raw_mode(target.mode) & access_bits {
        return Some(format!(
            "now has mode {:04o} instead of {:04o}",
            mode.as_raw_mode() & 0o7777,
            target.mode
        ));
    }
    let owner = Uid::from_raw(present.st_uid);
    let is_expected = match target.owner.as_deref().map(users::find_user) {
        Some(Ok(configured)) => owner == configured,
        // A file that is written in place may be another user's.
        None => target.write == WriteMode::InPlace || users::can_chown_to_user(owner),
        Some(Err(_)) => true,
    };
    (!is_expected).then(|| format!("now belongs to {}", users::describe_user(present.st_uid)))
}

fn stored_value(format: &FileFormat, content: &[u8]) -> Option<Zeroizing<String>> {
    let text = std::str::from_utf8(content).ok()?.trim_end();
    let value = match format {
        FileFormat::Raw => text.to_owned(),
        FileFormat::Env { variable } => text
            .strip_prefix(variable.as_str())?
            .strip_prefix('=')?
            .to_owned(),
        FileFormat::Json => serde_json::from_str::<StoredJson<'_>>(text)
            .ok()?
            .value
            .into_owned(),
    };
    let value = Zeroizing::new(value);
    // No secret has a blank: behind one stands what somebody else has added.
    let is_word = !value.is_empty() && !value.contains(char::is_whitespace);
    is_word.then_some(value)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use crate::core::active_credential::ActiveCredential;
    use crate::core::ids::CredentialId;
    use crate::core::secret::Secret;
    use crate::core::state::CredentialMetadata;

    /// The provider shows no end, and this process knows the secret itself.
    #[test]
    fn known_secret_is_compared_where_no_end_is_shown() {
        let cell = ActiveCredential::new();
        let credential = |id: &str, redacted: Option<&str>| CredentialMetadata {
            id: CredentialId::new(id),
            redacted_value: redacted.map(str::to_owned),
            created_at: None,
            expires_at: None,
        };
        let (own, other) = ("sk-admin-own-secret-0001", "sk-admin-other-secret-0002");
        let created = credential("key_created", None);
        cell.record_created(&created.id, &Secret::new(own.to_owned()), None);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        for (format, before) in [
            (FileFormat::Raw, ""),
            (
                FileFormat::Env {
                    variable: "KEY".to_owned(),
                },
                "KEY=",
            ),
        ] {
            let target = FileTarget {
                format,
                ..FileTarget::with_defaults(path.clone())
            };
            let location = TargetLocation::unguarded(Arc::new(target));
            for (id, redacted, held, is_drift) in [
                ("key_created", None, own, false),
                ("key_created", None, other, true),
                ("key_created", Some("[hidden]"), other, true),
                ("key_created", Some("sk-admin...0002"), own, false),
                // An earlier process created it.
                ("key_earlier", None, other, false),
                ("key_earlier", Some("sk-admin...0001"), other, true),
            ] {
                std::fs::write(&path, format!("{before}{held}\n")).unwrap();
                let expected = cell.expected_secret(&credential(id, redacted));
                let drift = check_drift(&location, &expected);
                assert_eq!(drift.is_some(), is_drift, "{id} {redacted:?} {held}");
            }
        }
    }

    /// As root a test can read every file, so the decision is tested alone.
    #[test]
    fn unreadable_file_that_no_delivery_leaves_is_drift() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let socket = tempfile::tempdir().unwrap();
        let socket_path = socket.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&socket_path).unwrap();
        let regular = fs::stat(file.path()).unwrap();
        let own = rustix::process::geteuid().as_raw();
        let (foreign, other) = (4_711, 4_712);
        let may_give_away = users::can_chown_to_user(Uid::from_raw(foreign));
        let kept = (!may_give_away).then_some("now belongs to uid 4711");
        for (mode, uid, owner, write, expected) in [
            (0o600, own, None, WriteMode::Replace, None),
            (0o640, own, None, WriteMode::Replace, None),
            (
                0o000,
                own,
                None,
                WriteMode::Replace,
                Some("now has mode 0000 instead of 0600"),
            ),
            (
                0o200,
                own,
                None,
                WriteMode::Replace,
                Some("now has mode 0200 instead of 0600"),
            ),
            (
                0o604,
                own,
                None,
                WriteMode::Replace,
                Some("now has mode 0604 instead of 0600"),
            ),
            (0o600, foreign, None, WriteMode::Replace, kept),
            (0o600, foreign, None, WriteMode::InPlace, None),
            (0o600, foreign, Some(foreign), WriteMode::Replace, None),
            (
                0o600,
                foreign,
                Some(other),
                WriteMode::Replace,
                Some("now belongs to uid 4711"),
            ),
            (
                0o600,
                foreign,
                Some(other),
                WriteMode::InPlace,
                Some("now belongs to uid 4711"),
            ),
        ] {
            let target = FileTarget {
                owner: owner.map(|user| user.to_string()),
                write,
                ..FileTarget::with_defaults(PathBuf::from("/k/a"))
            };
            let mut present = regular;
            present.st_mode = (regular.st_mode & !0o7777) | mode;
            present.st_uid = uid;
            let found = unreadable_difference(&target, &present);
            assert_eq!(
                found.as_deref(),
                expected,
                "{mode:o} {uid} {owner:?} {write:?}"
            );
        }
        let target = FileTarget::with_defaults(PathBuf::from("/k/a"));
        let socket = fs::stat(&socket_path).unwrap();
        let found = unreadable_difference(&target, &socket);
        assert_eq!(found.as_deref(), Some("is no longer a regular file"));
    }
}
