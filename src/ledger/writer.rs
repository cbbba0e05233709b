//! Runs the operations of the ledger's writer: on a thread, or as a task of a simulation.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::ledger::checkpoint_note::FileStamp;
use crate::ledger::copy_in_memory::LedgerCopy;
use crate::ledger::damage::LedgerDamage;
use crate::ledger::error::LedgerError;
use crate::ledger::fault_injector::FaultInjector;
use crate::ledger::group_commit::{MAX_BATCH_SIZE, WriteOperation, reply_all, run_transaction};
use crate::ledger::kept_writer::KeptWriter;
use crate::ledger::open::OpenLedger;
use crate::ledger::writer_message::WriterMessage;

/// The messages that wait for the writer.
pub(super) struct Mailbox {
    waiting: mpsc::UnboundedReceiver<WriterMessage>,
    /// The message that ended the last batch.
    postponed: Option<WriterMessage>,
}

/// Work of the writer.
enum WriterTask {
    Commit(Vec<Box<dyn WriteOperation>>),
    CheckFiles(oneshot::Sender<Result<u64, LedgerError>>),
    CheckRoom(oneshot::Sender<Result<(), LedgerError>>),
    Copy(oneshot::Sender<Result<Arc<LedgerCopy>, LedgerError>>),
    PagesChecked(Result<Option<FileStamp>, String>),
    MarkDamaged(LedgerDamage),
    RecordSocket(Option<PathBuf>),
    Close(oneshot::Sender<()>, Option<Timestamp>),
}

impl Mailbox {
    pub(super) fn new(waiting: mpsc::UnboundedReceiver<WriterMessage>) -> Self {
        Self {
            waiting,
            postponed: None,
        }
    }

    /// Returns the next task; none when no handle of the ledger is left.
    async fn next(&mut self) -> Option<WriterTask> {
        let first = match self.postponed.take() {
            Some(postponed) => postponed,
            None => self.waiting.recv().await?,
        };
        Some(self.collect(first))
    }

    /// As [`Mailbox::next`], on a thread of its own.
    fn blocking_next(&mut self) -> Option<WriterTask> {
        let first = match self.postponed.take() {
            Some(postponed) => postponed,
            None => self.waiting.blocking_recv()?,
        };
        Some(self.collect(first))
    }

    /// Collects the operations that wait already into one batch.
    fn collect(&mut self, first: WriterMessage) -> WriterTask {
        let mut operations = match first {
            WriterMessage::Run(first) => vec![first],
            WriterMessage::CheckFiles(reply) => return WriterTask::CheckFiles(reply),
            WriterMessage::CheckRoom(reply) => return WriterTask::CheckRoom(reply),
            WriterMessage::Copy(reply) => return WriterTask::Copy(reply),
            WriterMessage::PagesChecked(found) => return WriterTask::PagesChecked(found),
            WriterMessage::MarkDamaged(damage) => return WriterTask::MarkDamaged(damage),
            WriterMessage::RecordSocket(socket) => return WriterTask::RecordSocket(socket),
            WriterMessage::Close(reply, at) => return WriterTask::Close(reply, at),
        };
        while operations.len() < MAX_BATCH_SIZE
            && let Ok(message) = self.waiting.try_recv()
        {
            match message {
                WriterMessage::Run(operation) => operations.push(operation),
                WriterMessage::CheckFiles(_)
                | WriterMessage::CheckRoom(_)
                | WriterMessage::Copy(_)
                | WriterMessage::PagesChecked(_)
                | WriterMessage::MarkDamaged(_)
                | WriterMessage::RecordSocket(_)
                | WriterMessage::Close(..) => {
                    self.postponed = Some(message);
                    break;
                }
            }
        }
        WriterTask::Commit(operations)
    }
}

/// Runs the writer until no handle of the ledger is left, or until it is closed.
pub(super) fn run_on_thread(mut ledger: OpenLedger, mut mailbox: Mailbox) {
    while let Some(task) = mailbox.blocking_next() {
        match execute(ledger, task) {
            Some(open) => ledger = open,
            None => return,
        }
    }
}

