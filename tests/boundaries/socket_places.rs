//! The places at the control socket: neither a program that rekeyd runs nor a user with several
//! user ids keeps others from a command.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::daemon::Daemon;
use crate::support::{text, write_ledger};
use crate::users::{DAEMON, LOOKER, OPERATOR, SOCKET_GROUP, SharedHost, run_as};

/// The first line of a head that never ends.
const HEAD: &str = "GET /daemon HTTP/1.1\r\n";

/// A request that is answered with a copy of the ledger, which nobody reads.
const COPY: &str = "GET /ledger HTTP/1.1\r\nhost: x\r\n\r\n";

/// The first of the user ids that one user has.
const FIRST_OF_MANY: u32 = 5_001;

/// Connections of a user that send a text and are opened again as soon as they are closed.
struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Opens the connections, and returns once each was open.
    fn start(socket: &Path, user: u32, sent: &'static str, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&stop);
        let (sender, opened) = channel();
        let socket = socket.to_owned();
        let thread = std::thread::spawn(move || {
            run_as(user, SOCKET_GROUP, move || {
                let mut open: Vec<_> = (0..count).map(|_| connect(&socket, sent)).collect();
                sender.send(()).unwrap();
                while !is_stopped.load(Ordering::Relaxed) {
                    for stream in &mut open {
                        if is_closed(stream.as_mut()) {
                            *stream = connect(&socket, sent);
                        }
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        });
        opened.recv().unwrap();
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()) || std::thread::panicking());
    }
}

/// Returns a connection on which a text was sent, if the server accepts it now.
fn connect(socket: &PathBuf, sent: &str) -> Option<UnixStream> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_nonblocking(true).ok()?;
    // The server may have closed it already.
    let _ = stream.write_all(sent.as_bytes());
    Some(stream)
}

/// Returns whether the server has closed a connection. Reads the head of an answer at most.
fn is_closed(stream: Option<&mut UnixStream>) -> bool {
    let Some(stream) = stream else {
        return true;
    };
    match stream.read(&mut [0]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// A program has the daemon's user, and may leave a process behind. Landlock does not keep it
/// from a connection.
pub fn program_keeps_nobody_from_the_socket() {
    let mut host = SharedHost::new();
    let config = fs::read_to_string(host.env.config_path()).unwrap();
    let groups = format!("[control]\nadmins = [\"{OPERATOR}\"]\n");
    let config = config.replace("[control]\n", &groups);
    fs::write(host.env.config_path(), config).unwrap();
    let daemon = host.start_as_service();
    let socket = host.env.path("control.sock");
    let flood = Flood::start(&socket, DAEMON, HEAD, 300);
    for _ in 0..5 {
        assert_eq!(host.env.ok(&["rotate", "billing"]), "billing: rotated\n");
    }
    for (user, arguments) in [
        (OPERATOR, &["rotate", "billing"][..]),
        (LOOKER, &["status"]),
    ] {
        let output = host.run_as(user, user, arguments);
        let message = text(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {message}");
        assert!(!message.contains("connections"), "{message}");
    }
    drop(flood);
    daemon.stop();
}

/// A user has further user ids in /etc/subuid, and so several shares of the places. Some of
/// their connections wait for a copy of the ledger, which others do not read.
pub fn lookers_keep_no_operator_from_the_socket() {
    let host = SharedHost::new();
    let config = fs::read_to_string(host.env.config_path()).unwrap();
    let groups = format!("[control]\nadmins = [\"{OPERATOR}\"]\n");
    let config = config.replace("[control]\n", &groups);
    fs::write(host.env.config_path(), config).unwrap();
    host.env.ok(&["once"]);
    let ledger = write_ledger(&host.env.path("ledger.db"));
    ledger
        .execute_batch("CREATE TABLE filler(x); INSERT INTO filler VALUES(zeroblob(8388608))")
        .unwrap();
    drop(ledger);
    let daemon = host.start();
    let socket = host.env.path("control.sock");
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    let mut floods = Vec::new();
    for number in 0..4 {
        floods.push(Flood::start(&socket, FIRST_OF_MANY + number, COPY, 1));
    }
    for number in 4..12 {
        floods.push(Flood::start(&socket, FIRST_OF_MANY + number, COPY, 60));
    }
    for arguments in [
        &["rotate", "billing"][..],
        &["pause", "billing"],
        &["status"],
        &["history"],
    ] {
        let output = host.run_as(OPERATOR, OPERATOR, arguments);
        let message = text(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {message}");
    }
    assert!(host.env.ok(&["resume", "billing"]).contains("resumed"));
    drop(floods);
    daemon.stop();
}

/// Others have taken every connection: that says nothing of the daemon, but that it runs.
pub fn looker_reads_the_snapshot_of_a_busy_daemon() {
    let host = SharedHost::new();
    let shown = host.env.path("shown");
    fs::create_dir(&shown).unwrap();
    chown(&shown, None, Some(SOCKET_GROUP)).unwrap();
    fs::set_permissions(&shown, Permissions::from_mode(0o750)).unwrap();
    let config = fs::read_to_string(host.env.config_path()).unwrap();
    let snapshot = format!("[ledger]\nsnapshot = {:?}\n", shown.join("ledger.db"));
    let config = config
        .replace("[ledger]\n", &snapshot)
        .replace("/ledger.db\"\n[control]", "/state/ledger.db\"\n[control]");
    fs::write(host.env.config_path(), config).unwrap();
    fs::create_dir(host.env.path("state")).unwrap();
    fs::set_permissions(host.env.path("state"), Permissions::from_mode(0o700)).unwrap();
    let mut daemon = Daemon::start(&host.env);
    daemon.wait_for("is the current credential key=billing");
    daemon.stop();
    let socket = host.env.path("control.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4_096]);
            let body = "{\"error\":\"you have too many connections\"}";
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 503 Service Unavailable\r\ncontent-length: {length}\r\n\r\n{body}"
            );
        }
    });
    let (mut printed, mut messages) = (String::new(), String::new());
    for arguments in [
        &["history"][..],
        &["show", "billing"],
        &["schedule"],
        &["status"],
    ] {
        let output = host.run_as(LOOKER, SOCKET_GROUP, arguments);
        printed = text(&output.stdout);
        messages = text(&output.stderr);
        // Whether rekeyd runs belongs to the status, also of one key.
        let is_status = ["show", "status"].contains(&arguments[0]);
        let code = Some(i32::from(is_status));
        assert_eq!(output.status.code(), code, "{arguments:?}: {messages}");
        let all = format!("{printed}{messages}");
        assert!(
            all.contains("snapshot; rekeyd did not send its ledger"),
            "{arguments:?}: {all}"
        );
        assert!(all.contains("too many connections"), "{arguments:?}: {all}");
        assert!(printed.contains("billing"), "{arguments:?}: {all}");
    }
    assert!(!printed.contains("NOT running"), "{printed}{messages}");
    assert!(
        printed.contains("did not say whether it is running"),
        "{printed}"
    );
}
