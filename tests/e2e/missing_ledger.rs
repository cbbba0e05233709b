//! A ledger that is not there: rekeyd distinguishes one that the first start has yet to
//! create from one that is gone.

use std::fs;

use rustix::process::Signal;

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text, text, write};

/// Returns a world whose ledger has a folder of its own, and the folder.
fn world() -> TestEnv {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let config = fs::read_to_string(world.path("config.toml")).unwrap();
    write(
        &world.path("config.toml"),
        &config.replace("/ledger.db", "/state/ledger.db"),
    );
    fs::create_dir(world.path("state")).unwrap();
    world
}

/// Asserts the exit codes of `status`, `status --json` and `check`, and that each names a
/// lost ledger with this text.
fn assert_lost(world: &TestEnv, expected: Option<&str>) {
    // No daemon runs here, which is another problem.
    for command in [
        &["status", "--offline"][..],
        &["status", "--json", "--offline"],
        &["check"],
    ] {
        let output = world.run(command);
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        let code = i32::from(expected.is_some());
        assert_eq!(output.status.code(), Some(code), "{command:?}: {said}");
        let part = expected.unwrap_or_default();
        assert!(said.contains(part), "{command:?} {part}: {said}");
    }
    if expected.is_none() {
        // Without a ledger, an audit lists what the provider has.
        world.run(&["audit"]);
    } else {
        assert_eq!(world.run(&["audit"]).status.code(), Some(1));
    }
    for command in [&["history"][..], &["backup", "copy"]] {
        let output = world.run(command);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        let part = expected.unwrap_or("no ledger at");
        assert!(said.contains(part), "{command:?} {part}: {said}");
    }
}

#[test]
fn lost_ledger_is_a_problem_and_a_new_one_is_none() {
    let world = world();
    assert_lost(&world, None);
    world.ok(&["once"]);
    // Its disk is not mounted.
    let (state, away) = (world.path("state"), world.path("away"));
    fs::rename(&state, &away).unwrap();
    assert_lost(
        &world,
        Some("does not exist; hint: mount its disk, or create it"),
    );
    // The mount point alone.
    fs::create_dir(&state).unwrap();
    assert_lost(&world, None);
    // The file alone was removed.
    fs::remove_dir(&state).unwrap();
    fs::rename(&away, &state).unwrap();
    fs::rename(state.join("ledger.db"), world.path("kept")).unwrap();
    assert_lost(&world, Some("ledger.db is gone, although"));
    // So was its content.
    write(&state.join("ledger.db"), "");
    assert_lost(&world, Some("ledger.db is empty, although"));
    fs::rename(world.path("kept"), state.join("ledger.db")).unwrap();
    world.ok(&["status"]);
    world.ok(&["check"]);
}

/// What a first start leaves that failed before it made the ledger, or before it filled it.
#[test]
fn ledger_that_no_start_made_is_no_loss() {
    let world = world();
    write(&world.path("state/ledger.db.lock"), "");
    assert_lost(&world, None);
    write(
        &world.path("state/ledger.db.lock"),
        "rekeyd run (process 7)\n",
    );
    write(&world.path("state/ledger.db"), "");
    assert_lost(&world, None);
    world.ok(&["once"]);
}

/// The daemon knows more than that the file is gone, and says it first.
#[test]
fn lost_ledger_of_a_running_daemon_is_a_problem() {
    let world = world();
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    fs::rename(world.path("state"), world.path("away")).unwrap();
    daemon.wait_for("changed while rekeyd");
    for command in [&["status"][..], &["status", "--json"]] {
        let output = world.run(command);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("changed while rekeyd"), "{said}");
    }
    daemon.signal(Signal::KILL);
    daemon.wait();
}

/// A configuration that names a ledger and no key is hardly the one that rekeyd runs with.
#[test]
fn configuration_without_keys_and_ledger_is_a_problem() {
    let world = world();
    let config = fs::read_to_string(world.path("config.toml")).unwrap();
    let (without_keys, _) = config.split_once("[key").unwrap();
    write(&world.path("config.toml"), without_keys);
    let output = world.run(&["status"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("has no key, and there is no ledger"),
        "{said}"
    );
    write(&world.path("config.toml"), &config);
    world.ok(&["once"]);
    write(&world.path("config.toml"), without_keys);
    world.ok(&["status"]);
}
