//! Keys that leave the configuration, are retired, or are renamed.

use std::process::Output;

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text, text, write};

/// A channel that appends each notification to a file.
const NOTIFY: &str = "[[notify]]\ntype = \"command\"\nargv = [\"DIR/notify\"]\n";

fn stderr(output: &Output) -> String {
    text(&output.stderr)
}

/// Returns a configuration with the key `name`, and lines for it.
fn key_named(name: &str, lines: &str) -> String {
    let key = file_key_text("24h").replace("[key.billing]", &format!("[key.{name}]\n{lines}"));
    key.replace("key.billing.sink", &format!("key.{name}.sink"))
}

/// Another key, so that the configuration has one.
fn other_key() -> String {
    key_named("reports", "initial-rotation = \"scheduled\"").replace("billing.key", "reports.key")
}

fn start() -> TestEnv {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["rotate", "billing"]);
    world
}

/// A key is taken out of the file: everybody is told, and one command ends it.
#[test]
fn live_credential_of_a_removed_key_is_reported_and_ended() {
    let world = start();
    let credential = world.live_ids().remove(0);
    let script = "#!/bin/sh\ncat >> \"$0.log\"\necho >> \"$0.log\"\n";
    write(&world.path("notify"), script);
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(world.path("notify"), executable).unwrap();
    world.configure(&format!("{}{NOTIFY}", other_key()));

    let status = world.ok(&["status", "--offline"]);
    assert!(status.contains("unmanaged"), "{status}");
    assert!(status.contains("`rekeyd retire billing`"), "{status}");
    let checked = world.ok(&["check"]);
    assert!(checked.contains("`rekeyd retire billing`"), "{checked}");
    let dry = world.ok(&["reload", "--dry-run"]);
    assert!(
        dry.contains(&format!("billing: {credential} stays alive")),
        "{dry}"
    );
    assert!(
        dry.contains("reports: new: rekeyd creates a credential"),
        "{dry}"
    );
    let audited = world.run(&["audit"]);
    assert_eq!(audited.status.code(), Some(1));
    assert!(
        stderr(&audited).contains("`rekeyd retire billing`"),
        "{}",
        stderr(&audited)
    );
    let refused = stderr(&world.run(&["revoke", &credential]));
    assert!(refused.contains("`rekeyd retire billing`"), "{refused}");

    // Each process notices it, and people are notified once.
    for _ in 0..2 {
        world.ok(&["once"]);
    }
    let sent = std::fs::read_to_string(world.path("notify.log")).unwrap_or_default();
    assert_eq!(sent.matches("\"unmanaged\"").count(), 1, "{sent}");

    let reply = world.ok(&["retire", "billing", "--now", "--yes", "--reason", "gone"]);
    assert!(
        reply.contains(&format!("billing: retired; revoked {credential}")),
        "{reply}"
    );
    assert_eq!(world.live_ids(), [""; 0]);
    world.ok(&["audit"]);
    assert!(!world.ok(&["status", "--offline"]).contains("billing"));
    assert!(!world.ok(&["check"]).contains("billing"));
}

