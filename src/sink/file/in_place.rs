//! Writing the new content into the present file, for targets that cannot be
//! replaced, such as a file that is mounted into a container.
//!
//! It is not atomic: a reader may see the start of the new content before the
//! rest of the old, and a crash in between leaves such a mixture.

use std::fs::File;

use rustix::fs::{self, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::attempt_guard::ReplaceAttempt;
use super::attributes;
use super::disk;
use super::inspect;
use super::replace;
use super::replaceability::{exposure_problem, former_owner_problem, other_names_problem};
use super::target::{TargetLocation, describe_io_error, is_regular};
use crate::core::os_error;
use crate::core::state::LeftFile;
use crate::sink::DeliveryError;

/// The result of an attempt to write in place.
pub(super) enum InPlaceOutcome {
    /// The file has the new content.
    Written(Option<LeftFile>),
    /// There is no file yet.
    Absent,
}

/// Writes `content` into the present file. Blocks; writes nothing once the
/// attempt is abandoned.
pub(super) fn overwrite(
    location: &TargetLocation,
    content: &[u8],
    attempt: &ReplaceAttempt,
) -> Result<InPlaceOutcome, DeliveryError> {
    if let Some(problem) = location.problems().into_iter().next() {
        return Err(DeliveryError::not_accepted(problem));
    }
    let path = location.path().display();
    let file = match open(location).map_err(DeliveryError::not_accepted)? {
        Some(file) => file,
        None => return Ok(InPlaceOutcome::Absent),
    };
    if let Some(problem) = replace::access_problem_in_place(location) {
        return Err(DeliveryError::not_accepted(problem));
    }
    let (owner, group) = location
        .configured_ownership()
        .map_err(|error| DeliveryError::not_accepted(error.to_string()))?;
    // Before the content, which the former owner and group must not read.
    set_access(&file, location, owner, group).map_err(|reason| {
        DeliveryError::not_accepted(format!("cannot prepare {path}: {reason}"))
    })?;
    if !attempt.may_finish() {
        return Err(DeliveryError::not_accepted(format!(
            "timed out before writing {path}, which still has its old content"
        )));
    }
    let written = disk::write(&file, content)
        .and_then(|()| Ok(disk::truncate(&file, content.len())?))
        .and_then(|()| Ok(disk::sync(&file)?));
    match written {
        Ok(()) => Ok(InPlaceOutcome::Written(inspect::left_file(&file))),
        Err(error) => Err(DeliveryError::uncertain(format!(
            "cannot write {path} in place, and it may now hold part of the new content: {}",
            describe_io_error(&error, location.path())
        ))),
    }
}

fn open(location: &TargetLocation) -> Result<Option<File>, String> {
    let folder = location.open_folder()?;
    let path = location.path().display();
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match fs::openat(&folder, location.file_name(), flags, Mode::empty()) {
        Ok(file) => match fs::fstat(&file) {
            Ok(stat) if is_regular(&stat) => {
                let known = other_names_problem(location, &stat);
                match known.or_else(|| former_owner_problem(location, &stat)) {
                    Some(problem) => Err(problem),
                    None => Ok(Some(File::from(file))),
                }
            }
            Ok(_) | Err(_) => Err(format!("{path} is not a regular file")),
        },
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(format!(
            "cannot open {path}: {}",
            location.describe_file_error(error)
        )),
    }
}

/// Changes what differs from the configuration.
fn set_access(
    file: &File,
    location: &TargetLocation,
    owner: Option<Uid>,
    group: Option<Gid>,
) -> Result<(), String> {
    let mode = location.mode();
    let describe = |error: Errno| os_error::describe(&error.into());
    let stat = fs::fstat(file).map_err(describe)?;
    let group = group.filter(|group| group.as_raw() != stat.st_gid);
    let owner = owner.filter(|owner| owner.as_raw() != stat.st_uid);
    if group.is_some() {
        disk::chown(file, None, group).map_err(describe)?;
    }
    if owner.is_some() {
        disk::chown(file, owner, None).map_err(describe)?;
    }
    let present = Mode::from_raw_mode(stat.st_mode) & (Mode::RWXU | Mode::RWXG | Mode::RWXO);
    if present == mode && !attributes::has_access_list(file) {
        return Ok(());
    }
    match attributes::change_mode(file, location.path(), mode) {
        // Another user's file, which is open to nobody that it should not be.
        Err(_) if owner.is_none() && exposure_problem(location, &stat).is_none() => Ok(()),
        result => result.map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sink::Acceptance;
    use crate::sink::file::disk::interruption::{Interruption, run_interrupted_at};
    use crate::sink::file::settings::{FileTarget, WriteMode};

    const OLD: &[u8] = b"the-old-and-longer-secret\n";
    const NEW: &[u8] = b"the-new-secret\n";

    fn run(location: &TargetLocation) -> Result<InPlaceOutcome, DeliveryError> {
        let (attempt, _guard) = ReplaceAttempt::start(location.path()).unwrap();
        overwrite(location, NEW, &attempt)
    }

    /// Writes the file with an interruption at step `number`, and checks that
    /// the result is true. Returns false if there is no such step.
    fn result_is_true(number: usize, interruption: Interruption) -> bool {
        let case = format!("{interruption:?} at {number}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, OLD).unwrap();
        let location = TargetLocation::unguarded(Arc::new(FileTarget {
            write: WriteMode::InPlace,
            mode: 0o640,
            ..FileTarget::with_defaults(path.clone())
        }));
        let (outcome, steps) = run_interrupted_at(number, interruption, || run(&location));
        let content = std::fs::read(&path).unwrap();
        match outcome {
            Ok(_) => assert_eq!(content, NEW, "{case}"),
            Err(_) if interruption == Interruption::Kill => {}
            Err(error) if error.acceptance == Acceptance::NotAccepted => {
                assert_eq!(content, OLD, "{case}");
            }
            Err(error) => assert_eq!(error.acceptance, Acceptance::Uncertain, "{case}"),
        }
        assert!(run(&location).is_ok(), "{case}");
        assert_eq!(std::fs::read(&path).unwrap(), NEW, "{case}");
        steps.len() > number
    }

    #[test]
    fn interruption_is_reported_as_what_it_leaves() {
        for interruption in [
            Interruption::FailBefore,
            Interruption::FailAfter,
            Interruption::Kill,
        ] {
            let steps = (0..).take_while(|number| result_is_true(*number, interruption));
            // One step for each byte, and one each for mode, length and sync.
            assert_eq!(steps.count(), NEW.len() + 3, "{interruption:?}");
        }
    }

    /// A user who may write to the folder could give the file the name of the ledger, or of
    /// the file with rekeyd's own credential.
    #[test]
    fn file_with_another_name_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("secret"), dir.path().join("ledger.db"));
        std::fs::write(&other, OLD).unwrap();
        std::fs::hard_link(&other, &path).unwrap();
        let location = TargetLocation::unguarded(Arc::new(FileTarget {
            write: WriteMode::InPlace,
            ..FileTarget::with_defaults(path)
        }));
        let error = run(&location).err().unwrap();
        assert_eq!(error.acceptance, Acceptance::NotAccepted);
        assert_eq!(std::fs::read(&other).unwrap(), OLD);
        let problems = location.problems();
        assert!(problems[0].contains("2 hard links"), "{problems:?}");
    }

    #[test]
    fn missing_file_and_abandoned_attempt_write_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let location = TargetLocation::unguarded(Arc::new(FileTarget {
            write: WriteMode::InPlace,
            ..FileTarget::with_defaults(path.clone())
        }));
        assert!(matches!(run(&location), Ok(InPlaceOutcome::Absent)));
        std::fs::write(&path, OLD).unwrap();
        let (attempt, guard) = ReplaceAttempt::start(location.path()).unwrap();
        drop(guard);
        let error = overwrite(&location, NEW, &attempt).err().unwrap();
        assert_eq!(error.acceptance, Acceptance::NotAccepted);
        assert_eq!(std::fs::read(&path).unwrap(), OLD);
    }
}
