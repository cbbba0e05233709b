//! Signals, from the first moment of the process, under a parent that blocks or ignores
//! them, and as process 1.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::daemon::{Daemon, as_process_1};
use crate::support::limit::wait_until;
use crate::support::{ChildGuard, TestEnv, binary, file_key_text, write};

/// The bit of SIGHUP in the signal masks of `/proc/PID/status`.
const HANGUP_BIT: u64 = 1;

/// Whether a process has a handler for SIGHUP.
fn catches_hangup(id: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let mut lines = status.lines();
    let mask = lines.find_map(|line| line.strip_prefix("SigCgt:"));
    mask.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & HANGUP_BIT != 0)
}

/// Returns the ids of the children of a process.
fn children(id: u32) -> Vec<u32> {
    let path = format!("/proc/{id}/task/{id}/children");
    let list = fs::read_to_string(path).unwrap_or_default();
    list.split_whitespace()
        .map(|id| id.parse().unwrap())
        .collect()
}

/// Returns a key that rotates at once and whose `on-change` runs these lines.
fn configure_on_change(world: &TestEnv, lines: &str) {
    let script = world.path("after");
    write(&script, &format!("#!/bin/sh\n{lines}\n"));
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    let key = file_key_text("1s");
    world.configure(&format!("{key}on-change = [\"DIR/after\", \"DIR\"]\n"));
}

#[test]
fn hangups_during_start_do_not_end_the_daemon() {
    let world = TestEnv::start(&[]);
    let keys: String = (0..500)
        .map(|number| {
            let key = file_key_text("1h").replace("billing", &format!("key-{number}"));
            key.replace("schedule", "initial-rotation = \"scheduled\"\nschedule")
        })
        .collect();
    world.configure(&keys);
    for pauses in [0, 1, 10, 100, 1_000, 10_000] {
        let mut daemon = Daemon::start(&world);
        let id = daemon.id();
        wait_until("SIGHUP is caught", || catches_hangup(id));
        // The first statement has run. From here on, a signal finds the start at any point.
        for _ in 0..pauses {
            std::thread::yield_now();
        }
        daemon.signal(Signal::HUP);
        daemon.wait_for(" started");
        daemon.stop();
    }
}

#[test]
fn hangup_ends_a_command_of_a_terminal() {
    let world = TestEnv::start(&[]);
    let mut demo = world.command(&["demo"]);
    let demo = demo.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut demo = ChildGuard(demo.spawn().unwrap());
    wait_until("the demo prints", || {
        use std::io::Read as _;
        demo.0.stdout.as_mut().unwrap().read(&mut [0; 1]).unwrap() == 1
    });
    let id = Pid::from_raw(i32::try_from(demo.0.id()).unwrap()).unwrap();
    kill_process(id, Signal::HUP).unwrap();
    let mut status = None;
    wait_until("the demo ends", || {
        status = demo.0.try_wait().unwrap();
        status.is_some()
    });
}

#[test]
fn inherited_signal_dispositions_are_reset() {
    let world = TestEnv::start(&[]);
    configure_on_change(&world, "exit 3");
    let mut command = Command::new("env");
    command
        .args(["--block-signal=TERM,HUP,CHLD", "--ignore-signal=CHLD"])
        .arg(binary())
        .arg("--config")
        .arg(world.path("config.toml"))
        .arg("run");
    let mut daemon = Daemon::from_command(command);
    daemon.wait_for("exited with code 3");
    daemon.signal(Signal::HUP);
    daemon.wait_for("reloaded");
    daemon.stop();
}

#[test]
fn process_1_reaps_orphans_and_passes_signals_on() {
    let Some(mut command) = as_process_1() else {
        return;
    };
    let world = TestEnv::start(&[]);
    // The orphan has left the group of the program before that ends, and outlives it.
    configure_on_change(
        &world,
        "setsid sh -c 'echo >\"$0/begun\"; while kill -0 \"$1\" 2>/dev/null; do :; done; \
         echo >\"$0/ended\"' \"$1\" $$ &\nuntil [ -e \"$1/begun\" ]; do :; done",
    );
    command
        .arg(binary())
        .arg("--config")
        .arg(world.path("config.toml"))
        .arg("run");
    let mut daemon = Daemon::from_command(command);
    wait_until("process 1 has its child", || {
        children(daemon.id())
            .first()
            .is_some_and(|init| children(*init).len() == 1)
    });
    let init = children(daemon.id())[0];
    daemon.wait_for("delivered");
    wait_until("the orphan ends", || world.path("ended").exists());
    // One that is not waited for stays as a zombie.
    wait_until("process 1 has no child but rekeyd", || {
        children(init).len() == 1
    });
    let process = Pid::from_raw(i32::try_from(init).unwrap()).unwrap();
    kill_process(process, Signal::HUP).unwrap();
    daemon.wait_for("reloaded");
    kill_process(process, Signal::TERM).unwrap();
    assert_eq!(daemon.wait().code(), Some(0));
}

/// Returns whether a process runs: one that has ended may wait for its parent.
fn is_running(id: &str) -> bool {
    fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// A program that outlives rekeyd could put an older secret back.
#[test]
fn no_program_outlives_an_end_by_a_signal() {
    for (command, signals) in [
        ("run", &[Signal::TERM, Signal::TERM][..]),
        ("run", &[Signal::TERM, Signal::INT]),
        ("run", &[Signal::INT, Signal::INT]),
        ("once", &[Signal::TERM, Signal::TERM]),
        ("run", &[Signal::QUIT]),
        ("run", &[Signal::ABORT]),
        ("once", &[Signal::PROF]),
        ("run", &[Signal::ALARM]),
    ] {
        let world = TestEnv::start(&[]);
        let (script, begun) = (world.path("deliver"), world.path("begun"));
        // The program that matters is not the leader of its group.
        write(
            &script,
            "#!/bin/sh\nsleep 600 &\necho $! >\"$1/id\"\nmv \"$1/id\" \"$1/begun\"\nwait\n",
        );
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
        world.configure(
            "[key.billing]\nschedule = \"@monthly\"\nverify-interval = \"0s\"\n\
             [[key.billing.sink]]\ntype = \"command\"\nargv = [\"DIR/deliver\", \"DIR\"]\n\
             timeout = \"1m\"\n",
        );
        let mut daemon = Daemon::from_command(world.command(&[command]));
        wait_until("the program runs", || begun.exists());
        let id = fs::read_to_string(&begun).unwrap();
        let id = id.trim();
        // Its command line is empty while it starts.
        wait_until("the program has started", || is_running(id));
        let (last, first) = signals.split_last().unwrap();
        for signal in [Signal::USR1, Signal::USR2] {
            daemon.signal(signal);
            daemon.wait_for("ignoring SIGUSR");
        }
        for signal in first {
            daemon.signal(*signal);
            daemon.wait_for("finishing the running steps");
        }
        daemon.signal(*last);
        let status = daemon.wait();
        assert!(!status.success(), "{command} {signals:?}: {status}");
        wait_until("the program ends", || !is_running(id));
    }
}
