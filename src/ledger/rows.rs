//! Conversions between SQLite's values and domain types.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use crate::core::creation_time::earliest_by_host_clock;
use crate::core::ids::{CredentialId, KeyName, Label, RotationId, SinkId};
use crate::core::lifecycle::Phase;
use crate::core::scope::Scope;
use crate::core::state::{
    CredentialMetadata, DeferralKind, Delivery, DeliveryState, FileAccess, FileNote,
    HELD_UNTIL_RELEASED, KeyState, MissingSince, Pause, Retirement, RevocationDeadline, Rotation,
    Sighting, Trigger,
};
use crate::core::time;

/// A time as the ledger stores it.
pub(crate) struct SqlTimestamp(pub(crate) Timestamp);

impl ToSql for SqlTimestamp {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(time::to_text(self.0).into())
    }
}

impl FromSql for SqlTimestamp {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        time::from_text(value.as_str()?)
            .map(Self)
            .map_err(|_| FromSqlError::InvalidType)
    }
}

/// A value that the ledger stores as a word, such as a phase.
pub(crate) struct SqlText<T>(T);

macro_rules! impl_from_sql_text {
    ($($kind:ty),*) => {$(
        impl FromSql for SqlText<$kind> {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                <$kind>::from_text(value.as_str()?).map(Self).ok_or(FromSqlError::InvalidType)
            }
        }
    )*};
}
impl_from_sql_text!(Phase, Trigger, DeferralKind, DeliveryState, Scope);

impl FromSql for SqlText<KeyName> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let name = KeyName::new(value.as_str()?).map(Self);
        name.map_err(FromSqlError::other)
    }
}

/// The scope of a condition of the daemon.
const DAEMON_SCOPE: &str = "daemon";

/// Returns the text of the scope of a condition; none means the daemon.
pub(crate) fn scope_text(scope: Option<&Scope>) -> String {
    scope.map_or_else(|| DAEMON_SCOPE.to_owned(), Scope::to_string)
}

/// Returns the scope of a condition in column `scope`; none for the daemon.
pub(crate) fn condition_scope_column(row: &Row<'_>) -> rusqlite::Result<Option<Scope>> {
    parsed_column(row, "scope", |text| match text {
        DAEMON_SCOPE => Some(None),
        other => Scope::from_text(other).map(Some),
    })
}

/// Returns the phase in column `name`.
pub(crate) fn phase_column(row: &Row<'_>, name: &str) -> rusqlite::Result<Option<Phase>> {
    Ok(row
        .get::<_, Option<SqlText<Phase>>>(name)?
        .map(|word| word.0))
}

/// Returns the word in column `name`, parsed by `parse`.
pub(crate) fn parsed_column<T>(
    row: &Row<'_>,
    name: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let text: String = row.get(name)?;
    parse(&text).ok_or(rusqlite::Error::FromSqlConversionFailure(
        0,
        rusqlite::types::Type::Text,
        Box::new(FromSqlError::InvalidType),
    ))
}

/// Returns the key's name in column `key`.
pub(crate) fn key_column(row: &Row<'_>) -> rusqlite::Result<KeyName> {
    Ok(row.get::<_, SqlText<KeyName>>("key")?.0)
}

/// Returns the time in column `name`.
pub(crate) fn timestamp_column(row: &Row<'_>, name: &str) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<SqlTimestamp>>(name)?.map(|text| text.0))
}

/// Returns the earliest time of creation of what the create of a rotation made, from the
/// columns `not_created_before` and `started_at`.
pub(crate) fn earliest_creation_column(row: &Row<'_>) -> rusqlite::Result<Timestamp> {
    let started_at = timestamp_column(row, "started_at")?.unwrap_or_default();
    let earliest = timestamp_column(row, "not_created_before")?;
    Ok(earliest.unwrap_or_else(|| earliest_by_host_clock(started_at)))
}

/// The columns of `key_state k`, in the order of [`read_key_state`].
pub(crate) const KEY_STATE_COLUMNS: &str = "k.key, k.sequence, k.attempt, k.retry_at, k.last_error,
    k.failed_before_create, k.revoke_previous, k.replace_targets, k.timetable, k.counts_from, k.pending_run, k.due_run,
    k.dropped_run, k.dropped_runs, k.paused_from, k.paused_until, k.retired_at, k.retired_now";

/// The columns of `rotation r`, in the order of [`read_rotation`].
pub(crate) const ROTATION_COLUMNS: &str =
    "r.credential_id, r.redacted_value, r.created_at, r.expires_at,
    r.rotation, r.scope, r.sequence, r.\"trigger\", r.scheduled_for, r.started_at, r.label, r.phase,
    r.current_at, r.retired_at, r.revoke_after, r.revoked_at, r.error, r.attempt, r.retry_at,
    r.stranded_at, r.missing_since, r.missing_checks, r.is_held, r.hold_until, r.revoke_now,
    r.deferred_since, r.deferral, r.final_warning, r.maybe_created,
    r.wrong_redaction, r.answer_rejected, r.name, r.revoke_by, r.revoke_by_forced,
    r.not_created_before";

