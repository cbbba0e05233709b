//! The control socket: no user keeps root or another user from it, and a command trusts only the
//! daemon's user.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::support::daemon::Daemon;
use crate::support::{control_socket, scratch_dir, text, write_ledger};
use crate::users::{LOOKER, OPERATOR, OTHER, SOCKET_GROUP, SUPER_OPERATOR, SharedHost, run_as};

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

pub fn looker_keeps_nobody_from_the_socket() {
    let host = SharedHost::new();
    let mut daemon = host.start();
    daemon.wait_for("is the current credential key=billing");
    let socket = host.env.path("control.sock");
    let (path, silent) = (socket.clone(), socket.clone());
    // Refused before the body is read, each time.
    let refused = run_as(LOOKER, SOCKET_GROUP, move || {
        let streams = (0..200).map(|_| send_head(&path, "POST /rotate HTTP/1.1").unwrap());
        streams.map(status).collect::<Vec<_>>()
    });
    assert!(refused.iter().all(|status| status == "403"), "{refused:?}");
    // Heads without an end, far more than there are places.
    let held = run_as(LOOKER, SOCKET_GROUP, move || {
        let connect = |_| {
            let mut stream = UnixStream::connect(&silent).ok()?;
            let _ = stream.write_all(b"GET /daemon HTTP/1.1\r\n");
            Some(stream)
        };
        (0..300).filter_map(connect).collect::<Vec<_>>()
    });
    let started = Instant::now();
    assert_eq!(host.env.ok(&["rotate", "billing"]), "billing: rotated\n");
    let looked = host.run_as(OTHER, SOCKET_GROUP, &["status"]);
    assert!(looked.status.success(), "{}", text(&looked.stderr));
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

/// Adopted, any admin key of the organization would end with the overlap of a rotation.
pub fn operator_deletes_no_admin_key_of_others() {
    let host = SharedHost::new();
    let config = fs::read_to_string(host.env.config_path()).unwrap();
    let groups = format!("admins = [\"{OPERATOR}\"]\nsuper-admins = [\"{SUPER_OPERATOR}\"]\n");
    let config = config.replace("[control]\n", &format!("[control]\n{groups}"));
    fs::write(host.env.config_path(), config).unwrap();
    let mut daemon = host.start();
    daemon.wait_for("is the current credential key=billing");
    let of_others = host.env.keys();
    let of_others = of_others
        .iter()
        .find(|key| key["name"] == "sandbox-owner")
        .unwrap();
    let id = of_others["id"].as_str().unwrap();
    for group in [OPERATOR, SUPER_OPERATOR] {
        chown(host.env.path("control.sock"), None, Some(group)).unwrap();
        for arguments in [
            &["adopt", "billing", id][..],
            &["revoke", id],
            &["revoke", id, "--force"],
            &["revoke", id, "--force", "--name", "sandbox-owner"],
        ] {
            let refused = host.run_as(group, group, arguments);
            assert!(!refused.status.success(), "{group} {arguments:?}");
        }
        let rotated = host.run_as(group, group, &["rotate", "billing"]);
        assert!(rotated.status.success(), "{}", text(&rotated.stderr));
    }
    let keys = host.env.keys();
    let found = keys.iter().find(|key| key["id"] == id).unwrap();
    assert!(found["deleted_at"].is_null(), "{found}");
}

/// A super-admin who can write the file of a sink writes a key there that ends like an admin
/// key of the organization.
pub fn forged_end_in_a_file_adopts_no_admin_key() {
    let host = SharedHost::new();
    let config = fs::read_to_string(host.env.config_path()).unwrap();
    let groups = format!("super-admins = [\"{SUPER_OPERATOR}\"]\n");
    let config = config.replace("[control]\n", &format!("[control]\n{groups}"));
    fs::write(host.env.config_path(), config).unwrap();
    let mut daemon = host.start();
    daemon.wait_for("is the current credential key=billing");
    let keys = host.env.keys();
    let owner = keys.iter().find(|key| key["name"] == "sandbox-owner");
    let id = owner.unwrap()["id"].as_str().unwrap().to_owned();
    let secret = host.env.secret_of(&id);
    let forged = format!(
        "sk-admin-{}{}",
        "x1".repeat(40),
        &secret[secret.len() - 4..]
    );
    let file = host.env.path("billing.key");
    chown(&file, Some(SUPER_OPERATOR), None).unwrap();
    run_as(SUPER_OPERATOR, SUPER_OPERATOR, move || {
        fs::write(file, forged).unwrap();
    });
    chown(host.env.path("control.sock"), None, Some(SUPER_OPERATOR)).unwrap();
    for arguments in [
        &["adopt", "billing", &id][..],
        &["adopt", "billing", &id, "--force"],
        &[
            "adopt",
            "billing",
            &id,
            "--force",
            "--name",
            "sandbox-owner",
            "--yes",
        ],
        &["adopt", "--from-sinks", "--yes"],
    ] {
        let refused = host.run_as(SUPER_OPERATOR, SUPER_OPERATOR, arguments);
        assert!(!refused.status.success(), "{}", text(&refused.stdout));
        let history = host.env.history();
        assert!(
            history
                .iter()
                .all(|row| row["credential_id"] != id.as_str()),
            "{arguments:?}: {history:?}"
        );
    }
    // Nor does it show root whose the key is: root names it, and it is held.
    let by_root = host.env.run(&["adopt", "billing", &id, "--force"]);
    assert!(text(&by_root.stderr).contains("holds its secret"));
    let named = [
        "adopt",
        "billing",
        &id,
        "--force",
        "--name",
        "sandbox-owner",
        "--yes",
    ];
    let adopted = host.env.ok(&named);
    assert!(adopted.contains("on hold until"), "{adopted}");
    daemon.stop();
}

/// A super-admin copies a working key of rekeyd's into the file of his sink: its last characters
/// are by chance those of another admin key.
pub fn key_that_ends_like_another_one_adopts_no_admin_key() {
    let mut host = SharedHost::new();
    let config = fs::read_to_string(host.env.config_path()).unwrap();
    let groups = format!("[control]\nsuper-admins = [\"{SUPER_OPERATOR}\"]\n");
    let config = config.replace("[control]\n", &groups);
    let (head, billing) = config.split_once("[key.billing]").unwrap();
    let reports = billing.replace("billing", "reports");
    let keys = format!("[key.billing]{billing}\n[key.reports]{reports}");
    fs::write(host.env.config_path(), format!("{head}{keys}")).unwrap();
    host.env.ok(&["once"]);
    let (file, other_file) = (host.env.path("billing.key"), host.env.path("reports.key"));
    let secret = fs::read_to_string(&other_file).unwrap();
    let secret = secret.trim().to_owned();
    host.env.stop_sandbox();
    let mut keys = host.env.keys();
    let mut laptop = keys[0].clone();
    laptop["id"] = "key_laptop".into();
    laptop["name"] = "a laptop".into();
    let end = &secret[secret.len() - 4..];
    laptop["value"] = format!("sk-admin-{}{end}", "x1".repeat(40)).into();
    keys.push(laptop);
    let state = serde_json::to_string(&keys).unwrap();
    fs::write(host.env.path("sandbox.json"), state).unwrap();
    host.env.restart_sandbox(&[]);
    let daemon = host.start();
    chown(&file, Some(SUPER_OPERATOR), None).unwrap();
    run_as(SUPER_OPERATOR, SUPER_OPERATOR, move || {
        fs::write(file, secret).unwrap();
    });
    chown(host.env.path("control.sock"), None, Some(SUPER_OPERATOR)).unwrap();
    for force in [&[][..], &["--force"]] {
        let arguments = [&["adopt", "billing", "key_laptop"], force].concat();
        let refused = host.run_as(SUPER_OPERATOR, SUPER_OPERATOR, &arguments);
        let error = text(&refused.stderr);
        assert!(!refused.status.success(), "{error}");
        assert!(
            error.contains("ends like the secrets of other credentials"),
            "{error}"
        );
    }
    let mut history = host.env.history().into_iter();
    assert!(history.all(|row| row["credential_id"] != "key_laptop"));
    daemon.stop();
}

/// Starts the daemon of a host whose files at these paths are replaced, each by the file of
/// this name in the environment.
fn start_with_files(host: &SharedHost, replaced: &[(&str, &str)]) -> Daemon {
    let mounts = replaced
        .iter()
        .map(|(name, path)| format!("mount --bind {} {path} && ", host.env.path(name).display()));
    let script = format!("{}exec \"$@\"", mounts.collect::<String>());
    let rekeyd = host.env.command(&["run"]);
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            &script,
            "sh",
        ])
        .arg(rekeyd.get_program())
        .args(rekeyd.get_args());
    for (variable, value) in rekeyd.get_envs() {
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    let mut daemon = Daemon::from_command(command);
    daemon.wait_for("is the current credential key=billing");
    fs::set_permissions(host.env.path("control.sock"), Permissions::from_mode(0o666)).unwrap();
    daemon
}

