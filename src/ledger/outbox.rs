//! The transactional outbox of notifications, and the alerts that were raised, so that
//! each is notified once.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::core::ids::{CredentialId, KeyName};
use crate::core::notification::{
    Alert, AlertKind, ChannelId, Notification, NotificationId, NotificationState,
};
use crate::core::plural::counted;
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{self, SqlTimestamp};
use crate::ledger::store::Ledger;

/// The number of sent notifications that are kept for inspection.
const MAX_SENT_NOTIFICATIONS: i64 = 1_000;

/// The number of notifications that are kept even if they are pending.
const MAX_NOTIFICATIONS: i64 = 10_000;

/// A notification to record, with its channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    /// The notification.
    pub notification: Notification,
    /// Its channels; empty if only its alert is recorded or deleted.
    pub channels: Vec<ChannelId>,
}

/// A notification that is still to be sent to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingNotification {
    /// Its row.
    pub row_id: i64,
    /// The notification.
    pub notification: Notification,
    /// The number of failed attempts.
    pub attempts: u32,
    /// The earliest time of the next attempt.
    pub retry_at: Option<Timestamp>,
}

impl Ledger {
    /// Deletes the pending notifications of every channel but `channels`, and returns the
    /// active alerts with their start. Without channels, deletes everything.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn retain_channels(
        &self,
        channels: Vec<ChannelId>,
    ) -> Result<BTreeMap<Alert, Timestamp>, LedgerError> {
        self.submit(move |connection| retain_channels(connection, &channels))
            .await
    }

    /// Records notifications and the changes of their alerts.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn enqueue_notifications(
        &self,
        entries: Vec<OutboxEntry>,
    ) -> Result<(), LedgerError> {
        self.submit(move |connection| enqueue_notifications(connection, &entries))
            .await
    }

    /// Returns the oldest pending notification of `channel`. Lookalikes come last:
    /// everybody who may create credentials decides how many there are.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn next_notification(
        &self,
        channel: &ChannelId,
    ) -> Result<Option<PendingNotification>, LedgerError> {
        let channel = channel.clone();
        self.submit(move |connection| next_notification(connection, &channel))
            .await
    }

    /// Records that a notification was sent to `channel`.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn record_notification_sent(
        &self,
        channel: &ChannelId,
        notification: i64,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        let channel = channel.clone();
        self.submit(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE outbox_entry SET attempts = attempts + 1, retry_at = NULL, error = NULL,
                         outcome = 'sent', finished_at = ?3
                     WHERE channel = ?1 AND notification_row = ?2",
                )?
                .execute(params![channel.as_str(), notification, SqlTimestamp(at)])?;
            Ok(())
        })
        .await
    }

    /// Records a failed attempt to send to `channel`, and the time of the next.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn record_notification_failure(
        &self,
        channel: &ChannelId,
        notification: i64,
        retry_at: Timestamp,
        error: String,
    ) -> Result<(), LedgerError> {
        let channel = channel.clone();
        self.submit(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE outbox_entry SET attempts = attempts + 1, retry_at = ?3, error = ?4
                     WHERE channel = ?1 AND notification_row = ?2 AND outcome IS NULL",
                )?
                .execute(params![
                    channel.as_str(),
                    notification,
                    SqlTimestamp(retry_at),
                    error
                ])?;
            Ok(())
        })
        .await
    }

    /// Abandons the pending notifications of `channel` from before `limit`, and returns
    /// their number.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn abandon_notifications(
        &self,
        channel: &ChannelId,
        limit: Timestamp,
        at: Timestamp,
    ) -> Result<usize, LedgerError> {
        let channel = channel.clone();
        self.submit(move |connection| {
            let count = connection
                .prepare_cached(
                    "UPDATE outbox_entry SET outcome = 'abandoned', finished_at = ?3, retry_at = NULL
                     WHERE channel = ?1 AND outcome IS NULL
                       AND notification_row IN (SELECT id FROM notification WHERE created_at < ?2)",
                )?
                .execute(params![
                    channel.as_str(),
                    SqlTimestamp(limit),
                    SqlTimestamp(at)
                ])?;
            Ok(count)
        })
        .await
    }
}

fn retain_channels(
    connection: &Connection,
    channels: &[ChannelId],
) -> Result<BTreeMap<Alert, Timestamp>, LedgerError> {
    if channels.is_empty() {
        // Without the WHERE, SQLite would write and sync even an empty table.
        connection.execute("DELETE FROM notification WHERE true", [])?;
        connection.execute("DELETE FROM alert WHERE true", [])?;
        return Ok(BTreeMap::new());
    }
    let recorded: Vec<String> = connection
        .prepare("SELECT DISTINCT channel FROM outbox_entry")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for name in recorded {
        if !channels.iter().any(|channel| channel.as_str() == name) {
            connection.execute("DELETE FROM outbox_entry WHERE channel = ?1", [name])?;
        }
    }
    let mut rows =
        connection.prepare("SELECT key, kind, scope, credential_id, since FROM alert")?;
    let alerts = rows.query_map([], |row| {
        Ok((
            read_alert(row, "kind")?,
            row.get::<_, SqlTimestamp>("since")?.0,
        ))
    })?;
    Ok(alerts.collect::<rusqlite::Result<_>>()?)
}

