//! The transactional outbox of notifications, and the alerts that were raised, so that
//! each is notified once.
//!
//! At most one notification of an alert is undelivered for each channel: a newer one takes
//! its place. The end of an alert goes to the channels that were notified of its beginning.

mod alert_rows;
mod sending;

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::core::notification::{
    Alert, AlertKind, ChannelId, Notification, NotificationId, NotificationState,
};
use crate::core::plural::counted;
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{self, SqlTimestamp};
use crate::ledger::store::Ledger;

use self::alert_rows::{
    IS_OF_ACTIVE_ALERT, OF_ALERT, alert_columns, insert_notification, read_alert, was_told,
};
pub use self::sending::{Abandonment, FailedAttempt, NextNotification, PendingNotification};

/// The number of sent notifications that are kept for inspection.
const MAX_SENT_NOTIFICATIONS: i64 = 1_000;

/// The number of notifications that are kept even if they are pending.
const MAX_NOTIFICATIONS: i64 = 10_000;

/// Whether the end of the alert of such a row is still to be sent to a channel.
const IS_OF_PENDING_END: &str = "state = 'begun' AND EXISTS (SELECT 1
        FROM notification ended JOIN outbox_entry t ON t.notification_row = ended.id
        WHERE ended.key = notification.key AND ended.alert_kind = notification.alert_kind
            AND ended.scope = notification.scope
            AND ended.credential_id = notification.credential_id
            AND ended.since = notification.since AND ended.state = 'over' AND t.outcome IS NULL)";

/// A notification to record, with its channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    /// The notification.
    pub notification: Notification,
    /// Its channels; empty if only its alert is recorded or deleted. One of an alert's end
    /// goes only to those that were notified of its beginning.
    pub channels: Vec<ChannelId>,
}

/// The alerts that were raised and are not over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RaisedAlerts {
    /// Each with its start.
    pub since: BTreeMap<Alert, Timestamp>,
    /// When the latest notification of each was written, by channel.
    pub notified_at: BTreeMap<Alert, BTreeMap<ChannelId, Timestamp>>,
}

impl Ledger {
    /// Deletes the pending notifications of every channel but `channels`, and returns the
    /// raised alerts. Without channels, deletes everything.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn retain_channels(
        &self,
        channels: Vec<ChannelId>,
    ) -> Result<RaisedAlerts, LedgerError> {
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
}

fn retain_channels(
    connection: &Connection,
    channels: &[ChannelId],
) -> Result<RaisedAlerts, LedgerError> {
    if channels.is_empty() {
        // Without the WHERE, SQLite would write and sync even an empty table.
        connection.execute("DELETE FROM notification WHERE true", [])?;
        connection.execute("DELETE FROM alert WHERE true", [])?;
        return Ok(RaisedAlerts::default());
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
    Ok(RaisedAlerts {
        since: alerts(connection)?,
        notified_at: notified_at(connection)?,
    })
}

fn alerts(connection: &Connection) -> Result<BTreeMap<Alert, Timestamp>, LedgerError> {
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

/// Returns when each channel was last notified, or is to be, that each alert began.
fn notified_at(
    connection: &Connection,
) -> Result<BTreeMap<Alert, BTreeMap<ChannelId, Timestamp>>, LedgerError> {
    let mut query = connection.prepare(
        "SELECT a.key, a.kind, a.scope, a.credential_id, t.channel,
             max(n.created_at) AS notified_at
         FROM alert a
             JOIN notification n ON n.key = a.key AND n.alert_kind = a.kind
                 AND n.scope = a.scope AND n.credential_id = a.credential_id
                 AND n.since = a.since AND n.state = 'begun'
             JOIN outbox_entry t ON t.notification_row = n.id
         WHERE t.outcome IS NULL OR t.outcome = 'sent'
         GROUP BY a.key, a.kind, a.scope, a.credential_id, t.channel",
    )?;
    let mut rows = query.query([])?;
    let mut found: BTreeMap<Alert, BTreeMap<ChannelId, Timestamp>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let at = row.get::<_, SqlTimestamp>("notified_at")?.0;
        let channel = ChannelId::new(row.get("channel")?);
        let channels = found.entry(read_alert(row, "kind")?).or_default();
        channels.insert(channel, at);
    }
    Ok(found)
}

fn enqueue_notifications(
    connection: &Connection,
    entries: &[OutboxEntry],
) -> Result<(), LedgerError> {
    for entry in entries {
        let entry = with_present_name(connection, entry)?;
        update_active_alerts(connection, &entry.notification)?;
        enqueue(connection, &entry)?;
    }
    prune_notifications(connection)
}

/// Returns an entry under the present name of its key, which may have been renamed while the
/// entry was on its way.
fn with_present_name<'e>(
    connection: &Connection,
    entry: &'e OutboxEntry,
) -> Result<Cow<'e, OutboxEntry>, LedgerError> {
    let Some(key) = &entry.notification.alert.key else {
        return Ok(Cow::Borrowed(entry));
    };
    let present = connection
        .prepare_cached(
            "SELECT renamed_to AS key FROM key_state WHERE key = ?1 AND renamed_to IS NOT NULL",
        )?
        .query_row([key.as_str()], rows::key_column)
        .optional()?;
    let Some(present) = present else {
        return Ok(Cow::Borrowed(entry));
    };
    let mut renamed = entry.clone();
    renamed.notification.alert.key = Some(present);
    Ok(Cow::Owned(renamed))
}

