//! A full disk that takes one page more: one condition from the first failed commit to the
//! end of the shortage, one notification, and none that needs the ledger.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::daemon::Daemon;
use crate::support::host::report_missing;
use crate::support::{ChildGuard, TestEnv, free_address, get, text, write};

/// What this host lacks where no small disk can be made.
const MOUNTS: &str = "the right to mount in a namespace (unshare)";

/// How long the test waits for the daemon.
const PATIENCE: Duration = Duration::from_secs(90);

/// The bytes of the disk that are free again at once: some pages, and no commit.
const LITTLE_ROOM: u64 = 12 * 1024;

/// A daemon whose ledger is on a small disk of its own, in a mount namespace.
struct SmallDiskDaemon {
    process: ChildGuard,
    log_lines: Receiver<String>,
    log: Vec<String>,
    state: PathBuf,
}

impl SmallDiskDaemon {
    /// Starts the daemon; none if this host lets the test mount nothing.
    fn start(world: &TestEnv) -> Option<Self> {
        let state = world.path("state");
        fs::create_dir(&state).unwrap();
        let script = format!(
            "mount -t tmpfs -o size=8m,mode=0700 tmpfs {} && exec \"$@\"",
            state.display()
        );
        let unshare = ["-r", "-m", "sh", "-c"];
        let probe = Command::new("unshare")
            .args(unshare)
            .args([&script, "sh", "true"])
            .output();
        if !probe.is_ok_and(|probe| probe.status.success()) {
            report_missing(MOUNTS);
            return None;
        }
        let run = world.command(&["run"]);
        let mut child = Command::new("unshare")
            .args(unshare)
            .args([&script, "sh"])
            .arg(run.get_program())
            .args(run.get_args())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, log_lines) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The test may not be waiting any more.
                let _ = sender.send(line);
            }
        });
        // The folder as the daemon sees it.
        let root = format!("/proc/{}/root", child.id());
        let state = PathBuf::from(format!("{root}{}", state.display()));
        Some(Self {
            process: ChildGuard(child),
            log_lines,
            log: Vec::new(),
            state,
        })
    }

    fn wait_for(&mut self, expected: &str) {
        while let Ok(line) = self.log_lines.recv_timeout(PATIENCE) {
            let is_expected = line.contains(expected);
            self.log.push(line);
            if is_expected {
                return;
            }
        }
        panic!("no {expected:?} in the log:\n{}", self.log.join("\n"));
    }

    fn count(&mut self, text: &str) -> usize {
        self.log.extend(self.log_lines.try_iter());
        let lines = self.log.iter().filter(|line| line.contains(text));
        lines.count()
    }

    /// Fills the disk but for [`LITTLE_ROOM`].
    fn fill(&self) {
        let mut options = OpenOptions::new();
        let path = self.state.join("fill");
        let mut file: File = options.write(true).create(true).open(&path).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length - LITTLE_ROOM).unwrap();
    }
}

/// Returns the notifications so far, one JSON object each.
fn notices(world: &TestEnv) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(world.path("notices")).unwrap_or_default();
    let values = serde_json::Deserializer::from_str(&text).into_iter();
    // The last one may be half written.
    values.map_while(Result::ok).collect()
}

#[test]
fn full_disk_that_takes_a_page_is_one_condition() {
    let world = TestEnv::start(&[]);
    let metrics = free_address();
    world.configure(&format!(
        "[metrics]\nlisten = \"{metrics}\"\n\
         [[notify]]\ntype = \"command\"\nargv = [\"DIR/told\"]\n\
         [key.billing]\nevery = \"5s\"\noverlap = \"0s\"\nverify-interval = \"0s\"\n\
         max-creates-per-day = 172800\n\
         [[key.billing.sink]]\ntype = \"file\"\npath = \"DIR/billing.key\"\n"
    ));
    let config = fs::read_to_string(world.path("config.toml")).unwrap();
    write(
        &world.path("config.toml"),
        &config.replace("/ledger.db\"", "/state/ledger.db\""),
    );
    let (told, file) = (world.path("told"), world.path("notices"));
    write(&told, &format!("#!/bin/sh\ncat >> {}\n", file.display()));
    fs::set_permissions(&told, fs::Permissions::from_mode(0o700)).unwrap();
    let Some(mut daemon) = SmallDiskDaemon::start(&world) else {
        return;
    };
    daemon.wait_for("is the current credential");

    daemon.fill();
    let start = Instant::now();
    while notices(&world).is_empty() {
        assert!(start.elapsed() < PATIENCE, "nobody is told");
        std::thread::yield_now();
    }
    assert_eq!(daemon.count("no rotation can start"), 1, "{:?}", daemon.log);
    assert_eq!(daemon.count("resuming rotations"), 0, "{:?}", daemon.log);
    let (status, _, page) = get(&metrics, "/readyz");
    assert_eq!(status, 503);
    assert!(page.contains("full"), "{page}");
    let created = world.keys().len();
    for command in [
        &["pause", "billing"][..],
        &["hold", "billing"],
        &["rotate", "billing"],
    ] {
        let asked = Instant::now();
        let output = world.run(command);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {stderr}");
        assert!(stderr.contains("full"), "{command:?}: {stderr}");
        assert!(asked.elapsed() < PATIENCE / 3, "{command:?}");
    }

    fs::remove_file(daemon.state.join("fill")).unwrap();
    daemon.wait_for("resuming rotations");
    daemon.wait_for("is the current credential");
    assert!(world.keys().len() >= created);
    assert_eq!(get(&metrics, "/readyz").0, 200);
    while notices(&world).len() < 2 {
        assert!(start.elapsed() < 2 * PATIENCE, "nobody is told of the end");
        std::thread::yield_now();
    }
    let states: Vec<_> = notices(&world)
        .into_iter()
        .map(|notice| notice["data"]["state"].clone())
        .collect();
    assert_eq!(states, ["begun", "over"]);
    assert_eq!(daemon.count("no rotation can start"), 1);
    drop(daemon.process);
}

