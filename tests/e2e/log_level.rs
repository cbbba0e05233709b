//! The level of the log: from the configuration, the environment, the command line and, in
//! a running daemon, by `rekeyd log-level`.

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text, text};

/// Why the key of these tests is not rotated.
const DECISION: &str = "billing: no rotation starts: none is due before ";

fn with_log(options: &str) -> String {
    format!("[log]\n{options}{}", file_key_text("1h"))
}

#[test]
fn running_daemon_logs_decisions_on_request_and_for_a_while() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("1h"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    world.ok(&["rotate", "billing"]);
    world.ok(&["rotate", "billing"]);

    // One module alone, until it is taken back.
    let set = world.ok(&["log-level", "engine=debug"]);
    assert!(
        set.contains("the log level is info,engine=debug until rekeyd restarts"),
        "{set}"
    );
    let request = daemon.wait_for("requested: log-level engine=debug");
    assert!(request.contains("INFO"), "{request}");
    assert!(daemon.wait_for(DECISION).contains("DEBUG"));
    let kept = daemon.wait_for(" is not revoked now: its overlap or its hold lasts until ");
    assert!(kept.contains("DEBUG"), "{kept}");
    let set = world.ok(&["log-level", "default"]);
    assert_eq!(set, "the log level is info\n");

    // For a while: each change shows the decisions again.
    let set = world.ok(&["log-level", "debug", "--for", "1s"]);
    assert_eq!(set, "the log level is debug for 1 s, then info again\n");
    daemon.wait_for(DECISION);
    daemon.wait_for("the log level is info again");
    world.ok(&["rotate", "billing"]);
    let log = daemon.stop();
    let (_, after) = log.split_once("the log level is info again").unwrap();
    assert!(!after.contains("DEBUG"), "{after}");
}

#[test]
fn bad_filter_changes_nothing() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("1h"));
    let absent = world.run(&["log-level", "debug"]);
    assert_eq!(absent.status.code(), Some(1));
    let stderr = text(&absent.stderr);
    assert!(stderr.contains("no rekeyd is running"), "{stderr}");

    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    for (filter, expected) in [
        (
            "loud",
            "\"loud\": not a valid log level; hint: use error, warn",
        ),
        (
            "engin=debug",
            "\"engin\": not a module of rekeyd; hint: the modules are",
        ),
        (
            "info,debug",
            "two log levels for the same lines; hint: give one",
        ),
    ] {
        let refused = world.run(&["log-level", filter]);
        let stderr = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{filter}: {stderr}");
        assert!(stderr.contains(expected), "{filter}: {stderr}");
    }
    let log = daemon.stop();
    assert!(!log.contains("requested"), "{log}");
}

#[test]
fn level_comes_from_the_command_line_then_the_variable_then_the_file() {
    let mut world = TestEnv::start(&[]);
    world.configure(&with_log("level = \"warn\"\nformat = \"json\"\n"));
    let by_file = world.run(&["once"]);
    assert_eq!(text(&by_file.stderr), "", "nothing is worth a warning");

    // As a unit or a script sets a variable to nothing.
    world.set_env("REKEYD_LOG", "");
    let by_file = world.run(&["once"]);
    assert_eq!(by_file.status.code(), Some(0));
    assert_eq!(text(&by_file.stderr), "");

    world.set_env("REKEYD_LOG", "warn,engine=debug");
    let by_variable = text(&world.run(&["once"]).stderr);
    let mut lines = by_variable.lines();
    assert!(lines.clone().count() > 0 && lines.all(|line| line.starts_with('{')));
    assert!(by_variable.contains(DECISION), "{by_variable}");
    assert!(
        !by_variable.contains("\"level\":\"INFO\",\"message\":\"using"),
        "{by_variable}"
    );

    let arguments = ["--log-level", "error", "--log-format", "human", "once"];
    assert_eq!(text(&world.run(&arguments).stderr), "");
    world.set_env("REKEYD_LOG", "loud");
    let refused = world.run(&["once"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("\"loud\": not a valid log level"));
}

#[test]
fn reload_takes_the_level_of_the_file() {
    let world = TestEnv::start(&[]);
    world.configure(&with_log("level = \"debug\"\n"));
    let mut daemon = Daemon::start(&world);
    // The first rotation ends at the level of the start.
    daemon.wait_for("is the current credential");
    world.configure(&with_log("level = \"warn\"\n"));
    world.ok(&["reload"]);
    world.ok(&["rotate", "billing"]);
    world.configure(&with_log("level = \"info\"\n"));
    world.ok(&["reload"]);
    let reloaded = daemon.wait_for(" reloaded ");
    assert!(reloaded.contains("INFO"), "{reloaded}");
    world.configure(&with_log("level = \"loud\"\n"));
    let refused = world.run(&["reload"]);
    let stderr = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(78), "{stderr}");
    assert!(
        stderr.contains("log.level: not a valid log level"),
        "{stderr}"
    );
    let log = daemon.stop();
    let told = log.matches("is the current credential").count();
    assert_eq!(told, 1, "{log}");
}

#[test]
fn no_time_at_all_is_refused() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("1h"));
    for arguments in [
        &["log-level", "debug", "--for", "0s"][..],
        &["rotate", "billing", "--timeout", "0s"],
    ] {
        let output = world.run(arguments);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains("at least 1s"), "{arguments:?}: {stderr}");
    }
}
