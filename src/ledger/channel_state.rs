//! How the channels of notifications stand.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _};

use crate::core::channel_state::{ChannelFailure, ChannelState};
use crate::core::notification::ChannelId;
use crate::ledger::error::LedgerError;
use crate::ledger::rows;

/// Returns how each channel stands that has a notification.
pub(super) fn channel_states(
    connection: &Connection,
) -> Result<BTreeMap<ChannelId, ChannelState>, LedgerError> {
    let mut query = connection.prepare("SELECT DISTINCT channel FROM outbox_entry")?;
    let names = query.query_map([], |row| row.get::<_, String>(0))?;
    let mut states = BTreeMap::new();
    for name in names {
        let name = name?;
        let state = channel_state(connection, &name)?;
        states.insert(ChannelId::new(name), state);
    }
    Ok(states)
}

/// Returns how one channel stands.
pub(super) fn channel_state(
    connection: &Connection,
    channel: &str,
) -> Result<ChannelState, LedgerError> {
    let undelivered = connection
        .prepare_cached("SELECT count(*) FROM outbox_entry WHERE channel = ?1 AND outcome IS NULL")?
        .query_row([channel], |row| row.get(0))?;
    let last_sent_at = connection
        .prepare_cached(
            "SELECT max(finished_at) AS finished_at FROM outbox_entry
             WHERE channel = ?1 AND outcome = 'sent'",
        )?
        .query_row([channel], |row| rows::timestamp_column(row, "finished_at"))?;
    let failing = failure_of_pending(connection, channel)?;
    let failure = match failing {
        None => failure_of_abandoned(connection, channel)?,
        failing => failing,
    };
    Ok(ChannelState {
        undelivered,
        last_sent_at,
        failure,
    })
}

/// Returns the failure of a notification that is still to be sent. That of the channel comes
/// before that of a notification which it refuses for itself, which is none once the channel
/// accepted a later one.
fn failure_of_pending(
    connection: &Connection,
    channel: &str,
) -> Result<Option<ChannelFailure>, LedgerError> {
    let found = connection
        .prepare_cached(
            "SELECT error, retry_at FROM outbox_entry
             WHERE channel = ?1 AND outcome IS NULL AND error IS NOT NULL
                 AND (refused = 0 OR NOT EXISTS (SELECT 1 FROM outbox_entry later
                     WHERE later.channel = ?1 AND later.outcome = 'sent'
                         AND later.notification_row > outbox_entry.notification_row))
             ORDER BY refused, notification_row LIMIT 1",
        )?
        .query_row([channel], |row| {
            Ok(ChannelFailure {
                error: row.get("error")?,
                retry_at: rows::timestamp_column(row, "retry_at")?,
            })
        })
        .optional()?;
    Ok(found)
}

/// Returns the failure of the notification that was given up last, unless the receiver has
/// accepted another one since.
fn failure_of_abandoned(
    connection: &Connection,
    channel: &str,
) -> Result<Option<ChannelFailure>, LedgerError> {
    let found = connection
        .prepare_cached(
            "SELECT outcome, error FROM outbox_entry WHERE channel = ?1 AND outcome IS NOT NULL
             ORDER BY finished_at DESC, notification_row DESC LIMIT 1",
        )?
        .query_row([channel], |row| {
            Ok((
                row.get::<_, String>("outcome")?,
                row.get::<_, Option<String>>("error")?,
            ))
        })
        .optional()?;
    let abandoned = found.filter(|(outcome, _)| outcome == "abandoned");
    Ok(abandoned.map(|(_, error)| ChannelFailure {
        error: error.unwrap_or_default(),
        retry_at: None,
    }))
}
