//! Two organizations on one host: the default ledger belongs to the default file alone.

use std::process::Command;

use rustix::process::Signal;

use crate::support::daemon::Daemon;
use crate::support::host::report_missing;
use crate::support::{TestEnv, binary, file_key_text, text, write};

/// Runs a script in a mount namespace whose `/var/lib` and `/run` are empty; none if this
/// host lets the test mount nothing. `$1` is the program, and `$2` the folder.
fn run_with_own_host_folders(world: &TestEnv, script: &str) -> Option<String> {
    let mounts = "mount -t tmpfs tmpfs /var/lib && mount -t tmpfs tmpfs /run && \
                  mkdir -m 700 /var/lib/rekeyd /run/rekeyd";
    let run = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-r", "-m", "sh", "-c", script, "sh"]);
        command.arg(binary()).arg(world.dir.path());
        for variable in [
            "OPENAI_ADMIN_KEY",
            "CREDENTIALS_DIRECTORY",
            "STATE_DIRECTORY",
        ] {
            command.env_remove(variable);
        }
        command.env_remove("REKEYD_CONFIG").output()
    };
    if !run(mounts).is_ok_and(|probe| probe.status.success()) {
        report_missing("the right to mount in a namespace (unshare)");
        return None;
    }
    let output = run(&format!("{mounts}; {script}")).unwrap();
    Some(text(&output.stdout) + &text(&output.stderr))
}

/// With the socket of another configuration's daemon, the commands that look show what that
/// one has.
#[test]
fn the_named_socket_decides_whose_ledger_is_shown() {
    let [own, other] = ["billing", "shipping"].map(|key| {
        let world = TestEnv::start(&[]);
        world.configure(&file_key_text("1h").replace("billing", key));
        world
    });
    own.ok(&["once"]);
    let mut daemon = Daemon::start(&other);
    daemon.wait_for("is the current credential key=shipping");
    let socket = other.path("control.sock");
    let named = ["--socket", socket.to_str().unwrap()];
    for command in [
        &["status"][..],
        &["show", "shipping"],
        &["history"],
        &["schedule", "-n", "1"],
    ] {
        let output = own.run(&[command, &named].concat());
        let (printed, warned) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{command:?}: {printed}{warned}");
        assert!(printed.contains("shipping"), "{command:?}: {printed}");
        assert!(!printed.contains("billing"), "{command:?}: {printed}");
        assert!(warned.contains("the running rekeyd uses"), "{warned}");
    }
    let copy = own.path("copy.db");
    own.ok(&[&["backup", copy.to_str().unwrap()], &named[..]].concat());
    let copy = rusqlite::Connection::open(&copy).unwrap();
    let key: String = copy
        .query_row("SELECT key FROM history", [], |row| row.get(0))
        .unwrap();
    assert_eq!(key, "shipping");
    // Two ledgers are none.
    let ledger = own.path("ledger.db");
    let both = [
        &["status", "--ledger", ledger.to_str().unwrap()],
        &named[..],
    ]
    .concat();
    let output = own.run(&both);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("use --socket or --ledger, not both"));
}

/// No command creates anything in another organization, however recent the last comparison
/// with the right one is.
#[test]
fn admin_key_of_another_organization_creates_nothing() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("1h"));
    world.ok(&["once"]);
    assert_nothing_is_created_elsewhere(world);
}

/// After a crash, the ledger may lack what the last comparison found.
#[test]
fn admin_key_of_another_organization_creates_nothing_after_a_crash() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("1h"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential key=billing");
    daemon.signal(Signal::KILL);
    daemon.wait();
    assert_nothing_is_created_elsewhere(world);
}

fn assert_nothing_is_created_elsewhere(mut world: TestEnv) {
    // The same address, and an admin key that is valid there.
    world.stop_sandbox();
    let own = std::fs::read(world.path("sandbox.json")).unwrap();
    std::fs::remove_file(world.path("sandbox.json")).unwrap();
    world.restart_sandbox(&[]);
    std::fs::remove_file(world.path("billing.key")).unwrap();
    for command in [&["once", "--for", "1s"][..], &["rotate", "billing"]] {
        let output = world.run(command);
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{command:?}: {said}");
        assert!(said.contains("another organization"), "{command:?}: {said}");
        assert_eq!(world.live_ids(), [""; 0], "{command:?}: {said}");
        assert_eq!(world.history()[0]["phase"], "current", "{command:?}");
    }
    world.stop_sandbox();
    std::fs::write(world.path("sandbox.json"), own).unwrap();
    world.restart_sandbox(&[]);
    world.ok(&["once"]);
    assert_eq!(world.live_ids().len(), 2, "the repair, and its overlap");
}

#[test]
fn the_default_ledger_is_read_for_the_default_file_alone() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("1h"));
    let named = std::fs::read_to_string(world.path("config.toml")).unwrap();
    let without = |section: &str, text: &str| {
        let start = text.find(section).unwrap();
        let end = start + text[start..].find("\"\n").unwrap() + 2;
        text[..start].to_owned() + &text[end..]
    };
    let unnamed = without("[control]", &without("[ledger]", &named));
    for name in ["first.toml", "second.toml"] {
        let text = unnamed.replace("billing.key", &format!("{name}.key"));
        write(&world.path(name), &text);
    }
    let script = r#"
        first() { "$rekeyd" --config "$dir/first.toml" "$@"; }
        second() { "$rekeyd" --config "$dir/second.toml" "$@"; }
        said() { echo "$1: $?"; }
        rekeyd=$1 dir=$2
        first once >/dev/null 2>&1; said once
        for command in status history schedule audit "backup $dir/copy.db"; do
            second $command; said "second $command"
            second $command --socket /nosuch/control.sock; said "second $command at no socket"
        done
        first status >/dev/null; said "first status"
        second rotate billing; said "second rotate"
        second pause billing; said "second pause"
        second once; said "second once"
        second check; said "second check"
        second status --ledger /var/lib/rekeyd/ledger.db >/dev/null; said "named status"
        "$rekeyd" --config "$dir/first.toml" run >/dev/null 2>"$dir/log" & daemon=$!
        until grep -q " started" "$dir/log"; do kill -0 $daemon || exit 1; done
        first status >/dev/null; said "running first status"
        second status; said "running second status"
        second rotate billing 2>&1; said "running second rotate"
        kill $daemon; wait $daemon
    "#;
    let Some(output) = run_with_own_host_folders(&world, script) else {
        return;
    };
    let refusal = "/var/lib/rekeyd/ledger.db was last used with ";
    assert_eq!(output.matches(refusal).count(), 15, "{output}");
    assert!(!world.path("copy.db").exists());
    for (command, code) in [
        ("once", 0),
        ("second status", 78),
        ("second history", 78),
        ("second schedule", 78),
        ("second audit", 78),
        ("second status at no socket", 78),
        ("second history at no socket", 78),
        ("second schedule at no socket", 78),
        ("second audit at no socket", 78),
        ("first status", 0),
        ("second rotate", 78),
        ("second pause", 78),
        ("second once", 78),
        ("second check", 78),
        ("named status", 0),
        ("running first status", 0),
        ("running second status", 78),
        ("running second rotate", 75),
    ] {
        assert!(
            output.contains(&format!("{command}: {code}\n")),
            "{command}: {output}"
        );
    }
}
