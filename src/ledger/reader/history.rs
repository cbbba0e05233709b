//! The history of rotations, one row at a time.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Row, Statement, params_from_iter};

use crate::core::ids::{CredentialId, KeyName, Label, RotationId};
use crate::core::lifecycle::Phase;
use crate::core::state::Trigger;
use crate::core::time;
use crate::ledger::error::LedgerError;
use crate::ledger::key_names::NAMES_OF_KEY;
use crate::ledger::reader::LedgerSnapshot;
use crate::ledger::rows::RowReader;

/// A filter of the rotations that [`LedgerSnapshot::history`] returns; all by default.
#[derive(Debug, Clone, Default)]
pub struct HistoryFilter {
    /// The name of their key.
    pub key: Option<String>,
    /// The earliest time of their start.
    pub since: Option<Timestamp>,
    /// The number of the newest rotations to return.
    pub limit: Option<u32>,
}

/// A past or present rotation: a row of the view `history`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The rotation.
    pub rotation: RotationId,
    /// Its key.
    pub key: KeyName,
    /// Its sequence.
    pub sequence: u64,
    /// Why it started.
    pub trigger: Trigger,
    /// The firing that it started for.
    pub scheduled_for: Option<Timestamp>,
    /// When it started.
    pub started_at: Timestamp,
    /// The label of its credential; an adopted one has none.
    pub label: Option<Label>,
    /// Its credential, once the provider created it.
    pub credential: Option<CredentialId>,
    /// The redacted secret, as the provider shows it.
    pub redacted_value: Option<String>,
    /// When the provider created the credential.
    pub created_at: Option<Timestamp>,
    /// When the credential expires.
    pub expires_at: Option<Timestamp>,
    /// Its phase.
    pub phase: Phase,
    /// When it became current.
    pub current_at: Option<Timestamp>,
    /// When a newer one superseded it.
    pub retired_at: Option<Timestamp>,
    /// When its overlap ends.
    pub revoke_after: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Its last error.
    pub error: Option<String>,
    /// Whether an operator holds its credential.
    pub is_held: bool,
    /// The end of the hold; none until an operator releases the credential.
    pub hold_until: Option<Timestamp>,
    /// Who holds it.
    pub holder: Option<String>,
    /// Why it is held.
    pub hold_reason: Option<String>,
    /// The name that the provider is expected to show.
    pub name: Option<String>,
}

/// A prepared query of the history. It can run more than once, with the same result.
pub struct HistoryQuery<'a> {
    statement: Statement<'a>,
    parameters: Vec<Value>,
}

impl HistoryQuery<'_> {
    /// Runs the query, and returns the rotations from the newest on. They are read one by
    /// one, because there may be a million.
    ///
    /// # Errors
    /// The ledger cannot be read, or has a row that rekeyd never writes.
    pub fn rows(
        &mut self,
    ) -> Result<impl Iterator<Item = Result<HistoryEntry, LedgerError>> + '_, LedgerError> {
        let parameters = params_from_iter(&self.parameters);
        let rows = self.statement.query_map(parameters, read_entry)?;
        Ok(rows.map(|row| row.map_err(LedgerError::from)))
    }
}

impl LedgerSnapshot<'_> {
    /// Prepares a query of the rotations that `filter` selects.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn history(&self, filter: &HistoryFilter) -> Result<HistoryQuery<'_>, LedgerError> {
        let (sql, parameters) = history_sql(filter);
        Ok(HistoryQuery {
            statement: self.transaction.prepare(&sql)?,
            parameters,
        })
    }
}

/// The columns in the order of [`read_entry`].
const COLUMNS: &str = "rotation, key, sequence, \"trigger\", scheduled_for, started_at, label,
    credential_id, redacted_value, created_at, expires_at, phase, current_at, retired_at,
    revoke_after, revoked_at, error, held, hold_until, holder, hold_reason, name";

/// The view with the row of each rotation, in whose order `start` is read.
const BY_START: &str = "(SELECT id AS start_row, rotation AS start_of, started_at AS start
    FROM rotation) CROSS JOIN history ON rotation = start_of";

fn history_sql(filter: &HistoryFilter) -> (String, Vec<Value>) {
    let mut parameters = Vec::new();
    let (source, start, order) = match &filter.key {
        // The sequences of one key are in order even after a clock jump.
        Some(_) => ("history", "started_at", "sequence DESC"),
        // Rotations that start in one second are in the order of their rows. SQLite reads both
        // from the index, and sorts nothing before it returns the first.
        None => (BY_START, "start", "start DESC, start_row DESC"),
    };
    let mut sql = format!("SELECT {COLUMNS} FROM {source} WHERE true");
    if let Some(key) = &filter.key {
        sql.push_str(&format!(" AND key IN {NAMES_OF_KEY}"));
        parameters.push(Value::Text(key.clone()));
    }
    if let Some(since) = filter.since {
        sql.push_str(&format!(" AND {start} >= ?"));
        parameters.push(Value::Text(time::to_text(since)));
    }
    sql.push_str(&format!(" ORDER BY {order} LIMIT ?"));
    parameters.push(Value::Integer(filter.limit.map_or(-1, i64::from)));
    (sql, parameters)
}

fn read_entry(row: &Row<'_>) -> rusqlite::Result<HistoryEntry> {
    let mut cells = RowReader::new(row);
    Ok(HistoryEntry {
        rotation: RotationId::from_recorded(cells.get::<Arc<str>>()?),
        key: cells.key_name()?,
        sequence: cells.get()?,
        trigger: cells.parsed()?,
        scheduled_for: cells.timestamp()?,
        started_at: cells.required_timestamp()?,
        label: cells.get::<Option<Arc<str>>>()?.map(Label::from_recorded),
        credential: cells.get::<Option<Arc<str>>>()?.map(CredentialId::new),
        redacted_value: cells.get()?,
        created_at: cells.timestamp()?,
        expires_at: cells.timestamp()?,
        phase: cells.parsed()?,
        current_at: cells.timestamp()?,
        retired_at: cells.timestamp()?,
        revoke_after: cells.timestamp()?,
        revoked_at: cells.timestamp()?,
        error: cells.get()?,
        is_held: cells.get()?,
        hold_until: cells.timestamp()?,
        holder: cells.get()?,
        hold_reason: cells.get()?,
        name: cells.get()?,
    })
}
