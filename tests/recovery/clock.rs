//! The daemon under a clock that is set while it runs, and under one that is years off:
//! the real binary and a real sandbox, with libfaketime.
//! `REKEYD_FAKETIME=/usr/lib/.../libfaketimeMT.so.1 cargo test --test recovery clock`
//! runs these tests; without the variable they do nothing.

use std::time::{Duration, Instant};

use crate::support::clock::FakeClock;
use crate::support::daemon::Daemon;
use crate::support::{TestEnv, read_ledger};
use serde_json::{Value, json};

/// The log text after a rotation.
const ROTATED: &str = "is the current credential";

/// The log text after the clock was set forward.
const CLOCK_JUMPED: &str = "the host slept";

/// Returns a key with one file sink.
fn key_config(name: &str, options: &str) -> String {
    format!(
        "[key.{name}]\n{options}\nverify-interval = \"0s\"\n\
         [[key.{name}.sink]]\ntype = \"file\"\npath = \"DIR/{name}.key\"\n"
    )
}

/// Returns a daemon and a sandbox that use this clock.
fn world(clock: &FakeClock, keys: &str) -> (TestEnv, Daemon) {
    let world = TestEnv::start_with_env(clock.environment(), &[]);
    world.configure(keys);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    (world, daemon)
}

/// Sets the clock forward, and waits until the daemon has noticed.
fn set_forward(clock: &FakeClock, daemon: &mut Daemon, time: &str) {
    clock.set(time);
    daemon.wait_for(CLOCK_JUMPED);
}

/// Returns the start and trigger of every rotation of a key, oldest first.
fn rotations(world: &TestEnv, key: &str) -> Vec<(String, Value)> {
    let mut history = world.history();
    // The order is not by time, which may have been set back.
    history.sort_by_key(|row| row["sequence"].as_u64());
    let of_key = history.iter().filter(|row| row["key"] == key);
    of_key
        .map(|row| {
            let trigger = row["trigger"].as_str().unwrap().to_owned();
            (trigger, row["scheduled_for"].clone())
        })
        .collect()
}

/// Returns the missed runs of a key, each with its reason and outcome.
fn missed_runs(world: &TestEnv, key: &str) -> Vec<Value> {
    let ledger = read_ledger(&world.path("ledger.db"));
    let mut rows = ledger
        .prepare("SELECT detail FROM events WHERE event = 'run-missed' AND key = ?1")
        .unwrap();
    let details = rows.query_map([key], |row| row.get::<_, String>(0));
    details
        .unwrap()
        .map(|detail| serde_json::from_str(&detail.unwrap()).unwrap())
        .collect()
}

/// Returns the number of keys that the sandbox ever created, without its own.
fn create_count(world: &TestEnv) -> usize {
    world.keys().len() - 1
}

/// An event on a host.
enum HostEvent {
    /// The clock is shortly before this firing, and the firing comes.
    Fires(&'static str),
    /// The daemon runs for this time, and nothing fires.
    Passes(&'static str, &'static str),
    /// The host sleeps over the firing, until this time.
    Sleeps {
        firing: &'static str,
        until: &'static str,
    },
}

/// Days around a clock change in Berlin, for "30 2 * * *".
const DST_CHANGES: [(&str, &[HostEvent]); 2] = [
    (
        "2026-03-27T12:00:00Z",
        &[
            HostEvent::Fires("2026-03-28T01:30:00Z"),
            // 02:30 is skipped: the firing comes right after the jump instead.
            HostEvent::Passes("2026-03-29T00:29:57Z", "2026-03-29T00:30:03Z"),
            HostEvent::Fires("2026-03-29T01:00:00Z"),
            HostEvent::Passes("2026-03-29T01:29:57Z", "2026-03-29T01:30:03Z"),
            HostEvent::Fires("2026-03-30T00:30:00Z"),
            HostEvent::Sleeps {
                firing: "2026-03-31T00:30:00Z",
                until: "2026-03-31T06:00:00Z",
            },
        ],
    ),
    (
        "2026-10-23T12:00:00Z",
        &[
            HostEvent::Fires("2026-10-24T00:30:00Z"),
            // 02:30 is repeated: the first time counts.
            HostEvent::Fires("2026-10-25T00:30:00Z"),
            HostEvent::Passes("2026-10-25T01:29:57Z", "2026-10-25T01:30:03Z"),
            HostEvent::Fires("2026-10-26T01:30:00Z"),
            HostEvent::Sleeps {
                firing: "2026-10-27T01:30:00Z",
                until: "2026-10-27T06:00:00Z",
            },
        ],
    ),
];

fn assert_runs_across_dst_change(begin: &str, events: &[HostEvent]) {
    let Some(clock) = FakeClock::at(begin) else {
        return;
    };
    let options =
        "schedule = \"30 2 * * *\"\ntimezone = \"Europe/Berlin\"\ninitial-rotation = \"scheduled\"";
    let (world, mut daemon) = world(&clock, &key_config("daily", options));
    let mut expected: Vec<(&str, &str)> = Vec::new();
    for event in events {
        match event {
            HostEvent::Fires(firing) => {
                set_shortly_before(&clock, &mut daemon, firing);
                daemon.wait_for(ROTATED);
                expected.push(("schedule", firing));
            }
            HostEvent::Passes(from, to) => {
                set_forward(&clock, &mut daemon, from);
                clock.wait_until(to);
            }
            HostEvent::Sleeps { firing, until } => {
                set_forward(&clock, &mut daemon, until);
                daemon.wait_for(ROTATED);
                expected.push(("catch-up", firing));
            }
        }
    }
    expected[0].0 = "first";
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(trigger, firing)| (trigger.to_owned(), json!(firing)))
        .collect();
    assert_eq!(rotations(&world, "daily"), expected);
    assert_eq!(create_count(&world), expected.len());
    world.ok(&["status"]);
    daemon.stop();
}

