//! The access control list and the extended attributes of the file that is
//! replaced, which the new file keeps as it keeps owner and group.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{self, Mode, Stat};
use rustix::io::Errno;

use super::acl;
use super::disk;

use crate::core::os_error;
use crate::platform::access_list::{self, ACCESS_LIST as ACL, AccessEntry, DEFAULT_LIST, READ};

/// The namespaces of the attributes that are kept. Others belong to the file
/// system, which sets them itself.
const KEPT_NAMESPACES: [&str; 5] = [
    "user.",
    "security.",
    "trusted.",
    "system.nfs4_acl",
    "system.richacl",
];

/// Attributes that the kernel computes from the content.
const COMPUTED: [&str; 2] = ["security.ima", "security.evm"];

/// The longest list and the longest value of attributes that Linux allows.
const MAX_ATTRIBUTE_BYTES: usize = 64 * 1024;

/// The reason why a new file does not get the access that it is to give.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttributeError {
    /// It would lack an attribute.
    #[error(
        "cannot copy the attribute {name} from the current file: {}",
        os_error::describe(source)
    )]
    Lost {
        /// The attribute.
        name: String,
        /// The error of the system.
        source: io::Error,
    },
    /// Its mode cannot be set.
    #[error("cannot set the mode: {}", os_error::describe(source))]
    Mode {
        /// The error of the system.
        source: io::Error,
    },
}

/// The attributes of the present file.
#[derive(Debug, Default)]
pub(super) struct KeptAttributes {
    /// Whether there is a present file.
    has_file: bool,
    /// Whether it belongs to the user of this process.
    has_own_owner: bool,
    attributes: Vec<(OsString, Vec<u8>)>,
    access_list: Option<Vec<u8>>,
    /// The list that the folder gives to new files.
    default_list: Option<Vec<AccessEntry>>,
}

impl KeptAttributes {
    /// Reads the attributes of the file at `path`; none if there is no file.
    pub(super) fn read(path: &Path) -> Result<Self, AttributeError> {
        let default_list = read_default_list(path);
        let mut list = vec![0_u8; MAX_ATTRIBUTE_BYTES];
        let length = match fs::llistxattr(path, &mut list[..]) {
            Ok(length) => length,
            Err(Errno::NOENT) => {
                return Ok(Self {
                    default_list,
                    ..Self::default()
                });
            }
            Err(Errno::NOTSUP | Errno::NOSYS) => 0,
            Err(error) => return Err(attribute_loss(OsStr::new("(list)"), error)),
        };
        let mut kept = Self {
            has_file: true,
            has_own_owner: fs::lstat(path).is_ok_and(|stat| has_own_owner(&stat)),
            default_list,
            ..Self::default()
        };
        let names = list[..length].split(|byte| *byte == 0);
        for name in names.map(OsStr::from_bytes) {
            if name == ACL {
                kept.access_list = read_attribute(path, name)?;
            } else if is_kept(name) {
                let value = read_attribute(path, name)?;
                kept.attributes
                    .extend(value.map(|value| (name.to_owned(), value)));
            }
        }
        Ok(kept)
    }

    /// Whether there is nothing to keep.
    pub(super) const fn is_empty(&self) -> bool {
        self.attributes.is_empty() && self.access_list.is_none()
    }

    /// Whether the access control list, if there is one, lets the owning group read.
    pub(super) fn owning_group_reads(&self) -> Option<bool> {
        let entries = access_list::parse(self.access_list.as_deref()?)?;
        Some(acl::owning_group_rights(&entries)? & READ != 0)
    }

    /// Whether there is a present file.
    pub(super) const fn has_file(&self) -> bool {
        self.has_file
    }

    /// Returns a user or group that an entry of the access control list lets read, and that
    /// could not read the file with `mode`.
    pub(super) fn masked_reader(&self, mode: Mode) -> Option<AccessEntry> {
        let list = acl::with_mode(&self.new_list()??, mode)?;
        let own = (rustix::process::geteuid(), rustix::process::getegid());
        acl::masked_reader(&list, (own.0.as_raw(), own.1.as_raw()))
    }

    /// Returns the users and groups that the access control list of the new file with `mode`
    /// lets read.
    pub(super) fn listed_readers(&self, mode: Mode) -> Vec<AccessEntry> {
        let list = self.new_list().flatten();
        let list = list.and_then(|list| acl::with_mode(&list, mode));
        let own = (rustix::process::geteuid(), rustix::process::getegid());
        acl::readers(&list.unwrap_or_default(), (own.0.as_raw(), own.1.as_raw()))
    }

    /// Whether this process may change the mode and the list of the present file.
    pub(super) fn can_change_mode(&self) -> bool {
        self.has_own_owner || rustix::process::geteuid().is_root()
    }

    /// Returns a user or group that an entry of the present access control list lets read,
    /// and that cannot read the file as it is.
    pub(super) fn present_masked_reader(&self) -> Option<AccessEntry> {
        let list = access_list::parse(self.access_list.as_deref()?)?;
        let own = (rustix::process::geteuid(), rustix::process::getegid());
        acl::masked_reader(&list, (own.0.as_raw(), own.1.as_raw()))
    }

