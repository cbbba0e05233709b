//! What load balancers, service managers and containers ask: whether the daemon is alive, and
//! whether it rotates keys. The answers do not pass through the event loop.

use std::sync::Arc;

use crate::daemon::heartbeat::Heartbeat;
use crate::engine::SharedView;
use crate::engine::conditions::Conditions;

/// The sources of the answers.
pub(crate) struct Probes {
    pub(crate) heartbeat: Heartbeat,
    pub(crate) conditions: Arc<Conditions>,
    pub(crate) view: Arc<SharedView>,
}

impl Probes {
    /// Returns whether the main loop is alive.
    ///
    /// # Errors
    /// The problem, if it is not.
    pub(crate) fn check_live(&self) -> Result<(), String> {
        self.heartbeat.check()
    }

    /// Returns whether no condition keeps keys from rotating.
    ///
    /// # Errors
    /// The problem that keeps them.
    pub(crate) fn check_ready(&self) -> Result<(), String> {
        self.check_live()?;
        let mut active = self.conditions.active().into_iter();
        let blocking = active.find(|active| active.condition.blocked_work().includes_rotations());
        if let Some(active) = blocking {
            return Err(active.problem);
        }
        match self.view.reconciled_at() {
            Some(_) => Ok(()),
            None => Err("the ledger was not compared with the provider yet".to_owned()),
        }
    }
}
