//! What people were told and are still to be told: the causes, so that each is
//! told once, and the notices that are owed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::core::names::{CredentialId, KeyName};
use crate::core::notice::{Cause, Matter, Notice, NoticeId, NotifierId, State};
use crate::ledger::error::LedgerError;
use crate::ledger::handle::Ledger;
use crate::ledger::row::{self, Text};

/// So many notices that everybody was told are kept, for whoever looks.
const MOST_TOLD: i64 = 1_000;

/// So many are kept at all: more than this are more than anybody reads.
const MOST: i64 = 10_000;

/// What is to be recorded, and whom it is owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// The notice.
    pub notice: Notice,
    /// To whom; nobody, where only the cause is to be remembered or forgotten.
    pub to: Vec<NotifierId>,
}

/// A notice that somebody is still to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// Its row.
    pub row: i64,
    /// The notice.
    pub notice: Notice,
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
    pub async fn tell_only(
        &self,
        notifiers: Vec<NotifierId>,
    ) -> Result<BTreeMap<Cause, Timestamp>, LedgerError> {
        self.run(move |connection| tell_only(connection, &notifiers))
            .await
    }

    /// Records notices, and what was told by them.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn tell(&self, tellings: Vec<Telling>) -> Result<(), LedgerError> {
        self.run(move |connection| tell(connection, &tellings))
            .await
    }

    /// The oldest notice that is owed to `notifier`.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn owed(&self, notifier: &NotifierId) -> Result<Option<Owed>, LedgerError> {
        let notifier = notifier.clone();
        self.run(move |connection| owed(connection, &notifier))
            .await
    }

    /// Records that `notifier` was told.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn told(
        &self,
        notifier: &NotifierId,
        notice: i64,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        let notifier = notifier.clone();
        self.run(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE telling SET attempts = attempts + 1, retry_at = NULL, error = NULL,
                         outcome = 'told', ended_at = ?3
                     WHERE notifier = ?1 AND notice = ?2",
                )?
                .execute(params![notifier.as_str(), notice, Text(at)])?;
            Ok(())
        })
        .await
    }

    /// Records that `notifier` could not be told, and when it is tried again.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn not_told(
        &self,
        notifier: &NotifierId,
        notice: i64,
        retry_at: Timestamp,
        error: String,
    ) -> Result<(), LedgerError> {
        let notifier = notifier.clone();
        self.run(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE telling SET attempts = attempts + 1, retry_at = ?3, error = ?4
                     WHERE notifier = ?1 AND notice = ?2 AND outcome IS NULL",
                )?
                .execute(params![notifier.as_str(), notice, Text(retry_at), error])?;
            Ok(())
        })
        .await
    }

    /// Gives up what is owed to `notifier` since before `limit`. Gives back how
    /// many notices that were.
    ///
    /// # Errors
    /// Nothing was recorded; see [`LedgerError`].
    pub async fn give_up_telling(
        &self,
        notifier: &NotifierId,
        limit: Timestamp,
        at: Timestamp,
    ) -> Result<usize, LedgerError> {
        let notifier = notifier.clone();
        self.run(move |connection| {
            let count = connection
                .prepare_cached(
                    "UPDATE telling SET outcome = 'given-up', ended_at = ?3, retry_at = NULL
                     WHERE notifier = ?1 AND outcome IS NULL
                       AND notice IN (SELECT id FROM notice WHERE at < ?2)",
                )?
                .execute(params![notifier.as_str(), Text(limit), Text(at)])?;
            Ok(count)
        })
        .await
    }
}

fn tell_only(
    connection: &Connection,
    notifiers: &[NotifierId],
) -> Result<BTreeMap<Cause, Timestamp>, LedgerError> {
    if notifiers.is_empty() {
        // Without the WHERE an empty table is written anew too, and synced.
        connection.execute("DELETE FROM notice WHERE true", [])?;
        connection.execute("DELETE FROM cause WHERE true", [])?;
        return Ok(BTreeMap::new());
    }
    let known: Vec<String> = connection
        .prepare("SELECT DISTINCT notifier FROM telling")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for gone in known {
        if !notifiers.iter().any(|one| one.as_str() == gone) {
            connection.execute("DELETE FROM telling WHERE notifier = ?1", [gone])?;
        }
    }
    let mut rows = connection.prepare("SELECT key, cause, credential, since FROM cause")?;
    let causes = rows.query_map([], |row| Ok((cause(row)?, row.get::<_, Text>("since")?.0)))?;
    Ok(causes.collect::<rusqlite::Result<_>>()?)
}

