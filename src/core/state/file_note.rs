//! What identifies the file that a delivery left.

/// The identity of a file as a delivery left it: each later write, replacement or change
/// changes at least one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileNote {
    /// The device.
    pub device: i64,
    /// The inode.
    pub inode: i64,
    /// The size in bytes.
    pub size: i64,
    /// When its content was changed, in nanoseconds of the Unix time.
    pub modified_at: i64,
    /// When its inode was changed, in nanoseconds of the Unix time.
    pub changed_at: i64,
}
