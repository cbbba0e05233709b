//! `demo --rehearse`: a real configuration without real effects.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::{ChildGuard, binary, read_ledger, text, write};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A host with only a configuration: none of its folders, secrets or ledgers exists.
struct Host {
    dir: TempDir,
}

/// The output of an interrupted rehearsal.
struct RehearsalOutput {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Host {
    /// Returns a host; `keys` come after the provider, and in them `HOST` stands for a
    /// folder that does not exist.
    fn with(keys: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let host = Self { dir };
        let configuration = format!(
            "[provider]\norganization = \"org-real\"\ncredential-file = \"HOST/admin-key\"\n\
             ca-file = \"HOST/roots.pem\"\n[ledger]\npath = \"HOST/ledger.db\"\n{keys}"
        );
        let real = host.path("host").display().to_string();
        write(
            &host.path("config.toml"),
            &configuration.replace("HOST", &real),
        );
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns the rehearsal's path of the file of a file sink at `HOST/name`.
    fn rehearsed(&self, name: &str) -> PathBuf {
        let real = self.path("host").join(name);
        self.path("rehearsal/files")
            .join(real.strip_prefix("/").unwrap())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .env("TMPDIR", self.dir.path())
            // The rehearsal must not use any of these values.
            .env("OPENAI_ADMIN_KEY", "sk-admin-of-the-environment")
            .current_dir(self.dir.path());
        command
    }

    fn rehearse(&self, arguments: &[&str]) -> Output {
        let first = ["demo", "--rehearse", "config.toml", "--dir", "rehearsal"];
        self.command(&[&first, arguments].concat())
            .output()
            .unwrap()
    }

    /// Rehearses until each of `keys` is rotated, and then interrupts.
    fn rehearse_until_current(&self, keys: usize) -> RehearsalOutput {
        let mut child = self
            .command(&["demo", "--rehearse", "config.toml", "--dir", "rehearsal"])
            // A rehearsal that never gets there ends by itself.
            .args(["--for", "60s"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut errors = child.stderr.take().unwrap();
        let mut demo = ChildGuard(child);
        let mut out = String::new();
        while out.matches("is the current credential").count() < keys
            && lines.read_line(&mut out).unwrap() > 0
        {}
        let pid = Pid::from_raw(i32::try_from(demo.0.id()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        lines.read_to_string(&mut out).unwrap();
        let mut err = String::new();
        errors.read_to_string(&mut err).unwrap();
        RehearsalOutput {
            code: demo.0.wait().unwrap().code(),
            out,
            err,
        }
    }
}

/// Returns every file below `folder`, by its path in it.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            found.extend(files(&path).iter().map(|file| format!("{name}/{file}")));
        } else {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found.sort();
    found
}

/// Returns two keys whose schedules fire far in the future.
fn two_keys(port: u16) -> String {
    format!(
        r#"
[key.billing]
schedule = "0 3 29 2 *"
overlap = "24h"
verify-interval = "0s"
[[key.billing.sink]]
type = "file"
path = "HOST/etc/billing/openai.key"
mode = "0640"
owner = "nobody-has-this-name"
group = "nobody-has-this-name"
[[key.billing.sink]]
type = "webhook"
url = "https://deploy.example.com/hooks/openai?token=of-the-query"
signing-secret-file = "HOST/webhook-secret"
bearer-token-file = "HOST/bearer"
[key.reports]
schedule = "@yearly"
initial-rotation = "scheduled"
verify-interval = "0s"
[[key.reports.sink]]
type = "webhook"
name = "local"
url = "http://127.0.0.1:{port}/"
signing-secret-file = "HOST/webhook-secret"
[[key.reports.sink]]
type = "command"
argv = ["HOST/put-secret", "a b"]
"#
    )
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn rehearsal_writes_only_its_folder_and_calls_no_receiver() {
    let real_receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    real_receiver.set_nonblocking(true).unwrap();
    let host = Host::with(&two_keys(real_receiver.local_addr().unwrap().port()));
    let rehearsal = host.rehearse_until_current(2);
    assert_eq!(
        rehearsal.code,
        Some(0),
        "{}\n{}",
        rehearsal.out,
        rehearsal.err
    );

    assert!(
        !host.path("host").exists(),
        "neither the file sink's folder nor the ledger of the configuration"
    );
    assert!(
        real_receiver.accept().is_err(),
        "the webhook of the configuration was not called"
    );
    let files_outside: Vec<_> = files(host.dir.path())
        .into_iter()
        .filter(|file| !file.starts_with("rehearsal/"))
        .collect();
    assert_eq!(files_outside, ["config.toml"]);

    let delivered = host.rehearsed("etc/billing/openai.key");
    let secret = std::fs::read_to_string(&delivered).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&delivered), 0o640);
    assert_eq!(mode(delivered.parent().unwrap()), 0o700);
    assert_eq!(mode(&host.path("rehearsal")), 0o700);

    let ledger = read_ledger(&host.path("rehearsal/ledger.db"));
    let current: u64 = ledger
        .query_row(
            "SELECT count(*) FROM history WHERE phase = 'current' AND \"trigger\" = 'first'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(current, 2);

    let record = host.path("rehearsal/webhooks/billing.webhook.jsonl");
    let recorded = lines(&record);
    assert_eq!(recorded.len(), 1);
    assert_eq!(
        recorded[0]["url"], "https://deploy.example.com/hooks/openai",
        "without its query"
    );
    let body = &recorded[0]["body"];
    assert_eq!(body["type"], "key.rotated");
    assert_eq!(body["data"]["key"], "billing");
    let redacted = &body["data"]["credential"]["redacted_value"];
    assert!(redacted.is_string());
    assert_eq!(body["data"]["value"], *redacted);
    let other = lines(&host.path("rehearsal/webhooks/reports.local.jsonl"));
    assert_eq!(other.len(), 1);

    let commands = lines(&host.path("rehearsal/commands/reports.command.jsonl"));
    let shown = "delivered to command (record:commands/reports.command.jsonl)";
    assert!(rehearsal.out.contains(shown), "{}", rehearsal.out);
    assert_eq!(commands.len(), 1);
    let program = host.path("host/put-secret").display().to_string();
    assert_eq!(commands[0]["argv"], serde_json::json!([program, "a b"]));
    assert_eq!(commands[0]["environment"]["REKEYD_SINK"], "command");
    assert_eq!(commands[0]["stdin"], other[0]["body"]["data"]["value"]);

    let read = |name: &str| std::fs::read_to_string(host.path("rehearsal").join(name)).unwrap();
    let whole_record = std::fs::read_to_string(&record).unwrap();
    for secret in [secret, read("admin-key"), read("webhook-secret")] {
        let secret = secret.trim();
        assert!(secret.len() > 20);
        for text in [&rehearsal.out, &rehearsal.err, &whole_record] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    for text in [&rehearsal.out, &rehearsal.err, &whole_record] {
        assert!(!text.contains("of-the-query"), "{text}");
        assert!(!text.contains("OPENAI_ADMIN_KEY"), "{text}");
    }
}

#[test]
fn rehearsal_lists_replacements_and_rotation_times() {
    let host = Host::with(&two_keys(9));
    let RehearsalOutput { out, .. } = host.rehearse_until_current(2);
    let real = host.path("host").display().to_string();
    let line_with = |word: &str| {
        let found = out.lines().find(|line| line.contains(word));
        found.unwrap_or_else(|| panic!("no {word:?} in\n{out}"))
    };
    for (real, instead) in [
        ("https://api.openai.com/v1", "sandbox"),
        (&format!("{real}/admin-key"), "  admin-key"),
        (&format!("{real}/ledger.db"), "  ledger.db"),
        (&format!("{real}/etc/billing/openai.key"), "  files/"),
        (
            "https://deploy.example.com/hooks/openai",
            "webhooks/billing.webhook.jsonl",
        ),
        (
            &format!("{real}/put-secret \"a b\""),
            "commands/reports.command.jsonl",
        ),
    ] {
        assert!(line_with(real).contains(instead), "{out}");
    }
    let ignored = line_with("ignored in a rehearsal: owner");
    assert!(ignored.contains("group = \"nobody-has-this-name\""));
    assert!(line_with("0 3 29 2 *").contains("-02-29T03:00:00Z (in "));
    let (_, history) = out.split_once("What `rekeyd history` shows:").unwrap();
    for key in ["billing", "reports"] {
        assert!(history.contains(&format!("\n{key} ")), "{out}");
    }
    assert!(out.contains("2 of 2 keys rotated"), "{out}");
}

#[test]
fn rehearsal_names_a_key_that_did_not_rotate() {
    let sink = |key: &str, path: &str| {
        format!(
            "[key.{key}]\nschedule = \"@yearly\"\nverify-interval = \"0s\"\n[[key.{key}.sink]]\n\
             type = \"file\"\npath = \"{path}\"\n"
        )
    };
    // The folder of one sink is the file of the other, which is impossible.
    let keys = format!("{}{}", sink("good", "/a/b/c"), sink("never", "/a/b"));
    let output = Host::with(&keys).rehearse(&["--for", "1s"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("never did not rotate: "), "{stderr}");
    assert!(stderr.contains("not a regular file"), "{stderr}");
    assert!(!stderr.contains("good did not"), "{stderr}");
    assert!(text(&output.stdout).contains("1 of 2 keys rotated"));
}

#[test]
fn rehearsal_reports_problems_as_check_does() {
    let keys = two_keys(9)
        .replace("0640", "0644")
        .replace("@yearly", "@never");
    let host = Host::with(&keys);
    let rehearsed = host.rehearse(&[]);
    let checked = host
        .command(&["check", "--config", "config.toml"])
        .output()
        .unwrap();
    assert_eq!(rehearsed.status.code(), Some(78));
    assert_eq!(checked.status.code(), Some(78));
    assert_eq!(text(&rehearsed.stderr), text(&checked.stderr));
    assert_eq!(text(&checked.stderr).lines().count(), 2);
    assert_eq!(text(&rehearsed.stdout), "");
    assert_eq!(files(host.dir.path()), ["config.toml"]);
}

#[test]
fn rehearsal_refuses_a_folder_in_use() {
    let host = Host::with(&two_keys(9));
    std::fs::create_dir(host.path("rehearsal")).unwrap();
    for (arguments, name) in [
        (["--rehearse", "config.toml"], "admin-key"),
        (["--for", "1s"], "config.toml"),
    ] {
        let folder = host.path("rehearsal").join(name);
        write(&folder, "the real one");
        let output = host
            .command(&["demo", "--dir", "rehearsal"])
            .args(arguments)
            .output()
            .unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains(&format!("{name} already exists in")),
            "{stderr}"
        );
        assert_eq!(std::fs::read_to_string(&folder).unwrap(), "the real one");
        assert_eq!(files(&host.path("rehearsal")), [name]);
        std::fs::remove_file(&folder).unwrap();
    }
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(host.path("rehearsal"), open).unwrap();
    let output = host.rehearse(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is world-writable; hint: choose a --dir"));
    assert!(files(&host.path("rehearsal")).is_empty());
}

#[test]
fn rehearsal_creates_a_fresh_folder_by_default() {
    let host = Host::with(&two_keys(9));
    let output = host
        .command(&["demo", "--rehearse", "config.toml", "--for", "0s"])
        .output()
        .unwrap();
    let out = text(&output.stdout);
    let fresh: Vec<_> = std::fs::read_dir(host.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    let [fresh] = &fresh[..] else {
        panic!("one folder, not {fresh:?}")
    };
    assert!(out.contains(&fresh.display().to_string()), "{out}");
    let mode = std::fs::metadata(fresh).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
}

/// The output can be parsed for any name of the folder.
#[test]
fn rehearsal_folder_name_is_unrestricted() {
    let host = Host::with(&two_keys(9));
    let folder = "a \"b\\t";
    let output = host
        .command(&["demo", "--dir", folder, "--for", "1s"])
        .output()
        .unwrap();
    let stderr = text(&output.stderr);
    assert_ne!(output.status.code(), Some(78), "{stderr}");
    let created = files(&host.path(folder));
    assert!(
        created.contains(&"ledger.db".to_owned()),
        "{created:?} {stderr}"
    );
    let refused = host.command(&["demo", "--dir", "a\tb"]).output().unwrap();
    let stderr = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("contains a control character"), "{stderr}");
    assert!(!host.path("a\tb").exists());
}
