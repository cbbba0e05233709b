//! No user keeps root or another user from the control socket, and a command trusts only the
//! daemon's user.

use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{Gid, Uid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, copy_binary, file_key_text, text};

/// Users who are neither root nor the owner of the ledger.
const LOOKER: u32 = 4_711;
const OTHER: u32 = 4_712;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs `work` on a thread of this user, who belongs to the socket's group.
fn run_as<T: Send + 'static>(user: u32, work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        set_thread_groups(&[]).unwrap();
        set_thread_gid(Gid::from_raw(LOOKER)).unwrap();
        set_thread_uid(Uid::from_raw(user)).unwrap();
        work()
    });
    thread.join().unwrap()
}

/// Sends a whole head, whose body does not come.
fn send_head(socket: &Path, head: &str) -> Option<UnixStream> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    // The daemon may have refused the connection already.
    let _ = write!(stream, "{head}\r\nhost: x\r\ncontent-length: 1000\r\n\r\n");
    Some(stream)
}

fn status(mut stream: UnixStream) -> String {
    let mut answer = [0; 12];
    match stream.read_exact(&mut answer) {
        Ok(()) => String::from_utf8_lossy(&answer[9..]).into_owned(),
        Err(error) => error.to_string(),
    }
}

/// Returns a world whose socket and program another user may reach, and the program.
fn open_world() -> (TestEnv, PathBuf) {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h").replace("schedule = \"@monthly\"", "every = \"30d\""));
    let program = world.path("rekeyd");
    copy_binary(&program);
    for (name, mode) in [("", 0o755), ("config.toml", 0o644), ("rekeyd", 0o755)] {
        std::fs::set_permissions(world.path(name), Permissions::from_mode(mode)).unwrap();
    }
    (world, program)
}

#[test]
fn looker_keeps_nobody_from_the_socket() {
    if !is_root() {
        return;
    }
    let (world, program) = open_world();
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential key=billing");
    let socket = world.path("control.sock");
    chown(&socket, None, Some(LOOKER)).unwrap();
    let (path, silent) = (socket.clone(), socket.clone());
    // Refused before the body is read, each time.
    let refused = run_as(LOOKER, move || {
        let streams = (0..200).map(|_| send_head(&path, "POST /rotate HTTP/1.1").unwrap());
        streams.map(status).collect::<Vec<_>>()
    });
    assert!(refused.iter().all(|status| status == "403"), "{refused:?}");
    // Heads without an end, far more than there are places.
    let held = run_as(LOOKER, move || {
        let connect = |_| {
            let mut stream = UnixStream::connect(&silent).ok()?;
            let _ = stream.write_all(b"GET /daemon HTTP/1.1\r\n");
            Some(stream)
        };
        (0..300).filter_map(connect).collect::<Vec<_>>()
    });
    let started = Instant::now();
    assert_eq!(world.ok(&["rotate", "billing"]), "billing: rotated\n");
    let output = Command::new(program)
        .arg("--config")
        .arg(world.path("config.toml"))
        .args(["status", "--socket", socket.to_str().unwrap()])
        .env_clear()
        .uid(OTHER)
        .gid(LOOKER)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(started.elapsed() < Duration::from_secs(8));
    drop(held);
    let log = daemon.stop();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("refused"))
        .collect();
    // Where this takes longer than a minute, the number of the others is logged, too.
    assert!((1..=3).contains(&lines.len()), "{lines:?}");
    assert!(lines[0].contains("uid 4711 may only look"), "{}", lines[0]);
}

/// Another user's process answers in the place of the daemon.
#[test]
fn command_sends_nothing_to_another_user() {
    if !is_root() {
        return;
    }
    let (mut world, _) = open_world();
    let socket = world.path("control.sock");
    let path = socket.clone();
    world.keep_configuration_apart();
    std::fs::set_permissions(world.path(""), Permissions::from_mode(0o777)).unwrap();
    let listener = run_as(LOOKER, move || UnixListener::bind(path).unwrap());
    let output_of = |arguments: &[&str]| {
        let output = world.run(arguments);
        (output.status.code(), text(&output.stderr))
    };
    let run = || output_of(&["revoke", "key_none", "--force"]);
    let checked = || output_of(&["check"]);
    for (code, message) in [run(), checked()] {
        assert_eq!(code, Some(1), "{message}");
        assert!(message.contains("is world-writable"), "{message}");
    }
    // A folder that nobody else can write to any more.
    std::fs::set_permissions(world.path(""), Permissions::from_mode(0o755)).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = Vec::new();
        let _ = stream.read_to_end(&mut read);
        read
    });
    let (code, message) = run();
    assert_eq!(code, Some(1), "{message}");
    assert!(message.contains("it belongs to uid 4711"), "{message}");
    assert_eq!(server.join().unwrap(), b"");
}

/// The limit of open files is raised for the daemon, and not for what it starts.
#[test]
fn program_gets_the_limit_of_the_start() {
    let world = TestEnv::start(&[]);
    let on_change = "on-change = [\"/bin/sh\", \"-c\", \"ulimit -n >DIR/limit\"]\n";
    world.configure(&format!("{}{on_change}", file_key_text("24h")));
    let shell = ["-c", "ulimit -Sn 200; exec \"$0\" \"$@\""];
    let plain = world.command(&["run"]);
    let mut command = Command::new("/bin/sh");
    command
        .args(shell)
        .arg(plain.get_program())
        .args(plain.get_args());
    command.env_clear().envs(
        plain
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let mut daemon = Daemon::from_command(command);
    daemon.wait_for("is the current credential");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.id())).unwrap();
    let limit = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let own: u64 = limit
        .unwrap()
        .split_whitespace()
        .nth(3)
        .unwrap()
        .parse()
        .unwrap();
    assert!(own > 200, "{limits}");
    let given = std::fs::read_to_string(world.path("limit")).unwrap();
    assert_eq!(given.trim(), "200");
    daemon.stop();
}
