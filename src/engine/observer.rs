//! The observer of recorded changes, for metrics.

use crate::core::change::Change;
use crate::core::state::KeyState;

/// Observes every change after it was recorded.
pub trait ChangeObserver: Send + Sync {
    /// Observes that `changes` were recorded and led to `state`.
    fn observe(&self, state: &KeyState, changes: &[Change]);
}

/// The observer that ignores every change.
impl ChangeObserver for () {
    fn observe(&self, _: &KeyState, _: &[Change]) {}
}
