//! Applies changes to a key's state: the one place that says what a change does to
//! a rotation, a delivery and the key itself, and which events it appends.
//!
//! The functions are pure: the ledger writes the difference that [`AppliedChanges`] makes,
//! and repeats the rules as constraints. Deliberately not here: which changes to
//! record ([`crate::core::decide`]).

#[cfg(test)]
pub(crate) mod changes;
mod delivery;
mod invariants;
mod operator;
mod rotation;
mod schedule;
mod sighting;
mod update;

use jiff::Timestamp;

pub use update::{AppliedChanges, ApplyError, LedgerEvent, RotationUpdate};

use crate::core::apply::update::KeyUpdate;
use crate::core::change::Change;
use crate::core::state::KeyState;

/// Applies `changes`, recorded at `at`, to `state`, in order. The timestamps of the
/// result are in whole seconds, as the ledger stores them.
///
/// # Errors
/// A change that `state` does not allow: a transition that the table does not
/// have, an unknown rotation or sink, or a rotation that could not be recorded.
pub fn apply(
    state: &KeyState,
    changes: &[Change],
    at: Timestamp,
) -> Result<AppliedChanges, ApplyError> {
    let mut update = KeyUpdate::new(state, at);
    for change in changes {
        match change {
            Change::Rotation(change) => rotation::apply_change(&mut update, change)?,
            Change::Delivery(change) => delivery::apply_change(&mut update, change)?,
            Change::Schedule(change) => schedule::apply_change(&mut update, change),
            Change::Operator(change) => operator::apply_change(&mut update, change)?,
        }
    }
    Ok(update.finish())
}

#[cfg(test)]
mod tests;
