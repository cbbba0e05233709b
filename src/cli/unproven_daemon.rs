//! A process at the control socket that cannot prove to be the daemon: what a command believes
//! it nevertheless.
//!
//! The kernel shows that it belongs to the owner of the ledger, but so do the programs that the
//! daemon runs. The daemon has no proof either where its cookie is gone with the folder of its
//! ledger, or is not yet in the place to which the path leads now.

use std::path::{Path, PathBuf};

use crate::cli::terminal_text::visible_line;
use crate::daemon::control::protocol::DaemonInfo;
use crate::platform::file_identity::is_same_file;

/// A process that listens at the control socket, and belongs to the owner of the ledger. There
/// is no cookie by which it could prove to be the daemon: it gets no request.
#[derive(Debug, thiserror::Error)]
#[error("{description}")]
pub(crate) struct UnprovenDaemon {
    /// Why it gets no request, and what it says.
    description: String,
    /// Its process id, unless it passes on what another process says.
    process: Option<u32>,
    /// The ledger that it says to write.
    ledger: PathBuf,
    /// The damage of the ledger's files that it reports.
    damage: Option<String>,
}

/// What a command believes a process that proves nothing.
pub(super) struct DamageReport<'a> {
    /// The id of the process.
    pub(super) process: u32,
    /// The damage of the ledger's files.
    pub(super) damage: &'a str,
}

impl UnprovenDaemon {
    /// Returns the process that gets no request because of this `doubt`, with what it says.
    pub(super) fn new(doubt: &str, info: DaemonInfo, process: Option<u32>) -> Self {
        let says = info.ledger_damage.as_ref().or(info.problem.as_ref());
        let says = says.map(|says| format!("; it says: {}", one_line(says)));
        Self {
            description: format!("{doubt}{}", says.unwrap_or_default()),
            process,
            ledger: info.ledger.into(),
            damage: info.ledger_damage.as_deref().map(one_line),
        }
    }

    /// Returns its report that the files of the ledger at `ledger` are damaged, unless this
    /// command is root's: a process of another user has root believe nothing, not even that a
    /// daemon runs. The report makes a command of that user fail, and nothing else: neither a
    /// lie nor the truth starts anything.
    pub(super) fn damage_report(&self, ledger: &Path) -> Option<DamageReport<'_>> {
        let is_root = rustix::process::geteuid().is_root();
        if is_root || !is_same_file(&self.ledger, ledger) {
            return None;
        }
        self.process
            .zip(self.damage.as_deref())
            .map(|(process, damage)| DamageReport { process, damage })
    }
}

/// Returns what the process says, as one line for a terminal.
fn one_line(text: &str) -> String {
    visible_line(&text.replace('\n', " "))
}
