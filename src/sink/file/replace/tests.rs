//! Replacements that are interrupted at every step: readers find the old or the
//! new content, the result is true, and the next start removes what is left.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::sink::Acceptance;
use crate::sink::file::disk::interruption::{Interruption, run_interrupted_at};
use crate::sink::file::settings::FileTarget;

const OLD: &[u8] = b"the-old-secret\n";
const NEW: &[u8] = b"the-new-secret\n";
const NEXT: &[u8] = b"the-next-secret\n";
const MODE: u32 = 0o440;

/// The files in the folder before the replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InitialFiles {
    Empty,
    OldContent,
    /// The old content, and temporary files of earlier processes.
    OldContentAndStaleTemp,
}

fn set_up(initial: InitialFiles) -> (TempDir, TargetLocation) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    if initial != InitialFiles::Empty {
        std::fs::write(&path, OLD).unwrap();
    }
    let location = TargetLocation::unguarded(Arc::new(FileTarget {
        mode: MODE,
        ..FileTarget::with_defaults(path)
    }));
    if initial == InitialFiles::OldContentAndStaleTemp {
        for name in [".secret.rekeyd", ".secret.0123456789abcdef.rekeyd"] {
            let path = location.folder().join(name);
            std::fs::write(&path, &NEW[..7]).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(MODE & 0o600)).unwrap();
        }
    }
    (dir, location)
}

fn run_replace(location: &TargetLocation, content: &[u8]) -> Result<(), DeliveryError> {
    let (attempt, _guard) = ReplaceAttempt::start(location.path()).unwrap();
    replace(location, content, &attempt).map(|_| ())
}

fn file_names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Replaces the file with an interruption at step `number`, and checks its
/// effects. Returns false if there is no such step.
fn survives_interruption_at(
    initial: InitialFiles,
    number: usize,
    interruption: Interruption,
) -> bool {
    let case = format!("{initial:?}, {interruption:?} at {number}");
    let (dir, location) = set_up(initial);
    let (outcome, steps) = run_interrupted_at(number, interruption, || run_replace(&location, NEW));
    let content = std::fs::read(location.path()).ok();
    let old = (initial != InitialFiles::Empty).then(|| OLD.to_vec());
    let is_new = content.as_deref() == Some(NEW);
    assert!(is_new || content == old, "{case}: {content:?}");
    if is_new {
        assert_eq!(mode_of(location.path()), MODE, "{case}");
    }
    match &outcome {
        Ok(()) => assert!(is_new, "{case}"),
        // A killed process reports no error to anybody.
        Err(_) if interruption == Interruption::Kill => {}
        Err(error) => match error.acceptance {
            Acceptance::NotAccepted => assert!(!is_new, "{case}: {error}"),
            Acceptance::Uncertain => {}
            Acceptance::Rejected => panic!("{case}: {error}"),
        },
    }
    let is_reported = outcome.is_err_and(|error| error.message.contains("may hold"));
    for name in file_names(dir.path()) {
        if name == "secret" {
            continue;
        }
        let temp_path = dir.path().join(name);
        assert_eq!(mode_of(&temp_path) & !MODE & !0o600, 0, "{case}");
        let is_empty = std::fs::metadata(&temp_path).unwrap().len() == 0;
        assert!(
            is_empty || is_reported || interruption == Interruption::Kill,
            "{case}"
        );
    }
    remove_stale_temp(&location).unwrap();
    let expected: &[&str] = if content.is_some() { &["secret"] } else { &[] };
    assert_eq!(file_names(dir.path()), expected, "{case}");
    run_replace(&location, NEXT).unwrap();
    assert_eq!(std::fs::read(location.path()).unwrap(), NEXT, "{case}");
    assert_eq!(file_names(dir.path()), ["secret"], "{case}");
    steps.len() > number
}

