//! The messages to the ledger's writer.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::ledger::checkpoint_note::FileStamp;
use crate::ledger::copy_in_memory::LedgerCopy;
use crate::ledger::damage::LedgerDamage;
use crate::ledger::error::LedgerError;
use crate::ledger::group_commit::WriteOperation;

/// A message to the writer.
pub(super) enum WriterMessage {
    /// Run this operation in the next transaction.
    Run(Box<dyn WriteOperation>),
    /// Check that the ledger is still this process's, and undamaged.
    CheckFiles(oneshot::Sender<Result<u64, LedgerError>>),
    /// Check that the disk has room for what the ledger writes.
    CheckRoom(oneshot::Sender<Result<(), LedgerError>>),
    /// Copy the ledger into memory.
    Copy(oneshot::Sender<Result<Arc<LedgerCopy>, LedgerError>>),
    /// The pages were checked, with the ledger's stamp at the start if another process had
    /// written it, or are damaged.
    PagesChecked(Result<Option<FileStamp>, String>),
    /// The ledger's content is damaged.
    MarkDamaged(LedgerDamage),
    /// Record at which socket this process answers.
    RecordSocket(Option<PathBuf>),
    /// Close the ledger, and reply when it is closed. A process that rotates by schedule
    /// records when it ended.
    Close(oneshot::Sender<()>, Option<Timestamp>),
}
