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
use crate::platform::file_access::may_read;
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
    /// The same command line as the ledger's owner, with a copy of a file that this user
    /// may not read.
    WithCopy(Box<CopiedFile>),
}

/// A file that the ledger's owner gets a copy of.
#[derive(Debug)]
pub struct CopiedFile {
    /// The file.
    source: PathBuf,
    /// The copy.
    copy: PathBuf,
    /// The command line of this process, with the copy in place of the file.
    arguments: Vec<OsString>,
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
            Replacement::WithCopy(copied) => write!(
                formatter,
                "run: install -o {} -m 0600 {} {copy} && {program} {} && rm {copy}",
                self.owner_name.clone().unwrap_or(self.owner.to_string()),
                quote(copied.source.as_os_str()),
                join(&copied.arguments),
                copy = quote(copied.copy.as_os_str()),
            ),
        }
    }
}

impl std::error::Error for LedgerOwnerError {}

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

/// Refuses a restore of root's to the ledger of another user.
///
/// # Errors
/// If the ledger has another owner; the error has a command line that works for that user,
/// who may not be able to read the backup at `source`.
pub(super) fn refuse_root_restore(
    settings: &Settings,
    source: &Path,
) -> Result<(), LedgerOwnerError> {
    refuse(&settings.ledger, same_command).map_err(|error| {
        let name = error.owner_name.as_deref();
        let account = name.and_then(|name| users::find_account(name).ok());
        let group = account.map_or(0, |account| account.group.as_raw());
        if may_read(error.owner, group, source) {
            return error;
        }
        let copy = settings.ledger.with_file_name("backup-to-restore.db");
        LedgerOwnerError {
            replacement: with_copy(std::env::args_os().collect(), source, copy),
            ..error
        }
    })
}

/// Replaces `source` in a command line by its copy.
fn with_copy(mut arguments: Vec<OsString>, source: &Path, copy: PathBuf) -> Replacement {
    let mut words = arguments.iter_mut().rev();
    let is_source = |word: &OsString| std::path::absolute(word).is_ok_and(|path| path == source);
    if let Some(word) = words.find(|word| is_source(word)) {
        *word = copy.clone().into_os_string();
    }
    Replacement::WithCopy(Box::new(CopiedFile {
        source: source.to_owned(),
        copy,
        arguments,
    }))
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
            // Only root may enter the folder of the backup.
            let backup = Path::new("/root/kept/it's one");
            let arguments = vec!["rekeyd".into(), "restore".into(), backup.into()];
            let copy = "/var/lib/rekeyd/backup-to-restore.db";
            let name = owner_name.unwrap_or("4711");
            assert_eq!(
                message(owner_name, with_copy(arguments, backup, copy.into())),
                format!(
                    "{prefix}install -o {name} -m 0600 '/root/kept/it'\\''s one' {copy} && \
                     {program} rekeyd restore {copy} && rm {copy}"
                )
            );
            let unit = "rekeyd@acme.service".to_owned();
            assert_eq!(
                message(owner_name, Replacement::StartOf { unit }),
                format!("{prefix}systemctl start rekeyd@acme.service")
            );
        }
    }
}
