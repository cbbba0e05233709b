//! The writer's handle, and the two ways in which its jobs are driven.

use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::mpsc;

use crate::core::change::Change;
use crate::core::names::KeyName;
use crate::core::record::KeyState;
use crate::ledger::commit::{Job, LARGEST_BATCH, Task, commit};
use crate::ledger::error::LedgerError;
use crate::ledger::{read, write};

/// The ledger's one writer. Cheap to clone; jobs of all clones that wait at
/// the same time share one transaction and its fsync.
#[derive(Debug, Clone)]
pub struct Ledger {
    jobs: mpsc::UnboundedSender<Box<dyn Job>>,
}

/// Who runs the jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// A thread of its own, so that a slow disk stalls nobody else.
    Thread,
    /// A task on the same runtime: in a simulation a second thread would let
    /// virtual time run ahead.
    Task,
}

impl Ledger {
    /// Hands the connection to its driver. It is closed when the last handle
    /// is gone.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(connection: Connection, driver: Driver) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::unbounded_channel();
        match driver {
            Driver::Thread => {
                std::thread::Builder::new()
                    .name("ledger".to_owned())
                    .spawn(move || drive_thread(&connection, waiting))?;
            }
            Driver::Task => {
                tokio::spawn(drive_task(connection, waiting));
            }
        }
        Ok(Self { jobs })
    }

    /// Records `changes` of `key`, all or none, and tells how the key stands
    /// then. Returns when they are on disk.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn record(
        &self,
        key: &KeyName,
        at: Timestamp,
        changes: Vec<Change>,
    ) -> Result<KeyState, LedgerError> {
        let key = key.clone();
        self.run(move |connection| write::record(connection, &key, at, &changes))
            .await
    }

    /// How every key stands.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn all_key_states(&self) -> Result<Vec<KeyState>, LedgerError> {
        self.run(|connection| Ok(read::all_key_states(connection)?.into_values().collect()))
            .await
    }

    /// Tells those who ask beside the daemon what is wrong with it as a whole,
    /// or with `None` that nothing is.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn set_condition(
        &self,
        condition: &'static str,
        at: Timestamp,
        problem: Option<String>,
    ) -> Result<(), LedgerError> {
        self.run(move |connection| write::condition(connection, condition, at, problem.as_deref()))
            .await
    }

    async fn run<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, LedgerError> + Send + 'static,
    {
        let (task, answer) = Task::new(work);
        self.jobs
            .send(Box::new(task))
            .map_err(|_| LedgerError::Stopped)?;
        answer.await.unwrap_or(Err(LedgerError::Stopped))
    }
}

fn drive_thread(connection: &Connection, mut waiting: mpsc::UnboundedReceiver<Box<dyn Job>>) {
    while let Some(first) = waiting.blocking_recv() {
        commit(connection, batch(first, &mut waiting));
    }
}

async fn drive_task(connection: Connection, mut waiting: mpsc::UnboundedReceiver<Box<dyn Job>>) {
    while let Some(first) = waiting.recv().await {
        commit(&connection, batch(first, &mut waiting));
    }
}

fn batch(
    first: Box<dyn Job>,
    waiting: &mut mpsc::UnboundedReceiver<Box<dyn Job>>,
) -> Vec<Box<dyn Job>> {
    let mut jobs = vec![first];
    while jobs.len() < LARGEST_BATCH
        && let Ok(job) = waiting.try_recv()
    {
        jobs.push(job);
    }
    jobs
}
