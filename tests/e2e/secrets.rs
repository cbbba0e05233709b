//! Secrets are only in memory and at their sinks, at every log level and even if the
//! provider or a receiver echoes them.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::function_server::ServedRequest;
use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text, scratch_dir, text, write};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use rekeyd::platform::clock::{Clock as _, SystemClock};
use rekeyd::platform::log::filter::{MODULES, OTHER_CRATES};
use serde_json::json;

// None of them has the form of the provider's secrets, so that redaction by form does not
// help.
const ADMIN_KEY: &str = "own+admin/key-of-the-tests-0123456789-KLMNOPQRSTUVWXYZ";
const REFUSED_KEY: &str = "refused+key/of-the-tests-0123456789-ZYXWVUTSRQ";
const NEW_SECRET: &str = "new+secret/of-the-tests-0123456789-ABCDEFGHIJ";
const SIGNING: &str = "whsec_c2lnbmluZy1zZWNyZXQtb2YtdGhlLXRlc3RzLTEyMzQ1Njc4";
const TOKEN: &str = "bearer/token+of-the-tests-0123456789";
const QUERY: &str = "query-of-the-tests-0123456789";

/// A script that echoes its input to both outputs, raw, as base64 and as wrapped base64,
/// and that fails at the first attempt.
const COMMAND: &str = r#"#!/bin/sh
secret=$(cat)
for form in "$secret" "$(printf %s "$secret" | base64 -w 0)" "$(printf %s "x$secret" | base64 -w 20)"
do
    printf 'command echo %s\n' "$form"
    printf 'command echo %s\n' "$form" >&2
done
[ -e "$1/tmp/$REKEYD_SEQUENCE" ] || { : >"$1/tmp/$REKEYD_SEQUENCE"; exit 1; }
"#;

/// A value in the environment, to prove that the environment was read.
const MARK: &str = "mark-of-the-tests";

/// How long one part of the test waits for another.
const PATIENCE: Duration = Duration::from_secs(60);

fn new_secret(number: usize) -> String {
    format!("{NEW_SECRET}-{number}")
}

/// Returns a text with every value that the server knows.
fn echo(knows: &[&str]) -> String {
    let encoded: Vec<_> = knows
        .iter()
        .map(|text| STANDARD_NO_PAD.encode(text))
        .collect();
    format!("echo {} {}", knows.join(" "), encoded.join(" "))
}

/// A provider that fails the first request of each kind, with every value that it knows
/// in the error.
#[derive(Default)]
struct Provider {
    made: Vec<String>,
    /// The names that were asked for, in the same order.
    names: Vec<String>,
    failed: Vec<String>,
    deleted: Vec<String>,
}

impl Provider {
    fn answer(&mut self, request: &ServedRequest) -> (u16, String) {
        let secret = request
            .header("authorization")
            .trim_start_matches("Bearer ");
        let (path, _) = request
            .path
            .split_once('?')
            .unwrap_or((&request.path, ""))
            .to_owned();
        let id = path.split("/admin_api_keys/").nth(1);
        let once = match id {
            Some(id) => format!("{} {id}", request.method),
            None => secret.to_owned(),
        };
        if secret != ADMIN_KEY && !self.made.iter().any(|made| made == secret) {
            return error(401, "invalid_api_key", &echo(&[secret]));
        }
        if (id.is_some() || secret != ADMIN_KEY) && !self.failed.contains(&once) {
            self.failed.push(once);
            return error(500, "echo", &echo(&[secret, &request.body]));
        }
        let body: serde_json::Value = serde_json::from_str(&request.body).unwrap_or_default();
        if request.method == "POST" {
            self.names.push(body["name"].as_str().unwrap().to_owned());
        }
        let key = |number: usize, names: &[String]| {
            let secret = new_secret(number);
            let end = &secret[secret.len() - 3..];
            json!({"object": "organization.admin_api_key", "id": format!("key_echo_{number}"),
                "redacted_value": format!("...{end}"), "created_at": SystemClock.now().as_second(),
                "name": names[number - 1]})
        };
        match (request.method.as_str(), id) {
            ("POST", None) => {
                let number = self.made.len() + 1;
                self.made.push(new_secret(number));
                let mut key = key(number, &self.names);
                key["value"] = json!(new_secret(number));
                (200, key.to_string())
            }
            // It shows how this provider shows ends.
            ("GET", None) => {
                let end = &ADMIN_KEY[ADMIN_KEY.len() - 3..];
                let own = json!({"object": "organization.admin_api_key", "id": "key_own",
                    "redacted_value": format!("...{end}"), "created_at": 1, "name": "own"});
                (200, json!({"data": [own], "has_more": false}).to_string())
            }
            ("GET", Some(id)) if self.deleted.iter().any(|deleted| deleted == id) => {
                error(404, "not_found", "No such key")
            }
            ("GET", Some(id)) => {
                let number = id.trim_start_matches("key_echo_").parse().unwrap();
                (200, key(number, &self.names).to_string())
            }
            _ => {
                self.deleted.extend(id.map(str::to_owned));
                (200, json!({"id": id, "deleted": true}).to_string())
            }
        }
    }
}

