//! The writer's handle, and the two ways in which its jobs are driven.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::mpsc;

use crate::core::apply::apply;
use crate::core::change::Change;
use crate::core::ids::{CredentialId, KeyName, RotationId};
use crate::core::scope::Scope;
use crate::core::state::{KeyState, Rotation};
use crate::ledger::difference::Difference;
use crate::ledger::error::LedgerError;
use crate::ledger::group_commit::{
    MAX_BATCH_SIZE, PendingOperation, WriteOperation, commit_batch, reply_all, run_transaction,
};
use crate::ledger::open::LedgerOptions;
use crate::ledger::reconciliation::{
    self, Reconciliation, RemoteCredential, RemoteState, UnknownCredential,
};
use crate::ledger::{open, read, write};

/// The ledger's one writer. Cheap to clone; jobs of all clones that wait at
/// the same time share one transaction and its fsync.
#[derive(Clone)]
pub struct Ledger {
    operations: mpsc::UnboundedSender<Box<dyn WriteOperation>>,
    faults: Option<Arc<dyn FaultInjector>>,
}

/// Who runs the jobs.
#[derive(Clone)]
pub enum WriterDriver {
    /// A thread of its own, so that a slow disk stalls nobody else.
    Thread,
    /// A task on the same runtime: in a simulation a second thread would let
    /// virtual time run ahead.
    Task,
    /// As a task, on a disk that may fail.
    TaskWithFaults(Arc<dyn FaultInjector>),
}

/// The disk of a simulation, which fails when it is told to.
#[async_trait]
pub trait FaultInjector: Send + Sync {
    /// Before a transaction; an error fails it.
    async fn before_transaction(&self) -> Result<(), LedgerError>;

    /// After a transaction, before anybody hears how it ended; an error is
    /// what they hear then, although it is done.
    async fn after_transaction(&self) -> Result<(), LedgerError>;

    /// Within each transaction that records changes of a key, with the state
    /// that was computed and the state that is read back.
    fn after_record(&self, computed: &KeyState, read: &KeyState);
}

impl Ledger {
    /// Opens or creates the ledger at `path`. Take the
    /// [`crate::ledger::WriterLock`] first. The file is closed when the last
    /// handle is gone.
    ///
    /// # Errors
    /// It is no ledger, a newer one, another provider's or another machine's;
    /// or it cannot be opened or written.
    pub fn open(
        path: &Path,
        options: &LedgerOptions,
        now: Timestamp,
        driver: WriterDriver,
    ) -> Result<Self, LedgerError> {
        let connection = open::open(path, options, now)?;
        Self::start(path, connection, driver)
    }

    /// Opens an empty ledger in memory, for tests; its writer is a task.
    ///
    /// # Errors
    /// The database refuses.
    pub fn open_in_memory(options: &LedgerOptions, now: Timestamp) -> Result<Self, LedgerError> {
        let connection = open::open_in_memory(options, now)?;
        Self::start(Path::new(":memory:"), connection, WriterDriver::Task)
    }

    fn start(
        path: &Path,
        connection: Connection,
        driver: WriterDriver,
    ) -> Result<Self, LedgerError> {
        let (jobs, waiting) = mpsc::unbounded_channel();
        let faults = match &driver {
            WriterDriver::TaskWithFaults(disk) => Some(Arc::clone(disk)),
            WriterDriver::Thread | WriterDriver::Task => None,
        };
        match driver {
            WriterDriver::Thread => {
                std::thread::Builder::new()
                    .name("ledger".to_owned())
                    .spawn(move || run_on_thread(&connection, waiting))
                    .map_err(|error| LedgerError::Open {
                        path: path.to_owned(),
                        reason: format!("no thread for its writer: {error}"),
                    })?;
            }
            WriterDriver::Task => {
                tokio::spawn(run_as_task(connection, waiting));
            }
            WriterDriver::TaskWithFaults(disk) => {
                tokio::spawn(run_with_faults(connection, waiting, disk));
            }
        }
        Ok(Self {
            operations: jobs,
            faults,
        })
    }

    /// Records `changes` of the key in `before`, all or none, and returns the
    /// state that they lead to. Returns when they are on disk.
    ///
    /// # Errors
    /// With [`LedgerError::is_content_error`] nothing was recorded. After any
    /// other error it is unknown whether the changes were recorded: read the
    /// state with [`Ledger::key_state`].
    pub async fn record(
        &self,
        before: &KeyState,
        at: Timestamp,
        changes: &[Change],
    ) -> Result<KeyState, LedgerError> {
        let applied = apply(before, changes, at)?;
        let difference = Difference::new(before, &applied, at);
        let state = applied.state;
        // The injector compares what was computed with what was written.
        let observed = self.faults.clone().map(|faults| (faults, state.clone()));
        self.submit(move |connection| {
            write::write_difference(connection, &difference)?;
            if let Some((faults, computed)) = observed {
                faults.after_record(&computed, &read::key_state(connection, &computed.key)?);
            }
            Ok(())
        })
        .await?;
        Ok(state)
    }

