//! Whoever counts what is recorded.

use crate::core::change::Change;
use crate::core::record::KeyState;

/// Is told of everything that was recorded, after it was.
pub trait Observer: Send + Sync {
    /// `changes` stand in the ledger, and the key stands as `state` says.
    fn recorded(&self, state: &KeyState, changes: &[Change]);
}

/// Nobody counts.
impl Observer for () {
    fn recorded(&self, _: &KeyState, _: &[Change]) {}
}
