//! A running daemon serves requests of the commands, and of any HTTP client on its
//! socket.

use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::control_socket;
use crate::support::daemon::Daemon;
use crate::support::host::has_root;
use crate::support::limit::wait_until;
use crate::support::{TestEnv, file_key_text, read_ledger, text, write, write_ledger};
use jiff::Timestamp;
use rekeyd::platform::clock::{Clock as _, SystemClock};
use rustix::process::Signal;

/// Returns a daemon that has rotated its key once.
fn running(world: &TestEnv) -> Daemon {
    let mut daemon = Daemon::start(world);
    daemon.wait_for("is the current credential");
    daemon
}

fn world() -> TestEnv {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world
}

/// Sends one HTTP request, and returns the status and the body.
fn http(world: &TestEnv, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
    let cookie = control_socket::read_cookie(&world.path("ledger.db")).unwrap();
    let socket = world.path("control.sock");
    let (status, answer) = control_socket::ask(&socket, Some(&cookie), [method, path, body]);
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(body).unwrap())
}

/// Returns the column `detail ->> member` of the last row of the ledger with `event`.
fn last_event_detail(world: &TestEnv, event: &str, member: &str) -> Option<String> {
    let ledger = read_ledger(&world.path("ledger.db"));
    let sql = "SELECT detail ->> ?2 FROM events WHERE event = ?1 ORDER BY seq DESC LIMIT 1";
    ledger
        .query_row(sql, [event, member], |row| row.get(0))
        .unwrap()
}

#[test]
fn changing_commands_are_executed_by_the_running_daemon() {
    let world = world();
    let daemon = running(&world);
    let first = world.live_ids();
    let output = world.ok(&["rotate", "billing", "--reason", "somebody left"]);
    assert_eq!(output, "billing: rotated\n");
    let history = world.history();
    assert_eq!(history[0]["trigger"], "manual");
    let own = format!("uid {}", rustix::process::getuid().as_raw());
    assert_eq!(last_event_detail(&world, "started", "by"), Some(own));
    assert_eq!(
        last_event_detail(&world, "started", "reason").as_deref(),
        Some("somebody left")
    );
    let secret = world.secret_of(history[0]["credential_id"].as_str().unwrap());
    let delivered = std::fs::read_to_string(world.path("billing.key")).unwrap();
    assert_eq!(delivered.trim(), secret);
    // The daemon also executes the other commands.
    let id = first[0].as_str();
    let until = "2031-01-01T00:00:00Z";
    for (command, words) in [
        (vec!["hold", id, "--until", until], "holding"),
        (vec!["release", id], "released"),
        (vec!["pause", "billing", "--until", until], "until 2031"),
        (vec!["resume", "--all"], ": resumed"),
        (vec!["rotate", "--all", "--no-wait"], "rotation requested"),
        (vec!["revoke", id, "--force"], "revoked"),
    ] {
        let printed = world.ok(&command);
        assert!(printed.contains(words), "{command:?}: {printed}");
    }
    let log = daemon.stop();
    assert!(log.contains("requested: rotate"), "{log}");
    assert!(!world.path("control.sock").exists());
    // Without a daemon, the command does the same itself.
    assert_eq!(world.ok(&["rotate", "billing"]), "billing: rotated\n");
}

/// The credential of an open rotation was created before the request: a person who wants to be
/// rid of it has to know.
#[test]
fn request_that_completes_an_open_rotation_says_so() {
    let world = TestEnv::start(&[]);
    let on_change = "on-change = [\"/usr/bin/test\", \"-e\", \"DIR/ready\"]\n";
    world.configure(&format!("{}{on_change}", file_key_text("24h")));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("retrying");
    let started = world.history()[0]["started_at"]
        .as_str()
        .unwrap()
        .to_owned();
    // Times in the ledger are whole seconds.
    let started_at: Timestamp = started.parse().unwrap();
    while SystemClock.now().as_second() <= started_at.as_second() {
        std::thread::yield_now();
    }
    write(&world.path("ready"), "");
    let answer = world.ok(&["rotate", "billing"]);
    let expected = format!(
        "billing: completed the rotation that was already open, which started at {started}"
    );
    assert!(answer.starts_with(&expected), "{answer}");
    assert_eq!(world.live_ids().len(), 1, "it created no credential");
    assert_eq!(world.ok(&["rotate", "billing"]), "billing: rotated\n");
    daemon.stop();
}