/// A user of this host with a name, as `id` needs it.
const NAMED: (u32, &str) = (1, "daemon");

/// Configures a group of the host's as that of the operators, of which [`NAMED`] is a member,
/// and so is another account, whose name is the number of [`LOOKER`].
fn configure_group(host: &SharedHost) {
    let config = fs::read_to_string(host.env.config_path()).unwrap();
    let group = "[control]\nadmins = [\"rekeyd-operators\"]\n";
    fs::write(host.env.config_path(), config.replace("[control]\n", group)).unwrap();
    let groups = fs::read_to_string("/etc/group").unwrap();
    let groups = format!("{groups}rekeyd-operators:x:4799:{},{LOOKER}\n", NAMED.1);
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let users = format!("{users}{LOOKER}:x:4798:4798::/:/bin/sh\n");
    for (name, list) in [("group", groups), ("passwd", users)] {
        fs::write(host.env.path(name), list).unwrap();
        fs::set_permissions(host.env.path(name), Permissions::from_mode(0o644)).unwrap();
    }
}

/// A member by a supplementary group, which no process of the user has, may operate.
pub fn rights_follow_the_groups_of_the_name_service() {
    let host = SharedHost::new();
    configure_group(&host);
    let replaced = [("group", "/etc/group"), ("passwd", "/etc/passwd")];
    let daemon = start_with_files(&host, &replaced);
    for (user, may) in [(NAMED.0, true), (LOOKER, false)] {
        let rotated = host.run_as(user, OTHER, &["rotate", "billing"]);
        let message = text(&rotated.stderr);
        assert_eq!(rotated.status.success(), may, "{user}: {message}");
        assert_eq!(message.contains("may only look"), !may, "{message}");
    }
    daemon.stop();
}