    /// Returns the entries of the list that the new file gets, before its mode counts: those
    /// of the present file, or without a file those of the folder's default. The outer value
    /// is `None` for a list that cannot be read.
    #[allow(clippy::option_option)]
    fn new_list(&self) -> Option<Option<Vec<AccessEntry>>> {
        let default = self.default_list.as_deref();
        let Some(list) = &self.access_list else {
            let inherited = default.filter(|_| !self.has_file).map(acl::inherited);
            return Some(inherited);
        };
        let entries = access_list::parse(list)?;
        let restored = default
            .filter(|_| self.has_own_owner)
            .and_then(|default| acl::restored(&entries, default));
        Some(Some(restored.unwrap_or(entries)))
    }

    /// Sets the attributes of the new file, as long as this process owns it.
    pub(super) fn apply(&self, file: &File) -> Result<(), AttributeError> {
        for (name, value) in &self.attributes {
            // A security module has mostly labelled the new file like the old.
            if read_own_attribute(file, name).as_ref() != Some(value) {
                disk::set_attribute(file, name, value)
                    .map_err(|error| attribute_loss(name, error))?;
            }
        }
        Ok(())
    }

    /// Sets the mode of the new file, and its access control list: that of the
    /// present file, or without one that of the folder's default.
    pub(super) fn apply_mode(&self, file: &File, mode: Mode) -> Result<(), AttributeError> {
        let acl_name = OsStr::new(ACL);
        let has_inherited = read_own_attribute(file, acl_name).is_some();
        if self.has_file && has_inherited {
            disk::remove_attribute(file, acl_name)
                .map_err(|error| attribute_loss(acl_name, error))?;
        }
        // A default without a mask is in the mode of the new file.
        if !self.has_file && !has_inherited {
            return set_mode(file, mode);
        }
        self.set_mode_and_list(file, mode)
    }

    fn set_mode_and_list(&self, file: &File, mode: Mode) -> Result<(), AttributeError> {
        set_mode(file, mode)?;
        let acl_name = OsStr::new(ACL);
        let invalid = || attribute_loss(acl_name, Errno::INVAL);
        let Some(list) = self.new_list().ok_or_else(invalid)? else {
            return Ok(());
        };
        let list = acl::with_mode(&list, mode).ok_or_else(invalid)?;
        disk::set_attribute(file, acl_name, &access_list::write(&list))
            .map_err(|error| attribute_loss(acl_name, error))
    }
}

/// Sets the mode of the file at `path` that stays, and keeps its access control list.
pub(super) fn change_mode(file: &File, path: &Path, mode: Mode) -> Result<(), AttributeError> {
    let kept = KeptAttributes {
        has_file: true,
        has_own_owner: fs::fstat(file).is_ok_and(|stat| has_own_owner(&stat)),
        attributes: Vec::new(),
        access_list: read_own_attribute(file, OsStr::new(ACL)),
        default_list: read_default_list(path),
    };
    kept.set_mode_and_list(file, mode)
}

fn set_mode(file: &File, mode: Mode) -> Result<(), AttributeError> {
    disk::set_mode(file, mode).map_err(|error| AttributeError::Mode {
        source: error.into(),
    })
}

fn has_own_owner(stat: &Stat) -> bool {
    stat.st_uid == rustix::process::geteuid().as_raw()
}

/// Returns the rights of the owning group of the file at `path` by its access control list,
/// if it has one.
pub(super) fn owning_group_rights(path: &Path) -> Option<u16> {
    let list = read_attribute(path, OsStr::new(ACL)).ok()??;
    acl::owning_group_rights(&access_list::parse(&list)?)
}

/// Returns the list that the folder of `path` gives to new files.
fn read_default_list(path: &Path) -> Option<Vec<AccessEntry>> {
    let list = read_attribute(path.parent()?, OsStr::new(DEFAULT_LIST)).ok()??;
    access_list::parse(&list)
}

/// Whether a file has an access control list besides its mode.
pub(super) fn has_access_list(file: &File) -> bool {
    read_own_attribute(file, OsStr::new(ACL)).is_some()
}

fn is_kept(name: &OsStr) -> bool {
    let in_namespace = KEPT_NAMESPACES
        .iter()
        .any(|namespace| name.as_bytes().starts_with(namespace.as_bytes()));
    in_namespace && !COMPUTED.iter().any(|computed| name == *computed)
}

/// Returns the value of an attribute, if it was not removed in between.
fn read_attribute(path: &Path, name: &OsStr) -> Result<Option<Vec<u8>>, AttributeError> {
    let mut value = vec![0_u8; MAX_ATTRIBUTE_BYTES];
    match fs::lgetxattr(path, name, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA) => Ok(None),
        Err(error) => Err(attribute_loss(name, error)),
    }
}

fn read_own_attribute(file: impl AsFd, name: &OsStr) -> Option<Vec<u8>> {
    let mut value = vec![0_u8; MAX_ATTRIBUTE_BYTES];
    let length = fs::fgetxattr(file, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

fn attribute_loss(name: &OsStr, error: Errno) -> AttributeError {
    AttributeError::Lost {
        name: name.to_string_lossy().into_owned(),
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_the_content_and_of_the_file_system_are_not_kept() {
        for name in [
            "user.origin",
            "security.selinux",
            "security.SMACK64",
            "trusted.note",
            "system.nfs4_acl",
        ] {
            assert!(is_kept(OsStr::new(name)), "{name}");
        }
        for name in [
            "security.ima",
            "security.evm",
            "btrfs.compression",
            "system.cifs_acl",
            "system.posix_acl_default",
            "User.origin",
            "xuser.origin",
            "user",
            "",
        ] {
            assert!(!is_kept(OsStr::new(name)), "{name}");
        }
        assert!(is_kept(OsStr::from_bytes(b"user.\xff")));
    }
}
