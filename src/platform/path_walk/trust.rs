//! Whom a path may depend on: root, this process's user, and whoever else its use allows.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rustix::fs::{FileType, Mode, Stat};

use super::weakness::{GroupMember, WeaknessKind};
use crate::platform::access_list::{
    self, AccessEntry, NAMED_GROUP, NAMED_USER, OWNING_GROUP, WRITE,
};
use crate::platform::users;

/// Whom a path may depend on, besides root and the user of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct PathTrust<'t> {
    /// The users that get what is written there.
    pub users: &'t [u32],
    /// The parts that an administrator allows as they are.
    pub allowed: &'t [PathBuf],
}

/// The parts of paths that an administrator allows as they are: `[security] trusted-paths`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedPaths(Arc<[PathBuf]>);

impl From<Vec<PathBuf>> for TrustedPaths {
    fn from(paths: Vec<PathBuf>) -> Self {
        Self(paths.into())
    }
}

impl TrustedPaths {
    /// Returns the trust in these parts, and in what only these users own or can write.
    #[must_use]
    pub fn and_users<'t>(&'t self, users: &'t [u32]) -> PathTrust<'t> {
        PathTrust {
            users,
            allowed: &self.0,
        }
    }
}

impl PathTrust<'_> {
    /// Returns what is weak about a folder or file that was opened.
    pub(super) fn inspect_opened(&self, stat: &Stat, opened: &OwnedFd) -> Vec<WeaknessKind> {
        let mode = Mode::from_raw_mode(stat.st_mode);
        let mut found = Vec::new();
        if self.is_foreign_owner(stat.st_uid) {
            found.push(WeaknessKind::Owner(stat.st_uid));
        }
        // With an access control list the bits of the group are its mask: without them nobody
        // but the owner and others can write.
        if mode.contains(Mode::WOTH) {
            let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            found.push(match is_folder && mode.contains(Mode::SVTX) {
                true => WeaknessKind::Shared,
                false => WeaknessKind::Others,
            });
        } else if mode.contains(Mode::WGRP) {
            match read_access_list(opened) {
                AccessList::None => found.extend(self.inspect_group(stat.st_gid)),
                AccessList::Entries(entries) => found.extend(self.inspect_list(stat, &entries)),
                AccessList::Unreadable => found.push(WeaknessKind::UnreadableList),
            }
        }
        found
    }

    /// Returns what is weak about a link with this owner.
    pub(super) fn inspect_link(&self, owner: u32) -> Option<WeaknessKind> {
        (is_foreign(owner) && !is_unmapped(owner)).then_some(WeaknessKind::Link(owner))
    }

    /// Whether an administrator allows a part as it is.
    #[must_use]
    pub fn is_allowed(&self, path: &Path) -> bool {
        self.allowed.iter().any(|allowed| allowed == path)
    }

    /// Whether what this user owns may not be trusted.
    #[must_use]
    pub fn is_foreign_owner(&self, user: u32) -> bool {
        !self.is_trusted(user) && !is_unmapped(user)
    }

    fn inspect_list(&self, stat: &Stat, entries: &[AccessEntry]) -> Vec<WeaknessKind> {
        let mask = access_list::mask(entries);
        let writers = entries
            .iter()
            .filter(|entry| entry.rights & mask & WRITE != 0);
        writers
            .filter_map(|entry| match entry.tag {
                NAMED_USER => {
                    (!self.is_trusted(entry.id)).then_some(WeaknessKind::ListedUser(entry.id))
                }
                OWNING_GROUP => self.inspect_group(stat.st_gid),
                NAMED_GROUP => self.inspect_group(entry.id),
                _ => None,
            })
            .collect()
    }

    fn inspect_group(&self, group: u32) -> Option<WeaknessKind> {
        let Some(members) = users::group_members(group) else {
            return Some(WeaknessKind::Group(group, GroupMember::Unknown));
        };
        let mut others = members.into_iter().filter(|user| !self.is_trusted(*user));
        let other = others.next()?;
        Some(WeaknessKind::Group(group, GroupMember::User(other)))
    }

    fn is_trusted(&self, user: u32) -> bool {
        !is_foreign(user) || self.users.contains(&user)
    }
}

/// Whether a user is neither root nor the one of this process.
#[must_use]
pub fn is_foreign(user: u32) -> bool {
    user != 0 && user != rustix::process::geteuid().as_raw()
}

enum AccessList {
    None,
    Entries(Vec<AccessEntry>),
    Unreadable,
}

/// Reads the list of what was opened by the name that the kernel gives it, since the
/// attributes of a descriptor without a right to read cannot be read.
fn read_access_list(opened: &OwnedFd) -> AccessList {
    match access_list::read(format!("/proc/self/fd/{}", opened.as_raw_fd())) {
        Ok(None) => AccessList::None,
        Ok(Some(entries)) => AccessList::Entries(entries),
        Err(_) => AccessList::Unreadable,
    }
}

/// Whether a user is one that this user namespace has no number for: the mode alone tells
/// then who can write.
#[must_use]
pub fn is_unmapped(user: u32) -> bool {
    *UNMAPPED_USER == Some(user)
}

static UNMAPPED_USER: LazyLock<Option<u32>> = LazyLock::new(|| {
    let map = std::fs::read_to_string("/proc/self/uid_map").ok()?;
    let unmapped = std::fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?;
    (!maps_all_users(&map)).then(|| unmapped.trim().parse().ok())?
});

/// Whether a text of the form of `/proc/PID/uid_map` has all numbers.
fn maps_all_users(map: &str) -> bool {
    let lengths = map.lines().map(|line| {
        let length = line.split_whitespace().nth(2);
        length
            .and_then(|length| length.parse::<u64>().ok())
            .unwrap_or(0)
    });
    lengths.sum::<u64>() >= u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_user_namespace_has_all_users() {
        for (map, expected) in [
            ("         0          0 4294967295\n", true),
            ("         0     100000      65536\n", false),
            ("0 1000 1\n1 100000 65536\n", false),
            ("0 0 1000\n1000 1000 4294966295\n", true),
            ("", false),
        ] {
            assert_eq!(maps_all_users(map), expected, "{map}");
        }
    }
}
