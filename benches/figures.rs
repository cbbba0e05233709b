//! The figures of the README, measured again: `cargo bench --bench figures`.
//!
//! Whole processes are measured as they are built for release, each beside
//! what it is compared with: what else this host does is the same for both. A
//! burst, a rotation's commits and a day are the engine's in this process, with
//! its ledger and its files, and a provider that needs no network. Nothing here
//! fails for being slow. Words behind `--` choose parts of it:
//! `cargo bench --bench figures -- idle ready`. `REKEYD_BINARY` has another
//! binary measured.
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

/// Measures one part.
type Measurement = fn() -> Vec<TableRow>;

/// What is measured, by the word that chooses it. A burst first, which makes a
/// thousand files: where ext4 has no journal, it passes over every inode that was
/// freed in the last five minutes, and the others free thousands.
const MEASUREMENTS: [(&str, Measurement); 9] = [
    ("burst", burst::rows),
    ("rotation", rotation::rows),
    ("commits", commits::rows),
    ("nothing-due", nothing_due::rows),
    ("ready", ready::rows),
    ("idle", idle::rows),
    ("reading", reading::rows),
    ("size", size::rows),
    ("day", day::rows),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--child", "rotations", count] => commits::child(count.parse().unwrap()),
        ["--child", "day"] => day::child(),
        // `cargo test --benches` only wants to know whether it runs.
        _ if !words.contains(&"--bench") => {}
        _ => measure(&words),
    }
}

fn measure(words: &[&str]) {
    let selected = words.iter().filter(|word| !word.starts_with("--"));
    let selected: Vec<_> = selected.copied().collect();
    let is_part = |word: &str| MEASUREMENTS.iter().any(|(name, _)| *name == word);
    if let Some(word) = selected.iter().find(|word| !is_part(word)) {
        let known = MEASUREMENTS.map(|(name, _)| name).join(", ");
        eprintln!("there is no part {word}; there are: {known}");
        std::process::exit(2);
    }
    let chosen = |name: &str| selected.is_empty() || selected.contains(&name);
    let (mut rows, mut failed) = (Vec::new(), false);
    for (name, part) in MEASUREMENTS.iter().filter(|(name, _)| chosen(name)) {
        eprintln!("measuring: {name}");
        // What the others have measured is not lost with it.
        match std::panic::catch_unwind(part) {
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
