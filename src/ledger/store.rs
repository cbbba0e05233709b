//! The handle of the ledger's writer, and the drivers that run its operations.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::core::apply::apply;
use crate::core::change::{Change, OperatorNote};
use crate::core::crash::Crash;
use crate::core::decide::key_names::{RecordedNames, Rename};
use crate::core::ids::{CredentialId, KeyName, RotationId};
use crate::core::os_error;
use crate::core::scope::Scope;
use crate::core::state::{CredentialMetadata, FileAccess, KeyState, Rotation};
use crate::ledger::changed_names::ChangedNames;
use crate::ledger::copy_in_memory::LedgerCopy;
use crate::ledger::crash;
use crate::ledger::damage::LedgerDamage;
use crate::ledger::difference::Difference;
use crate::ledger::error::LedgerError;
use crate::ledger::fault_injector::FaultInjector;
use crate::ledger::group_commit::PendingOperation;
use crate::ledger::key_names;
use crate::ledger::last_run::{self, LastRun, SchedulingCommand};
use crate::ledger::lock::WriterLock;
use crate::ledger::open::{LedgerOptions, OpenLedger};
use crate::ledger::page_check::PageCheck;
use crate::ledger::prune::{self, PruneBatch, PrunedRows};
use crate::ledger::reconciliation::{
    self, Reconciliation, RemoteCredential, RemoteState, UnknownCredential,
};
use crate::ledger::rotation_request::{self, RecordedRequest};
use crate::ledger::shared_credential::{
    StaleKeys, hold_operator, live_rows, shared_changes, write_shared,
};
use crate::ledger::writer::{Mailbox, run_as_task, run_on_thread, run_with_faults};
use crate::ledger::writer_message::WriterMessage;
use crate::ledger::{open, read, write};

/// The ledger's one writer. Cheap to clone; operations of all clones that wait at the
/// same time share one transaction and its fsync.
#[derive(Clone)]
pub struct Ledger {
    messages: mpsc::UnboundedSender<WriterMessage>,
    /// None in short-lived processes and tests.
    pages: Option<PageCheck>,
    faults: Option<Arc<dyn FaultInjector>>,
    stale_keys: StaleKeys,
    /// When this process ended, if it rotates by schedule.
    ended_at: Arc<OnceLock<Timestamp>>,
}

/// The driver that runs the writer's operations.
#[derive(Clone)]
pub enum WriterDriver {
    /// A thread of its own, so that a slow disk stalls no other work.
    Thread,
    /// A task on the same runtime: in a simulation, virtual time would run ahead of a
    /// second thread.
    Task,
    /// A task, on a disk that may fail.
    TaskWithFaults(Arc<dyn FaultInjector>),
}

impl Ledger {
    /// Opens or creates the ledger of `lock`, which is released after the ledger was
    /// closed: when the last handle is dropped.
    ///
    /// # Errors
    /// The file is no ledger, a newer one, or one of another provider or host; or it
    /// cannot be opened or written.
    pub fn open(
        lock: WriterLock,
        options: &LedgerOptions,
        now: Timestamp,
        driver: WriterDriver,
    ) -> Result<Self, LedgerError> {
        let path = lock.ledger().to_owned();
        let ledger = open::open_locked(lock, options, now)?;
        Self::start(&path, ledger, driver, options.checks_pages)
    }

