//! Compares the provider's list of credentials with every row, and with what is kept of pruned
//! ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::core::ids::{CredentialId, KeyName, Label, RotationId};
use crate::core::label_match::{LabelMatch, match_label};
use crate::core::lifecycle::Phase;
use crate::core::reported_time::ShownEnd;
use crate::core::scope::Scope;
use crate::core::state::CredentialMetadata;
use crate::core::time;
use crate::ledger::changed_names::ChangedNames;
use crate::ledger::error::LedgerError;
use crate::ledger::key_names::PRESENT_NAME;
use crate::ledger::prune::WITH_PRUNED;
use crate::ledger::read::name_without_row;
use crate::ledger::rows::{self, SqlTimestamp};

/// A credential in the provider's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteCredential {
    /// Its facts beside the name.
    pub metadata: CredentialMetadata,
    /// Its name at the provider.
    pub name: Option<String>,
    /// Its end, as far as the list shows one.
    pub end: ShownEnd,
}

/// The state of a rotation's credential by the provider's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteState {
    /// The list does not have it, and its row is live.
    Absent,
    /// The list has it, and its row is revoked or failed.
    UnexpectedlyLive(CredentialMetadata),
    /// The list has it, and its row is live.
    AsExpected(CredentialMetadata),
    /// The list has it with another end than its row, which is live.
    OtherEnd(CredentialMetadata, ShownEnd),
    /// The list has another credential with the label of this rotation.
    DuplicateLabel(CredentialMetadata),
}

/// The state of one rotation by the provider's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discrepancy {
    /// The rotation.
    pub rotation: RotationId,
    /// The phase of its row.
    pub phase: Phase,
    /// The credential of its row, if it has one.
    pub credential: Option<CredentialId>,
    /// The time at which its credential was revoked, by the row.
    pub revoked_at: Option<Timestamp>,
    /// The state by the list.
    pub remote_state: RemoteState,
}

/// The result of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciliation {
    /// The states of rows, by key.
    pub discrepancies: BTreeMap<KeyName, Vec<Discrepancy>>,
    /// The listed credentials without a row.
    pub unknown: Vec<RemoteCredential>,
}

/// A credential at the provider without a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownCredential {
    /// Its id.
    pub id: CredentialId,
    /// Its name.
    pub name: Option<String>,
    /// Whether its name has the form of a configured key's label.
    pub is_lookalike: bool,
}

