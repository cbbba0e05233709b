//! The exit code of each command on success and on failure.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::{Command, Stdio};

use rustix::process::{Gid, Pid, Signal, Uid, kill_process};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};
use serde_json::json;

use crate::configuration::exit_codes as configuration;
use crate::recording::Recording;
use crate::scenario::Scenario;
use crate::support::{ChildGuard, binary, text, write};

const FILE: &str = "exit-codes";

/// The id of a user without any rights.
const NOBODY: u32 = 65_534;

pub(crate) fn run() -> Recording {
    let mut scenario = Scenario::start(&[]);
    record_usage(&mut scenario);
    record_configurations(&mut scenario);
    scenario.configure(&configuration::good());
    for (name, command) in [
        ("check", &["check"][..]),
        ("check online", &["check", "--online"]),
        ("status without a ledger", &["status"]),
        ("history without a ledger", &["history"]),
        ("schedule without a ledger", &["schedule"]),
        ("audit without a ledger", &["audit"]),
        ("reload without a daemon", &["reload"]),
        ("rotate", &["rotate", "billing"]),
        ("rotate a key that is not configured", &["rotate", "nobody"]),
        ("once", &["once"]),
        ("status", &["status"]),
        ("status of one key", &["status", "billing"]),
        (
            "status of a key that is not configured",
            &["status", "nobody"],
        ),
        ("history", &["history"]),
        (
            "history of a key that is not configured",
            &["history", "nobody"],
        ),
        ("history as CSV", &["history", "--csv"]),
        ("schedule", &["schedule"]),
        (
            "schedule of a key that is not configured",
            &["schedule", "nobody"],
        ),
        ("audit", &["audit"]),
        ("pause", &["pause", "billing"]),
        (
            "pause until a time that is over",
            &["pause", "billing", "--until", "2020-01-01T00:00:00Z"],
        ),
        ("resume", &["resume", "billing"]),
        ("hold", &["hold", "billing"]),
        ("hold of an unknown credential", &["hold", "key_none"]),
        ("release", &["release", "billing"]),
        ("revoke of an unknown credential", &["revoke", "key_none"]),
        (
            "adopt of an unknown credential",
            &["adopt", "billing", "key_none"],
        ),
    ] {
        scenario.record_command(FILE, name, command);
    }
    let current = scenario.credential("billing", "current");
    let revoke = ["revoke", &current];
    scenario.record_command(FILE, "revoke what a sink may hold", &revoke);
    let revoke = ["revoke", &current, "--force"];
    scenario.record_command(FILE, "revoke by force", &revoke);
    record_daemon(&mut scenario);
    record_signals(&mut scenario);
    // These ledgers have no records.
    scenario.know_names();
    record_ledgers(&mut scenario);
    scenario.finish()
}

/// Records wrong command lines, and commands that only print.
fn record_usage(scenario: &mut Scenario) {
    for (name, command) in [
        ("no command", &[][..]),
        ("an unknown command", &["launch"]),
        ("an unknown option", &["once", "--fast"]),
        ("rotate without a key", &["rotate"]),
        ("rotate of keys and all", &["rotate", "billing", "--all"]),
        ("history as JSON and CSV", &["history", "--json", "--csv"]),
        ("schedule of no firing", &["schedule", "-n", "0"]),
        (
            "hold until no time",
            &["hold", "billing", "--until", "tomorrow"],
        ),
        ("once for no duration", &["once", "--for", "long"]),
        (
            "sandbox with an unknown fault",
            &["sandbox", "--fault", "create:odd:1"],
        ),
        ("help", &["--help"]),
        ("help of a command", &["rotate", "--help"]),
        ("version", &["--version"]),
        ("man", &["man"]),
        ("man of a command", &["man", "rotate"]),
        ("man of an unknown command", &["man", "launch"]),
        ("completions", &["completions", "bash"]),
        ("completions for an unknown shell", &["completions", "none"]),
    ] {
        scenario.record_command(FILE, name, command);
    }
}

/// Records invalid configurations, and one that the host may repair.
fn record_configurations(scenario: &mut Scenario) {
    let rehearsal = scenario.path("config.toml").display().to_string();
    let rehearse = ["demo", "--rehearse", &rehearsal];
    let commands = [
        &["check"][..],
        &["run"],
        &["once"],
        &["rotate", "--all"],
        &["revoke", "key_none"],
        &["hold", "billing"],
        &["release", "billing"],
        &["adopt", "billing", "key_none"],
        &["pause", "--all"],
        &["resume", "--all"],
        &["reload"],
        &["audit"],
        &["status"],
        &["history"],
        &["schedule"],
        &rehearse,
    ];
    for (name, text) in [
        ("no configuration", None),
        ("no TOML", Some(configuration::NOT_TOML.to_owned())),
        (
            "an unknown option in the configuration",
            Some(configuration::unknown_option()),
        ),
    ] {
        if let Some(text) = text {
            scenario.configure(&text);
        }
        let mut codes = serde_json::Map::new();
        for command in commands {
            let output = scenario.run(command);
            codes.insert(command[0].to_owned(), json!(output.status.code()));
        }
        scenario.record(FILE, name, json!({"exit codes": codes}));
    }
    scenario.configure(&configuration::without_folder());
    for command in [&["check"][..], &["once"]] {
        let name = format!("{} without the folder of a sink", command[0]);
        scenario.record_command(FILE, &name, command);
    }
    // As on a new host: files beside a missing ledger would show that it is gone.
    for ending in ["", "-wal", "-shm", ".lock", ".checkpoint"] {
        let _ = fs::remove_file(scenario.path(&format!("ledger.db{ending}")));
    }
}

