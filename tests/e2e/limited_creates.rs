//! An organization that refuses every create while many keys are due: the daemon sends few,
//! says so once, and continues by itself.

use std::time::Duration;

use jiff::Timestamp;

use crate::support::daemon::Daemon;
use crate::support::limit::wait_until;
use crate::support::{TestEnv, free_address, get};

const KEYS: usize = 40;

/// The number of keys that may send requests at once, by default.
const IN_FLIGHT: usize = 8;

/// More probes than follow each other within half a minute.
const PROBES: usize = 4;

/// Returns the configuration of keys that are all due at once.
fn due_keys() -> String {
    let keys = (0..KEYS).map(|number| {
        format!(
            "[key.app-{number}]\nschedule = \"@monthly\"\noverlap = \"1h\"\n\
             verify-interval = \"0s\"\n[[key.app-{number}.sink]]\ntype = \"file\"\n\
             path = \"DIR/app-{number}.key\"\n"
        )
    });
    keys.collect()
}

/// Returns the number of answers to creates so far.
fn creates(address: &str) -> usize {
    let (_, _, page) = get(address, "/metrics");
    let requests = page.lines().filter_map(|line| {
        let sample = line.strip_prefix("rekeyd_provider_requests_total{operation=\"create\"")?;
        sample.rsplit(' ').next()?.parse::<usize>().ok()
    });
    requests.sum()
}

/// Returns when the next create follows, as `/readyz` says.
fn next_attempt(address: &str) -> Timestamp {
    let (status, _, page) = get(address, "/readyz");
    assert_eq!(status, 503, "{page}");
    assert!(page.contains("rate_limit_exceeded"), "{page}");
    let (_, at) = page.split_once("the next attempt is at ").unwrap();
    at.trim().parse().unwrap()
}

#[test]
fn a_limited_organization_gets_few_creates_and_one_line() {
    let address = free_address();
    let mut world = TestEnv::start(&["--fault", "create:429:1"]);
    world.configure(&format!(
        "[metrics]\nlisten = \"{address}\"\n{}",
        due_keys()
    ));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("no credential is created: ");
    // The pauses after the first three refusals are 2, 5 and 15 seconds.
    let first = next_attempt(&address);
    wait_until("the third pause has begun", || {
        next_attempt(&address) >= first + Duration::from_secs(15)
    });
    let sent = creates(&address);
    assert!(sent <= IN_FLIGHT + PROBES, "{sent} creates");
    let shown = world.run(&["status"]);
    let shown = crate::support::text(&shown.stdout);
    assert!(shown.contains("rate_limit_exceeded"), "{shown}");
    world.restart_sandbox(&[]);
    for _ in 0..KEYS {
        daemon.wait_for("is the current credential");
    }
    let (status, _, page) = get(&address, "/readyz");
    assert_eq!(status, 200, "{page}");
    let log = daemon.stop();
    let lines = |part: &str| log.lines().filter(|line| line.contains(part)).count();
    assert_eq!(lines("ERROR"), 0, "{log}");
    assert_eq!(lines("no credential is created: "), 1, "{log}");
    assert_eq!(
        lines("the provider does not limit creates any more"),
        1,
        "{log}"
    );
}
