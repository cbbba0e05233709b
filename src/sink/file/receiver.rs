//! Who gets the secret with the file: its owner and its group, if somebody said so.
//!
//! The new file keeps the owner and the group of the present one. Whoever can put a file there
//! would get each new secret, so those of a file that rekeyd did not leave to them count only
//! where nobody but root and rekeyd's user could have put it there. An owner who lost the file
//! since could not read the next one.

use std::os::fd::AsFd;

use rustix::fs::{self, Gid, Mode, Stat};

use super::settings::WriteMode;
use super::target::TargetLocation;
use crate::core::shell::quote;
use crate::core::state::FileAccess;
use crate::platform::path_walk::{self, Weakness, WeaknessKind};
use crate::platform::users;

impl TargetLocation {
    /// Returns why no new secret may be written: the last recorded delivery left the present
    /// file to another owner or group, who would not get it, and nobody said who does.
    pub(super) fn receiver_problems(&self, folder: impl AsFd, present: &Stat) -> Vec<String> {
        let owner = self
            .owner_difference(present, self.recorded_access())
            .filter(|_| self.target.owner.is_none());
        let group = || {
            let recorded = self.recorded_access()?;
            let is_decided = self.target.group.is_some()
                || has_setgid(folder)
                || self.next_group(present.st_gid) == recorded.group;
            let difference = self.group_difference(present, Some(recorded));
            difference.filter(|_| !is_decided)
        };
        owner.into_iter().chain(group()).collect()
    }

    /// Returns how owner and group of the present file differ from those of the last recorded
    /// delivery and from the configured ones. Blocks.
    pub(super) fn ownership_differences(
        &self,
        present: &Stat,
        recorded: Option<FileAccess>,
    ) -> Vec<String> {
        let (owner, group) = self.configured_ownership().unwrap_or_default();
        let is_configured = owner.is_some_and(|owner| owner.as_raw() == present.st_uid);
        let of_owner = self
            .owner_difference(present, recorded)
            .filter(|_| !is_configured);
        let is_configured = group.is_some_and(|group| group.as_raw() == present.st_gid);
        let is_of_folder = || {
            // A folder with the bit gives its group to the files.
            let folder = fs::stat(self.folder());
            folder.is_ok_and(|folder| is_setgid(&folder) && folder.st_gid == present.st_gid)
        };
        let of_group = self
            .group_difference(present, recorded)
            .filter(|_| !is_configured && !is_of_folder());
        of_owner.into_iter().chain(of_group).collect()
    }

    /// Describes another owner than the last recorded delivery left. Root and rekeyd's user
    /// are as good as each other.
    fn owner_difference(&self, present: &Stat, recorded: Option<FileAccess>) -> Option<String> {
        let owner = present.st_uid;
        let is_moved = has_moved_with_user(present, recorded);
        let recorded = recorded?.owner;
        let has_consumer = path_walk::is_foreign(owner) || path_walk::is_foreign(recorded);
        if owner == recorded || is_moved || !has_consumer || path_walk::is_unmapped(owner) {
            return None;
        }
        let consequence = if path_walk::is_foreign(owner) {
            ", who would get each new secret,"
        } else {
            ","
        };
        let configured = self.target.owner.clone();
        Some(format!(
            "{path} belongs to {owner_text}{consequence} but the last delivery left it to \
             {recorded_text}; hint: {advice}run `chown {former} {quoted}`",
            path = self.path().display(),
            owner_text = users::describe_user(owner),
            recorded_text = users::describe_user(recorded),
            advice = self.advice_for(owner),
            former = configured.unwrap_or_else(|| users::name_or_number(recorded)),
            quoted = quote(&self.path().to_string_lossy()),
        ))
    }

    /// Describes another group than the last recorded delivery left.
    fn group_difference(&self, present: &Stat, recorded: Option<FileAccess>) -> Option<String> {
        let group = present.st_gid;
        let is_moved = has_moved_with_user(present, recorded);
        let recorded = recorded?.group;
        let has_consumer = is_foreign_group(group) || is_foreign_group(recorded);
        if group == recorded || is_moved || !has_consumer {
            return None;
        }
        let name = group_text(group);
        let advice = if self.target.group.is_some() || !self.has_owner_option() {
            String::new()
        } else {
            format!("if {name} is to have it, set group = \"{name}\" in this sink; otherwise ")
        };
        let configured = self.target.group.clone();
        Some(format!(
            "{path} belongs to the group {group_text}, but the last delivery left it to the group \
             {recorded_text}; hint: {advice}run `chgrp {former} {quoted}`",
            path = self.path().display(),
            group_text = users::describe_group(group),
            recorded_text = users::describe_group(recorded),
            former = configured.unwrap_or_else(|| group_text(recorded)),
            quoted = quote(&self.path().to_string_lossy()),
        ))
    }

    /// Returns the group that the file has after a write, if the present one has `group` and
    /// nothing else decides.
    fn next_group(&self, group: u32) -> u32 {
        let is_kept = self.target.write == WriteMode::InPlace
            || users::can_chown_to_group(Gid::from_raw(group));
        if is_kept {
            group
        } else {
            rustix::process::getegid().as_raw()
        }
    }

    /// Returns the line of the configuration that settles a weakness, with a trailing word:
    /// who is to get the secret may own the folders that lead to it.
    pub(super) fn owner_advice(&self, weakness: &Weakness) -> String {
        let WeaknessKind::Owner(owner) = weakness.kind else {
            return String::new();
        };
        self.advice_for(owner)
    }

    fn advice_for(&self, owner: u32) -> String {
        if self.target.owner.is_some() || !self.has_owner_option() {
            return String::new();
        }
        let name = users::name_or_number(owner);
        format!("if {name} is to get the secret, set owner = \"{name}\" in this sink; otherwise ")
    }
}

/// Returns whether a file belongs to this process's own user, and not to the one of its last
/// delivery: a daemon that gets another user gets its files with it. A process of root's could
/// give the file back to its consumer.
fn has_moved_with_user(present: &Stat, recorded: Option<FileAccess>) -> bool {
    let user = rustix::process::geteuid();
    let belongs_to_process = !user.is_root() && present.st_uid == user.as_raw();
    belongs_to_process && recorded.is_some_and(|recorded| recorded.owner != user.as_raw())
}

/// Whether a group is neither root's nor the one of this process.
fn is_foreign_group(group: u32) -> bool {
    group != 0 && group != rustix::process::getegid().as_raw()
}

fn group_text(group: u32) -> String {
    users::group_text(Gid::from_raw(group))
}

fn has_setgid(folder: impl AsFd) -> bool {
    fs::fstat(folder).is_ok_and(|folder| is_setgid(&folder))
}

fn is_setgid(folder: &Stat) -> bool {
    Mode::from_raw_mode(folder.st_mode).contains(Mode::SGID)
}