/// Records the codes while a daemon holds the ledger.
fn record_daemon(scenario: &mut Scenario) {
    let daemon = scenario.daemon();
    for (name, command) in [
        ("run beside a daemon", &["run"][..]),
        (
            "run with take-over beside a daemon",
            &["run", "--take-over"],
        ),
        ("once beside a daemon", &["once"]),
        ("rotate by the daemon", &["rotate", "billing"]),
        (
            "rotate by the daemon without waiting",
            &["rotate", "billing", "--no-wait"],
        ),
        ("reload by the daemon", &["reload"]),
        ("status beside a daemon", &["status"]),
        ("check beside a daemon", &["check"]),
    ] {
        scenario.record_command(FILE, name, command);
    }
    scenario.configure(&configuration::another_ledger());
    scenario.record_command(FILE, "reload to another ledger", &["reload"]);
    scenario.configure(&configuration::unknown_option());
    scenario.record_command(FILE, "reload of a mistake", &["reload"]);
    scenario.configure(&configuration::without_control_socket());
    let rotate = ["rotate", "billing"];
    scenario.record_command(
        FILE,
        "rotate by a daemon whose socket the file no longer names",
        &rotate,
    );
    scenario.configure(&configuration::good());
    if rustix::process::geteuid().is_root() {
        record_another_user(scenario);
    } else {
        scenario
            .recording
            .skipped
            .push("control-socket-as-another-user".to_owned());
    }
    daemon.stop();
}

fn record_signals(scenario: &mut Scenario) {
    for (name, signal) in [("SIGTERM", Signal::TERM), ("SIGINT", Signal::INT)] {
        let daemon = scenario.daemon();
        daemon.signal(signal);
        let code = daemon.wait().code();
        scenario.record(FILE, &format!("run: {name}"), json!({"exit code": code}));
    }
    scenario.env.restart_sandbox(&["--fault", "create:hang:1"]);
    let mut daemon = scenario.daemon();
    scenario.ok(&["rotate", "billing", "--no-wait"]);
    scenario.wait_for_phase("billing", "intended");
    scenario.wait("the daemon has ended", || {
        daemon.signal(Signal::TERM);
        daemon.is_over()
    });
    let code = daemon.wait().code();
    scenario.record(FILE, "run: a second signal", json!({"exit code": code}));
    scenario.env.restart_sandbox(&[]);
    record_sandbox(scenario);
    let address = scenario.env.base_url.clone();
    let address = address
        .trim_start_matches("http://")
        .trim_end_matches("/v1");
    let used_address = ["sandbox", "--listen", address];
    scenario.record_command(FILE, "sandbox at an address that is taken", &used_address);
}

