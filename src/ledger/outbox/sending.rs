//! The notifications that a channel has to send, in order, and the outcomes of attempts.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::alert_rows::{
    IS_OF_ACTIVE_ALERT, OF_ALERT, alert_columns, insert_notification, read_alert, was_told,
};
use crate::core::channel_state::ChannelState;
use crate::core::notification::{
    Alert, AlertKind, ChannelId, Notification, NotificationId, NotificationState,
};
use crate::core::policy::{MAX_RETRY_DELAY, plausible_retry};
use crate::core::time;
use crate::ledger::channel_state;
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{self, SqlTimestamp};
use crate::ledger::store::Ledger;

/// The text of a test that a channel accepted.
const ACCEPTED_TEST: &str = "a test of `rekeyd notify --test` was accepted";

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

/// What a channel does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextNotification {
    /// Nothing is to be sent.
    None,
    /// Nothing is sent before this time.
    Wait(Timestamp),
    /// This notification is sent now.
    Send(Box<PendingNotification>),
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedAttempt {
    /// The earliest time of the next.
    pub retry_at: Timestamp,
    /// Why it failed.
    pub error: String,
    /// Whether the receiver refused this notification for itself.
    pub is_refused: bool,
}

/// What became of notifications that a channel did not take for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abandonment {
    /// The number that is never sent.
    pub abandoned: usize,
    /// The number whose alert lasts: another notification took the place of each.
    pub renewed: usize,
}

impl Ledger {
    /// Returns the oldest pending notification of `channel`, if it may be sent at `now`, and
    /// records that it is being sent. Lookalikes come last: everybody who may create
    /// credentials decides how many there are. One that the receiver refused for itself does
    /// not hold up the others.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn next_notification(
        &self,
        channel: &ChannelId,
        now: Timestamp,
    ) -> Result<NextNotification, LedgerError> {
        let channel = channel.clone();
        self.submit(move |connection| next_notification(connection, &channel, now))
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
        self.submit(move |connection| record_sent(connection, &channel, notification, at))
            .await
    }

    /// Records a failed attempt to send to `channel`.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn record_notification_failure(
        &self,
        channel: &ChannelId,
        notification: i64,
        failed: FailedAttempt,
    ) -> Result<(), LedgerError> {
        let channel = channel.clone();
        self.submit(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE outbox_entry SET attempts = attempts + 1, retry_at = ?3, error = ?4,
                         refused = ?5, sending = 0
                     WHERE channel = ?1 AND notification_row = ?2 AND outcome IS NULL",
                )?
                .execute(params![
                    channel.as_str(),
                    notification,
                    SqlTimestamp(failed.retry_at),
                    failed.error,
                    failed.is_refused
                ])?;
            Ok(())
        })
        .await
    }

    /// Abandons the pending notifications of `channel` from before `limit`. One of an alert
    /// that lasts is replaced by another one with a new id. The end of an alert stays: who was
    /// told of its beginning would believe that it lasts.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn abandon_notifications(
        &self,
        channel: &ChannelId,
        limit: Timestamp,
        at: Timestamp,
    ) -> Result<Abandonment, LedgerError> {
        let channel = channel.clone();
        self.submit(move |connection| abandon_notifications(connection, &channel, limit, at))
            .await
    }

    /// Records that channels have accepted a test. Those that fail are tried again at once,
    /// and fail no longer unless they do then.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn record_accepted_test(
        &self,
        channels: Vec<ChannelId>,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        self.submit(move |connection| {
            for channel in &channels {
                record_accepted_test(connection, channel, at)?;
            }
            Ok(())
        })
        .await
    }

    /// Returns how `channel` stands.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn channel_state(&self, channel: &ChannelId) -> Result<ChannelState, LedgerError> {
        let channel = channel.clone();
        self.submit(move |connection| channel_state::channel_state(connection, channel.as_str()))
            .await
    }
}

