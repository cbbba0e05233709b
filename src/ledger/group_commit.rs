//! One transaction for everybody who waits: a savepoint each where they are
//! several, and the answers only after COMMIT.

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::ledger::error::LedgerError;

/// The most that share one transaction: a batch must not outlast anybody's
/// patience, and one fsync for 256 is cheap enough.
pub(crate) const MAX_BATCH_SIZE: usize = 256;

/// Something to do within a transaction, and somebody who waits for it.
pub(crate) trait WriteOperation: Send {
    /// Does it. An error undoes this job alone.
    fn run(&mut self, connection: &Connection) -> Result<(), LedgerError>;
    /// Tells whoever waits; `fate` is what became of the transaction.
    fn reply(self: Box<Self>, fate: Result<(), LedgerError>);
}

/// A closure with its result and the one who waits for it.
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
        let (reply, answer) = oneshot::channel();
        (
            Self {
                work: Some(work),
                result: None,
                reply,
            },
            answer,
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

    fn reply(self: Box<Self>, fate: Result<(), LedgerError>) {
        let result = match (fate, self.result) {
            (Ok(()), Some(result)) => result,
            // What failed by itself is told its own reason.
            (Err(_), Some(Err(error))) | (Err(error), Some(Ok(_)) | None) => Err(error),
            (Ok(()), None) => Err(LedgerError::WriterStopped),
        };
        // Whoever asked may have stopped waiting: what is recorded stays.
        let _ = self.reply.send(result);
    }
}

/// Runs all jobs in one transaction, then answers each.
///
/// A job that fails is undone alone. When SQLite itself ends the transaction
/// (disk full, I/O error), or COMMIT fails, every job of the batch is told so.
pub(crate) fn commit_batch(connection: &Connection, mut jobs: Vec<Box<dyn WriteOperation>>) {
    let fate = run_transaction(connection, &mut jobs);
    reply_all(jobs, &fate);
}

/// Tells everybody who waits what became of the transaction.
pub(crate) fn reply_all(jobs: Vec<Box<dyn WriteOperation>>, fate: &Result<(), LedgerError>) {
    for job in jobs {
        job.reply(fate.clone());
    }
}

/// Runs all jobs in one transaction; nobody is answered yet.
pub(crate) fn run_transaction(
    connection: &Connection,
    jobs: &mut [Box<dyn WriteOperation>],
) -> Result<(), LedgerError> {
    execute_cached(connection, "BEGIN IMMEDIATE")?;
    let done = match jobs {
        // What the transaction undoes needs no savepoint, for which SQLite
        // would keep a copy of every page.
        [only] => only.run(connection),
        _ => run_in_savepoints(connection, jobs),
    };
    let done = done.and_then(|()| execute_cached(connection, "COMMIT"));
    if done.is_err() && !connection.is_autocommit() {
        // The first error is the one to tell; a rollback that fails as well
        // leaves a transaction that the next BEGIN will report.
        if let Err(error) = connection.execute_batch("ROLLBACK") {
            tracing::error!(%error, "cannot roll back a failed transaction of the ledger");
        }
    }
    done
}

fn run_in_savepoints(
    connection: &Connection,
    jobs: &mut [Box<dyn WriteOperation>],
) -> Result<(), LedgerError> {
    for job in jobs {
        execute_cached(connection, "SAVEPOINT job")?;
        let outcome = job.run(connection);
        if connection.is_autocommit() {
            let why = outcome
                .err()
                .map_or_else(|| "no reason given".to_owned(), |e| e.to_string());
            return Err(LedgerError::BatchAborted(why));
        }
        match outcome {
            Ok(()) => execute_cached(connection, "RELEASE job")?,
            Err(_) => {
                execute_cached(connection, "ROLLBACK TO job")?;
                execute_cached(connection, "RELEASE job")?;
            }
        }
    }
    Ok(())
}

/// A statement that steers the transaction; parsed once a connection.
fn execute_cached(connection: &Connection, statement: &str) -> Result<(), LedgerError> {
    connection.prepare_cached(statement)?.execute([])?;
    Ok(())
}