struct RotationRow {
    key: KeyName,
    rotation: RotationId,
    phase: Phase,
    credential: Option<CredentialId>,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

impl RotationRow {
    /// Returns the state of a live row whose credential the list has.
    fn listed_state(&self, remote: RemoteCredential) -> RemoteState {
        let is_known = match remote.end {
            ShownEnd::Unknown => true,
            ShownEnd::Never => self.expires_at.is_none(),
            ShownEnd::At(end) => self.expires_at == Some(time::whole_seconds(end)),
        };
        if is_known || self.credential.is_none() {
            RemoteState::AsExpected(remote.metadata)
        } else {
            RemoteState::OtherEnd(remote.metadata, remote.end)
        }
    }
}

/// Compares the list of a scope with every row, and returns the states that `is_selected`
/// selects. A credential is absent only from the list of its own scope.
pub(super) fn reconcile(
    connection: &Connection,
    scope: &Scope,
    listed: Vec<RemoteCredential>,
    is_selected: impl Fn(&RemoteState) -> bool,
) -> Result<Reconciliation, LedgerError> {
    let mut reconciliation = Reconciliation::default();
    let mut claimed: BTreeSet<RotationId> = BTreeSet::new();
    let changed_names = ChangedNames::read(connection, scope)?;
    let ids = listed.iter().map(|remote| remote.metadata.id.clone());
    let ids: BTreeSet<CredentialId> = ids.collect();
    // Which of several with one changed name is a rotation's own, nothing tells.
    let mut fitting: BTreeMap<Label, usize> = BTreeMap::new();
    let label_of = |remote: &RemoteCredential| {
        let created_at = remote.metadata.created_at;
        changed_names
            .label_of(remote.name.as_deref(), created_at)
            .cloned()
    };
    for remote in &listed {
        if let Some(label) = label_of(remote)
            && find_rotations_by(connection, "credential_id", remote.metadata.id.as_str())?
                .is_empty()
        {
            *fitting.entry(label).or_default() += 1;
        }
    }
    let fits_alone = |remote: &RemoteCredential| {
        label_of(remote).is_some_and(|label| fitting.get(&label) == Some(&1))
    };
    for remote in listed {
        let mut by_id =
            find_rotations_by(connection, "credential_id", remote.metadata.id.as_str())?;
        if by_id.len() > 1 {
            reconciliation.add_shared(by_id, &remote, &is_selected);
            continue;
        }
        let by_id = by_id.pop();
        let by_label = match (&by_id, &remote.name) {
            (None, Some(name)) if !had_other_name(connection, scope, &remote)? => {
                find_rotations_by(connection, "label", name)?.pop()
            }
            (Some(_) | None, _) => None,
        };
        let by_label = match (&by_id, by_label) {
            (None, None) if fits_alone(&remote) => {
                find_by_changed_name(connection, &changed_names, &remote)?
                    .filter(|row| !claimed.contains(&row.rotation))
            }
            (_, by_label) => by_label,
        };
        let (row, is_recorded) = match (by_id, by_label) {
            (Some(row), _) => (row, true),
            // A row without a credential claims the first one with its label.
            (None, Some(row)) => {
                let is_first = row.credential.is_none() && claimed.insert(row.rotation.clone());
                (row, is_first)
            }
            (None, None) => {
                reconciliation.unknown.push(remote);
                continue;
            }
        };
        let state = match (is_recorded, row.phase) {
            (false, _) => RemoteState::DuplicateLabel(remote.metadata),
            (true, Phase::Revoked | Phase::Failed) => {
                RemoteState::UnexpectedlyLive(remote.metadata)
            }
            (
                true,
                Phase::Intended
                | Phase::Created
                | Phase::Verified
                | Phase::Current
                | Phase::Retired
                | Phase::Stranded
                | Phase::Orphaned,
            ) => row.listed_state(remote),
        };
        if is_selected(&state) {
            reconciliation.add_discrepancy(row, state);
        }
    }
    for row in live_rotations(connection, scope)? {
        let credential = row.credential.as_ref();
        let is_absent = credential.is_some_and(|credential| !ids.contains(credential));
        if is_absent && is_selected(&RemoteState::Absent) {
            reconciliation.add_discrepancy(row, RemoteState::Absent);
        }
    }
    Ok(reconciliation)
}

impl Reconciliation {
    /// Adds the state of each row of a listed credential that several keys have. Only if
    /// none of the rows is live is it unexpectedly alive.
    fn add_shared(
        &mut self,
        rows: Vec<RotationRow>,
        remote: &RemoteCredential,
        is_selected: impl Fn(&RemoteState) -> bool,
    ) {
        let is_expected = rows.iter().any(|row| !row.phase.is_ended());
        for row in rows {
            let state = match (row.phase.is_ended(), is_expected) {
                (false, _) => row.listed_state(remote.clone()),
                (true, false) => RemoteState::UnexpectedlyLive(remote.metadata.clone()),
                (true, true) => continue,
            };
            if is_selected(&state) {
                self.add_discrepancy(row, state);
            }
        }
    }

