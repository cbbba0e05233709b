//! Checks the pages of an open ledger beside the work, on a thread and a connection of its
//! own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, InterruptHandle, OpenFlags};
use tokio::sync::mpsc;

use crate::core::os_error;
use crate::ledger::checkpoint_note::FileStamp;
use crate::ledger::error::LedgerError;
use crate::ledger::foreign_schema;
use crate::ledger::writer_message::WriterMessage;

/// The interval of the checks at most.
const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// The shortest interval of the checks because another process wrote the files.
const SUSPICIOUS_INTERVAL: Duration = Duration::from_secs(10);

/// That interval for a large ledger, as a multiple of the last check's duration.
const REST: u32 = 10;

/// SQLite's extended code of a read past the end of a file.
const SQLITE_IOERR_SHORT_READ: i32 = 522;

/// Runs `PRAGMA quick_check`.
#[derive(Clone)]
pub(super) struct PageCheck {
    path: PathBuf,
    /// Does not keep the writer from ending.
    writer: mpsc::WeakUnboundedSender<WriterMessage>,
    state: Arc<Mutex<CheckState>>,
}

#[derive(Default)]
struct CheckState {
    last_start: Option<Instant>,
    /// When the last check because of another process started.
    last_suspicion: Option<Instant>,
    duration: Duration,
    is_running: bool,
    is_stopped: bool,
    interrupt: Option<InterruptHandle>,
}

impl CheckState {
    /// Returns whether a check may start, the last one of its kind having started at
    /// `last`.
    fn can_start(&self, last: Option<Instant>, interval: Duration) -> bool {
        let is_recent = last.is_some_and(|at| at.elapsed() < interval);
        !is_recent && !self.is_running && !self.is_stopped
    }
}

impl PageCheck {
    pub(super) fn new(path: &Path, writer: mpsc::WeakUnboundedSender<WriterMessage>) -> Self {
        Self {
            path: path.to_owned(),
            writer,
            state: Arc::default(),
        }
    }

    /// Starts a check, unless one started within the last hour.
    pub(super) fn start(&self) {
        let mut state = self.state();
        if state.can_start(state.last_start, INTERVAL) {
            state.last_start = Some(Instant::now());
            self.spawn(&mut state, None);
        }
    }

    /// Starts a check because another process wrote the files: the ledger is now as
    /// `written`. A process that writes all the time is not checked all the time.
    pub(super) fn start_soon(&self, written: FileStamp) {
        let mut state = self.state();
        let interval = SUSPICIOUS_INTERVAL.max(state.duration * REST);
        if state.can_start(state.last_suspicion, interval) {
            state.last_suspicion = Some(Instant::now());
            self.spawn(&mut state, Some(written));
        }
    }

    fn spawn(&self, state: &mut CheckState, written: Option<FileStamp>) {
        state.is_running = true;
        let check = self.clone();
        let thread = std::thread::Builder::new().name("ledger-check".to_owned());
        if let Err(error) = thread.spawn(move || check.run(written)) {
            state.is_running = false;
            let reason = os_error::describe(&error);
            tracing::debug!("cannot start the integrity check of the ledger: {reason}");
        }
    }

    /// Ends a running check, and starts none any more.
    pub(super) fn stop(&self) {
        let mut state = self.state();
        state.is_stopped = true;
        if let Some(interrupt) = state.interrupt.take() {
            interrupt.interrupt();
        }
    }

    fn run(&self, written: Option<FileStamp>) {
        let start = Instant::now();
        let found = self.check();
        let mut state = self.state();
        (state.is_running, state.interrupt) = (false, None);
        state.duration = start.elapsed();
        let is_stopped = state.is_stopped;
        drop(state);
        let result = match found {
            Ok(result) if result == "ok" => Ok(written),
            Ok(result) => Err(result),
            Err(error) if is_damage(&error) => Err(error.to_string()),
            Err(error) => {
                tracing::debug!(%error, "cannot check the integrity of the ledger");
                return;
            }
        };
        if !is_stopped && let Some(writer) = self.writer.upgrade() {
            // An error means that the writer has stopped.
            let _ = writer.send(WriterMessage::PagesChecked(result));
        }
    }

