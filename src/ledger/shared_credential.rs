//! Rows of one credential that several keys have adopted. What ends or holds one of
//! them, does so for all in the same transaction.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::core::apply::{AppliedChanges, apply};
use crate::core::change::{
    Change, CredentialHold, CredentialName, CredentialUpdate, DeadlineUpdate, OperatorChange,
    OperatorNote, RotationChange, Transition,
};
use crate::core::ids::{CredentialId, KeyName, RotationId};
use crate::core::lifecycle::{LifecycleEvent, Phase};
use crate::core::state::{CredentialMetadata, KeyState, RevocationDeadline};
use crate::ledger::difference::Difference;
use crate::ledger::error::LedgerError;
use crate::ledger::{read, rows, write};

/// The keys whose rows changed by a commit of another key, until they read their states
/// again. Cheap to clone; clones share the set.
#[derive(Clone, Default)]
pub(super) struct StaleKeys(Arc<Mutex<BTreeSet<KeyName>>>);

impl StaleKeys {
    fn keys(&self) -> MutexGuard<'_, BTreeSet<KeyName>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> Vec<KeyName> {
        self.keys().iter().cloned().collect()
    }

    pub(super) fn has(&self, key: &KeyName) -> bool {
        self.keys().contains(key)
    }

    pub(super) fn take(&self, key: &KeyName) -> bool {
        self.keys().remove(key)
    }
}

/// A change of a credential that its rows of other keys share.
pub(super) struct SharedChange {
    credential: CredentialId,
    kind: SharedChangeKind,
}

enum SharedChangeKind {
    /// It is revoked.
    Revoked {
        event: LifecycleEvent,
        operator: Option<OperatorNote>,
    },
    /// An operator held or released it.
    HoldSet {
        until: Option<Timestamp>,
        operator: Option<OperatorNote>,
    },
    /// Its name at the provider is known.
    Named { name: String },
    /// The provider showed these facts.
    Shown { credential: CredentialMetadata },
    /// An operator set its deadline.
    DeadlineSet {
        deadline: RevocationDeadline,
        operator: Option<OperatorNote>,
    },
}

/// Returns the changes that concern the rows of other keys, too.
pub(super) fn shared_changes(changes: &[Change], applied: &AppliedChanges) -> Vec<SharedChange> {
    let mut shared = Vec::new();
    for change in changes {
        let (rotation, kind) = match change {
            Change::Rotation(RotationChange::Transitioned(moved)) => (
                &moved.rotation,
                SharedChangeKind::Revoked {
                    event: moved.event,
                    operator: moved.operator.clone(),
                },
            ),
            Change::Rotation(RotationChange::CredentialNamed(named)) => (
                &named.rotation,
                SharedChangeKind::Named {
                    name: named.name.clone(),
                },
            ),
            Change::Operator(OperatorChange::CredentialAdopted(adopted)) => {
                let credential = adopted.credential.id.clone();
                shared.extend(adopted.name.clone().map(|name| SharedChange {
                    credential: credential.clone(),
                    kind: SharedChangeKind::Named { name },
                }));
                shared.push(SharedChange {
                    credential,
                    kind: SharedChangeKind::Shown {
                        credential: adopted.credential.clone(),
                    },
                });
                continue;
            }
            Change::Operator(OperatorChange::DeadlineSet(set)) => (
                &set.rotation,
                SharedChangeKind::DeadlineSet {
                    deadline: set.deadline,
                    operator: set.operator.clone(),
                },
            ),
            Change::Operator(OperatorChange::HoldSet(hold)) => (
                &hold.rotation,
                SharedChangeKind::HoldSet {
                    until: hold.until,
                    operator: hold.operator.clone(),
                },
            ),
            Change::Rotation(_)
            | Change::Delivery(_)
            | Change::Schedule(_)
            | Change::Operator(_) => continue,
        };
        let mut updates = applied.rotations.iter().rev();
        let Some(row) = updates.find(|update| update.after.id == *rotation) else {
            continue;
        };
        let is_ended = row.after.phase == Phase::Revoked;
        if matches!(kind, SharedChangeKind::Revoked { .. }) && !is_ended {
            continue;
        }
        let credential = row.after.credential.as_ref();
        shared.extend(credential.map(|credential| SharedChange {
            credential: credential.id.clone(),
            kind,
        }));
    }
    shared
}

/// Applies shared changes of `key` to the rows of other keys.
pub(super) fn write_shared(
    connection: &Connection,
    key: &KeyName,
    changes: &[SharedChange],
    at: Timestamp,
    stale: &StaleKeys,
) -> Result<(), LedgerError> {
    for shared in changes {
        for (other, rotation) in live_rows(connection, &shared.credential)? {
            if other == *key {
                continue;
            }
            let before = read::key_state(connection, &other)?;
            let change = change_of_row(&before, &rotation, &shared.kind);
            let applied = apply(&before, &[change], at)?;
            let is_observation = matches!(
                shared.kind,
                SharedChangeKind::Named { .. } | SharedChangeKind::Shown { .. }
            );
            if is_observation && applied.state.rotation(&rotation) == before.rotation(&rotation) {
                continue;
            }
            let difference = Difference::new(&before, &applied, at);
            write::write_difference(connection, &difference)?;
            stale.keys().insert(other);
        }
    }
    Ok(())
}

/// Returns the live rows of a credential, oldest first.
pub(super) fn live_rows(
    connection: &Connection,
    credential: &CredentialId,
) -> Result<Vec<(KeyName, RotationId)>, LedgerError> {
    let mut statement = connection.prepare_cached(
        "SELECT key, rotation FROM rotation
         WHERE credential_id = ?1 AND phase NOT IN ('revoked', 'failed') ORDER BY id",
    )?;
    let found = statement.query_map(params![credential.as_str()], |row| {
        let rotation: Arc<str> = row.get("rotation")?;
        Ok((rows::key_column(row)?, RotationId::from_recorded(rotation)))
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn change_of_row(key: &KeyState, rotation: &RotationId, kind: &SharedChangeKind) -> Change {
    match kind {
        SharedChangeKind::Revoked { event, operator } => {
            let phase = key.rotation(rotation).map(|row| row.phase);
            let event = match (event, phase) {
                (_, Some(Phase::Orphaned)) => LifecycleEvent::Deleted,
                (LifecycleEvent::Deleted, Some(Phase::Retired)) => LifecycleEvent::Deleted,
                (LifecycleEvent::RevokedManually, _) => LifecycleEvent::RevokedManually,
                (_, _) => LifecycleEvent::FoundDeleted,
            };
            Change::from(Transition {
                operator: operator.clone(),
                ..Transition::new(rotation, event)
            })
        }
        SharedChangeKind::Named { name } => Change::from(CredentialName {
            rotation: rotation.clone(),
            name: name.clone(),
        }),
        SharedChangeKind::Shown { credential } => Change::from(CredentialUpdate {
            rotation: rotation.clone(),
            credential: credential.clone(),
        }),
        SharedChangeKind::HoldSet { until, operator } => Change::from(CredentialHold {
            rotation: rotation.clone(),
            until: *until,
            operator: operator.clone(),
        }),
        SharedChangeKind::DeadlineSet { deadline, operator } => Change::from(DeadlineUpdate {
            rotation: rotation.clone(),
            deadline: *deadline,
            operator: operator.clone(),
        }),
    }
}
