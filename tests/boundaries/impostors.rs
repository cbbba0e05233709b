//! A process of the daemon's user in the place of its socket: it makes no command of root's
//! believe that something was done, and passes none on.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use crate::support::control_socket::Handshake;
use crate::support::{scratch_dir, text, write};
use crate::users::{DAEMON, SharedHost, run_as};

/// The cookie that an impostor makes.
const OWN_COOKIE: &str = "5f0c1e6b9a4d27835f0c1e6b9a4d27835f0c1e6b9a4d27835f0c1e6b9a4d2783";

/// A process that says that it is the daemon.
#[derive(Clone)]
struct Impostor {
    socket: PathBuf,
    /// The ledger that it names.
    ledger: PathBuf,
    /// Whether it proves to know the cookie beside that.
    has_cookie: bool,
    configuration: PathBuf,
}

impl Impostor {
    /// Listens as the daemon's user, and returns what it receives. The listener ends with the
    /// test.
    fn listen(self) -> Receiver<String> {
        let (sender, received) = channel();
        let socket = self.socket.clone();
        let listener = run_as(DAEMON, DAEMON, move || UnixListener::bind(socket).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (impostor, sender) = (self.clone(), sender.clone());
                std::thread::spawn(move || impostor.answer(stream.unwrap(), &sender));
            }
        });
        received
    }

    fn answer(&self, mut stream: UnixStream, sender: &std::sync::mpsc::Sender<String>) {
        let mut challenge = String::new();
        while let Some(request) = read_request(&mut stream) {
            let shown = request
                .lines()
                .find_map(|line| line.strip_prefix("rekeyd-challenge: "));
            if let Some(shown) = shown {
                shown.clone_into(&mut challenge);
            }
            let target = request.split(" HTTP").next().unwrap().to_owned();
            let body = self.page(&target).to_string();
            let proof = self.prove(&challenge, &target, &body);
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\n{proof}content-length: {length}\r\n\r\n{body}"
            );
            let _ = sender.send(request);
        }
    }

    fn page(&self, target: &str) -> Value {
        let found = self.socket.metadata().unwrap();
        let namespace = fs::metadata("/proc/self/ns/pid").unwrap().ino();
        match target {
            "GET /handshake" => json!({
                "ledger": self.ledger,
                "challenge": OWN_COOKIE,
                "socket": {"device": found.dev(), "inode": found.ino()},
                "process": {"id": std::process::id(), "namespace": namespace},
            }),
            "GET /daemon" => json!({
                "version": "0.2.0",
                "process": std::process::id(),
                "ledger": self.ledger,
                "configuration": {"file": self.configuration, "sha256": "0"},
                "problem": null,
                // Root believes it in nothing: it does not say that rekeyd runs.
                "ledger_damage": "the files of the ledger are damaged",
            }),
            _ => json!({"outcomes": [{"about": "x", "done": true, "message": "all is done"}]}),
        }
    }

    fn prove(&self, challenge: &str, target: &str, body: &str) -> String {
        if !self.has_cookie {
            return String::new();
        }
        let handshake = Handshake {
            challenge: challenge.to_owned(),
            answer: json!({"challenge": OWN_COOKIE}),
            body: Vec::new(),
            proof: None,
        };
        let proof = handshake.prove_response(OWN_COOKIE, target, 200, body.as_bytes());
        format!("rekeyd-proof: {proof}\r\n")
    }
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

