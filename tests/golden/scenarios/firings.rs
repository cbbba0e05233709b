//! Firings of a schedule: on time, missed while no process ran or the key was paused, and
//! skipped.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use crate::configuration::firings as configuration;
use crate::recording::Recording;
use crate::scenario::{Scenario, now};

const KEYS: [&str; 3] = ["missed", "dropped", "paused"];

/// The time until the first firing; a slow host needs more.
const FIRST_LEAD: Duration = Duration::from_secs(2);

pub(crate) fn run() -> Recording {
    let scenario = Scenario::start(&[]);
    // A process that starts after the firing misses it, and the configuration must be
    // recorded before it. On a slow host, both are repeated with more time.
    let mut lead = FIRST_LEAD;
    while !fire_in_time(&scenario, lead) {
        lead *= 2;
        assert!(lead < Duration::from_secs(60), "the host is too slow");
    }
    let mut lead = FIRST_LEAD;
    while !miss_in_time(&scenario, lead) {
        lead *= 2;
        assert!(lead < Duration::from_secs(60), "the host is too slow");
    }
    scenario.finish()
}

/// Returns a schedule that fires once a year, next in `lead`, and that time.
fn schedule(lead: Duration) -> (String, Timestamp) {
    let at = now() + SignedDuration::try_from(lead).unwrap();
    let at = Timestamp::from_second(at.as_second() + 1).unwrap();
    let fields = at.to_zoned(TimeZone::UTC).strftime("%-S %-M %-H %-d %-m *");
    (fields.to_string(), at)
}

/// Returns the number of a key's rotations with this trigger.
fn rotations(scenario: &Scenario, key: &str, trigger: &str) -> usize {
    let sql = "SELECT 1 FROM history WHERE key = ?1 AND trigger = ?2";
    scenario.query(sql, &[key, trigger]).len()
}

/// Runs a daemon during a firing. Returns false if it was not ready in time.
fn fire_in_time(scenario: &Scenario, lead: Duration) -> bool {
    let (schedule, at) = schedule(lead);
    scenario.configure(&configuration::three_keys(&schedule));
    let daemon = scenario.daemon();
    for key in KEYS {
        scenario.wait_for_phase(key, "current");
    }
    let in_time = now() < at;
    if in_time {
        scenario.wait("each key is rotated by its schedule", || {
            KEYS.iter().all(|key| {
                rotations(scenario, key, "schedule") > 0
                    && scenario.phase(key).as_deref() == Some("current")
            })
        });
    }
    daemon.stop();
    in_time
}

/// Lets a firing pass while no process runs and one key is paused. Returns false if the
/// firing came before its schedule was recorded.
fn miss_in_time(scenario: &Scenario, lead: Duration) -> bool {
    let (schedule, at) = schedule(lead);
    scenario.configure(&configuration::three_keys(&schedule));
    scenario.ok(&["once"]);
    scenario.ok(&["pause", "paused"]);
    if now() >= at {
        scenario.ok(&["resume", "paused"]);
        return false;
    }
    scenario.wait("the firing is older than the window", || {
        now() > at + SignedDuration::from_secs(1)
    });
    scenario.ok(&["resume", "paused"]);
    scenario.ok(&["once"]);
    assert!(rotations(scenario, "missed", "catch-up") > 0);
    assert!(rotations(scenario, "paused", "catch-up") > 0);
    assert!(scenario.events("dropped", "run-missed") > 0);
    true
}
