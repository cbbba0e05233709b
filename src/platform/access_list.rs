//! POSIX access control lists in the form of the kernel, see acl(5).

use std::io;

use rustix::io::Errno;
use rustix::path::Arg;

/// The attribute with the list that decides who may do what with a file or folder.
pub const ACCESS_LIST: &str = "system.posix_acl_access";

/// The attribute of a folder with the list that new files in it get.
pub const DEFAULT_LIST: &str = "system.posix_acl_default";

/// What a list begins with.
pub const VERSION: [u8; 4] = 2_u32.to_le_bytes();

/// The length of one entry: tag, rights and id.
const ENTRY_BYTES: usize = 8;

/// The tags of entries.
pub const OWNER: u16 = 0x01;
/// The tag of a user other than the owner.
pub const NAMED_USER: u16 = 0x02;
/// The tag of the group that the file has.
pub const OWNING_GROUP: u16 = 0x04;
/// The tag of another group.
pub const NAMED_GROUP: u16 = 0x08;
/// The tag of what all entries but those of the owner and of others may grant at most.
pub const MASK: u16 = 0x10;
/// The tag of everybody else.
pub const OTHERS: u16 = 0x20;

/// The three rights.
pub const ALL_RIGHTS: u16 = 0o7;
/// The right to read.
pub const READ: u16 = 0o4;
/// The right to write.
pub const WRITE: u16 = 0o2;

/// One entry of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessEntry {
    /// Whom it is about.
    pub tag: u16,
    /// What it grants, without the mask.
    pub rights: u16,
    /// The number of the user or group that it names.
    pub id: u32,
}

/// The longest list that the kernel returns, see listxattr(2).
const MAX_LIST_BYTES: usize = 64 * 1024;

impl AccessEntry {
    /// Whether it is about a user or group by name.
    #[must_use]
    pub const fn is_named(&self) -> bool {
        matches!(self.tag, NAMED_USER | NAMED_GROUP)
    }
}

/// Reads the list of a file or folder, following links; none if it has none.
///
/// # Errors
/// The system's, or the list has another form.
pub fn read(path: impl Arg) -> io::Result<Option<Vec<AccessEntry>>> {
    let mut list = vec![0_u8; MAX_LIST_BYTES];
    match rustix::fs::getxattr(path, ACCESS_LIST, &mut list[..]) {
        Ok(length) => match parse(&list[..length]) {
            Some(entries) => Ok(Some(entries)),
            None => Err(io::ErrorKind::InvalidData.into()),
        },
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads a list. Returns `None` for one of another form.
#[must_use]
pub fn parse(list: &[u8]) -> Option<Vec<AccessEntry>> {
    let entries = list.strip_prefix(&VERSION)?;
    if !entries.len().is_multiple_of(ENTRY_BYTES) {
        return None;
    }
    let entries = entries.chunks_exact(ENTRY_BYTES).map(|entry| AccessEntry {
        tag: u16::from_le_bytes([entry[0], entry[1]]),
        rights: u16::from_le_bytes([entry[2], entry[3]]),
        id: u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]),
    });
    Some(entries.collect())
}

/// Returns a list in the form of the kernel.
#[must_use]
pub fn write(entries: &[AccessEntry]) -> Vec<u8> {
    let mut list = VERSION.to_vec();
    for entry in entries {
        list.extend(entry.tag.to_le_bytes());
        list.extend(entry.rights.to_le_bytes());
        list.extend(entry.id.to_le_bytes());
    }
    list
}

/// Returns the rights that the mask of a list leaves to all but the owner and others.
#[must_use]
pub fn mask(entries: &[AccessEntry]) -> u16 {
    let mask = entries.iter().find(|entry| entry.tag == MASK);
    mask.map_or(ALL_RIGHTS, |mask| mask.rights)
}
