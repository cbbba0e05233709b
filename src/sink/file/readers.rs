//! Whether the users who can read the present file can also read the new one.
//!
//! Owner and group of the present file are kept where this process may set them. Where it
//! may not, the consumer could be left with a file that it cannot read.

#[cfg(test)]
mod tests;

use rustix::fs::{Gid, Mode, Stat, Uid};

use super::attributes::KeptAttributes;
use super::settings::{DEFAULT_MODE, FileTarget};
use super::target::TargetLocation;
use crate::core::first_few::join_few;
use crate::platform::access_list::{AccessEntry, NAMED_USER};
use crate::platform::users;

/// Who can read the present file by its owner and its group.
#[derive(Debug, Clone, Copy)]
pub(super) struct PresentReaders {
    owner: Uid,
    group: Gid,
    owner_reads: bool,
    group_reads: bool,
}

/// The owner and the group that a new file really got, and what decided on them.
#[derive(Debug, Clone, Copy)]
struct NewAccess {
    owner: Uid,
    group: Gid,
    mode: Mode,
    /// Whether the configuration names the owner, and the group: it decides for itself.
    owner_configured: bool,
    group_configured: bool,
}

/// A user or a group that can read the present file and could not read the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReaderLoss {
    /// The owner of the present file.
    Owner(Uid),
    /// Its group, which the new file does not have.
    Group(Gid),
    /// Its group, which the default mode does not let read.
    GroupRead(Gid),
}

impl PresentReaders {
    /// Returns the readers of the file with `stat`. With an access control list,
    /// `list_group_reads` says whether that lets the owning group read: the mode has its
    /// mask.
    pub(super) fn new(stat: &Stat, list_group_reads: Option<bool>) -> Self {
        let mode = Mode::from_raw_mode(stat.st_mode);
        Self {
            owner: Uid::from_raw(stat.st_uid),
            group: Gid::from_raw(stat.st_gid),
            owner_reads: mode.contains(Mode::RUSR),
            group_reads: list_group_reads.unwrap_or_else(|| mode.contains(Mode::RGRP)),
        }
    }

    /// Returns why the new file with `stat` must not take the place of the present one of
    /// these readers.
    pub(super) fn loss_by(self, stat: &Stat, location: &TargetLocation) -> Option<String> {
        let new = NewAccess {
            owner: Uid::from_raw(stat.st_uid),
            group: Gid::from_raw(stat.st_gid),
            mode: location.mode(),
            owner_configured: location.target.owner.is_some(),
            group_configured: location.target.group.is_some(),
        };
        let own = (rustix::process::geteuid(), rustix::process::getegid());
        let loss = find_loss(self, new, own, is_known_member)?;
        Some(describe(loss, self, location))
    }
}

/// Whether `user` is a member of `group`; `None` if `/etc/passwd` does not have the user.
fn is_known_member(user: Uid, group: Gid) -> Option<bool> {
    let account = users::find_account(&user.as_raw().to_string()).ok()?;
    Some(account.group == group || account.groups.contains(&group))
}

/// Returns the reader of the present file that the new one would not have. Root reads
/// every file, and the user and the group of this process, `own`, are no consumers.
fn find_loss(
    present: PresentReaders,
    new: NewAccess,
    own: (Uid, Gid),
    is_member: impl Fn(Uid, Gid) -> Option<bool>,
) -> Option<ReaderLoss> {
    let group_reads = new.mode.contains(Mode::RGRP);
    let reads_by_group = || {
        group_reads
            && is_member(present.owner, new.group).unwrap_or_else(|| {
                new.group_configured || (new.group == present.group && new.group != own.1)
            })
    };
    let owner_is_consumer = present.owner_reads && !present.owner.is_root();
    if owner_is_consumer
        && present.owner != own.0
        && present.owner != new.owner
        && !new.owner_configured
        && !reads_by_group()
    {
        return Some(ReaderLoss::Owner(present.owner));
    }
    let group_is_consumer =
        present.group_reads && !present.group.is_root() && present.group != own.1;
    if !group_is_consumer || new.group_configured {
        return None;
    }
    // A file of rekeyd's own user has the mode of an earlier delivery, and a mode that is
    // not the default is the administrator's decision.
    let is_rekeyds = present.owner == own.0 && !own.0.is_root();
    let default_narrows = !group_reads && new.mode.as_raw_mode() == DEFAULT_MODE && !is_rekeyds;
    if group_reads && new.group != present.group {
        Some(ReaderLoss::Group(present.group))
    } else if default_narrows {
        Some(ReaderLoss::GroupRead(present.group))
    } else {
        None
    }
}

