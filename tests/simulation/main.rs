//! The real engine and the real ledger in a simulated world, in which every operation may
//! have a fault. Time is virtual and randomness is seeded, so that a simulation is repeatable,
//! operation by operation.
//!
//! The tests plan every single fault, and a sample of the pairs of faults, another one each
//! time; `REKEYD_PLANS=all` plans every pair. Beyond these, `REKEYD_SEEDS=1000 cargo test
//! simulation --release` runs 1000 simulations with random faults, from another seed each time.
//! A failed test prints the command that repeats its simulation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod batch;
mod fault;
mod name_form;
mod oracle;
mod planted_bugs;
mod provider;
#[path = "../support/provider_contract.rs"]
mod provider_contract;
mod redaction;
mod rng;
mod runner;
mod scenario;
#[path = "../support/seed.rs"]
mod seed;
mod simulated_provider;
mod sink;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use batch::{check_all, check_sample, parallelism, print_trace, run_fixed, single_fault_plans};
use fault::{ANSWERS_OF_OTHERS, FalseAnswer, OperatorAction, SimFault, SimOperation};
use name_form::NameForm;
use redaction::RedactionForm;
use rng::SeededRng;
use scenario::Scenario;
use seed::seed_by;
use world::{FaultPlan, PlannedFault, SimReport};

/// Repeats the simulation of `REKEYD_FAULTS`, such as `large 3:CrashAfter 17:Failure`, and
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
        Some("sharing") => scenario::sharing(),
        Some("restored") => scenario::restored(),
        Some("copied") => scenario::copied(),
        Some("expiring") => scenario::expiring(),
        Some("received") => scenario::received(),
        Some("limited") => scenario::limited(),
        name => {
            let mut forms = NameForm::CHANGED.into_iter();
            let form = forms.find(|form| name == Some(form.scenario_name()));
            form.map_or_else(scenario::large, scenario::renamed)
        }
    };
    let plan = words.map(parse_fault).collect();
    let report = run_fixed(&scenario, &plan, true);
    print_trace(&report);
    assert_eq!(report.violations, [""; 0]);
}

/// Parses `OPERATION:FAULT` or `OPERATION:FAULT:REPEATS`.
fn parse_fault(word: &str) -> PlannedFault {
    let mut parts = word.split(':');
    let at = parts.next().expect("an operation's number");
    let name = parts.next().expect("OPERATION:FAULT");
    let repeats = parts.next().map_or(0, |repeats| repeats.parse().unwrap());
    let fault = fault::all_faults().find(|fault| format!("{fault:?}") == name);
    PlannedFault::repeated(at.parse().unwrap(), fault.expect("a fault's name"), repeats)
}

#[test]
fn simulation_of_every_single_fault_with_three_keys() {
    let scenario = scenario::large();
    let plans = single_fault_plans(&scenario, true);
    check_all(&scenario, &plans);
    eprintln!("{} simulations", plans.len());
}

/// A hanging receiver delays no other key, and every due rotation of the other keys starts in
/// time.
#[test]
fn simulation_of_hanging_receivers() {
    let scenario = scenario::hanging();
    let report = run_fixed(&scenario, &Vec::new(), true);
    assert_eq!(report.violations, [""; 0], "{:#?}", report.trace);
    assert_eq!(report.created, scenario.rotations, "{:#?}", report.trace);
}

/// A limit of the rate of creates that comes and goes, for many keys that are due at once: it
/// costs few requests, delays only creates, and each key rotates in the end. The process dies
/// at some of the operations.
#[test]
fn simulation_of_limited_creates() {
    let scenario = scenario::limited();
    let report = run_fixed(&scenario, &Vec::new(), false);
    assert_eq!(report.violations, [""; 0]);
    assert_eq!(report.created, scenario.rotations);
    let crashes = (100..report.operations.len()).step_by(1_500);
    let plans = crashes.map(|at| vec![PlannedFault::once(at, SimFault::CrashBefore)]);
    let plans: Vec<_> = plans.collect();
    check_all(&scenario, &plans);
    eprintln!("{} simulations", plans.len() + 1);
}

/// Two daemons with one organization and no common ledger: no fault makes the daemon change
/// the credentials of the other.
#[test]
fn simulation_of_every_single_fault_beside_another_daemon() {
    let scenario = scenario::shared();
    let plans = single_fault_plans(&scenario, true);
    check_all(&scenario, &plans);
    eprintln!("{} simulations", plans.len());
}

/// Lists alone show when credentials end, and later a nearer end: whatever fails, the ledger
/// has the end that is shown.
#[test]
fn simulation_of_ends_that_only_lists_show() {
    let scenario = scenario::expiring();
    let plans = single_fault_plans(&scenario, false);
    check_all(&scenario, &plans);
    eprintln!("{} simulations", plans.len());
}

