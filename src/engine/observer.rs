//! Whoever counts what is recorded.

use crate::core::change::Change;
use crate::core::state::KeyState;

/// Is told of everything that was recorded, after it was.
pub trait ChangeObserver: Send + Sync {
    /// `changes` stand in the ledger, and the key stands as `state` says.
    fn observe(&self, state: &KeyState, changes: &[Change]);
}

/// Nobody counts.
impl ChangeObserver for () {
    fn observe(&self, _: &KeyState, _: &[Change]) {}
}
