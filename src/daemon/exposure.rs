//! Whether another user could put another ledger or lock file in the place of this one.

use std::path::{Path, PathBuf};

use crate::ledger;
use crate::platform::path_walk::{self, PathPart, TrustedPaths, Weakness, WeaknessKind};
use crate::platform::users;

/// Another user could put another file in the place of the ledger or its lock file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot trust the ledger {}: {weakness}, so another user could exchange it; hint: {}",
        .ledger.display(), hint(.weakness))]
pub struct ExposedLedger {
    /// The ledger.
    pub ledger: PathBuf,
    /// The part of a path that the other user has.
    pub weakness: Weakness,
}

/// Checks that only root and the user of this process can exchange the ledger at `ledger` and
/// its lock file. The modes of both do not count, since a writer narrows them. Blocks.
///
/// # Errors
/// Another user can. What cannot be reached is left to those who open it.
pub fn check_exposure(ledger: &Path, trusted_paths: &TrustedPaths) -> Result<(), ExposedLedger> {
    let files = [ledger.to_owned(), ledger::lock_path(ledger)];
    let mut weaknesses = files
        .iter()
        .filter_map(|path| find_weakness(path, trusted_paths));
    match weaknesses.next() {
        Some(weakness) => Err(ExposedLedger {
            ledger: ledger.to_owned(),
            weakness,
        }),
        None => Ok(()),
    }
}

fn find_weakness(path: &Path, trusted_paths: &TrustedPaths) -> Option<Weakness> {
    let trust = trusted_paths.and_users(&[]);
    let walked = path_walk::walk_to_file(path, &trust).ok()?;
    let owner = walked.stat().ok().map(|found| found.st_uid);
    let owner = owner.filter(|owner| trust.is_foreign_owner(*owner));
    let own = owner.map(|owner| Weakness {
        path: walked.path,
        part: PathPart::File,
        kind: WeaknessKind::Owner(owner),
    });
    let own = own.filter(|weakness| !trust.is_allowed(&weakness.path));
    walked.weaknesses.into_iter().next().or(own)
}

fn hint(weakness: &Weakness) -> String {
    let own = users::name_or_number(rustix::process::geteuid().as_raw());
    match (weakness.kind, weakness.part) {
        (WeaknessKind::Owner(_), PathPart::Folder | PathPart::File) => format!(
            "run rekeyd as the user that owns the ledger, or {}",
            weakness.hint_for(&own)
        ),
        (WeaknessKind::Shared, _) => format!(
            "move the ledger to a folder of its own: run `install -d -m 0700 -o {own} \
             /var/lib/rekeyd`"
        ),
        _ => weakness.hint_for(&own),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn ledger_in_a_folder_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, private) = (dir.path().join("open"), dir.path().join("private"));
        for folder in [&folder, &private] {
            fs::create_dir(folder).unwrap();
            set_mode(folder, 0o700);
        }
        symlink("../open/ledger.db", private.join("ledger.db")).unwrap();
        let none = TrustedPaths::default();
        // The file of an earlier release is narrowed later.
        for name in ["ledger.db", "ledger.db.lock"] {
            fs::write(folder.join(name), "").unwrap();
            set_mode(&folder.join(name), 0o666);
        }
        check_exposure(&folder.join("ledger.db"), &none).unwrap();
        check_exposure(&folder.join("new.db"), &none).unwrap();
        check_exposure(&private.join("ledger.db"), &none).unwrap();
        set_mode(&folder, 0o777);
        let allowed = TrustedPaths::from(vec![folder.canonicalize().unwrap()]);
        for path in ["open/ledger.db", "open/new.db", "private/ledger.db"] {
            let path = dir.path().join(path);
            let error = check_exposure(&path, &none).unwrap_err().to_string();
            assert!(
                error.contains("open is world-writable, so another user could exchange it; hint: "),
                "{error}"
            );
            check_exposure(&path, &allowed).unwrap();
        }
    }

    #[test]
    fn files_of_another_user_are_refused() {
        // Only root can give a file to another user.
        if !crate::test_host::has_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.db");
        for name in ["ledger.db", "ledger.db.lock"] {
            let file = dir.path().join(name);
            fs::write(&file, "").unwrap();
            check_exposure(&ledger, &TrustedPaths::default()).unwrap();
            std::os::unix::fs::chown(&file, Some(4_711), None).unwrap();
            let error = check_exposure(&ledger, &TrustedPaths::default()).unwrap_err();
            let expected = format!("{name} belongs to uid 4711");
            assert!(error.to_string().contains(&expected), "{error}");
            std::os::unix::fs::chown(&file, Some(0), None).unwrap();
        }
    }
}
