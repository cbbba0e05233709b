//! Replacing a file so that every reader sees the old content or the new one,
//! whole, also across a crash.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, Stat, Uid};
use rustix::io::Errno;

use super::attempt::Attempt;
use super::disk;
use super::place::{Place, why};
use crate::sink::{DeliveryError, Taken};

/// Whom the new file is given to; `None` where nothing is to be changed.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    owner: Option<Uid>,
    group: Option<Gid>,
    /// Whether the configuration asks for that owner, and for that group. What
    /// is only carried over from the present file is given up when this process
    /// may not do it.
    owner_asked: bool,
    group_asked: bool,
}

/// Puts `content` in the place of the file. Runs on a thread of its own;
/// nothing is renamed once the attempt is abandoned.
pub(super) fn replace(
    place: &Place,
    content: &[u8],
    attempt: &Attempt,
) -> Result<(), DeliveryError> {
    let folder = prepare(place, content, attempt)?;
    // Until the folder is on disk, a crash may bring the old file back.
    disk::sync(&folder).map_err(|error| DeliveryError {
        taken: Taken::Maybe,
        message: format!(
            "{} is replaced, but its folder could not be written to disk: {}",
            place.path().display(),
            why(&error.into())
        ),
    })
}

/// Removes what a process that was killed left behind, if it is ours. Says
/// whether there was something.
pub(super) fn remove_leftover(place: &Place) -> Result<bool, String> {
    let folder = place.open()?;
    let wanted = wanted(place, &folder)?;
    remove_temporary(place, &folder, wanted)
}

/// Everything up to the rename. After an error the old file is as it was,
/// unless it says that it may not be.
fn prepare(place: &Place, content: &[u8], attempt: &Attempt) -> Result<OwnedFd, DeliveryError> {
    if let Some(problem) = place.problems().into_iter().next() {
        return Err(not_taken(problem));
    }
    let folder = place.open().map_err(not_taken)?;
    let wanted = wanted(place, &folder).map_err(not_taken)?;
    remove_temporary(place, &folder, wanted).map_err(not_taken)?;
    let file = create(place, &folder).map_err(not_taken)?;
    let problem = match fill(&file, place, content, wanted) {
        Ok(()) if attempt.may_finish() => {
            match disk::rename(&folder, &place.temporary(), place.name()) {
                Ok(()) => return Ok(folder),
                Err(error) => return Err(not_renamed(place, &folder, error)),
            }
        }
        Ok(()) => format!(
            "the new content of {} was ready only after the timeout",
            place.path().display()
        ),
        Err(error) => format!(
            "cannot write the new content of {}: {}",
            place.path().display(),
            why(&error)
        ),
    };
    Err(not_taken(match disk::remove(&folder, &place.temporary()) {
        Ok(()) => format!("{problem}; the old content stands"),
        Err(error) => format!(
            "{problem}; the old content stands; and {}",
            left_over(place, error)
        ),
    }))
}

/// The rename failed. That it was not done is proved by the new file, which is
/// still there to be removed: over a network the answer alone may be lost.
fn not_renamed(place: &Place, folder: &OwnedFd, error: Errno) -> DeliveryError {
    let problem = format!(
        "cannot put the new file in the place of {}: {}",
        place.path().display(),
        why(&error.into())
    );
    match disk::remove(folder, &place.temporary()) {
        Ok(()) => not_taken(format!("{problem}; the old content stands")),
        Err(Errno::NOENT) => DeliveryError {
            taken: Taken::Maybe,
            message: format!("{problem}; it may stand there all the same"),
        },
        Err(error) => DeliveryError {
            taken: Taken::Maybe,
            message: format!("{problem}; and {}", left_over(place, error)),
        },
    }
}

fn not_taken(message: String) -> DeliveryError {
    DeliveryError {
        taken: Taken::No,
        message,
    }
}

fn left_over(place: &Place, error: Errno) -> String {
    format!(
        "{} could not be removed and may hold the secret: {}",
        place.temporary_path().display(),
        why(&error.into())
    )
}

/// Whom the file is given to: whom the configuration names, else whom it
/// belongs to now, so that a file handed over by hand stays with its reader.
/// In a setgid folder the folder names the group.
fn wanted(place: &Place, folder: &OwnedFd) -> Result<Wanted, String> {
    let (owner, group) = place.named()?;
    let (owner_asked, group_asked) = (owner.is_some(), group.is_some());
    let present = fs::statat(folder, place.name(), AtFlags::SYMLINK_NOFOLLOW)
        .ok()
        .filter(is_regular);
    let setgid = fs::fstat(folder)
        .is_ok_and(|folder| Mode::from_raw_mode(folder.st_mode).contains(Mode::SGID));
    Ok(Wanted {
        owner: owner.or_else(|| present.as_ref().map(|file| Uid::from_raw(file.st_uid))),
        group: group.or_else(|| {
            present
                .as_ref()
                .filter(|_| !setgid)
                .map(|file| Gid::from_raw(file.st_gid))
        }),
        owner_asked,
        group_asked,
    })
}

/// Made exclusively, so that nobody else can have it open, and never more
/// permissive than the file will be: the descriptor writes whatever the mode
/// says.
fn create(place: &Place, folder: &OwnedFd) -> Result<File, String> {
    let mode = place.mode() & (Mode::RUSR | Mode::WUSR);
    disk::create(folder, &place.temporary(), mode).map_err(|error| {
        format!(
            "cannot make {}: {}",
            place.temporary_path().display(),
            why(&error.into())
        )
    })
}

fn fill(file: &File, place: &Place, content: &[u8], wanted: Wanted) -> io::Result<()> {
    disk::write(file, content)?;
    give(file, wanted)?;
    // Behind the change of owner, which may clear bits of the mode, and so
    // that no former group can read what only the new one may.
    disk::set_mode(file, place.mode())?;
    Ok(disk::sync(file)?)
}

/// The group first: once the file belongs to somebody else, it can no longer
/// be changed without privileges.
fn give(file: &File, wanted: Wanted) -> io::Result<()> {
    let present = fs::fstat(file)?;
    let group = wanted.group.filter(|gid| gid.as_raw() != present.st_gid);
    let owner = wanted.owner.filter(|uid| uid.as_raw() != present.st_uid);
    for (owner, group, asked) in [
        (None, group, wanted.group_asked),
        (owner, None, wanted.owner_asked),
    ] {
        if owner.is_none() && group.is_none() {
            continue;
        }
        match disk::give(file, owner, group) {
            Err(Errno::PERM) if !asked => {}
            result => result?,
        }
    }
    Ok(())
}

fn remove_temporary(place: &Place, folder: &OwnedFd, wanted: Wanted) -> Result<bool, String> {
    let path = place.temporary_path();
    let found = match fs::statat(folder, place.temporary(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => {
            return Err(format!(
                "cannot look at {}: {}",
                path.display(),
                why(&error.into())
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
    match disk::remove(folder, &place.temporary()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(format!(
            "cannot remove the left-over file {}, which may hold a secret: {}",
            path.display(),
            why(&error.into())
        )),
    }
}

pub(super) fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}
