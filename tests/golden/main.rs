//! The public faces of the program, recorded as golden files: the JSON of its commands,
//! the control socket, the metrics, webhooks, notifications, programs, log lines, the
//! ledger's views, exit codes and the files that it creates. The real binary runs against
//! `rekeyd sandbox`. Names, keys, enumerated values, status codes, header names and
//! structure are compared with the files below `tests/golden/faces`; free text, times,
//! ids and other values that differ between two runs are first replaced by placeholders.
//! `REKEYD_GOLDEN=write cargo test --test golden` writes the files again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    missing_docs
)]

#[path = "../support/function_server.rs"]
mod function_server;
#[path = "../support/json_schema.rs"]
mod json_schema;
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

/// The scenarios run in parallel, because they mostly wait. Each has its own folder,
/// ledger and sandbox.
#[test]
fn public_faces_match_the_golden_files() {
    // It waits for processes, sockets and threads.
    let _limit = support::limit::TestLimit::start();
    // The modes of created files depend on it.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let recordings: Vec<Recording> = std::thread::scope(|scope| {
        let running = SCENARIOS.map(|(name, run)| {
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread.spawn_scoped(scope, run).unwrap()
        });
        // The thread of a failed scenario has printed its panic.
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
    if std::env::var_os("REKEYD_GOLDEN").is_some_and(|value| value == "write") {
        found.write();
    } else {
        found.compare();
    }
}
