//! The operator's commands about credentials, through the binary.

use std::fs::File;
use std::io::Write as _;
use std::process::Output;
use std::time::Duration;

use rekeyd::core::ids::{CredentialId, Label};
use rekeyd::provider::Provider;

use crate::support::daemon::Daemon;
use crate::support::host::{has_program, has_root, report_missing, report_unsupported};
use crate::support::{TestEnv, file_key_text, has_machine_id, text, write_ledger};
use crate::terminal::run_on_terminal;

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Calls the API as another administrator's tool would.
fn with_provider<T>(world: &TestEnv, work: impl AsyncFnOnce(&dyn Provider) -> T) -> T {
    let url = world.base_url.parse().unwrap();
    let cell = crate::adapter::credential_with(&world.admin_key);
    let provider = crate::adapter::adapter_with(&url, Duration::from_secs(10), cell);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work(&provider))
}

fn create_manually(world: &TestEnv, name: &str) -> String {
    let label = Label::from_recorded(name.to_owned());
    let created = with_provider(world, async |provider| provider.create(&label, None).await);
    created.unwrap().value.metadata.id.as_str().to_owned()
}

pub(crate) fn delete_manually(world: &TestEnv, id: &str) {
    let id = CredentialId::new(id.to_owned());
    with_provider(world, async |provider| provider.delete(&id).await).unwrap();
}

/// Returns a key that was rotated `times` times, with a long overlap.
fn rotated(times: usize) -> TestEnv {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    for _ in 0..times {
        world.ok(&["rotate", "billing"]);
    }
    world
}

fn credential(world: &TestEnv, place: usize) -> String {
    let history = world.history();
    history[place]["credential_id"].as_str().unwrap().to_owned()
}

fn phase(world: &TestEnv, place: usize) -> String {
    world.history()[place]["phase"].as_str().unwrap().to_owned()
}

#[test]
fn credential_a_sink_may_hold_is_revoked_only_with_force() {
    let world = rotated(2);
    let (current, retired) = (credential(&world, 0), credential(&world, 1));
    for (id, message) in [(&current, "held by file"), (&retired, "consumers of file")] {
        let refused = world.run(&["revoke", id]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr(&refused).contains(message), "{}", stderr(&refused));
    }
    let output = world.run(&["revoke", &retired, "--force", "--reason", "leaked"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), format!("revoked {retired}\n"));
    assert_eq!(phase(&world, 1), "revoked");
    assert_eq!(phase(&world, 0), "current");
}

