//! Limits of what tests wait for.

use std::io::Write as _;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a test may take. The longest ones take two minutes.
const LONGEST_TEST: Duration = Duration::from_secs(15 * 60);

/// Waits until `is_so`.
///
/// # Panics
/// If it is not so within two minutes.
#[track_caller]
pub fn wait_until(expected: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "waited in vain: {expected}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ends the process of the tests, with the name of the test that made it, unless it is dropped
/// in time: a test may also wait for a child, a socket or a thread, which has no limit.
pub struct TestLimit {
    _end: Sender<()>,
}

impl TestLimit {
    pub fn start() -> Self {
        let thread = std::thread::current();
        Self::of(thread.name().unwrap_or("a test"))
    }

    /// Starts the limit of a test whose thread does not have its name.
    pub fn of(test: &str) -> Self {
        let (end, ended) = channel();
        let test = test.to_owned();
        std::thread::spawn(move || {
            if ended.recv_timeout(LONGEST_TEST) == Err(RecvTimeoutError::Timeout) {
                let minutes = LONGEST_TEST.as_secs() / 60;
                let _ = writeln!(
                    std::io::stderr(),
                    "{test} hangs: it takes {minutes} minutes"
                );
                std::process::abort();
            }
        });
        Self { _end: end }
    }
}
