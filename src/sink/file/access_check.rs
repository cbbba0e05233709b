//! Whether a delivered file still has the owner, the group and the mode of its delivery. A
//! wider mode is narrowed; everything else is reported.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, Stat};

use super::disk;
use super::settings::FileTarget;
use super::target::{TargetLocation, is_regular};
use crate::core::os_error;
use crate::core::shell::quote;
use crate::core::state::{FileAccess, ModeNarrowing, WideningCause};
use crate::platform::own_files::{self, ACCESS_OF_OTHERS};
use crate::sink::AccessReport;

/// Returns how the present file differs from what the last delivery left and from the
/// configuration. Changes nothing. Blocks.
pub(super) fn find_differences(
    location: &TargetLocation,
    recorded: Option<FileAccess>,
) -> AccessReport {
    let found = fs::statat(CWD, location.path(), AtFlags::SYMLINK_NOFOLLOW);
    found.map_or_else(
        |_| AccessReport::default(),
        |present| compare(location, &present, recorded),
    )
}

/// Narrows the present file if its mode is wider than it may be, and returns what differs.
/// Blocks.
pub(super) fn keep(location: &TargetLocation, recorded: Option<FileAccess>) -> AccessReport {
    let found = find_differences(location, recorded);
    if found.narrowed.is_none() {
        return found;
    }
    // Whoever leads the path elsewhere must not choose the file whose mode is changed.
    let (file, present) = match open(location) {
        Ok(opened) => opened,
        Err(reason) => return not_narrowed(location, found, &reason),
    };
    let found = compare(location, &present, recorded);
    let Some(narrowed) = found.narrowed else {
        return found;
    };
    match narrow(&file, narrowed.to) {
        Ok(()) => found,
        Err(reason) => not_narrowed(location, found, &reason),
    }
}

fn open(location: &TargetLocation) -> Result<(OwnedFd, Stat), String> {
    let folder = location.open_folder()?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = fs::openat(&folder, location.file_name(), flags, Mode::empty());
    let found = opened.and_then(|file| {
        let stat = fs::fstat(&file)?;
        Ok((file, stat))
    });
    found.map_err(|error| os_error::describe(&error.into()))
}

/// Sets the mode of a file, and checks that it has it: some file systems keep another.
fn narrow(file: impl AsFd, mode: u32) -> Result<(), String> {
    let set = disk::set_mode(&file, Mode::from_raw_mode(mode)).and_then(|()| fs::fstat(&file));
    match set {
        Ok(stat) if mode_of(&stat) == mode => Ok(()),
        Ok(_) => Err("its file system keeps the mode".to_owned()),
        Err(error) => Err(os_error::describe(&error.into())),
    }
}

fn not_narrowed(location: &TargetLocation, found: AccessReport, reason: &str) -> AccessReport {
    let mode = found.narrowed.map(|narrowed| {
        let (path, ModeNarrowing { from, to, .. }) = (location.path().display(), narrowed);
        format!(
            "{path} has mode {from:04o} instead of {to:04o}, and rekeyd cannot narrow it: {reason}"
        )
    });
    AccessReport {
        narrowed: None,
        problem: join(mode.into_iter().chain(found.problem)),
    }
}

fn compare(
    location: &TargetLocation,
    present: &Stat,
    recorded: Option<FileAccess>,
) -> AccessReport {
    // Anything else is a drift of the content.
    if !is_regular(present) {
        return AccessReport::default();
    }
    let found = ModeComparison {
        target: &location.target,
        mode: mode_of(present),
        group: present.st_gid,
        is_of_process: own_files::is_of_this_user(present),
        has_other_names: present.st_nlink > 1,
        recorded: recorded.map(|recorded| recorded.mode),
    };
    let narrowed = found.narrowed();
    let of_mode = found.problem().filter(|_| narrowed.is_none());
    let of_owners = location.ownership_differences(present, recorded);
    AccessReport {
        narrowed,
        problem: join(of_owners.into_iter().chain(of_mode)),
    }
}

fn join(problems: impl Iterator<Item = String>) -> Option<String> {
    let problems: Vec<_> = problems.collect();
    (!problems.is_empty()).then(|| problems.join("; "))
}

fn mode_of(stat: &Stat) -> u32 {
    stat.st_mode & 0o7777
}

/// The mode of a file beside those that it may have.
struct ModeComparison<'t> {
    target: &'t FileTarget,
    mode: u32,
    group: u32,
    /// Whether the file belongs to this process's user and has one name.
    is_of_process: bool,
    /// Whether the file has further names.
    has_other_names: bool,
    /// The mode that the last delivery left, or that the first check found.
    recorded: Option<u32>,
}