/// The columns of `delivery d`, in the order of [`read_delivery`].
pub(crate) const DELIVERY_COLUMNS: &str = "d.sink, d.target, d.required, d.state, d.maybe_accepted,
    d.attempts, d.last_attempt_at, d.written_at, d.accepted_at, d.removed_at, d.retry_at, d.error,
    d.seen_since, d.seen_until, d.file_device, d.file_inode, d.file_size, d.file_modified,
    d.file_changed, d.file_owner, d.file_group, d.file_mode";

/// Returns the number of columns in such a list.
pub(crate) const fn column_count(list: &str) -> usize {
    let (mut count, mut index) = (1, 0);
    while index < list.len() {
        if list.as_bytes()[index] == b',' {
            count += 1;
        }
        index += 1;
    }
    count
}

/// Reads the columns of a row in order. A search for each column by its name would take
/// longer than the rest of reading a row.
pub(crate) struct RowReader<'a> {
    row: &'a Row<'a>,
    next_column: usize,
}

impl<'a> RowReader<'a> {
    pub(crate) const fn new(row: &'a Row<'a>) -> Self {
        Self {
            row,
            next_column: 0,
        }
    }

    /// Continues with `column`.
    pub(crate) const fn skip_to(self, column: usize) -> Self {
        Self {
            row: self.row,
            next_column: column,
        }
    }

    pub(crate) fn get<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        let column = self.next_column;
        self.next_column += 1;
        self.row.get(column)
    }

    pub(crate) fn parsed<T>(&mut self) -> rusqlite::Result<T>
    where
        SqlText<T>: FromSql,
    {
        Ok(self.get::<SqlText<T>>()?.0)
    }

    pub(crate) fn key_name(&mut self) -> rusqlite::Result<KeyName> {
        self.parsed()
    }

    pub(crate) fn required_timestamp(&mut self) -> rusqlite::Result<Timestamp> {
        Ok(self.get::<SqlTimestamp>()?.0)
    }

    pub(crate) fn timestamp(&mut self) -> rusqlite::Result<Option<Timestamp>> {
        Ok(self.get::<Option<SqlTimestamp>>()?.map(|text| text.0))
    }
}

/// Returns the text in the ledger for targets whose keys a rotation may replace.
pub(crate) fn targets_text(targets: &[String]) -> Option<String> {
    (!targets.is_empty()).then(|| serde_json::json!(targets).to_string())
}

/// Parses the text that [`targets_text`] returns. What is no such text allows nothing.
pub(crate) fn parse_targets(text: Option<String>) -> Vec<String> {
    let targets = text.and_then(|text| serde_json::from_str(&text).ok());
    targets.unwrap_or_default()
}

/// Reads a key without its rotations from the columns of [`KEY_STATE_COLUMNS`].
pub(crate) fn read_key_state(cells: &mut RowReader<'_>) -> rusqlite::Result<KeyState> {
    Ok(KeyState {
        key: cells.key_name()?,
        former_names: Vec::new(),
        sequence: cells.get()?,
        newest_phase: None,
        last_current: None,
        attempt: cells.get()?,
        retry_at: cells.timestamp()?,
        last_error: cells.get()?,
        failed_before_create: cells.get()?,
        revoke_previous: cells.get()?,
        replace_targets: parse_targets(cells.get()?),
        timetable: cells.get()?,
        counts_from: cells.timestamp()?,
        pending_run: cells.timestamp()?,
        due_run: cells.timestamp()?,
        dropped_run: cells.timestamp()?,
        dropped_runs: cells.get()?,
        pause: {
            let (from, until) = (cells.timestamp()?, cells.timestamp()?);
            from.map(|from| Pause { from, until })
        },
        retirement: {
            let (at, is_immediate) = (cells.timestamp()?, cells.get()?);
            at.map(|at| Retirement { at, is_immediate })
        },
        live: Vec::new(),
    })
}

