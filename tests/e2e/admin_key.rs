//! Another admin key for a running daemon: by a command, and by another file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::moving_in::create_manually;
use crate::operator_commands::delete_manually;
use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text, text, write};

/// What the log says of a changed file that is not used.
const CHANGE_REFUSED: &str =
    "credential-file has changed, and rekeyd goes on with the admin key in use";

/// Returns the id of the admin key that rekeyd starts with.
fn first_id(world: &TestEnv) -> String {
    let keys = world.keys();
    let first = keys.iter().find(|key| key["value"] == world.admin_key);
    first.unwrap()["id"].as_str().unwrap().to_owned()
}

/// Puts a key in the place of the one in the configured file at once.
fn replace_file(world: &TestEnv, key: &str) {
    write(&world.path("next"), key);
    fs::rename(world.path("next"), world.path("admin-key")).unwrap();
}

/// The copy of the service manager does not change, whatever root stores in its original.
#[test]
fn revoked_copy_of_the_service_manager_is_replaced_by_a_command() {
    let mut world = TestEnv::start(&[]);
    world.configure(&file_key_text("1h"));
    let config = fs::read_to_string(world.path("config.toml")).unwrap();
    let lines = config
        .lines()
        .filter(|line| !line.starts_with("credential-file"));
    let config: Vec<_> = lines.collect();
    write(&world.path("config.toml"), &config.join("\n"));
    let copies = world.path("credentials");
    fs::create_dir(&copies).unwrap();
    fs::set_permissions(&copies, fs::Permissions::from_mode(0o700)).unwrap();
    write(&copies.join("openai-admin-key"), &world.admin_key);
    world.set_env("CREDENTIALS_DIRECTORY", copies.to_str().unwrap());
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");

    let (_, next) = create_manually(&world, "next");
    delete_manually(&world, &first_id(&world));
    write(&world.path("new-key"), &next);
    let blocked = world.run(&["rotate", "billing"]);
    assert_eq!(blocked.status.code(), Some(1), "{}", text(&blocked.stderr));
    let reloaded = world.ok(&["reload"]);
    assert!(reloaded.contains("`rekeyd use-credential "), "{reloaded}");
    let blocked = world.run(&["rotate", "billing"]);
    assert_eq!(blocked.status.code(), Some(1), "{}", text(&blocked.stderr));

    let file = world.path("new-key");
    let given = world.ok(&["use-credential", file.to_str().unwrap()]);
    let expected = format!(
        "rekeyd uses the admin key in {} until it stops",
        file.display()
    );
    assert!(given.contains(&expected), "{given}");
    world.ok(&["rotate", "billing"]);
    // It counts before the copy, also after a reload.
    world.ok(&["reload"]);
    world.ok(&["rotate", "billing"]);
    let log = daemon.stop();
    assert!(log.contains("requested: use-credential "), "{log}");
    assert!(!log.contains(&next[9..]), "{log}");
}

#[test]
fn changed_file_is_taken_without_a_reload() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("1h"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    // One that the provider refuses changes nothing, and is tried once.
    replace_file(&world, "sk-admin-of-nobody-0123456789abcdef");
    daemon.wait_for(CHANGE_REFUSED);
    world.ok(&["rotate", "billing"]);
    world.ok(&["status", "--ready"]);

    let (_, next) = create_manually(&world, "next");
    replace_file(&world, &next);
    daemon.wait_for("using the admin key from");
    delete_manually(&world, &first_id(&world));
    world.ok(&["rotate", "billing"]);
    let log = daemon.stop();
    assert_eq!(log.matches(CHANGE_REFUSED).count(), 1, "{log}");
    assert!(
        !log.contains("has no admin key that the provider accepts"),
        "{log}"
    );
}

#[test]
fn unusable_key_changes_nothing() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    write(&world.path("wrong"), "sk-admin-of-nobody-0123456789abcdef");
    let wrong = world.path("wrong");
    let wrong = wrong.to_str().unwrap();
    let absent = world.run(&["use-credential", wrong]);
    let stderr = text(&absent.stderr);
    assert_eq!(absent.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("no rekeyd is running"), "{stderr}");
    let stored = format!("store it in {}", world.path("admin-key").display());
    assert!(stderr.contains(&stored), "{stderr}");

    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    let missing = world.path("missing");
    world.ok(&["rotate", "billing"]);
    // What a consumer may still use, and rekeyd revokes an overlap later.
    let retired = world.history()[1]["credential_id"].clone();
    let retired = world.secret_of(retired.as_str().unwrap());
    write(&world.path("retired"), &retired);
    let retired = world.path("retired");
    for (file, expected) in [
        (missing.to_str().unwrap(), "does not exist"),
        (wrong, "the provider does not accept it"),
        (retired.to_str().unwrap(), "which rekeyd has replaced"),
    ] {
        let refused = world.run(&["use-credential", file]);
        let stderr = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
    world.ok(&["rotate", "billing"]);
    let log = daemon.stop();
    assert_eq!(log.matches("using the admin key from").count(), 1, "{log}");
}
