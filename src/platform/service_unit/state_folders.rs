//! The folders of a service's state, which the service manager makes at its start.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, fchown};
use std::path::Path;

use rustix::fs::{Gid, Uid};

use super::{ServiceUnit, own_folder};
use crate::platform::path_walk::{self, PathTrust};
use crate::platform::users;

/// The mode of a folder of which the unit names none, see systemd.exec(5).
const DEFAULT_MODE: u32 = 0o755;

impl ServiceUnit {
    /// Makes the missing folders of `StateDirectory=` as the service manager does at the
    /// start, for `owner`, or else for the user of this process. A folder that is there
    /// stays as it is.
    ///
    /// # Errors
    /// The system's.
    pub fn make_state_folders(&self, owner: Option<(Uid, Gid)>) -> io::Result<()> {
        if self.is_on("DynamicUser") {
            // Its folder is a link into a private one, for a user that does not exist yet.
            return Ok(());
        }
        let mode = self.settings.last("StateDirectoryMode");
        let mode = mode.and_then(|mode| u32::from_str_radix(mode, 8).ok());
        for folder in self.settings.words("StateDirectory") {
            let Some(path) = own_folder("/var/lib", &folder) else {
                continue;
            };
            let path = self.root.join(path.strip_prefix("/").unwrap_or(&path));
            if path.symlink_metadata().is_err() {
                make_folder(&path, mode.unwrap_or(DEFAULT_MODE), owner)?;
            }
        }
        Ok(())
    }
}

/// Makes a folder that nobody else can use before it has its owner. The folders above it may
/// belong to the user of the service, whose links lead nowhere.
fn make_folder(path: &Path, mode: u32, owner: Option<(Uid, Gid)>) -> io::Result<()> {
    if let Some(parent) = path.parent()
        && parent.symlink_metadata().is_err()
    {
        make_folder(parent, DEFAULT_MODE, None)?;
    }
    let walked = path_walk::walk_to_file(path, &PathTrust::default())?;
    if let Some(link) = walked.foreign_links.first() {
        let (link, owner) = (link.path.display(), users::describe_user(link.owner));
        return Err(io::Error::other(format!(
            "{link} is a symbolic link of {owner}; hint: if it leads where it should, run `chown -h \
             root {link}`"
        )));
    }
    let folder = File::from(walked.create_folder()?);
    if let Some((user, group)) = owner {
        fchown(&folder, Some(user.as_raw()), Some(group.as_raw()))?;
    }
    folder.set_permissions(Permissions::from_mode(mode))
}