fn error(status: u16, code: &str, message: &str) -> (u16, String) {
    let error = json!({"error": {"message": message, "code": code, "type": "x", "param": null}});
    (status, error.to_string())
}

/// Returns a receiver that rejects requests on demand, with the whole request in the
/// response.
fn receiver(refuses: Arc<AtomicBool>, asked: Sender<()>) -> String {
    let answer = move |request: &ServedRequest| {
        // The later parts of the test wait no more.
        let _ = asked.send(());
        if !refuses.load(Ordering::SeqCst) {
            return (200, String::new());
        }
        let event: serde_json::Value = serde_json::from_str(&request.body).unwrap();
        let value = event["data"]["value"].as_str().unwrap();
        let token = request.header("authorization");
        (
            500,
            echo(&[value, token, SIGNING, &request.path, &request.body]),
        )
    };
    crate::function_server::serve_with(answer, String::new)
}

/// The secrets, and all the ways in which they can be written.
struct Hidden(Vec<(String, String)>);

impl Hidden {
    fn all() -> Self {
        let (one, two) = (new_secret(1), new_secret(2));
        let signing = SIGNING.strip_prefix("whsec_").unwrap();
        let mut forms = Vec::new();
        for secret in [
            ADMIN_KEY,
            REFUSED_KEY,
            &one,
            &two,
            SIGNING,
            signing,
            TOKEN,
            QUERY,
        ] {
            forms.push((secret.to_owned(), secret.to_owned()));
            for shift in 0..3 {
                // The part that base64 of any surrounding text contains.
                let padded = format!("{}{secret}", "x".repeat(shift));
                for form in [
                    STANDARD_NO_PAD.encode(&padded),
                    URL_SAFE_NO_PAD.encode(&padded),
                ] {
                    let form = form[4..form.len() - 2].to_owned();
                    forms.push((secret.to_owned(), form));
                }
            }
        }
        Self(forms)
    }

    /// Returns the secrets in `bytes`.
    fn found(&self, bytes: &[u8]) -> Vec<&str> {
        let gives = |form: &str| contains(bytes, form);
        let found = self.0.iter().filter(|(_, form)| gives(form));
        let mut found: Vec<_> = found.map(|(secret, _)| secret.as_str()).collect();
        found.dedup();
        found
    }

    fn assert_none(&self, where_: &str, bytes: &[u8]) {
        let found = self.found(bytes);
        assert!(found.is_empty(), "{where_}: {found:?}");
    }
}

fn contains(bytes: &[u8], expected: &str) -> bool {
    bytes
        .windows(expected.len())
        .any(|window| window == expected.as_bytes())
}

/// Returns every file below a folder, by its path in it.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                // The control socket cannot be read.
                let name = path.strip_prefix(folder).unwrap().to_owned();
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found
}

/// An environment in which every peer echoes.
struct Echoing {
    world: TestEnv,
    refuses: Arc<AtomicBool>,
    asked: Receiver<()>,
    hidden: Hidden,
}

