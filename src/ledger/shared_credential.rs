//! Rows of one credential that several keys have adopted. What ends or holds one of
//! them, does so for all in the same transaction.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::core::apply::{AppliedChanges, apply};
use crate::core::change::{
    Adoption, Change, CredentialHold, CredentialName, CredentialUpdate, DeadlineUpdate,
    OperatorChange, OperatorNote, RotationChange, SharedHold, Transition, UnadoptedHolder,
};
use crate::core::ids::{CredentialId, KeyName, RotationId};
use crate::core::lifecycle::{LifecycleEvent, Phase};
use crate::core::scope::Scope;
use crate::core::state::{CredentialMetadata, KeyState, RevocationDeadline};
use crate::ledger::difference::Difference;
use crate::ledger::error::LedgerError;
use crate::ledger::key_names::PRESENT_NAME;
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
    DeadlineSet(Box<LeakedCredential>),
}

/// A credential whose deadline an operator set.
struct LeakedCredential {
    deadline: RevocationDeadline,
    operator: Option<OperatorNote>,
    /// The keys that adopt it by this commit.
    holders: Vec<UnadoptedHolder>,
    credential: CredentialMetadata,
    name: Option<String>,
    scope: Scope,
    /// The end of an operator's hold on it.
    hold_until: Option<Timestamp>,
}

/// Returns the changes that also concern the rows of other keys.
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
            Change::Operator(OperatorChange::DeadlineSet(set)) => {
                shared.extend(leaked_credential(set, applied));
                continue;
            }
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

fn leaked_credential(set: &DeadlineUpdate, applied: &AppliedChanges) -> Option<SharedChange> {
    let mut updates = applied.rotations.iter().rev();
    let row = &updates
        .find(|update| update.after.id == set.rotation)?
        .after;
    let credential = row.credential.clone()?;
    Some(SharedChange {
        credential: credential.id.clone(),
        kind: SharedChangeKind::DeadlineSet(Box::new(LeakedCredential {
            deadline: set.deadline,
            operator: set.operator.clone(),
            holders: set.holders.clone(),
            credential,
            name: row.name.clone(),
            scope: row.scope.clone(),
            hold_until: row.hold_until,
        })),
    })
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
            let is_observation = matches!(
                shared.kind,
                SharedChangeKind::Named { .. } | SharedChangeKind::Shown { .. }
            );
            let applied = apply(&before, &[change], at)?;
            if is_observation && applied.state.rotation(&rotation) == before.rotation(&rotation) {
                continue;
            }
            write_applied(connection, &before, &applied, at, stale)?;
        }
        if let SharedChangeKind::DeadlineSet(leaked) = &shared.kind {
            adopt_into_holders(connection, leaked, at, stale)?;
        }
    }
    Ok(())
}

/// Adopts a credential that leaked into the keys whose files hold it, with its deadline. A
/// key that has or had a row of it is none of them any more.
fn adopt_into_holders(
    connection: &Connection,
    leaked: &LeakedCredential,
    at: Timestamp,
    stale: &StaleKeys,
) -> Result<(), LedgerError> {
    if leaked.holders.is_empty() {
        return Ok(());
    }
    let adopted = read::keys_of_credential(connection, &leaked.credential.id)?;
    let hold = match leaked.hold_until {
        Some(until) => Some(Box::new(SharedHold {
            until,
            operator: hold_operator(connection, &leaked.credential.id)?,
        })),
        None => None,
    };
    for holder in &leaked.holders {
        if adopted.contains(&holder.key) {
            continue;
        }
        let before = read::key_state(connection, &holder.key)?;
        let has_other = before.current().is_some() || before.open_rotation().is_some();
        let adoption = Adoption {
            rotation: holder.rotation.clone(),
            scope: leaked.scope.clone(),
            // Not the time: the key's worker may be starting a rotation with that.
            sequence: before.sequence.saturating_add(1),
            credential: leaked.credential.clone(),
            name: leaked.name.clone(),
            event: if has_other {
                LifecycleEvent::AdoptedAlongside
            } else {
                LifecycleEvent::Adopted
            },
            hold: hold.clone(),
            seen_in: Vec::new(),
            sinks: holder.sinks.clone(),
            operator: leaked.operator.clone(),
        };
        let deadline = deadline_of_row(&holder.rotation, leaked);
        let changes = [Change::from(adoption), deadline];
        let applied = apply(&before, &changes, at)?;
        write_applied(connection, &before, &applied, at, stale)?;
    }
    Ok(())
}

/// Records changes of another key than the one whose commit this is.
fn write_applied(
    connection: &Connection,
    before: &KeyState,
    applied: &AppliedChanges,
    at: Timestamp,
    stale: &StaleKeys,
) -> Result<(), LedgerError> {
    let difference = Difference::new(before, applied, at);
    write::write_difference(connection, &difference)?;
    stale.keys().insert(before.key.clone());
    Ok(())
}

/// Returns the live rows of a credential, oldest first.
pub(super) fn live_rows(
    connection: &Connection,
    credential: &CredentialId,
) -> Result<Vec<(KeyName, RotationId)>, LedgerError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {PRESENT_NAME}, rotation FROM rotation
         WHERE credential_id = ?1 AND phase NOT IN ('revoked', 'failed') ORDER BY id"
    ))?;
    let found = statement.query_map(params![credential.as_str()], |row| {
        let rotation: Arc<str> = row.get("rotation")?;
        Ok((rows::key_column(row)?, RotationId::from_recorded(rotation)))
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// Returns the operator of the latest hold on a credential that is alive, of any key.
pub(super) fn hold_operator(
    connection: &Connection,
    credential: &CredentialId,
) -> Result<Option<OperatorNote>, LedgerError> {
    let mut statement = connection.prepare_cached(
        "SELECT e.detail ->> 'by', e.detail ->> 'reason'
         FROM event_log e JOIN rotation r ON r.id = e.rotation_row
         WHERE r.credential_id = ?1 AND r.is_held AND r.phase NOT IN ('revoked', 'failed')
             AND e.event = 'hold-set'
         ORDER BY e.seq DESC LIMIT 1",
    )?;
    let found = statement.query_row(params![credential.as_str()], |row| {
        let by: Option<String> = row.get(0)?;
        let reason = row.get(1)?;
        Ok(by.map(|by| OperatorNote { reason, by }))
    });
    Ok(found.optional()?.flatten())
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
            is_endless: false,
        }),
        SharedChangeKind::HoldSet { until, operator } => Change::from(CredentialHold {
            rotation: rotation.clone(),
            until: *until,
            operator: operator.clone(),
        }),
        SharedChangeKind::DeadlineSet(leaked) => deadline_of_row(rotation, leaked),
    }
}

fn deadline_of_row(rotation: &RotationId, leaked: &LeakedCredential) -> Change {
    Change::from(DeadlineUpdate {
        rotation: rotation.clone(),
        deadline: leaked.deadline,
        holders: Vec::new(),
        operator: leaked.operator.clone(),
    })
}
