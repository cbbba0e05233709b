//! Atomic replacement of a file: every reader sees the old or the new content,
//! whole, also across a crash.

#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, Gid, Mode, Stat, Uid};
use rustix::io::Errno;

use super::attempt_guard::ReplaceAttempt;
use super::attributes::KeptAttributes;
use super::disk;
use super::inspect;
use super::readers::{self, PresentReaders};
use super::settings::WriteMode;
use super::target::{TargetLocation, describe_io_error, is_regular};
use super::{stale_temp, temp_name};
use crate::core::state::LeftFile;
use crate::platform::folder_sync;
use crate::sink::DeliveryError;

/// The owner and group of the new file; `None` leaves the process's own.
#[derive(Debug, Clone, Copy)]
struct Ownership {
    owner: Option<Uid>,
    group: Option<Gid>,
    /// Whether the configuration names the owner, and the group. One that is
    /// only kept from the present file is left out where this process may not
    /// set it; a file whose readers that would cut off is not replaced.
    owner_configured: bool,
    group_configured: bool,
    /// The present file.
    present: Option<Stat>,
}

/// Replaces the file with `content`, and returns the new one. Blocks;
/// renames nothing once the attempt is abandoned.
pub(super) fn replace(
    location: &TargetLocation,
    content: &[u8],
    attempt: &ReplaceAttempt,
) -> Result<Option<LeftFile>, DeliveryError> {
    let (folder, file) = write_and_rename(location, content, attempt)?;
    // Until the folder is on disk, a crash may bring the old file back.
    let synced = disk::sync(&folder).map_err(io::Error::from);
    folder_sync::accept_unsupported(location.folder(), synced).map_err(|error| {
        DeliveryError::uncertain(format!(
            "replaced {}, but cannot sync its folder: {}",
            location.path().display(),
            location.describe_folder_error(error)
        ))
    })?;
    Ok(inspect::left_file(&file))
}

/// Removes the temporary files of killed processes. Returns whether there was one.
pub(super) fn remove_stale_temp(location: &TargetLocation) -> Result<bool, String> {
    let folder = location.open_folder_to_clean()?;
    let ownership = resolve_ownership(location, &folder)?;
    stale_temp::remove_temps(location, &folder, ownership.owner)
}

/// Writes the new file and renames it over the old one. Returns the open
/// folder and the new file. After an error the old file is unchanged, unless the error is
/// `Uncertain`.
fn write_and_rename(
    location: &TargetLocation,
    content: &[u8],
    attempt: &ReplaceAttempt,
) -> Result<(OwnedFd, File), DeliveryError> {
    if let Some(problem) = location.problems().into_iter().next() {
        return Err(DeliveryError::not_accepted(problem));
    }
    let folder = location
        .open_folder()
        .map_err(DeliveryError::not_accepted)?;
    let ownership = resolve_ownership(location, &folder).map_err(DeliveryError::not_accepted)?;
    let removed = stale_temp::remove_temps(location, &folder, ownership.owner);
    removed.map_err(DeliveryError::not_accepted)?;
    let temp = temp_name::new_temp_name(location.file_name())
        .map_err(|error| DeliveryError::not_accepted(error.to_string()))?;
    let file = create_temp(location, &folder, &temp).map_err(DeliveryError::not_accepted)?;
    let path = location.path().display();
    let problem = match write_temp(&file, location, content, ownership) {
        Ok(()) if attempt.may_finish() => {
            match disk::rename(&folder, &temp, location.file_name()) {
                Ok(()) => {
                    check_renamed(location, &folder, &file)?;
                    return Ok((folder, file));
                }
                Err(error) => return Err(rename_error(location, &folder, &temp, error)),
            }
        }
        Ok(()) => format!("timed out before replacing {path}"),
        Err(reason) => format!("cannot write the new content of {path}: {reason}"),
    };
    Err(DeliveryError::not_accepted(
        match disk::remove(&folder, &temp) {
            Ok(()) => problem,
            Err(error) => format!("{problem}; {}", stale_temp_message(location, &temp, error)),
        },
    ))
}