fn enqueue_notifications(
    connection: &Connection,
    entries: &[OutboxEntry],
) -> Result<(), LedgerError> {
    for OutboxEntry {
        notification,
        channels,
    } in entries
    {
        update_active_alerts(connection, notification)?;
        // A caller whose reply was lost records the same notification again.
        if channels.is_empty() || !insert_notification(connection, notification)? {
            continue;
        }
        let row = connection.last_insert_rowid();
        for channel in channels {
            connection
                .prepare_cached(
                    "INSERT INTO outbox_entry (channel, notification_row) VALUES (?1, ?2)",
                )?
                .execute(params![channel.as_str(), row])?;
        }
    }
    prune_notifications(connection)
}

/// Records a raised alert until it is resolved, and the last rotation of each key.
fn update_active_alerts(
    connection: &Connection,
    notification: &Notification,
) -> Result<(), LedgerError> {
    if notification.alert.kind.is_always_news() {
        return Ok(());
    }
    let (key, kind, scope, credential) = alert_columns(&notification.alert);
    let filter = if notification.state == NotificationState::Resolved {
        Some("credential_id = ?4")
    } else if notification.alert.kind == AlertKind::Rotated {
        Some("credential_id <> ?4")
    } else {
        None
    };
    if let Some(filter) = filter {
        connection
            .prepare_cached(&format!(
                "DELETE FROM alert WHERE key = ?1 AND kind = ?2 AND scope = ?3 AND {filter}"
            ))?
            .execute(params![key, kind, scope, credential])?;
    }
    if notification.state != NotificationState::Resolved {
        connection
            .prepare_cached(
                "INSERT INTO alert (key, kind, scope, credential_id, since)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                key,
                kind,
                scope,
                credential,
                SqlTimestamp(notification.since)
            ])?;
    }
    Ok(())
}

/// Inserts a notification. Returns false if it is recorded already.
fn insert_notification(
    connection: &Connection,
    notification: &Notification,
) -> Result<bool, LedgerError> {
    let (key, kind, scope, credential) = alert_columns(&notification.alert);
    let written = connection
        .prepare_cached(
            "INSERT INTO notification
                 (notification_id, created_at, state, key, alert_kind, scope, credential_id, since,
                  text)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (notification_id) DO NOTHING",
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
    Ok(written == 1)
}

/// Deletes the oldest sent notifications, and the oldest of all beyond a larger limit.
fn prune_notifications(connection: &Connection) -> Result<(), LedgerError> {
    connection
        .prepare_cached(
            "DELETE FROM notification WHERE id <= (SELECT max(id) FROM notification) - ?1
                 AND NOT EXISTS (SELECT 1 FROM outbox_entry
                     WHERE notification_row = notification.id AND outcome IS NULL)",
        )?
        .execute([MAX_SENT_NOTIFICATIONS])?;
    let discarded = connection
        .prepare_cached(
            "DELETE FROM notification WHERE id <= (SELECT max(id) FROM notification) - ?1",
        )?
        .execute([MAX_NOTIFICATIONS])?;
    if discarded > 0 {
        tracing::error!(
            "dropped the oldest {}: {MAX_NOTIFICATIONS} newer ones are waiting",
            counted(discarded, "notification")
        );
    }
    Ok(())
}

fn next_notification(
    connection: &Connection,
    channel: &ChannelId,
) -> Result<Option<PendingNotification>, LedgerError> {
    let found = connection
        .prepare_cached(
            "SELECT n.*, t.attempts, t.retry_at
             FROM outbox_entry t JOIN notification n ON n.id = t.notification_row
             WHERE t.channel = ?1 AND t.outcome IS NULL
             ORDER BY n.alert_kind = ?2, t.notification_row LIMIT 1",
        )?
        .query_row(
            params![channel.as_str(), AlertKind::Lookalike.as_str()],
            |row| {
                Ok(PendingNotification {
                    row_id: row.get("id")?,
                    notification: read_notification(row)?,
                    attempts: row.get("attempts")?,
                    retry_at: rows::timestamp_column(row, "retry_at")?,
                })
            },
        )
        .optional()?;
    Ok(found)
}

fn read_notification(row: &Row<'_>) -> rusqlite::Result<Notification> {
    Ok(Notification {
        id: NotificationId::from_recorded(row.get("notification_id")?),
        created_at: row.get::<_, SqlTimestamp>("created_at")?.0,
        state: rows::parsed_column(row, "state", NotificationState::from_text)?,
        alert: read_alert(row, "alert_kind")?,
        since: row.get::<_, SqlTimestamp>("since")?.0,
        text: row.get("text")?,
    })
}

fn read_alert(row: &Row<'_>, kind_column: &str) -> rusqlite::Result<Alert> {
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
fn alert_columns(alert: &Alert) -> (&str, &'static str, String, &str) {
    (
        alert.key.as_ref().map_or("", KeyName::as_str),
        alert.kind.as_str(),
        rows::scope_text(alert.scope.as_ref()),
        alert.credential.as_ref().map_or("", CredentialId::as_str),
    )
}
