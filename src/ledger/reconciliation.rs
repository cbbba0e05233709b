//! Compares what the provider lists with every row ever written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::core::ids::{CredentialId, KeyName, Label, RotationId};
use crate::core::lifecycle::Phase;
use crate::core::scope::Scope;
use crate::core::state::CredentialMetadata;
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{self, SqlTimestamp};

/// A credential as the provider lists it, as far as rows are compared with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteCredential {
    /// What may be recorded of it.
    pub metadata: CredentialMetadata,
    /// Its name.
    pub name: Option<String>,
}

/// How a rotation's credential stands at the provider, by one list of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteState {
    /// It is not in the list, and should be alive.
    Absent,
    /// It is in the list, and its row says that it is revoked or failed.
    UnexpectedlyLive(CredentialMetadata),
    /// It is in the list, and should be alive.
    AsExpected(CredentialMetadata),
    /// Another credential bears the label of this rotation.
    DuplicateLabel(CredentialMetadata),
}

/// What a list of the provider says about one rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discrepancy {
    /// The rotation.
    pub rotation: RotationId,
    /// What its row says.
    pub phase: Phase,
    /// The credential of its row, if it has one.
    pub credential: Option<CredentialId>,
    /// What was seen.
    pub remote_state: RemoteState,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciliation {
    /// What concerns a row, by key.
    pub discrepancies: BTreeMap<KeyName, Vec<Discrepancy>>,
    /// What has no row.
    pub unknown: Vec<RemoteCredential>,
}

/// A credential at the provider without a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownCredential {
    /// Its id.
    pub id: CredentialId,
    /// Its name.
    pub name: Option<String>,
    /// Whether its name has the shape of a label of ours.
    pub is_lookalike: bool,
}

struct RotationRow {
    key: KeyName,
    rotation: RotationId,
    phase: Phase,
    credential: Option<CredentialId>,
}

/// Compares the list of a scope with every row ever written, and returns the
/// states that are `wanted`. A row is absent only from the list of its own scope.
pub(super) fn reconcile(
    connection: &Connection,
    scope: &Scope,
    listed: Vec<RemoteCredential>,
    wanted: impl Fn(&RemoteState) -> bool,
) -> Result<Reconciliation, LedgerError> {
    let mut compared = Reconciliation::default();
    let mut taken: BTreeSet<RotationId> = BTreeSet::new();
    let ids = listed.iter().map(|one| one.metadata.id.clone());
    let ids: BTreeSet<CredentialId> = ids.collect();
    for one in listed {
        let by_id = find_rotation_by(connection, "credential_id", one.metadata.id.as_str())?;
        let by_label = match (&by_id, &one.name) {
            (None, Some(name)) => find_rotation_by(connection, "label", name)?,
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
                compared.unknown.push(one);
                continue;
            }
        };
        let seen = match (same, row.phase) {
            (false, _) => RemoteState::DuplicateLabel(one.metadata),
            (true, Phase::Revoked | Phase::Failed) => RemoteState::UnexpectedlyLive(one.metadata),
            (
                true,
                Phase::Intended
                | Phase::Created
                | Phase::Verified
                | Phase::Current
                | Phase::Retired
                | Phase::Stranded
                | Phase::Orphaned,
            ) => RemoteState::AsExpected(one.metadata),
        };
        if wanted(&seen) {
            compared.add_discrepancy(row, seen);
        }
    }
    for row in live_rotations(connection, scope)? {
        let known = row.credential.as_ref();
        let is_absent = known.is_some_and(|credential| !ids.contains(credential));
        if is_absent && wanted(&RemoteState::Absent) {
            compared.add_discrepancy(row, RemoteState::Absent);
        }
    }
    Ok(compared)
}

impl Reconciliation {
    fn add_discrepancy(&mut self, row: RotationRow, seen: RemoteState) {
        let of_key = self.discrepancies.entry(row.key).or_default();
        of_key.push(Discrepancy {
            rotation: row.rotation,
            phase: row.phase,
            credential: row.credential,
            remote_state: seen,
        });
    }
}

