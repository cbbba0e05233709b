//! Whose ledger it is: root is not to write that of another user.
//!
//! What root makes beside it (the files that SQLite keeps while it works, the
//! files of sinks) would belong to root, and the service could not write them
//! any more.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::geteuid;

use crate::platform::users;

/// Refuses to go on as root with the ledger at `path` if it is another user's.
///
/// # Errors
/// What to run instead, with `arguments`, those of this process.
pub(super) fn refuse_root(
    path: &Path,
    arguments: impl Iterator<Item = OsString>,
) -> Result<(), String> {
    // One that is not there yet will be its folder's.
    let folder = path.parent().unwrap_or(Path::new("/"));
    let found = path.metadata().or_else(|_| folder.metadata());
    let Ok(owner) = found.map(|found| found.uid()) else {
        // It cannot be seen: opening it will tell.
        return Ok(());
    };
    if !geteuid().is_root() || owner == 0 {
        return Ok(());
    }
    let name = users::user_name(owner);
    let whose = name.clone().unwrap_or_else(|| format!("user {owner}"));
    let program = match &name {
        Some(name) => format!("runuser -u {name} --"),
        None => format!("setpriv --reuid={owner} --clear-groups --"),
    };
    let words = arguments.map(|word| shell_quote(&word.to_string_lossy()));
    let line = std::iter::once(program).chain(words);
    Err(format!(
        "the ledger {} belongs to {whose}, and no rekeyd is running that could be asked; as root \
         this would leave files that {whose} cannot write; start the service first, or run: {}",
        path.display(),
        line.collect::<Vec<_>>().join(" ")
    ))
}

/// A word as a shell takes it.
fn shell_quote(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@%+,".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, expected) in [
            ("--config=/etc/a.toml", "--config=/etc/a.toml"),
            ("", "''"),
            ("somebody left", "'somebody left'"),
            ("it's $HOME", "'it'\\''s $HOME'"),
        ] {
            assert_eq!(shell_quote(word), expected);
        }
    }
}