#[test]
fn interruption_leaves_old_or_new_content() {
    for initial in [
        InitialFiles::Empty,
        InitialFiles::OldContent,
        InitialFiles::OldContentAndStaleTemp,
    ] {
        for interruption in [
            Interruption::FailBefore,
            Interruption::FailAfter,
            Interruption::Kill,
        ] {
            let steps =
                (0..).take_while(|number| survives_interruption_at(initial, *number, interruption));
            let steps = steps.count();
            // One step for each byte, and five calls around them.
            assert!(steps >= NEW.len() + 5, "{steps} steps");
        }
    }
}

/// After a power failure that follows the rename, the whole new file is there:
/// the content is synced before the rename, and the folder after it.
#[test]
fn file_is_synced_before_rename() {
    let (_dir, location) = set_up(InitialFiles::OldContent);
    let never = usize::MAX;
    let (outcome, mut steps) = run_interrupted_at(never, Interruption::FailBefore, || {
        run_replace(&location, NEW)
    });
    outcome.unwrap();
    steps.dedup();
    let expected = ["create", "write", "set_mode", "sync", "rename", "sync"];
    assert_eq!(steps, expected);
}

/// Returns the number of the last step of this name in a replacement.
fn step_number(name: &str) -> usize {
    let (_dir, location) = set_up(InitialFiles::OldContent);
    let never = usize::MAX;
    let run = || run_replace(&location, NEW);
    let (_, steps) = run_interrupted_at(never, Interruption::FailBefore, run);
    steps.iter().rposition(|step| *step == name).unwrap()
}

/// CIFS and some file systems of FUSE have no sync of a folder.
#[test]
fn folder_that_cannot_be_synced_fails_no_delivery() {
    for (error, is_accepted) in [
        (Errno::INVAL, true),
        (Errno::NOTSUP, true),
        (Errno::IO, false),
        (Errno::ACCESS, false),
        (Errno::NOSPC, false),
    ] {
        let (_dir, location) = set_up(InitialFiles::OldContent);
        let folder_sync = step_number("sync");
        let run = || run_replace(&location, NEW);
        let (outcome, _) = run_interrupted_at(folder_sync, Interruption::FailWith(error), run);
        assert_eq!(outcome.is_ok(), is_accepted, "{error:?}: {outcome:?}");
        assert_eq!(std::fs::read(location.path()).unwrap(), NEW);
        // The content itself is synced on every file system.
        let (_dir, location) = set_up(InitialFiles::OldContent);
        let file_sync = step_number("rename") - 1;
        let run = || run_replace(&location, NEW);
        let (outcome, _) = run_interrupted_at(file_sync, Interruption::FailWith(error), run);
        assert_eq!(outcome.unwrap_err().acceptance, Acceptance::NotAccepted);
    }
}

/// What vfat and CIFS answer, found before there is a credential to deliver.
#[test]
fn file_system_without_modes_is_found_by_a_trial() {
    // Tries with a failure at one step. Returns the problem and the steps.
    let try_with = |initial, step, error| {
        let (dir, location) = set_up(initial);
        let before = file_names(dir.path());
        let run = || access_problem(&location);
        let found = run_interrupted_at(step, Interruption::FailWith(error), run);
        assert_eq!(file_names(dir.path()), before);
        found
    };
    for initial in [InitialFiles::Empty, InitialFiles::OldContent] {
        let (problem, steps) = try_with(initial, usize::MAX, Errno::IO);
        assert_eq!(problem, None);
        let set_mode = steps.iter().position(|step| *step == "set_mode").unwrap();
        for error in [Errno::PERM, Errno::NOTSUP, Errno::INVAL] {
            let problem = try_with(initial, set_mode, error).0.unwrap();
            assert!(problem.contains("cannot set the mode"), "{problem}");
            assert!(problem.contains("vfat"), "{problem}");
        }
        // Without files that have no name, one with a name is made and removed.
        let (problem, steps) = try_with(initial, 0, Errno::NOTSUP);
        assert_eq!(problem, None);
        assert_eq!(steps[..3], ["create_nameless", "create", "remove"]);
    }
}
