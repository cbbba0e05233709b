//! The control socket: no user keeps root or another user from it, and a command trusts only the
//! daemon's user.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::daemon::Daemon;
use crate::support::{scratch_dir, text};
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

/// Configures a group of the host's as that of the operators, of which [`NAMED`] is a member.
fn configure_group(host: &SharedHost) {
    let config = fs::read_to_string(host.env.config_path()).unwrap();
    let group = "[control]\nadmins = [\"rekeyd-operators\"]\n";
    fs::write(host.env.config_path(), config.replace("[control]\n", group)).unwrap();
    let groups = fs::read_to_string("/etc/group").unwrap();
    let groups = format!("{groups}rekeyd-operators:x:4799:{}\n", NAMED.1);
    fs::write(host.env.path("group"), groups).unwrap();
    fs::set_permissions(host.env.path("group"), Permissions::from_mode(0o644)).unwrap();
}

/// A member by a supplementary group, which no process of the user has, may operate.
pub fn rights_follow_the_groups_of_the_name_service() {
    let host = SharedHost::new();
    configure_group(&host);
    let daemon = start_with_files(&host, &[("group", "/etc/group")]);
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
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// The owner of the ledger serves the socket, and names a file of root's as the ledger, beside
/// which the cookie is looked for.
pub fn owner_of_the_ledger_gets_no_file_of_roots() {
    let mut host = SharedHost::new();
    host.env.keep_configuration_apart();
    let daemon = host.start();
    let socket = host.env.path("control.sock");
    let page = page_of(&socket, "/daemon");
    daemon.stop();
    let own = scratch_dir();
    fs::write(own.path().join("file.cookie"), "precious-line\n").unwrap();
    let ledger = host.env.path("ledger.db").display().to_string();
    assert!(page.contains(&ledger), "{page}");
    let page = page.replace(&ledger, &own.path().join("file").display().to_string());
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
                let mut stream = stream.unwrap();
                let mut request = [0; 4_096];
                let length = stream.read(&mut request).unwrap_or(0);
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
                    page.len()
                );
                if sender.send(text(&request[..length])).is_err() {
                    break;
                }
            }
        });
    });
    is_ready.recv().unwrap();
    host.env.run(&["rotate", "billing"]);
    let requests: Vec<String> = received.try_iter().collect();
    assert!(
        requests.iter().any(|request| request.starts_with("POST")),
        "{requests:?}"
    );
    for request in requests {
        assert!(!request.contains("precious-line"), "{request}");
    }
}
