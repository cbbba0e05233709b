//! One process writes a ledger, whatever happens to its lock file, and none waits for a
//! pipe in the ledger's place.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

use crate::support::daemon::Daemon;
use crate::support::host::{has_program, report_unsupported};
use crate::support::{ChildGuard, TestEnv, file_key_text, text};

/// How long a command may take that must not wait.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs a command that must end by itself.
fn run_within_limit(world: &TestEnv, arguments: &[&str]) -> Output {
    let mut command = world.command(arguments);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = ChildGuard(child.spawn().unwrap());
    let start = Instant::now();
    while child.0.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < LIMIT, "{arguments:?} hangs");
        std::thread::yield_now();
    }
    let mut output = Output {
        status: child.0.wait().unwrap(),
        stdout: Vec::new(),
        stderr: Vec::new(),
    };
    let (stdout, stderr) = (child.0.stdout.take(), child.0.stderr.take());
    std::io::Read::read_to_end(&mut stdout.unwrap(), &mut output.stdout).unwrap();
    std::io::Read::read_to_end(&mut stderr.unwrap(), &mut output.stderr).unwrap();
    output
}

/// Returns the kinds of locks that a process holds on the file at `path`.
fn locks_of(process: u32, path: &Path) -> Vec<String> {
    let inode = path.metadata().unwrap().ino();
    let mut kinds = Vec::new();
    // Its `fdinfo` is closed to other processes, as its memory is.
    for lock in fs::read_to_string("/proc/locks").unwrap().lines() {
        // NUMBER: KIND ADVISORY MODE PROCESS DEVICE:INODE START END
        let fields: Vec<_> = lock.split_whitespace().collect();
        let is_holder = fields.get(4) == Some(&process.to_string().as_str());
        let is_file = fields
            .get(5)
            .is_some_and(|file| file.ends_with(&format!(":{inode}")));
        if is_holder && is_file {
            kinds.push(fields[1].to_owned());
        }
    }
    kinds.sort();
    kinds.dedup();
    kinds
}

#[test]
fn lost_lock_file_admits_no_second_daemon() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let lock = world.path("ledger.db.lock");
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    let moved = world.path("moved.lock");
    let ways: [(&str, &dyn Fn()); 3] = [
        ("removed", &|| fs::remove_file(&lock).unwrap()),
        ("moved away", &|| fs::rename(&lock, &moved).unwrap()),
        ("replaced", &|| {
            fs::remove_file(&lock).unwrap();
            fs::write(&lock, "").unwrap();
        }),
    ];
    for (way, lose) in ways {
        lose();
        // Either before the daemon notices or after, no other process is let in.
        let output = world.run(&["once"]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(75), "{way}: {stderr}");
        daemon.wait_for("was removed or replaced; created and locked it again");
        let output = world.run(&["once"]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(75), "{way}: {stderr}");
        assert!(stderr.contains("rekeyd run (process "), "{way}: {stderr}");
    }
    assert_eq!(world.live_ids().len(), 1);
    daemon.stop();
    world.ok(&["once"]);
}

#[test]
fn second_name_of_a_ledger_admits_no_second_writer() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    let config = fs::read_to_string(world.path("config.toml")).unwrap();
    fs::create_dir(world.path("other")).unwrap();
    symlink(world.path("ledger.db"), world.path("other/link.db")).unwrap();
    fs::hard_link(world.path("ledger.db"), world.path("other/hard.db")).unwrap();
    for name in ["other/link.db", "other/hard.db"] {
        let other = config
            .replace("ledger.db", name)
            .replace("control.sock", "other.sock");
        fs::write(world.path("other.toml"), other).unwrap();
        let mut command = world.command(&["rotate", "--all"]);
        command.env("REKEYD_CONFIG", "").arg("--config");
        let output = command.arg(world.path("other.toml")).output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(75), "{name}: {stderr}");
    }
    assert_eq!(world.live_ids().len(), 1);
}

#[test]
fn daemon_keeps_the_locks_of_its_ledger() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let ledger = world.path("ledger.db");
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    let expected = ["FLOCK", "POSIX"];
    assert_eq!(locks_of(daemon.id(), &ledger), expected);
    world.ok(&["rotate", "billing"]);
    world.ok(&["reload"]);
    world.ok(&["check"]);
    world.ok(&["status"]);
    daemon.signal(Signal::HUP);
    daemon.wait_for("reloaded");
    daemon.wait_for("reloaded");
    assert_eq!(locks_of(daemon.id(), &ledger), expected);
    let index = world.path("ledger.db-shm");
    assert_eq!(locks_of(daemon.id(), &index), ["POSIX"]);
}