#[test]
fn rejected_request_is_answered_with_a_reason() {
    let world = world();
    let daemon = running(&world);
    for (command, words) in [
        (
            vec!["rotate", "nobody"],
            "no key nobody is configured; configured keys: billing",
        ),
        (
            vec!["retire", "nothing"],
            "no key nothing is configured or in the ledger; configured keys: billing\n",
        ),
        (
            vec!["retire", "bilings"],
            "no key bilings is configured or in the ledger; configured keys: billing; hint: did \
             you mean billing?",
        ),
        (
            vec!["pause", "Nobody"],
            "\"Nobody\" is not a valid key name",
        ),
        (vec!["hold", "key_none"], "key_none is not in this ledger"),
        (
            vec!["pause", "billing", "--until", "2020-01-01T00:00:00Z"],
            "until a time in the past",
        ),
        (vec!["revoke", &world.live_ids()[0]], "may be held by file"),
    ] {
        let output = world.run(&command);
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let printed = text(&output.stderr);
        assert!(printed.contains(words), "{command:?}: {printed}");
    }
    drop(daemon);
}

#[test]
fn control_socket_serves_plain_http() {
    let world = world();
    let daemon = running(&world);
    let (status, about) = http(&world, "GET", "/daemon", "");
    assert_eq!(status, 200);
    assert_eq!(about["process"], daemon.id());
    assert_eq!(about["ledger"], world.path("ledger.db").to_str().unwrap());
    assert_eq!(about["problem"], serde_json::Value::Null);
    let body = r#"{"keys":["billing"],"reason":"by hand"}"#;
    let (status, answer) = http(&world, "POST", "/rotate", body);
    assert_eq!(status, 200);
    let outcome = serde_json::json!({
        "about": "billing", "done": true, "message": "billing: rotated"
    });
    assert_eq!(answer, serde_json::json!({"outcomes": [outcome]}));
    let secret = std::fs::read_to_string(world.path("billing.key")).unwrap();
    for answer in [about, answer] {
        assert!(!answer.to_string().contains(secret.trim()));
    }
    for (method, path, body, status, words) in [
        ("POST", "/rotate", "{}", 200, "expected the names of keys"),
        (
            "POST",
            "/rotate",
            "{\"key\":\"a\"}",
            400,
            "unknown field `key`",
        ),
        ("POST", "/rotate", "[1]", 400, "expected a JSON object"),
        ("POST", "/revoke", "", 400, "credential_id"),
        ("POST", "/launch", "", 400, "unknown variant `launch`"),
        ("POST", "/a/b", "", 404, "GET /daemon"),
        ("GET", "/", "", 404, "GET /daemon"),
    ] {
        let (found, answer) = http(&world, method, path, body);
        assert_eq!(found, status, "{method} {path}: {answer}");
        assert!(answer.to_string().contains(words), "{path}: {answer}");
    }
    // None of these requests changed anything.
    assert_eq!(world.history().len(), 2);
}