    fn check(&self) -> Result<String, LedgerError> {
        // SQLite deletes the log of a ledger without a page.
        if self.path.metadata().is_ok_and(|found| found.len() == 0) {
            return Ok("the file is empty".to_owned());
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        foreign_schema::distrust(&connection)?;
        {
            let mut state = self.state();
            if state.is_stopped {
                return Ok("ok".to_owned());
            }
            state.interrupt = Some(connection.get_interrupt_handle());
        }
        let sql = "PRAGMA main.quick_check(1)";
        Ok(connection.query_row(sql, [], |row| row.get(0))?)
    }

    fn state(&self) -> MutexGuard<'_, CheckState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether an error shows damage. A short read is one of pages that the log's index
/// has, and its file not.
fn is_damage(error: &LedgerError) -> bool {
    let is_short_read = matches!(error, LedgerError::Database(error)
        if error.extended_code() == Some(SQLITE_IOERR_SHORT_READ));
    is_short_read || error.is_malformed()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tokio::sync::mpsc::UnboundedReceiver;

    use super::*;

    /// A ledger file with a page, its check, and the mailbox of the writer.
    struct Ledger {
        check: PageCheck,
        mailbox: UnboundedReceiver<WriterMessage>,
        /// Kept, so that the mailbox stays open.
        _sender: mpsc::UnboundedSender<WriterMessage>,
        dir: TempDir,
    }

    impl Ledger {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("ledger.db");
            let connection = Connection::open(&path).unwrap();
            connection.execute_batch("CREATE TABLE a (b)").unwrap();
            let (sender, mailbox) = mpsc::unbounded_channel();
            Self {
                check: PageCheck::new(&path, sender.downgrade()),
                mailbox,
                _sender: sender,
                dir,
            }
        }

        /// Returns what the next check reports to the writer.
        fn reported(&mut self) -> Result<Option<FileStamp>, String> {
            match self.mailbox.blocking_recv().unwrap() {
                WriterMessage::PagesChecked(found) => found,
                WriterMessage::Run(_)
                | WriterMessage::CheckFiles(_)
                | WriterMessage::CheckRoom(_)
                | WriterMessage::Copy(_)
                | WriterMessage::MarkDamaged(_)
                | WriterMessage::RecordSocket(_)
                | WriterMessage::Close(..) => panic!("a check sends its result alone"),
            }
        }

        fn stamp(&self) -> FileStamp {
            FileStamp::new(&self.dir.path().join("ledger.db").metadata().unwrap())
        }

        fn has_started_since(&self, before: Option<Instant>) -> bool {
            self.check.state().last_start != before
        }
    }

    #[test]
    fn check_runs_once_an_hour_and_earlier_if_another_process_writes() {
        let mut ledger = Ledger::new();
        ledger.check.start();
        assert_eq!(ledger.reported(), Ok(None));
        let first = ledger.check.state().last_start;
        ledger.check.start();
        assert!(!ledger.has_started_since(first), "within the hour");

        let written = ledger.stamp();
        ledger.check.start_soon(written);
        assert_eq!(ledger.reported(), Ok(Some(written)));
        ledger.check.start_soon(written);
        assert!(ledger.mailbox.is_empty(), "within ten seconds");

        let an_hour_ago = Instant::now().checked_sub(INTERVAL);
        ledger.check.state().last_start = Some(an_hour_ago.unwrap());
        ledger.check.start();
        assert_eq!(ledger.reported(), Ok(None));
    }

    #[test]
    fn check_of_a_long_duration_runs_rarely_and_never_twice_at_once() {
        let mut state = CheckState::default();
        assert!(state.can_start(None, INTERVAL));
        let now = Instant::now();
        assert!(!state.can_start(Some(now), SUSPICIOUS_INTERVAL));
        let a_minute_ago = now.checked_sub(Duration::from_secs(60));
        assert!(state.can_start(a_minute_ago, SUSPICIOUS_INTERVAL));
        let long = Duration::from_secs(30);
        assert!(!state.can_start(a_minute_ago, SUSPICIOUS_INTERVAL.max(long * REST)));
        state.is_running = true;
        assert!(!state.can_start(None, INTERVAL));
    }

    #[test]
    fn stop_ends_a_running_check_and_lets_none_start() {
        let mut ledger = Ledger::new();
        // A check that would never end.
        let connection = Connection::open_in_memory().unwrap();
        let sql = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)
                   SELECT x FROM n";
        let mut endless = connection.prepare(sql).unwrap();
        let mut rows = endless.query([]).unwrap();
        assert!(rows.next().is_ok());
        {
            let mut state = ledger.check.state();
            state.is_running = true;
            state.interrupt = Some(connection.get_interrupt_handle());
        }
        ledger.check.stop();
        assert!(rows.next().is_err(), "the check goes on");

        ledger.check.state().is_running = false;
        ledger.check.start();
        ledger.check.start_soon(ledger.stamp());
        assert_eq!(ledger.check.state().last_start, None);
        assert_eq!(
            ledger.check.check().unwrap(),
            "ok",
            "nothing is read any more"
        );
        assert!(ledger.mailbox.try_recv().is_err());
    }
}