/// After a stop there is no cookie, and any process of that user can listen and make one.
pub fn impostor_after_a_stop_is_not_believed() {
    let mut host = SharedHost::new();
    let daemon = host.start_as_service();
    daemon.stop();
    let (socket, ledger) = (host.env.path("control.sock"), host.env.path("ledger.db"));
    let configuration = host.env.config_path();
    let own = scratch_dir();
    let make_cookie = |ledger: &Path| {
        let cookie = ledger.with_file_name("ledger.db.cookie");
        write(&cookie, OWN_COOKIE);
        chown(&cookie, Some(DAEMON), Some(DAEMON)).unwrap();
    };
    for name in ["link", "other"] {
        fs::create_dir(own.path().join(name)).unwrap();
    }
    let (link, other) = (
        own.path().join("link/ledger.db"),
        own.path().join("other/ledger.db"),
    );
    std::os::unix::fs::symlink(&ledger, &link).unwrap();
    fs::copy(&ledger, &other).unwrap();
    make_cookie(&link);
    make_cookie(&other);
    for (named, has_cookie, expected) in [
        (
            &ledger,
            false,
            "cannot prove that it is the rekeyd that writes",
        ),
        (
            &link,
            true,
            "cannot prove that it is the rekeyd that writes",
        ),
        (&other, true, "it may be another process than rekeyd"),
    ] {
        let impostor = Impostor {
            socket: socket.clone(),
            ledger: named.clone(),
            has_cookie,
            configuration: configuration.clone(),
        };
        let received = impostor.listen();
        for command in [
            &["revoke", "key_none", "--force"][..],
            &["rotate", "billing"],
            &["reload"],
        ] {
            let output = host.env.run(command);
            let printed = text(&output.stdout) + &text(&output.stderr);
            assert_eq!(
                output.status.code(),
                Some(1),
                "{named:?} {command:?}: {printed}"
            );
            assert!(
                printed.contains(expected),
                "{named:?} {command:?}: {printed}"
            );
        }
        let status = host.env.run(&["status"]);
        assert_eq!(status.status.code(), Some(1));
        let shown = text(&status.stdout);
        assert!(
            shown.contains("rekeyd is NOT running"),
            "{named:?}: {shown}"
        );
        let requests: Vec<_> = received.try_iter().collect();
        assert!(!requests.is_empty());
        for request in requests {
            let is_question = ["GET /handshake ", "GET /daemon "]
                .iter()
                .any(|start| request.starts_with(start));
            assert!(is_question, "{request}");
        }
        fs::remove_file(&socket).unwrap();
    }
}

/// The daemon runs, as its lock shows, but cannot write a new cookie. What listens at its socket
/// may be another process, which no command takes for a healthy daemon.
pub fn daemon_without_a_cookie_is_not_shown_as_healthy() {
    let mut host = SharedHost::new();
    let daemon = host.start_as_service();
    host.env.ok(&["status"]);
    // In the way of a new one.
    fs::create_dir(host.env.path("ledger.db.cookie.new")).unwrap();
    fs::write(host.env.path("ledger.db.cookie.new/file"), "").unwrap();
    fs::remove_file(host.env.path("ledger.db.cookie")).unwrap();
    let by_owner = host.run_as(DAEMON, DAEMON, &["status"]);
    for status in [host.env.run(&["status"]), by_owner] {
        let shown = text(&status.stdout);
        assert_eq!(status.status.code(), Some(1), "{shown}");
        assert!(
            shown.contains("cannot prove that it is the rekeyd"),
            "{shown}"
        );
        assert!(shown.contains("\nrunning: rekeyd run"), "{shown}");
    }
    let check = host.env.run(&["check"]);
    let problems = text(&check.stderr);
    assert_eq!(check.status.code(), Some(1), "{problems}");
    assert!(problems.contains("cannot prove that it is"), "{problems}");
    fs::remove_dir_all(host.env.path("ledger.db.cookie.new")).unwrap();
    daemon.stop();
}

/// The daemon's own socket is in its place again when the command compares it: it is not the
/// socket that the command has reached.
pub fn relay_passes_no_command_on() {
    let mut host = SharedHost::new();
    let daemon = host.start_as_service();
    let socket = host.env.path("control.sock");
    let (moved, away) = (host.env.path("moved.sock"), host.env.path("away.sock"));
    fs::rename(&socket, &moved).unwrap();
    let place = socket.clone();
    let listener = run_as(DAEMON, DAEMON, move || UnixListener::bind(place).unwrap());
    let relay = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let handshake = read_request(&mut stream).unwrap();
        fs::rename(&socket, away).unwrap();
        fs::rename(moved, &socket).unwrap();
        let mut daemon = UnixStream::connect(socket).unwrap();
        daemon.write_all(handshake.as_bytes()).unwrap();
        let answer = read_request(&mut daemon).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        (handshake, read_request(&mut stream))
    });
    // The command tries the socket again that the daemon has recorded: its own by now.
    assert!(host.env.ok(&["pause", "billing"]).contains("paused"));
    let (handshake, request) = relay.join().unwrap();
    assert!(handshake.starts_with("GET /handshake "), "{handshake}");
    assert_eq!(request, None);
    daemon.stop();
}
