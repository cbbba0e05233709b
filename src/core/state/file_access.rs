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

/// The bits of a mode that let others than the owner read or write.
const ACCESS_OF_OTHERS: u32 = 0o066;

/// A mode of a delivered file that was wider than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModeNarrowing {
    /// The mode that it was, at most 0o7777.
    pub from: u32,
    /// The mode that it is now.
    pub to: u32,
    /// Who widened it, as far as the mode shows that.
    pub cause: WideningCause,
}

/// Who widened the mode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WideningCause {
    /// Nobody: the delivery left it so, and the configuration allows less since.
    Configuration,
    /// Kubernetes, which gives the files of a volume to the group `fsGroup` of the pod.
    FsGroup,
    /// Somebody else.
    Other,
}

impl ModeNarrowing {
    /// Whether others than the delivery let could read the secret or change it.
    #[must_use]
    pub const fn exposes_secret(self) -> bool {
        let is_unexpected = matches!(self.cause, WideningCause::Other);
        is_unexpected && self.from & !self.to & ACCESS_OF_OTHERS != 0
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
