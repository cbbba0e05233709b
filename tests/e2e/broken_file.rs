//! A mistake in the configuration file on disk does not take the commands of a running
//! daemon away.

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, binary, control_socket, file_key_text, text, write};

/// A configuration in force, and a mistake in the file.
fn world_with_a_mistake() -> (TestEnv, Daemon) {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    break_file(&world);
    (world, daemon)
}

fn break_file(world: &TestEnv) {
    let good = std::fs::read_to_string(world.path("config.toml")).unwrap();
    write(
        &world.path("config.toml"),
        &good.replace("[key.billing]", "[key.billing]\noverlapp = \"1h\""),
    );
}

const MISTAKE: &str = "key.billing.overlapp: unknown option";

#[test]
fn commands_work_with_what_the_daemon_has_loaded() {
    let (world, daemon) = world_with_a_mistake();
    let id = world.live_ids()[0].clone();
    for (command, expected) in [
        (vec!["status"], "healthy"),
        (vec!["status", "--json"], "\"healthy\": true"),
        (vec!["history"], "current"),
        (vec!["schedule", "-n", "1"], "billing"),
        (vec!["audit"], "\nlive "),
        (vec!["rotate", "billing"], "billing: rotated"),
        (vec!["hold", &id, "--until", "7d"], "holding"),
        (vec!["release", &id], "released"),
        (vec!["pause", "billing", "--until", "2031-01-01"], "2031"),
        (vec!["resume", "billing"], ": resumed"),
        (vec!["revoke", &id, "--force"], "revoked"),
    ] {
        let output = world.run(&command);
        let stderr = text(&output.stderr);
        assert!(output.status.success(), "{command:?}: {stderr}");
        assert!(
            stderr.contains("warning: the configuration has mistakes"),
            "{stderr}"
        );
        assert!(stderr.contains(MISTAKE), "{command:?}: {stderr}");
        let stdout = text(&output.stdout);
        assert!(stdout.contains(expected), "{command:?}: {stdout}");
    }
    let ledger = world.path("ledger.db");
    let output = world.run(&["history", "--ledger", ledger.to_str().unwrap()]);
    let stderr = text(&output.stderr);
    assert!(
        output.status.success() && stderr.contains(MISTAKE),
        "{stderr}"
    );
    // What needs the new file refuses.
    for command in [&["check"][..], &["reload"], &["once"], &["run"]] {
        let output = world.run(command);
        assert_eq!(output.status.code(), Some(78), "{command:?}");
        assert!(text(&output.stderr).contains(MISTAKE), "{command:?}");
    }
    // The daemon has rejected it, and says so: one mistake is printed once.
    for command in [&["status"][..], &["show", "billing"]] {
        let output = world.run(command);
        let all = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(all.matches(MISTAKE).count(), 1, "{command:?}: {all}");
    }
    // A file that is gone or no TOML names no socket any more.
    let socket = world.path("control.sock");
    let socket = socket.to_str().unwrap();
    write(&world.path("config.toml"), "this is no TOML [");
    std::fs::rename(world.path("config.toml"), world.path("away")).unwrap();
    for command in ["status", "history", "schedule"] {
        let output = world.run(&[command]);
        assert_eq!(output.status.code(), Some(78), "{command}");
        let stderr = text(&output.stderr);
        assert!(stderr.contains("add --socket PATH"), "{command}: {stderr}");
        let output = world.run(&[command, "--socket", socket]);
        // The reload above was rejected, which `status` reports.
        let code = i32::from(command == "status");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{command}: {stderr}");
    }
    daemon.stop();
    let output = world.run(&["status", "--socket", socket]);
    assert_eq!(output.status.code(), Some(78), "nobody listens");
    let ledger = world.path("ledger.db");
    let output = world.ok(&["history", "--ledger", ledger.to_str().unwrap()]);
    assert!(output.contains("current"), "{output}");
}

