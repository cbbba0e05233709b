//! The end of a demo: its history, and command lines that work when they are pasted.

use std::path::{Path, PathBuf};

use crate::cli::failure::Failure;
use crate::cli::history::HistoryCommand;
use crate::cli::output;
use crate::cli::screen::Screen;
use crate::core::shell;
use crate::ledger::LedgerReader;

/// The number of rotations that are shown at most.
const MAX_ROTATIONS: u32 = 50;

/// Prints the latest rotations of all keys.
pub(super) fn print_history(ledger: &Path) -> Result<(), Failure> {
    output::print(b"\nWhat `rekeyd history` shows:\n\n")?;
    let (reader, screen) = (LedgerReader::open(ledger)?, Screen::of_output(false));
    HistoryCommand::print_latest(&reader, None, MAX_ROTATIONS, screen)
}

/// Returns one line for each of these commands of rekeyd, with the program as the shell
/// finds it.
pub(super) fn command_lines(commands: &[&[&str]]) -> String {
    let program = match std::env::current_exe() {
        Ok(own) if find_in_path("rekeyd").is_none_or(|found| !is_same(&found, &own)) => {
            shell::quote(&own.to_string_lossy())
        }
        Ok(_) | Err(_) => "rekeyd".to_owned(),
    };
    let lines = commands.iter().map(|words| {
        let words: Vec<_> = words.iter().map(|word| shell::quote(word)).collect();
        format!("  {program} {}\n", words.join(" "))
    });
    lines.collect()
}

/// Returns a line that asks SQLite's shell for the events, if that program is installed.
pub(super) fn event_query(ledger: &Path) -> String {
    if find_in_path("sqlite3").is_none() {
        return String::new();
    }
    let ledger = shell::quote(&ledger.to_string_lossy());
    format!("  sqlite3 {ledger} 'select * from events'\n")
}

/// Returns the program that the shell would run.
fn find_in_path(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn is_same(one: &Path, other: &Path) -> bool {
    let resolved = |path: &Path| path.canonicalize().ok();
    resolved(one).is_some() && resolved(one) == resolved(other)
}