#[test]
fn unrecognized_credential_is_not_revoked() {
    let world = rotated(1);
    let refused = world.run(&["revoke", "key_unknown", "--force"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("not in this ledger"),
        "{}",
        stderr(&refused)
    );
}

#[test]
fn revoke_previous_now_skips_the_overlap() {
    let world = rotated(2);
    world.ok(&["rotate", "billing", "--revoke-previous-now"]);
    world.ok(&["once"]);
    assert_eq!(phase(&world, 0), "current");
    assert_eq!(phase(&world, 1), "revoked");
    assert_eq!(phase(&world, 2), "revoked");
}

/// Only a person at a terminal is asked; scripts go on.
#[test]
fn end_of_every_older_credential_is_confirmed_at_a_terminal() {
    let world = rotated(1);
    let arguments = ["rotate", "--all", "--revoke-previous-now"];
    let prompt = "[y/N] ";
    for answer in ["n", "", "all"] {
        let (is_done, shown) = run_on_terminal(&world, &arguments, prompt, answer);
        assert!(!is_done, "{answer:?}: {shown}");
        assert!(
            shown.contains("cancelled; nothing was rotated"),
            "{answer:?}: {shown}"
        );
        assert_eq!(world.history().len(), 1, "{answer:?}");
    }
    let (is_done, shown) = run_on_terminal(&world, &arguments, prompt, "y");
    assert!(is_done, "{shown}");
    assert!(shown.contains("Rotate all keys, and revoke"), "{shown}");
    let agreed = [&arguments[..], &["--yes"]].concat();
    for arguments in [&agreed[..], &["rotate", "billing", "--revoke-previous-now"]] {
        let (is_done, shown) = run_on_terminal(&world, arguments, prompt, "n");
        assert!(is_done && !shown.contains(prompt), "{shown}");
    }
    world.ok(&arguments);
    assert_eq!(world.history().len(), 5);
    let alone = world.run(&["rotate", "billing", "--yes"]);
    assert_eq!(alone.status.code(), Some(2));
}

#[test]
fn hold_and_release_are_recorded_and_shown() {
    let world = rotated(1);
    let id = credential(&world, 0);
    let message = world.ok(&["hold", &id, "--until", "2031-01-01T00:00:00Z"]);
    assert_eq!(
        message,
        format!("billing: holding {id} until 2031-01-01T00:00:00Z\n")
    );
    let released = world.ok(&["release", "billing"]);
    assert_eq!(released, format!("billing: released {id}\n"));
}

#[test]
fn manually_created_credential_is_adopted_once() {
    let world = rotated(1);
    let created = create_manually(&world, "somebody");
    let asked = world.run(&["adopt", "billing", &created]);
    assert_eq!(asked.status.code(), Some(1));
    let message = stderr(&asked);
    for part in [
        "\"somebody\" does not look like a label of billing",
        "no file of its sinks holds its secret",
        "belongs to",
        "was created at 2",
        "never used",
        "--name somebody --yes",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let named = |name| ["adopt", "billing", &created, "--name", name, "--yes"];
    let wrong = world.run(&named("somebody else"));
    assert!(stderr(&wrong).contains("not as \"somebody else\""));
    assert_eq!(world.history().len(), 1);
    let adopted = world.ok(&named("somebody"));
    assert!(adopted.contains(&format!("on hold until `rekeyd release {created}`")));
    let start = format!("billing: adopted {created}; every sink holds");
    assert!(adopted.starts_with(&start), "{adopted}");
    let end =
        format!(", but not before its hold ends; it is on hold until `rekeyd release {created}`");
    assert!(adopted.contains(&end), "{adopted}");
    assert_eq!(phase(&world, 0), "retired");
    let again = world.run(&["adopt", "billing", &created]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        stderr(&again).contains("in this ledger"),
        "{}",
        stderr(&again)
    );
    let refused = world.run(&["revoke", &created]);
    assert_eq!(refused.status.code(), Some(1), "any sink may hold it");
}

#[test]
fn audit_separates_managed_from_unrecognized_credentials() {
    let world = rotated(2);
    let unknown = create_manually(&world, "somebody");
    let output = world.run(&["audit"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let output_text = stdout(&output);
    assert_eq!(output_text.matches("\nlive ").count(), 2, "{output_text}");
    let line = output_text
        .lines()
        .find(|line| line.contains(&unknown))
        .unwrap();
    assert!(line.starts_with("foreign"), "{line}");
    delete_manually(&world, &credential(&world, 0));
    let output = world.run(&["audit"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).contains("\nmissing "),
        "{}",
        stdout(&output)
    );
}

/// If the list and the ledger disagree, the audit retrieves the credential itself.
#[test]
fn audit_verifies_against_a_stale_list() {
    let mut world = TestEnv::start(&["--fault", "list:stale-list:1"]);
    world.configure(&file_key_text("24h"));
    world.ok(&["once"]);
    let stdout = world.ok(&["audit"]);
    assert!(stdout.contains("\nlive "), "{stdout}");
    // A sandbox without changes lists its present state.
    world.restart_sandbox(&["--fault", "list:stale-list:1"]);
    let stdout = world.ok(&["audit"]);
    assert!(stdout.contains("\nlive "), "{stdout}");
    assert!(stdout.contains("foreign"), "its admin key: {stdout}");
}

#[test]
fn audit_refuses_another_organization() {
    let world = rotated(1);
    let ledger = write_ledger(&world.path("ledger.db"));
    ledger
        .execute("UPDATE scope SET organization = 'org-other'", [])
        .unwrap();
    let output = world.run(&["audit"]);
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    assert!(stderr(&output).contains("org-other"), "{}", stderr(&output));
}

#[test]
fn ledger_of_another_host_needs_take_over() {
    let world = rotated(1);
    let ledger = write_ledger(&world.path("ledger.db"));
    let host: Option<String> = ledger
        .query_row("SELECT host FROM ledger_identity", [], |row| row.get(0))
        .unwrap();
    assert_eq!(host.is_some(), has_machine_id());
    ledger
        .execute("UPDATE ledger_identity SET host = 'another'", [])
        .unwrap();
    if !has_machine_id() {
        // A host without an id is not compared, and the daemon says so.
        let mut daemon = Daemon::start(&world);
        daemon.wait_for("this host has no machine id");
        daemon.stop();
        return;
    }
    // An older rekeyd there could not read a migrated ledger.
    ledger
        .execute(
            "INSERT INTO condition VALUES ('daemon', 'clock', '2026-11-24T03:00:00Z', 'another''s')",
            [],
        )
        .unwrap();
    let refused = world.run(&["once"]);
    assert_eq!(refused.status.code(), Some(78));
    let count: i64 = ledger
        .query_row("SELECT count(*) FROM condition", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 1);
    drop(ledger);
    assert!(
        stderr(&refused).contains("--take-over"),
        "{}",
        stderr(&refused)
    );
    let mut daemon = Daemon::start_with_take_over(&world);
    daemon.wait_for(" started");
    drop(daemon);
    world.ok(&["once"]);
}

/// Only root can give a ledger to another user; other users have nothing to test.
#[test]
fn root_does_not_write_another_users_ledger() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("1s"));
    world.ok(&["once"]);
    let ledger = world.path("ledger.db");
    if !has_root() {
        return;
    }
    std::os::unix::fs::chown(&ledger, Some(65_534), None).unwrap();
    let before = world.history().len();
    for arguments in [&["once"][..], &["run", "--take-over"]] {
        let output = world.run(arguments);
        assert_eq!(output.status.code(), Some(1));
        let stderr = text(&output.stderr);
        assert!(stderr.contains("belongs to nobody"), "{stderr}");
        let line = stderr.split("run: ").nth(1).unwrap().trim();
        let expected = format!(
            "runuser -u nobody -- {} --config ",
            crate::support::binary().display()
        );
        assert!(line.starts_with(&expected), "{line}");
    }
    assert_eq!(world.history().len(), before);

    // Beside a writer no other command would help.
    let mut lock = File::options()
        .write(true)
        .open(world.path("ledger.db.lock"))
        .unwrap();
    lock.lock().unwrap();
    lock.set_len(0).unwrap();
    let holder = format!("rekeyd run (process {})", std::process::id());
    write!(lock, "{holder}").unwrap();
    for arguments in [&["once"][..], &["run"], &["run", "--take-over"]] {
        let output = world.run(arguments);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(75), "{stderr}");
        assert!(
            stderr.contains(&format!("is in use by {holder}")),
            "{stderr}"
        );
        assert!(!stderr.contains("run: "), "{stderr}");
        let names_rotate = stderr.contains("`rekeyd rotate KEY`");
        assert_eq!(names_rotate, arguments == ["once"], "{stderr}");
    }
}

/// Root's commands work as the owner of the ledger where no unit runs the
/// configuration, and leave no file of root's.
#[test]
fn command_of_root_works_as_the_owner_of_the_ledger() {
    const NOBODY: u32 = 65_534;
    let mut world = TestEnv::start(&[]);
    world.configure(&file_key_text("1s"));
    world.keep_configuration_apart();
    world.ok(&["once"]);
    let chown = |name: &str| std::os::unix::fs::chown(world.path(name), Some(NOBODY), Some(NOBODY));
    if chown("").is_err() {
        report_missing("the rights of root, to give files away");
        return;
    }
    for entry in std::fs::read_dir(world.path("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name != "sandbox.json" {
            chown(&name).unwrap();
        }
    }
    let reachable = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(crate::support::binary())
        .arg("--version")
        .output();
    if !reachable.is_ok_and(|output| output.status.success()) {
        if has_program("setpriv") {
            report_unsupported("another user does not reach the binary");
        }
        return;
    }
    let output = world.run(&["check"]);
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let stdout = text(&output.stdout);
    assert!(
        stdout.contains("checked as nobody, the owner of the ledger"),
        "{stdout}"
    );
    // The admin key of the service is not root's.
    let output = world.run(&["check", "--as-invoker"]);
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("checked with root's own rights"),
        "{stderr}"
    );
    assert!(stderr.contains("belongs to nobody (uid 65534)"), "{stderr}");
    let of_service = stderr.lines().filter(|line| !line.contains("key.billing"));
    assert!(
        of_service.into_iter().all(|line| !line.contains("chown")),
        "{stderr}"
    );
    world.ok(&["audit"]);
    let before = world.history().len();
    assert_eq!(world.ok(&["rotate", "billing"]), "billing: rotated\n");
    assert_eq!(world.history().len(), before + 1);
    for entry in std::fs::read_dir(world.path("")).unwrap() {
        use std::os::unix::fs::MetadataExt as _;
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name != "config.toml" && name != "sandbox.json" {
            assert_eq!(entry.metadata().unwrap().uid(), NOBODY, "{name}");
        }
    }
}