/// Another organization's file may name the socket of this daemon, by mistake or by default.
#[test]
fn daemon_of_another_file_is_not_reached() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    let own = std::fs::read_to_string(world.path("config.toml")).unwrap();
    let other = world.path("other.toml");
    write(
        &other,
        &own.replace("[key.billing]", "[key.billing]\noverlapp = \"1h\""),
    );
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(binary());
        command.arg("--config").arg(&other).args(arguments);
        command.output().unwrap()
    };
    let before = world.live_ids().len();
    for command in [&["status"][..], &["history"], &["rotate", "billing"]] {
        let output = run(command);
        assert_eq!(output.status.code(), Some(78), "{command:?}");
        assert!(text(&output.stderr).contains(MISTAKE), "{command:?}");
        assert!(!text(&output.stderr).contains("still uses"), "{command:?}");
    }
    assert_eq!(world.live_ids().len(), before);
    // A command that names a socket or a ledger uses it.
    let (socket, ledger) = (world.path("control.sock"), world.path("ledger.db"));
    for named in [
        ["--socket", socket.to_str().unwrap()],
        ["--ledger", ledger.to_str().unwrap()],
    ] {
        let output = run(&[&["rotate", "billing"], &named[..]].concat());
        assert!(
            output.status.success(),
            "{named:?}: {}",
            text(&output.stderr)
        );
    }
    assert_eq!(world.live_ids().len(), before + 2);
    daemon.stop();
}

#[test]
fn configuration_is_shown_to_whoever_may_read_the_file() {
    let (world, daemon) = world_with_a_mistake();
    let cookie = control_socket::read_cookie(&world.path("ledger.db"));
    let request = ["GET", "/configuration", ""];
    let socket = world.path("control.sock");
    let (_, shown) = control_socket::ask(&socket, cookie.as_deref(), request);
    assert!(
        shown.contains("[key.billing]") && !shown.contains("overlapp"),
        "{shown}"
    );
    daemon.stop();
}

/// Returns a file of time zones that has always been five hours ahead of UTC.
fn five_hours_ahead() -> Vec<u8> {
    let mut block = b"TZif2".to_vec();
    block.extend([0; 15]);
    // Of leap seconds and transitions none, one type and its designation.
    for count in [0_u32, 0, 0, 0, 1, 4] {
        block.extend(count.to_be_bytes());
    }
    block.extend(18_000_i32.to_be_bytes());
    block.extend([0, 0]);
    block.extend(b"+05\0");
    [&block[..], &block, b"\n<+05>-5\n"].concat()
}

/// A zone that tzdata dropped and a folder that became a link are no mistakes of the file.
#[test]
fn commands_work_after_a_change_of_the_host() {
    let mut world = TestEnv::start(&[]);
    let zones = world.path("zones");
    std::fs::create_dir_all(zones.join("Test")).unwrap();
    std::fs::write(zones.join("Test/East"), five_hours_ahead()).unwrap();
    world.set_env("TZDIR", zones.to_str().unwrap());
    std::fs::create_dir(world.path("own")).unwrap();
    let billing =
        file_key_text("24h").replace("[key.billing]", "[key.billing]\ntimezone = \"Test/East\"");
    let web = file_key_text("24h")
        .replace("key.billing", "key.web")
        .replace("DIR/", "DIR/own/");
    world.configure(&format!("{billing}{web}"));
    let mut daemon = Daemon::start(&world);
    for _ in 0..2 {
        daemon.wait_for("is the current credential");
    }
    let id = world.live_ids()[0].clone();
    let backup = |name: &str| world.path(name).to_str().unwrap().to_owned();
    let (first, second) = (backup("first.db"), backup("second.db"));
    let check = |backup: &str, expected: &str| {
        for command in [
            &["status"][..],
            &["status", "--json"],
            &["status", "--offline"],
            &[
                "status",
                "--ledger",
                world.path("ledger.db").to_str().unwrap(),
            ],
            &[
                "status",
                "--socket",
                world.path("control.sock").to_str().unwrap(),
            ],
            &["history"],
            &["schedule"],
            &["audit"],
            &["backup", backup],
            &["hold", &id, "--until", "7d"],
            &["release", &id],
            &["pause", "web", "--until", "2031-01-01"],
            &["resume", "web"],
        ] {
            let output = world.run(command);
            let stderr = text(&output.stderr);
            assert!(output.status.success(), "{command:?}: {stderr}");
            assert!(
                stderr.contains("this host has changed") && stderr.contains(expected),
                "{command:?}: {stderr}"
            );
        }
    };
    std::fs::remove_file(zones.join("Test/East")).unwrap();
    check(&first, "timezone: unknown time zone");
    std::fs::write(zones.join("Test/East"), five_hours_ahead()).unwrap();
    assert!(world.run(&["status"]).stderr.is_empty());

    // The files of both keys are one now.
    std::fs::rename(world.path("own"), world.path("former")).unwrap();
    std::os::unix::fs::symlink(world.dir.path(), world.path("own")).unwrap();
    check(&second, "under another name, the file is");
    daemon.stop();
}

