//! The pages of a running daemon on a Unix socket, and on the socket of a service manager.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::io::{FdFlags, fcntl_setfd};

use crate::support::daemon::{Daemon, as_process_1};
use crate::support::limit::wait_until;
use crate::support::{TestEnv, binary, file_key_text, get, text};

/// Returns the first line of the answer, if a server listens.
fn get_status(socket: &Path, path: &str) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().map(str::to_owned)
}

fn world_with(metrics: &str) -> TestEnv {
    let world = TestEnv::start(&[]);
    let keys = file_key_text("24h");
    world.configure(&format!("[metrics]\nlisten = \"{metrics}\"\n{keys}"));
    world
}

#[test]
fn unix_socket_has_the_mode_of_the_control_socket_and_leaves_with_the_daemon() {
    let world = world_with("unix:DIR/metrics.sock");
    let socket = world.path("metrics.sock");
    // Of a process that was killed.
    drop(UnixListener::bind(&socket).unwrap());
    world.ok(&["check"]);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    let mode = std::fs::symlink_metadata(&socket)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o660);
    assert_eq!(get_status(&socket, "/readyz").unwrap(), "HTTP/1.1 200 OK");
    world.ok(&["status"]);
    world.ok(&["check"]);
    // It comes back when it was removed, and is missed when it was replaced.
    std::fs::remove_file(&socket).unwrap();
    wait_until("the socket is made again", || {
        get_status(&socket, "/healthz").is_some()
    });
    std::fs::remove_file(&socket).unwrap();
    let other = UnixListener::bind(&socket).unwrap();
    daemon.wait_for("metrics.sock: another process listens on it");
    assert_eq!(world.run(&["status"]).status.code(), Some(1));
    let check = world.run(&["check"]);
    assert!(
        text(&check.stderr).contains("its own [metrics] listen"),
        "{}",
        text(&check.stderr)
    );
    // Keys rotate meanwhile.
    world.ok(&["rotate", "billing"]);
    drop(other);
    daemon.wait_for("listening on the metrics address again");
    assert_eq!(get_status(&socket, "/metrics").unwrap(), "HTTP/1.1 200 OK");
    daemon.stop();
    assert!(!socket.exists());
}

#[test]
fn socket_of_the_service_manager_is_used() {
    let mut world = world_with("systemd");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // As the service manager does, which passes the first one as the third descriptor.
    fcntl_setfd(&listener, FdFlags::empty()).unwrap();
    world.set_env("LISTEN_FDS", "1");
    world.set_env("LISTEN_FDS_FIRST_FD", &listener.as_raw_fd().to_string());
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    assert_eq!(get(&address, "/readyz").0, 200);
    // Away with the address, and back to it.
    let keys = file_key_text("24h");
    world.configure(&keys);
    world.ok(&["reload"]);
    world.configure(&format!("[metrics]\nlisten = \"systemd\"\n{keys}"));
    world.ok(&["reload"]);
    assert_eq!(get(&address, "/healthz").0, 200);
    world.ok(&["status"]);
    world.ok(&["check"]);
    daemon.stop();
}

/// Process 1 runs rekeyd as its child, whose number the service manager does not know.
#[test]
fn sockets_of_process_1_are_used_if_they_are_its_own() {
    for (process, is_addressed) in [("1", true), ("2", false)] {
        let Some(mut command) = as_process_1() else {
            return;
        };
        let world = world_with("systemd");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        fcntl_setfd(&listener, FdFlags::empty()).unwrap();
        let first = listener.as_raw_fd().to_string();
        command
            .envs([("LISTEN_PID", process), ("LISTEN_FDS", "1")])
            .env("LISTEN_FDS_FIRST_FD", first)
            .arg(binary())
            .arg("--config")
            .arg(world.path("config.toml"))
            .arg("run");
        let mut daemon = Daemon::from_command(command);
        if !is_addressed {
            daemon.wait_for("the service manager passed no socket that listens; hint: ");
            continue;
        }
        daemon.wait_for("is the current credential");
        assert_eq!(get(&address, "/readyz").0, 200);
    }
}

#[test]
fn missing_socket_of_the_service_manager_blocks_no_rotation() {
    let world = world_with("systemd");
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("the service manager passed no socket that listens; hint: ");
    daemon.wait_for("is the current credential");
    for command in ["status", "check"] {
        let output = world.run(&[command]);
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("passed no socket"), "{command}: {said}");
    }
    daemon.stop();
}
