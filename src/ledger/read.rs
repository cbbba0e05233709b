//! What stands in the ledger: for the engine within its transaction, for the
//! commands from a connection of their own that cannot write.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params_from_iter};

use crate::core::names::KeyName;
use crate::core::record::{KeyState, Rotation};
use crate::ledger::error::LedgerError;
use crate::ledger::open::{NEWEST_VERSION, classify};
use crate::ledger::row;

/// Opens the ledger for reading only, beside its writer or alone.
///
/// # Errors
/// [`LedgerError::Missing`], or why it cannot be read.
pub fn open(path: &Path) -> Result<Connection, LedgerError> {
    if !path.exists() {
        return Err(LedgerError::Missing {
            path: path.to_owned(),
        });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        let version =
            connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))?;
        Ok((connection, version))
    });
    match opened {
        Ok((connection, version)) if version == NEWEST_VERSION => Ok(connection),
        Ok((_, version)) if version > NEWEST_VERSION => Err(LedgerError::Newer {
            path: path.to_owned(),
            found: version,
            known: NEWEST_VERSION,
        }),
        Ok(_) => Err(LedgerError::Open {
            path: path.to_owned(),
            why: "it is older than this rekeyd; `rekeyd run` brings it up to date".to_owned(),
        }),
        Err(error) => Err(classify(path, &error)),
    }
}

/// How every key stands that the ledger knows, in the order of their names.
///
/// # Errors
/// SQLite's, or a row that rekeyd never writes.
pub fn all_key_states(connection: &Connection) -> Result<BTreeMap<KeyName, KeyState>, LedgerError> {
    key_states(connection, None)
}

/// How one key stands.
///
/// # Errors
/// As [`all_key_states`].
pub fn key_state(connection: &Connection, key: &KeyName) -> Result<KeyState, LedgerError> {
    let mut states = key_states(connection, Some(key))?;
    Ok(states
        .remove(key)
        .unwrap_or_else(|| KeyState::unknown(key.clone())))
}

fn key_states(
    connection: &Connection,
    only: Option<&KeyName>,
) -> Result<BTreeMap<KeyName, KeyState>, LedgerError> {
    let filter = |column: &str| only.map_or(String::new(), |_| format!("AND {column} = ?1"));
    let mut states = BTreeMap::new();
    let sql = format!(
        "SELECT k.key, k.sequence, k.attempt, k.retry_at, k.problem, r.phase AS newest
         FROM key_state k LEFT JOIN rotation r ON r.key = k.key AND r.sequence = k.sequence
         WHERE true {}",
        filter("k.key")
    );
    each(connection, &sql, only, |row| {
        let key = key_name(row)?;
        let state = KeyState {
            key: key.clone(),
            sequence: row.get("sequence")?,
            newest: row::phase(row, "newest")?,
            attempt: row.get("attempt")?,
            retry_at: row::at(row, "retry_at")?,
            problem: row.get("problem")?,
            live: Vec::new(),
        };
        states.insert(key, state);
        Ok(())
    })?;

    let mut live: BTreeMap<i64, (KeyName, Rotation)> = BTreeMap::new();
    let sql = format!(
        "SELECT * FROM rotation WHERE phase NOT IN ('revoked', 'failed') {}",
        filter("key")
    );
    each(connection, &sql, only, |row| {
        live.insert(row.get("id")?, (key_name(row)?, row::rotation(row)?));
        Ok(())
    })?;
    let sql = format!(
        "SELECT d.* FROM rotation r JOIN delivery d ON d.rotation = r.id
         WHERE r.phase NOT IN ('revoked', 'failed') {} ORDER BY d.rotation, d.place",
        filter("r.key")
    );
    each(connection, &sql, only, |row| {
        if let Some((_, rotation)) = live.get_mut(&row.get("rotation")?) {
            rotation.deliveries.push(row::delivery(row)?);
        }
        Ok(())
    })?;
    for (key, rotation) in live.into_values() {
        if let Some(state) = states.get_mut(&key) {
            state.live.push(rotation);
        }
    }
    for state in states.values_mut() {
        state.live.sort_by_key(|rotation| rotation.sequence);
    }
    Ok(states)
}

fn each(
    connection: &Connection,
    sql: &str,
    only: Option<&KeyName>,
    mut visit: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> Result<(), LedgerError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params_from_iter(only.map(KeyName::as_str)))?;
    while let Some(row) = rows.next()? {
        visit(row)?;
    }
    Ok(())
}

fn key_name(row: &Row<'_>) -> rusqlite::Result<KeyName> {
    let text: String = row.get("key")?;
    KeyName::new(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// What is wrong with the daemon as a whole, if anything, worst first.
///
/// # Errors
/// SQLite's.
pub fn condition(connection: &Connection) -> Result<Option<String>, LedgerError> {
    let found = connection
        .query_row(
            "SELECT problem FROM condition ORDER BY since LIMIT 1",
            [],
            |row| row.get(0),
        )
        .optional()?;
    Ok(found)
}