/// Adds a notification to the outbox of its channels. It takes the place of an undelivered
/// one of the same alert.
fn enqueue(connection: &Connection, entry: &OutboxEntry) -> Result<(), LedgerError> {
    let OutboxEntry {
        notification,
        channels,
    } = entry;
    // A caller whose reply was lost records the same notification again.
    if is_recorded(connection, &notification.id)? {
        return Ok(());
    }
    let recipients = recipients(connection, notification, channels)?;
    // What an operator did, or a crash, is news each time.
    let replaces = !notification.alert.kind.is_always_news();
    let mut replaced = BTreeMap::new();
    for channel in recipients.iter().filter(|_| replaces) {
        let attempts = undelivered_attempts(connection, &notification.alert, channel)?;
        replaced.extend(attempts.map(|attempts| (*channel, attempts)));
    }
    if notification.state == NotificationState::Resolved {
        drop_undelivered(connection, &notification.alert, None)?;
    } else if replaces {
        for channel in &recipients {
            drop_undelivered(connection, &notification.alert, Some(channel))?;
        }
    }
    if recipients.is_empty() {
        return Ok(());
    }
    insert_notification(connection, notification)?;
    let row = connection.last_insert_rowid();
    for channel in recipients {
        let attempts = replaced.remove(channel).unwrap_or_default();
        insert_entry(connection, channel, row, &attempts)?;
    }
    Ok(())
}

/// The failed attempts of an undelivered notification. Its replacement inherits them, so
/// that a channel that fails is not tried earlier.
#[derive(Default)]
struct FailedAttempts {
    count: u32,
    retry_at: Option<Timestamp>,
    error: Option<String>,
}

fn insert_entry(
    connection: &Connection,
    channel: &ChannelId,
    notification_row: i64,
    failed: &FailedAttempts,
) -> Result<(), LedgerError> {
    connection
        .prepare_cached(
            "INSERT INTO outbox_entry (channel, notification_row, attempts, retry_at, error)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            channel.as_str(),
            notification_row,
            failed.count,
            failed.retry_at.map(SqlTimestamp),
            failed.error
        ])?;
    Ok(())
}

fn is_recorded(connection: &Connection, id: &NotificationId) -> Result<bool, LedgerError> {
    let found = connection
        .prepare_cached("SELECT 1 FROM notification WHERE notification_id = ?1")?
        .exists([id.as_str()])?;
    Ok(found)
}

/// Returns which of `channels` receive a notification: its end only those that were notified
/// of its beginning, or are being notified of it.
fn recipients<'a>(
    connection: &Connection,
    notification: &Notification,
    channels: &'a [ChannelId],
) -> Result<Vec<&'a ChannelId>, LedgerError> {
    let mut found = Vec::new();
    for channel in channels {
        let receives = notification.state != NotificationState::Resolved
            || was_told(connection, notification, channel, true)?;
        if receives {
            found.push(channel);
        }
    }
    Ok(found)
}

/// Returns the failed attempts of the undelivered notification of an alert to a channel,
/// if there is one that the channel did not refuse for itself.
fn undelivered_attempts(
    connection: &Connection,
    alert: &Alert,
    channel: &ChannelId,
) -> Result<Option<FailedAttempts>, LedgerError> {
    let (key, kind, scope, credential) = alert_columns(alert);
    let query = format!(
        "SELECT t.attempts, t.retry_at, t.error
         FROM notification n JOIN outbox_entry t ON t.notification_row = n.id
         WHERE {OF_ALERT} AND t.channel = ?5 AND t.outcome IS NULL AND t.refused = 0
         ORDER BY n.id DESC LIMIT 1"
    );
    let found = connection
        .prepare_cached(&query)?
        .query_row(
            params![key, kind, scope, credential, channel.as_str()],
            |row| {
                Ok(FailedAttempts {
                    count: row.get("attempts")?,
                    retry_at: rows::timestamp_column(row, "retry_at")?,
                    error: row.get("error")?,
                })
            },
        )
        .optional()?;
    Ok(found)
}

/// Drops the undelivered notifications of an alert to one channel, or to all, except one
/// that is being sent.
fn drop_undelivered(
    connection: &Connection,
    alert: &Alert,
    channel: Option<&ChannelId>,
) -> Result<(), LedgerError> {
    let (key, kind, scope, credential) = alert_columns(alert);
    let query = format!(
        "DELETE FROM outbox_entry WHERE outcome IS NULL AND sending = 0
             AND (?5 IS NULL OR channel = ?5)
             AND notification_row IN (SELECT id FROM notification WHERE {OF_ALERT})"
    );
    let channel = channel.map(ChannelId::as_str);
    connection
        .prepare_cached(&query)?
        .execute(params![key, kind, scope, credential, channel])?;
    Ok(())
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

/// Deletes the oldest sent notifications, and the oldest of all beyond a larger limit. Those
/// of alerts that last, or whose end is still to be sent, show who was told, and stay.
fn prune_notifications(connection: &Connection) -> Result<(), LedgerError> {
    connection
        .prepare_cached(&format!(
            "DELETE FROM notification WHERE id <= (SELECT max(id) FROM notification) - ?1
                 AND NOT EXISTS (SELECT 1 FROM outbox_entry
                     WHERE notification_row = notification.id AND outcome IS NULL)
                 AND NOT ({IS_OF_ACTIVE_ALERT}) AND NOT ({IS_OF_PENDING_END})"
        ))?
        .execute([MAX_SENT_NOTIFICATIONS])?;
    let discarded = connection
        .prepare_cached(&format!(
            "DELETE FROM notification WHERE id <= (SELECT max(id) FROM notification) - ?1
                 AND NOT ({IS_OF_ACTIVE_ALERT}) AND NOT ({IS_OF_PENDING_END})"
        ))?
        .execute([MAX_NOTIFICATIONS])?;
    if discarded > 0 {
        tracing::error!(
            "dropped the oldest {}: {MAX_NOTIFICATIONS} newer ones are waiting",
            counted(discarded, "notification")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