    fn add_discrepancy(&mut self, row: RotationRow, remote_state: RemoteState) {
        let of_key = self.discrepancies.entry(row.key).or_default();
        of_key.push(Discrepancy {
            rotation: row.rotation,
            phase: row.phase,
            credential: row.credential,
            revoked_at: row.revoked_at,
            remote_state,
        });
    }
}

/// Returns the row without a credential whose create made this one, under a name that the
/// provider changed.
fn find_by_changed_name(
    connection: &Connection,
    changed_names: &ChangedNames,
    remote: &RemoteCredential,
) -> Result<Option<RotationRow>, LedgerError> {
    match changed_names.label_of(remote.name.as_deref(), remote.metadata.created_at) {
        Some(label) => Ok(find_rotations_by(connection, "label", label.as_str())?.pop()),
        None => Ok(None),
    }
}

/// Returns whether an earlier list showed a credential without a row under a name that is
/// not the one it has now.
fn had_other_name(
    connection: &Connection,
    scope: &Scope,
    remote: &RemoteCredential,
) -> Result<bool, LedgerError> {
    let listed_as = name_without_row(connection, scope, &remote.metadata.id)?.flatten();
    let name = remote.name.as_deref().unwrap_or_default();
    let label = Label::from_recorded(name.to_owned());
    Ok(listed_as.is_some_and(|earlier| match_label(&label, &earlier) == LabelMatch::Other))
}

fn find_rotations_by(
    connection: &Connection,
    column: &'static str,
    value: &str,
) -> Result<Vec<RotationRow>, LedgerError> {
    let sql = format!(
        "SELECT {PRESENT_NAME}, rotation, phase, credential_id, expires_at, revoked_at
         FROM {WITH_PRUNED} WHERE {column} = ?1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([value], read_rotation_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn live_rotations(connection: &Connection, scope: &Scope) -> Result<Vec<RotationRow>, LedgerError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {PRESENT_NAME}, rotation, phase, credential_id, expires_at, revoked_at
         FROM rotation WHERE phase NOT IN ('revoked', 'failed') AND scope = ?1 ORDER BY id"
    ))?;
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
        expires_at: rows::timestamp_column(row, "expires_at")?,
        revoked_at: rows::timestamp_column(row, "revoked_at")?,
    })
}

/// Records a reconciliation of a scope and its credentials without a row. Returns those
/// that were not recorded before, or as another kind: a key may have been configured
/// since, whose labels have the form of their names.
pub(super) fn record_reconciliation(
    connection: &Connection,
    scope: &Scope,
    at: Timestamp,
    unknown: Vec<UnknownCredential>,
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
    // What had another name before it had a label stays known by that one: no create made
    // it.
    const NAME: &str = "CASE WHEN name IS NOT NULL
        AND (EXISTS (SELECT 1 FROM rotation WHERE label = ?4)
            OR EXISTS (SELECT 1 FROM pruned_rotation WHERE label = ?4)) THEN name ELSE ?4 END";
    let mut update = connection.prepare_cached(&format!(
        "UPDATE unknown_credential SET name = {NAME}, last_seen_at = ?5
         WHERE scope = ?1 AND credential_id = ?2 AND kind = ?3",
    ))?;
    let mut insert = connection.prepare_cached(&format!(
        "INSERT INTO unknown_credential (scope, credential_id, kind, name, last_seen_at)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (scope, credential_id)
         DO UPDATE SET kind = ?3, name = {NAME}, last_seen_at = ?5",
    ))?;
    let mut new = Vec::new();
    for credential in unknown {
        let kind = if credential.is_lookalike {
            "lookalike"
        } else {
            "unrecognized"
        };
        let name = credential
            .name
            .as_deref()
            .map(crate::core::redact::sanitize_name);
        let id = credential.id.as_str();
        if update.execute(params![scope, id, kind, name, SqlTimestamp(at)])? == 0 {
            insert.execute(params![scope, id, kind, name, SqlTimestamp(at)])?;
            new.push(credential);
        }
    }
    Ok(new)
}