/// The name service waits for a directory server that does not answer.
pub fn name_service_that_hangs_delays_nobody_else() {
    let host = SharedHost::new();
    configure_group(&host);
    fs::write(host.env.path("id"), "#!/bin/sh\nexec sleep 1000\n").unwrap();
    fs::set_permissions(host.env.path("id"), Permissions::from_mode(0o755)).unwrap();
    let replaced = [("group", "/etc/group"), ("id", "/usr/bin/id")];
    let mut daemon = start_with_files(&host, &replaced);
    let asking = host.run_as_later(NAMED.0, OTHER, &["rotate", "billing"]);
    assert_eq!(
        host.env.ok(&["pause", "billing"]),
        "billing: paused until `rekeyd resume billing`\n"
    );
    let refused = asking.join().unwrap();
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("may only look"));
    daemon.wait_for("name service did not say which groups daemon (uid 1) has");
    let log = daemon.stop();
    let lines = log
        .lines()
        .filter(|line| line.contains("name service did not say"));
    assert!(lines.count() <= 1, "{log}");
}

/// Another user's process answers in the place of the daemon.
pub fn command_sends_nothing_to_another_user() {
    let mut host = SharedHost::new();
    let socket = host.env.path("control.sock");
    let path = socket.clone();
    host.env.keep_configuration_apart();
    let set_mode =
        |mode| fs::set_permissions(host.env.path(""), Permissions::from_mode(mode)).unwrap();
    set_mode(0o777);
    let listener = run_as(OTHER, OTHER, move || UnixListener::bind(path).unwrap());
    let output_of = |arguments: &[&str]| {
        let output = host.env.run(arguments);
        (output.status.code(), text(&output.stderr))
    };
    let revoke = || output_of(&["revoke", "key_none", "--force"]);
    for (code, message) in [revoke(), output_of(&["check"])] {
        assert_eq!(code, Some(1), "{message}");
        assert!(message.contains("is world-writable"), "{message}");
    }
    // A folder that nobody else can write to any more.
    set_mode(0o755);
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = Vec::new();
        let _ = stream.read_to_end(&mut read);
        read
    });
    let (code, message) = revoke();
    assert_eq!(code, Some(1), "{message}");
    assert!(
        message.contains(&format!("it belongs to uid {OTHER}")),
        "{message}"
    );
    assert_eq!(server.join().unwrap(), b"");
}

