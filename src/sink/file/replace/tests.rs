//! A replacement that is interrupted at any step: its readers have the old or
//! the new content, its answer says nothing false, and the next start leaves
//! nothing behind.

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

/// What stands in the folder before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InitialFiles {
    Empty,
    OldContent,
    /// And what an earlier process has left.
    OldContentAndStaleTemp,
}

fn set_up(before: InitialFiles) -> (TempDir, TargetLocation) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    if before != InitialFiles::Empty {
        std::fs::write(&path, OLD).unwrap();
    }
    let place = TargetLocation(Arc::new(FileTarget {
        mode: MODE,
        ..FileTarget::with_defaults(path)
    }));
    if before == InitialFiles::OldContentAndStaleTemp {
        let path = place.temp_path();
        std::fs::write(&path, &NEW[..7]).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(MODE & 0o600)).unwrap();
    }
    (dir, place)
}

fn run_replace(place: &TargetLocation, content: &[u8]) -> Result<(), DeliveryError> {
    let (attempt, _caller) = ReplaceAttempt::start(place.path()).unwrap();
    replace(place, content, &attempt)
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

/// Interrupts at the step of that number. False if there is none.
fn survives_interruption_at(before: InitialFiles, number: usize, what: Interruption) -> bool {
    let story = format!("{before:?}, {what:?} at {number}");
    let (dir, place) = set_up(before);
    let (outcome, steps) = run_interrupted_at(number, what, || run_replace(&place, NEW));
    let content = std::fs::read(place.path()).ok();
    let old = (before != InitialFiles::Empty).then(|| OLD.to_vec());
    let is_new = content.as_deref() == Some(NEW);
    assert!(is_new || content == old, "{story}: {content:?}");
    if is_new {
        assert_eq!(mode_of(place.path()), MODE, "{story}");
    }
    match &outcome {
        Ok(()) => assert!(is_new, "{story}"),
        // Who is dead has answered nobody.
        Err(_) if what == Interruption::Kill => {}
        Err(error) => match error.acceptance {
            Acceptance::NotAccepted => assert!(!is_new, "{story}: {error}"),
            Acceptance::Uncertain => {}
            Acceptance::Rejected => panic!("{story}: {error}"),
        },
    }
    let left_over = place.temp_path();
    if left_over.exists() {
        assert_eq!(mode_of(&left_over) & !MODE & !0o600, 0, "{story}");
        let is_empty = std::fs::metadata(&left_over).unwrap().len() == 0;
        let told = outcome.is_err_and(|error| error.message.contains("may hold"));
        assert!(is_empty || told || what == Interruption::Kill, "{story}");
    }
    remove_stale_temp(&place).unwrap();
    let expected: &[&str] = if content.is_some() { &["secret"] } else { &[] };
    assert_eq!(file_names(dir.path()), expected, "{story}");
    run_replace(&place, NEXT).unwrap();
    assert_eq!(std::fs::read(place.path()).unwrap(), NEXT, "{story}");
    assert_eq!(file_names(dir.path()), ["secret"], "{story}");
    steps.len() > number
}

#[test]
fn interruption_leaves_old_or_new_content() {
    for before in [
        InitialFiles::Empty,
        InitialFiles::OldContent,
        InitialFiles::OldContentAndStaleTemp,
    ] {
        for what in [
            Interruption::FailBefore,
            Interruption::FailAfter,
            Interruption::Kill,
        ] {
            let steps = (0..).take_while(|number| survives_interruption_at(before, *number, what));
            let steps = steps.count();
            // Each byte, and five calls around them.
            assert!(steps >= NEW.len() + 5, "{steps} steps");
        }
    }
}

/// Whoever loses power behind the rename finds the whole new file: first it is
/// brought to disk, and last what its folder says.
#[test]
fn file_is_synced_before_rename() {
    let (_dir, place) = set_up(InitialFiles::OldContent);
    let never = usize::MAX;
    let (outcome, mut steps) =
        run_interrupted_at(never, Interruption::FailBefore, || run_replace(&place, NEW));
    outcome.unwrap();
    steps.dedup();
    let expected = ["create", "write", "set_mode", "sync", "rename", "sync"];
    assert_eq!(steps, expected);
}