/// However the provider redacts secrets, rekeyd does not delete the credential that it
/// authenticates with, and rotates on: after a crash at each operation, and after somebody
/// wrote the previous secret into its file.
#[test]
fn simulation_of_redactions_of_every_form() {
    for form in RedactionForm::ALL {
        let scenario = scenario::redacted(form);
        let operations = run_fixed(&scenario, &Vec::new(), false).operations.len();
        let faults = [SimFault::CrashBefore, SimFault::CredentialFileRestore];
        let plans =
            (0..operations).flat_map(|at| faults.map(|fault| vec![PlannedFault::once(at, fault)]));
        let twice = (0..operations).step_by(3).map(|at| {
            let restores = [at, at + 20];
            restores
                .map(|at| PlannedFault::once(at, SimFault::CredentialFileRestore))
                .into()
        });
        let plans: Vec<_> = plans.chain(twice).collect();
        check_sample(&scenario, plans);
    }
}

/// Answers to creates show the id or the secret of another key's credential, or a time of
/// long ago, and the process dies soon after.
#[test]
fn simulation_of_answers_about_other_keys() {
    for scenario in [scenario::large(), scenario::sharing()] {
        let operations = run_fixed(&scenario, &Vec::new(), false).operations;
        let creates = operations.iter().enumerate();
        let creates = creates.filter(|(_, operation)| **operation == SimOperation::Create);
        let plans = creates.flat_map(|(at, _)| {
            ANSWERS_OF_OTHERS.into_iter().flat_map(move |answer| {
                let alone = vec![PlannedFault::once(at, answer)];
                let crashes = (at + 1..at + 7).map(move |later| {
                    let crash = PlannedFault::once(later, SimFault::CrashBefore);
                    vec![PlannedFault::once(at, answer), crash]
                });
                [alone].into_iter().chain(crashes)
            })
        });
        let plans: Vec<_> = plans.collect();
        check_all(&scenario, &plans);
        eprintln!("{} simulations", plans.len());
    }
}

/// Answers to the creates of several keys show one id that no credential has, and the
/// process dies soon after: one row at most has it, and no credential is lost.
#[test]
fn simulation_of_one_invented_id_for_several_keys() {
    let invented = SimFault::FalseAnswer(FalseAnswer::InventedId);
    for scenario in [scenario::large(), scenario::sharing()] {
        let operations = run_fixed(&scenario, &Vec::new(), false).operations;
        let creates = operations.iter().enumerate();
        let creates = creates.filter(|(_, operation)| **operation == SimOperation::Create);
        let creates: Vec<_> = creates.map(|(at, _)| at).collect();
        let mut plans = Vec::new();
        for (number, first) in creates.iter().enumerate() {
            plans.extend((*first..*first + 24).step_by(3).map(|later| {
                let crash = PlannedFault::once(later + 1, SimFault::CrashBefore);
                vec![PlannedFault::once(*first, invented), crash]
            }));
            for second in &creates[number + 1..] {
                let both = [*first, *second].map(|at| PlannedFault::once(at, invented));
                plans.push(both.into());
                plans.extend((second + 1..second + 4).map(|later| {
                    let crash = PlannedFault::once(later, SimFault::CrashBefore);
                    [both[0], both[1], crash].into()
                }));
            }
        }
        check_sample(&scenario, plans);
    }
}

/// However the provider changes the names that it is sent, every credential of the daemon is
/// recorded or reported, and none of anybody else is deleted.
#[test]
fn simulation_of_changed_names() {
    for form in NameForm::CHANGED {
        let scenario = scenario::renamed(form);
        let plans = single_fault_plans(&scenario, true);
        check_sample(&scenario, plans);
    }
}

/// A key adopts a credential of another one at every step, also of its revocation, and
/// each fault follows at the next operations; then the adopting key leaves the
/// configuration, or the first key's previous credentials are revoked at once.
#[test]
fn simulation_of_shared_credentials() {
    let scenario = scenario::sharing();
    check_all(&scenario, &single_fault_plans(&scenario, true));
    let adopt = SimFault::Operator(OperatorAction::AdoptShared);
    let operations = run_fixed(&scenario, &Vec::new(), false).operations;
    let mut plans = Vec::new();
    for at in 0..operations.len() {
        let adoption = PlannedFault::once(at, adopt);
        for (later, operation) in operations.iter().enumerate().skip(at + 1) {
            let events = [OperatorAction::Reload, OperatorAction::RotateAndRevoke];
            let events = events.map(SimFault::Operator);
            let faults = operation.faults().iter().filter(|_| later < at + 8);
            let faults = events.iter().chain(faults);
            plans.extend(faults.map(|fault| vec![adoption, PlannedFault::once(later, *fault)]));
        }
    }
    check_sample(&scenario, plans);
}

