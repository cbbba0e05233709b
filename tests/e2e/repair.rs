//! A rotation repairs sinks that changed, through the binary.

use std::fs;

use crate::support::unprivileged::UnprivilegedEnv;
use crate::support::{TestEnv, file_key_text, text, write, write_ledger};

/// Returns an environment whose key has one file sink of this format and was rotated
/// once.
fn rotated(format: &str) -> TestEnv {
    let world = TestEnv::start(&[]);
    world.configure(&format!("{}format = \"{format}\"\n", file_key_text("24h")));
    world.ok(&["once"]);
    world
}

fn triggers(world: &TestEnv) -> Vec<String> {
    let history = world.history().into_iter();
    history
        .map(|row| row["trigger"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn unchanged_file_is_not_replaced() {
    for format in ["raw", "env", "json"] {
        let world = rotated(format);
        world.ok(&["once"]);
        assert_eq!(triggers(&world), ["first"], "{format}");
    }
}

#[test]
fn missing_file_is_delivered_again() {
    let world = rotated("raw");
    fs::remove_file(world.path("billing.key")).unwrap();
    world.ok(&["once"]);
    assert_eq!(triggers(&world), ["repair", "first"]);
    let history = world.history();
    let secret = world.secret_of(history[0]["credential_id"].as_str().unwrap());
    let delivered = fs::read_to_string(world.path("billing.key")).unwrap();
    assert_eq!(delivered.trim(), secret);
    assert_eq!(
        history[1]["phase"], "retired",
        "its consumers may have read it"
    );
}

#[test]
fn overwritten_file_is_delivered_again() {
    for (format, instead) in [
        ("raw", "sk-admin-somebody-elses\n"),
        ("raw", ""),
        ("env", "sk-admin-without-its-variable\n"),
        ("json", "{}\n"),
    ] {
        let world = rotated(format);
        write(&world.path("billing.key"), instead);
        world.ok(&["once"]);
        assert_eq!(
            triggers(&world),
            ["repair", "first"],
            "{format} {instead:?}"
        );
    }
}

#[test]
fn added_sink_gets_a_new_credential() {
    let world = rotated("raw");
    let more = "[[key.billing.sink]]\ntype = \"file\"\nname = \"copy\"\npath = \"DIR/copy.key\"\n";
    let named = file_key_text("24h").replace("type = \"file\"", "type = \"file\"\nname = \"file\"");
    world.configure(&format!("{named}{more}"));
    world.ok(&["once"]);
    assert_eq!(triggers(&world), ["repair", "first"]);
    let copies = [world.path("billing.key"), world.path("copy.key")].map(fs::read_to_string);
    assert_eq!(copies[0].as_ref().unwrap(), copies[1].as_ref().unwrap());
}

/// The process was killed during the write, and the sink was removed before the next
/// start.
#[test]
fn stale_temp_of_a_past_target_is_removed() {
    let world = TestEnv::start(&[]);
    let more = "[[key.billing.sink]]\ntype = \"file\"\nname = \"copy\"\npath = \"DIR/copy.key\"\n";
    let named = file_key_text("24h").replace("type = \"file\"", "type = \"file\"\nname = \"file\"");
    world.configure(&format!("{named}{more}"));
    world.ok(&["once"]);
    let ledger = write_ledger(&world.path("ledger.db"));
    let interrupted =
        "UPDATE delivery SET state = 'uncertain', accepted_at = NULL WHERE sink = 'copy'";
    assert_eq!(ledger.execute(interrupted, []).unwrap(), 1);
    drop(ledger);
    let left = world.path(".copy.key.rekeyd");
    write(&left, "sk-admin-half");
    world.configure(&named);
    world.ok(&["once"]);
    assert!(!left.exists());
    assert!(world.path("copy.key").exists(), "its consumers may read it");
}

/// Root created the file before rekeyd was installed. A group-only configuration does not
/// need its owner to be kept.
#[test]
fn file_of_another_owner_is_replaced_with_the_configured_group() {
    let world = TestEnv::start(&[]);
    let group = rustix::process::getegid().as_raw();
    let group = if group == 0 { 65_534 } else { group };
    world.configure(&format!("{}group = \"{group}\"\n", file_key_text("24h")));
    write(&world.path("billing.key"), "an older one\n");
    let bound = UnprivilegedEnv::new(world, &[]);
    let output = bound.run(&["once"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    // The configuration does not belong to root any more.
    let history = bound.run(&["history", "--json"]).stdout;
    let history: serde_json::Value = serde_json::from_slice(&history).unwrap();
    let id = history[0]["credential_id"].as_str().unwrap();
    let delivered = fs::read_to_string(bound.env.path("billing.key")).unwrap();
    assert_eq!(delivered.trim(), bound.env.secret_of(id));
}

/// An error of a removed key does not count any more.
#[test]
fn removed_key_is_not_failing() {
    let world = rotated("raw");
    fs::remove_file(world.path("billing.key")).unwrap();
    let elsewhere = file_key_text("24h").replace("DIR/billing", "DIR/none/billing");
    world.configure(&elsewhere);
    assert_eq!(world.run(&["once"]).status.code(), Some(1));
    assert_eq!(world.run(&["status"]).status.code(), Some(1));
    world.configure(&file_key_text("24h").replace("billing", "other"));
    world.ok(&["once"]);
    let stdout = world.ok(&["status"]);
    assert!(stdout.contains("unmanaged"), "{stdout}");
    let stdout = world.ok(&["history", "nobody"]);
    assert_eq!(stdout, "no such rotation\n");
}