/// Returns whether a list has none of the credentials that the last one of its scope had,
/// neither those without a row nor those of live rows: it may be another organization's. After
/// a crash, the last one is the newest that the ledger has: what it lacks of later ones is no
/// evidence for another organization, and what it has of earlier ones is.
pub(super) fn is_foreign(
    connection: &Connection,
    scope: &Scope,
    listed: &[CredentialId],
) -> Result<bool, LedgerError> {
    let mut query = connection.prepare_cached(
        "SELECT credential_id, 0 FROM unknown_credential
         WHERE scope = ?1 AND last_seen_at = coalesce(
             (SELECT reconciled_at FROM scope WHERE scope = ?1),
             (SELECT max(last_seen_at) FROM unknown_credential WHERE scope = ?1))
         UNION ALL
         SELECT credential_id, 1 FROM rotation
         WHERE scope = ?1 AND credential_id IS NOT NULL AND phase NOT IN ('revoked', 'failed')",
    )?;
    let rows = query.query_map([&scope.to_string()], |row| {
        Ok((row.get::<_, Arc<str>>(0)?, row.get::<_, bool>(1)?))
    })?;
    let known = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let listed: BTreeSet<&str> = listed.iter().map(CredentialId::as_str).collect();
    let has_live_row = known.iter().any(|(_, has_row)| *has_row);
    // Without others, a list that lags behind may have none, either.
    let has_others = known.iter().any(|(_, has_row)| !has_row);
    let shares_some = known.iter().any(|(id, _)| listed.contains(id.as_ref()));
    Ok(has_live_row && has_others && !shares_some)
}

/// Returns the lookalikes in the last list of a scope that have no row since, with their
/// names, newest first by the time in their labels.
pub(super) fn all_lookalikes(
    connection: &Connection,
    scope: &Scope,
) -> Result<Vec<(CredentialId, String)>, LedgerError> {
    let mut query = connection.prepare_cached(
        "SELECT credential_id, name FROM unknown_credential AS unknown
         WHERE scope = ?1 AND kind = 'lookalike' AND name IS NOT NULL
           AND last_seen_at = (SELECT reconciled_at FROM scope WHERE scope = ?1)
           AND NOT EXISTS (SELECT 1 FROM rotation
                           WHERE rotation.credential_id = unknown.credential_id)
           AND NOT EXISTS (SELECT 1 FROM pruned_rotation AS pruned
                           WHERE pruned.credential_id = unknown.credential_id)
         ORDER BY name DESC",
    )?;
    let rows = query.query_map([&scope.to_string()], |row| {
        Ok((
            CredentialId::new(row.get::<_, Arc<str>>(0)?),
            row.get::<_, String>(1)?,
        ))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Returns the credentials without a row in the last list of a scope whose names look like
/// a label of a key with these names, even if the key was not configured then.
pub(super) fn lookalikes(
    connection: &Connection,
    scope: &Scope,
    names: &[KeyName],
) -> Result<Vec<CredentialId>, LedgerError> {
    let mut found = Vec::new();
    for name in names {
        found.extend(lookalikes_of_name(connection, scope, name)?);
    }
    Ok(found)
}

fn lookalikes_of_name(
    connection: &Connection,
    scope: &Scope,
    key: &KeyName,
) -> Result<Vec<CredentialId>, LedgerError> {
    let mut query = connection.prepare_cached(
        "SELECT credential_id, name FROM unknown_credential
         WHERE scope = ?1
           AND (instr(lower(name), ?2 || '-') > 0 OR (length(name) >= 30
                AND instr(?2, lower(name)) = 1))
           AND last_seen_at = (SELECT reconciled_at FROM scope WHERE scope = ?1)
           AND NOT EXISTS (SELECT 1 FROM rotation
                           WHERE rotation.credential_id = unknown_credential.credential_id)
           AND NOT EXISTS (SELECT 1 FROM pruned_rotation AS pruned
                           WHERE pruned.credential_id = unknown_credential.credential_id)
         ORDER BY name DESC",
    )?;
    let rows = query.query_map([&scope.to_string(), key.as_str()], |row| {
        Ok((
            CredentialId::new(row.get::<_, Arc<str>>(0)?),
            row.get::<_, String>(1)?,
        ))
    })?;
    let mut lookalikes = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    lookalikes.retain(|(_, name)| Label::matches_format(name, key));
    Ok(lookalikes.into_iter().map(|(id, _)| id).collect())
}
