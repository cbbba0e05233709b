//! The check of the ledger's owner: root does not write the ledger of another
//! user.
//!
//! The files that root would create, SQLite's beside the ledger and those of
//! sinks, would belong to root, and the service could not write them.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::geteuid;

use crate::platform::users;

/// Refuses to work as root on a ledger at `path` that belongs to another user.
///
/// # Errors
/// A message with the command to run instead, which repeats the `arguments` of
/// this process.
pub(super) fn refuse_root(
    path: &Path,
    arguments: impl Iterator<Item = OsString>,
) -> Result<(), String> {
    // A ledger that does not exist yet will belong to the owner of its folder.
    let folder = path.parent().unwrap_or(Path::new("/"));
    let metadata = path.metadata().or_else(|_| folder.metadata());
    let Ok(owner) = metadata.map(|metadata| metadata.uid()) else {
        // Opening the ledger reports the problem in more detail.
        return Ok(());
    };
    if !geteuid().is_root() || owner == 0 {
        return Ok(());
    }
    let name = users::user_name(owner);
    let owner_text = name.clone().unwrap_or_else(|| format!("user {owner}"));
    let program = match &name {
        Some(name) => format!("runuser -u {name} --"),
        None => format!("setpriv --reuid={owner} --clear-groups --"),
    };
    let quoted_arguments = arguments.map(|word| shell_quote(&word.to_string_lossy()));
    let command = std::iter::once(program).chain(quoted_arguments);
    Err(format!(
        "the ledger {} belongs to {owner_text}, and no rekeyd is running that could be asked; as root \
         this would leave files that {owner_text} cannot write; start the service first, or run: {}",
        path.display(),
        command.collect::<Vec<_>>().join(" ")
    ))
}

/// Quotes a word for a shell.
fn shell_quote(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@%+,".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
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
