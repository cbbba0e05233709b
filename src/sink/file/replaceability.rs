//! Whether the kernel lets this process replace a file, or write it in place.

use std::os::fd::OwnedFd;

use rustix::fs::{self, Access, AtFlags, Mode, Stat, StatxAttributes, StatxFlags, Uid, statx};

use super::attributes;
use super::settings::WriteMode;
use super::target::TargetLocation;
use crate::platform::{path_walk, users};

/// Lists the properties of the present file at `location` that prevent its
/// replacement, although the folder can be written.
pub(super) fn problems(
    location: &TargetLocation,
    folder: &OwnedFd,
    present: Option<&Stat>,
) -> Vec<String> {
    let mut problems = Vec::new();
    let path = location.path().display();
    let attributes = attributes_of(folder, location.file_name());
    if present.is_some() {
        for (attribute, flag, adjective) in [
            (StatxAttributes::IMMUTABLE, "-i", "immutable"),
            (StatxAttributes::APPEND, "-a", "append-only"),
        ] {
            if attributes.contains(attribute) {
                problems.push(format!(
                    "cannot replace {path}: it is {adjective}; hint: chattr {flag} {path}"
                ));
            }
        }
    }
    if !problems.is_empty() {
        return problems;
    }
    match (location.target.write, present) {
        (WriteMode::InPlace, Some(stat)) => problems.extend(write_problem(location, folder, stat)),
        (WriteMode::Replace, Some(stat)) => {
            if attributes.contains(StatxAttributes::MOUNT_ROOT) {
                problems.push(format!(
                    "cannot replace {path}: it is a mount point; hint: mount its folder instead, \
                     or set write = \"in-place\" in a sink of type \"file\" (which is not atomic)"
                ));
            }
            problems.extend(sticky_problem(location, folder, stat));
        }
        (WriteMode::InPlace | WriteMode::Replace, None) => {}
    }
    problems
}

fn attributes_of(folder: &OwnedFd, name: &std::ffi::OsStr) -> StatxAttributes {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    // Kernels and file systems report the attributes that they know.
    statx(folder, name, flags, StatxFlags::empty()).map_or_else(
        |_| StatxAttributes::empty(),
        |found| found.stx_attributes & found.stx_attributes_mask,
    )
}

/// The problem of a folder in which nothing can be created, or nothing renamed.
pub(super) fn folder_flag_problem(location: &TargetLocation, folder: &OwnedFd) -> Option<String> {
    let attributes = attributes_of(folder, std::ffi::OsStr::new(""));
    let (adjective, flag) = if attributes.contains(StatxAttributes::IMMUTABLE) {
        ("immutable", "-i")
    } else if attributes.contains(StatxAttributes::APPEND) {
        ("append-only", "-a")
    } else {
        return None;
    };
    let folder_path = location.folder().display();
    Some(format!(
        "cannot replace files in {folder_path}: the folder is {adjective}; hint: \
         chattr {flag} {folder_path}"
    ))
}

/// The problem of another user's file in a folder where only owners may rename
/// and remove files.
fn sticky_problem(location: &TargetLocation, folder: &OwnedFd, file: &Stat) -> Option<String> {
    let folder_stat = fs::fstat(folder).ok()?;
    let is_sticky = Mode::from_raw_mode(folder_stat.st_mode).contains(Mode::SVTX);
    let own = rustix::process::geteuid();
    let owns_one = [file.st_uid, folder_stat.st_uid]
        .map(Uid::from_raw)
        .contains(&own);
    if !is_sticky || owns_one || users::can_act_as_any_owner() {
        return None;
    }
    let (path, folder_path) = (location.path().display(), location.folder().display());
    Some(format!(
        "cannot replace {path}: it belongs to {}, and the sticky bit of {folder_path} lets only \
         its owner replace it; hint: chown {own} {path}, or use another path",
        users::describe_user(file.st_uid),
        own = own.as_raw(),
    ))
}

/// The problem of a file with further names, which may be those of rekeyd's own files or
/// of another sink's: written in place, it changes under all of them. Names that appear
/// after the start are in no configuration.
pub(super) fn other_names_problem(location: &TargetLocation, file: &Stat) -> Option<String> {
    let path = location.path().display();
    (file.st_nlink > 1).then(|| {
        format!(
            "{path} has {} hard links, and writing it in place would change all of them; hint: use \
             a file with a single name",
            file.st_nlink
        )
    })
}

/// The problem of a file that is to get another owner: the former one may have it open, and
/// would read what is written in place.
pub(super) fn former_owner_problem(location: &TargetLocation, file: &Stat) -> Option<String> {
    let (owner, _) = location.configured_ownership().ok()?;
    let (owner, former) = (owner?.as_raw(), file.st_uid);
    let is_trusted = !path_walk::is_foreign(former) || path_walk::is_unmapped(former);
    if owner == former || is_trusted {
        return None;
    }
    let path = location.path().display();
    Some(format!(
        "{path} belongs to {}, who may have it open and would read what is written in place for \
         {}; hint: put a new file there, with `rm {path}` if it is not mounted, or set \
         owner = \"{}\" in this sink",
        users::describe_user(former),
        users::describe_user(owner),
        users::name_or_number(former),
    ))
}

/// The problem of a file that cannot be written in place.
fn write_problem(location: &TargetLocation, folder: &OwnedFd, file: &Stat) -> Option<String> {
    let known = other_names_problem(location, file);
    if let Some(problem) = known.or_else(|| former_owner_problem(location, file)) {
        return Some(problem);
    }
    let path = location.path().display();
    let access = fs::accessat(
        folder,
        location.file_name(),
        Access::WRITE_OK,
        AtFlags::EACCESS,
    );
    if let Err(error) = access {
        return Some(format!(
            "cannot write {path}: {}",
            location.describe_file_error(error)
        ));
    }
    let can_change =
        Uid::from_raw(file.st_uid) == rustix::process::geteuid() || users::can_act_as_any_owner();
    if can_change {
        return None;
    }
    exposure_problem(location, file)
}

/// The problem of another user's file that is open to more than the configured mode allows,
/// which only its owner can change.
pub(super) fn exposure_problem(location: &TargetLocation, file: &Stat) -> Option<String> {
    let path = location.path().display();
    let mode = Mode::from_raw_mode(file.st_mode);
    let shown_mode = mode.as_raw_mode() & 0o7777;
    let configured = location.mode().as_raw_mode();
    if (mode & !location.mode()).intersects(Mode::RWXO) {
        return Some(format!(
            "{path} has mode {shown_mode:04o}, and only its owner can change it to \
             {configured:04o}; hint: chmod {configured:04o} {path}"
        ));
    }
    // With an access control list the bits of the group are its mask.
    let group_rights = attributes::owning_group_rights(location.path())
        .map_or(mode.as_raw_mode() >> 3 & 0o7, u32::from);
    let wider_mode = configured | group_rights << 3;
    // The group lets this process write: only further members count.
    let members = users::group_members(file.st_gid);
    let has_others = members.is_none_or(|members| members.into_iter().any(path_walk::is_foreign));
    (wider_mode != configured && has_others).then(|| {
        format!(
            "{path} is open to {}, mode {configured:04o} allows that group less, and only the \
             owner of the file can change it; hint: run `chown {} {path}`, or set \
             mode = \"{wider_mode:04o}\" if the group may read the key",
            users::describe_group(file.st_gid),
            rustix::process::geteuid().as_raw(),
        )
    })
}
