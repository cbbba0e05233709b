//! `[control] reload-on-change`: an edited configuration is taken without a command, unless it
//! ends something.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text, text, write};

/// A channel that appends each notification to a file.
const NOTIFY: &str =
    "[[notify]]\ntype = \"command\"\nargv = [\"/bin/sh\", \"-c\", \"cat >>DIR/notified\"]\n";

/// Returns the number of notifications that a changed configuration is not in use.
fn notified(world: &TestEnv) -> usize {
    let notified = fs::read_to_string(world.path("notified")).unwrap_or_default();
    notified.matches("\"configuration-waits\"").count()
}

/// Configures keys, and the option. The configuration is behind a link, as in a ConfigMap.
fn configure(world: &TestEnv, name: &str, keys: &str) {
    let config = world.path("config.toml");
    // The file behind the former link stays as it was.
    let _ = fs::remove_file(&config);
    world.configure(&format!("{NOTIFY}{keys}"));
    let content = fs::read_to_string(&config).unwrap();
    fs::remove_file(&config).unwrap();
    let option = "[control]\nreload-on-change = true\n";
    write(&world.path(name), &content.replace("[control]\n", option));
    symlink(world.path(name), world.path("link")).unwrap();
    fs::rename(world.path("link"), config).unwrap();
}

fn two_keys(second_file: &str) -> String {
    let first = file_key_text("24h");
    let second = first.replace("billing.key", second_file);
    format!("{first}{}", second.replace("billing", "shipping"))
}

#[test]
fn change_that_ends_nothing_is_taken_and_any_other_waits() {
    let world = TestEnv::start(&[]);
    configure(&world, "first.toml", &file_key_text("24h"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");

    configure(&world, "second.toml", &two_keys("shipping.key"));
    daemon.wait_for(" reloaded ");
    daemon.wait_for("is the current credential key=shipping");
    world.ok(&["status"]);

    // A notification has the same text, and is logged later.
    let config = world.path("config.toml");
    let waiting = format!("WARN {} has changed since ", config.display());
    // Another target, and then a key less.
    for (name, keys, ended) in [
        (
            "third.toml",
            two_keys("other.key"),
            "shipping: retargets the sink ",
        ),
        (
            "fourth.toml",
            file_key_text("24h"),
            "stays alive although the key is not configured",
        ),
    ] {
        configure(&world, name, &keys);
        let waits = daemon.wait_for(&waiting);
        assert!(waits.contains(ended), "{waits}");
        assert!(waits.contains("waits for `rekeyd reload`"), "{waits}");
        for line in world.ok(&["reload", "--dry-run"]).lines() {
            assert!(waits.contains(line), "{line}: {waits}");
        }
        let status = world.run(&["status"]);
        let shown = text(&status.stdout);
        assert!(shown.contains(ended), "{shown}");
        assert_eq!(
            world.ok(&["status", "--ready"]),
            "ok\n",
            "it blocks nothing"
        );
        world.ok(&["rotate", "shipping"]);
    }

    // A mistake changes nothing, and the way back ends the problem.
    configure(
        &world,
        "fifth.toml",
        "[key.billing]\nschedule = \"whenever\"\n",
    );
    daemon.wait_for("reload rejected");
    symlink(world.path("second.toml"), world.path("link")).unwrap();
    fs::rename(world.path("link"), world.path("config.toml")).unwrap();
    daemon.wait_for("config.toml is in use again");
    world.ok(&["status"]);

    configure(&world, "sixth.toml", &file_key_text("24h"));
    daemon.wait_for(&waiting);
    world.ok(&["reload"]);
    daemon.wait_for("no longer configured");
    // Two changes that wait, a mistake, and one more that waits.
    let started_at = Instant::now();
    while notified(&world) < 4 {
        assert!(started_at.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(100));
    }
    daemon.stop();
    assert_eq!(notified(&world), 4);
}
