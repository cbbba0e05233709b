//! Logging to the journal, whose socket a mount namespace provides here: only systemd
//! decides its path.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{PipeWriter, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::host::report_missing;
use crate::support::limit::wait_until;
use crate::support::{ChildGuard, TestEnv, file_key_text, free_address, get, text, write};

/// One entry of the journal, by the names of its fields.
type Entry = BTreeMap<String, String>;

/// The message that ends the journal of these tests.
const END: &[u8] = b"end";

/// An environment, and a folder that its programs see as `/run/systemd/journal`.
struct Host {
    world: TestEnv,
}

impl Host {
    /// Returns a host; none if this user may not create namespaces.
    fn new() -> Option<Self> {
        let mut mount = unshare();
        mount.args(["mount", "-t", "tmpfs", "none", "/run"]);
        if !mount.output().is_ok_and(|done| done.status.success()) {
            report_missing("the right to mount in a namespace (unshare)");
            return None;
        }
        let world = TestEnv::start(&[]);
        fs::create_dir(world.path("journal")).unwrap();
        let script = world.path("put");
        let echo = "#!/bin/sh\nread -r secret\necho \"got $secret\"\necho \"and $secret\" >&2\n";
        write(&script, echo);
        fs::set_permissions(&script, Permissions::from_mode(0o700)).unwrap();
        world.configure(
            "[key.billing]\nschedule = \"@monthly\"\nverify-interval = \"0s\"\n\
             [[key.billing.sink]]\ntype = \"command\"\nargv = [\"DIR/put\"]\n",
        );
        Some(Self { world })
    }

    fn socket(&self) -> PathBuf {
        self.world.path("journal/socket")
    }

    /// Collects the entries that are sent to the journal until [`Host::end`].
    fn journal(&self) -> JoinHandle<Vec<Entry>> {
        self.collect(UnixDatagram::bind(self.socket()).unwrap())
    }

    /// Collects the entries that this socket gets until [`Host::end`].
    fn collect(&self, socket: UnixDatagram) -> JoinHandle<Vec<Entry>> {
        std::thread::spawn(move || {
            let mut entries = Vec::new();
            let mut datagram = vec![0; 1024 * 1024];
            loop {
                let length = socket.recv(&mut datagram).unwrap();
                match &datagram[..length] {
                    END => return entries,
                    // The logger checks whether a journal is listening.
                    [] => {}
                    entry => entries.push(read(entry)),
                }
            }
        })
    }

    fn end(&self, journal: JoinHandle<Vec<Entry>>) -> Vec<Entry> {
        let socket = UnixDatagram::unbound().unwrap();
        socket.send_to(END, self.socket()).unwrap();
        journal.join().unwrap()
    }

    /// Runs a command, and returns its standard error. With a stream of its own,
    /// `$JOURNAL_STREAM` names that standard error.
    fn run(&self, arguments: &[&str], of_its_own: bool) -> String {
        let file = self.world.path("stderr");
        let stderr = fs::File::create(&file).unwrap();
        let facts = stderr.metadata().unwrap();
        let inode = facts.ino() + u64::from(!of_its_own);
        let mut command = self.command(arguments);
        let status = command
            .env("JOURNAL_STREAM", format!("{}:{inode}", facts.dev()))
            .stderr(stderr)
            .status()
            .unwrap();
        let stderr = text(&fs::read(file).unwrap());
        assert!(status.success(), "{stderr}");
        stderr
    }

    /// Returns a command that sees the journal of this host.
    fn command(&self, arguments: &[&str]) -> Command {
        let given = self.world.command(arguments);
        let mut command = unshare();
        command
            .args(["sh", "-c"])
            .arg(
                "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
                 mount --bind \"$1\" /run/systemd/journal && shift && exec \"$@\"",
            )
            .arg("sh")
            .arg(self.world.path("journal"))
            .arg(given.get_program())
            .args(given.get_args());
        command
    }

    /// Returns the secret that was delivered last.
    fn secret(&self) -> String {
        let history = self.world.history();
        let id = history[0]["credential_id"].as_str().unwrap();
        self.world.secret_of(id)
    }
}

/// Returns a command in a mount namespace of its own.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "--"]);
    command
}

/// Parses the native protocol: `NAME=value`, or the name, the length in eight bytes and
/// the value.
fn read(mut datagram: &[u8]) -> Entry {
    let mut entry = Entry::new();
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
        entry.insert(name, value);
        datagram = rest;
    }
    entry
}