/// A credential leaks, and its deadline interrupts the delivery of the next one, which the
/// receiver has applied and then rejects. Every way to abandon the rotation follows: the
/// receiver's consumer is not left with a revoked credential.
#[test]
fn simulation_of_interrupted_deliveries() {
    let scenario = scenario::received();
    let leak = SimFault::Operator(OperatorAction::RotateAfterLeak);
    let operations = run_fixed(&scenario, &Vec::new(), false).operations;
    let leaks = (0..operations.len()).step_by(4);
    let leaks: Vec<_> = leaks.map(|at| vec![PlannedFault::once(at, leak)]).collect();
    let reports = check_all(&scenario, &leaks);
    let delivery = |operation: &SimOperation| *operation == SimOperation::DeliverWebhook;
    let mut interrupted = Vec::new();
    for (plan, report) in leaks.iter().zip(&reports) {
        let later = report.operations.iter().skip(plan[0].at + 1);
        if let Some(delivered) = later.take(32).position(delivery) {
            let at = plan[0].at + 1 + delivered;
            let fault = PlannedFault::once(at, SimFault::RejectedRepetition);
            interrupted.push(vec![plan[0], fault]);
        }
    }
    let reports = check_all(&scenario, &interrupted);
    let ends = [
        SimFault::Operator(OperatorAction::Reload),
        SimFault::Operator(OperatorAction::RotateAfterLeak),
        SimFault::Reconfiguration,
    ];
    let mut plans = Vec::new();
    for (plan, report) in interrupted.iter().zip(&reports) {
        let later = report.operations.iter().enumerate().skip(plan[1].at + 1);
        for (at, _) in later.take(12) {
            plans.extend(ends.map(|end| [plan[0], plan[1], PlannedFault::once(at, end)]));
        }
    }
    let plans: Vec<Vec<_>> = plans.into_iter().map(Vec::from).collect();
    check_sample(&scenario, plans);
}

/// Somebody goes back to the previous credential in a key's file, at every operation, and
/// each fault follows at the next ones: no consumer of the file is left with a revoked
/// credential, and the file is repaired in the end.
#[test]
fn simulation_of_files_that_hold_a_retired_credential_again() {
    let scenario = scenario::restored();
    let operations = run_fixed(&scenario, &Vec::new(), false).operations.len();
    let restores = (0..operations).map(|at| vec![PlannedFault::once(at, SimFault::FileRestore)]);
    let restores: Vec<_> = restores.collect();
    let reports = check_all(&scenario, &restores);
    let mut plans = Vec::new();
    for (plan, report) in restores.iter().zip(&reports) {
        let later = report.operations.iter().enumerate().skip(plan[0].at + 1);
        for (at, operation) in later.take(24) {
            for fault in operation.faults() {
                plans.push(vec![plan[0], PlannedFault::once(at, *fault)]);
            }
        }
    }
    check_sample(&scenario, plans);
}

/// Somebody copies the previous secret of one key into the file of another, at every
/// operation, and each fault follows at the next ones: the file keeps that credential for
/// as long as such a file counts, and both keys continue to rotate.
#[test]
fn simulation_of_files_that_hold_a_credential_of_another_key() {
    let scenario = scenario::copied();
    let operations = run_fixed(&scenario, &Vec::new(), false).operations;
    let copies = (0..operations.len()).map(|at| vec![PlannedFault::once(at, SimFault::FileCopy)]);
    let copies: Vec<_> = copies.collect();
    let reports = check_all(&scenario, &copies);
    let mut plans = Vec::new();
    let copied = copies.iter().zip(&reports);
    // Where there is no previous secret, or it is over before it is searched for, nothing
    // comes of it.
    for (plan, report) in copied.filter(|(_, report)| report.operations != operations) {
        let later = report.operations.iter().enumerate().skip(plan[0].at + 1);
        for (at, operation) in later.take(12) {
            for fault in operation.faults() {
                plans.push(vec![plan[0], PlannedFault::once(at, *fault)]);
            }
        }
    }
    assert!(!plans.is_empty(), "a copy is found");
    check_sample(&scenario, plans);
}

/// The host restarts the daemon after each crash, and the same fault repeats more often than
/// credentials may live at once.
#[test]
fn simulation_of_every_repeated_fault() {
    let scenario = scenario::large();
    let mut plans = single_fault_plans(&scenario, false);
    for planned in plans.iter_mut().flatten() {
        planned.repeats = runner::MAX_LIVE_CREDENTIALS + 2;
    }
    check_all(&scenario, &plans);
    eprintln!("{} simulations", plans.len());
}