/// Reads a page of the daemon.
fn page_of(socket: &Path, path: &str) -> String {
    let (_, answer) = control_socket::ask(socket, None, ["GET", path, ""]);
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// Reads a page with the proof of the daemon's own user, who is root here.
fn proven_page_of(host: &SharedHost, path: &str) -> String {
    let cookie = control_socket::read_cookie(&host.env.path("ledger.db"));
    let socket = host.env.path("control.sock");
    let (status, answer) = control_socket::ask(&socket, cookie.as_deref(), ["GET", path, ""]);
    assert_eq!(status, 200, "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// Reads what the client sends up to a pause; none at its end.
fn read_request(stream: &mut UnixStream) -> Option<String> {
    let mut request = [0; 4_096];
    let length = stream
        .read(&mut request)
        .ok()
        .filter(|length| *length > 0)?;
    Some(text(&request[..length]))
}

fn write_page(stream: &mut UnixStream, page: &str) -> std::io::Result<()> {
    let length = page.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{page}"
    )
}

/// The owner of the ledger serves the socket, and names a file of root's as the ledger, beside
/// which the cookie is looked for.
pub fn owner_of_the_ledger_gets_no_file_of_roots() {
    let mut host = SharedHost::new();
    host.env.keep_configuration_apart();
    let daemon = host.start();
    let socket = host.env.path("control.sock");
    let page = proven_page_of(&host, "/daemon");
    let introduction = page_of(&socket, "/handshake");
    daemon.stop();
    let own = scratch_dir();
    fs::write(own.path().join("file.cookie"), "precious-line\n").unwrap();
    let ledger = host.env.path("ledger.db").display().to_string();
    assert!(page.contains(&ledger), "{page}");
    let named = own.path().join("file").display().to_string();
    let [page, introduction] = [page, introduction].map(|text| text.replace(&ledger, &named));
    for name in ["", "ledger.db"] {
        chown(host.env.path(name), Some(OTHER), None).unwrap();
    }
    let (sender, received) = std::sync::mpsc::channel();
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        run_as(OTHER, OTHER, move || {
            let listener = UnixListener::bind(socket).unwrap();
            ready.send(()).unwrap();
            for stream in listener.incoming() {
                let sender = sender.clone();
                let (page, introduction) = (page.clone(), introduction.clone());
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    while let Some(request) = read_request(&mut stream) {
                        let is_handshake = request.starts_with("GET /handshake");
                        let page = if is_handshake { &introduction } else { &page };
                        let _ = write_page(&mut stream, page);
                        let _ = sender.send(request);
                    }
                });
            }
        });
    });
    is_ready.recv().unwrap();
    let refused = host.env.run(&["rotate", "billing"]);
    let message = text(&refused.stderr);
    assert!(message.contains("cannot prove that it is"), "{message}");
    let requests: Vec<String> = received.try_iter().collect();
    assert!(!requests.is_empty());
    for request in requests {
        assert!(!request.contains("precious-line"), "{request}");
        assert!(!request.starts_with("POST"), "{request}");
    }
}

/// A process of the daemon's user, in the place of its socket.
struct Impostor {
    received: Receiver<String>,
    stop: Arc<AtomicBool>,
    socket: PathBuf,
}

