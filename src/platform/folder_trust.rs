//! Whether only trusted users can exchange a file by its path: the folders on the way to it.

use std::path::Path;

use crate::platform::path_walk::{self, PathTrust, Weakness};

/// Returns the part of the path of `folder` by which others than root, the user of this
/// process and the `trusted` users could exchange what is in it. Blocks.
///
/// # Errors
/// The system's.
pub fn untrusted_part(folder: &Path, trusted: &[u32]) -> std::io::Result<Option<Weakness>> {
    let folder = std::path::absolute(folder)?;
    let trust = PathTrust {
        users: trusted,
        ..PathTrust::default()
    };
    let walked = path_walk::walk_to_folder(&folder, &trust)?;
    Ok(walked.weaknesses.into_iter().next())
}