/// Reads a rotation without its deliveries from the columns of [`ROTATION_COLUMNS`].
pub(crate) fn read_rotation(cells: &mut RowReader<'_>) -> rusqlite::Result<Rotation> {
    // The type inside `CredentialId`: a `String` would be one more allocation.
    let id: Option<Arc<str>> = cells.get()?;
    let redacted_value = cells.get()?;
    let (created_at, expires_at) = (cells.timestamp()?, cells.timestamp()?);
    let credential = id.map(|id| CredentialMetadata {
        id: CredentialId::new(id),
        redacted_value,
        created_at,
        expires_at,
    });
    Ok(Rotation {
        credential,
        id: RotationId::from_recorded(cells.get::<Arc<str>>()?),
        scope: cells.parsed()?,
        sequence: cells.get()?,
        trigger: cells.parsed()?,
        scheduled_for: cells.timestamp()?,
        started_at: cells.required_timestamp()?,
        label: cells.get::<Option<Arc<str>>>()?.map(Label::from_recorded),
        phase: cells.parsed()?,
        current_at: cells.timestamp()?,
        retired_at: cells.timestamp()?,
        revoke_after: cells.timestamp()?,
        revoked_at: cells.timestamp()?,
        error: cells.get()?,
        attempt: cells.get()?,
        retry_at: cells.timestamp()?,
        stranded_at: cells.timestamp()?,
        missing: {
            let (since, checks) = (cells.timestamp()?, cells.get()?);
            since.map(|since| MissingSince { since, checks })
        },
        hold_until: {
            let (is_held, until): (bool, _) = (cells.get()?, cells.timestamp()?);
            is_held.then(|| until.unwrap_or(HELD_UNTIL_RELEASED))
        },
        revoke_now: cells.get()?,
        deferred_since: cells.timestamp()?,
        deferral: cells
            .get::<Option<SqlText<DeferralKind>>>()?
            .map(|text| text.0),
        final_warning: cells.get()?,
        maybe_created: cells.get()?,
        has_wrong_redaction: cells.get()?,
        is_answer_rejected: cells.get()?,
        name: cells.get()?,
        deadline: {
            let (at, is_forced) = (cells.timestamp()?, cells.get()?);
            at.map(|at| RevocationDeadline { at, is_forced })
        },
        not_created_before: cells.timestamp()?,
        deliveries: Vec::with_capacity(1),
    })
}

/// Reads a delivery from the columns of [`DELIVERY_COLUMNS`].
pub(crate) fn read_delivery(cells: &mut RowReader<'_>) -> rusqlite::Result<Delivery> {
    Ok(Delivery {
        sink: SinkId {
            name: cells.get()?,
            target: cells.get()?,
        },
        required: cells.get()?,
        state: cells.parsed()?,
        maybe_accepted: cells.get()?,
        attempts: cells.get()?,
        last_attempt_at: cells.timestamp()?,
        written_at: cells.timestamp()?,
        accepted_at: cells.timestamp()?,
        removed_at: cells.timestamp()?,
        retry_at: cells.timestamp()?,
        error: cells.get()?,
        sighting: {
            let (since, until) = (cells.timestamp()?, cells.timestamp()?);
            since.map(|since| Sighting { since, until })
        },
        file: read_file_note(cells)?,
        file_access: read_file_access(cells)?,
    })
}

/// Reads the columns `file_owner`, `file_group` and `file_mode`.
pub(crate) fn read_file_access(cells: &mut RowReader<'_>) -> rusqlite::Result<Option<FileAccess>> {
    let mut column = || cells.get::<Option<u32>>();
    let columns = [column()?, column()?, column()?];
    let [Some(owner), Some(group), Some(mode)] = columns else {
        return Ok(None);
    };
    Ok(Some(FileAccess { owner, group, mode }))
}

fn read_file_note(cells: &mut RowReader<'_>) -> rusqlite::Result<Option<FileNote>> {
    let mut column = || cells.get::<Option<i64>>();
    let columns = [column()?, column()?, column()?, column()?, column()?];
    let [
        Some(device),
        Some(inode),
        Some(size),
        Some(modified_at),
        Some(changed_at),
    ] = columns
    else {
        return Ok(None);
    };
    Ok(Some(FileNote {
        device,
        inode,
        size,
        modified_at,
        changed_at,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads<T>(value: &str) -> bool
    where
        SqlText<T>: FromSql,
    {
        SqlText::<T>::column_result(ValueRef::Text(value.as_bytes())).is_ok()
    }

    #[test]
    fn only_words_of_a_column_are_read() {
        for phase in Phase::ALL {
            assert!(reads::<Phase>(phase.as_str()), "{phase:?}");
        }
        for kind in DeferralKind::ALL {
            assert!(reads::<DeferralKind>(kind.as_str()), "{kind:?}");
        }
        for word in [
            "",
            "Current",
            "CURRENT",
            " current",
            "current ",
            "current\n",
            "curren",
            "currents",
            "current,retired",
            "NULL",
            "0",
        ] {
            assert!(!reads::<Phase>(word), "{word:?}");
            assert!(!reads::<Trigger>(word), "{word:?}");
            assert!(!reads::<DeferralKind>(word), "{word:?}");
            assert!(!reads::<DeliveryState>(word), "{word:?}");
            assert!(!reads::<Scope>(word), "{word:?}");
        }
        for value in [
            ValueRef::Null,
            ValueRef::Integer(1),
            ValueRef::Real(1.0),
            ValueRef::Blob(b"current"),
            ValueRef::Text(b"current\xff"),
        ] {
            assert!(SqlText::<Phase>::column_result(value).is_err(), "{value:?}");
            assert!(SqlTimestamp::column_result(value).is_err(), "{value:?}");
        }
        for (text, is_time) in [
            ("2026-11-24T03:00:00Z", true),
            ("2026-11-24 03:00:00", false),
            ("2026-11-24", false),
            ("1795489200", false),
            ("", false),
        ] {
            let read = SqlTimestamp::column_result(ValueRef::Text(text.as_bytes()));
            assert_eq!(read.is_ok(), is_time, "{text}");
        }
    }
}