#[test]
fn each_journal_entry_has_its_fields() {
    let Some(host) = Host::new() else { return };
    let journal = host.journal();
    let stderr = host.run(
        &["--log-level", "debug", "--log-format", "journald", "once"],
        false,
    );
    let entries = host.end(journal);
    assert_eq!(stderr, "", "all of it is in the journal");

    let with = |message: &str| {
        let mut entries = entries.iter();
        let found = entries.find(|entry| entry["MESSAGE"].contains(message));
        found.unwrap_or_else(|| panic!("no {message:?} in {entries:?}"))
    };
    let current = with("is the current credential");
    let history = &host.world.history()[0];
    assert_eq!(current["PRIORITY"], "6");
    assert_eq!(current["SYSLOG_IDENTIFIER"], "rekeyd");
    assert_eq!(current["REKEYD_KEY"], "billing");
    assert_eq!(
        current["REKEYD_ROTATION"],
        history["rotation"].as_str().unwrap()
    );
    assert_eq!(with("command: got [secret]")["PRIORITY"], "6");
    let complaint = with("command: and [secret]");
    assert_eq!(complaint["PRIORITY"], "4");
    // As in every other line, the name alone.
    assert_eq!(complaint["REKEYD_SINK"], "command");
    assert_eq!(with("billing: delivering to ")["PRIORITY"], "7");
    let secret = host.secret();
    for value in entries.iter().flat_map(BTreeMap::values) {
        assert!(!value.contains(&secret), "{value}");
    }
}

#[test]
fn auto_format_uses_journald_only_if_stderr_goes_there() {
    let Some(host) = Host::new() else { return };
    let journal = host.journal();
    let elsewhere = host.run(&["once"], false);
    assert!(
        elsewhere.contains("is the current credential"),
        "{elsewhere}"
    );
    assert!(!elsewhere.contains('\u{1b}'), "no colours: {elsewhere}");
    let beside = host.run(&["rotate", "billing"], true);
    let is_note = |line: &str| line.starts_with("note: no rekeyd is running");
    assert!(beside.lines().all(is_note), "{beside}");
    let entries = host.end(journal);
    // The first run wrote no entries.
    let rotated = |entry: &&Entry| entry["MESSAGE"].contains("is the current credential");
    assert_eq!(entries.iter().filter(rotated).count(), 1, "{entries:?}");
}

#[test]
fn missing_journald_is_reported_once_and_text_is_used() {
    for (arguments, of_its_own) in [
        (&["--log-format", "journald", "once"][..], false),
        (&["once"], true),
    ] {
        let Some(host) = Host::new() else { return };
        let stderr = host.run(arguments, of_its_own);
        let problem = "cannot connect to the journal: ";
        assert_eq!(stderr.matches(problem).count(), 1, "{stderr}");
        assert!(stderr.contains("is the current credential"), "{stderr}");
    }
}

/// Fills a pipe, so that the next write to it blocks.
pub(crate) fn fill(mut pipe: &PipeWriter) {
    fcntl_setfl(pipe, OFlags::NONBLOCK).unwrap();
    while pipe.write(&[b'\n'; 4_096]).is_ok() {}
    fcntl_setfl(pipe, OFlags::empty()).unwrap();
}

/// A daemon whose log nobody reads.
struct UnreadDaemon<'w> {
    world: &'w TestEnv,
    process: ChildGuard,
}

impl<'w> UnreadDaemon<'w> {
    /// Starts the daemon, and waits until it takes requests.
    fn start(world: &'w TestEnv, mut command: Command) -> Self {
        let mut process = ChildGuard(command.spawn().unwrap());
        // The process has the other end of the pipe.
        drop(command);
        wait_until("the daemon takes requests", || {
            assert_eq!(process.0.try_wait().unwrap(), None, "the daemon has ended");
            world.path("control.sock").exists()
        });
        Self { world, process }
    }

    /// Asserts that it rotates, reloads and answers monitoring.
    fn assert_works(&self, metrics: &str) {
        self.world.ok(&["rotate", "billing"]);
        self.world.ok(&["reload"]);
        self.world.ok(&["rotate", "billing"]);
        assert_eq!(get(metrics, "/readyz").0, 200);
    }

    /// Asserts that it obeys SIGTERM.
    fn assert_stops(mut self) {
        let id = Pid::from_raw(i32::try_from(self.process.0.id()).unwrap()).unwrap();
        kill_process(id, Signal::TERM).unwrap();
        assert!(wait_for_end(&mut self.process).success());
    }
}