#[test]
fn pipe_in_place_of_a_ledger_file_is_refused_at_once() {
    for name in [
        "ledger.db",
        "ledger.db-wal",
        "ledger.db-shm",
        "ledger.db-journal",
        "ledger.db.lock",
    ] {
        let world = TestEnv::start(&[]);
        world.configure(&file_key_text("24h"));
        world.ok(&["once"]);
        // There is no rollback journal.
        let _ = fs::remove_file(world.path(name));
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, world.path(name), FileType::Fifo, mode, 0).unwrap();
        for arguments in [
            &["check"][..],
            &["status"],
            &["history"],
            &["schedule"],
            &["audit"],
            &["once"],
            &["run"],
            &["rotate", "--all"],
        ] {
            let output = run_within_limit(&world, arguments);
            let stderr = text(&output.stderr);
            // Readers need no lock file, and a schedule needs no ledger.
            let is_reader = ["status", "history", "audit"].contains(&arguments[0]);
            let needs_file = arguments[0] != "schedule";
            if needs_file && (name != "ledger.db.lock" || !is_reader) {
                assert_eq!(
                    output.status.code(),
                    Some(1),
                    "{name} {arguments:?}: {stderr}"
                );
                assert!(
                    stderr.contains("it is not a regular file") && stderr.contains(name),
                    "{name} {arguments:?}: {stderr}"
                );
            }
        }
        assert_eq!(world.live_ids().len(), 1, "{name}");
    }
}

#[test]
fn file_system_without_locks_is_named() {
    let Some(strace) = strace() else {
        return;
    };
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    for errno in ["ENOLCK", "EOPNOTSUPP"] {
        let once = world.command(&["once"]);
        let mut command = std::process::Command::new(&strace);
        command
            .args(["-f", "-o", "/dev/null", "-e"])
            .arg(format!("inject=flock:error={errno}"))
            .arg(once.get_program())
            .args(once.get_args());
        let output = command.output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains("move the ledger to a local disk"),
            "{stderr}"
        );
    }
    assert!(world.live_ids().is_empty());
}

/// On NFS `flock` becomes a lock of the whole file, which would meet SQLite's own.
#[test]
fn ledger_on_a_network_file_system_is_locked_by_its_lock_file_alone() {
    /// What `fstatfs` answers for a file on NFS: its magic number comes first.
    const NFS: &str = "inject=statfs,fstatfs:poke_exit=@arg2=6969000000000000";
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let trace = world.path("trace");
    let traced = |arguments: &[&str]| {
        let given = world.command(arguments);
        let mut command = std::process::Command::new(strace()?);
        command
            .args(["-f", "-e", "trace=flock,statfs,fstatfs", "-e", NFS, "-o"])
            .arg(&trace)
            .arg(given.get_program())
            .args(given.get_args());
        command.output().ok()
    };
    let Some(once) = traced(&["once"]) else {
        return;
    };
    assert!(once.status.success(), "{}", text(&once.stderr));
    let calls = fs::read_to_string(&trace).unwrap();
    if !calls.contains("(INJECTED: args)") {
        report_unsupported("strace before 5.16 changes no arguments");
        return;
    }
    let is_lock = |call: &&str| call.contains("flock(") && call.contains("LOCK_EX");
    let locks: Vec<_> = calls.lines().filter(is_lock).collect();
    assert_eq!(locks.len(), 1, "only the lock file is locked: {locks:?}");
    assert_eq!(world.live_ids().len(), 1);
    let check = traced(&["check"]).unwrap();
    let printed = text(&check.stdout);
    assert!(check.status.success(), "{}", text(&check.stderr));
    assert!(
        printed.contains("is on NFS, where rekeyd cannot lock"),
        "{printed}"
    );
}

/// Returns the path of strace if the host has it, and lets it trace.
fn strace() -> Option<std::path::PathBuf> {
    let path = Path::new("/usr/bin/strace");
    if !has_program("/usr/bin/strace") {
        return None;
    }
    let traced = std::process::Command::new(path).arg("true").output();
    let works = traced.is_ok_and(|output| output.status.success());
    if !works {
        report_unsupported("this host lets strace trace nothing");
    }
    works.then(|| path.to_owned())
}

#[test]
fn foreign_lock_on_the_ledger_is_a_problem() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["once"]);
    world.ok(&["status"]);
    let ledger = fs::File::open(world.path("ledger.db")).unwrap();
    ledger.lock().unwrap();
    let status = world.run(&["status"]);
    let stdout = text(&status.stdout);
    assert_eq!(status.status.code(), Some(1), "{stdout}");
    assert!(
        stdout.starts_with("problem: a process holds a lock on "),
        "{stdout}"
    );
    drop(ledger);
    world.ok(&["status"]);
}
