//! The real engine on a real ledger, in a world in which every operation may fail. Time
//! is virtual and randomness is seeded, so that a run is repeatable, operation by
//! operation. Single faults and pairs are planned exactly; beyond them,
//! `REKEYD_SEEDS=1000 cargo test simulation --release` runs this many random worlds, and
//! prints how to repeat a failed one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod fault;
mod oracle;
mod provider;
#[path = "../support/provider_contract.rs"]
mod provider_contract;
mod rng;
mod runner;
mod scenario;
mod sink;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fault::{EVENTS, OperatorAction, SimFault};
use rng::SeededRng;
use scenario::Scenario;
use world::{FaultPlan, PlannedFault, SimReport};

/// Runs worlds in parallel, and returns their reports in order. With `REKEYD_STOP_EARLY`,
/// skips the rest after a violation: one is enough to find a planted bug.
fn run_all(scenario: &Scenario, plans: &[Vec<PlannedFault>]) -> Vec<SimReport> {
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(vec![SimReport::default(); plans.len()]);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let stops_early = std::env::var_os("REKEYD_STOP_EARLY").is_some();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(plan) = plans.get(at) else { break };
                    let report = runner::run(scenario, FaultPlan::Exactly(plan.clone()), 1, false);
                    let is_wrong = !report.violations.is_empty();
                    is_over.fetch_or(stops_early && is_wrong, Ordering::Relaxed);
                    reports.lock().unwrap()[at] = report;
                }
            });
        }
    });
    reports.into_inner().unwrap()
}

/// Panics with the trace of the first world that has a violation.
fn assert_no_violations(scenario: &Scenario, plans: &[Vec<PlannedFault>], reports: &[SimReport]) {
    let wrong: Vec<_> = (0..plans.len())
        .filter(|at| !reports[*at].violations.is_empty())
        .collect();
    let Some(first) = wrong.first() else { return };
    let plan = &plans[*first];
    let report = runner::run(scenario, FaultPlan::Exactly(plan.clone()), 1, true);
    for line in &report.trace {
        eprintln!("{line}");
    }
    for at in wrong.iter().take(20) {
        eprintln!(
            "{}: {:?}",
            format_plan(&plans[*at]),
            reports[*at].violations
        );
    }
    let faults = format_plan(plan);
    panic!(
        "{} of {} worlds went wrong; above is the first; repeat it: \
         REKEYD_FAULTS='{} {faults}' cargo test simulation_of_given_faults",
        wrong.len(),
        plans.len(),
        scenario.name,
    );
}

fn format_plan(plan: &[PlannedFault]) -> String {
    let faults: Vec<_> = plan.iter().map(PlannedFault::to_string).collect();
    faults.join(" ")
}

/// Repeats the world of `REKEYD_FAULTS`, such as `large 3:CrashAfter 17:Fails`, and
/// prints its trace.
#[test]
fn simulation_of_given_faults() {
    let Ok(given) = std::env::var("REKEYD_FAULTS") else {
        return;
    };
    let mut words = given.split_whitespace();
    let scenario = match words.next() {
        Some("small") => scenario::small(),
        Some("shared") => scenario::shared(),
        Some("hanging") => scenario::hanging(),
        _ => scenario::large(),
    };
    let plan = words.map(|word| {
        let mut parts = word.split(':');
        let at = parts.next().expect("an operation's number");
        let name = parts.next().expect("OPERATION:FAULT");
        let again = parts.next().map_or(0, |again| again.parse().unwrap());
        let mut all = fault::all_faults();
        let fault = all.find(|fault| format!("{fault:?}") == name);
        PlannedFault::repeated(at.parse().unwrap(), fault.expect("a fault's name"), again)
    });
    let report = runner::run(&scenario, FaultPlan::Exactly(plan.collect()), 1, true);
    for line in &report.trace {
        eprintln!("{line}");
    }
    assert_eq!(report.violations, [""; 0]);
}