/// Sets the clock shortly before a firing, with enough time for a slow host.
fn set_shortly_before(clock: &FakeClock, daemon: &mut Daemon, firing: &str) {
    let firing: jiff::Timestamp = firing.parse().unwrap();
    let before = firing - jiff::SignedDuration::from_secs(22);
    set_forward(clock, daemon, &before.to_string());
    // The daemon does not take so small a step for a suspension.
    clock.step(18);
}

#[test]
fn skipped_local_time_rotates_once() {
    let (begin, events) = DST_CHANGES[0];
    assert_runs_across_dst_change(begin, events);
}

#[test]
fn repeated_local_time_rotates_once() {
    let (begin, events) = DST_CHANGES[1];
    assert_runs_across_dst_change(begin, events);
}

#[test]
fn clock_set_back_does_not_stop_rotations() {
    const OVERLAP: Duration = Duration::from_secs(4);
    let Some(clock) = FakeClock::at("2026-05-05T12:00:00Z") else {
        return;
    };
    let started = Instant::now();
    let options = "schedule = \"*/10 * * * * *\"\noverlap = \"4s\"\nrevoke-when-idle-for = \"0s\"\n\
                   max-creates-per-day = 100000\nmax-live-credentials = 100";
    let (world, mut daemon) = world(&clock, &key_config("often", options));
    daemon.wait_for(ROTATED);
    daemon.wait_for(ROTATED);

    let mut reader = SecretReader::new(&world, OVERLAP);
    clock.step(-24 * 3_600);
    daemon.wait_for("the clock was set back");
    let back = rotations(&world, "often").len();
    let patience = Instant::now() + Duration::from_secs(90);
    while rotations(&world, "often").len() < back + 3 {
        assert!(Instant::now() < patience, "{:?}", world.history());
        reader.check();
    }
    assert!(reader.checks > 10);

    // There is one create for each firing, and the first one.
    let firings = usize::try_from(started.elapsed().as_secs() / 10).unwrap() + 1;
    assert!(create_count(&world) <= firings + 1, "{:?}", world.history());
    let triggers = rotations(&world, "often");
    let mut triggers = triggers.iter().map(|(trigger, _)| trigger.as_str());
    assert_eq!(triggers.next(), Some("first"));
    assert!(triggers.all(|trigger| trigger == "schedule"));
    let log = daemon.stop();
    assert_eq!(log.matches("the clock was set back").count(), 1, "{log}");
    assert!(!log.contains("ERROR"), "{log}");
}

/// A consumer that uses the secret in a file, and reads the file again as late as the
/// overlap allows.
struct SecretReader<'w> {
    world: &'w TestEnv,
    overlap: Duration,
    secret: String,
    read_at: Instant,
    checks: usize,
}

impl<'w> SecretReader<'w> {
    fn new(world: &'w TestEnv, overlap: Duration) -> Self {
        let mut reader = Self {
            world,
            overlap,
            secret: String::new(),
            read_at: Instant::now(),
            checks: 0,
        };
        reader.read();
        reader
    }

    fn read(&mut self) {
        self.read_at = Instant::now();
        let held = std::fs::read_to_string(self.world.path("often.key")).unwrap();
        self.secret = held.trim().to_owned();
    }

