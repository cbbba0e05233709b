//! rekeyd's own admin key, rotated like any other, through the binary.

use std::fs;

use crate::support::daemon::Daemon;
use crate::support::limit::wait_until;
use crate::support::{TestEnv, write, write_ledger};

const OWN_SECRET: &str = "[key.own]\nschedule = \"@monthly\"\noverlap = \"1s\"\nverify-interval = \"0s\"\n\
    revoke-when-idle-for = \"0s\"\n[[key.own.sink]]\ntype = \"self\"\n";

fn in_file(world: &TestEnv) -> String {
    let text = fs::read_to_string(world.path("admin-key")).unwrap();
    text.trim().to_owned()
}

fn newest(world: &TestEnv) -> serde_json::Value {
    world.history().remove(0)
}

#[test]
fn replaced_admin_key_is_used_by_the_next_process() {
    let world = TestEnv::start(&[]);
    world.configure(OWN_SECRET);
    world.ok(&["once"]);
    let first = newest(&world);
    assert_eq!(first["phase"], "current");
    let id = first["credential_id"].as_str().unwrap();
    assert_eq!(in_file(&world), world.secret_of(id));

    world.ok(&["rotate", "own"]);
    let second = newest(&world);
    let id = second["credential_id"].as_str().unwrap();
    assert_eq!(in_file(&world), world.secret_of(id));
    world.ok(&["check", "--online"]);
}

/// The daemon is killed at this log line, and the next process authenticates with the
/// file that it left.
#[test]
fn admin_key_file_works_after_a_kill_in_any_phase() {
    for (line, at_most) in [
        ("own: rotating", 1),
        ("created key_", 2),
        ("verified key_", 2),
        ("own: delivering to", 2),
        ("own: delivered to", 2),
        ("is the current credential key=own", 2),
        ("retired key_", 2),
        ("revoked the previous", 2),
    ] {
        let world = TestEnv::start(&[]);
        world.configure(OWN_SECRET);
        world.ok(&["once"]);
        let before = in_file(&world);
        // The key is due immediately.
        write(&world.path("admin-key"), &world.admin_key);
        let mut daemon = Daemon::start_with(&world, &["--log-level", "debug"]);
        daemon.wait_for(line);
        drop(daemon);

        world.ok(&["check", "--online"]);
        assert!(world.live_ids().len() <= 1 + at_most, "{line}");
        wait_until("the rotation is completed", || {
            let is_current = newest(&world)["phase"] == "current";
            if !is_current {
                // An open rotation may wait for its back-off.
                world.run(&["rotate", "own"]);
            }
            is_current
        });
        let current = newest(&world);
        let secret = world.secret_of(current["credential_id"].as_str().unwrap());
        assert_eq!(in_file(&world), secret, "{line}");
        assert_ne!(secret, before, "{line}");
        world.ok(&["check", "--online"]);
    }
}

/// Not even by force, and even if the response to its create did not show its suffix.
#[test]
fn credential_in_use_cannot_be_revoked_manually() {
    let world = TestEnv::start(&[]);
    world.configure(OWN_SECRET);
    world.ok(&["once"]);
    let id = newest(&world)["credential_id"].as_str().unwrap().to_owned();
    let ledger = write_ledger(&world.path("ledger.db"));
    for forgotten in [false, true] {
        if forgotten {
            let forget = "UPDATE rotation SET redacted_value = NULL";
            assert_eq!(ledger.execute(forget, []).unwrap(), 1);
        }
        let refused = world.run(&["revoke", &id, "--force"]);
        assert_eq!(refused.status.code(), Some(1));
        world.ok(&["check", "--online"]);
    }
}
