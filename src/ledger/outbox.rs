//! What people were told and are still to be told: the causes, so that each is
//! told once, and the notices that are owed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::core::ids::{CredentialId, KeyName};
use crate::core::notification::{
    Alert, AlertKind, ChannelId, Notification, NotificationId, NotificationState,
};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{self, SqlTimestamp};
use crate::ledger::store::Ledger;

/// So many notices that everybody was told are kept, for whoever looks.
const MAX_SENT_NOTIFICATIONS: i64 = 1_000;

/// So many are kept at all: more than this are more than anybody reads.
const MAX_NOTIFICATIONS: i64 = 10_000;

/// What is to be recorded, and whom it is owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    /// The notice.
    pub notification: Notification,
    /// To whom; nobody, where only the cause is to be remembered or forgotten.
    pub channels: Vec<ChannelId>,
}

/// A notice that somebody is still to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingNotification {
    /// Its row.
    pub row_id: i64,
    /// The notice.
    pub notification: Notification,
    /// How often it was tried.
    pub attempts: u32,
    /// Not before this is it tried again.
    pub retry_at: Option<Timestamp>,
}

impl Ledger {
    /// Drops what is owed to anybody but `notifiers`, and gives what was told
    /// and is not over, with its beginning. Without notifiers nothing of it is
    /// remembered.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn retain_channels(
        &self,
        notifiers: Vec<ChannelId>,
    ) -> Result<BTreeMap<Alert, Timestamp>, LedgerError> {
        self.submit(move |connection| retain_channels(connection, &notifiers))
            .await
    }

    /// Records notices, and what was told by them.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn enqueue_notifications(
        &self,
        tellings: Vec<OutboxEntry>,
    ) -> Result<(), LedgerError> {
        self.submit(move |connection| enqueue_notifications(connection, &tellings))
            .await
    }

    /// The oldest notice that is owed to `notifier`.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn next_notification(
        &self,
        notifier: &ChannelId,
    ) -> Result<Option<PendingNotification>, LedgerError> {
        let notifier = notifier.clone();
        self.submit(move |connection| next_notification(connection, &notifier))
            .await
    }

    /// Records that `notifier` was told.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn record_notification_sent(
        &self,
        notifier: &ChannelId,
        notice: i64,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        let notifier = notifier.clone();
        self.submit(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE outbox_entry SET attempts = attempts + 1, retry_at = NULL, error = NULL,
                         outcome = 'sent', finished_at = ?3
                     WHERE channel = ?1 AND notification_row = ?2",
                )?
                .execute(params![notifier.as_str(), notice, SqlTimestamp(at)])?;
            Ok(())
        })
        .await
    }

    /// Records that `notifier` could not be told, and when it is tried again.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn record_notification_failure(
        &self,
        notifier: &ChannelId,
        notice: i64,
        retry_at: Timestamp,
        error: String,
    ) -> Result<(), LedgerError> {
        let notifier = notifier.clone();
        self.submit(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE outbox_entry SET attempts = attempts + 1, retry_at = ?3, error = ?4
                     WHERE channel = ?1 AND notification_row = ?2 AND outcome IS NULL",
                )?
                .execute(params![
                    notifier.as_str(),
                    notice,
                    SqlTimestamp(retry_at),
                    error
                ])?;
            Ok(())
        })
        .await
    }

    /// Gives up what is owed to `notifier` since before `limit`. Gives back how
    /// many notices that were.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn abandon_notifications(
        &self,
        notifier: &ChannelId,
        limit: Timestamp,
        at: Timestamp,
    ) -> Result<usize, LedgerError> {
        let notifier = notifier.clone();
        self.submit(move |connection| {
            let count = connection
                .prepare_cached(
                    "UPDATE outbox_entry SET outcome = 'abandoned', finished_at = ?3, retry_at = NULL
                     WHERE channel = ?1 AND outcome IS NULL
                       AND notification_row IN (SELECT id FROM notification WHERE created_at < ?2)",
                )?
                .execute(params![
                    notifier.as_str(),
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
    notifiers: &[ChannelId],
) -> Result<BTreeMap<Alert, Timestamp>, LedgerError> {
    if notifiers.is_empty() {
        // Without the WHERE an empty table is written anew too, and synced.
        connection.execute("DELETE FROM notification WHERE true", [])?;
        connection.execute("DELETE FROM alert WHERE true", [])?;
        return Ok(BTreeMap::new());
    }
    let known: Vec<String> = connection
        .prepare("SELECT DISTINCT channel FROM outbox_entry")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for gone in known {
        if !notifiers.iter().any(|one| one.as_str() == gone) {
            connection.execute("DELETE FROM outbox_entry WHERE channel = ?1", [gone])?;
        }
    }
    let mut rows =
        connection.prepare("SELECT key, kind, scope, credential_id, since FROM alert")?;
    let causes = rows.query_map([], |row| {
        Ok((
            read_alert(row, "kind")?,
            row.get::<_, SqlTimestamp>("since")?.0,
        ))
    })?;
    Ok(causes.collect::<rusqlite::Result<_>>()?)
}

fn enqueue_notifications(
    connection: &Connection,
    tellings: &[OutboxEntry],
) -> Result<(), LedgerError> {
    for OutboxEntry {
        notification: notice,
        channels: to,
    } in tellings
    {
        update_active_alerts(connection, notice)?;
        // Whoever did not hear that it was recorded records it again.
        if to.is_empty() || !insert_notification(connection, notice)? {
            continue;
        }
        let row = connection.last_insert_rowid();
        for notifier in to {
            connection
                .prepare_cached(
                    "INSERT INTO outbox_entry (channel, notification_row) VALUES (?1, ?2)",
                )?
                .execute(params![notifier.as_str(), row])?;
        }
    }
    prune_notifications(connection)
}

/// What was told is remembered until it is over; of what happens once, the
/// last of a key.
fn update_active_alerts(connection: &Connection, notice: &Notification) -> Result<(), LedgerError> {
    let (key, matter, scope, credential) = alert_columns(&notice.alert);
    let forget = if notice.state == NotificationState::Resolved {
        Some("credential_id = ?4")
    } else if notice.alert.kind == AlertKind::Rotated {
        Some("credential_id <> ?4")
    } else {
        None
    };
    if let Some(forget) = forget {
        connection
            .prepare_cached(&format!(
                "DELETE FROM alert WHERE key = ?1 AND kind = ?2 AND scope = ?3 AND {forget}"
            ))?
            .execute(params![key, matter, scope, credential])?;
    }
    if notice.state != NotificationState::Resolved {
        connection
            .prepare_cached(
                "INSERT INTO alert (key, kind, scope, credential_id, since)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                key,
                matter,
                scope,
                credential,
                SqlTimestamp(notice.since)
            ])?;
    }
    Ok(())
}

/// False if it stands there already.
fn insert_notification(
    connection: &Connection,
    notice: &Notification,
) -> Result<bool, LedgerError> {
    let (key, matter, scope, credential) = alert_columns(&notice.alert);
    let written = connection
        .prepare_cached(
            "INSERT INTO notification
                 (notification_id, created_at, state, key, alert_kind, scope, credential_id, since,
                  text)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (notification_id) DO NOTHING",
        )?
        .execute(params![
            notice.id.as_str(),
            SqlTimestamp(notice.created_at),
            notice.state.as_str(),
            key,
            matter,
            scope,
            credential,
            SqlTimestamp(notice.since),
            notice.text,
        ])?;
    Ok(written == 1)
}

/// Forgets the oldest of those that everybody was told, and the oldest of all
/// where nobody could be told for long.
fn prune_notifications(connection: &Connection) -> Result<(), LedgerError> {
    connection
        .prepare_cached(
            "DELETE FROM notification WHERE id <= (SELECT max(id) FROM notification) - ?1
                 AND NOT EXISTS (SELECT 1 FROM outbox_entry
                     WHERE notification_row = notification.id AND outcome IS NULL)",
        )?
        .execute([MAX_SENT_NOTIFICATIONS])?;
    let owed = connection
        .prepare_cached(
            "DELETE FROM notification WHERE id <= (SELECT max(id) FROM notification) - ?1",
        )?
        .execute([MAX_NOTIFICATIONS])?;
    if owed > 0 {
        tracing::error!(
            "{owed} notices were given up: {MAX_NOTIFICATIONS} newer ones wait to be told"
        );
    }
    Ok(())
}

fn next_notification(
    connection: &Connection,
    notifier: &ChannelId,
) -> Result<Option<PendingNotification>, LedgerError> {
    let found = connection
        .prepare_cached(
            "SELECT n.*, t.attempts, t.retry_at
             FROM outbox_entry t JOIN notification n ON n.id = t.notification_row
             WHERE t.channel = ?1 AND t.outcome IS NULL ORDER BY t.notification_row LIMIT 1",
        )?
        .query_row([notifier.as_str()], |row| {
            Ok(PendingNotification {
                row_id: row.get("id")?,
                notification: read_notification(row)?,
                attempts: row.get("attempts")?,
                retry_at: rows::timestamp_column(row, "retry_at")?,
            })
        })
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

/// Returns key, kind, scope and credential of an alert as a row has them.
fn alert_columns(cause: &Alert) -> (&str, &'static str, String, &str) {
    (
        cause.key.as_ref().map_or("", KeyName::as_str),
        cause.kind.as_str(),
        rows::scope_text(cause.scope.as_ref()),
        cause.credential.as_ref().map_or("", CredentialId::as_str),
    )
}