/// Edits the file, in which the daemon finds another socket, and perhaps a mistake.
fn name_other_socket(world: &TestEnv, socket: &str, mistake: &str) {
    let file = world.path("config.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    let own = format!("socket = \"{}\"", world.path("control.sock").display());
    assert!(good.contains(&own), "{good}");
    let edited = good.replace(&own, &format!("socket = \"{socket}\""));
    write(
        &file,
        &edited.replace("[key.billing]", &format!("[key.billing]{mistake}")),
    );
}

/// The lock file names the socket at which the daemon answers, whatever the file names.
#[test]
fn commands_find_the_daemon_at_the_socket_that_it_uses() {
    for mistake in ["", "\noverlapp = \"1h\""] {
        for socket in ["DIR/other.sock", ""] {
            let world = TestEnv::start(&[]);
            world.configure(&file_key_text("24h"));
            let mut daemon = Daemon::start(&world);
            daemon.wait_for("is the current credential");
            let dir = world.dir.path().display().to_string();
            let socket = socket.replace("DIR", &dir);
            name_other_socket(&world, &socket, mistake);
            let id = world.live_ids()[0].clone();
            for (command, expected) in [
                (vec!["status"], "running: rekeyd run"),
                (vec!["history"], "current"),
                (vec!["audit"], "\nlive "),
                (vec!["rotate", "billing"], "billing: rotated"),
                (vec!["hold", &id, "--until", "7d"], "holding"),
                (vec!["release", &id], "released"),
            ] {
                let output = world.run(&command);
                let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
                assert!(output.status.success(), "{command:?}: {stderr}");
                assert!(stdout.contains(expected), "{command:?}: {stdout}");
                let is_reported = stderr
                    .contains("the running rekeyd loaded it, and was not taken")
                    || stderr.contains("the configuration has mistakes");
                assert!(
                    is_reported || command[0] == "history",
                    "{command:?}: {stderr}"
                );
                assert!(!stderr.contains("no rekeyd is running"), "{stderr}");
            }
            let reloaded = world.run(&["reload"]);
            let stderr = text(&reloaded.stderr);
            if mistake.is_empty() {
                assert!(reloaded.status.success(), "{stderr}");
                assert_eq!(world.path("other.sock").exists(), !socket.is_empty());
            } else {
                assert!(stderr.contains(MISTAKE), "{stderr}");
            }
            let stopped = daemon.stop();
            assert!(!stopped.contains("another process"), "{stopped}");
        }
    }
}

/// The daemon of another file that writes the same ledger is not meant.
#[test]
fn socket_in_the_lock_file_counts_for_its_own_configuration_alone() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    name_other_socket(
        &world,
        &format!("{}/other.sock", world.dir.path().display()),
        "",
    );
    let copy = world.path("copy.toml");
    std::fs::copy(world.path("config.toml"), &copy).unwrap();
    let ledger = world.path("ledger.db");
    let rotate = |arguments: &[&str]| {
        let mut command = std::process::Command::new(binary());
        command
            .arg("--config")
            .arg(&copy)
            .args(["rotate", "billing"]);
        command.args(arguments).env_remove("OPENAI_ADMIN_KEY");
        command.output().unwrap()
    };
    let refused = rotate(&[]);
    assert_eq!(refused.status.code(), Some(75), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("is in use by rekeyd run"));
    // The command names the ledger.
    let named = rotate(&["--ledger", ledger.to_str().unwrap()]);
    assert!(named.status.success(), "{}", text(&named.stderr));
    daemon.stop();
}

/// The audit compares the provider that the daemon works with, or says that it does not.
#[test]
fn audit_answers_for_the_configuration_of_the_running_daemon() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    let good = std::fs::read_to_string(world.path("config.toml")).unwrap();
    let own = format!("base-url = \"{}\"", world.base_url);
    assert!(good.contains(&own), "{good}");
    let elsewhere = good.replace(&own, "base-url = \"http://127.0.0.1:1/v1\"");
    write(&world.path("config.toml"), &elsewhere);
    let output = world.run(&["audit"]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    assert!(stdout.contains("\nlive "), "{stdout}");
    assert!(
        stderr.contains("the running rekeyd loaded it, and was not taken"),
        "{stderr}"
    );
    daemon.stop();
}
