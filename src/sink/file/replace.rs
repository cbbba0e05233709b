//! Replacing a file so that every reader sees the old content or the new one,
//! whole, also across a crash.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, Gid, Mode, Uid};
use rustix::io::Errno;

use super::attempt_guard::ReplaceAttempt;
use super::disk;
use super::target::{TargetLocation, describe_io_error, is_regular};
use crate::sink::DeliveryError;

/// Whom the new file is given to; `Skip` where nothing is to be changed.
#[derive(Debug, Clone, Copy)]
struct Ownership {
    owner: Option<Uid>,
    group: Option<Gid>,
    /// Whether the configuration asks for that owner, and for that group. What
    /// is only carried over from the present file is given up when this process
    /// may not do it.
    owner_configured: bool,
    group_configured: bool,
}

/// Puts `content` in the place of the file. Runs on a thread of its own;
/// nothing is renamed once the attempt is abandoned.
pub(super) fn replace(
    place: &TargetLocation,
    content: &[u8],
    attempt: &ReplaceAttempt,
) -> Result<(), DeliveryError> {
    let folder = write_and_rename(place, content, attempt)?;
    // Until the folder is on disk, a crash may bring the old file back.
    disk::sync(&folder).map_err(|error| {
        DeliveryError::uncertain(format!(
            "{} is replaced, but its folder could not be written to disk: {}",
            place.path().display(),
            describe_io_error(&error.into())
        ))
    })
}

/// Removes what a process that was killed left behind, if it is ours. Says
/// whether there was something.
pub(super) fn remove_stale_temp(place: &TargetLocation) -> Result<bool, String> {
    let folder = place.open_folder()?;
    let wanted = resolve_ownership(place, &folder)?;
    remove_temp(place, &folder, wanted)
}

/// Everything up to the rename. After an error the old file is as it was,
/// unless it says that it may not be.
fn write_and_rename(
    place: &TargetLocation,
    content: &[u8],
    attempt: &ReplaceAttempt,
) -> Result<OwnedFd, DeliveryError> {
    if let Some(problem) = place.problems().into_iter().next() {
        return Err(DeliveryError::not_accepted(problem));
    }
    let folder = place.open_folder().map_err(DeliveryError::not_accepted)?;
    let wanted = resolve_ownership(place, &folder).map_err(DeliveryError::not_accepted)?;
    remove_temp(place, &folder, wanted).map_err(DeliveryError::not_accepted)?;
    let file = create_temp(place, &folder).map_err(DeliveryError::not_accepted)?;
    let problem = match write_temp(&file, place, content, wanted) {
        Ok(()) if attempt.may_finish() => {
            match disk::rename(&folder, &place.temp_name(), place.file_name()) {
                Ok(()) => return Ok(folder),
                Err(error) => return Err(rename_error(place, &folder, error)),
            }
        }
        Ok(()) => format!(
            "the new content of {} was ready only after the timeout",
            place.path().display()
        ),
        Err(error) => format!(
            "cannot write the new content of {}: {}",
            place.path().display(),
            describe_io_error(&error)
        ),
    };
    Err(DeliveryError::not_accepted(
        match disk::remove(&folder, &place.temp_name()) {
            Ok(()) => format!("{problem}; the old content stands"),
            Err(error) => format!(
                "{problem}; the old content stands; and {}",
                stale_temp_message(place, error)
            ),
        },
    ))
}

/// The rename failed. That it was not done is proved by the new file, which is
/// still there to be removed: over a network the answer alone may be lost.
fn rename_error(place: &TargetLocation, folder: &OwnedFd, error: Errno) -> DeliveryError {
    let problem = format!(
        "cannot put the new file in the place of {}: {}",
        place.path().display(),
        describe_io_error(&error.into())
    );
    match disk::remove(folder, &place.temp_name()) {
        Ok(()) => DeliveryError::not_accepted(format!("{problem}; the old content stands")),
        Err(Errno::NOENT) => {
            DeliveryError::uncertain(format!("{problem}; it may stand there all the same"))
        }
        Err(error) => DeliveryError::uncertain(format!(
            "{problem}; and {}",
            stale_temp_message(place, error)
        )),
    }
}

