//! The running daemon with a sink of every type: its control socket, its pages, the input
//! of sinks and channels, and the files that it creates.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::configuration::{environment, service as configuration};
use crate::http;
use crate::recording::Recording;
use crate::scenario::Scenario;
use crate::support::{binary, write};

/// A script that records its arguments, environment, folder and input in files whose names begin
/// with its first argument.
const RECORDER: &str = r#"
to=$1
shift
env >"$to.environment"
pwd >"$to.folder"
cat >"$to.input"
printf '%s\n' "$@" >"$to.arguments"
echo >>"$to.runs"
"#;

/// The number of rotations of the key with all sinks.
const ROTATIONS: usize = 3;

/// The files that rekeyd creates beside those of sinks.
const OWN_FILES: [&str; 3] = ["admin-key", "control", "ledger"];

/// The variables that the shell sets itself.
const OF_THE_SHELL: [&str; 4] = ["PWD", "SHLVL", "_", "OLDPWD"];

pub(crate) fn run() -> Recording {
    let mut scenario = Scenario::start(&[]);
    scenario.configure(&configuration::every_sink());
    write(&scenario.path("record"), RECORDER);
    fs::create_dir(scenario.path("files")).unwrap();
    // A process that was killed during a delivery left this file.
    write(&scenario.path("files/.raw.key.rekeyd"), "half");

    let manager = Manager::of(&mut scenario);
    let daemon = scenario.daemon();
    scenario.wait_for_phase("billing", "current");
    scenario.wait_for_phase("other", "current");
    record_pages(&mut scenario);
    record_control(&mut scenario);
    record_deliveries(&mut scenario);
    record_files(&mut scenario);
    scenario.note_metrics();
    daemon.stop();
    let notified = manager.finish();
    scenario.record("service-manager", "assignments", notified);
    let left = scenario.files(scenario.env.dir.path(), &OWN_FILES);
    scenario.record("created-files", "after the daemon has stopped", left);
    scenario.finish()
}

/// A fake service manager on `$NOTIFY_SOCKET`.
struct Manager {
    socket: PathBuf,
    reader: JoinHandle<BTreeSet<String>>,
}

impl Manager {
    /// The message that ends it.
    const END: &[u8] = b"end";

    fn of(scenario: &mut Scenario) -> Self {
        let socket = scenario.path("service-manager");
        scenario
            .env
            .set_env("NOTIFY_SOCKET", socket.to_str().unwrap());
        scenario.env.set_env("WATCHDOG_USEC", "60000000");
        let listener = UnixDatagram::bind(&socket).unwrap();
        let reader = std::thread::spawn(move || {
            let mut assignments = BTreeSet::new();
            let mut message = [0; 4_096];
            loop {
                let length = listener.recv(&mut message).unwrap();
                if &message[..length] == Self::END {
                    return assignments;
                }
                let message = String::from_utf8_lossy(&message[..length]).into_owned();
                assignments.extend(message.lines().map(|line| match line.split_once('=') {
                    Some(("STATUS", _)) => "STATUS=<text>".to_owned(),
                    Some(("MONOTONIC_USEC", _)) => "MONOTONIC_USEC=<microseconds>".to_owned(),
                    _ => line.to_owned(),
                }));
            }
        });
        Self { socket, reader }
    }

    /// Returns every variable that was assigned.
    fn finish(self) -> Value {
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(Self::END, &self.socket).unwrap();
        json!(self.reader.join().unwrap())
    }
}

/// Records the status and the body of each page. A problem is free text.
fn record_pages(scenario: &mut Scenario) {
    for path in ["/healthz", "/readyz", "/metrics", "/other"] {
        scenario.wait("the pages are served", || {
            http::get(&scenario.metrics, path).is_some_and(|page| page.status != 503)
        });
        let page = http::get(&scenario.metrics, path).unwrap();
        let body = match path {
            "/metrics" => "<metrics>",
            _ => page.body.as_str(),
        };
        let value = json!({
            "status": page.status, "content-type": page.header("content-type"), "body": body,
        });
        scenario.record("pages", path, value);
    }
}

/// Records one request with its whole response.
fn ask(scenario: &mut Scenario, name: &str, method: &str, path: &str, body: &str) {
    let answer = scenario.ask(method, path, body).unwrap();
    let value = json!({
        "request": format!("{method} {path} {body}").trim_end(),
        "status": answer.status,
        "content-type": answer.header("content-type"),
        "body": answer.value(),
    });
    scenario.record("control-socket", name, value);
}