impl Echoing {
    fn start() -> Self {
        let provider = Mutex::new(Provider::default());
        let date = || {
            SystemClock
                .now()
                .strftime("%a, %d %b %Y %H:%M:%S GMT")
                .to_string()
        };
        let base = crate::function_server::serve_with(
            move |request| provider.lock().unwrap().answer(request),
            date,
        );
        let refuses = Arc::new(AtomicBool::new(true));
        let (sender, asked) = channel();
        let receiver = receiver(Arc::clone(&refuses), sender);
        let world = TestEnv::without_sandbox(format!("{base}/v1"), ADMIN_KEY, scratch_dir());
        write(&world.path("signing"), SIGNING);
        write(&world.path("token"), TOKEN);
        let script = world.path("put");
        write(&script, COMMAND);
        std::fs::set_permissions(&script, Permissions::from_mode(0o700)).unwrap();
        std::fs::create_dir(world.path("tmp")).unwrap();
        world.configure(&format!(
            "{}[[key.billing.sink]]\ntype = \"webhook\"\nurl = \"{receiver}/hook?token={QUERY}\"\n\
             owner = \"OWN-USER\"\nsigning-secret-file = \"DIR/signing\"\nbearer-token-file = \"DIR/token\"\n\
             [[key.billing.sink]]\ntype = \"command\"\nargv = [\"DIR/put\", \"DIR\"]\n",
            file_key_text("1s")
        ));
        Self {
            world,
            refuses,
            asked,
            hidden: Hidden::all(),
        }
    }

    /// Asserts that only the files for secrets have any.
    fn assert_files(&self, newest: Option<&str>) {
        let files = files(self.world.dir.path());
        let signing = SIGNING.strip_prefix("whsec_").unwrap();
        let delivered = newest.map(|secret| ("billing.key", vec![secret]));
        let mut expected: BTreeMap<_, _> = [
            ("admin-key", vec![ADMIN_KEY]),
            ("signing", vec![SIGNING, signing]),
            ("token", vec![TOKEN]),
            ("config.toml", vec![QUERY]),
        ]
        .into_iter()
        .chain(delivered)
        .collect();
        for (name, bytes) in &files {
            let found = self.hidden.found(bytes);
            let expected = expected.remove(name.to_str().unwrap()).unwrap_or_default();
            assert_eq!(found, expected, "{}", name.display());
        }
        assert!(
            expected.is_empty(),
            "the search finds what is there: {expected:?}"
        );
        for name in [
            "ledger.db",
            "ledger.db-wal",
            "ledger.db-shm",
            "ledger.db.lock",
            "ledger.db.checkpoint",
        ] {
            assert!(files.contains_key(Path::new(name)), "{name} was searched");
        }
        let ledger = ["ledger.db", "ledger.db-wal"].map(|name| &files[Path::new(name)]);
        let is_recorded = |expected| ledger.iter().any(|bytes| contains(bytes, expected));
        assert!(
            is_recorded("key_echo_1") && is_recorded("[secret]"),
            "errors are kept"
        );
    }

    /// Asserts that neither the command line nor the environment of the process has a
    /// secret.
    fn assert_process(&self, daemon: &Daemon) {
        let proc = PathBuf::from(format!("/proc/{}", daemon.id()));
        let limits = std::fs::read_to_string(proc.join("limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core"));
        let core: Vec<_> = core.unwrap().split_whitespace().collect();
        assert_eq!(core[4..6], ["0", "0"], "{core:?}");
        let arguments = std::fs::read(proc.join("cmdline")).unwrap();
        assert!(contains(&arguments, "trace"), "{arguments:?}");
        self.hidden.assert_none("command line", &arguments);
        match std::fs::read(proc.join("environ")) {
            Ok(environment) => {
                assert!(contains(&environment, MARK), "the environment was read");
                self.hidden.assert_none("environment", &environment);
            }
            // The process is hardened, so that only root may read its environment.
            Err(error) => {
                assert!(!rustix::process::geteuid().is_root(), "{error}");
                assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
            }
        }
    }

