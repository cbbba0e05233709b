//! The faults that one simulation injects.

use std::fmt;

use crate::fault::{EVENTS, SimFault, SimOperation};
use crate::rng::SeededRng;

/// The faults of one simulation.
#[derive(Debug, Clone)]
pub(crate) enum FaultPlan {
    /// These faults alone.
    Fixed(Vec<PlannedFault>),
    /// Random faults.
    Random {
        rng: SeededRng,
        /// The mean number of operations for each fault.
        mean_interval: usize,
    },
}

/// A fault of one operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlannedFault {
    /// The operation's number, counted from 0.
    pub(crate) at: usize,
    pub(crate) fault: SimFault,
    /// The number of repetitions, at the next operations of the same kind.
    pub(crate) repeats: usize,
    /// That kind, once the fault has occurred.
    operation: Option<SimOperation>,
}

impl PlannedFault {
    pub(crate) const fn once(at: usize, fault: SimFault) -> Self {
        Self::repeated(at, fault, 0)
    }

    pub(crate) const fn repeated(at: usize, fault: SimFault, repeats: usize) -> Self {
        Self {
            at,
            fault,
            repeats,
            operation: None,
        }
    }

    /// Returns whether the fault occurs at this operation, and counts a repetition.
    fn occurs(&mut self, number: usize, operation: SimOperation) -> bool {
        if number == self.at {
            self.operation = Some(operation);
            return true;
        }
        let is_repetition = self.repeats > 0 && self.operation == Some(operation);
        self.repeats -= usize::from(is_repetition);
        is_repetition
    }
}

/// The form of `REKEYD_FAULTS`: `12:Failure`, or `12:Failure:6` for a fault with six
/// repetitions.
impl fmt::Display for PlannedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:?}", self.at, self.fault)?;
        if self.repeats > 0 {
            write!(f, ":{}", self.repeats)?;
        }
        Ok(())
    }
}

impl FaultPlan {
    /// Returns a plan without faults.
    pub(crate) const fn none() -> Self {
        Self::Fixed(Vec::new())
    }

    /// Returns the fault of this operation.
    pub(super) fn next_fault(
        &mut self,
        number: usize,
        operation: SimOperation,
    ) -> Option<SimFault> {
        match self {
            Self::Fixed(faults) => faults
                .iter_mut()
                .find_map(|planned| planned.occurs(number, operation).then_some(planned.fault)),
            Self::Random { rng, mean_interval } => {
                if rng.below(*mean_interval) != 0 {
                    return None;
                }
                // Each fault of the operation is four times as likely as all events.
                let specific = operation.faults();
                let choice = rng.below(specific.len() * 4 + 4);
                if choice < specific.len() * 4 {
                    return Some(specific[choice / 4]);
                }
                // Only fixed plans lose or restore the ledger: an operator must act then.
                let event = EVENTS[rng.below(EVENTS.len())];
                let is_fixed_only = matches!(event, SimFault::LedgerRestore | SimFault::LedgerLoss);
                (!is_fixed_only).then_some(event)
            }
        }
    }

    /// Returns whether this host's clock may step.
    pub(super) fn may_step_clock(&self) -> bool {
        match self {
            Self::Fixed(faults) => faults.iter().any(|planned| {
                matches!(
                    planned.fault,
                    SimFault::ClockStepForward | SimFault::ClockStepBack
                )
            }),
            Self::Random { .. } => true,
        }
    }

    /// Returns the number of the operation before which the ledger is backed up; none if no
    /// backup is restored.
    pub(super) fn backup_at(&self) -> Option<usize> {
        match self {
            Self::Fixed(faults) => faults
                .iter()
                .find(|planned| planned.fault == SimFault::LedgerRestore)
                .map(|planned| planned.at / 2),
            Self::Random { .. } => None,
        }
    }
}