/// Returns every plan with one fault.
fn single_fault_plans(scenario: &Scenario, events: bool) -> Vec<Vec<PlannedFault>> {
    let calm = runner::run(scenario, FaultPlan::Exactly(Vec::new()), 1, true);
    assert_no_violations(scenario, &[Vec::new()], std::slice::from_ref(&calm));
    assert_eq!(calm.created, scenario.rotations, "{:#?}", calm.trace);
    let ops = calm.operations.iter().enumerate();
    let plans = ops.flat_map(|(at, op)| {
        let events: &[SimFault] = if events { &EVENTS } else { &[] };
        let faults = op.faults().iter().chain(events);
        faults.map(move |fault| vec![PlannedFault::once(at, *fault)])
    });
    plans.collect()
}

#[test]
fn simulation_of_every_single_fault_with_three_keys() {
    let scenario = scenario::large();
    let plans = single_fault_plans(&scenario, true);
    let reports = run_all(&scenario, &plans);
    assert_no_violations(&scenario, &plans, &reports);
    eprintln!("{} worlds", plans.len());
}

/// A hanging receiver delays no other key, and every due rotation of the other keys
/// starts in time.
#[test]
fn simulation_of_hanging_receivers() {
    let scenario = scenario::hanging();
    let report = runner::run(&scenario, FaultPlan::Exactly(Vec::new()), 1, true);
    assert_eq!(report.violations, [""; 0], "{:#?}", report.trace);
    assert_eq!(report.created, scenario.rotations, "{:#?}", report.trace);
}

/// Two daemons with one organization and no common ledger: no fault makes one of them
/// touch the other's credentials.
#[test]
fn simulation_of_every_single_fault_beside_another_daemon() {
    let scenario = scenario::shared();
    let plans = single_fault_plans(&scenario, true);
    let reports = run_all(&scenario, &plans);
    assert_no_violations(&scenario, &plans, &reports);
    eprintln!("{} worlds", plans.len());
}

/// The host restarts the daemon again and again, and the same fault repeats more often
/// than credentials may live at once.
#[test]
fn simulation_of_every_repeated_fault() {
    let scenario = scenario::large();
    let mut plans = single_fault_plans(&scenario, false);
    for strike in plans.iter_mut().flatten() {
        strike.repeats = runner::MAX_LIVE_CREDENTIALS + 2;
    }
    let reports = run_all(&scenario, &plans);
    assert_no_violations(&scenario, &plans, &reports);
    eprintln!("{} worlds", plans.len());
}

#[test]
fn simulation_of_every_pair_of_faults_with_one_key() {
    survives_every_pair(&scenario::small());
}

fn survives_every_pair(scenario: &Scenario) {
    let first = single_fault_plans(scenario, false);
    let reports = run_all(scenario, &first);
    assert_no_violations(scenario, &first, &reports);
    let mut plans = Vec::new();
    for (plan, report) in first.iter().zip(&reports) {
        for (at, op) in report.operations.iter().enumerate().skip(plan[0].at + 1) {
            for fault in op.faults() {
                plans.push(vec![plan[0], PlannedFault::once(at, *fault)]);
            }
        }
    }
    let reports = run_all(scenario, &plans);
    assert_no_violations(scenario, &plans, &reports);
    eprintln!("{} worlds", plans.len());
}

/// Sinks that are removed and come back, at any two moments, by a reload or by a
/// restart.
#[test]
fn simulation_of_every_pair_of_reconfigurations_with_one_key() {
    let scenario = scenario::small();
    let calm = runner::run(&scenario, FaultPlan::Exactly(Vec::new()), 1, false);
    let events = [
        SimFault::Operator(OperatorAction::Reload),
        SimFault::Reconfigured,
    ];
    let at_each = |from: usize| {
        (from..calm.operations.len())
            .flat_map(|at| events.map(|event| PlannedFault::once(at, event)))
    };
    let plans =
        at_each(0).flat_map(|first| at_each(first.at + 1).map(move |second| vec![first, second]));
    let plans: Vec<_> = plans.collect();
    let reports = run_all(&scenario, &plans);
    assert_no_violations(&scenario, &plans, &reports);
    eprintln!("{} worlds", plans.len());
}

