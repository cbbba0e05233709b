//! The writer's handle, and the two ways in which its jobs are driven.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::mpsc;

use crate::core::change::Change;
use crate::core::names::{CredentialId, KeyName};
use crate::core::record::KeyState;
use crate::ledger::commit::{Call, Job, LARGEST_BATCH, answer_all, commit, run_all};
use crate::ledger::compare::{self, Compared, Listed, Seen, Stranger};
use crate::ledger::error::LedgerError;
use crate::ledger::{read, write};

/// The ledger's one writer. Cheap to clone; jobs of all clones that wait at
/// the same time share one transaction and its fsync.
#[derive(Debug, Clone)]
pub struct Ledger {
    jobs: mpsc::UnboundedSender<Box<dyn Job>>,
}

/// Who runs the jobs.
#[derive(Clone)]
pub enum Driver {
    /// A thread of its own, so that a slow disk stalls nobody else.
    Thread,
    /// A task on the same runtime: in a simulation a second thread would let
    /// virtual time run ahead.
    Task,
    /// As a task, on a disk that may fail.
    Simulated(Arc<dyn Disk>),
}

/// The disk of a simulation, which fails when it is told to.
#[async_trait]
pub trait Disk: Send + Sync {
    /// Before a transaction; an error fails it.
    async fn before(&self) -> Result<(), LedgerError>;

    /// After a transaction, before anybody hears how it ended; an error is
    /// what they hear then, although it is done.
    async fn after(&self) -> Result<(), LedgerError>;
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
            Driver::Simulated(disk) => {
                tokio::spawn(simulate(connection, waiting, disk));
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

    /// How every key stands, in the order of their names.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn all_key_states(&self) -> Result<Vec<KeyState>, LedgerError> {
        self.run(|connection| read::key_states(connection, None))
            .await
    }

    /// How one key stands.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn key_state(&self, key: &KeyName) -> Result<KeyState, LedgerError> {
        let key = key.clone();
        self.run(move |connection| read::key_state(connection, &key))
            .await
    }

    /// How many creates of `key` were made, or maybe made, between two times,
    /// and when the oldest of them was.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn creates_between(
        &self,
        key: &KeyName,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<(u32, Option<Timestamp>), LedgerError> {
        let key = key.clone();
        self.run(move |connection| read::creates_between(connection, &key, from, to))
            .await
    }

    /// When the present row of failures of a key began.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn failing_since(&self, key: &KeyName) -> Result<Option<Timestamp>, LedgerError> {
        let key = key.clone();
        self.run(move |connection| read::failing_since(connection, &key))
            .await
    }

    /// Which key a credential belongs to, if it has a row.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn key_of(&self, credential: &CredentialId) -> Result<Option<KeyName>, LedgerError> {
        let credential = credential.clone();
        self.run(move |connection| read::key_of(connection, &credential))
            .await
    }

    /// Compares the provider's list with every row ever written, and finds what
    /// is not as expected.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn compare(&self, listed: Vec<Listed>) -> Result<Compared, LedgerError> {
        self.run(move |connection| {
            compare::compare(connection, listed, |seen| {
                !matches!(seen, Seen::AsExpected(_))
            })
        })
        .await
    }

    /// What looked like a credential of `key` when the provider was last
    /// listed, and has no row.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn lookalikes(&self, key: &KeyName) -> Result<Vec<CredentialId>, LedgerError> {
        let key = key.clone();
        self.run(move |connection| {
            let found = compare::lookalikes(connection, &key)?.into_iter();
            Ok(found.map(|(id, _)| id).collect())
        })
        .await
    }

    /// When every row was last compared with the provider, and whether a
    /// create since `since` came to nothing that may land late.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn last_sweep(
        &self,
        since: Timestamp,
    ) -> Result<(Option<Timestamp>, bool), LedgerError> {
        self.run(move |connection| read::last_sweep(connection, since))
            .await
    }

    /// Notes that every row was compared with the provider, and the
    /// credentials there that have none. Gives back those not noted before.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn note_sweep(
        &self,
        at: Timestamp,
        strangers: Vec<Stranger>,
    ) -> Result<Vec<Stranger>, LedgerError> {
        self.run(move |connection| compare::note(connection, at, strangers))
            .await
    }

    /// Whether the ledger can be written: writes what is there already.
    ///
    /// # Errors
    /// It cannot; see [`LedgerError`].
    pub async fn probe(&self) -> Result<(), LedgerError> {
        self.run(write::probe).await
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

    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, LedgerError> + Send + 'static,
    {
        let (call, answer) = Call::new(work);
        self.jobs
            .send(Box::new(call))
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

async fn simulate(
    connection: Connection,
    mut waiting: mpsc::UnboundedReceiver<Box<dyn Job>>,
    disk: Arc<dyn Disk>,
) {
    while let Some(first) = waiting.recv().await {
        let mut jobs = batch(first, &mut waiting);
        let fate = match disk.before().await {
            Ok(()) => {
                let done = run_all(&connection, &mut jobs);
                disk.after().await.and(done)
            }
            Err(error) => Err(error),
        };
        answer_all(jobs, &fate);
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