/// Waits until a process ends, for a minute at most: one that waits for its reader never does.
pub(crate) fn wait_for_end(process: &mut ChildGuard) -> ExitStatus {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = process.0.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < end, "the process does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns a configuration with metrics, and their address.
fn monitored_key() -> (String, String) {
    let address = free_address();
    let metrics = format!("[metrics]\nlisten = \"{address}\"\n");
    (format!("{metrics}{}", file_key_text("1h")), address)
}

/// What is logged while nobody reads, and must be there for a reader that goes on.
const KEPT_LINES: [&str; 4] = [
    " started",
    "is the current credential",
    "reloaded",
    "stopped; ",
];

#[test]
fn reader_that_does_not_read_delays_nothing() {
    for (format, reads_again) in [("human", false), ("human", true), ("json", true)] {
        let world = TestEnv::start(&[]);
        let (configuration, metrics) = monitored_key();
        world.configure(&configuration);
        let (mut reader, writer) = std::io::pipe().unwrap();
        fill(&writer);
        // Whatever the level: more lines than the pipe takes.
        let mut command = world.command(&["--log-level", "trace", "--log-format", format, "run"]);
        command.stderr(writer);
        let daemon = UnreadDaemon::start(&world, command);
        daemon.assert_works(&metrics);
        if !reads_again {
            daemon.assert_stops();
            // The pipe has none of it.
            let mut log = Vec::new();
            reader.read_to_end(&mut log).unwrap();
            assert!(log.iter().all(|byte| *byte == b'\n'));
            continue;
        }
        let (reads, is_reading) = channel();
        let reading = std::thread::spawn(move || {
            let mut log = Vec::new();
            let mut part = [0; 4_096];
            while let Ok(length @ 1..) = reader.read(&mut part) {
                log.extend_from_slice(&part[..length]);
                let _ = reads.send(());
            }
            text(&log)
        });
        is_reading.recv().unwrap();
        daemon.assert_stops();
        let log = reading.join().unwrap();
        for expected in KEPT_LINES {
            assert!(log.contains(expected), "no {expected:?} in {}", log.trim());
        }
    }
}

#[test]
fn short_run_and_refused_start_wait_for_no_reader() {
    let world = TestEnv::start(&[]);
    let key = file_key_text("1h");
    for (configuration, command, expected) in [
        (key.as_str(), "once", 0),
        ("[key]\nbroken = 1\n", "once", 78),
        ("[key]\nbroken = 1\n", "run", 78),
    ] {
        world.configure(configuration);
        let (_reader, writer) = std::io::pipe().unwrap();
        fill(&writer);
        let mut command = world.command(&["--log-level", "trace", command]);
        command.stderr(writer);
        let mut process = ChildGuard(command.spawn().unwrap());
        assert_eq!(wait_for_end(&mut process).code(), Some(expected));
    }
    world.configure(&key);
    assert_eq!(world.history().len(), 1);
}

/// Fills the queue of a datagram socket, so that the next datagram waits.
fn fill_socket(path: &Path) {
    let socket = UnixDatagram::unbound().unwrap();
    socket.set_nonblocking(true).unwrap();
    while socket.send_to(b"FILLER=1\n", path).is_ok() {}
}

#[test]
fn journal_that_hangs_delays_nothing() {
    for reads_again in [false, true] {
        let Some(host) = Host::new() else { return };
        let (configuration, metrics) = monitored_key();
        host.world.configure(&configuration);
        let socket = UnixDatagram::bind(host.socket()).unwrap();
        fill_socket(&host.socket());
        let command = host.command(&["--log-format", "journald", "run"]);
        let daemon = UnreadDaemon::start(&host.world, command);
        daemon.assert_works(&metrics);
        if !reads_again {
            daemon.assert_stops();
            socket.set_nonblocking(true).unwrap();
            let mut datagram = [0; 64 * 1024];
            while let Ok(length) = socket.recv(&mut datagram) {
                assert_eq!(datagram[..length], *b"FILLER=1\n");
            }
            continue;
        }
        let reading = host.collect(socket);
        daemon.assert_stops();
        let entries = host.end(reading);
        for expected in KEPT_LINES {
            let mut entries = entries.iter().filter_map(|entry| entry.get("MESSAGE"));
            assert!(
                entries.any(|message| message.contains(expected)),
                "{expected}"
            );
        }
    }
}