/// Takes a quarter of an hour: `REKEYD_PAIRS=large cargo test --release
/// simulation_of_every_pair_of_faults_with_three_keys`.
#[test]
fn simulation_of_every_pair_of_faults_with_three_keys() {
    if std::env::var("REKEYD_PAIRS").is_ok_and(|which| which == "large") {
        survives_every_pair(&scenario::large());
    }
}

/// The planted bugs, which prove the simulation, apply to the present sources.
#[test]
fn planted_bug_patches_apply() {
    let root = env!("CARGO_MANIFEST_DIR");
    let folder = std::path::Path::new(root).join("tests/mutants");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "patch") {
            continue;
        }
        count += 1;
        let mut check = std::process::Command::new("git");
        let check = check.current_dir(root).args(["apply", "--check"]);
        let output = check.arg(&path).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {stderr}", path.display());
    }
    assert!(count >= 12, "{count} planted bugs");
}

#[test]
fn simulation_of_random_faults() {
    let seeds = std::env::var("REKEYD_SEEDS");
    let seeds: u64 = seeds.map_or(50, |seeds| seeds.parse().expect("REKEYD_SEEDS is a number"));
    let only = std::env::var("REKEYD_SEED").ok();
    let from = only.map_or(0, |seed| seed.parse().expect("REKEYD_SEED is a number"));
    let to = if from > 0 { from + 1 } else { seeds };
    let next = std::sync::atomic::AtomicU64::new(from);
    let made = AtomicUsize::new(0);
    let wrong = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while wrong.lock().unwrap().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to {
                        break;
                    }
                    let report = run_random(seed, false);
                    made.fetch_add(report.created, Ordering::Relaxed);
                    if !report.violations.is_empty() {
                        *wrong.lock().unwrap() = Some(seed);
                    }
                }
            });
        }
    });
    if let Some(seed) = *wrong.lock().unwrap() {
        let report = run_random(seed, true);
        for line in &report.trace {
            eprintln!("{line}");
        }
        panic!(
            "{:?}\nrepeat it: REKEYD_SEED={seed} cargo test simulation_of_random_faults --release",
            report.violations
        );
    }
    eprintln!("{} rotations", made.into_inner());
}

fn run_random(seed: u64, traced: bool) -> SimReport {
    let mut chance = SeededRng(seed);
    // The rate ranges from an occasional fault to one at nearly every operation.
    let one_in = [4, 8, 16, 32][chance.below(4)];
    let scenario = match chance.below(6) {
        0 | 1 => scenario::large(),
        2 | 3 => scenario::small(),
        4 => scenario::hanging(),
        _ => scenario::shared(),
    };
    runner::run(&scenario, FaultPlan::Random(chance, one_in), seed, traced)
}

#[test]
fn simulation_is_deterministic() {
    for seed in 0..4 {
        assert_eq!(run_random(seed, true), run_random(seed, true));
    }
}

/// The simulated provider keeps the same contract as the real one.
mod simulated_provider {
    use std::sync::Arc;

    use rekeyd::core::secret::{ActiveCredential, Secret};

    use crate::provider::SimProvider;
    use crate::scenario;
    use crate::world::{BOOTSTRAP_SECRET, FaultPlan, SimWorld};

    async fn provider_under_test() -> (Arc<SimWorld>, SimProvider) {
        let world = SimWorld::new(scenario::small(), FaultPlan::Exactly(Vec::new()), false);
        crate::runner::create_ledger(&world);
        let cell = ActiveCredential::new();
        cell.set(Secret::new(BOOTSTRAP_SECRET.to_owned()));
        let provider = SimProvider {
            world: Arc::clone(&world),
            process: 0,
            active_credential: cell,
        };
        (world, provider)
    }

    crate::provider_contract::every_obligation!(
        tokio::test(start_paused = true),
        provider_under_test()
    );
}
