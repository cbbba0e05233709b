//! What operators ordered, which a restored ledger does not have, or has again: pauses,
//! retirements, holds, adoptions, and the ends of credentials that leaked.

use jiff::Timestamp;

use crate::core::ids::{CredentialId, KeyName};
use crate::core::state::{KeyState, Rotation, Trigger};
use crate::ledger::error::LedgerError;
use crate::ledger::reader::operator_note::OperatorRecord;
use crate::ledger::reader::{LedgerReader, LedgerSnapshot};

/// An order of an operator about a key, or about one of its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorOrder {
    /// The key.
    pub key: KeyName,
    /// What was ordered.
    pub kind: OrderKind,
    /// Who ordered it, and why, as far as the event log says it.
    pub record: Option<OperatorRecord>,
}

/// What an operator orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderKind {
    /// The schedule does not rotate the key.
    Pause {
        /// Its end; none until an operator resumes the key.
        until: Option<Timestamp>,
    },
    /// The key is retired.
    Retirement,
    /// The schedule does not revoke a credential.
    Hold {
        /// The credential.
        credential: CredentialId,
        /// Its end; none until an operator releases the credential.
        until: Option<Timestamp>,
    },
    /// A credential ends, because it may have leaked.
    Leak {
        /// The credential.
        credential: CredentialId,
    },
    /// A key uses a credential that it did not create.
    Adoption {
        /// The credential.
        credential: CredentialId,
    },
}

impl OrderKind {
    /// Returns the credential that it is about; none for an order about a whole key.
    #[must_use]
    pub const fn credential(&self) -> Option<&CredentialId> {
        match self {
            Self::Pause { .. } | Self::Retirement => None,
            Self::Hold { credential, .. }
            | Self::Leak { credential }
            | Self::Adoption { credential } => Some(credential),
        }
    }
}

/// An order that the restored ledger does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingOrder {
    /// The order.
    pub order: OperatorOrder,
    /// Whether the restored ledger has no row of the credential that it is about.
    pub is_without_row: bool,
}

/// How a restore changes the orders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangedOrders {
    /// Those that the former ledger had, and the restored one has not.
    pub missing: Vec<MissingOrder>,
    /// Those that the restored ledger has, and the former one had no more.
    pub returned: Vec<OperatorOrder>,
}

/// The orders of a ledger at one moment.
pub(super) struct RecordedOrders {
    orders: Vec<OperatorOrder>,
    credentials: Vec<(KeyName, CredentialId)>,
}

impl RecordedOrders {
    /// Reads the orders that are in force `now`.
    pub(super) fn read(reader: &LedgerReader, now: Timestamp) -> Result<Self, LedgerError> {
        let snapshot = reader.snapshot()?;
        let mut orders = Vec::new();
        let mut credentials = Vec::new();
        for state in snapshot.key_states()?.into_values() {
            orders.extend(orders_of(&snapshot, &state, now)?);
            let live = state.live.iter().filter_map(Rotation::credential);
            credentials.extend(live.map(|one| (state.key.clone(), one.id.clone())));
        }
        Ok(Self {
            orders,
            credentials,
        })
    }

    /// Returns what is different in `restored`.
    pub(super) fn compare(&self, restored: &Self) -> ChangedOrders {
        let is_in = |orders: &[OperatorOrder], one: &OperatorOrder| {
            let mut orders = orders.iter();
            orders.any(|other| (&other.key, &other.kind) == (&one.key, &one.kind))
        };
        let missing = self.orders.iter();
        let missing = missing.filter(|one| match &one.kind {
            // Another order about the credential is repeated after its adoption.
            OrderKind::Adoption { credential } => {
                !restored.has_row(&one.key, credential)
                    && !self.orders.iter().any(|other| {
                        other.key == one.key
                            && other.kind.credential() == Some(credential)
                            && other.kind != one.kind
                    })
            }
            OrderKind::Pause { .. }
            | OrderKind::Retirement
            | OrderKind::Hold { .. }
            | OrderKind::Leak { .. } => !is_in(&restored.orders, one),
        });
        let returned = restored.orders.iter();
        let returned = returned.filter(|one| {
            // What was ordered anew, with another end, is missing and said there.
            let is_about_same = |other: &OperatorOrder| {
                other.key == one.key
                    && other.kind.credential() == one.kind.credential()
                    && std::mem::discriminant(&other.kind) == std::mem::discriminant(&one.kind)
            };
            // A leak that was settled needs nothing, and no credential that was adopted.
            match one.kind {
                OrderKind::Leak { .. } | OrderKind::Adoption { .. } => false,
                OrderKind::Pause { .. } | OrderKind::Retirement | OrderKind::Hold { .. } => {
                    !self.orders.iter().any(is_about_same)
                }
            }
        });
        ChangedOrders {
            missing: missing
                .map(|order| MissingOrder {
                    is_without_row: order
                        .kind
                        .credential()
                        .is_some_and(|credential| !restored.has_row(&order.key, credential)),
                    order: order.clone(),
                })
                .collect(),
            returned: returned.cloned().collect(),
        }
    }

    fn has_row(&self, key: &KeyName, credential: &CredentialId) -> bool {
        let mut rows = self.credentials.iter();
        rows.any(|(of, id)| of == key && id == credential)
    }
}

fn orders_of(
    snapshot: &LedgerSnapshot<'_>,
    state: &KeyState,
    now: Timestamp,
) -> Result<Vec<OperatorOrder>, LedgerError> {
    let key = &state.key;
    let mut orders = Vec::new();
    let mut add = |kind, record| {
        orders.push(OperatorOrder {
            key: key.clone(),
            kind,
            record,
        });
    };
    if let Some(pause) = state.pause.filter(|pause| pause.is_active(now)) {
        let until = pause.until;
        add(OrderKind::Pause { until }, snapshot.latest_pause(key)?);
    }
    if state.is_retired() {
        add(OrderKind::Retirement, snapshot.latest_retirement(key)?);
    }
    for row in &state.live {
        let Some(credential) = row.credential().map(|one| one.id.clone()) else {
            continue;
        };
        if let Some(until) = row.hold(now) {
            let record = snapshot.latest_hold(key, &row.id)?;
            let credential = credential.clone();
            add(OrderKind::Hold { credential, until }, record);
        }
        if row.deadline.is_some() {
            let record = snapshot.latest_deadline(key, &row.id)?;
            let credential = credential.clone();
            add(OrderKind::Leak { credential }, record);
        }
        if row.trigger == Trigger::Adopted {
            let record = snapshot.latest_adoption(key, &row.id)?;
            add(OrderKind::Adoption { credential }, record);
        }
    }
    Ok(orders)
}
