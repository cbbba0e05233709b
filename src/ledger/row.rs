//! From SQLite's values to ours and back.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use crate::core::names::{CredentialId, KeyName, Label, RotationId, SinkId};
use crate::core::record::{
    CredentialFacts, Delivery, DeliveryState, KeyState, Missing, Pause, Rotation, Trigger,
};
use crate::core::rotation::Phase;
use crate::core::time;

/// A time as the ledger stores it.
pub(crate) struct Text(pub(crate) Timestamp);

impl ToSql for Text {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(time::to_text(self.0).into())
    }
}

impl FromSql for Text {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        time::from_text(value.as_str()?)
            .map(Self)
            .map_err(|_| FromSqlError::InvalidType)
    }
}

/// A word of ours, such as a phase.
struct Word<T>(T);

macro_rules! words {
    ($($kind:ty),*) => {$(
        impl FromSql for Word<$kind> {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                <$kind>::from_text(value.as_str()?).map(Self).ok_or(FromSqlError::InvalidType)
            }
        }
    )*};
}
words!(Phase, Trigger, DeliveryState);

impl FromSql for Word<KeyName> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let name = KeyName::new(value.as_str()?).map(Self);
        name.map_err(FromSqlError::other)
    }
}

/// A phase in column `name`.
pub(crate) fn phase(row: &Row<'_>, name: &str) -> rusqlite::Result<Option<Phase>> {
    Ok(row.get::<_, Option<Word<Phase>>>(name)?.map(|word| word.0))
}

/// One of our words in column `name`, as `read` reads it.
pub(crate) fn word<T>(
    row: &Row<'_>,
    name: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let text: String = row.get(name)?;
    read(&text).ok_or(rusqlite::Error::FromSqlConversionFailure(
        0,
        rusqlite::types::Type::Text,
        Box::new(FromSqlError::InvalidType),
    ))
}

/// The key's name in column `key`.
pub(crate) fn key_name(row: &Row<'_>) -> rusqlite::Result<KeyName> {
    Ok(row.get::<_, Word<KeyName>>("key")?.0)
}

/// A time in column `name`.
pub(crate) fn at(row: &Row<'_>, name: &str) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<Text>>(name)?.map(|text| text.0))
}

/// What is read of a row of `key_state k`, in the order of [`key_state`].
pub(crate) const KEY_STATE: &str = "k.key, k.sequence, k.attempt, k.retry_at, k.problem,
    k.revoke_previous, k.timetable, k.counts_from, k.owed, k.paused_from, k.paused_until";

/// What is read of a row of `rotation r`, in the order of [`rotation`].
pub(crate) const ROTATION: &str = "r.credential_id, r.redacted_value, r.created_at, r.expires_at,
    r.rotation, r.sequence, r.\"trigger\", r.scheduled_for, r.started_at, r.label, r.phase,
    r.current_at, r.retired_at, r.revoke_after, r.revoked_at, r.error, r.attempt, r.retry_at,
    r.stranded_at, r.missing_since, r.missing_looks, r.hold_until, r.revoke_now";

/// What is read of a row of `delivery d`, in the order of [`delivery`].
pub(crate) const DELIVERY: &str = "d.sink, d.target, d.required, d.state, d.maybe_taken,
    d.attempts, d.last_attempt_at, d.written_at, d.accepted_at, d.removed_at, d.retry_at, d.error";

/// How many columns such a list names.
pub(crate) const fn width(list: &str) -> usize {
    let (mut width, mut at) = (1, 0);
    while at < list.len() {
        if list.as_bytes()[at] == b',' {
            width += 1;
        }
        at += 1;
    }
    width
}

/// The columns of a row, one after another. By their names each would be looked
/// for among all of them, which is most of the time that it takes to read the
/// ledger of ten thousand keys.
pub(crate) struct Cells<'a> {
    row: &'a Row<'a>,
    next: usize,
}

impl<'a> Cells<'a> {
    pub(crate) const fn of(row: &'a Row<'a>) -> Self {
        Self { row, next: 0 }
    }

    /// Goes on with that column.
    pub(crate) const fn at_column(self, column: usize) -> Self {
        Self {
            row: self.row,
            next: column,
        }
    }

    pub(crate) fn get<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        let at = self.next;
        self.next += 1;
        self.row.get(at)
    }

    fn word<T>(&mut self) -> rusqlite::Result<T>
    where
        Word<T>: FromSql,
    {
        Ok(self.get::<Word<T>>()?.0)
    }

    pub(crate) fn key_name(&mut self) -> rusqlite::Result<KeyName> {
        self.word()
    }

    fn at(&mut self) -> rusqlite::Result<Option<Timestamp>> {
        Ok(self.get::<Option<Text>>()?.map(|text| text.0))
    }
}

/// A key without its rotations, from the columns of [`KEY_STATE`].
pub(crate) fn key_state(cells: &mut Cells<'_>) -> rusqlite::Result<KeyState> {
    Ok(KeyState {
        key: cells.key_name()?,
        sequence: cells.get()?,
        newest: None,
        is_bereft: false,
        attempt: cells.get()?,
        retry_at: cells.at()?,
        problem: cells.get()?,
        revoke_previous: cells.get()?,
        timetable: cells.get()?,
        counts_from: cells.at()?,
        owed: cells.at()?,
        pause: {
            let (from, until) = (cells.at()?, cells.at()?);
            from.map(|from| Pause { from, until })
        },
        live: Vec::new(),
    })
}

/// A rotation without its deliveries, from the columns of [`ROTATION`].
pub(crate) fn rotation(cells: &mut Cells<'_>) -> rusqlite::Result<Rotation> {
    // As the names hold it: a text in between would be one more for each.
    let id: Option<Arc<str>> = cells.get()?;
    let redacted_value = cells.get()?;
    let (created_at, expires_at) = (cells.at()?, cells.at()?);
    let credential = id.map(|id| CredentialFacts {
        id: CredentialId::new(id),
        redacted_value,
        created_at,
        expires_at,
    });
    Ok(Rotation {
        credential,
        id: RotationId::recorded(cells.get::<Arc<str>>()?),
        sequence: cells.get()?,
        trigger: cells.word()?,
        scheduled_for: cells.at()?,
        started_at: cells.get::<Text>()?.0,
        label: cells.get::<Option<Arc<str>>>()?.map(Label::recorded),
        phase: cells.word()?,
        current_at: cells.at()?,
        retired_at: cells.at()?,
        revoke_after: cells.at()?,
        revoked_at: cells.at()?,
        error: cells.get()?,
        attempt: cells.get()?,
        retry_at: cells.at()?,
        stranded_at: cells.at()?,
        missing: {
            let (since, looks) = (cells.at()?, cells.get()?);
            since.map(|since| Missing { since, looks })
        },
        hold_until: cells.at()?,
        revoke_now: cells.get()?,
        deliveries: Vec::new(),
    })
}

/// A delivery, from the columns of [`DELIVERY`].
pub(crate) fn delivery(cells: &mut Cells<'_>) -> rusqlite::Result<Delivery> {
    Ok(Delivery {
        sink: SinkId {
            name: cells.get()?,
            target: cells.get()?,
        },
        required: cells.get()?,
        state: cells.word()?,
        maybe_taken: cells.get()?,
        attempts: cells.get()?,
        last_attempt_at: cells.at()?,
        written_at: cells.at()?,
        accepted_at: cells.at()?,
        removed_at: cells.at()?,
        retry_at: cells.at()?,
        error: cells.get()?,
    })
}