fn find_rotation_by(
    connection: &Connection,
    column: &'static str,
    value: &str,
) -> Result<Option<RotationRow>, LedgerError> {
    let sql =
        format!("SELECT key, rotation, phase, credential_id FROM rotation WHERE {column} = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_row([value], read_rotation_row).optional()?)
}

fn live_rotations(connection: &Connection, scope: &Scope) -> Result<Vec<RotationRow>, LedgerError> {
    let mut statement = connection.prepare_cached(
        "SELECT key, rotation, phase, credential_id FROM rotation
         WHERE phase NOT IN ('revoked', 'failed') AND scope = ?1 ORDER BY id",
    )?;
    let rows = statement.query_map([scope.to_string()], read_rotation_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn read_rotation_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<RotationRow> {
    Ok(RotationRow {
        key: rows::key_column(row)?,
        rotation: RotationId::from_recorded(row.get::<_, Arc<str>>("rotation")?),
        phase: rows::phase_column(row, "phase")?.ok_or(rusqlite::Error::InvalidQuery)?,
        credential: row
            .get::<_, Option<String>>("credential_id")?
            .map(CredentialId::new),
    })
}

/// Records that every row of a scope was compared, and the credentials there
/// without a row. Returns those that were not recorded before, or as another
/// kind: a key whose labels they look like may have been configured since.
pub(super) fn record_reconciliation(
    connection: &Connection,
    scope: &Scope,
    at: Timestamp,
    found: Vec<UnknownCredential>,
) -> Result<Vec<UnknownCredential>, LedgerError> {
    let scope = scope.to_string();
    // The scope of the admin keys was bound when the ledger was opened; another
    // one belongs to the same provider and organization.
    connection
        .prepare_cached(
            "INSERT INTO scope (scope, provider, organization, reconciled_at)
             SELECT ?1, provider, organization, ?2 FROM scope WHERE scope = 'admin-keys'
             ON CONFLICT (scope) DO UPDATE SET reconciled_at = ?2",
        )?
        .execute(params![scope, SqlTimestamp(at)])?;
    let mut again = connection.prepare_cached(
        "UPDATE unknown_credential SET name = ?4, last_seen_at = ?5
         WHERE scope = ?1 AND credential_id = ?2 AND kind = ?3",
    )?;
    let mut first = connection.prepare_cached(
        "INSERT INTO unknown_credential (scope, credential_id, kind, name, last_seen_at)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (scope, credential_id) DO UPDATE SET kind = ?3, name = ?4, last_seen_at = ?5",
    )?;
    let mut new = Vec::new();
    for unknown in found {
        let kind = if unknown.is_lookalike {
            "lookalike"
        } else {
            "unrecognized"
        };
        let name = unknown.name.as_deref().map(crate::core::redact::sanitize);
        let id = unknown.id.as_str();
        if again.execute(params![scope, id, kind, name, SqlTimestamp(at)])? == 0 {
            first.execute(params![scope, id, kind, name, SqlTimestamp(at)])?;
            new.push(unknown);
        }
    }
    Ok(new)
}

/// Returns the credentials without a row whose names look like labels of `key`,
/// by the last list of a scope. By the names alone: the key may not have been
/// configured then.
pub(super) fn lookalikes(
    connection: &Connection,
    scope: &Scope,
    key: &KeyName,
) -> Result<Vec<CredentialId>, LedgerError> {
    let mut found = connection.prepare_cached(
        "SELECT credential_id, name FROM unknown_credential
         WHERE scope = ?1 AND name > ?2 AND name < ?2 || '.'
           AND last_seen_at = (SELECT reconciled_at FROM scope WHERE scope = ?1)
         ORDER BY name",
    )?;
    let found = found.query_map([&scope.to_string(), key.as_str()], |row| {
        Ok((
            CredentialId::new(row.get::<_, Arc<str>>(0)?),
            row.get::<_, String>(1)?,
        ))
    })?;
    let mut lookalikes = found.collect::<rusqlite::Result<Vec<_>>>()?;
    lookalikes.retain(|(_, name)| Label::matches_format(name, key));
    Ok(lookalikes.into_iter().map(|(id, _)| id).collect())
}
