//! The crashes that starts have found, in the event log.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::json;

use crate::core::crash::Crash;
use crate::core::ledger_event::LedgerEventKind;
use crate::ledger::error::LedgerError;
use crate::ledger::last_run;
use crate::ledger::rows::SqlTimestamp;

/// The recorded crashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedCrashes {
    /// The last one.
    pub last: Crash,
    /// The starts after a crash since the time that was asked for.
    pub restarts: usize,
}

/// Records a crash.
pub(super) fn record(connection: &Connection, crash: &Crash) -> Result<(), LedgerError> {
    let detail = json!({
        "location": crash.location,
        "reason": crash.reason,
        "version": crash.version,
    });
    connection.execute(
        "INSERT INTO event_log (at, rotation_row, key, event, detail)
         VALUES (?1, NULL, NULL, ?2, ?3)",
        params![SqlTimestamp(crash.at), EVENT, detail.to_string()],
    )?;
    Ok(())
}

/// Returns the last crash and the number of those since a time; none without one.
pub(super) fn read(
    connection: &Connection,
    since: Timestamp,
) -> Result<Option<RecordedCrashes>, LedgerError> {
    let Some(last) = last(connection)? else {
        return Ok(None);
    };
    let sql = "SELECT count(*) FROM event_log WHERE key IS NULL AND event = ?1 AND at >= ?2";
    let parameters = params![EVENT, SqlTimestamp(since)];
    let restarts = connection.query_row(sql, parameters, |row| row.get(0))?;
    Ok(Some(RecordedCrashes { last, restarts }))
}

/// Returns the end of the run before, if the ledger has neither its end in order nor its crash.
pub(super) fn killed_run(connection: &Connection) -> Result<Option<Crash>, LedgerError> {
    let Some(run) = last_run::read(connection)?.filter(|run| run.ended_at.is_none()) else {
        return Ok(None);
    };
    // A start that fails leaves the run before in its place.
    let is_counted = last(connection)?.is_some_and(|crash| crash.at >= run.started_at);
    if is_counted {
        return Ok(None);
    }
    let newest = last_run::newest_event_at(connection)?;
    let at = newest.map_or(run.started_at, |newest| newest.max(run.started_at));
    Ok(Some(Crash::without_trace(at)))
}

const EVENT: &str = LedgerEventKind::Crashed.as_str();

fn last(connection: &Connection) -> Result<Option<Crash>, LedgerError> {
    let text = |member| format!("coalesce(detail ->> '{member}', '')");
    let sql = format!(
        "SELECT at, {}, {}, {} FROM event_log WHERE key IS NULL AND event = ?1
         ORDER BY seq DESC LIMIT 1",
        text("version"),
        text("location"),
        text("reason")
    );
    let found = connection.query_row(&sql, [EVENT], |row| {
        Ok(Crash {
            at: row.get::<_, SqlTimestamp>(0)?.0,
            version: row.get(1)?,
            location: row.get(2)?,
            reason: row.get(3)?,
        })
    });
    Ok(found.optional()?)
}