/// Checks that the file that was written is the one under the name: a user who may write in
/// the folder could have exchanged it before the rename.
fn check_renamed(
    location: &TargetLocation,
    folder: &OwnedFd,
    file: &File,
) -> Result<(), DeliveryError> {
    let written = fs::fstat(file).map(|stat| (stat.st_dev, stat.st_ino));
    let found = fs::statat(folder, location.file_name(), AtFlags::SYMLINK_NOFOLLOW);
    let found = found.map(|stat| (stat.st_dev, stat.st_ino));
    if written.is_ok() && written == found {
        return Ok(());
    }
    Err(DeliveryError::uncertain(format!(
        "{} is not the file that rekeyd wrote: another user can write to its folder and may have \
         moved it; hint: {}",
        location.path().display(),
        location.folder_advice()
    )))
}

/// Returns the error of a failed rename. If the new file can still be removed,
/// the rename was certainly not done; a network file system may lose the
/// response of one that was done.
fn rename_error(
    location: &TargetLocation,
    folder: &OwnedFd,
    temp: &OsStr,
    error: Errno,
) -> DeliveryError {
    let problem = format!(
        "cannot replace {}: {}",
        location.path().display(),
        location.describe_folder_error(error)
    );
    match disk::remove(folder, temp) {
        Ok(()) => DeliveryError::not_accepted(problem),
        Err(Errno::NOENT) => {
            DeliveryError::uncertain(format!("{problem}; it may have been replaced nevertheless"))
        }
        Err(error) => DeliveryError::uncertain(format!(
            "{problem}; {}",
            stale_temp_message(location, temp, error)
        )),
    }
}

fn stale_temp_message(location: &TargetLocation, temp: &OsStr, error: Errno) -> String {
    format!(
        "cannot remove {}, which may hold the secret: {}",
        location.folder().join(temp).display(),
        location.describe_folder_error(error)
    )
}

/// Determines the owner and group of the new file: the configured ones, else
/// those of the present file, so that an operator's `chown` lasts. In a setgid
/// folder the folder determines the group.
fn resolve_ownership(location: &TargetLocation, folder: &OwnedFd) -> Result<Ownership, String> {
    let (owner, group) = location
        .configured_ownership()
        .map_err(|error| error.to_string())?;
    let (owner_configured, group_configured) = (owner.is_some(), group.is_some());
    let present = fs::statat(folder, location.file_name(), AtFlags::SYMLINK_NOFOLLOW)
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
        owner_configured,
        group_configured,
        present,
    })
}

/// Creates the temporary file exclusively, so that no other process has it
/// open, and with no more permissions than the final file: an open descriptor
/// stays writable whatever the mode is later.
fn create_temp(location: &TargetLocation, folder: &OwnedFd, temp: &OsStr) -> Result<File, String> {
    let mode = location.mode() & (Mode::RUSR | Mode::WUSR);
    disk::create(folder, temp, mode).map_err(|error| {
        format!(
            "cannot create {}: {}",
            location.folder().join(temp).display(),
            location.describe_folder_error(error)
        )
    })
}

fn write_temp(
    file: &File,
    location: &TargetLocation,
    content: &[u8],
    ownership: Ownership,
) -> Result<(), String> {
    let describe = |error: io::Error| describe_io_error(&error, location.folder());
    let kept = KeptAttributes::read(location.path()).map_err(|error| error.to_string())?;
    disk::write(file, content).map_err(describe)?;
    apply_access(file, location, ownership, &kept)?;
    if let Some(loss) = reader_loss(file, location, ownership, &kept) {
        return Err(loss);
    }
    disk::sync(file).map_err(|error| describe(error.into()))
}

/// Gives a new file the attributes, the owner, the group and the mode that it
/// is to have.
fn apply_access(
    file: &File,
    location: &TargetLocation,
    ownership: Ownership,
    kept: &KeptAttributes,
) -> Result<(), String> {
    // While this process owns the file.
    kept.apply(file).map_err(|error| error.to_string())?;
    apply_ownership(file, ownership)
        .map_err(|error| describe_io_error(&error, location.folder()))?;
    // After the change of owner, which may clear bits of the mode, and so that
    // no former group can read a file meant for the new one.
    let applied = kept.apply_mode(file, location.mode());
    applied.map_err(|error| error.to_string())
}

