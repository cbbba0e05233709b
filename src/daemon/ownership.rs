//! The check of the ledger's owner: root does not write the ledger of another
//! user.
//!
//! The files that root would create, SQLite's beside the ledger and those of
//! sinks, would belong to root, and the service could not write them.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::core::shell;
use crate::platform::users;

/// The ledger belongs to another user, and the process is root's.
#[derive(Debug)]
pub struct LedgerOwnerError {
    /// The ledger.
    pub path: PathBuf,
    /// The number of its owner.
    pub owner: u32,
    /// The name of its owner, if the host knows it.
    pub owner_name: Option<String>,
    /// The command line of this process.
    pub arguments: Vec<OsString>,
}

impl fmt::Display for LedgerOwnerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (owner, program) = match &self.owner_name {
            Some(name) => (name.clone(), format!("runuser -u {name} --")),
            None => (
                format!("user {}", self.owner),
                format!("setpriv --reuid={} --clear-groups --", self.owner),
            ),
        };
        write!(
            formatter,
            "the ledger {} belongs to {owner}, and no rekeyd is running that could be asked; as \
             root this would leave files that {owner} cannot write; start the service first, or \
             run: {program}",
            self.path.display()
        )?;
        self.arguments.iter().try_for_each(|word| {
            let quoted = shell::quote(&word.to_string_lossy());
            write!(formatter, " {quoted}")
        })
    }
}

impl std::error::Error for LedgerOwnerError {}

/// Refuses to work as root on a ledger at `path` that belongs to another user.
///
/// # Errors
/// If the ledger has another owner; the message has the command to run instead,
/// which repeats the `arguments` of this process.
pub(super) fn refuse_root(
    path: &Path,
    arguments: impl Iterator<Item = OsString>,
) -> Result<(), LedgerOwnerError> {
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
    Err(LedgerOwnerError {
        path: path.to_owned(),
        owner,
        owner_name: users::user_name(owner),
        arguments: arguments.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_has_the_command_to_run_instead() {
        for (owner_name, owner, program) in [
            (Some("rekeyd"), "rekeyd", "runuser -u rekeyd --"),
            (None, "user 4711", "setpriv --reuid=4711 --clear-groups --"),
        ] {
            let error = LedgerOwnerError {
                path: "/var/lib/rekeyd/ledger.db".into(),
                owner: 4_711,
                owner_name: owner_name.map(str::to_owned),
                arguments: vec!["rekeyd".into(), "rotate".into(), "a b".into()],
            };
            assert_eq!(
                error.to_string(),
                format!(
                    "the ledger /var/lib/rekeyd/ledger.db belongs to {owner}, and no rekeyd is \
                     running that could be asked; as root this would leave files that {owner} \
                     cannot write; start the service first, or run: {program} rekeyd rotate 'a b'"
                )
            );
        }
    }
}