impl ModeComparison<'_> {
    /// Returns the mode that the file may have: as the option `mode` says, or without it the
    /// last delivery. None if neither says anything.
    fn allowed(&self) -> Option<u32> {
        let configured = self.target.has_mode_option.then_some(self.target.mode);
        configured.or(self.recorded)
    }

    /// Returns the change of a mode that is wider than it may be.
    fn narrowed(&self) -> Option<ModeNarrowing> {
        let allowed = self.allowed().filter(|_| self.is_of_process)?;
        let (from, to) = (self.mode, self.mode & allowed);
        let cause = if self.recorded == Some(from) {
            WideningCause::Configuration
        } else if own_files::is_fs_group_widening(from, to, self.group) {
            WideningCause::FsGroup
        } else {
            WideningCause::Other
        };
        (from != to).then_some(ModeNarrowing { from, to, cause })
    }

    /// Describes a mode that stays although it is not the one of the delivery.
    fn problem(&self) -> Option<String> {
        let (mode, configured) = (self.mode, self.target.mode);
        let path = self.target.path.display();
        let quoted = quote(&self.target.path.to_string_lossy());
        // What a delivery left of another user's file is all that rekeyd can do.
        let is_left = !self.is_of_process && self.recorded == Some(mode);
        let is_wider = mode & !configured & ACCESS_OF_OTHERS != 0;
        if is_wider && !is_left && self.has_other_names {
            return Some(format!(
                "{path} has mode {mode:04o} instead of {configured:04o}, and rekeyd does not narrow \
                 it, because it has another name, whose users may need the mode; hint: find that \
                 with `find / -xdev -samefile {quoted}`, remove it, and rotate the key if others \
                 are not to have it"
            ));
        }
        if is_wider && !is_left {
            return Some(format!(
                "{path} has mode {mode:04o}, and a new file gets {configured:04o}; hint: run \
                 `chmod {configured:04o} {quoted}`, and rotate the key if others are not to have \
                 it"
            ));
        }
        let wanted = configured & self.recorded.unwrap_or(configured);
        (wanted & !mode != 0).then(|| {
            let wanted = wanted | mode & configured;
            format!(
                "{path} has mode {mode:04o} instead of {wanted:04o}, so that its readers may have \
                 lost it; hint: run `chmod {wanted:04o} {quoted}`"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn comparison(target: &FileTarget, mode: u32, recorded: Option<u32>) -> ModeComparison<'_> {
        ModeComparison {
            target,
            mode,
            group: u32::MAX,
            is_of_process: true,
            has_other_names: false,
            recorded,
        }
    }

    #[test]
    fn other_name_of_a_file_is_why_it_is_not_narrowed() {
        let target = FileTarget::with_defaults(PathBuf::from("/k/a"));
        let linked = ModeComparison {
            is_of_process: false,
            has_other_names: true,
            ..comparison(&target, 0o666, Some(0o600))
        };
        assert_eq!(linked.narrowed(), None);
        let problem = linked.problem().unwrap();
        assert!(problem.contains("because it has another name"), "{problem}");
        assert!(problem.contains("-samefile /k/a"), "{problem}");
        // Nothing is open to others.
        let linked = ModeComparison {
            mode: 0o600,
            ..linked
        };
        assert_eq!(linked.problem(), None);
    }

    #[test]
    fn wider_mode_is_narrowed_only_as_the_option_or_the_delivery_says() {
        let with = |mode, has_mode_option| FileTarget {
            mode,
            has_mode_option,
            ..FileTarget::with_defaults(PathBuf::from("/k/a"))
        };
        for (target, recorded, mode, narrowed, is_problem) in [
            // As delivered.
            (with(0o600, false), Some(0o600), 0o600, None, false),
            (with(0o640, true), Some(0o640), 0o640, None, false),
            // Wider than the delivery left it, or than `mode` says.
            (with(0o600, false), Some(0o600), 0o666, Some(0o600), false),
            (with(0o640, true), Some(0o640), 0o666, Some(0o640), false),
            (with(0o640, true), None, 0o644, Some(0o640), false),
            (with(0o600, true), Some(0o640), 0o640, Some(0o600), false),
            (with(0o600, false), Some(0o600), 0o4600, Some(0o600), false),
            // The option was widened, and a person follows it.
            (with(0o640, true), Some(0o600), 0o640, None, false),
            (with(0o640, true), Some(0o600), 0o600, None, false),
            // Nobody says that it was narrower.
            (with(0o600, false), None, 0o666, None, true),
            (with(0o600, false), Some(0o666), 0o666, None, true),
            // Its readers have lost it.
            (with(0o640, true), Some(0o640), 0o600, None, true),
            (with(0o600, false), Some(0o600), 0o400, None, true),
        ] {
            let found = comparison(&target, mode, recorded);
            let case = format!("{:04o} {recorded:?} {mode:04o}", target.mode);
            assert_eq!(found.narrowed().map(|one| one.to), narrowed, "{case}");
            let problem = found.problem().filter(|_| narrowed.is_none());
            assert_eq!(problem.is_some(), is_problem, "{case}: {problem:?}");
            let foreign = ModeComparison {
                is_of_process: false,
                ..found
            };
            assert_eq!(foreign.narrowed(), None, "{case}");
        }
    }

    #[test]
    fn cause_of_a_wider_mode_is_known() {
        let group = rustix::process::getegid().as_raw();
        let target = FileTarget::with_defaults(PathBuf::from("/k/a"));
        for (mode, recorded, group, expected) in [
            (0o660, 0o600, group, WideningCause::FsGroup),
            (0o660, 0o600, u32::MAX, WideningCause::Other),
            (0o640, 0o600, group, WideningCause::Other),
            (0o664, 0o600, group, WideningCause::Other),
        ] {
            let found = ModeComparison {
                group,
                ..comparison(&target, mode, Some(recorded))
            };
            let cause = found.narrowed().map(|narrowed| narrowed.cause);
            assert_eq!(cause, Some(expected), "{mode:04o}");
        }
    }
}