/// Returns why `file`, which has its access by now, must not take the place of the present
/// file: a user or a group could not read the secret (any more).
fn reader_loss(
    file: &File,
    location: &TargetLocation,
    ownership: Ownership,
    kept: &KeptAttributes,
) -> Option<String> {
    let loss = ownership.present.and_then(|present| {
        let readers = PresentReaders::new(&present, kept.owning_group_reads());
        readers.loss_by(&fs::fstat(file).ok()?, location)
    });
    loss.or_else(|| masked_reader(location, kept))
}

/// Returns that a user or group has no access although an access control list names it.
fn masked_reader(location: &TargetLocation, kept: &KeptAttributes) -> Option<String> {
    let entry = kept.masked_reader(location.mode())?;
    Some(readers::describe_masked(entry, location, kept.has_file()))
}

/// Returns the problem of the access that a file that is written in place would have.
pub(super) fn access_problem_in_place(location: &TargetLocation) -> Option<String> {
    let kept = KeptAttributes::read(location.path()).ok()?;
    if kept.can_change_mode() {
        return masked_reader(location, &kept);
    }
    let entry = kept.present_masked_reader()?;
    Some(readers::describe_masked_in_place(entry, location))
}

/// Returns the problem of the access that a new file would get: an attribute of
/// the present file that it would lack, an owner, a group or a mode that
/// cannot be set, as on a file system without them, or a reader that it would lose. It tries on an empty file.
pub(super) fn access_problem(location: &TargetLocation) -> Option<String> {
    if location.target.write == WriteMode::InPlace && location.path().exists() {
        return access_problem_in_place(location);
    }
    let path = location.path().display();
    let loss = |reason: String| {
        format!(
            "cannot replace {path} without losing an attribute: {reason}; hint: remove the \
             attribute with `setfattr -x` or `setfacl -b`, or allow rekeyd to set it"
        )
    };
    let kept = match KeptAttributes::read(location.path()) {
        Ok(kept) => kept,
        Err(error) => return Some(loss(error.to_string())),
    };
    let folder = location.open_folder().ok()?;
    let ownership = resolve_ownership(location, &folder).ok()?;
    let mode = location.mode() & (Mode::RUSR | Mode::WUSR);
    let file = match disk::create_trial(&folder, mode) {
        Ok(file) => file,
        Err(error) => {
            return Some(format!(
                "cannot create a file in {}: {}",
                location.folder().display(),
                location.describe_folder_error(error)
            ));
        }
    };
    match apply_access(&file, location, ownership, &kept) {
        Ok(()) => reader_loss(&file, location, ownership, &kept),
        Err(reason) if kept.is_empty() => Some(format!(
            "cannot set the owner, group and mode of a new file in {}: {reason}; hint: if its file \
             system has none, such as vfat or CIFS, mount it with uid=, gid=, fmask= or file_mode= \
             as configured here, or use another file system",
            location.folder().display()
        )),
        Err(reason) => Some(loss(reason)),
    }
}

/// Changes the group before the owner: once the file belongs to another user,
/// its group can no longer be changed without privileges.
fn apply_ownership(file: &File, ownership: Ownership) -> io::Result<()> {
    let present = fs::fstat(file)?;
    let group = ownership.group.filter(|gid| gid.as_raw() != present.st_gid);
    let owner = ownership.owner.filter(|uid| uid.as_raw() != present.st_uid);
    for (owner, group, is_configured) in [
        (None, group, ownership.group_configured),
        (owner, None, ownership.owner_configured),
    ] {
        if owner.is_none() && group.is_none() {
            continue;
        }
        match disk::chown(file, owner, group) {
            Err(Errno::PERM) if !is_configured => {}
            result => result?,
        }
    }
    Ok(())
}