    /// Opens or creates the ledger at `path` without a lock, for tests and simulations.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn open_unlocked(
        path: &Path,
        options: &LedgerOptions,
        now: Timestamp,
        driver: WriterDriver,
    ) -> Result<Self, LedgerError> {
        let idle = match &driver {
            WriterDriver::TaskWithFaults(disk) => disk.take_writer(),
            WriterDriver::Thread | WriterDriver::Task => None,
        };
        let ledger = match idle {
            Some(idle) => idle.reopen(options, now)?,
            None => open::open(path, None, options, now)?,
        };
        Self::start(path, ledger, driver, false)
    }

    /// Opens an empty ledger in memory, for tests; its writer is a task.
    ///
    /// # Errors
    /// SQLite fails.
    pub fn open_in_memory(options: &LedgerOptions, now: Timestamp) -> Result<Self, LedgerError> {
        let ledger = OpenLedger::in_memory(open::open_in_memory(options, now)?);
        Self::start(Path::new(":memory:"), ledger, WriterDriver::Task, false)
    }

    fn start(
        path: &Path,
        mut ledger: OpenLedger,
        driver: WriterDriver,
        checks_pages: bool,
    ) -> Result<Self, LedgerError> {
        let (messages, waiting) = mpsc::unbounded_channel();
        let pages = checks_pages.then(|| PageCheck::new(path, messages.downgrade()));
        if let Some(pages) = &pages {
            ledger.check_pages_with(pages.clone());
        }
        let mailbox = Mailbox::new(waiting);
        let faults = match &driver {
            WriterDriver::TaskWithFaults(disk) => Some(Arc::clone(disk)),
            WriterDriver::Thread | WriterDriver::Task => None,
        };
        match driver {
            WriterDriver::Thread => {
                std::thread::Builder::new()
                    .name("ledger".to_owned())
                    .spawn(move || run_on_thread(ledger, mailbox))
                    .map_err(|error| LedgerError::Open {
                        path: path.to_owned(),
                        reason: format!(
                            "cannot start a thread for its writer: {}",
                            os_error::describe(&error)
                        ),
                    })?;
            }
            WriterDriver::Task => {
                tokio::spawn(run_as_task(ledger, mailbox));
            }
            WriterDriver::TaskWithFaults(disk) => {
                tokio::spawn(run_with_faults(ledger, mailbox, disk));
            }
        }
        Ok(Self {
            messages,
            pages,
            faults,
            stale_keys: StaleKeys::default(),
            ended_at: Arc::default(),
        })
    }

    /// Records `changes` of the key in `before`, all or none, and returns the
    /// state that they lead to. Returns when they are on disk.
    ///
    /// The end of a credential and an operator's hold are also recorded for its rows of
    /// other keys: see [`Ledger::take_stale`].
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
        let shared = shared_changes(changes, &applied);
        let starts_on_request = rotation_request::starts_on_request(changes);
        let (key, stale) = (before.key.clone(), self.stale_keys.clone());
        let state = applied.state;
        // The injector compares the computed with the written state.
        let observed = self.faults.clone().map(|faults| (faults, state.clone()));
        self.submit(move |connection| {
            write::write_difference(connection, &difference)?;
            write_shared(connection, &key, &shared, at, &stale)?;
            if starts_on_request {
                rotation_request::remove(connection, &key)?;
            }
            // The worker reads a state again that another key's commit has changed.
            let observed = observed.filter(|_| !stale.has(&key));
            if let Some((faults, computed)) = observed {
                faults.after_record(&computed, &read::key_state(connection, &computed.key)?);
            }
            Ok(())
        })
        .await?;
        Ok(state)
    }

    /// Returns whether a commit of another key changed rows of `key` since its state was
    /// last read: the state must be read again.
    pub(crate) fn take_stale(&self, key: &KeyName) -> bool {
        self.stale_keys.take(key)
    }

    /// Returns the keys for which [`Ledger::take_stale`] returns true.
    pub(crate) fn stale_keys(&self) -> Vec<KeyName> {
        self.stale_keys.all()
    }

    /// Returns the states of the other keys than `key` that have a live row of a
    /// credential.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub(crate) async fn other_holders(
        &self,
        credential: &CredentialId,
        key: &KeyName,
    ) -> Result<Vec<(KeyState, RotationId)>, LedgerError> {
        let (credential, key) = (credential.clone(), key.clone());
        self.submit(move |connection| {
            let rows = live_rows(connection, &credential)?;
            let others = rows.into_iter().filter(|(other, _)| *other != key);
            others
                .map(|(other, rotation)| Ok((read::key_state(connection, &other)?, rotation)))
                .collect()
        })
        .await
    }

    /// Returns the operator of the latest hold on a credential that is alive, of any key.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub(crate) async fn hold_operator(
        &self,
        credential: &CredentialId,
    ) -> Result<Option<OperatorNote>, LedgerError> {
        let credential = credential.clone();
        self.submit(move |connection| hold_operator(connection, &credential))
            .await
    }

    /// Returns the keys that have or had a row of a credential.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn keys_of_credential(
        &self,
        credential: &CredentialId,
    ) -> Result<Vec<KeyName>, LedgerError> {
        let credential = credential.clone();
        self.submit(move |connection| read::keys_of_credential(connection, &credential))
            .await
    }

    /// Returns the state of every key, by name.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn all_key_states(&self) -> Result<Vec<KeyState>, LedgerError> {
        self.submit(|connection| read::key_states(connection, None))
            .await
    }

    /// Returns the state of one key.
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

    /// Records the start of a process that rotates by schedule, and returns the one
    /// before.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn begin_run(
        &self,
        command: SchedulingCommand,
        at: Timestamp,
    ) -> Result<Option<LastRun>, LedgerError> {
        self.submit(move |connection| last_run::begin(connection, command, at))
            .await
    }

    /// Returns the names of all keys.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn recorded_names(&self) -> Result<RecordedNames, LedgerError> {
        self.submit(key_names::recorded_names).await
    }

    /// Renames keys: all of them, or none.
    ///
    /// # Errors
    /// Nothing was renamed, or it is unknown; see [`LedgerError`].
    pub async fn rename_keys(
        &self,
        renames: Vec<Rename>,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        self.submit(move |connection| key_names::rename(connection, &renames, at))
            .await
    }

    /// Returns the end of the process before that rotated by schedule, if it left no trace
    /// of its end. Before [`Ledger::begin_run`].
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn killed_run(&self) -> Result<Option<Crash>, LedgerError> {
        self.submit(crash::killed_run).await
    }

    /// Records that the process before did not end in order.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn record_crash(&self, crash: Crash) -> Result<(), LedgerError> {
        self.submit(move |connection| crash::record(connection, &crash))
            .await
    }

    /// Records that this process ends in order: in the ledger, and when that is closed in
    /// the lock file, which a full disk does not prevent.
    ///
    /// # Errors
    /// Nothing was recorded in the ledger; see [`LedgerError`].
    pub async fn end_run(&self, at: Timestamp) -> Result<(), LedgerError> {
        let _ = self.ended_at.set(at);
        self.submit(move |connection| last_run::end(connection, at))
            .await
    }

    /// Returns who could get the file that the newest recorded delivery of `key` to `target`
    /// left.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn recorded_access(
        &self,
        key: &KeyName,
        target: &str,
    ) -> Result<Option<FileAccess>, LedgerError> {
        let (key, target) = (key.clone(), target.to_owned());
        self.submit(move |connection| read::recorded_access(connection, &key, &target))
            .await
    }

    /// Returns the number of creates of `key`, certain or possible, between two times,
    /// and the time of the oldest.
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

    /// Returns the labels of the last `limit` creates of a key whose answers were rejected
    /// and whose credentials no list showed; fewer if another create came after one of
    /// them.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn rejected_answers(
        &self,
        key: &KeyName,
        limit: usize,
    ) -> Result<Vec<read::RejectedCreate>, LedgerError> {
        let key = key.clone();
        self.submit(move |connection| read::rejected_answers(connection, &key, limit))
            .await
    }

    /// Returns the live rotations of all keys whose credentials have a redacted value with
    /// this end, by [`crate::core::secret::identifying_end`].
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn rotations_with_end(
        &self,
        end: String,
    ) -> Result<Vec<(KeyName, Rotation)>, LedgerError> {
        self.submit(move |connection| read::rotations_with_end(connection, &end))
            .await
    }

    /// Returns the credentials that were revoked since a time. A redacted value that misleads
    /// is left out.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn credentials_revoked_since(
        &self,
        since: Timestamp,
    ) -> Result<Vec<CredentialMetadata>, LedgerError> {
        self.submit(move |connection| read::credentials_revoked_since(connection, since))
            .await
    }

    /// Returns the number of live rotations whose credentials have a redacted value.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn count_shown_ends(&self) -> Result<u64, LedgerError> {
        self.submit(read::count_shown_ends).await
    }

    /// Returns the names that the unclear creates of a scope may have at the provider.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn changed_names(&self, scope: &Scope) -> Result<ChangedNames, LedgerError> {
        let scope = scope.clone();
        self.submit(move |connection| ChangedNames::read(connection, &scope))
            .await
    }

    /// Returns the name that a list last showed of a credential without a row; none if no
    /// list of the scope showed it.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn name_without_row(
        &self,
        scope: &Scope,
        credential: &CredentialId,
    ) -> Result<Option<Option<String>>, LedgerError> {
        let (scope, credential) = (scope.clone(), credential.clone());
        self.submit(move |connection| read::name_without_row(connection, &scope, &credential))
            .await
    }

    /// Returns the time of the first of a key's latest consecutive failures.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn failing_since(&self, key: &KeyName) -> Result<Option<Timestamp>, LedgerError> {
        let key = key.clone();
        self.submit(move |connection| read::failing_since(connection, &key))
            .await
    }

    /// Returns the key of a credential, if the credential has a row.
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

    /// Returns the credentials, of any key and also ended ones, that this ledger has
    /// delivered to a target or adopted there. Reads every delivery.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn credentials_of_target(
        &self,
        target: &str,
    ) -> Result<Vec<CredentialMetadata>, LedgerError> {
        let target = target.to_owned();
        self.submit(move |connection| read::credentials_of_target(connection, &target))
            .await
    }

    /// Compares the provider's list of a scope with every row, and returns the
    /// discrepancies.
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
            reconciliation::reconcile(connection, &scope, listed, |state| {
                !matches!(state, RemoteState::AsExpected(_))
            })
        })
        .await
    }

    /// Gives pruned rotations their rows back, since their credentials were seen. Others are
    /// left alone.
    ///
    /// # Errors
    /// Nothing was recorded, or it is unknown; see [`LedgerError`].
    pub async fn return_rows(
        &self,
        rotations: Vec<RotationId>,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        self.submit(move |connection| prune::return_rows(connection, &rotations, at))
            .await
    }

    /// Prunes the rotations of a batch that are as the archive has them and may still be
    /// pruned: all of them, or none.
    ///
    /// # Errors
    /// [`LedgerError::Archive`] if the archive is another ledger's; see [`LedgerError`].
    pub async fn prune(&self, batch: PruneBatch, at: Timestamp) -> Result<PrunedRows, LedgerError> {
        self.submit(move |connection| prune::prune(connection, &batch, at))
            .await
    }

    /// Returns whether a list has none of the credentials that the last one of its scope
    /// had, so that it may be another organization's.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn is_foreign_list(
        &self,
        scope: &Scope,
        listed: Vec<CredentialId>,
    ) -> Result<bool, LedgerError> {
        let scope = scope.clone();
        self.submit(move |connection| reconciliation::is_foreign(connection, &scope, &listed))
            .await
    }

    /// Returns the lookalikes of `key` in the last list of its scope, newest first by the
    /// time in their labels.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn lookalikes(
        &self,
        scope: &Scope,
        key: &KeyName,
    ) -> Result<Vec<CredentialId>, LedgerError> {
        let (scope, key) = (scope.clone(), key.clone());
        self.submit(move |connection| {
            let former = key_names::former_names(connection)?.into_iter();
            let former = former.filter(|(_, present)| *present == key);
            let former = former.map(|(former, _)| former);
            let names: Vec<_> = std::iter::once(key.clone()).chain(former).collect();
            reconciliation::lookalikes(connection, &scope, &names)
        })
        .await
    }

    /// Returns the time of the last reconciliation of a scope, and whether a create in it
    /// that was sent since `since` failed and may still be applied.
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

    /// Records a reconciliation of a scope, and its credentials without a row. Returns
    /// those that were not recorded before.
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

    /// Checks that the ledger can be written: that its disk has room for twice the largest
    /// commit, and by writing a value that it has already.
    ///
    /// # Errors
    /// The ledger cannot be written; see [`LedgerError`].
    pub async fn check_writable(&self) -> Result<(), LedgerError> {
        self.check_room().await?;
        self.submit(write::check_writable).await
    }

    /// Checks that the disk of the ledger has room for what the ledger writes.
    ///
    /// # Errors
    /// [`LedgerError::NoRoom`], or the writer has stopped.
    pub async fn check_room(&self) -> Result<(), LedgerError> {
        let (sender, reply) = oneshot::channel();
        self.messages
            .send(WriterMessage::CheckRoom(sender))
            .map_err(|_| LedgerError::WriterStopped)?;
        reply.await.unwrap_or(Err(LedgerError::WriterStopped))
    }

    /// Records in the lock file at which socket this process answers. Commands find it there
    /// if their configuration names another one.
    pub fn record_socket(&self, socket: Option<PathBuf>) {
        // A writer that has stopped answers nobody.
        let _ = self.messages.send(WriterMessage::RecordSocket(socket));
    }

    /// Copies the log into the ledger, and closes it and its lock. Every later operation
    /// fails. Returns when the files are closed.
    pub async fn close(self) {
        let (sender, reply) = oneshot::channel();
        let ended_at = self.ended_at.get().copied();
        if self
            .messages
            .send(WriterMessage::Close(sender, ended_at))
            .is_ok()
        {
            // An error means that the writer has stopped.
            let _ = reply.await;
        }
    }

    /// Starts to check the pages beside the work, at most once an hour. Damage is an error
    /// of the next check of the files.
    pub fn start_page_check(&self) {
        if let Some(pages) = &self.pages {
            pages.start();
        }
    }

    /// Checks that the ledger is still this process's, and that its files are those that
    /// were opened, without a transaction.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`], from then on; or [`LedgerError::Locked`]: another process
    /// took one of its locks.
    pub async fn check_files(&self) -> Result<u64, LedgerError> {
        let (sender, reply) = oneshot::channel();
        self.messages
            .send(WriterMessage::CheckFiles(sender))
            .map_err(|_| LedgerError::WriterStopped)?;
        reply.await.unwrap_or(Err(LedgerError::WriterStopped))
    }

    /// Returns a copy of the ledger as it is at one moment, as an SQLite file without a log.
    /// Commits wait meanwhile. Those who ask between two commits share one copy.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`]: the files are not those that were opened; or the ledger is
    /// too large, or cannot be read.
    pub async fn copy(&self) -> Result<Arc<LedgerCopy>, LedgerError> {
        let (sender, reply) = oneshot::channel();
        self.messages
            .send(WriterMessage::Copy(sender))
            .map_err(|_| LedgerError::WriterStopped)?;
        reply.await.unwrap_or(Err(LedgerError::WriterStopped))
    }

    /// Notes that a row of `key` is not as this process wrote it, with what was found,
    /// and checks the files as [`Ledger::check_files`] does. Does nothing if a commit of
    /// another key has changed rows of `key`.
    ///
    /// # Errors
    /// As [`Ledger::check_files`].
    pub(crate) async fn report_contradiction(
        &self,
        key: &KeyName,
        found: &str,
    ) -> Result<(), LedgerError> {
        if self.stale_keys.has(key) {
            return Ok(());
        }
        let damage = LedgerDamage::Contradictory(found.to_owned());
        self.messages
            .send(WriterMessage::MarkDamaged(damage))
            .map_err(|_| LedgerError::WriterStopped)?;
        self.check_files().await?;
        Ok(())
    }

    /// Returns the rotations whose latest deadline of a leak was set at a time after `now`,
    /// with their keys and that time.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn deadlines_set_after(
        &self,
        now: Timestamp,
    ) -> Result<Vec<(KeyName, RotationId, Timestamp)>, LedgerError> {
        self.submit(move |connection| read::deadlines_set_after(connection, now))
            .await
    }

    /// Records requests for rotations, all or none. One of the same key is merged with an
    /// earlier one.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn record_requests(&self, requests: Vec<RecordedRequest>) -> Result<(), LedgerError> {
        self.submit(move |connection| {
            let mut requests = requests.iter();
            requests.try_for_each(|request| rotation_request::insert(connection, request))
        })
        .await
    }

    /// Removes the requests of `keys`, which are answered otherwise.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn remove_requests(&self, keys: Vec<KeyName>) -> Result<(), LedgerError> {
        self.submit(move |connection| {
            let mut keys = keys.iter();
            keys.try_for_each(|key| rotation_request::remove(connection, key))
        })
        .await
    }

    /// Returns the requests that have not started, by key.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn rotation_requests(&self) -> Result<Vec<RecordedRequest>, LedgerError> {
        self.submit(rotation_request::read).await
    }

    /// Records the problem of a condition of a scope or, without one, of the daemon; with
    /// no problem, its end. Commands read it from the ledger.
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
        let (operation, reply) = PendingOperation::new(work);
        self.messages
            .send(WriterMessage::Run(Box::new(operation)))
            .map_err(|_| LedgerError::WriterStopped)?;
        reply.await.unwrap_or(Err(LedgerError::WriterStopped))
    }
}
