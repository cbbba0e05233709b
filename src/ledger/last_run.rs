//! The process that wrote the ledger last and rotates by schedule: `rekeyd run` or `rekeyd
//! once`. Commands that a person runs are not recorded.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::ledger::error::LedgerError;
use crate::ledger::rows::{SqlTimestamp, timestamp_column};

/// A command that rotates by schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchedulingCommand {
    /// `rekeyd run`, which should always run.
    Run,
    /// `rekeyd once`, which a timer starts.
    Once,
}

impl SchedulingCommand {
    /// Every command.
    pub const ALL: [Self; 2] = [Self::Run, Self::Once];

    /// Returns its word in the ledger.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Once => "once",
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|command| command.as_str() == text)
    }
}

/// The latest process that rotates by schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRun {
    /// Its command.
    pub command: SchedulingCommand,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended in order; none while it runs, and after a kill.
    pub ended_at: Option<Timestamp>,
}

/// Returns the latest run; none before the first.
pub(super) fn read(connection: &Connection) -> Result<Option<LastRun>, LedgerError> {
    let sql = "SELECT command, started_at, ended_at FROM last_run";
    let run = connection.query_row(sql, [], |row| {
        let command: String = row.get("command")?;
        let started_at = row.get::<_, SqlTimestamp>("started_at")?;
        Ok((command, started_at.0, timestamp_column(row, "ended_at")?))
    });
    let Some((command, started_at, ended_at)) = run.optional()? else {
        return Ok(None);
    };
    let command = SchedulingCommand::from_text(&command);
    let unknown = || LedgerError::Corrupt("an unknown command in last_run".to_owned());
    Ok(Some(LastRun {
        command: command.ok_or_else(unknown)?,
        started_at,
        ended_at,
    }))
}

/// Records the start of a run, and returns the one before.
pub(super) fn begin(
    connection: &Connection,
    command: SchedulingCommand,
    at: Timestamp,
) -> Result<Option<LastRun>, LedgerError> {
    let previous = read(connection)?;
    connection.execute(
        "INSERT INTO last_run (id, command, started_at) VALUES (1, ?1, ?2)
         ON CONFLICT (id) DO UPDATE SET command = ?1, started_at = ?2, ended_at = NULL",
        params![command.as_str(), SqlTimestamp(at)],
    )?;
    Ok(previous)
}

/// Records that the run ended in order.
pub(super) fn end(connection: &Connection, at: Timestamp) -> Result<(), LedgerError> {
    let at = params![SqlTimestamp(at)];
    connection.execute("UPDATE last_run SET ended_at = ?1 WHERE id = 1", at)?;
    Ok(())
}

/// Replaces the latest run in a copy that is restored by that of the `former` ledger: no
/// process runs any more that ran when the copy was made. Where that is not known, the
/// copy's run ended with its newest event.
pub(super) fn carry_over(copy: &Connection, former: Option<LastRun>) -> Result<(), LedgerError> {
    let table = "SELECT count(*) FROM sqlite_schema WHERE name = 'last_run'";
    let tables: usize = copy.query_row(table, [], |row| row.get(0))?;
    if tables == 0 {
        // A ledger of the first release.
        return Ok(());
    }
    let newest = newest_event_at(copy)?;
    let Some(run) = former.or(read(copy)?.map(|run| LastRun {
        ended_at: run
            .ended_at
            .or(Some(run.started_at.max(newest.unwrap_or(run.started_at)))),
        ..run
    })) else {
        return Ok(());
    };
    begin(copy, run.command, run.started_at)?;
    run.ended_at.map_or(Ok(()), |at| end(copy, at))
}

/// Returns the time of the newest event; none without one.
pub(super) fn newest_event_at(connection: &Connection) -> Result<Option<Timestamp>, LedgerError> {
    let sql = "SELECT at FROM event_log ORDER BY seq DESC LIMIT 1";
    let found = connection.query_row(sql, [], |row| timestamp_column(row, "at"));
    Ok(found.optional()?.flatten())
}