/// Only root can run as another user.
#[test]
fn group_can_read_and_only_admins_can_change() {
    const NOBODY: u32 = 65_534;
    if !has_root() {
        return;
    }
    let world = world();
    // The user can read the configuration and reach the socket.
    for (name, mode) in [("", 0o755), ("config.toml", 0o644)] {
        std::fs::set_permissions(world.path(name), Permissions::from_mode(mode)).unwrap();
    }
    let as_nobody = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        command.uid(NOBODY).gid(NOBODY).output().unwrap()
    };
    let daemon = running(&world);
    let output = as_nobody(&["pause", "billing"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("as a member of the socket's group"),
        "{stderr}"
    );
    let socket = world.path("control.sock");
    std::fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    let output = as_nobody(&["pause", "billing"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("may only look; hint: use `sudo rekeyd pause`"),
        "{stderr}"
    );
    assert!(
        stderr.contains("admins = [\"GROUP\"] to [control]"),
        "{stderr}"
    );
    daemon.stop();
    // The user's group is allowed.
    let group = "nogroup";
    if !rekeyd::platform::users::is_member(NOBODY, NOBODY, group) {
        return;
    }
    let config = std::fs::read_to_string(world.path("config.toml")).unwrap();
    let with_admins = config.replace(
        "[control]\n",
        &format!("[control]\nadmins = [\"{group}\"]\n"),
    );
    write(&world.path("config.toml"), &with_admins);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    wait_until("the socket is there", || socket.exists());
    std::fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    let output = as_nobody(&["pause", "billing"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(
        last_event_detail(&world, "paused", "by"),
        Some(format!("uid {NOBODY}"))
    );
}

#[test]
fn waiting_request_is_answered_at_shutdown() {
    let mut world = world();
    let mut daemon = running(&world);
    world.restart_sandbox(&["--fault", "create:slow:1", "--fault", "any:500-before:1"]);
    let waiting = world
        .command(&["rotate", "billing"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    daemon.wait_for("requested: rotate");
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    let answer = stderr.lines().last().unwrap_or_default();
    assert!(answer.starts_with("error: "), "{stderr}");
    assert!(!stderr.contains("lost contact"), "{stderr}");
}

#[test]
fn stale_socket_is_replaced_and_foreign_socket_is_not_used() {
    let world = world();
    let mut daemon = running(&world);
    daemon.signal(Signal::KILL);
    assert!(!daemon.wait().success());
    assert!(world.path("control.sock").exists());
    // No daemon listens there: the command does the work itself.
    assert!(
        world
            .ok(&["pause", "billing"])
            .contains("`rekeyd resume billing`")
    );
    let mut again = Daemon::start(&world);
    again.wait_for(" started");
    // A second rekeyd with the same socket runs without it, and its commands do not use
    // the first.
    let config = std::fs::read_to_string(world.path("config.toml")).unwrap();
    let other = config.replace("/ledger.db", "/other.db");
    write(
        &world.path("config.toml"),
        &other.replace("/billing.key", "/other.key"),
    );
    let mut second = Daemon::start(&world);
    second.wait_for("another process listens on it");
    let refused = world.run(&["resume", "billing"]);
    assert!(!refused.status.success(), "the second one cannot be asked");
    second.stop();
    // The edit alone, without a restart, leads no command to another ledger.
    let status = world.run(&["status"]);
    assert!(status.status.success(), "{}", text(&status.stderr));
    assert!(text(&status.stdout).starts_with("running"));
    assert!(text(&status.stderr).contains("warning"), "it says so");
    assert!(world.ok(&["resume", "billing"]).contains(": resumed"));
    write(&world.path("config.toml"), &config);
    assert!(world.ok(&["resume", "billing"]).contains("is not paused"));
    drop(again);
}

#[test]
fn valid_configuration_is_applied_and_invalid_changes_nothing() {
    let world = world();
    let mut daemon = running(&world);
    let good = std::fs::read_to_string(world.path("config.toml")).unwrap();
    let problem = || -> serde_json::Value {
        let status = world.run(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        status["problem"].clone()
    };
    // The configuration has a mistake.
    let bad = good.replace("@monthly", "@monthly-ish");
    write(&world.path("config.toml"), &bad);
    let output = world.run(&["reload"]);
    assert_eq!(output.status.code(), Some(78));
    let invalid = "not a valid cron expression";
    assert!(text(&output.stderr).contains(invalid));
    daemon.wait_for("reload rejected");
    daemon.signal(Signal::HUP);
    daemon.wait_for("reload rejected");
    write(&world.path("config.toml"), &good);
    // The ledger has the record a moment after the log.
    let recorded = (0..200)
        .map(|_| problem())
        .find(|problem| !problem.is_null());
    assert!(recorded.unwrap().as_str().unwrap().contains(invalid));
    assert_eq!(world.history().len(), 1);
    // This change needs a restart.
    let url = good.replace("/v1\"", "/v2\"");
    write(&world.path("config.toml"), &url);
    let output = world.run(&["reload"]);
    assert_eq!(output.status.code(), Some(78), "{}", text(&output.stderr));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("[provider] base-url cannot change"),
        "{stderr}"
    );
    assert!(stderr.contains("restart"), "{stderr}");
    // A new key; the command knows it before the daemon confirms.
    let more = "[key.more]\nschedule = \"@monthly\"\nverify-interval = \"0s\"\n\
                [[key.more.sink]]\ntype = \"file\"\npath = \"DIR/more.key\"\n";
    let more = more.replace("DIR", world.dir.path().to_str().unwrap());
    write(&world.path("config.toml"), &format!("{good}{more}"));
    let output = world.run(&["rotate", "more"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("`rekeyd reload`"), "{stderr}");
    assert!(stderr.contains("no key more is configured"), "{stderr}");
    assert!(world.ok(&["reload"]).contains("reloaded "));
    daemon.wait_for("is the current credential key=more");
    assert!((0..200).any(|_| problem().is_null()));
    // Without a daemon, a reload has no effect.
    daemon.stop();
    let output = world.run(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no rekeyd is running with"));
}

#[test]
fn reload_without_control_socket_signals_the_main_process() {
    let world = world();
    let good = std::fs::read_to_string(world.path("config.toml")).unwrap();
    let socket = world.path("control.sock").display().to_string();
    let good = good.replace(&socket, "");
    write(&world.path("config.toml"), &good);
    let mut daemon = running(&world);
    assert!(!world.path("control.sock").exists());
    let reload = |world: &TestEnv| {
        let mut command = world.command(&["reload"]);
        let id = daemon.id().to_string();
        command.env("MAINPID", id).output().unwrap()
    };
    // An invalid configuration is not signalled.
    write(
        &world.path("config.toml"),
        &good.replace("@monthly", "@never"),
    );
    let output = reload(&world);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("not a valid cron expression"));
    write(&world.path("config.toml"), &good);
    let output = reload(&world);
    assert!(output.status.success(), "{}", text(&output.stderr));
    daemon.wait_for("reloaded");
    let log = daemon.stop();
    assert!(!log.contains("reload rejected"), "{log}");
}

#[test]
fn unreadable_ledger_rejects_a_request_and_keeps_the_daemon() {
    let world = world();
    let daemon = running(&world);
    let id = world.live_ids().remove(0);
    let lock = write_ledger(&world.path("ledger.db"));
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let output = world.run(&["hold", &id]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("nothing was changed: "), "{stderr}");
    lock.execute_batch("ROLLBACK").unwrap();
    world.ok(&["hold", &id]);
    drop(daemon);
}

#[test]
fn rotation_that_an_outage_interrupts_is_reported_as_pending_and_runs_later() {
    let mut world = world();
    let mut daemon = running(&world);
    world.stop_sandbox();
    // The first request detects the problem, the second meets it.
    for _ in 0..2 {
        let output = world.run(&["rotate", "billing"]);
        assert_eq!(output.status.code(), Some(1));
        let stderr = text(&output.stderr);
        assert!(stderr.contains("billing: not rotated yet"), "{stderr}");
        let outlook = "rekeyd rotates it once that is resolved";
        assert!(stderr.contains(outlook), "{stderr}");
    }
    let output = world.run(&["rotate", "billing", "--no-wait"]);
    assert!(output.status.success());
    let stdout = text(&output.stdout);
    let expected = "rotation requested; it starts, also after a restart, once this is resolved";
    assert!(stdout.contains(expected), "{stdout}");
    world.restart_sandbox(&[]);
    daemon.wait_for("is the current credential");
    assert_eq!(world.live_ids().len(), 2);
}

#[test]
fn rotation_that_nobody_waits_for_survives_a_restart() {
    let mut world = world();
    let mut daemon = running(&world);
    world.stop_sandbox();
    let output = world.run(&["rotate", "billing"]);
    assert_eq!(output.status.code(), Some(1));
    let reason = "somebody left";
    let printed = world.ok(&["rotate", "billing", "--no-wait", "--reason", reason]);
    assert!(printed.contains("also after a restart"), "{printed}");
    let shown = [text(&world.run(&["status"]).stdout), world.ok(&["history"])];
    for shown in shown {
        assert!(
            shown.contains("billing: rotation not started yet, requested at 20"),
            "{shown}"
        );
        assert!(shown.contains(reason), "{shown}");
    }
    daemon.signal(Signal::TERM);
    let kept = daemon.wait_for("the next run continues with the requested rotation");
    assert!(kept.contains("billing"), "{kept}");
    assert!(daemon.wait().success());
    world.restart_sandbox(&[]);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("continuing with the rotation requested at");
    daemon.wait_for("is the current credential");
    assert_eq!(world.live_ids().len(), 2);
    assert!(world.history().iter().any(|row| row["trigger"] == "manual"));
    daemon.stop();
    let status = text(&world.run(&["status"]).stdout);
    assert!(!status.contains("rotation not started yet"), "{status}");
}

#[test]
fn reason_is_redacted_before_it_is_recorded() {
    let world = world();
    let daemon = running(&world);
    let secret = world.secret_of(&world.live_ids()[0]);
    let reason = format!("found\n{secret} in a chat");
    world.ok(&["pause", "billing", "--reason", &reason]);
    let reason = last_event_detail(&world, "paused", "reason");
    assert_eq!(reason.as_deref(), Some("found [secret] in a chat"));
    drop(daemon);
}

#[test]
fn rejected_reload_is_logged_and_shown_by_status() {
    let world = world();
    let mut daemon = running(&world);
    let file = world.path("config.toml");
    let right = std::fs::read_to_string(&file).unwrap();
    write(&file, &format!("{right}bogus = 1\n"));
    let output = world.run(&["reload"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("bogus"));
    daemon.wait_for("reload rejected");
    write(&file, &right);
    // The ledger has the problem a moment after the log.
    let status = || text(&world.run(&["status"]).stdout);
    let is_reported = || status().starts_with("problem: reload rejected");
    assert!((0..200).any(|_| is_reported()));
    // A restart would fail.
    assert_eq!(world.run(&["status"]).status.code(), Some(1));
    world.ok(&["reload"]);
    assert!((0..200).any(|_| !status().contains("problem")));
}

#[test]
fn reload_to_another_ledger_is_rejected() {
    let world = world();
    let daemon = running(&world);
    let file = world.path("config.toml");
    let right = std::fs::read_to_string(&file).unwrap();
    write(&file, &right.replace("/ledger.db", "/other.db"));
    let output = world.run(&["reload"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{stderr}");
    assert!(stderr.contains("[ledger] path cannot change"), "{stderr}");
    drop(daemon);
}

/// A file is read while it is written, or was cut: each of its first parts is valid.
#[test]
fn reload_without_any_key_is_rejected_while_keys_are_rotated() {
    let world = world();
    let mut daemon = running(&world);
    let file = world.path("config.toml");
    let right = std::fs::read_to_string(&file).unwrap();
    let cuts = ["[provider]", "[ledger]", "[control]", "[key.billing]"];
    for cut in cuts.map(|table| right.find(table).unwrap()) {
        write(&file, &right[..cut]);
        daemon.signal(Signal::HUP);
        let refused = daemon.wait_for("reload rejected");
        assert!(refused.contains("no longer has any key"), "{refused}");
        assert!(refused.contains("rotates billing,"), "{refused}");
    }
    let output = world.run(&["reload"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{stderr}");
    for expected in ["rotates billing,", "restore its keys", "restart rekeyd"] {
        assert!(stderr.contains(expected), "{stderr}");
    }
    // The daemon rotates what it rotated before.
    world.ok(&["rotate", "billing"]);
    write(&file, &right);
    world.ok(&["reload"]);
    assert_eq!(world.history().len(), 2);
    daemon.stop();
}

#[test]
fn reload_names_the_keys_that_it_removes() {
    let world = TestEnv::start(&[]);
    let billing = file_key_text("24h");
    world.configure(&format!(
        "{billing}{}",
        billing.replace("billing", "second")
    ));
    let mut daemon = running(&world);
    world.configure(&billing);
    let answer = world.ok(&["reload"]);
    assert!(
        answer.contains("; no longer rotating: second; its credential stays alive; hint: "),
        "{answer}"
    );
    daemon.wait_for("no longer rotated: second");
    // A daemon that was started without keys takes a file without one.
    daemon.stop();
    world.configure("");
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    assert!(world.ok(&["reload"]).starts_with("reloaded "));
    daemon.stop();
}

#[test]
fn skipped_delivery_to_optional_sink_is_shown() {
    let world = TestEnv::start(&[]);
    let optional = "[[key.billing.sink]]\ntype = \"file\"\nname = \"copy\"\nrequired = false\n\
                    path = \"DIR/away/copy.key\"\n";
    let required =
        file_key_text("24h").replace("type = \"file\"", "type = \"file\"\nname = \"main\"");
    world.configure(&format!("{required}{optional}"));
    let daemon = running(&world);
    let mut status = String::new();
    wait_until("status shows the sink", || {
        status = world.ok(&["status"]);
        status.contains("copy")
    });
    assert!(status.contains("billing: optional sink copy "), "{status}");
    world.ok(&["rotate", "billing"]);
    let ledger = read_ledger(&world.path("ledger.db"));
    let sql = "SELECT d.state FROM deliveries d JOIN history h USING (rotation)
               WHERE d.sink = 'copy' AND h.sequence = (SELECT min(sequence) FROM history)";
    let state: String = ledger.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(state, "missed");
    drop(daemon);
}

/// Local users who connect without a whole request neither block commands nor keep their
/// connections.
#[test]
fn silent_control_connections_delay_no_command() {
    let mut world = world();
    let mut daemon = running(&world);
    world.restart_sandbox(&["--fault", "create:slow:1"]);
    let waiting = world
        .command(&["rotate", "billing"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    daemon.wait_for("requested: rotate");
    let mut silent: Vec<UnixStream> = (0..150)
        .map(|_| UnixStream::connect(world.path("control.sock")).unwrap())
        .collect();
    let started = Instant::now();
    assert_eq!(http(&world, "GET", "/daemon", "").0, 200);
    assert!(started.elapsed() < Duration::from_secs(8));
    // The command waits for its reply and is not disconnected.
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout), "billing: rotated\n");
    let started = Instant::now();
    let last = silent.last_mut().unwrap();
    assert_eq!(last.read(&mut [0]).unwrap_or_default(), 0);
    assert!(started.elapsed() < Duration::from_secs(15));
    // A connection with a request head alone is closed soon.
    let cookie = control_socket::read_cookie(&world.path("ledger.db")).unwrap();
    let request = ["POST", "/rotate", "{"];
    let socket = world.path("control.sock");
    let (mut half, proof) = control_socket::connect(&socket, Some(&cookie), request).unwrap();
    write!(
        half,
        "POST /rotate HTTP/1.1\r\nhost: x\r\n{proof}content-length: 9\r\n\r\n{{"
    )
    .unwrap();
    let mut answer = String::new();
    half.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    daemon.stop();
}

/// Whatever it is, a command ends, and says what to do.
#[test]
fn process_that_does_not_answer_holds_up_no_command() {
    for (sent, expected) in [
        ("", "does not answer; hint: find it with `fuser -v "),
        ("HTTP/1.1 200 OK\r\n\r\n", "longer than 64 KiB"),
    ] {
        let world = world();
        let listener = UnixListener::bind(world.path("control.sock")).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4_096]).unwrap();
            stream.write_all(sent.as_bytes()).unwrap();
            // Endless, if it has begun an answer.
            while !sent.is_empty() && stream.write_all(&[b' '; 65_536]).is_ok() {}
            let _ = stream.read(&mut [0]);
        });
        let output = world.run(&["revoke", "key_none", "--force"]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains(expected), "{message}");
        server.join().unwrap();
    }
}

/// The socket's path is checked each second.
#[test]
fn removed_socket_is_made_again() {
    let world = world();
    let mut daemon = running(&world);
    let socket = world.path("control.sock");
    for _ in 0..2 {
        std::fs::remove_file(&socket).unwrap();
        daemon.wait_for("was removed; creating it again");
        wait_until("the socket is made again", || socket.exists());
        world.ok(&["rotate", "billing"]);
    }
    daemon.stop();
    assert!(!socket.exists());
}

#[test]
fn socket_of_another_process_is_left() {
    let world = world();
    let mut daemon = running(&world);
    let socket = world.path("control.sock");
    let other = world.path("other.sock");
    let listener = UnixListener::bind(&other).unwrap();
    std::fs::rename(&other, &socket).unwrap();
    daemon.wait_for("replaced the control socket");
    let status = world.run(&["status"]);
    assert_eq!(status.status.code(), Some(1));
    let status = text(&status.stdout);
    assert!(status.contains("replaced the control socket"), "{status}");
    let check = world.run(&["check"]);
    assert_eq!(check.status.code(), Some(1));
    let check = text(&check.stderr);
    assert!(check.contains("replaced the control socket"), "{check}");
    let log = daemon.stop();
    assert_eq!(log.matches("replaced the control socket").count(), 1);
    // It is still there, and still the other process's.
    UnixStream::connect(&socket).unwrap();
    drop(listener);
}

#[test]
fn socket_that_cannot_be_made_is_tried_again() {
    let world = world();
    let file = world.path("config.toml");
    let right = std::fs::read_to_string(&file).unwrap();
    let moved = right.replace("/control.sock", "/run/control.sock");
    // At a start.
    write(&file, &moved);
    let check = world.run(&["check"]);
    assert_eq!(check.status.code(), Some(1));
    let stderr = text(&check.stderr);
    assert!(stderr.contains("control.socket"), "{stderr}");
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("cannot listen on");
    daemon.wait_for("is the current credential");
    let status = world.run(&["status"]);
    assert_eq!(status.status.code(), Some(1));
    let status = text(&status.stdout);
    assert!(status.contains("problem: cannot listen on"), "{status}");
    std::fs::create_dir(world.path("run")).unwrap();
    daemon.wait_for("listening on the control socket again");
    world.ok(&["rotate", "billing"]);
    assert!(!world.ok(&["status"]).contains("problem"));
    world.ok(&["check"]);
    // At a reload: the former one stays meanwhile.
    let socket = world.path("run/control.sock");
    write(
        &file,
        &right.replace("/control.sock", "/later/control.sock"),
    );
    daemon.signal(Signal::HUP);
    daemon.wait_for("rekeyd still listens on");
    assert!(socket.exists());
    write(&file, &moved);
    world.ok(&["reload"]);
    write(
        &file,
        &right.replace("/control.sock", "/later/control.sock"),
    );
    daemon.signal(Signal::HUP);
    daemon.wait_for("rekeyd still listens on");
    std::fs::create_dir(world.path("later")).unwrap();
    daemon.wait_for("listening on the control socket again");
    assert!(!socket.exists());
    assert!(!world.ok(&["status"]).contains("problem"));
    daemon.stop();
}

/// The running daemon has its admin key in memory, and its next start would have none.
#[test]
fn reload_without_an_admin_key_is_applied_and_fails() {
    let world = world();
    let daemon = running(&world);
    let key = world.path("admin-key");
    let content = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let output = world.run(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("reloaded "));
    let said = text(&output.stderr);
    assert!(said.contains("the admin key cannot be read: "), "{said}");
    assert!(said.contains("admin-key"), "{said}");
    std::fs::write(&key, content).unwrap();
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    world.ok(&["reload"]);
    daemon.stop();
}

/// The probe of a container has the daemon's user, and no cookie.
#[test]
fn probes_need_no_proof() {
    let mut world = world();
    let daemon = running(&world);
    let socket = world.path("control.sock");
    let probe = |path| {
        let (status, answer) = control_socket::ask(&socket, None, ["GET", path, ""]);
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        (status, body)
    };
    let started_at = Instant::now();
    // The first reconciliation may be under way.
    while probe("/ready").0 != 200 {
        assert!(started_at.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(probe("/ready").1, serde_json::json!({"ready": true}));
    world.stop_sandbox();
    world.ok(&["rotate", "billing", "--no-wait"]);
    let started_at = Instant::now();
    let problem = loop {
        let (status, body) = probe("/ready");
        if status == 503 {
            break body["error"].as_str().unwrap().to_owned();
        }
        assert!(started_at.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(problem.contains("provider"), "{problem}");
    // The provider's problem is none of the main loop's.
    let live = serde_json::json!({"live": true});
    assert_eq!(probe("/live"), (200, live));
    daemon.stop();
}