fn next_notification(
    connection: &Connection,
    channel: &ChannelId,
    now: Timestamp,
) -> Result<NextNotification, LedgerError> {
    loop {
        let Some(pending) = oldest_pending(connection, channel, now)? else {
            return Ok(NextNotification::None);
        };
        if is_obsolete(connection, channel, &pending)? {
            connection
                .prepare_cached(
                    "DELETE FROM outbox_entry WHERE channel = ?1 AND notification_row = ?2",
                )?
                .execute(params![channel.as_str(), pending.row_id])?;
            continue;
        }
        if let Some(at) = plausible_retry(pending.retry_at, now).filter(|at| *at > now) {
            return Ok(NextNotification::Wait(at));
        }
        connection
            .prepare_cached(
                "UPDATE outbox_entry SET sending = 1
                 WHERE channel = ?1 AND notification_row = ?2 AND sending = 0",
            )?
            .execute(params![channel.as_str(), pending.row_id])?;
        return Ok(NextNotification::Send(Box::new(pending)));
    }
}

/// Returns the first pending notification. Those that the receiver refused for themselves
/// come after the others, and of them those that are not due last.
fn oldest_pending(
    connection: &Connection,
    channel: &ChannelId,
    now: Timestamp,
) -> Result<Option<PendingNotification>, LedgerError> {
    let found = connection
        .prepare_cached(
            "SELECT n.*, t.attempts, t.retry_at,
                 CASE WHEN t.refused = 1 AND t.retry_at > ?3 AND t.retry_at <= ?4
                     THEN t.retry_at END AS refused_until
             FROM outbox_entry t JOIN notification n ON n.id = t.notification_row
             WHERE t.channel = ?1 AND t.outcome IS NULL
             ORDER BY refused_until NULLS FIRST, t.refused, n.alert_kind = ?2,
                 t.notification_row LIMIT 1",
        )?
        .query_row(
            params![
                channel.as_str(),
                AlertKind::Lookalike.as_str(),
                SqlTimestamp(now),
                SqlTimestamp(time::after(now, MAX_RETRY_DELAY))
            ],
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

/// Returns whether a newer notification took the place of this one while it was being sent,
/// or whether it reports the end of an alert whose beginning was never sent.
fn is_obsolete(
    connection: &Connection,
    channel: &ChannelId,
    pending: &PendingNotification,
) -> Result<bool, LedgerError> {
    let notification = &pending.notification;
    if notification.alert.kind.is_always_news() {
        return Ok(false);
    }
    let (key, kind, scope, credential) = alert_columns(&notification.alert);
    let query = format!(
        "SELECT 1 FROM notification n JOIN outbox_entry t ON t.notification_row = n.id
         WHERE {OF_ALERT} AND n.id > ?5 AND t.channel = ?6 AND t.outcome IS NULL"
    );
    let is_replaced = connection.prepare_cached(&query)?.exists(params![
        key,
        kind,
        scope,
        credential,
        pending.row_id,
        channel.as_str()
    ])?;
    if is_replaced || notification.state != NotificationState::Resolved {
        return Ok(is_replaced);
    }
    Ok(!was_told(connection, notification, channel, false)?)
}

fn record_sent(
    connection: &Connection,
    channel: &ChannelId,
    notification: i64,
    at: Timestamp,
) -> Result<(), LedgerError> {
    connection
        .prepare_cached(
            "UPDATE outbox_entry SET attempts = attempts + 1, retry_at = NULL, error = NULL,
                 refused = 0, sending = 0, outcome = 'sent', finished_at = ?3
             WHERE channel = ?1 AND notification_row = ?2",
        )?
        .execute(params![channel.as_str(), notification, SqlTimestamp(at)])?;
    // The latest of an alert shows that the channel was told, and its reminders may be many.
    connection
        .prepare_cached(
            "DELETE FROM outbox_entry
             WHERE channel = ?1 AND notification_row < ?2 AND outcome = 'sent'
                 AND notification_row IN (SELECT earlier.id
                     FROM notification n JOIN notification earlier
                         ON earlier.key = n.key AND earlier.alert_kind = n.alert_kind
                             AND earlier.scope = n.scope
                             AND earlier.credential_id = n.credential_id
                             AND earlier.since = n.since AND earlier.state = 'begun'
                     WHERE n.id = ?2 AND n.state = 'begun')",
        )?
        .execute(params![channel.as_str(), notification])?;
    Ok(())
}

fn record_accepted_test(
    connection: &Connection,
    channel: &ChannelId,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let state = channel_state::channel_state(connection, channel.as_str())?;
    if state.failure.is_none() {
        return Ok(());
    }
    connection
        .prepare_cached(
            "UPDATE outbox_entry SET retry_at = NULL, error = NULL
             WHERE channel = ?1 AND outcome IS NULL AND sending = 0",
        )?
        .execute([channel.as_str()])?;
    let id: String =
        connection.query_row("SELECT lower(hex(randomblob(8)))", [], |row| row.get(0))?;
    let accepted = Notification {
        id: NotificationId::from_recorded(id),
        created_at: time::whole_seconds(at),
        state: NotificationState::OneTime,
        alert: Alert::global(AlertKind::Test),
        since: time::whole_seconds(at),
        text: ACCEPTED_TEST.to_owned(),
    };
    insert_notification(connection, &accepted)?;
    connection
        .prepare_cached(
            "INSERT INTO outbox_entry (channel, notification_row, attempts, outcome, finished_at)
             VALUES (?1, ?2, 1, 'sent', ?3)",
        )?
        .execute(params![
            channel.as_str(),
            connection.last_insert_rowid(),
            SqlTimestamp(at)
        ])?;
    Ok(())
}

fn abandon_notifications(
    connection: &Connection,
    channel: &ChannelId,
    limit: Timestamp,
    at: Timestamp,
) -> Result<Abandonment, LedgerError> {
    let renewed = renew_notifications(connection, channel, limit, at)?;
    let abandoned = connection
        .prepare_cached(
            "UPDATE outbox_entry SET outcome = 'abandoned', finished_at = ?3, retry_at = NULL,
                 sending = 0
             WHERE channel = ?1 AND outcome IS NULL
               AND notification_row IN (SELECT id FROM notification WHERE created_at < ?2
                   AND (state <> 'over' OR outbox_entry.refused = 1))",
        )?
        .execute(params![
            channel.as_str(),
            SqlTimestamp(limit),
            SqlTimestamp(at)
        ])?;
    Ok(Abandonment { abandoned, renewed })
}

/// Replaces the notifications from before `limit` whose alerts last.
fn renew_notifications(
    connection: &Connection,
    channel: &ChannelId,
    limit: Timestamp,
    at: Timestamp,
) -> Result<usize, LedgerError> {
    let rows: Vec<i64> = connection
        .prepare_cached(&format!(
            "SELECT notification.id
             FROM notification JOIN outbox_entry t ON t.notification_row = notification.id
             WHERE t.channel = ?1 AND t.outcome IS NULL AND notification.created_at < ?2
                 AND {}",
            IS_OF_ACTIVE_ALERT
        ))?
        .query_map(params![channel.as_str(), SqlTimestamp(limit)], |row| {
            row.get(0)
        })?
        .collect::<rusqlite::Result<_>>()?;
    for row in &rows {
        connection
            .prepare_cached(
                "INSERT INTO notification (notification_id, created_at, state, key, alert_kind,
                     scope, credential_id, since, text)
                 SELECT lower(hex(randomblob(8))), ?2, state, key, alert_kind, scope,
                     credential_id, since, text FROM notification WHERE id = ?1",
            )?
            .execute(params![row, SqlTimestamp(at)])?;
        let renewed = connection.last_insert_rowid();
        connection
            .prepare_cached(
                "UPDATE outbox_entry SET notification_row = ?3, sending = 0
                 WHERE channel = ?1 AND notification_row = ?2",
            )?
            .execute(params![channel.as_str(), row, renewed])?;
    }
    Ok(rows.len())
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
