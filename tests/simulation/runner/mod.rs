//! Runs the real engine in a world, one process after another, until the world has
//! converged.

mod operator;
mod process;
mod prune;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use rekeyd::core::time;
use rekeyd::engine::Engine;
use rekeyd::platform::clock::Clock as _;
use tokio::time::sleep;

use self::operator::Operator;
use self::process::SimProcess;
use crate::oracle;
use crate::rng::SeededRng;
use crate::scenario::{PERIOD, Scenario};
use crate::world::{FaultPlan, SimReport, SimWorld};

pub(crate) use self::process::{MAX_LIVE_CREDENTIALS, create_ledger};

/// The delay until the host restarts the daemon.
const RESTART_DELAY: Duration = Duration::from_secs(3);

/// The interval at which the daemon checks the clock by itself.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// The shortest wait for the engine's next due task.
const MIN_PAUSE: Duration = Duration::from_millis(10);

/// The number of periods after the fault period within which the world must converge.
const MAX_CONVERGENCE_PERIODS: u32 = 48;

/// The number of periods after the fault period within which every key must rotate by its
/// schedule again, even if the world has not converged.
const MAX_RECOVERY_PERIODS: u32 = 4;

/// Runs one simulation. The same arguments give the same report.
pub(crate) fn run(scenario: &Scenario, plan: FaultPlan, seed: u64, is_traced: bool) -> SimReport {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let world = runtime.block_on(async { SimWorld::new(scenario.clone(), plan, is_traced) });
    let simulation = || {
        runtime.block_on(async {
            run_processes(&world, seed).await;
            oracle::check_final_ledger(&world);
            oracle::check_punctuality(&world);
            world.check_leaks();
        });
    };
    // The test must report the world whose engine panicked.
    if std::panic::catch_unwind(AssertUnwindSafe(simulation)).is_err() {
        world.record_violation("the engine panicked".to_owned());
    }
    world.take_report()
}

/// Runs one process after another until the world has converged.
async fn run_processes(world: &Arc<SimWorld>, seed: u64) {
    let mut checks = ConvergenceChecks::new(world);
    let mut rng = SeededRng(seed);
    loop {
        let number = world.current_process();
        let process = run_process(world, number, rng.next_u64(), checks);
        tokio::select! {
            biased;
            () = world.wait_for_crash() => {
                if world.is_livelocked() {
                    return;
                }
                world.log_trace("the process dies".to_owned());
                world.apply_pending_fault();
                sleep(RESTART_DELAY).await;
            }
            end = process => match end {
                ProcessEnd::StartFailed => sleep(RESTART_DELAY).await,
                ProcessEnd::Converged | ProcessEnd::Livelocked => return,
                ProcessEnd::NotConverged(reason) => {
                    world.record_violation(format!(
                        "the world has not converged after {MAX_CONVERGENCE_PERIODS} periods: \
                         {reason}"
                    ));
                    return;
                }
            }
        }
        checks.skip_until(world.elapsed());
    }
}

/// The result of one process that did not crash.
enum ProcessEnd {
    StartFailed,
    Converged,
    NotConverged(String),
    Livelocked,
}

/// The times of the checks that the world has converged, from the start.
#[derive(Debug, Clone, Copy)]
struct ConvergenceChecks {
    next: Duration,
    /// The check after which the keys must rotate by their schedule.
    recovered: Duration,
    last: Duration,
}

impl ConvergenceChecks {
    fn new(world: &SimWorld) -> Self {
        let first = world.scenario.converges_after;
        Self {
            next: first,
            recovered: first + PERIOD * MAX_RECOVERY_PERIODS,
            last: first + PERIOD * MAX_CONVERGENCE_PERIODS,
        }
    }

    /// Skips the checks that a crash prevented, except the last.
    fn skip_until(&mut self, elapsed: Duration) {
        while self.next < elapsed && self.next < self.last {
            self.next += PERIOD;
        }
    }

    /// Checks whether the world has converged, if a check is due. Returns how the process
    /// ends; none if it continues.
    fn check_due(
        &mut self,
        world: &SimWorld,
        engine: &mut Engine,
        operator: &Operator,
    ) -> Option<ProcessEnd> {
        if self.next > world.elapsed() {
            return None;
        }
        match oracle::check_convergence(world, engine) {
            Ok(()) if operator.waits_for_reply() => {
                let reason = "an operator's command has no reply".to_owned();
                return Some(ProcessEnd::NotConverged(reason));
            }
            Ok(()) => return Some(ProcessEnd::Converged),
            Err(reason) if self.next >= self.last => {
                return Some(ProcessEnd::NotConverged(reason));
            }
            Err(reason) => {
                if self.next >= self.recovered {
                    oracle::check_keeps_rotating(world);
                }
                world.log_trace(format!("not converged yet: {reason}"));
                operator::request_blocked_rotations(world, engine, &reason);
            }
        }
        self.next += PERIOD;
        None
    }
}

/// Runs one process until it has converged or cannot converge any more.
async fn run_process(
    world: &Arc<SimWorld>,
    number: u64,
    seed: u64,
    mut checks: ConvergenceChecks,
) -> ProcessEnd {
    let Some((mut engine, process)) = SimProcess::start(world, number, seed).await else {
        return ProcessEnd::StartFailed;
    };
    // If the clock cannot step, checking it has no effect.
    let max_pause = if world.clock_may_step() {
        CLOCK_CHECK_INTERVAL
    } else {
        PERIOD
    };
    let mut operator = Operator::new(world);
    let mut blocked = oracle::BlockedKeys::default();
    loop {
        if !world.begin_iteration() {
            return ProcessEnd::Livelocked;
        }
        oracle::check_engine_view(world, &engine);
        blocked.check(world, &engine);
        operator.act(world, &process, &mut engine);
        if let Some(end) = checks.check_due(world, &mut engine, &operator) {
            return end;
        }
        engine.start_due();
        let now = world.now();
        let until_due = engine.next_at().map(|at| time::until(now, at));
        let pause = until_due.map_or(max_pause, |until| until.clamp(MIN_PAUSE, max_pause));
        let until_check = checks.next.saturating_sub(world.elapsed());
        let pause = pause.min(until_check + Duration::from_millis(1));
        tokio::select! {
            biased;
            _ = engine.process_completions(), if engine.active_tasks() > 0 => {}
            () = world.operator_acted.notified() => {}
            () = sleep(pause) => {}
        }
    }
}
