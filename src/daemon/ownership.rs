//! The check of the ledger's owner: root does not write the ledger of another
//! user.
//!
//! The files that root would create, SQLite's beside the ledger and those of
//! sinks, would belong to root, and the service could not write them.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::config;
use crate::config::settings::Settings;
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
    /// What root runs instead.
    pub replacement: Replacement,
}

/// What root runs instead of a command that would write the ledger of another
/// user.
#[derive(Debug)]
pub enum Replacement {
    /// The unit, to which the service manager passes the admin key.
    StartOf {
        /// The name of the unit.
        unit: String,
    },
    /// The same command line as the ledger's owner.
    SameCommand {
        /// The command line of this process.
        arguments: Vec<OsString>,
    },
}

impl fmt::Display for LedgerOwnerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (owner, program) = match &self.owner_name {
            Some(name) => (name.clone(), run_as_name(name)),
            None => (format!("user {}", self.owner), run_as_number(self.owner)),
        };
        write!(
            formatter,
            "the ledger {} belongs to {owner}, and running this as root would leave files that \
             {owner} cannot write; hint: ",
            self.path.display()
        )?;
        let quote = |word: &OsStr| shell::quote(&word.to_string_lossy());
        let join = |arguments: &[OsString]| {
            let words = arguments.iter().map(|word| quote(word));
            words.collect::<Vec<_>>().join(" ")
        };
        match &self.replacement {
            Replacement::StartOf { unit } => write!(formatter, "run: systemctl start {unit}"),
            Replacement::SameCommand { arguments } => {
                write!(formatter, "run: {program} {}", join(arguments))
            }
        }
    }
}

impl std::error::Error for LedgerOwnerError {}

/// Returns the beginning of root's command line that runs a program as `user`.
pub(crate) fn run_as(user: u32) -> String {
    users::user_name(user).map_or_else(|| run_as_number(user), |name| run_as_name(&name))
}

fn run_as_name(name: &str) -> String {
    format!("runuser -u {name} --")
}

fn run_as_number(user: u32) -> String {
    format!("setpriv --reuid={user} --clear-groups --")
}

/// Refuses to work on due keys as root on a ledger of another user.
///
/// # Errors
/// If the ledger has another owner; the error has the command to run instead.
pub(super) fn refuse_root_worker(settings: &Settings) -> Result<(), LedgerOwnerError> {
    refuse(&settings.ledger, || {
        // The service manager alone passes the admin key: the owner's command
        // may find none.
        let unit = config::find_unit(&settings.file);
        unit.map_or_else(same_command, |unit| Replacement::StartOf {
            unit: unit.name,
        })
    })
}

/// Refuses a command of root's on the ledger of another user.
///
/// # Errors
/// If the ledger has another owner; the error repeats the command line for that
/// user.
pub(super) fn refuse_root(settings: &Settings) -> Result<(), LedgerOwnerError> {
    refuse(&settings.ledger, same_command)
}

fn same_command() -> Replacement {
    Replacement::SameCommand {
        arguments: std::env::args_os().collect(),
    }
}

fn refuse(path: &Path, replacement: impl FnOnce() -> Replacement) -> Result<(), LedgerOwnerError> {
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
        replacement: replacement(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(owner_name: Option<&str>, replacement: Replacement) -> String {
        let error = LedgerOwnerError {
            path: "/var/lib/rekeyd/ledger.db".into(),
            owner: 4_711,
            owner_name: owner_name.map(str::to_owned),
            replacement,
        };
        error.to_string()
    }

    #[test]
    fn message_has_the_command_to_run_instead() {
        for (owner_name, owner, program) in [
            (Some("rekeyd"), "rekeyd", "runuser -u rekeyd --"),
            (None, "user 4711", "setpriv --reuid=4711 --clear-groups --"),
        ] {
            let prefix = format!(
                "the ledger /var/lib/rekeyd/ledger.db belongs to {owner}, and running \
                 this as root would leave files that {owner} cannot write; hint: run: "
            );
            let arguments = vec!["rekeyd".into(), "once".into(), "a b".into()];
            assert_eq!(
                message(owner_name, Replacement::SameCommand { arguments }),
                format!("{prefix}{program} rekeyd once 'a b'")
            );
            let unit = "rekeyd@acme.service".to_owned();
            assert_eq!(
                message(owner_name, Replacement::StartOf { unit }),
                format!("{prefix}systemctl start rekeyd@acme.service")
            );
        }
    }
}