fn stale_temp_message(place: &TargetLocation, error: Errno) -> String {
    format!(
        "{} could not be removed and may hold the secret: {}",
        place.temp_path().display(),
        describe_io_error(&error.into())
    )
}

/// Whom the file is given to: whom the configuration names, else whom it
/// belongs to now, so that a file handed over by hand stays with its reader.
/// In a setgid folder the folder names the group.
fn resolve_ownership(place: &TargetLocation, folder: &OwnedFd) -> Result<Ownership, String> {
    let (owner, group) = place.configured_ownership()?;
    let (owner_asked, group_asked) = (owner.is_some(), group.is_some());
    let present = fs::statat(folder, place.file_name(), AtFlags::SYMLINK_NOFOLLOW)
        .ok()
        .filter(is_regular);
    let setgid = fs::fstat(folder)
        .is_ok_and(|folder| Mode::from_raw_mode(folder.st_mode).contains(Mode::SGID));
    Ok(Ownership {
        owner: owner.or_else(|| present.as_ref().map(|file| Uid::from_raw(file.st_uid))),
        group: group.or_else(|| {
            present
                .as_ref()
                .filter(|_| !setgid)
                .map(|file| Gid::from_raw(file.st_gid))
        }),
        owner_configured: owner_asked,
        group_configured: group_asked,
    })
}

/// Created exclusively, so that no other process has it open, and never more
/// permissive than the file will be: the descriptor writes whatever the mode
/// says.
fn create_temp(place: &TargetLocation, folder: &OwnedFd) -> Result<File, String> {
    let mode = place.mode() & (Mode::RUSR | Mode::WUSR);
    disk::create(folder, &place.temp_name(), mode).map_err(|error| {
        format!(
            "cannot make {}: {}",
            place.temp_path().display(),
            describe_io_error(&error.into())
        )
    })
}

fn write_temp(
    file: &File,
    place: &TargetLocation,
    content: &[u8],
    wanted: Ownership,
) -> io::Result<()> {
    disk::write(file, content)?;
    apply_ownership(file, wanted)?;
    // Behind the change of owner, which may clear bits of the mode, and so
    // that no former group can read what only the new one may.
    disk::set_mode(file, place.mode())?;
    Ok(disk::sync(file)?)
}

/// The group first: once the file belongs to another user, it can no longer
/// be changed without privileges.
fn apply_ownership(file: &File, wanted: Ownership) -> io::Result<()> {
    let present = fs::fstat(file)?;
    let group = wanted.group.filter(|gid| gid.as_raw() != present.st_gid);
    let owner = wanted.owner.filter(|uid| uid.as_raw() != present.st_uid);
    for (owner, group, asked) in [
        (None, group, wanted.group_configured),
        (owner, None, wanted.owner_configured),
    ] {
        if owner.is_none() && group.is_none() {
            continue;
        }
        match disk::chown(file, owner, group) {
            Err(Errno::PERM) if !asked => {}
            result => result?,
        }
    }
    Ok(())
}

fn remove_temp(
    place: &TargetLocation,
    folder: &OwnedFd,
    wanted: Ownership,
) -> Result<bool, String> {
    let path = place.temp_path();
    let found = match fs::statat(folder, place.temp_name(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => {
            return Err(format!(
                "cannot look at {}: {}",
                path.display(),
                describe_io_error(&error.into())
            ));
        }
    };
    let owner = Uid::from_raw(found.st_uid);
    let ours = owner == rustix::process::geteuid() || Some(owner) == wanted.owner;
    if !is_regular(&found) || !ours {
        return Err(format!(
            "{} stands where the new content is prepared, and is no regular file of ours; \
             look at it and remove it",
            path.display()
        ));
    }
    match disk::remove(folder, &place.temp_name()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(format!(
            "cannot remove the left-over file {}, which may hold a secret: {}",
            path.display(),
            describe_io_error(&error.into())
        )),
    }
}
