//! What a test needs of its host. Where that is missing, the test says so, and what it cannot
//! try is left out. With `REKEYD_MISSING=fail`, as in CI, it fails.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::print_stderr)]

/// Reports that this host lacks `what`, a program or a right that a test needs.
///
/// # Panics
/// With `REKEYD_MISSING=fail`.
#[track_caller]
pub fn report_missing(what: &str) {
    let is_failure = std::env::var_os("REKEYD_MISSING").is_some_and(|value| value == "fail");
    assert!(!is_failure, "this host lacks {what}");
    eprintln!("not tested in full: this host lacks {what}");
}

/// Reports what no package brings: a property of the kernel, of a disk, or of the place of the
/// checkout.
pub fn report_unsupported(what: &str) {
    eprintln!("not tested in full: {what}");
}

/// Returns whether the host has a program; reports it if not.
#[track_caller]
pub fn has_program(name: &str) -> bool {
    let started = std::process::Command::new(name).arg("--version").output();
    if let Err(error) = &started {
        report_missing(&format!("{name}: {error}"));
    }
    started.is_ok()
}

/// Returns whether the tests run as root, who alone can be another user; reports it if not.
#[track_caller]
pub fn has_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        report_missing("the rights of root");
    }
    is_root
}
