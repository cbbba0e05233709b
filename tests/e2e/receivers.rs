//! The receivers of `docs/examples`, given secrets by the real binary.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::function_server::{ServedRequest, serve_with};
use crate::support::host::report_missing;
use crate::support::{ChildGuard, TestEnv, write};
use rekeyd::net::signature::SigningKeys;

const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_SIGNING: &str = "whsec_YW5vdGhlci1zaWduaW5nLXNlY3JldC0xMjM0NTY";

/// A webhook as it was sent.
#[derive(Clone)]
struct Webhook {
    id: String,
    timestamp: String,
    signature: String,
    body: String,
}

impl Webhook {
    fn from_request(request: &ServedRequest) -> Self {
        Self {
            id: request.header("webhook-id").to_owned(),
            timestamp: request.header("webhook-timestamp").to_owned(),
            signature: request.header("webhook-signature").to_owned(),
            body: request.body.clone(),
        }
    }

    /// Returns it signed again, as if it had been sent `seconds` earlier.
    fn signed(self, secret: &str, seconds: i64) -> Self {
        let timestamp = self.timestamp.parse::<i64>().unwrap() - seconds;
        let keys = SigningKeys::parse(secret).unwrap();
        Self {
            signature: keys.sign(&self.id, timestamp, self.body.as_bytes()),
            timestamp: timestamp.to_string(),
            ..self
        }
    }

    /// Posts it, and returns the status of the answer.
    fn post(&self, port: u16) -> u16 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(
            stream,
            "POST /key HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\
             webhook-id: {}\r\nwebhook-timestamp: {}\r\nwebhook-signature: {}\r\n\r\n{}",
            self.body.len(),
            self.id,
            self.timestamp,
            self.signature,
            self.body
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

/// A receiver, and the relay that rekeyd posts to, which keeps every webhook.
struct Receiver {
    port: u16,
    relay: String,
    relayed: Arc<Mutex<Vec<Webhook>>>,
    key_file: PathBuf,
    _process: ChildGuard,
}

impl Receiver {
    /// Starts the example; none where its interpreter is not installed.
    fn start(interpreter: &str, example: &str, folder: &Path) -> Option<Self> {
        let key_file = folder.join("received.key");
        write(&folder.join("signing"), SIGNING);
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let started = Command::new(interpreter)
            .arg(root.join("docs/examples").join(example))
            .args([&folder.join("signing"), &key_file])
            .arg("0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = started else {
            report_missing(interpreter);
            return None;
        };
        let mut process = ChildGuard(child);
        let mut line = String::new();
        let output = process.0.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let Some(port) = line.trim().strip_prefix("listening on port ") else {
            report_missing(&format!("a {interpreter} that runs {example}: {line}"));
            return None;
        };
        let port = port.parse().unwrap();
        let relayed = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&relayed);
        let relay = move |request: &ServedRequest| {
            let webhook = Webhook::from_request(request);
            let status = webhook.post(port);
            kept.lock().unwrap().push(webhook);
            (status, String::new())
        };
        Some(Self {
            port,
            relay: serve_with(relay, || "Tue, 24 Nov 2026 03:00:00 GMT".to_owned()),
            relayed,
            key_file,
            _process: process,
        })
    }

    fn received(&self) -> String {
        std::fs::read_to_string(&self.key_file).unwrap()
    }

    /// Returns the inode of the key's file, which each write changes.
    fn inode(&self) -> u64 {
        std::fs::metadata(&self.key_file).unwrap().ino()
    }
}

fn check_receiver(interpreter: &str, example: &str) {
    let world = TestEnv::start(&[]);
    let Some(receiver) = Receiver::start(interpreter, example, world.dir.path()) else {
        return;
    };
    world.configure(&format!(
        "[key.billing]\nschedule = \"@monthly\"\nverify-interval = \"0s\"\n\
         [[key.billing.sink]]\ntype = \"webhook\"\nurl = \"{}/key\"\n\
         owner = \"OWN-USER\"\nsigning-secret-file = \"DIR/signing\"\n",
        receiver.relay
    ));
    world.ok(&["once"]);
    world.ok(&["rotate", "billing"]);
    let newest = world.history().remove(0);
    let secret = world.secret_of(newest["credential_id"].as_str().unwrap());
    assert_eq!(receiver.received(), format!("{secret}\n"));
    let [first, second] = &receiver.relayed.lock().unwrap().clone()[..] else {
        panic!("two rotations are two webhooks");
    };
    let (content, inode) = (receiver.received(), receiver.inode());
    // The sequence of the key's next rotation, and another secret.
    let sequence = newest["sequence"].as_u64().unwrap();
    let next = Webhook {
        id: "msg_next".to_owned(),
        body: second
            .body
            .replace(&secret, "sk-admin-next")
            .replace(&sequence.to_string(), &(sequence + 1).to_string()),
        ..second.clone()
    };
    for (webhook, status, what) in [
        (second.clone(), 200, "a repeat"),
        (first.clone().signed(SIGNING, 0), 409, "a late one"),
        (next.clone(), 401, "a changed body"),
        (next.clone().signed(OTHER_SIGNING, 0), 401, "a forged one"),
        (next.clone().signed(SIGNING, 600), 401, "an old one"),
        (next.clone().signed(SIGNING, -600), 401, "an early one"),
    ] {
        assert_eq!(webhook.post(receiver.port), status, "{example}: {what}");
        assert_eq!(receiver.received(), content, "{example}: {what}");
        assert_eq!(receiver.inode(), inode, "{example}: {what} writes nothing");
    }
    // A sink with another name or URL sends the same rotation under another id.
    let moved = Webhook {
        id: "msg_moved".to_owned(),
        ..second.clone()
    };
    let moved = moved.signed(SIGNING, 0);
    assert_eq!(moved.post(receiver.port), 200, "{example}: a moved sink");
    assert_eq!(receiver.received(), content, "{example}: a moved sink");
    // While the secret changes, rekeyd signs with both.
    let with_both = next.signed(&format!("{OTHER_SIGNING}\n{SIGNING}"), 0);
    assert_eq!(with_both.post(receiver.port), 200, "{example}");
    assert_eq!(receiver.received(), "sk-admin-next\n");
}

#[test]
fn python_receiver_handles_forged_old_and_repeated_webhooks() {
    check_receiver("python3", "receiver.py");
}

#[test]
fn javascript_receiver_handles_forged_old_and_repeated_webhooks() {
    check_receiver("node", "receiver.mjs");
}