#[test]
fn retired_key_is_shown_and_not_rotated_until_it_is_undone() {
    let world = start();
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    let reply = world.ok(&["retire", "billing", "--reason", "switched off"]);
    assert!(reply.contains("is revoked after 20"), "{reply}");
    let status = world.ok(&["status"]);
    assert!(status.contains("retired"), "{status}");
    assert!(status.contains("switched off"), "{status}");
    let json: serde_json::Value = serde_json::from_str(&world.ok(&["status", "--json"])).unwrap();
    assert_eq!(json["keys"][0]["state"], "retired");
    assert_eq!(json["keys"][0]["retirement"]["reason"], "switched off");
    assert_eq!(world.ok(&["schedule"]), "no scheduled rotations\n");
    let shown = text(&world.run(&["show", "billing"]).stdout);
    assert!(shown.contains("removed"), "{shown}");
    assert!(!shown.contains("not delivered"), "{shown}");
    let all = world.ok(&["rotate", "--all"]);
    assert!(
        all.starts_with("billing: skipped: the key was retired at 20"),
        "{all}"
    );
    let refused = world.run(&["rotate", "billing"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("`rekeyd retire billing --undo`"),
        "{}",
        stderr(&refused)
    );
    let unknown = world.run(&["retire", "nothing"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        stderr(&unknown).contains("no key nothing"),
        "{}",
        stderr(&unknown)
    );
    let undone = world.ok(&["retire", "billing", "--undo"]);
    assert!(undone.contains("no longer retired"), "{undone}");
    world.ok(&["rotate", "billing"]);
    assert_eq!(world.history()[0]["phase"], "current");
    daemon.stop();
}

/// The keys of a command are those of the running daemon, whatever the file has by now.
#[test]
fn history_knows_the_keys_of_the_running_daemon() {
    let world = start();
    world.configure(&format!("{}{}", file_key_text("24h"), other_key()));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    let new = other_key().replace("reports", "extra");
    world.configure(&format!("{}{new}", file_key_text("24h")));
    let known = world.run(&["history", "reports"]);
    assert!(known.status.success(), "{}", stderr(&known));
    let warning = stderr(&known);
    assert!(warning.contains("was not taken"), "{warning}");
    let unknown = world.run(&["history", "extra"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        stderr(&unknown).contains("no key extra"),
        "{}",
        stderr(&unknown)
    );
    daemon.stop();
}

/// A key that was never rotated is in no ledger, and the running daemon has it.
#[test]
fn dry_run_shows_the_end_of_what_only_the_daemon_knows() {
    let world = start();
    let both = format!("{}{}", file_key_text("24h"), other_key());
    world.configure(&both);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    assert!(!world.ok(&["reload", "--dry-run"]).contains("drops"));
    for (changed, expected) in [
        (file_key_text("24h"), "reports: dropped\n"),
        (
            both.replace("reports.key", "other.key"),
            "reports: retargets the sink file from file:",
        ),
    ] {
        world.configure(&changed);
        let dry = world.ok(&["reload", "--dry-run"]);
        assert!(dry.contains(expected), "{dry}");
    }
}

#[test]
fn dry_run_does_not_repeat_a_drop() {
    let world = start();
    let both = format!("{}{}", file_key_text("24h"), other_key());
    world.configure(&both);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    world.ok(&["retire", "billing"]);
    world.configure(&other_key());
    let dry = world.ok(&["reload", "--dry-run"]);
    assert!(dry.contains("billing: dropped; rekeyd revokes "), "{dry}");
    world.ok(&["reload"]);
    let dry = world.ok(&["reload", "--dry-run"]);
    assert!(!dry.contains("billing"), "{dry}");
    daemon.stop();
}

#[test]
fn renamed_key_keeps_its_credential() {
    let world = start();
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    let live = world.live_ids();
    world.configure(&key_named("invoices", "was = \"billing\""));
    let dry = world.ok(&["reload", "--dry-run"]);
    assert_eq!(
        dry,
        "invoices: renamed from billing, with its credentials\n"
    );
    // Nothing is unmanaged before the reload either.
    for command in ["status", "audit", "check", "schedule"] {
        let shown = world.ok(&[command]);
        assert!(!shown.contains("retire"), "{shown}");
        assert!(!shown.contains("unmanaged"), "{shown}");
    }
    let reloaded = world.ok(&["reload"]);
    assert!(!reloaded.contains("no longer rotating"), "{reloaded}");
    let former = stderr(&world.run(&["rotate", "billing"]));
    assert!(
        former.contains("billing is the former name of invoices"),
        "{former}"
    );
    assert!(world.ok(&["status", "billing"]).contains("invoices"));
    // Once more: an applied rename does nothing.
    world.ok(&["reload"]);
    assert_eq!(world.live_ids(), live);
    world.ok(&["rotate", "invoices"]);
    let history = world.history();
    let mut phases: Vec<_> = { history }
        .iter()
        .map(|row| format!("{} {}", row["key"], row["phase"]))
        .collect();
    // Rotations of one second are in the order of their names.
    phases.sort_unstable();
    assert_eq!(
        phases,
        [r#""billing" "retired""#, r#""invoices" "current""#]
    );
    let both = world.ok(&["history", "invoices", "--json"]);
    let both: Vec<serde_json::Value> = serde_json::from_str(&both).unwrap();
    assert_eq!(both.len(), 2);
    world.ok(&["audit"]);
    // The former name cannot be that of a new key.
    world.configure(&format!(
        "{}{}",
        key_named("invoices", ""),
        file_key_text("24h").replace("billing.key", "other.key")
    ));
    let refused = world.run(&["reload"]);
    assert!(!refused.status.success());
    assert!(
        stderr(&refused).contains("billing is a former name of invoices"),
        "{}",
        stderr(&refused)
    );
    let checked = world.run(&["check"]);
    assert_eq!(checked.status.code(), Some(78));
    assert_eq!(world.history().len(), 2);
    daemon.stop();
    let started = world.run(&["once"]);
    assert_eq!(started.status.code(), Some(78), "{}", stderr(&started));
}

#[test]
fn names_that_do_not_fit_change_nothing() {
    let world = start();
    let live = world.live_ids();
    let both = format!("{}{}", file_key_text("24h"), {
        key_named("web", "was = \"billing\"").replace("billing.key", "web.key")
    });
    let circle = format!("{}{}", key_named("billing", "was = \"web\""), {
        key_named("web", "was = \"billing\"").replace("billing.key", "web.key")
    });
    for (keys, expected) in [
        (
            key_named("web", "was = \"gone\""),
            "the ledger has no key gone",
        ),
        (
            key_named("web", "was = \"web\""),
            "it is the present name of the key",
        ),
        (
            key_named("web", "was = \"We b\""),
            "not a valid name for a key",
        ),
        (both, "it is the name of a configured key"),
        (circle, "it is the name of a configured key"),
    ] {
        world.configure(&keys);
        let refused = world.run(&["once"]);
        assert_eq!(
            refused.status.code(),
            Some(78),
            "{expected}: {}",
            stderr(&refused)
        );
        assert!(stderr(&refused).contains(expected), "{}", stderr(&refused));
        assert_eq!(world.live_ids(), live);
    }
}
