//! What can happen to the files of a ledger while it is open.

use std::path::PathBuf;

/// A change of an open ledger's files that no operator's `sqlite3` or backup makes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerDamage {
    /// A file is gone.
    #[error("{} is gone", .0.display())]
    Missing(PathBuf),
    /// Another file is in its place.
    #[error("{} was replaced by another file", .0.display())]
    Replaced(PathBuf),
    /// The ledger lost pages.
    #[error("{} became shorter", .0.display())]
    Truncated(PathBuf),
    /// Another content was written over it.
    #[error("another program overwrote {}, which has lost rows that rekeyd wrote", .0.display())]
    Overwritten(PathBuf),
    /// Content of another time is in it.
    #[error("another program wrote older content to {}, which lacks the newest rows that rekeyd \
             wrote", .0.display())]
    Older(PathBuf),
    /// The content is not what was written.
    #[error("its content is damaged ({0})")]
    Malformed(String),
    /// A row is not what this process wrote last.
    #[error("another program changed its rows ({0})")]
    Contradictory(String),
}