impl Impostor {
    /// Listens in the place of the daemon, and answers each request with what `answer` returns
    /// of the connection's way to the daemon.
    fn listen(
        socket: &Path,
        answer: impl Fn(&mut UnixStream, &mut UnixStream, &str) + Send + Sync + 'static,
    ) -> Self {
        let moved = socket.with_file_name("moved.sock");
        fs::rename(socket, &moved).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let (sender, received) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&stop);
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_stopped.load(Ordering::Relaxed) {
                    break;
                }
                let (sender, answer) = (sender.clone(), Arc::clone(&answer));
                let mut daemon = UnixStream::connect(&moved).unwrap();
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    while let Some(request) = read_request(&mut stream) {
                        answer(&mut stream, &mut daemon, &request);
                        let _ = sender.send(request);
                    }
                });
            }
        });
        Self {
            received,
            stop,
            socket: socket.to_owned(),
        }
    }

    /// Ends the listener, and returns what it received.
    fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let _ = UnixStream::connect(&self.socket);
        self.received.try_iter().collect()
    }
}

/// A program of rekeyd's that is not confined renames the control socket, and listens there
/// with the daemon's user: it learns nothing with which it could command the daemon, and makes
/// no command believe that something was done.
pub fn impostor_of_the_daemon_gets_no_command() {
    let mut host = SharedHost::new();
    host.env.keep_configuration_apart();
    let mut daemon = host.start();
    daemon.wait_for("is the current credential key=billing");
    let socket = host.env.path("control.sock");
    let cookie = control_socket::read_cookie(&host.env.path("ledger.db")).unwrap();
    let introduction = page_of(&socket, "/handshake");
    let page = proven_page_of(&host, "/daemon");
    let assert_nothing_learned = |requests: Vec<String>| {
        assert!(!requests.is_empty());
        for request in requests {
            assert!(request.starts_with("GET /handshake"), "{request}");
            assert!(!request.contains(&cookie), "{request}");
        }
    };
    for (way, expected) in [
        ("by itself", "does not know the cookie"),
        ("through the daemon", "another process replaced the socket"),
    ] {
        let is_relay = way == "through the daemon";
        let (introduction, page) = (introduction.clone(), page.clone());
        let impostor = Impostor::listen(&socket, move |stream, daemon, request| {
            if is_relay {
                let _ = daemon.write_all(request.as_bytes());
                let answer = read_request(daemon).unwrap_or_default();
                let _ = stream.write_all(answer.as_bytes());
            } else if request.starts_with("GET /handshake") {
                let _ = write_page(stream, &introduction);
            } else {
                let _ = write_page(stream, &page);
            }
        });
        for command in [
            &["reload"][..],
            &["pause", "billing"],
            &["rotate", "billing"],
        ] {
            let output = host.env.run(command);
            let printed = text(&output.stdout) + &text(&output.stderr);
            assert_eq!(
                output.status.code(),
                Some(1),
                "{way} {command:?}: {printed}"
            );
            assert!(printed.contains(expected), "{way} {command:?}: {printed}");
        }
        daemon.wait_for("another process replaced the control socket");
        let status = host.env.run(&["status"]);
        assert_eq!(status.status.code(), Some(1));
        let status = text(&status.stdout);
        assert!(status.contains("replaced the control socket"), "{status}");
        assert_nothing_learned(impostor.stop());
        // Once nobody listens there, rekeyd takes its place back.
        daemon.wait_for("listening on the control socket again");
        assert!(host.env.ok(&["pause", "billing"]).contains("paused"));
        assert!(host.env.ok(&["resume", "billing"]).contains("resumed"));
    }
    daemon.stop();
}

/// Returns the memory of a process that is in RAM, in MiB.
fn memory_of(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1));
    kibibytes.unwrap().parse::<u64>().unwrap() / 1_024
}

/// Makes the ledger larger by a table of the administrator's.
fn enlarge_ledger(host: &SharedHost, mebibytes: u64) {
    let ledger = write_ledger(&host.env.path("ledger.db"));
    let sql = format!(
        "CREATE TABLE filler(x); INSERT INTO filler VALUES(zeroblob({mebibytes} * 1048576))"
    );
    ledger.execute_batch(&sql).unwrap();
}

