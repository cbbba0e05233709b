//! The real binary, killed at random moments while the provider fails: every file always
//! has a working key, and in the end each key has exactly one live credential.
//! `REKEYD_KILLS=200 REKEYD_BINARY=target/release/rekeyd cargo test --test recovery kill`
//! kills the release binary, and more often. The moments are others each time; `REKEYD_SEED`,
//! which the test prints, repeats them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::seed::seed_by;
use crate::support::daemon::Daemon;
use crate::support::{ChildGuard, TestEnv};

const KEYS: [&str; 3] = ["one", "two", "three"];

/// The number of kills by default.
const DEFAULT_KILLS: u32 = 20;

/// The number of manual rotations of each key within which it must become current in the
/// end.
const MAX_FINAL_ROTATIONS: u32 = 20;

/// A repeatable pseudo-random generator.
struct SeededRandom(u64);

impl SeededRandom {
    fn below(&mut self, most: u64) -> u64 {
        // Knuth's MMIX generator, whose high bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

fn config_text() -> String {
    let key = |name: &&str| {
        format!(
            "[key.{name}]\n[[key.{name}.sink]]\ntype = \"file\"\npath = \"DIR/{name}.key\"\n\
             [[key.{name}.sink]]\ntype = \"file\"\nname = \"copy\"\npath = \"DIR/{name}.copy\"\n"
        )
        .replacen("]\n", "]\nschedule = \"@yearly\"\n", 1)
        .replacen("type = \"file\"\n", "type = \"file\"\nname = \"main\"\n", 1)
    };
    let keys: String = KEYS.iter().map(key).collect();
    format!(
        "[defaults]\noverlap = \"1s\"\nverify-interval = \"0s\"\nmax-live-credentials = 100\n\
         max-creates-per-day = 100000\nrevoke-when-idle-for = \"0s\"\n{keys}"
    )
}

/// Returns the secrets that the sandbox accepts.
fn working_secrets(world: &TestEnv) -> BTreeSet<String> {
    let live: BTreeSet<_> = world.live_ids().into_iter().collect();
    let keys = world.keys().into_iter();
    keys.filter(|key| live.contains(key["id"].as_str().unwrap()))
        .map(|key| key["value"].as_str().unwrap().to_owned())
        .collect()
}

/// Asserts that every existing file has a working key. A rotation may run at the same
/// time, so the file is read between two requests to the sandbox.
fn assert_files_work(world: &TestEnv, when: &str) {
    for name in KEYS {
        for kind in ["key", "copy"] {
            let path = world.path(&format!("{name}.{kind}"));
            let Ok(secret) = fs::read_to_string(&path) else {
                continue;
            };
            let works = working_secrets(world).contains(secret.trim());
            let is_there = || fs::read_to_string(&path).is_ok_and(|now| now == secret);
            assert!(
                works || !is_there(),
                "{when}: {name}.{kind} holds a key that does not work"
            );
        }
    }
}

/// Starts a rotation of every key, and kills the process after `lines` lines of its log.
fn rotate_and_kill(world: &TestEnv, lines: u64) {
    let mut child = world
        .command(&["--log-level", "debug", "rotate", "--all"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let process = ChildGuard(child);
    // A process that ends by itself writes no more lines.
    let _ = log.lines().nth(usize::try_from(lines).unwrap());
    drop(process);
}

#[test]
fn random_kills_leave_one_working_credential_per_key() {
    let kills = std::env::var("REKEYD_KILLS").map_or(DEFAULT_KILLS, |kills| kills.parse().unwrap());
    let mut world = TestEnv::start(&[
        "--fault",
        "create:drop-after:0.3",
        "--fault",
        "delete:500-before:0.3",
        "--fault",
        "list:stale-list:0.2",
        "--fault",
        "retrieve:500-before:0.1",
        "--fault",
        "any:drop-before:0.02",
        "--fault",
        "any:500-after:0.02",
    ]);
    world.configure(&config_text());
    let mut dice = SeededRandom(seed_by("REKEYD_SEED"));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // A consumer reads all the time.
        let checker = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert_files_work(&world, "beside the kills");
                std::thread::yield_now();
            }
        });
        for kill in 0..kills {
            rotate_and_kill(&world, dice.below(40));
            assert_files_work(&world, &format!("after kill {kill}"));
            if checker.is_finished() {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
    });

    world.restart_sandbox(&[]);
    for _ in 0..MAX_FINAL_ROTATIONS {
        // Manual rotations do not wait for the long back-off after so many failures.
        let rotated = world.run(&["rotate", "--all"]).status.success();
        assert_files_work(&world, "in the end");
        if rotated {
            break;
        }
    }
    let mut daemon = Daemon::start(&world);
    while world.live_ids().len() > KEYS.len() || !world.run(&["audit"]).status.success() {
        // A previous credential, or an orphaned one.
        daemon.wait_for("revoked the ");
        assert_files_work(&world, "in the end");
    }
    drop(daemon);
    let audit = world.run(&["audit"]);
    assert!(
        audit.status.success(),
        "{}",
        crate::support::text(&audit.stdout)
    );
    assert_eq!(
        world.live_ids().len(),
        KEYS.len(),
        "{}",
        crate::support::text(&audit.stdout)
    );
    for name in KEYS {
        let files =
            ["key", "copy"].map(|kind| fs::read_to_string(world.path(&format!("{name}.{kind}"))));
        assert_eq!(
            files[0].as_ref().unwrap(),
            files[1].as_ref().unwrap(),
            "{name}"
        );
    }
}
