//! Root does not write the ledger of another user: what it made there, and at
//! the sinks, would be root's, and rekeyd's own user could not go on.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::cli::Failure;
use crate::core::settings::Settings;

/// Refuses to work as root on a ledger of another user, with the line that
/// works.
pub(crate) fn refuse_for_another(settings: &Settings) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let Some(owner) = owner_of(&settings.ledger).filter(|owner| *owner != 0) else {
        return Ok(());
    };
    let arguments: Vec<_> = std::env::args().map(|argument| quoted(&argument)).collect();
    Err(Failure::Other(format!(
        "the ledger {} belongs to user {owner}, and what root made would be in its way; start its \
         service, or run: systemd-run --quiet --pipe --wait --uid={owner} \
         --property=LoadCredential=openai-admin-key {}",
        settings.ledger.display(),
        arguments.join(" ")
    )))
}

/// Whose the ledger is, or will be: of one that is not there yet, its folder
/// tells.
fn owner_of(ledger: &Path) -> Option<u32> {
    let facts = std::fs::metadata(ledger).or_else(|_| {
        let folder = ledger.parent().unwrap_or(Path::new("/"));
        std::fs::metadata(folder)
    });
    facts.ok().map(|facts| facts.uid())
}

/// An argument as a shell reads it.
fn quoted(argument: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,@%+".contains(&byte);
    if !argument.is_empty() && argument.bytes().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_quoted_where_a_shell_needs_it() {
        for (argument, expected) in [
            ("--reason", "--reason"),
            ("somebody left", "'somebody left'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(argument), expected);
        }
    }
}