/// Records a sandbox that is stopped after it printed its address.
fn record_sandbox(scenario: &mut Scenario) {
    let mut command = Command::new(binary());
    command.args(["sandbox", "--listen", "127.0.0.1:0"]);
    let mut sandbox = ChildGuard(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    let stdout = BufReader::new(sandbox.0.stdout.take().unwrap());
    stdout.take(1_024).read_line(&mut line).unwrap();
    assert!(line.starts_with("base-url = "), "{line}");
    let pid = Pid::from_raw(i32::try_from(sandbox.0.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let code = sandbox.0.wait().unwrap().code();
    scenario.record(FILE, "sandbox: SIGTERM", json!({"exit code": code}));
}

/// Records ledgers that are rejected.
fn record_ledgers(scenario: &mut Scenario) {
    scenario.configure(&configuration::another_provider());
    let commands = [
        &["run"][..],
        &["once"],
        &["rotate", "billing"],
        &["check"],
        &["audit"],
        &["status"],
        &["history"],
    ];
    record_codes(scenario, "the ledger of another provider", &commands);
    scenario.configure(&configuration::good());
    if rustix::process::geteuid().is_root() {
        let ledger = scenario.path("ledger.db");
        chown(&ledger, Some(NOBODY), None).unwrap();
        let codes = codes(scenario, &commands);
        scenario.record("exit-codes-as-root", "the ledger of another user", codes);
        chown(&ledger, Some(0), None).unwrap();
    } else {
        scenario
            .recording
            .skipped
            .push("exit-codes-as-root".to_owned());
    }
    for end in ["", "-wal", "-shm"] {
        // Some of the files are missing.
        let _ = fs::remove_file(scenario.path(&format!("ledger.db{end}")));
    }
    write(
        &scenario.path("ledger.db"),
        &"no database, only text. ".repeat(100),
    );
    record_codes(scenario, "a ledger that is no database", &commands);
    fs::remove_file(scenario.path("ledger.db")).unwrap();
    let newer = rusqlite::Connection::open(scenario.path("ledger.db")).unwrap();
    newer
        .pragma_update(None, "user_version", 1_000_000)
        .unwrap();
    drop(newer);
    record_codes(scenario, "a newer ledger", &commands);
    fs::remove_file(scenario.path("ledger.db")).unwrap();
    let demo = [
        "demo",
        "--dir",
        scenario.env.dir.path().to_str().unwrap(),
        "--for",
        "1s",
    ]
    .map(str::to_owned);
    let demo: Vec<&str> = demo.iter().map(String::as_str).collect();
    scenario.record_command(FILE, "demo in a folder that is in use", &demo);
}

fn codes(scenario: &Scenario, commands: &[&[&str]]) -> serde_json::Value {
    let codes = commands.iter().map(|command| {
        let output = scenario.run(command);
        (command[0].to_owned(), json!(output.status.code()))
    });
    json!({"exit codes": codes.collect::<serde_json::Map<_, _>>()})
}

fn record_codes(scenario: &mut Scenario, name: &str, commands: &[&[&str]]) {
    let codes = codes(scenario, commands);
    scenario.record(FILE, name, codes);
}

/// Records another user than root and the daemon's own, who may read and change nothing.
fn record_another_user(scenario: &mut Scenario) {
    for (name, mode) in [("", 0o755), ("control.sock", 0o666)] {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(scenario.path(name), mode).unwrap();
    }
    let requests = [
        ("read", "GET", "/daemon", ""),
        ("change something", "POST", "/pause", "{\"all\":true}"),
        ("an unknown verb", "POST", "/launch", ""),
    ];
    let socket = scenario.path("control.sock");
    // The kernel passes the peer's user id, which is that of the thread alone.
    let answers = std::thread::spawn(move || {
        let (group, user) = (Gid::from_raw(NOBODY), Uid::from_raw(NOBODY));
        set_thread_res_gid(group, group, group).unwrap();
        set_thread_res_uid(user, user, user).unwrap();
        requests.map(|(name, method, path, body)| {
            let stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
            let answer = crate::http::send(stream, method, path, &[], body).unwrap();
            let value = json!({
                "request": format!("{method} {path} {body}").trim_end(),
                "status": answer.status,
                "content-type": answer.header("content-type"),
                "body": answer.value(),
            });
            (name, value)
        })
    });
    for (name, value) in answers.join().unwrap() {
        scenario.record("control-socket-as-another-user", name, value);
    }
    let folder = fs::Permissions::from_mode(0o700);
    fs::set_permissions(scenario.path(""), folder).unwrap();
}

/// Records the commands and their options, from the completions for fish.
pub(crate) fn run_options() -> Recording {
    let mut scenario = Scenario::start(&[]);
    let printed = scenario.run(&["completions", "fish"]).stdout;
    let mut commands = serde_json::Map::new();
    for statement in text(&printed).split("\ncomplete -c rekeyd ").skip(1) {
        let words = words(statement);
        let mut words = words.iter().map(String::as_str);
        let (mut command, mut names, mut values) = (String::new(), Vec::new(), Vec::new());
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_default();
            match word {
                "-n" => value().clone_into(&mut command),
                "-s" => names.push(format!("-{}", value())),
                "-l" => names.push(format!("--{}", value())),
                "-r" => names.push("<value>".to_owned()),
                "-a" => {
                    let all = value().lines().map(|line| line.split('\t').next());
                    values.extend(all.flatten().map(str::to_owned));
                }
                // This is free text.
                "-d" => drop(value()),
                _ => {}
            }
        }
        let command = match command.strip_prefix("__fish_rekeyd_using_subcommand ") {
            Some(command) => command.split(';').next().unwrap().to_owned(),
            None => "rekeyd".to_owned(),
        };
        names.extend((!values.is_empty()).then(|| values.join(" | ")));
        let options = commands.entry(command).or_insert_with(|| json!([]));
        options.as_array_mut().unwrap().push(names.join(" ").into());
    }
    for (command, options) in commands {
        scenario.record("options", &command, options);
    }
    scenario.finish()
}

/// Returns the words of a statement in fish, without quotes.
fn words(statement: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut letters = statement.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', Some('\'')) => word.extend(letters.next()),
            ('\\', Some('"')) => match letters.next() {
                Some('t') => word.push('\t'),
                other => word.extend(other),
            },
            (letter, Some(open)) if letter == open => quote = None,
            ('"' | '\'', None) => quote = Some(letter),
            (' ' | '\n', None) => words.push(std::mem::take(&mut word)),
            (letter, _) => word.push(letter),
        }
    }
    words.push(word);
    words
}