fn tell(connection: &Connection, tellings: &[Telling]) -> Result<(), LedgerError> {
    for Telling { notice, to } in tellings {
        remember(connection, notice)?;
        // Whoever did not hear that it was recorded records it again.
        if to.is_empty() || !write(connection, notice)? {
            continue;
        }
        let row = connection.last_insert_rowid();
        for notifier in to {
            connection
                .prepare_cached("INSERT INTO telling (notifier, notice) VALUES (?1, ?2)")?
                .execute(params![notifier.as_str(), row])?;
        }
    }
    trim(connection)
}

/// What was told is remembered until it is over; of what happens once, the
/// last of a key.
fn remember(connection: &Connection, notice: &Notice) -> Result<(), LedgerError> {
    let (key, matter, credential) = columns(&notice.cause);
    let forget = if notice.state == State::Over {
        Some("credential = ?3")
    } else if notice.cause.matter == Matter::Rotated {
        Some("credential <> ?3")
    } else {
        None
    };
    if let Some(forget) = forget {
        connection
            .prepare_cached(&format!(
                "DELETE FROM cause WHERE key = ?1 AND cause = ?2 AND {forget}"
            ))?
            .execute(params![key, matter, credential])?;
    }
    if notice.state != State::Over {
        connection
            .prepare_cached(
                "INSERT INTO cause (key, cause, credential, since) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO NOTHING",
            )?
            .execute(params![key, matter, credential, Text(notice.since)])?;
    }
    Ok(())
}

/// False if it stands there already.
fn write(connection: &Connection, notice: &Notice) -> Result<bool, LedgerError> {
    let (key, matter, credential) = columns(&notice.cause);
    let written = connection
        .prepare_cached(
            "INSERT INTO notice (notice, at, state, key, cause, credential, since, text)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (notice) DO NOTHING",
        )?
        .execute(params![
            notice.id.as_str(),
            Text(notice.at),
            notice.state.as_str(),
            key,
            matter,
            credential,
            Text(notice.since),
            notice.text,
        ])?;
    Ok(written == 1)
}

/// Forgets the oldest of those that everybody was told, and the oldest of all
/// where nobody could be told for long.
fn trim(connection: &Connection) -> Result<(), LedgerError> {
    connection
        .prepare_cached(
            "DELETE FROM notice WHERE id <= (SELECT max(id) FROM notice) - ?1
                 AND NOT EXISTS (SELECT 1 FROM telling
                     WHERE telling.notice = notice.id AND outcome IS NULL)",
        )?
        .execute([MOST_TOLD])?;
    let owed = connection
        .prepare_cached("DELETE FROM notice WHERE id <= (SELECT max(id) FROM notice) - ?1")?
        .execute([MOST])?;
    if owed > 0 {
        tracing::error!("{owed} notices were given up: {MOST} newer ones wait to be told");
    }
    Ok(())
}

fn owed(connection: &Connection, notifier: &NotifierId) -> Result<Option<Owed>, LedgerError> {
    let found = connection
        .prepare_cached(
            "SELECT n.*, t.attempts, t.retry_at FROM telling t JOIN notice n ON n.id = t.notice
             WHERE t.notifier = ?1 AND t.outcome IS NULL ORDER BY t.notice LIMIT 1",
        )?
        .query_row([notifier.as_str()], |row| {
            Ok(Owed {
                row: row.get("id")?,
                notice: notice(row)?,
                attempts: row.get("attempts")?,
                retry_at: row::at(row, "retry_at")?,
            })
        })
        .optional()?;
    Ok(found)
}

fn notice(row: &Row<'_>) -> rusqlite::Result<Notice> {
    Ok(Notice {
        id: NoticeId::recorded(row.get("notice")?),
        at: row.get::<_, Text>("at")?.0,
        state: row::word(row, "state", State::from_text)?,
        cause: cause(row)?,
        since: row.get::<_, Text>("since")?.0,
        text: row.get("text")?,
    })
}

fn cause(row: &Row<'_>) -> rusqlite::Result<Cause> {
    let (key, credential): (String, String) = (row.get("key")?, row.get("credential")?);
    Ok(Cause {
        key: if key.is_empty() {
            None
        } else {
            Some(row::key_name(row)?)
        },
        matter: row::word(row, "cause", Matter::from_text)?,
        credential: (!credential.is_empty()).then(|| CredentialId::new(credential)),
    })
}

/// Key, cause and credential as they stand in a row.
fn columns(cause: &Cause) -> (&str, &'static str, &str) {
    (
        cause.key.as_ref().map_or("", KeyName::as_str),
        cause.matter.as_str(),
        cause.credential.as_ref().map_or("", CredentialId::as_str),
    )
}
