//! Runs a batch of planned simulations in parallel, and reports their violations.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use crate::fault::{EVENTS, SimFault};
use crate::rng::SeededRng;
use crate::runner;
use crate::scenario::Scenario;
use crate::seed::seed_by;
use crate::world::{FaultPlan, PlannedFault, SimReport};

/// The faults of one simulation.
pub(crate) type FixedPlan = Vec<PlannedFault>;

/// The most violations that a failed test prints.
const MAX_PRINTED_VIOLATIONS: usize = 20;

/// Returns the number of simulations that run in parallel.
pub(crate) fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub(crate) fn run_fixed(scenario: &Scenario, plan: &FixedPlan, is_traced: bool) -> SimReport {
    runner::run(scenario, FaultPlan::Fixed(plan.clone()), 1, is_traced)
}

/// Runs every plan, and checks that no simulation has a violation. Returns the reports in the
/// order of the plans. With `REKEYD_STOP_EARLY`, skips the other plans after a violation: one
/// violation suffices to find a planted bug.
pub(crate) fn check_all(scenario: &Scenario, plans: &[FixedPlan]) -> Vec<SimReport> {
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(vec![SimReport::default(); plans.len()]);
    let stops_early = std::env::var_os("REKEYD_STOP_EARLY").is_some();
    let is_stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..parallelism() {
            scope.spawn(|| {
                while !is_stopped.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(plan) = plans.get(at) else { break };
                    let report = run_fixed(scenario, plan, false);
                    let has_violation = !report.violations.is_empty();
                    is_stopped.fetch_or(stops_early && has_violation, Ordering::Relaxed);
                    reports.lock().unwrap()[at] = report;
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap();
    assert_no_violations(scenario, plans, &reports);
    reports
}

/// Runs a quarter of the plans, other ones each time, and checks that no simulation has a
/// violation. `REKEYD_SAMPLE=SEED` repeats the choice; `REKEYD_PLANS=all` runs every plan.
pub(crate) fn check_sample(scenario: &Scenario, mut plans: Vec<FixedPlan>) {
    let count = plans.len();
    if std::env::var("REKEYD_PLANS").is_ok_and(|plans| plans == "all") {
        eprintln!("{count} simulations");
    } else {
        let seed = sample_seed();
        let mut rng = SeededRng(seed);
        plans.retain(|_| rng.below(4) == 0);
        eprintln!(
            "{} of {count} simulations: REKEYD_SAMPLE={seed}",
            plans.len()
        );
    }
    check_all(scenario, &plans);
}

/// The seed of this process's samples.
fn sample_seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| seed_by("REKEYD_SAMPLE"))
}

/// Panics with the trace of the first simulation that has a violation.
fn assert_no_violations(scenario: &Scenario, plans: &[FixedPlan], reports: &[SimReport]) {
    let failed: Vec<_> = (0..plans.len())
        .filter(|at| !reports[*at].violations.is_empty())
        .collect();
    let Some(first) = failed.first() else { return };
    let plan = &plans[*first];
    print_trace(&run_fixed(scenario, plan, true));
    for at in failed.iter().take(MAX_PRINTED_VIOLATIONS) {
        let plan = format_plan(&plans[*at]);
        eprintln!("{plan}: {:?}", reports[*at].violations);
    }
    panic!(
        "{} of {} simulations failed; the trace is that of the first; repeat it: \
         REKEYD_FAULTS='{} {}' cargo test simulation_of_given_faults",
        failed.len(),
        plans.len(),
        scenario.name,
        format_plan(plan),
    );
}

pub(crate) fn print_trace(report: &SimReport) {
    for line in &report.trace {
        eprintln!("{line}");
    }
}

/// Returns the plan in the form of `REKEYD_FAULTS`.
fn format_plan(plan: &FixedPlan) -> String {
    let faults: Vec<_> = plan.iter().map(PlannedFault::to_string).collect();
    faults.join(" ")
}

/// Returns every plan with one fault of an operation, and every plan with one event if
/// `with_events`. Checks the simulation without faults.
pub(crate) fn single_fault_plans(scenario: &Scenario, with_events: bool) -> Vec<FixedPlan> {
    let report = run_fixed(scenario, &Vec::new(), true);
    assert_no_violations(scenario, &[Vec::new()], std::slice::from_ref(&report));
    assert_eq!(report.created, scenario.rotations, "{:#?}", report.trace);
    let events: &[SimFault] = if with_events { &EVENTS } else { &[] };
    let operations = report.operations.iter().enumerate();
    let plans = operations.flat_map(|(at, operation)| {
        let faults = operation.faults().iter().chain(events);
        faults.map(move |fault| vec![PlannedFault::once(at, *fault)])
    });
    plans.collect()
}
