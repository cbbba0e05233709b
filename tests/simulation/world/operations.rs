//! The operations of the engine: their numbers, durations and faults.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

use super::clock::ClockError;
use super::{SimWorld, WorldState};
use crate::fault::{SimFault, SimOperation};

/// The time after which a request or a command times out.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The step of this host's clock.
const CLOCK_STEP_DAYS: i64 = 3;

/// The process that started the operation has died.
struct ProcessDead;

impl SimWorld {
    /// Starts an operation of a process: numbers it, and returns its fault after the
    /// operation's duration. Never returns to a dead process.
    pub(crate) async fn begin_operation(
        &self,
        process: u64,
        operation: SimOperation,
        subject: &str,
    ) -> Option<SimFault> {
        let fault = self.next_fault(process, operation, subject);
        if fault.is_ok() {
            sleep(self.operation_duration(operation)).await;
        }
        if self.current_process() != process {
            std::future::pending::<()>().await;
        }
        match fault {
            Err(ProcessDead) => std::future::pending().await,
            Ok(Some(
                SimFault::CrashBefore
                | SimFault::CredentialFileRestore
                | SimFault::LedgerRestore
                | SimFault::LedgerLoss
                | SimFault::Reconfiguration,
            )) => self.crash().await,
            Ok(fault) => fault,
        }
    }

    /// Ends an operation that was applied.
    pub(crate) async fn end_operation(&self, fault: Option<SimFault>) {
        if fault == Some(SimFault::CrashAfter) {
            self.crash::<()>().await;
        }
    }

    /// Waits until a request or a command has timed out.
    pub(crate) async fn wait_for_timeout(&self) {
        sleep(TIMEOUT).await;
    }

    /// Waits until the running process dies.
    pub(crate) async fn wait_for_crash(&self) {
        self.crash_signal.notified().await;
    }

    pub(crate) fn current_process(&self) -> u64 {
        self.state().process
    }

    /// Returns the time from the start to the last fault; none without faults.
    pub(crate) fn last_fault_at(&self) -> Option<Duration> {
        self.state().last_fault_at
    }

    /// Returns whether any commit had a fault, so that the ledger may lack changes.
    pub(crate) fn has_commit_fault(&self) -> bool {
        self.state().has_commit_fault
    }

    /// Applies the fault for which the process died, before the next process starts.
    pub(crate) fn apply_pending_fault(&self) {
        let fault = self.state().pending_fault.take();
        match fault {
            Some(SimFault::LedgerLoss) => self.remove_ledger(),
            Some(SimFault::LedgerRestore) => self.restore_ledger(),
            Some(SimFault::CredentialFileRestore) => {
                self.state().restore_credential_file();
                return;
            }
            Some(SimFault::Reconfiguration) => {
                self.reconfigure();
                return;
            }
            Some(_) | None => return,
        }
        let recorded = self.recorded_labels();
        let mut state = self.state();
        state.needs_operator = true;
        state.requested_keys.clear();
        let sent = state.sent_labels.keys();
        let forgotten: Vec<_> = sent
            .filter(|label| !recorded.contains(*label))
            .cloned()
            .collect();
        state.forgotten_labels.extend(forgotten);
        // The ledger may also have lost the adoptions.
        state.shared_adoptions.clear();
        state.doubt_retirement();
    }

    async fn crash<T>(&self) -> T {
        self.end_process(&mut self.state());
        std::future::pending().await
    }

    fn end_process(&self, state: &mut WorldState) {
        state.process += 1;
        self.crash_signal.notify_one();
    }

    /// Numbers an operation and returns its fault.
    fn next_fault(
        &self,
        process: u64,
        operation: SimOperation,
        subject: &str,
    ) -> Result<Option<SimFault>, ProcessDead> {
        let now = self.true_now();
        let mut state = self.state();
        if state.process != process {
            return Err(ProcessDead);
        }
        state.operations_started += 1;
        if !state.count_operation(self.elapsed()) {
            self.end_process(&mut state);
            return Err(ProcessDead);
        }
        state.apply_late_effects(now);
        state.rotate_other_daemon(&self.scenario, now);
        if self.elapsed() >= self.scenario.fault_period {
            state.log_trace(now, format!("{operation:?} {subject}"));
            return Ok(None);
        }
        let number = state.operations.len();
        state.operations.push(operation);
        if state.backup_at == Some(number) {
            self.back_up_ledger();
        }
        let fault = state.plan.next_fault(number, operation);
        if fault.is_some() {
            state.last_fault_at = Some(self.elapsed());
        }
        state.has_commit_fault |= operation == SimOperation::Commit && fault.is_some();
        let suffix = fault.map(|fault| format!(" !! {fault:?}"));
        let suffix = suffix.unwrap_or_default();
        state.log_trace(now, format!("{number} {operation:?} {subject}{suffix}"));
        Ok(fault.and_then(|fault| self.apply_event(&mut state, fault)))
    }

    /// Applies the fault if it is an event. Returns the fault if it concerns the operation.
    fn apply_event(&self, state: &mut WorldState, fault: SimFault) -> Option<SimFault> {
        match fault {
            SimFault::ClockStepForward => self.step_clock(state, CLOCK_STEP_DAYS),
            SimFault::ClockStepBack => self.step_clock(state, -CLOCK_STEP_DAYS),
            SimFault::FileRestore => state.restore_files(self.true_now()),
            SimFault::FileCopy => state.copy_file(&self.scenario, self.true_now()),
            SimFault::Operator(action) => {
                state.operator_actions.push(action);
                self.operator_acted.notify_one();
            }
            SimFault::CredentialFileRestore
            | SimFault::LedgerRestore
            | SimFault::LedgerLoss
            | SimFault::Reconfiguration => {
                state.pending_fault = Some(fault);
                return Some(fault);
            }
            SimFault::CrashBefore
            | SimFault::CrashAfter
            | SimFault::Rejection
            | SimFault::Failure
            | SimFault::LostResponse
            | SimFault::Timeout
            | SimFault::LateEffect
            | SimFault::RejectedRepetition
            | SimFault::FalseAnswer(_)
            | SimFault::StaleResponse => return Some(fault),
        }
        None
    }

    fn step_clock(&self, state: &mut WorldState, days: i64) {
        state.clock_error = Some(ClockError::from_step(self.elapsed(), days));
    }

    /// Returns the operation's duration. It varies, so that concurrent operations end in
    /// either order.
    fn operation_duration(&self, operation: SimOperation) -> Duration {
        let mixed = self
            .state()
            .operations_started
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Duration::from_millis(match operation {
            SimOperation::Commit | SimOperation::CheckDrift => mixed >> 60,
            SimOperation::Create
            | SimOperation::Check
            | SimOperation::List
            | SimOperation::Retrieve
            | SimOperation::Verify
            | SimOperation::Delete
            | SimOperation::Preflight
            | SimOperation::Deliver
            | SimOperation::DeliverWebhook
            | SimOperation::OnChange => mixed >> 57,
        })
    }
}

impl WorldState {
    /// Applies the creates and deliveries that timed out and are due.
    pub(super) fn apply_late_effects(&mut self, now: Timestamp) {
        self.apply_late_creates(now);
        self.apply_late_deliveries(now);
    }
}