/// An operation fails as long as faults may occur, whichever and from whenever on: a daemon
/// that cannot start a due rotation shows why, and continues when that has passed.
#[test]
fn simulation_of_every_lasting_failure() {
    let scenario = scenario::large();
    let mut plans = single_fault_plans(&scenario, false);
    plans.retain(|plan| plan.iter().all(|planned| planned.fault.is_failure()));
    for planned in plans.iter_mut().flatten() {
        planned.repeats = usize::MAX;
    }
    check_all(&scenario, &plans);
    eprintln!("{} simulations", plans.len());
}

#[test]
fn simulation_of_every_pair_of_faults_with_one_key() {
    check_every_pair(&scenario::small());
}

/// Takes a quarter of an hour: `REKEYD_PLANS=all REKEYD_PAIRS=large cargo test --release
/// simulation_of_every_pair_of_faults_with_three_keys`.
#[test]
fn simulation_of_every_pair_of_faults_with_three_keys() {
    if std::env::var("REKEYD_PAIRS").is_ok_and(|scenario| scenario == "large") {
        check_every_pair(&scenario::large());
    }
}

/// Checks every single fault, and then every pair: the report of a single fault has the
/// operations at which the second fault may occur.
fn check_every_pair(scenario: &Scenario) {
    let single = single_fault_plans(scenario, false);
    let reports = check_all(scenario, &single);
    let mut pairs = Vec::new();
    for (plan, report) in single.iter().zip(&reports) {
        let operations = report.operations.iter().enumerate();
        for (at, operation) in operations.skip(plan[0].at + 1) {
            for fault in operation.faults() {
                pairs.push(vec![plan[0], PlannedFault::once(at, *fault)]);
            }
        }
    }
    check_sample(scenario, pairs);
}

/// Sinks are removed and return, at any two operations, by a reload or by a restart.
#[test]
fn simulation_of_every_pair_of_reconfigurations_with_one_key() {
    let scenario = scenario::small();
    let operations = run_fixed(&scenario, &Vec::new(), false).operations.len();
    let events = [
        SimFault::Operator(OperatorAction::Reload),
        SimFault::Reconfiguration,
    ];
    let events_from = |first: usize| {
        (first..operations).flat_map(move |at| events.map(|event| PlannedFault::once(at, event)))
    };
    let plans = events_from(0).flat_map(|first| {
        let later = events_from(first.at + 1);
        later.map(move |second| vec![first, second])
    });
    let plans: Vec<_> = plans.collect();
    check_sample(&scenario, plans);
}

/// The planted bugs, which prove the simulation, apply to the present sources.
#[test]
fn planted_bug_patches_apply() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("tests/mutants");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_none_or(|extension| extension != "patch")
        {
            continue;
        }
        count += 1;
        planted_bugs::assert_applies(root, &path);
    }
    assert!(count >= 12, "{count} planted bugs");
}

/// The number of simulations with random faults by default.
const DEFAULT_SEEDS: u64 = 50;

/// Runs `REKEYD_SEEDS` simulations with random faults from a fresh seed on, or from
/// `REKEYD_SEED` on; that one alone without a number.
#[test]
fn simulation_of_random_faults() {
    let count = match (std::env::var("REKEYD_SEEDS"), std::env::var("REKEYD_SEED")) {
        (Ok(count), _) => count.parse().expect("REKEYD_SEEDS is a number"),
        (Err(_), Ok(_)) => 1,
        (Err(_), Err(_)) => DEFAULT_SEEDS,
    };
    let first = seed_by("REKEYD_SEED");
    let end = first + count;
    let next = AtomicU64::new(first);
    let created = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..parallelism() {
            scope.spawn(|| {
                while failed.lock().unwrap().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let report = run_random(seed, false);
                    created.fetch_add(report.created, Ordering::Relaxed);
                    if !report.violations.is_empty() {
                        *failed.lock().unwrap() = Some(seed);
                    }
                }
            });
        }
    });
    if let Some(seed) = *failed.lock().unwrap() {
        let report = run_random(seed, true);
        print_trace(&report);
        panic!(
            "{:?}\nrepeat it: REKEYD_SEED={seed} cargo test simulation_of_random_faults --release",
            report.violations
        );
    }
    eprintln!("{} rotations", created.into_inner());
}

/// Runs a random scenario with random faults.
fn run_random(seed: u64, is_traced: bool) -> SimReport {
    let mut rng = SeededRng(seed);
    // The rate ranges from an occasional fault to one at nearly every operation.
    let mean_interval = [4, 8, 16, 32][rng.below(4)];
    let scenario = match rng.below(6) {
        0 | 1 => scenario::large(),
        2 | 3 => scenario::small(),
        4 => scenario::hanging(),
        _ => scenario::shared(),
    };
    let plan = FaultPlan::Random { rng, mean_interval };
    runner::run(&scenario, plan, seed, is_traced)
}

#[test]
fn simulation_is_deterministic() {
    for seed in 0..4 {
        assert_eq!(run_random(seed, true), run_random(seed, true));
    }
}