/// As [`run_on_thread`], on the present runtime.
pub(super) async fn run_as_task(mut ledger: OpenLedger, mut mailbox: Mailbox) {
    while let Some(task) = mailbox.next().await {
        match execute(ledger, task) {
            Some(open) => ledger = open,
            None => return,
        }
    }
}

/// Executes a task. Returns the ledger, unless the task closed it.
fn execute(mut ledger: OpenLedger, task: WriterTask) -> Option<OpenLedger> {
    match task {
        WriterTask::Commit(operations) => commit(&mut ledger, operations),
        WriterTask::CheckFiles(reply) => reply_check(&mut ledger, reply),
        WriterTask::CheckRoom(reply) => drop(reply.send(ledger.check_room())),
        WriterTask::Copy(reply) => reply_copy(&mut ledger, reply),
        WriterTask::PagesChecked(found) => ledger.finish_page_check(found),
        WriterTask::MarkDamaged(damage) => ledger.mark_damaged(damage),
        WriterTask::RecordSocket(socket) => ledger.record_socket(socket),
        WriterTask::Close(reply, ended_at) => {
            close(ledger, reply, ended_at);
            return None;
        }
    }
    Some(ledger)
}

/// As [`run_as_task`], on a disk that may fail.
pub(super) async fn run_with_faults(
    ledger: OpenLedger,
    mut mailbox: Mailbox,
    disk: Arc<dyn FaultInjector>,
) {
    let mut kept = KeptWriter::new(ledger, Arc::clone(&disk));
    while let Some(task) = mailbox.next().await
        && let Some(ledger) = &mut kept.ledger
    {
        let mut operations = match task {
            WriterTask::Commit(operations) => operations,
            WriterTask::CheckFiles(reply) => {
                reply_check(ledger, reply);
                continue;
            }
            WriterTask::CheckRoom(reply) => {
                drop(reply.send(Ok(())));
                continue;
            }
            WriterTask::Copy(reply) => {
                reply_copy(ledger, reply);
                continue;
            }
            WriterTask::PagesChecked(_)
            | WriterTask::MarkDamaged(_)
            | WriterTask::RecordSocket(_) => continue,
            WriterTask::Close(reply, ended_at) => {
                let ledger = kept.ledger.take();
                return ledger.map_or((), |ledger| close(ledger, reply, ended_at));
            }
        };
        let outcome = match disk.before_transaction().await {
            Ok(()) => {
                let result = run_transaction(&ledger.connection, &mut operations, None);
                disk.after_transaction().await.and(result)
            }
            Err(error) => Err(error),
        };
        reply_all(operations, &outcome);
        ledger.checkpoint_if_long();
    }
}

/// Commits the operations, unless the files are damaged. They are checked again after the
/// commit: a commit to a file that is gone does not count.
fn commit(ledger: &mut OpenLedger, mut operations: Vec<Box<dyn WriteOperation>>) {
    let committed = ledger
        .check()
        .and_then(|_| ledger.run_transaction(&mut operations));
    let outcome = ledger.finish_commit(committed);
    let is_committed = outcome.is_ok();
    reply_all(operations, &outcome);
    if is_committed {
        ledger.note_change();
        // The callers need not wait for it.
        ledger.checkpoint_if_long();
    }
}

fn reply_check(ledger: &mut OpenLedger, reply: oneshot::Sender<Result<u64, LedgerError>>) {
    // The caller may have stopped waiting.
    let _ = reply.send(ledger.check());
}

fn reply_copy(
    ledger: &mut OpenLedger,
    reply: oneshot::Sender<Result<Arc<LedgerCopy>, LedgerError>>,
) {
    // A copy delays commits, and nobody waits for this one any more.
    if !reply.is_closed() {
        let _ = reply.send(ledger.copy());
    }
}

fn close(ledger: OpenLedger, reply: oneshot::Sender<()>, ended_at: Option<Timestamp>) {
    ledger.close(ended_at);
    // The caller may have stopped waiting.
    let _ = reply.send(());
}