    /// Asserts that the secret works, unless it was read too long ago.
    fn check(&mut self) {
        let keys = self.world.keys();
        if self.read_at.elapsed() < self.overlap {
            let held = keys.iter().find(|key| key["value"] == self.secret.as_str());
            assert!(held.unwrap()["deleted_at"].is_null(), "{held:?}");
            self.checks += 1;
        } else {
            self.read();
        }
    }
}

#[test]
fn clock_years_off_at_boot_delays_all_rotations() {
    for (boot, made_up) in [
        // To the daemon, the host has slept since then, so the first firing is due.
        ("1970-01-05T00:00:00Z", 1),
        ("2035-06-01T00:00:00Z", 0),
    ] {
        let Some(clock) = FakeClock::at(boot) else {
            return;
        };
        // By the right clock, there is one current credential, and one in its overlap.
        let mut world = TestEnv::start(&[]);
        let old = key_config("old", "schedule = \"@yearly\"\noverlap = \"24h\"");
        world.configure(&old);
        world.ok(&["once"]);
        world.ok(&["rotate", "old"]);
        let before = world.live_ids();
        assert_eq!(before.len(), 2);

        let new = key_config("new", "schedule = \"@yearly\"");
        let later = key_config(
            "later",
            "schedule = \"@yearly\"\ninitial-rotation = \"scheduled\"",
        );
        world.configure(&format!("{old}{new}{later}"));
        for (name, value) in clock.environment() {
            world.set_env(&name, &value);
        }
        let mut daemon = Daemon::start(&world);
        daemon.wait_for("this host's clock says");
        // A probe would have found the same by now.
        let probed = clock.now() + jiff::SignedDuration::from_secs(35);
        clock.wait_until(&probed.to_string());
        let output = crate::support::text(&world.run(&["status"]).stdout);
        assert!(output.contains("this host's clock says"), "{output}");
        assert_eq!(world.live_ids(), before, "{boot}");
        assert_eq!(create_count(&world), 2, "{boot}");

        clock.reset();
        daemon.wait_for("the clocks of this host and of the provider agree again");
        for _ in 0..=made_up {
            daemon.wait_for(ROTATED);
        }
        let log = daemon.stop();
        for (key, rotated) in [("old", 2), ("new", 1), ("later", made_up)] {
            assert_eq!(rotations(&world, key).len(), rotated, "{key}: {log}");
        }
        assert_eq!(create_count(&world), 3 + made_up, "{boot}: {log}");
        assert_eq!(world.live_ids().len(), 3 + made_up, "{boot}: {log}");
        assert_eq!(log.matches("this host's clock says").count(), 1, "{log}");
    }
}

#[test]
fn missed_run_is_caught_up_within_its_window() {
    let Some(clock) = FakeClock::at("2026-05-05T08:00:00Z") else {
        return;
    };
    let noon = "schedule = \"0 12 * * *\"\noverlap = \"1h\"";
    let keys = [
        ("none", String::new()),
        ("wide", "\ncatch-up-window = \"6h\"".to_owned()),
        ("tight", "\ncatch-up-window = \"30m\"".to_owned()),
    ];
    let keys = keys.map(|(name, window)| key_config(name, &format!("{noon}{window}")));
    let (world, mut daemon) = world(&clock, &keys.concat());
    for _ in 0..keys.len() {
        daemon.wait_for(ROTATED);
    }
    // A worker that is still busy would not notice the step.
    for key in ["none", "wide", "tight"] {
        assert_eq!(rotations(&world, key).len(), 1);
    }
    set_forward(&clock, &mut daemon, "2026-05-05T16:00:00Z");
    // Two of them rotate.
    daemon.wait_for(ROTATED);
    daemon.wait_for(ROTATED);
    set_shortly_before(&clock, &mut daemon, "2026-05-06T12:00:00Z");
    for _ in 0..keys.len() {
        daemon.wait_for(ROTATED);
    }

    let firing = "2026-05-05T12:00:00Z";
    let first = || ("first".to_owned(), Value::Null);
    let made_up = || ("catch-up".to_owned(), json!(firing));
    let in_time = || ("schedule".to_owned(), json!("2026-05-06T12:00:00Z"));
    let expected_missed_run = |outcome| {
        let reason = "the host slept, or its clock was set forward";
        vec![json!({"firing": firing, "reason": reason, "outcome": outcome})]
    };
    for (key, expected, outcome) in [
        ("none", vec![first(), made_up(), in_time()], "catch-up"),
        ("wide", vec![first(), made_up(), in_time()], "catch-up"),
        ("tight", vec![first(), in_time()], "dropped"),
    ] {
        assert_eq!(rotations(&world, key), expected, "{key}");
        assert_eq!(
            missed_runs(&world, key),
            expected_missed_run(outcome),
            "{key}"
        );
    }
    daemon.stop();
}