/// Describes a loss, with what helps.
fn describe(loss: ReaderLoss, present: PresentReaders, location: &TargetLocation) -> String {
    let path = location.path().display();
    let folder = location.folder().display();
    let owner = user_name(present.owner);
    let group = group_name(present.group);
    let own = user_name(rustix::process::geteuid());
    match loss {
        ReaderLoss::Owner(_) => format!(
            "cannot replace {path}: it belongs to user {owner}, who could not read the new file; \
             hint: run `chgrp GROUP {folder} && chmod g+s {folder}` with a group of that user and \
             set mode = \"0640\", or give rekeyd's unit the drop-in owner.conf; if {owner} does \
             not need the file, run `chown {own} {path}`"
        ),
        ReaderLoss::Group(_) => format!(
            "cannot replace {path}: it belongs to group {group}, which could not read the new \
             file; hint: run `chgrp {group} {folder} && chmod g+s {folder}`, or add rekeyd's user \
             to the group; if {group} does not need the file, run `chmod g-r {path}`"
        ),
        ReaderLoss::GroupRead(_) => format!(
            "cannot replace {path}: group {group} can read it, but could not read the new file \
             (mode 0600); hint: set mode = \"0640\"; if {group} does not need the file, run \
             `chmod g-r {path}`"
        ),
    }
}

/// Describes that the access control list of the present file, or without one the default
/// list of the folder, has an entry that lets a user or group read, and that has no effect
/// with the configured mode.
pub(super) fn describe_masked(
    entry: AccessEntry,
    location: &TargetLocation,
    has_file: bool,
) -> String {
    let path = location.path().display();
    let folder = location.folder().display();
    let (kind, letter, name) = named(entry);
    let mode = location.mode().as_raw_mode();
    let wider_mode = location.mode().union(Mode::RGRP).as_raw_mode();
    let (cause, removal) = if has_file {
        (
            format!("cannot write {path}: its access control list"),
            format!("setfacl -x {letter}:{name} {path}"),
        )
    } else {
        (
            format!("cannot create {path}: the default access control list of {folder}"),
            format!("setfacl -d -x {letter}:{name} {folder}"),
        )
    };
    format!(
        "{cause} lets {kind} {name} read, but with mode {mode:04o} that has no effect; hint: set \
         mode = \"{wider_mode:04o}\"; if {name} does not need the file, run `{removal}`"
    )
}

/// Describes that the access control list of a file that stays, and whose mode rekeyd cannot
/// change, has an entry that lets a user or group read and that has no effect.
pub(super) fn describe_masked_in_place(entry: AccessEntry, location: &TargetLocation) -> String {
    let path = location.path().display();
    let (kind, letter, name) = named(entry);
    format!(
        "cannot write {path}: its access control list lets {kind} {name} read, but its mask allows \
         no reading, and only the owner of the file can change that; hint: as the owner or root, \
         run `setfacl -m {letter}:{name}:r {path}`; if {name} does not need the file, run `setfacl \
         -x {letter}:{name} {path}`"
    )
}

/// Names the users and groups that read the next file of `target` by an access control list:
/// that of the present file, or without one the default list of its folder. None without any.
/// Blocks.
#[must_use]
pub(super) fn describe_listed(target: &FileTarget) -> Option<String> {
    let kept = KeptAttributes::read(&target.path).ok()?;
    let readers = kept.listed_readers(Mode::from_raw_mode(target.mode));
    let names = readers.into_iter().map(|entry| {
        let (kind, _, name) = named(entry);
        format!("{kind} {name}")
    });
    let names: Vec<_> = names.collect();
    let path = target.path.display();
    let folder = target.path.parent()?.display();
    let (list, command) = if kept.has_file() {
        (
            "its access control list".to_owned(),
            format!("getfacl {path}"),
        )
    } else {
        (
            format!("the default access control list of {folder}"),
            format!("getfacl {folder}"),
        )
    };
    (!names.is_empty()).then(|| {
        format!(
            "{} can read {path} by {list}; hint: `{command}` shows it",
            join_few(&names)
        )
    })
}

/// Returns what the entry names: the kind, its letter for setfacl, and the name.
fn named(entry: AccessEntry) -> (&'static str, char, String) {
    if entry.tag == NAMED_USER {
        ("user", 'u', user_name(Uid::from_raw(entry.id)))
    } else {
        ("group", 'g', group_name(Gid::from_raw(entry.id)))
    }
}

fn user_name(user: Uid) -> String {
    let user = user.as_raw();
    users::user_name(user).unwrap_or_else(|| user.to_string())
}

fn group_name(group: Gid) -> String {
    let group = group.as_raw();
    users::group_name(group).unwrap_or_else(|| group.to_string())
}
