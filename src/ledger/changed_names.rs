//! Recognizes credentials whose names the provider changed.
//!
//! A name that is no label is taken for one only where the provider was seen to make the
//! same change to another label, the credential was created after the intent of a rotation
//! without one, and no other such rotation fits.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::Connection;

use crate::core::creation_time::existed_before;
use crate::core::ids::Label;
use crate::core::label_match::{LabelMatch, NameChange, match_label};
use crate::core::scope::Scope;
use crate::ledger::error::LedgerError;
use crate::ledger::rows;

/// The number of rows that are searched for changes of names, newest first: providers
/// seldom begin to change names, and do it to all of them.
const SEARCHED_ROWS: u32 = 200;

/// The names that the unclear creates of a scope may have at the provider.
#[derive(Debug, Clone)]
pub struct ChangedNames {
    changes: BTreeSet<NameChange>,
    /// The label of each rotation whose create is unclear, and the earliest time of
    /// creation of what it made.
    unclear: Vec<(Label, Timestamp)>,
}

impl ChangedNames {
    pub(super) fn read(connection: &Connection, scope: &Scope) -> Result<Self, LedgerError> {
        let changes = read_changes(connection, scope)?;
        let unclear = if changes.is_empty() {
            Vec::new()
        } else {
            read_unclear(connection, scope)?
        };
        Ok(Self { changes, unclear })
    }

    /// Returns whether the provider was not seen to change names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Returns the label of the one unclear create that made a credential with this name at
    /// this time, by the changes that the provider was seen to make.
    #[must_use]
    pub fn label_of(&self, name: Option<&str>, created_at: Option<Timestamp>) -> Option<&Label> {
        let (name, created_at) = (name?, created_at?);
        let mut fitting = self.unclear.iter().filter(|(label, earliest)| {
            let mut changes = self.changes.iter();
            changes.any(|change| change.apply(label) == name)
                && !existed_before(Some(created_at), *earliest)
        });
        match (fitting.next(), fitting.next()) {
            (Some((label, _)), None) => Some(label),
            _ => None,
        }
    }
}

/// Returns the changes that the provider made to the names of other credentials.
fn read_changes(
    connection: &Connection,
    scope: &Scope,
) -> Result<BTreeSet<NameChange>, LedgerError> {
    let mut statement = connection.prepare_cached(
        "SELECT label, name FROM (SELECT label, name, credential_id FROM rotation
             WHERE scope = ?1 ORDER BY id DESC LIMIT ?2)
         WHERE label IS NOT NULL AND name <> label AND credential_id IS NOT NULL",
    )?;
    let rows = statement.query_map(rusqlite::params![scope.to_string(), SEARCHED_ROWS], |row| {
        Ok((
            row.get::<_, String>("label")?,
            row.get::<_, String>("name")?,
        ))
    })?;
    let mut changes = BTreeSet::new();
    for row in rows {
        let (label, name) = row?;
        if let LabelMatch::Changed(change) = match_label(&Label::from_recorded(label), &name) {
            changes.insert(change);
        }
    }
    Ok(changes)
}

/// Returns the labels of the rotations whose create may have been applied and whose
/// credential is unknown, and the earliest time of creation of what they made.
fn read_unclear(
    connection: &Connection,
    scope: &Scope,
) -> Result<Vec<(Label, Timestamp)>, LedgerError> {
    let mut unclear = Vec::new();
    for table in ["rotation", "pruned_rotation"] {
        let mut statement = connection.prepare_cached(&format!(
            "SELECT label, started_at, not_created_before FROM {table}
             WHERE scope = ?1 AND phase IN ('intended', 'failed') AND credential_id IS NULL
                 AND maybe_created = 1 AND label IS NOT NULL
             ORDER BY id DESC LIMIT ?2"
        ))?;
        let parameters = rusqlite::params![scope.to_string(), SEARCHED_ROWS];
        let rows = statement.query_map(parameters, |row| {
            let label = Label::from_recorded(row.get::<_, String>("label")?);
            Ok((label, rows::earliest_creation_column(row)?))
        })?;
        for row in rows {
            unclear.push(row?);
        }
    }
    Ok(unclear)
}