    /// Gives the running daemon another admin key, and asserts that neither answer has it.
    fn give_admin_key(&self, talkative: &[&str], key: &str, code: i32) {
        let file = self.world.path("given");
        write(&file, key);
        let command = ["use-credential", file.to_str().unwrap()];
        let output = self.world.run(&[talkative, &command].concat());
        std::fs::remove_file(file).unwrap();
        let output_bytes = [output.stdout, output.stderr].concat();
        self.hidden.assert_none("use-credential", &output_bytes);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output_bytes));
    }

    /// Asserts that no command prints a secret at the end.
    fn assert_commands(&self, talkative: &[&str]) {
        for command in [
            &["status"][..],
            &["status", "--json"],
            &["history"],
            &["history", "--json"],
            &["history", "--csv"],
            &["check", "--online"],
        ] {
            let output = self.world.run(&[talkative, command].concat());
            let output_bytes = [output.stdout, output.stderr].concat();
            self.hidden.assert_none(&command.join(" "), &output_bytes);
            let has_run = command[0] == "check" || contains(&output_bytes, "key_echo_2");
            assert!(has_run, "{command:?}: {}", text(&output_bytes));
        }
    }
}

/// Returns the filter that logs everything, also where a module has a level of its own.
fn finest_filter() -> String {
    let named = MODULES.iter().chain(&OTHER_CRATES);
    let named: String = named.map(|name| format!(",{name}=trace")).collect();
    format!("trace{named}")
}

fn assert_no_output_contains_a_secret(format: &str) {
    let mut echoing = Echoing::start();
    let folder = echoing.world.path("tmp");
    echoing.world.set_env("TMPDIR", folder.to_str().unwrap());
    echoing.world.set_env("REKEYD_TEST_MARK", MARK);
    let finest = finest_filter();
    let talkative = ["--log-level", &finest, "--log-format", format];
    let (hidden, world) = (&echoing.hidden, &echoing.world);

    // The first credential: first the provider echoes, then the receiver.
    let mut daemon = Daemon::start_with(world, &talkative);
    echoing.asked.recv_timeout(PATIENCE).unwrap();
    daemon.wait_for("[secret]");
    // The secret is in memory and in its file now, and the receiver has received it.
    echoing.assert_process(&daemon);
    echoing.refuses.store(false, Ordering::SeqCst);
    daemon.wait_for("is the current credential");
    echoing.assert_files(Some(&new_secret(1)));
    let mut log = daemon.stop();

    // The second credential is requested manually; the daemon revokes the first.
    echoing.refuses.store(true, Ordering::SeqCst);
    while echoing.asked.try_recv().is_ok() {}
    let rotate = std::thread::scope(|scope| {
        let command = [&talkative[..], &["rotate", "billing"]].concat();
        let rotate = scope.spawn(move || world.run(&command));
        // The probe before the create sends no secret: this is the delivery.
        echoing.asked.recv_timeout(PATIENCE).unwrap();
        echoing.refuses.store(false, Ordering::SeqCst);
        rotate.join().unwrap()
    });
    let stderr = text(&rotate.stderr);
    assert!(rotate.status.success(), "{stderr}");
    log.push_str(&stderr);
    let mut daemon = Daemon::start_with(world, &talkative);
    daemon.wait_for("revoked the previous");
    for (key, code) in [(REFUSED_KEY, 1), (&new_secret(2), 0)] {
        echoing.give_admin_key(&talkative, key, code);
    }
    log.push_str(&daemon.stop());

    hidden.assert_none("log", log.as_bytes());
    hidden.assert_none("rotate", &rotate.stdout);
    for expected in [
        "TRACE",
        "key_echo_1",
        "key_echo_2",
        "[secret]",
        "echo",
        "command echo [secret]",
        "exited with code 1: ",
    ] {
        assert!(log.contains(expected), "{expected} is in the log:\n{log}");
    }
    echoing.assert_commands(&talkative);
    echoing.assert_files(Some(&new_secret(2)));
}

#[test]
fn text_output_contains_no_secret() {
    assert_no_output_contains_a_secret("human");
}

#[test]
fn json_output_contains_no_secret() {
    assert_no_output_contains_a_secret("json");
}
