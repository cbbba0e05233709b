//! The scenarios: each runs the program and records its public faces.

mod commands;
mod deliveries;
mod exit_codes;
mod faults;
mod firings;
mod namespace;
mod notifications;
mod rehearsal;
mod service;

use crate::recording::Recording;

/// Runs a scenario.
type Run = fn() -> Recording;

/// Every scenario, by its name.
pub(crate) const SCENARIOS: [(&str, Run); 16] = [
    ("commands", commands::run),
    ("service", service::run),
    ("own credential", service::run_own_credential),
    ("environment", service::run_environment),
    ("faults", faults::run),
    ("given up", faults::run_given_up),
    ("differences", faults::run_differences),
    ("deliveries", deliveries::run),
    ("firings", firings::run),
    ("notifications of keys", notifications::run_keys),
    ("notifications of all", notifications::run_all),
    ("notifications of the clock", notifications::run_clock),
    ("exit codes", exit_codes::run),
    ("options", exit_codes::run_options),
    ("rehearsal", rehearsal::run),
    ("namespace", namespace::run),
];
