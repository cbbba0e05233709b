//! Compares what the provider lists with every row ever written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::core::names::{CredentialId, KeyName, Label, RotationId};
use crate::core::record::CredentialFacts;
use crate::core::rotation::Phase;
use crate::ledger::error::LedgerError;
use crate::ledger::row::{self, Text};

/// A credential as the provider lists it, as far as rows are compared with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// What may be recorded of it.
    pub facts: CredentialFacts,
    /// Its name.
    pub name: Option<String>,
}

/// How a rotation's credential stands at the provider, by one list of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It is not in the list, and should be alive.
    Absent,
    /// It is in the list, and its row says that it is revoked or failed.
    Alive(CredentialFacts),
    /// It is in the list, and should be alive.
    AsExpected(CredentialFacts),
    /// Another credential bears the label of this rotation.
    Double(CredentialFacts),
}

/// What a list of the provider says about one rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rotation.
    pub rotation: RotationId,
    /// What its row says.
    pub phase: Phase,
    /// The credential of its row, if it has one.
    pub credential: Option<CredentialId>,
    /// What was seen.
    pub seen: Seen,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// What concerns a row, by key.
    pub findings: BTreeMap<KeyName, Vec<Finding>>,
    /// What has no row.
    pub strangers: Vec<Listed>,
}

/// A credential at the provider without a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// Its id.
    pub id: CredentialId,
    /// Its name.
    pub name: Option<String>,
    /// Whether its name has the shape of a label of ours.
    pub lookalike: bool,
}

struct Row {
    key: KeyName,
    rotation: RotationId,
    phase: Phase,
    credential: Option<CredentialId>,
}

/// Compares `listed` with every row ever written. Of what was seen of rows only
/// what is `wanted` is kept: nearly all is as expected, and there may be ten
/// thousand.
///
/// # Errors
/// SQLite's.
pub fn compare(
    connection: &Connection,
    listed: Vec<Listed>,
    wanted: impl Fn(&Seen) -> bool,
) -> Result<Compared, LedgerError> {
    let mut compared = Compared::default();
    let mut taken: BTreeSet<RotationId> = BTreeSet::new();
    let ids = listed.iter().map(|one| one.facts.id.clone());
    let ids: BTreeSet<CredentialId> = ids.collect();
    for one in listed {
        let by_id = find(connection, "credential_id", one.facts.id.as_str())?;
        let by_label = match (&by_id, &one.name) {
            (None, Some(name)) => find(connection, "label", name)?,
            (Some(_), _) | (None, None) => None,
        };
        let (row, same) = match (by_id, by_label) {
            (Some(row), _) => (row, true),
            // A failed row has no credential yet: the first that bears its
            // label becomes its own.
            (None, Some(row)) => {
                let first = row.credential.is_none() && taken.insert(row.rotation.clone());
                (row, first)
            }
            (None, None) => {
                compared.strangers.push(one);
                continue;
            }
        };
        let seen = match (same, row.phase) {
            (false, _) => Seen::Double(one.facts),
            (true, Phase::Revoked | Phase::Failed) => Seen::Alive(one.facts),
            (
                true,
                Phase::Intended
                | Phase::Created
                | Phase::Verified
                | Phase::Current
                | Phase::Retired
                | Phase::Stranded
                | Phase::Orphaned,
            ) => Seen::AsExpected(one.facts),
        };
        if wanted(&seen) {
            compared.add(row, seen);
        }
    }
    for row in live(connection)? {
        let known = row.credential.as_ref();
        let is_absent = known.is_some_and(|credential| !ids.contains(credential));
        if is_absent && wanted(&Seen::Absent) {
            compared.add(row, Seen::Absent);
        }
    }
    Ok(compared)
}

impl Compared {
    fn add(&mut self, row: Row, seen: Seen) {
        let of_key = self.findings.entry(row.key).or_default();
        // One of each key is the rule, and there may be ten thousand keys.
        of_key.reserve_exact(1);
        of_key.push(Finding {
            rotation: row.rotation,
            phase: row.phase,
            credential: row.credential,
            seen,
        });
    }
}

fn find(
    connection: &Connection,
    column: &'static str,
    value: &str,
) -> Result<Option<Row>, LedgerError> {
    let sql =
        format!("SELECT key, rotation, phase, credential_id FROM rotation WHERE {column} = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_row([value], to_row).optional()?)
}

fn live(connection: &Connection) -> Result<Vec<Row>, LedgerError> {
    let mut statement = connection.prepare_cached(
        "SELECT key, rotation, phase, credential_id FROM rotation
         WHERE phase NOT IN ('revoked', 'failed') ORDER BY id",
    )?;
    let rows = statement.query_map([], to_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn to_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        key: row::key_name(row)?,
        rotation: RotationId::recorded(row.get::<_, Arc<str>>("rotation")?),
        phase: row::phase(row, "phase")?.ok_or(rusqlite::Error::InvalidQuery)?,
        credential: row
            .get::<_, Option<String>>("credential_id")?
            .map(CredentialId::new),
    })
}

/// Notes that every row was compared, and who is not known here. Says which of
/// them were not noted before, or not as what they are now: a key may have come
/// into the configuration since, whose labels they look like.
pub(super) fn note(
    connection: &Connection,
    at: Timestamp,
    strangers: Vec<Stranger>,
) -> Result<Vec<Stranger>, LedgerError> {
    connection
        .prepare_cached("UPDATE identity SET swept_at = ?1")?
        .execute([Text(at)])?;
    let mut again = connection.prepare_cached(
        "UPDATE stranger SET name = ?3, seen_at = ?4 WHERE credential_id = ?1 AND kind = ?2",
    )?;
    let mut first = connection.prepare_cached(
        "INSERT INTO stranger (credential_id, kind, name, seen_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (credential_id) DO UPDATE SET kind = ?2, name = ?3, seen_at = ?4",
    )?;
    let mut new = Vec::new();
    for stranger in strangers {
        let kind = if stranger.lookalike {
            "lookalike"
        } else {
            "foreign"
        };
        let name = stranger.name.as_deref().map(crate::core::outside::shown);
        let id = stranger.id.as_str();
        if again.execute(params![id, kind, name, Text(at)])? == 0 {
            first.execute(params![id, kind, name, Text(at)])?;
            new.push(stranger);
        }
    }
    Ok(new)
}

/// What looked like a credential of `key` when the provider was last listed,
/// and has no row: id and name. By the names alone: the key may not have been
/// configured then.
pub(super) fn lookalikes(
    connection: &Connection,
    key: &KeyName,
) -> Result<Vec<(CredentialId, String)>, LedgerError> {
    let mut found = connection.prepare_cached(
        "SELECT credential_id, name FROM stranger
         WHERE name > ?1 AND name < ?1 || '.'
           AND seen_at = (SELECT swept_at FROM identity)
         ORDER BY name",
    )?;
    let found = found.query_map([key.as_str()], |row| {
        Ok((
            CredentialId::new(row.get::<_, Arc<str>>(0)?),
            row.get::<_, String>(1)?,
        ))
    })?;
    let mut lookalikes = found.collect::<rusqlite::Result<Vec<_>>>()?;
    lookalikes.retain(|(_, name)| Label::looks_like(name, key));
    Ok(lookalikes)
}
