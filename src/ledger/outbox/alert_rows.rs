//! The rows of an alert, and who was told of it.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::core::ids::{CredentialId, KeyName};
use crate::core::notification::{Alert, AlertKind, ChannelId, Notification};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{self, SqlTimestamp};

/// Whether a row of `notification` is of the alert with these columns.
pub(super) const OF_ALERT: &str =
    "key = ?1 AND alert_kind = ?2 AND scope = ?3 AND credential_id = ?4";

/// Whether a row of `notification` says that an alert which lasts began: it is pending, or
/// shows who was told.
pub(super) const IS_OF_ACTIVE_ALERT: &str = "state = 'begun' AND EXISTS (SELECT 1 FROM alert
        WHERE alert.key = notification.key AND alert.kind = notification.alert_kind
            AND alert.scope = notification.scope
            AND alert.credential_id = notification.credential_id
            AND alert.since = notification.since)
    AND EXISTS (SELECT 1 FROM outbox_entry WHERE notification_row = notification.id)";

/// Returns whether the last that a channel was told of an alert is that it began: the end,
/// which `notification` reports, is news there. The alert may have ended and begun again while
/// the channel was away, so that the one which it was told of began earlier. A notification
/// that is being sent counts if `or_is_being` says so.
pub(super) fn was_told(
    connection: &Connection,
    notification: &Notification,
    channel: &ChannelId,
    or_is_being: bool,
) -> Result<bool, LedgerError> {
    let (key, kind, scope, credential) = alert_columns(&notification.alert);
    let query = format!(
        "SELECT n.state = 'begun' FROM notification n
             JOIN outbox_entry t ON t.notification_row = n.id
         WHERE {OF_ALERT} AND t.channel = ?5 AND (t.outcome = 'sent' OR (t.sending = 1 AND ?6))
         ORDER BY n.id DESC LIMIT 1"
    );
    let last = connection.prepare_cached(&query)?.query_row(
        params![key, kind, scope, credential, channel.as_str(), or_is_being],
        |row| row.get(0),
    );
    Ok(last.optional()?.unwrap_or(false))
}

/// Adds the row of a notification.
pub(super) fn insert_notification(
    connection: &Connection,
    notification: &Notification,
) -> Result<(), LedgerError> {
    let (key, kind, scope, credential) = alert_columns(&notification.alert);
    connection
        .prepare_cached(
            "INSERT INTO notification
                 (notification_id, created_at, state, key, alert_kind, scope, credential_id, since,
                  text)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            notification.id.as_str(),
            SqlTimestamp(notification.created_at),
            notification.state.as_str(),
            key,
            kind,
            scope,
            credential,
            SqlTimestamp(notification.since),
            notification.text,
        ])?;
    Ok(())
}

/// Reads the alert of a row, whose kind is in `kind_column`.
pub(super) fn read_alert(row: &Row<'_>, kind_column: &str) -> rusqlite::Result<Alert> {
    let (key, credential): (String, String) = (row.get("key")?, row.get("credential_id")?);
    Ok(Alert {
        key: if key.is_empty() {
            None
        } else {
            Some(rows::key_column(row)?)
        },
        kind: rows::parsed_column(row, kind_column, AlertKind::from_text)?,
        scope: rows::condition_scope_column(row)?,
        credential: (!credential.is_empty()).then(|| CredentialId::new(credential)),
    })
}

/// Returns the key, the kind, the scope and the credential of an alert as columns.
pub(super) fn alert_columns(alert: &Alert) -> (&str, &'static str, String, &str) {
    (
        alert.key.as_ref().map_or("", KeyName::as_str),
        alert.kind.as_str(),
        rows::scope_text(alert.scope.as_ref()),
        alert.credential.as_ref().map_or("", CredentialId::as_str),
    )
}
