//! The figures of `docs/performance.md`: `cargo bench --bench figures`.
//!
//! Release processes are measured side by side with the programs that they are
//! compared with, so that other load on this host affects both. The burst, the
//! commits of a rotation and the day run the engine in this process, with its
//! ledger and its files, and a provider without a network. No measurement fails
//! for being slow. Arguments after `--` select measurements: `cargo bench
//! --bench figures -- idle ready`. `REKEYD_BINARY` names another binary to
//! measure.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

#[path = "figures/burst.rs"]
mod burst;
#[path = "../tests/support/command_lines.rs"]
#[expect(dead_code, reason = "for tests of command lines with placeholders")]
mod command_lines;
#[path = "figures/commits.rs"]
mod commits;
#[path = "figures/day.rs"]
mod day;
#[path = "figures/engine.rs"]
mod engine;
#[path = "figures/idle.rs"]
mod idle;
#[path = "many/instant.rs"]
mod instant;
#[path = "figures/keys.rs"]
mod keys;
#[path = "many/mod.rs"]
mod many;
#[path = "figures/million.rs"]
mod million;
#[path = "figures/nothing_due.rs"]
mod nothing_due;
#[path = "figures/process.rs"]
mod process;
#[path = "figures/provider.rs"]
mod provider;
#[path = "figures/readers.rs"]
mod readers;
#[path = "figures/reading.rs"]
mod reading;
#[path = "figures/ready.rs"]
mod ready;
#[path = "figures/rotation.rs"]
mod rotation;
#[path = "figures/size.rs"]
mod size;
#[path = "../tests/support/mod.rs"]
mod support;
#[path = "figures/table.rs"]
mod table;

use table::TableRow;

/// Runs one measurement.
type Measurement = fn() -> Vec<TableRow>;

/// The measurements, by the arguments that select them. The burst comes first,
/// since it creates a thousand files: ext4 without a journal skips every inode
/// that was freed in the last five minutes, and the other measurements free
/// thousands.
const MEASUREMENTS: [(&str, Measurement); 10] = [
    ("burst", burst::rows),
    ("rotation", rotation::rows),
    ("commits", commits::rows),
    ("nothing-due", nothing_due::rows),
    ("ready", ready::rows),
    ("idle", idle::rows),
    ("reading", reading::rows),
    ("readers", readers::rows),
    ("size", size::rows),
    ("day", day::rows),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--child", "rotations", count] => commits::child(count.parse().unwrap()),
        ["--child", "day"] => day::child(),
        // `cargo test --benches` only checks that it runs.
        _ if !arguments.contains(&"--bench") => {}
        _ => measure(&arguments),
    }
}

fn measure(arguments: &[&str]) {
    let selected = arguments.iter().filter(|word| !word.starts_with("--"));
    let selected: Vec<_> = selected.copied().collect();
    let is_known = |name: &str| MEASUREMENTS.iter().any(|(known, _)| *known == name);
    if let Some(name) = selected.iter().find(|name| !is_known(name)) {
        let known = MEASUREMENTS.map(|(name, _)| name).join(", ");
        eprintln!("there is no part {name}; there are: {known}");
        std::process::exit(2);
    }
    let is_selected = |name: &str| selected.is_empty() || selected.contains(&name);
    let (mut rows, mut failed) = (Vec::new(), false);
    for (name, measurement) in MEASUREMENTS.iter().filter(|(name, _)| is_selected(name)) {
        eprintln!("measuring: {name}");
        // A failed measurement does not lose the results of the others.
        match std::panic::catch_unwind(measurement) {
            Ok(measured) => rows.extend(measured),
            Err(_) => {
                failed = true;
                rows.push(TableRow::new(*name, "failed, as told above"));
            }
        }
    }
    println!("{}", table::render(&rows));
    if failed {
        std::process::exit(1);
    }
}