fn record_control(scenario: &mut Scenario) {
    ask(scenario, "daemon", "GET", "/daemon", "");
    let first = scenario.credential("billing", "current");
    let reason = "somebody left";
    scenario.normalizer.given(&[reason]);
    let body = format!(r#"{{"keys":["billing"],"reason":"{reason}"}}"#);
    ask(scenario, "rotate", "POST", "/rotate", &body);
    let hold = json!({"what": first, "until": "2099-01-01T00:00:00Z", "reason": reason});
    let until = r#""until":"2099-01-01T00:00:00Z""#;
    let made = scenario.create_by_hand("made-by-hand");
    // Nothing shows that the sink of the other key holds its current credential.
    fs::remove_file(scenario.path("files/other.key")).unwrap();
    for (name, path, body) in [
        (
            "revoke refused",
            "/revoke",
            json!({"credential_id": first}).to_string(),
        ),
        ("hold", "/hold", hold.to_string()),
        ("release", "/release", json!({"what": first}).to_string()),
        ("hold a key", "/hold", r#"{"what":"billing"}"#.to_owned()),
        (
            "release a key",
            "/release",
            r#"{"what":"billing"}"#.to_owned(),
        ),
        (
            "pause",
            "/pause",
            format!(r#"{{"keys":["billing"],{until}}}"#),
        ),
        ("pause all", "/pause", r#"{"all":true}"#.to_owned()),
        ("resume", "/resume", r#"{"keys":["billing"]}"#.to_owned()),
        ("resume all", "/resume", r#"{"all":true}"#.to_owned()),
        (
            "revoke by force",
            "/revoke",
            json!({"credential_id": first, "force": true}).to_string(),
        ),
        (
            "adopt",
            "/adopt",
            json!({"key": "other", "credential_id": made, "name": "made-by-hand"}).to_string(),
        ),
        (
            "release the adopted one",
            "/release",
            json!({"what": made}).to_string(),
        ),
        ("reload", "/reload", String::new()),
    ] {
        ask(scenario, name, "POST", path, &body);
    }
    // Its sinks may hold the adopted credential: a rotation follows by itself.
    scenario.wait("the adopted credential is replaced", || {
        let sql = "SELECT phase FROM history WHERE key = 'other' AND trigger = 'repair'";
        scenario.cell(sql, &[]).as_deref() == Some("current")
    });
    let body = r#"{"all":true,"revoke_previous_now":true,"no_wait":true}"#;
    ask(
        scenario,
        "rotate all without waiting",
        "POST",
        "/rotate",
        body,
    );
    scenario.wait("everything older is revoked", || {
        let live = "SELECT count(*) FROM history WHERE phase NOT IN ('current', 'revoked')";
        let manual_rotations = "SELECT count(*) FROM history WHERE trigger = 'manual'";
        scenario.cell(live, &[]).as_deref() == Some("0")
            && scenario.cell(manual_rotations, &[]).as_deref() == Some("3")
    });
    for (name, method, path, body) in [
        ("no key", "POST", "/rotate", "{}"),
        (
            "keys and all",
            "POST",
            "/rotate",
            r#"{"keys":["billing"],"all":true}"#,
        ),
        (
            "a key that is not configured",
            "POST",
            "/rotate",
            r#"{"keys":["nobody"]}"#,
        ),
        (
            "no name of a key",
            "POST",
            "/pause",
            r#"{"keys":["No Name"]}"#,
        ),
        (
            "no time",
            "POST",
            "/pause",
            r#"{"all":true,"until":"tomorrow"}"#,
        ),
        (
            "an unknown credential",
            "POST",
            "/revoke",
            r#"{"credential_id":"key_none"}"#,
        ),
        (
            "an unknown member",
            "POST",
            "/rotate",
            r#"{"key":"billing"}"#,
        ),
        ("a member is missing", "POST", "/revoke", ""),
        ("no JSON object", "POST", "/rotate", "[1]"),
        ("an unknown verb", "POST", "/launch", "{}"),
        ("an unknown path", "POST", "/a/b", ""),
        ("nothing at the top", "GET", "/", ""),
        ("a method that is not allowed", "GET", "/rotate", ""),
        ("another one", "POST", "/daemon", ""),
    ] {
        ask(scenario, name, method, path, body);
    }
    scenario.configure(&configuration::with_a_mistake());
    ask(scenario, "reload of a mistake", "POST", "/reload", "");
    scenario.configure(&configuration::every_sink());
    let status = ["status", "--json"];
    scenario.wait("the problem is in the ledger", || {
        let output = scenario.run(&status).stdout;
        let status: Value = serde_json::from_slice(&output).unwrap();
        // The rotation that nobody waited for ends, too.
        status["problem"].is_string() && status["keys"][0]["next_rotation_at"].is_string()
    });
    scenario.record_command("status", "a configuration was refused", &status);
    scenario.ok(&["reload"]);
}

/// Records the first delivery of each sink, and the second webhook, which has a previous
/// credential.
fn record_deliveries(scenario: &mut Scenario) {
    let hook = "/hook?token=hidden";
    for (place, name) in [(0, "first"), (1, "with a previous credential")] {
        let webhook = scenario.receiver.received(hook)[place].to_value();
        scenario.record("webhook", name, webhook);
    }
    for (name, program) in [
        ("command sink", "command-sink"),
        ("after a file has changed", "on-change"),
        ("notification", "notification"),
    ] {
        scenario.wait("a program has run for each rotation", || {
            let runs = fs::read_to_string(scenario.path(&format!("{program}.runs")));
            runs.is_ok_and(|runs| runs.lines().count() == ROTATIONS)
        });
        let value = program_value(scenario, program);
        scenario.record("programs", name, value);
    }
    scenario.wait("the notification is posted", || {
        scenario.receiver.received("/notify").len() == ROTATIONS
    });
    let notification = scenario.receiver.received("/notify")[0].to_value();
    scenario.record("notifications", "the whole webhook", notification);
    let read = |name: &str| fs::read_to_string(scenario.path(name)).unwrap();
    let (raw, env) = (read("files/raw.key"), read("files/env"));
    let file: Value = serde_json::from_str(&read("files/json")).unwrap();
    scenario.record("delivered-files", "raw", raw.into());
    scenario.record("delivered-files", "env", env.into());
    scenario.record("delivered-files", "json", file);
}

/// Returns the input of a program in its last run.
fn program_value(scenario: &Scenario, name: &str) -> Value {
    let read = |part: &str| fs::read_to_string(scenario.path(&format!("{name}.{part}"))).unwrap();
    let environment = read("environment");
    let environment: BTreeMap<&str, &str> = environment
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(variable, _)| !OF_THE_SHELL.contains(variable))
        .collect();
    let input = read("input");
    let json: Option<Value> = serde_json::from_str(&input).ok();
    json!({
        "arguments": read("arguments").lines().collect::<Vec<_>>(),
        "environment": environment,
        "folder": read("folder").trim_end(),
        "standard input": json.unwrap_or_else(|| input.as_str().into()),
        "standard input ends with a newline": input.ends_with('\n'),
    })
}

fn record_files(scenario: &mut Scenario) {
    let all = scenario.files(scenario.env.dir.path(), &OWN_FILES);
    scenario.record("created-files", "beside the running daemon", all);
    let delivered = scenario.files(&scenario.path("files"), &[""]);
    scenario.record("created-files", "delivered", delivered);
}

/// Records the rotation of rekeyd's own admin key by a self sink.
pub(crate) fn run_own_credential() -> Recording {
    let mut scenario = Scenario::start(&[]);
    scenario.configure(&configuration::self_credential());
    scenario.ok(&["once"]);
    let content = fs::read_to_string(scenario.path("admin-key")).unwrap();
    scenario.record("delivered-files", "own admin key", content.into());
    let all = scenario.files(scenario.env.dir.path(), &OWN_FILES);
    scenario.record("created-files", "by `once`, with a sink of type self", all);
    scenario.finish()
}

/// Records the effect of a command's environment: the paths of its configuration, its
/// admin key and its ledger.
pub(crate) fn run_environment() -> Recording {
    let mut scenario = Scenario::start(&[]);
    let credentials = scenario.path("credentials");
    fs::create_dir(&credentials).unwrap();
    write(
        &credentials.join("openai-admin-key"),
        &scenario.env.admin_key,
    );
    let state = scenario.path("state");
    fs::create_dir(&state).unwrap();

    scenario.configure(&environment::without_credential_file());
    let admin_key = scenario.env.admin_key.clone();
    let without = scenario.command(&["check", "--online"]);
    record_with(&mut scenario, "no admin key", without, &[]);
    for (variable, value) in [
        ("OPENAI_ADMIN_KEY", admin_key.as_str()),
        ("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap()),
    ] {
        let rotate = scenario.command(&["rotate", "billing"]);
        record_with(&mut scenario, variable, rotate, &[(variable, value)]);
    }
    scenario.configure(&environment::without_ledger());
    // The file holds a key of the former ledger.
    let rotate = scenario.command(&["rotate", "billing", "--replace"]);
    let directory = [("STATE_DIRECTORY", state.to_str().unwrap())];
    record_with(&mut scenario, "STATE_DIRECTORY", rotate, &directory);
    let ledger = scenario.files(&state, &["ledger"]);
    scenario.record("environment", "files in the state directory", ledger);
    let mut status = Command::new(binary());
    status.arg("status").env("STATE_DIRECTORY", &state);
    let config = scenario.path("config.toml").display().to_string();
    record_with(
        &mut scenario,
        "REKEYD_CONFIG",
        status,
        &[("REKEYD_CONFIG", &config)],
    );
    scenario.ledger = state.join("ledger.db");
    scenario.finish()
}

fn record_with(
    scenario: &mut Scenario,
    name: &str,
    mut command: Command,
    variables: &[(&str, &str)],
) {
    command.envs(variables.iter().copied());
    let output = scenario.output_of(command);
    let value = json!({"exit code": output.status.code()});
    scenario.record("environment", name, value);
}
