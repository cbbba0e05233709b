//! Limits that end a simulation whose engine is in a livelock: it does work without end.

use std::time::Duration;

use super::{SimWorld, WorldState};
use crate::scenario::PERIOD;

/// More operations than any world needs in one period. Worlds differ in their number of
/// periods: after a clock step some last for days, in which each waiting key is retried at
/// its backoff.
const MAX_OPERATIONS: u64 = 10_000;

/// More iterations of the loop that runs the engine than any world needs in one period.
const MAX_ITERATIONS: u64 = 10_000;

/// The most reads of the clock between two operations or iterations: 200 keys are evaluated
/// at once.
const MAX_CLOCK_READS: u64 = 10_000;

/// The work in the present period.
#[derive(Debug, Default)]
pub(super) struct WorkCounters {
    period: u64,
    operations: u64,
    iterations: u64,
    clock_reads: u64,
    /// Whether a counter has exceeded its limit.
    is_livelocked: bool,
}

impl WorkCounters {
    /// Resets the counters if a period has begun.
    fn enter_period(&mut self, elapsed: Duration) {
        let period = elapsed.as_secs() / PERIOD.as_secs();
        if self.period != period {
            self.period = period;
            (self.operations, self.iterations) = (0, 0);
        }
    }
}

impl SimWorld {
    /// Counts an iteration of the loop that runs the engine. Returns false if the engine is
    /// in a livelock.
    pub(crate) fn begin_iteration(&self) -> bool {
        let mut state = self.state();
        let work = &mut state.work;
        work.enter_period(self.elapsed());
        work.iterations += 1;
        work.clock_reads = 0;
        if work.iterations > MAX_ITERATIONS {
            state.record_livelock("too many iterations in one period");
        }
        !state.work.is_livelocked
    }

    /// Returns whether the simulation has ended because of a livelock.
    pub(crate) fn is_livelocked(&self) -> bool {
        self.state().work.is_livelocked
    }
}

impl WorldState {
    /// Counts an operation. Returns false if the engine is in a livelock.
    pub(super) fn count_operation(&mut self, elapsed: Duration) -> bool {
        self.work.enter_period(elapsed);
        self.work.operations += 1;
        self.work.clock_reads = 0;
        let is_livelocked = self.work.operations > MAX_OPERATIONS;
        if is_livelocked {
            self.record_livelock("too many operations in one period");
        }
        !is_livelocked
    }

    /// Counts a read of the clock. Returns false if the engine is in a livelock.
    pub(super) fn count_clock_read(&mut self) -> bool {
        self.work.clock_reads += 1;
        let is_livelocked = self.work.clock_reads > MAX_CLOCK_READS;
        if is_livelocked {
            self.record_livelock("too many reads of the clock between two operations");
        }
        !is_livelocked
    }

    fn record_livelock(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.work.is_livelocked, true) {
            self.record_violation(format!("the engine is in a livelock: {reason}"));
        }
    }
}
