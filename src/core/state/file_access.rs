//! Who could get the file that a delivery left.

use std::fmt;

use crate::core::state::file_note::FileNote;

/// The owner, the group and the permission bits of a file as a delivery left it, or as the
/// first check found it whose delivery recorded none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileAccess {
    /// The number of its owner.
    pub owner: u32,
    /// The number of its group.
    pub group: u32,
    /// Its permission bits, at most 0o7777.
    pub mode: u32,
}

impl fmt::Display for FileAccess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, group, mode } = self;
        write!(formatter, "uid {owner}, gid {group}, mode {mode:04o}")
    }
}

/// What an attempt left at a sink that writes a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftFile {
    /// What identifies the file, if its secret may be taken from it again.
    pub note: Option<FileNote>,
    /// Who could get it.
    pub access: Option<FileAccess>,
}
