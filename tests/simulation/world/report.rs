//! The result of a simulation: its violations and its trace.

use jiff::Timestamp;

use super::{SimWorld, WorldState};
use crate::fault::SimOperation;

/// The result of a simulation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SimReport {
    /// Every operation that could have a fault.
    pub(crate) operations: Vec<SimOperation>,
    /// The number of credentials that the daemon created.
    pub(crate) created: usize,
    /// The violated invariants.
    pub(crate) violations: Vec<String>,
    pub(crate) trace: Vec<String>,
}

impl SimWorld {
    pub(crate) fn log_trace(&self, message: String) {
        let now = self.true_now();
        self.state().log_trace(now, message);
    }

    pub(crate) fn record_violation(&self, message: String) {
        self.state().record_violation(message);
    }

    /// Records a violation unless the invariant holds.
    pub(crate) fn check(&self, holds: bool, invariant: &str) {
        if !holds {
            self.record_violation(format!("invariant violated: {invariant}"));
        }
    }

    /// Returns the report, and removes it from the world.
    pub(crate) fn take_report(&self) -> SimReport {
        let mut state = self.state();
        if !state.violations.is_empty() {
            self.files.discard();
        }
        SimReport {
            operations: std::mem::take(&mut state.operations),
            created: state
                .credentials
                .values()
                .filter(|credential| !credential.unmanaged)
                .count(),
            violations: std::mem::take(&mut state.violations),
            trace: std::mem::take(&mut state.trace),
        }
    }
}

impl WorldState {
    pub(super) fn log_trace(&mut self, now: Timestamp, message: String) {
        if self.is_traced {
            self.trace
                .push(format!("{now:.3} [{}] {message}", self.process));
        }
    }

    pub(super) fn record_violation(&mut self, message: String) {
        if self.is_traced {
            self.trace.push(format!("VIOLATION: {message}"));
        }
        self.violations.push(message);
    }
}
