//! The public faces of the program, recorded as golden files: the JSON of its
//! commands, the control socket, the metrics, webhooks, notifications, programs,
//! log lines, the ledger's views, exit codes and the files that it creates.
//!
//! The real binary runs against `rekeyd sandbox`. Names, keys, enumerated values,
//! status codes, header names and structure are compared with the files below
//! `tests/golden/faces`; free text, times, ids and whatever else differs between
//! two runs is replaced by a placeholder first.
//!
//! `REKEYD_GOLDEN=write cargo test --test golden` writes the files anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    missing_docs
)]

#[path = "../support/function_server.rs"]
mod function_server;
#[path = "../support/mod.rs"]
mod support;

mod configuration;
mod daemon;
mod golden_files;
mod http;
mod normalizer;
mod receiver;
mod recording;
mod scenario;
mod scenarios;

use rustix::fs::Mode;

use golden_files::GoldenFiles;
use recording::Recording;
use scenarios::SCENARIOS;

/// All scenarios run at once: most of their time they wait. Each has a folder, a
/// ledger and a sandbox of its own.
#[test]
fn public_faces_match_the_golden_files() {
    // The modes of created files depend on it.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let recordings: Vec<Recording> = std::thread::scope(|scope| {
        let running = SCENARIOS.map(|(name, run)| {
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread.spawn_scoped(scope, run).unwrap()
        });
        // What a scenario failed with was printed by its own thread.
        let finished = running.map(|thread| thread.join().ok());
        finished.into_iter().flatten().collect()
    });
    assert_eq!(
        recordings.len(),
        SCENARIOS.len(),
        "a scenario failed, see above"
    );
    let mut all = Recording::default();
    for recording in recordings {
        all.merge(recording);
    }
    let found = GoldenFiles::of(all);
    if std::env::var_os("REKEYD_GOLDEN").is_some_and(|wish| wish == "write") {
        found.write();
    } else {
        found.compare();
    }
}
