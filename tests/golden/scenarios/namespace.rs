//! Faces at paths that only systemd or the host decides: the journal's socket, and
//! `/usr/sbin/sendmail`. A mount namespace provides both. If this user may not create
//! one, these faces are not compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::configuration::notifications as configuration;
use crate::recording::Recording;
use crate::scenario::Scenario;
use crate::support::host::{report_missing, report_unsupported};
use crate::support::{text, write};

/// The golden files of this scenario.
const FILES: [&str; 2] = ["journal-fields", "mail"];

/// The name of the host in the namespace.
const HOST: &str = "golden.example.com";

/// Mounts the folders of the journal and of sendmail, sets the host name, and runs the
/// rest of its arguments.
const ENTER: &str = r#"
set -e
mount -t tmpfs none /run
mkdir -p /run/systemd/journal
mount --bind "$1" /run/systemd/journal
mount --bind "$2" /usr/sbin
echo "$3" >/proc/sys/kernel/hostname
shift 3
exec "$@"
"#;

/// Stores its arguments and the mail.
const SENDMAIL: &str = "#!/bin/sh\necho \"$@\" >DIR/mail.arguments\ncat >DIR/mail\n";

/// The message that ends the journal.
const END: &[u8] = b"end";

pub(crate) fn run() -> Recording {
    let mut scenario = Scenario::start(&[]);
    let is_link = fs::symlink_metadata("/usr/sbin").is_ok_and(|found| found.is_symlink());
    for folder in ["journal", "sbin"] {
        fs::create_dir(scenario.path(folder)).unwrap();
    }
    let tried = entered(&scenario, &["true".as_ref()]).output();
    if is_link || !tried.is_ok_and(|tried| tried.status.success()) {
        match is_link {
            true => report_unsupported("/usr/sbin is a link, over which nothing is mounted"),
            false => report_missing("the right to mount in a namespace (unshare)"),
        }
        scenario.recording.skipped.extend(FILES.map(str::to_owned));
        return scenario.finish();
    }
    let dir = scenario.env.dir.path().display().to_string();
    let sendmail = scenario.path("sbin/sendmail");
    write(&sendmail, &SENDMAIL.replace("DIR", &dir));
    fs::set_permissions(&sendmail, Permissions::from_mode(0o700)).unwrap();
    scenario.configure(&configuration::by_mail());
    let journal = Journal::listen(&scenario.path("journal/socket"));
    let once = ["--log-level", "debug", "--log-format", "journald", "once"];
    let once = scenario.env.command(&once);
    let words = [once.get_program()].into_iter().chain(once.get_args());
    let output = entered(&scenario, &words.collect::<Vec<_>>())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "", "everything is in the journal");
    let entries = journal.finish();
    scenario.record("journal-fields", "entries", entries);
    record_mail(&mut scenario);
    scenario.finish()
}

/// Returns a command in such a mount namespace.
fn entered(scenario: &Scenario, words: &[&std::ffi::OsStr]) -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["--mount", "--uts", "--", "sh", "-c", ENTER, "sh"])
        .arg(scenario.path("journal"))
        .arg(scenario.path("sbin"))
        .arg(HOST)
        .args(words);
    command
}

/// A fake journal.
struct Journal {
    socket: std::path::PathBuf,
    reader: JoinHandle<BTreeSet<String>>,
}

impl Journal {
    fn listen(socket: &Path) -> Self {
        let listener = UnixDatagram::bind(socket).unwrap();
        let reader = std::thread::spawn(move || {
            let mut entries = BTreeSet::new();
            let mut datagram = vec![0; 1024 * 1024];
            loop {
                let length = listener.recv(&mut datagram).unwrap();
                match &datagram[..length] {
                    END => return entries,
                    // The logger checks whether a journal is listening.
                    [] => {}
                    entry => drop(entries.insert(shape(&fields(entry)))),
                }
            }
        });
        let socket = socket.to_owned();
        Self { socket, reader }
    }

    fn finish(self) -> Value {
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(END, &self.socket).unwrap();
        // As with log lines, which debug lines about the process itself there are varies.
        let is_stable = |entry: &String| !entry.contains("PRIORITY=7") || entry.contains("REKEYD_");
        let entries = self.reader.join().unwrap().into_iter().filter(is_stable);
        json!(entries.collect::<Vec<_>>())
    }
}

/// Returns the fields of an entry, with the values of the enumerated ones.
fn shape(fields: &BTreeMap<String, String>) -> String {
    let members = fields.iter().map(|(name, value)| match name.as_str() {
        "PRIORITY" | "REKEYD_EVENT" | "REKEYD_TRIGGER" | "SYSLOG_IDENTIFIER" => {
            format!("{name}={value}")
        }
        _ => name.clone(),
    });
    members.collect::<Vec<_>>().join(", ")
}

/// Parses the native protocol: `NAME=value`, or the name, the length in eight bytes and
/// the value.
fn fields(mut datagram: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while !datagram.is_empty() {
        let end = datagram.iter().position(|byte| *byte == b'\n').unwrap();
        let (line, rest) = (text(&datagram[..end]), &datagram[end + 1..]);
        let (name, value, rest) = match line.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned(), rest),
            None => {
                let (length, rest) = rest.split_first_chunk().unwrap();
                let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
                (line, text(&rest[..length]), &rest[length + 1..])
            }
        };
        fields.insert(name, value);
        datagram = rest;
    }
    fields
}

/// Records the arguments of sendmail, the mail's headers and its JSON. The rest of the
/// body is free text.
fn record_mail(scenario: &mut Scenario) {
    let read = |name: &str| fs::read_to_string(scenario.path(name)).unwrap();
    let (arguments, mail) = (read("mail.arguments"), read("mail"));
    let (head, body) = mail.split_once("\n\n").unwrap();
    let json: String = body[body.find('{').unwrap()..].lines().collect();
    let json: Value = serde_json::from_str(&json).unwrap();
    let headers: Vec<&str> = head.lines().collect();
    assert_eq!(json["data"]["host"], HOST);
    scenario.record("mail", "arguments of sendmail", arguments.trim_end().into());
    scenario.record("mail", "headers", json!(headers));
    scenario.record("mail", "JSON at the end", json);
}