    /// How every key stands, in the order of their names.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn all_key_states(&self) -> Result<Vec<KeyState>, LedgerError> {
        self.submit(|connection| read::key_states(connection, None))
            .await
    }

    /// How one key stands.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn key_state(&self, key: &KeyName) -> Result<KeyState, LedgerError> {
        let key = key.clone();
        self.submit(move |connection| read::key_state(connection, &key))
            .await
    }

    /// Returns one rotation of a key, live or ended, if there is one.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn rotation(
        &self,
        key: &KeyName,
        rotation: &RotationId,
    ) -> Result<Option<Rotation>, LedgerError> {
        let (key, rotation) = (key.clone(), rotation.clone());
        self.submit(move |connection| read::rotation(connection, &key, &rotation))
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
        self.submit(move |connection| read::creates_between(connection, &key, from, to))
            .await
    }

    /// When the present row of failures of a key began.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn failing_since(&self, key: &KeyName) -> Result<Option<Timestamp>, LedgerError> {
        let key = key.clone();
        self.submit(move |connection| read::failing_since(connection, &key))
            .await
    }

    /// Which key a credential belongs to, if it has a row.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn key_for_credential(
        &self,
        credential: &CredentialId,
    ) -> Result<Option<KeyName>, LedgerError> {
        let credential = credential.clone();
        self.submit(move |connection| read::key_for_credential(connection, &credential))
            .await
    }

    /// Compares the provider's list of a scope with every row ever written, and
    /// returns what is not as expected.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn reconcile(
        &self,
        scope: &Scope,
        listed: Vec<RemoteCredential>,
    ) -> Result<Reconciliation, LedgerError> {
        let scope = scope.clone();
        self.submit(move |connection| {
            reconciliation::reconcile(connection, &scope, listed, |seen| {
                !matches!(seen, RemoteState::AsExpected(_))
            })
        })
        .await
    }

    /// Returns the lookalikes of `key` that the last list of its scope showed.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn lookalikes(
        &self,
        scope: &Scope,
        key: &KeyName,
    ) -> Result<Vec<CredentialId>, LedgerError> {
        let (scope, key) = (scope.clone(), key.clone());
        self.submit(move |connection| reconciliation::lookalikes(connection, &scope, &key))
            .await
    }

    /// Returns when a scope was last reconciled with the provider, and whether a
    /// create in it since `since` failed and may still take effect.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn last_reconciliation(
        &self,
        scope: &Scope,
        since: Timestamp,
    ) -> Result<(Option<Timestamp>, bool), LedgerError> {
        let scope = scope.clone();
        self.submit(move |connection| read::last_reconciliation(connection, &scope, since))
            .await
    }

    /// Records that every row of a scope was compared with the provider, and the
    /// credentials there that have no row. Returns those not recorded before.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn record_reconciliation(
        &self,
        scope: &Scope,
        at: Timestamp,
        unknown: Vec<UnknownCredential>,
    ) -> Result<Vec<UnknownCredential>, LedgerError> {
        let scope = scope.clone();
        self.submit(move |connection| {
            reconciliation::record_reconciliation(connection, &scope, at, unknown)
        })
        .await
    }

    /// Whether the ledger can be written: writes what is there already.
    ///
    /// # Errors
    /// It cannot; see [`LedgerError`].
    pub async fn check_writable(&self) -> Result<(), LedgerError> {
        self.submit(write::check_writable).await
    }

    /// Records a condition of a scope, or without one of the whole daemon, for
    /// commands that run beside it; without a problem, that it has ended.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn set_condition(
        &self,
        scope: Option<Scope>,
        condition: &'static str,
        at: Timestamp,
        problem: Option<String>,
    ) -> Result<(), LedgerError> {
        self.submit(move |connection| {
            write::set_condition(
                connection,
                scope.as_ref(),
                condition,
                at,
                problem.as_deref(),
            )
        })
        .await
    }

    pub(super) async fn submit<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, LedgerError> + Send + 'static,
    {
        let (call, answer) = PendingOperation::new(work);
        self.operations
            .send(Box::new(call))
            .map_err(|_| LedgerError::WriterStopped)?;
        answer.await.unwrap_or(Err(LedgerError::WriterStopped))
    }
}

fn run_on_thread(
    connection: &Connection,
    mut waiting: mpsc::UnboundedReceiver<Box<dyn WriteOperation>>,
) {
    while let Some(first) = waiting.blocking_recv() {
        commit_batch(connection, collect_batch(first, &mut waiting));
    }
}

async fn run_as_task(
    connection: Connection,
    mut waiting: mpsc::UnboundedReceiver<Box<dyn WriteOperation>>,
) {
    while let Some(first) = waiting.recv().await {
        commit_batch(&connection, collect_batch(first, &mut waiting));
    }
}

async fn run_with_faults(
    connection: Connection,
    mut waiting: mpsc::UnboundedReceiver<Box<dyn WriteOperation>>,
    disk: Arc<dyn FaultInjector>,
) {
    while let Some(first) = waiting.recv().await {
        let mut jobs = collect_batch(first, &mut waiting);
        let fate = match disk.before_transaction().await {
            Ok(()) => {
                let done = run_transaction(&connection, &mut jobs);
                disk.after_transaction().await.and(done)
            }
            Err(error) => Err(error),
        };
        reply_all(jobs, &fate);
    }
}

fn collect_batch(
    first: Box<dyn WriteOperation>,
    waiting: &mut mpsc::UnboundedReceiver<Box<dyn WriteOperation>>,
) -> Vec<Box<dyn WriteOperation>> {
    let mut jobs = vec![first];
    while jobs.len() < MAX_BATCH_SIZE
        && let Ok(job) = waiting.try_recv()
    {
        jobs.push(job);
    }
    jobs
}