/// Lookers ask for the ledger and do not read it: the daemon holds one copy of it, and shows it
/// to others meanwhile.
pub fn slow_readers_hold_one_copy_of_the_ledger() {
    const SIZE: u64 = 64;
    let host = SharedHost::new();
    host.env.ok(&["once"]);
    enlarge_ledger(&host, SIZE);
    let daemon = host.start();
    let before = memory_of(daemon.id());
    let socket = host.env.path("control.sock");
    let held = run_as(LOOKER, SOCKET_GROUP, move || {
        let connect = |_| {
            let mut stream = UnixStream::connect(&socket).ok()?;
            let _ = stream.write_all(b"GET /ledger HTTP/1.1\r\nhost: x\r\n\r\n");
            Some(stream)
        };
        (0..20).filter_map(connect).collect::<Vec<_>>()
    });
    await_first_answer(&held);
    let looked = host.run_as(OTHER, SOCKET_GROUP, &["history"]);
    assert!(looked.status.success(), "{}", text(&looked.stderr));
    let growth = memory_of(daemon.id()).saturating_sub(before);
    assert!(growth < 3 * SIZE, "{growth} MiB");
    drop(held);
    daemon.stop();
}

/// Waits until the copy is being sent on one of the connections.
fn await_first_answer(streams: &[UnixStream]) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        for mut stream in streams {
            let mut first = [0; 12];
            stream
                .set_read_timeout(Some(Duration::from_millis(50)))
                .unwrap();
            if stream.read_exact(&mut first).is_ok() && &first == b"HTTP/1.1 200" {
                return;
            }
        }
        assert!(Instant::now() < deadline, "no answer");
    }
}

/// Operators send long bodies, each without its end.
pub fn long_bodies_hold_little_memory() {
    let host = SharedHost::new();
    let config = fs::read_to_string(host.env.config_path()).unwrap();
    let groups = format!("[control]\nadmins = [\"{SOCKET_GROUP}\"]\n");
    fs::write(
        host.env.config_path(),
        config.replace("[control]\n", &groups),
    )
    .unwrap();
    let mut daemon = host.start();
    daemon.wait_for("is the current credential key=billing");
    let before = memory_of(daemon.id());
    let socket = host.env.path("control.sock");
    let held = run_as(LOOKER, SOCKET_GROUP, move || {
        let connect = |_| {
            let mut stream = UnixStream::connect(&socket).ok()?;
            stream.set_nonblocking(true).unwrap();
            let head = "POST /rotate HTTP/1.1\r\nhost: x\r\ncontent-length: 65536\r\n\r\n";
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&[b' '; 65_000]);
            Some(stream)
        };
        (0..300).filter_map(connect).collect::<Vec<_>>()
    });
    assert_eq!(host.env.ok(&["rotate", "billing"]), "billing: rotated\n");
    let growth = memory_of(daemon.id()).saturating_sub(before);
    assert!(growth < 48, "{growth} MiB");
    drop(held);
    daemon.stop();
}

/// A ledger that is too large for the socket is shown as the snapshot has it.
pub fn looker_of_a_large_ledger_reads_its_snapshot() {
    let host = SharedHost::new();
    let shown = host.env.path("shown");
    fs::create_dir(&shown).unwrap();
    chown(&shown, None, Some(SOCKET_GROUP)).unwrap();
    fs::set_permissions(&shown, Permissions::from_mode(0o750)).unwrap();
    let config = fs::read_to_string(host.env.config_path()).unwrap();
    let snapshot = shown.join("ledger.db");
    let ledger = format!("[ledger]\nsnapshot = {snapshot:?}\n");
    fs::write(
        host.env.config_path(),
        config.replace("[ledger]\n", &ledger),
    )
    .unwrap();
    host.env.ok(&["once"]);
    let taken = snapshot.metadata().unwrap().modified().unwrap();
    enlarge_ledger(&host, 257);
    let daemon = host.start();
    // The snapshot of the start is as large as the ledger.
    let deadline = Instant::now() + Duration::from_secs(120);
    while snapshot.metadata().unwrap().modified().unwrap() == taken {
        assert!(Instant::now() < deadline, "no snapshot");
        std::thread::sleep(Duration::from_millis(50));
    }
    let looked = host.run_as(LOOKER, SOCKET_GROUP, &["history"]);
    let (printed, message) = (text(&looked.stdout), text(&looked.stderr));
    assert!(looked.status.success(), "{message}");
    assert!(printed.starts_with("as of 2"), "{printed}");
    assert!(
        printed.contains("(snapshot; rekeyd did not send its ledger)"),
        "{printed}"
    );
    assert!(printed.contains("billing"), "{printed}");
    assert!(
        message.contains("too large to read through the control socket"),
        "{message}"
    );
    drop(daemon);
}
