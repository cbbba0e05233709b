//! Checks of the engine and its ledger against the world: while a process runs, when the
//! world has converged, and at the end. The invariants of single operations are checked in
//! [`crate::world`].

mod blocked_keys;
mod convergence;
mod engine_view;
mod final_ledger;
mod punctuality;

pub(crate) use self::blocked_keys::BlockedKeys;
pub(crate) use self::convergence::{check_convergence, check_keeps_rotating};
pub(crate) use self::engine_view::check_engine_view;
pub(crate) use self::final_ledger::check_final_ledger;
pub(crate) use self::punctuality::check_punctuality;