/// The system ends a process that writes past the limit, unless it handles the signal.
#[test]
fn limit_of_file_sizes_is_a_failed_write() {
    for limit in [4_096, 100_000, 250_000] {
        let world = TestEnv::start(&[]);
        // Enough keys that their first rotations fill the log of the ledger.
        let keys = ["a", "b", "c", "d"].map(|name| {
            format!(
                "[key.{name}]\nschedule = \"@monthly\"\noverlap = \"1h\"\n\
                 [[key.{name}.sink]]\ntype = \"file\"\npath = \"DIR/{name}.key\"\n"
            )
        });
        world.configure(&keys.concat());
        let run = world.command(&["run"]);
        let mut limited = Command::new("prlimit");
        limited
            .arg(format!("--fsize={limit}"))
            .arg(run.get_program())
            .args(run.get_args());
        let mut daemon = Daemon::from_command(limited);
        // The smaller ones fail the start. The largest one leaves no room for what a rotation
        // writes, and perhaps none for the record of the end.
        daemon.wait_for(&format!("limit of {limit} bytes"));
        daemon.signal(Signal::INT);
        daemon.signal(Signal::TERM);
        let code = daemon.wait().code();
        let is_expected = code == Some(1) || (limit == 250_000 && code == Some(0));
        assert!(is_expected, "{limit}: {code:?}");
    }
}

/// `run` cannot start on a full disk, so `check` does not call it fine: with no room, and
/// with no file left to make.
#[test]
fn check_finds_a_full_disk_before_a_start() {
    let world = TestEnv::start(&[]);
    let state = world.path("state");
    fs::create_dir(&state).unwrap();
    let text_of_key = crate::support::file_key_text("24h");
    world.configure(&text_of_key);
    let config = fs::read_to_string(world.path("config.toml")).unwrap();
    write(
        &world.path("config.toml"),
        &config.replace("/ledger.db", "/state/ledger.db"),
    );
    let check = |options: &str, command: &str| run_on_tmpfs(&world, &state, options, command);
    if !check("size=8m", "true").is_ok_and(|probe| probe.status.success()) {
        report_missing(MOUNTS);
        return;
    }
    for (options, is_fine) in [
        ("size=8m", true),
        ("size=512k", false),
        ("nr_inodes=1", false),
    ] {
        let output = check(options, "check").unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.success(), is_fine, "{options}: {stderr}");
        assert_eq!(
            stderr.contains("its disk is full; hint: free some space on the disk of"),
            !is_fine,
            "{options}: {stderr}"
        );
    }
}

/// A rotation is refused where a sink's folder has no space, so `check` says so before.
#[test]
fn check_finds_a_full_folder_of_a_sink() {
    let world = TestEnv::start(&[]);
    let folder = world.path("sink");
    fs::create_dir(&folder).unwrap();
    let text_of_key = crate::support::file_key_text("24h");
    world.configure(&text_of_key);
    let config = fs::read_to_string(world.path("config.toml")).unwrap();
    let in_folder = config.replace("/billing.key", "/sink/billing.key");
    assert_ne!(in_folder, config);
    write(&world.path("config.toml"), &in_folder);
    let check = |options: &str, command: &str| run_on_tmpfs(&world, &folder, options, command);
    if !check("size=8m", "true").is_ok_and(|probe| probe.status.success()) {
        report_missing(MOUNTS);
        return;
    }
    for (options, expected) in [
        ("size=8m", None),
        ("size=32k", Some("less than 64 KiB of free space")),
        ("nr_inodes=1", Some("hint: free some space")),
    ] {
        let output = check(options, "check").unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.success(), expected.is_none(), "{stderr}");
        assert!(
            stderr.contains(expected.unwrap_or_default()),
            "{options}: {stderr}"
        );
    }
}

/// Runs a command of rekeyd, or `true`, with another file system in `folder`.
fn run_on_tmpfs(
    world: &TestEnv,
    folder: &Path,
    options: &str,
    command: &str,
) -> std::io::Result<Output> {
    let script = format!(
        "mount -t tmpfs -o {options},mode=0700 tmpfs {} && exec \"$@\"",
        folder.display()
    );
    let mut unshare = Command::new("unshare");
    unshare.args(["-r", "-m", "sh", "-c", &script, "sh"]);
    if command == "true" {
        return unshare.arg(command).output();
    }
    let check = world.command(&[command]);
    unshare
        .arg(check.get_program())
        .args(check.get_args())
        .output()
}
