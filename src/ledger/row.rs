//! From SQLite's values to ours and back.

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use crate::core::names::{CredentialId, KeyName, Label, RotationId, SinkId};
use crate::core::record::{CredentialFacts, Delivery, DeliveryState, Missing, Rotation, Trigger};
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
    let text: String = row.get("key")?;
    KeyName::new(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// A time in column `name`.
pub(crate) fn at(row: &Row<'_>, name: &str) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<Text>>(name)?.map(|text| text.0))
}

/// A rotation without its deliveries, from a row with all columns of the table.
pub(crate) fn rotation(row: &Row<'_>) -> rusqlite::Result<Rotation> {
    let credential = row.get::<_, Option<String>>("credential_id")?;
    let credential = match credential {
        Some(id) => Some(CredentialFacts {
            id: CredentialId::new(id),
            redacted_value: row.get("redacted_value")?,
            created_at: at(row, "created_at")?,
            expires_at: at(row, "expires_at")?,
        }),
        None => None,
    };
    Ok(Rotation {
        id: RotationId::recorded(row.get("rotation")?),
        sequence: row.get("sequence")?,
        trigger: row.get::<_, Word<Trigger>>("trigger")?.0,
        scheduled_for: at(row, "scheduled_for")?,
        started_at: row.get::<_, Text>("started_at")?.0,
        label: row.get::<_, Option<String>>("label")?.map(Label::recorded),
        credential,
        phase: row.get::<_, Word<Phase>>("phase")?.0,
        current_at: at(row, "current_at")?,
        retired_at: at(row, "retired_at")?,
        revoke_after: at(row, "revoke_after")?,
        revoked_at: at(row, "revoked_at")?,
        error: row.get("error")?,
        attempt: row.get("attempt")?,
        retry_at: at(row, "retry_at")?,
        stranded_at: at(row, "stranded_at")?,
        missing: match at(row, "missing_since")? {
            Some(since) => Some(Missing {
                since,
                looks: row.get("missing_looks")?,
            }),
            None => None,
        },
        hold_until: at(row, "hold_until")?,
        revoke_now: row.get("revoke_now")?,
        deliveries: Vec::new(),
    })
}

/// A delivery, from a row with all columns of the table.
pub(crate) fn delivery(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    Ok(Delivery {
        sink: SinkId {
            name: row.get("sink")?,
            target: row.get("target")?,
        },
        required: row.get("required")?,
        state: row.get::<_, Word<DeliveryState>>("state")?.0,
        maybe_taken: row.get("maybe_taken")?,
        attempts: row.get("attempts")?,
        last_attempt_at: at(row, "last_attempt_at")?,
        written_at: at(row, "written_at")?,
        accepted_at: at(row, "accepted_at")?,
        removed_at: at(row, "removed_at")?,
        retry_at: at(row, "retry_at")?,
        error: row.get("error")?,
    })
}
