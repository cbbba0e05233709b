//! Group commit: all waiting operations share one transaction, with a savepoint each if
//! they are several, and get their results after COMMIT.

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::ledger::error::LedgerError;
use crate::ledger::foreign_schema;
use crate::ledger::own_content::{NewestRows, OwnContent};

/// The largest batch. A batch must not make its callers wait long, and one fsync for 256
/// operations is cheap enough.
pub(crate) const MAX_BATCH_SIZE: usize = 256;

/// An operation within a transaction, whose caller waits for its result.
pub(crate) trait WriteOperation: Send {
    /// Runs the operation. An error undoes this operation alone.
    fn run(&mut self, connection: &Connection) -> Result<(), LedgerError>;
    /// Replies to the caller after the transaction ended with `outcome`.
    fn reply(self: Box<Self>, outcome: Result<(), LedgerError>);
}

/// A closure with its result and the channel of its caller.
pub(crate) struct PendingOperation<T, F> {
    work: Option<F>,
    result: Option<Result<T, LedgerError>>,
    reply: oneshot::Sender<Result<T, LedgerError>>,
}

impl<T, F> PendingOperation<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, LedgerError> + Send,
{
    pub(crate) fn new(work: F) -> (Self, oneshot::Receiver<Result<T, LedgerError>>) {
        let (reply, receiver) = oneshot::channel();
        (
            Self {
                work: Some(work),
                result: None,
                reply,
            },
            receiver,
        )
    }
}

impl<T, F> WriteOperation for PendingOperation<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, LedgerError> + Send,
{
    fn run(&mut self, connection: &Connection) -> Result<(), LedgerError> {
        let Some(work) = self.work.take() else {
            return Err(LedgerError::WriterStopped);
        };
        match work(connection) {
            Ok(value) => {
                self.result = Some(Ok(value));
                Ok(())
            }
            Err(error) => {
                self.result = Some(Err(error.clone()));
                Err(error)
            }
        }
    }

    fn reply(self: Box<Self>, outcome: Result<(), LedgerError>) {
        let result = match (outcome, self.result) {
            (Ok(()), Some(result)) => result,
            // Another program keeps the ledger from being written.
            (Err(error @ LedgerError::ForeignObject { .. }), _) => Err(error),
            // An operation that failed by itself reports its own error.
            (Err(_), Some(Err(error))) | (Err(error), Some(Ok(_)) | None) => Err(error),
            (Ok(()), None) => Err(LedgerError::WriterStopped),
        };
        // The caller may have stopped waiting; the commit is valid nevertheless.
        let _ = self.reply.send(result);
    }
}

/// Replies to every caller after the transaction ended with `outcome`.
pub(crate) fn reply_all(
    operations: Vec<Box<dyn WriteOperation>>,
    outcome: &Result<(), LedgerError>,
) {
    for operation in operations {
        operation.reply(outcome.clone());
    }
}

/// Runs all operations in one transaction, without replies.
///
/// A failed operation is undone alone. If SQLite itself ends the transaction (disk full,
/// I/O error), if it finds the file damaged, or if COMMIT fails, every operation of the
/// batch fails. It also fails if the ledger lacks what `content` says that it has, or if SQL
/// of another program refuses an operation.
pub(super) fn run_transaction(
    connection: &Connection,
    operations: &mut [Box<dyn WriteOperation>],
    content: Option<&mut OwnContent>,
) -> Result<(), LedgerError> {
    execute_cached(connection, "BEGIN IMMEDIATE")?;
    let result = match content {
        Some(content) => run_and_note(connection, operations, content),
        None => run_and_commit(connection, operations),
    };
    if result.is_err() && !connection.is_autocommit() {
        // The first error is reported. If the rollback fails too, the next BEGIN reports
        // the open transaction.
        if let Err(error) = connection.execute_batch("ROLLBACK") {
            tracing::error!(%error, "cannot roll back a failed transaction in the ledger");
        }
    }
    result.map_err(|error| foreign_schema::explain_refusal(connection, &error).unwrap_or(error))
}

/// Commits the operations to a ledger that has what `content` says, and notes them there.
fn run_and_note(
    connection: &Connection,
    operations: &mut [Box<dyn WriteOperation>],
    content: &mut OwnContent,
) -> Result<(), LedgerError> {
    // No other process writes by SQLite until the end of the transaction.
    content.check(connection)?;
    run_operations(connection, operations)?;
    let newest = NewestRows::read(connection)?;
    execute_cached(connection, "COMMIT")?;
    content.note_commit(newest);
    Ok(())
}

fn run_and_commit(
    connection: &Connection,
    operations: &mut [Box<dyn WriteOperation>],
) -> Result<(), LedgerError> {
    run_operations(connection, operations)?;
    execute_cached(connection, "COMMIT")
}

fn run_operations(
    connection: &Connection,
    operations: &mut [Box<dyn WriteOperation>],
) -> Result<(), LedgerError> {
    match operations {
        // A rollback of the transaction undoes a single operation. A savepoint would make
        // SQLite keep a copy of every page.
        [only] => only.run(connection),
        _ => run_in_savepoints(connection, operations),
    }
}

fn run_in_savepoints(
    connection: &Connection,
    operations: &mut [Box<dyn WriteOperation>],
) -> Result<(), LedgerError> {
    for operation in operations {
        execute_cached(connection, "SAVEPOINT job")?;
        let outcome = operation.run(connection);
        if connection.is_autocommit() {
            let reason = outcome
                .err()
                .map_or_else(|| "no reason given".to_owned(), |error| error.to_string());
            return Err(LedgerError::BatchAborted(reason));
        }
        match outcome {
            Ok(()) => execute_cached(connection, "RELEASE job")?,
            Err(error) if error.is_malformed() => return Err(error),
            Err(error) => {
                if let Some(refusal) = foreign_schema::explain_refusal(connection, &error) {
                    return Err(refusal);
                }
                execute_cached(connection, "ROLLBACK TO job")?;
                execute_cached(connection, "RELEASE job")?;
            }
        }
    }
    Ok(())
}

/// Executes a transaction statement, which is parsed once for each connection.
fn execute_cached(connection: &Connection, statement: &str) -> Result<(), LedgerError> {
    connection.prepare_cached(statement)?.execute([])?;
    Ok(())
}
