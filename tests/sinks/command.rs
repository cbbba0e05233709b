//! The command sink: what its program receives, and how each exit is classified.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::captured_log::CapturedLog;
use crate::support::daemon::Daemon;
use crate::support::limit::TestLimit;
use crate::support::{TestEnv, binary, read_ledger, text, write};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rekeyd::core::command::CommandLine;
use rekeyd::core::ids::SinkId;
use rekeyd::core::secret::Secret;
use rekeyd::platform::path_walk::TrustedPaths;
use rekeyd::platform::process::{LANG, PATH, launch_through};
use rekeyd::sink::command::CommandSink;
use rekeyd::sink::command::CommandTarget;
use rekeyd::sink::target::SinkSettings;
use rekeyd::sink::{Acceptance, DeliveryError, Payload, Sink as _, SinkError, SinkProblemKind};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;
use tokio::task::{JoinHandle, spawn_blocking};

/// A timeout that no program of these tests reaches.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A secret without the form of the provider's, so that redaction by form does not help.
const SECRET_VALUE: &str =
    "new+secret/of-the-tests-0123456789-ABCDEFGHIJKLMNOPQRSTUVWXYZ-abcdefghijklmnop";

/// A script in a scratch folder, whose path is its `$1`.
struct Script {
    folder: TempDir,
    timeout: Duration,
    arguments: Vec<String>,
    _limit: TestLimit,
}

impl Script {
    fn new(lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("script"), lines).unwrap();
        Self {
            folder,
            timeout: TIMEOUT,
            arguments: Vec::new(),
            _limit: TestLimit::start(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs the script by the shell's path: a program that was just written may be busy
    /// while another test forks.
    fn sink(&self) -> CommandSink {
        let first = [self.path("script"), self.folder.path().to_owned()];
        let first = first.map(|path| path.to_str().unwrap().to_owned());
        sink(
            "/bin/sh",
            first.into_iter().chain(self.arguments.clone()).collect(),
            self.timeout,
        )
    }

    async fn deliver(&self) -> Result<(), DeliveryError> {
        self.sink().deliver(&payload()).await
    }

    /// Creates a named pipe, and returns its content until no process can write to it any
    /// more. The script has it at descriptor 3.
    fn pipe(&self) -> JoinHandle<String> {
        let path = self.path("pipe");
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
        spawn_blocking(move || {
            let mut content = String::new();
            let mut pipe = fs::File::open(path).unwrap();
            pipe.read_to_string(&mut content).unwrap();
            content
        })
    }
}

fn sink(program: &str, arguments: Vec<String>, timeout: Duration) -> CommandSink {
    launch_through(binary());
    let target = CommandTarget {
        argv: CommandLine {
            program: program.to_owned(),
            arguments,
        },
    };
    let settings = SinkSettings {
        id: SinkId {
            name: "put".to_owned(),
            target: "command:test".to_owned(),
        },
        required: true,
        timeout,
        target: Arc::new(target.clone()),
    };
    CommandSink::new(&settings, &target, &TrustedPaths::default())
}

fn payload() -> Payload {
    Payload {
        secret: Secret::new(SECRET_VALUE.to_owned()),
        ..crate::webhook_fixture::payload()
    }
}

/// Opens the pipe of [`Script::pipe`].
const OPEN_PIPE: &str = "exec 3>\"$1/pipe\"\n";

#[tokio::test]
async fn program_gets_secret_on_stdin_and_metadata_in_environment() {
    let mut script = Script::new(
        "cat >\"$1/input\"\ncat /proc/$$/environ >\"$1/environment\"\n\
         cat /proc/$$/cmdline >\"$1/arguments\"\ncat /proc/$$/stat >\"$1/stat\"\n\
         pwd >\"$1/folder\"\n",
    );
    let strange = "$(id); 'quoted' * \"\n";
    script.arguments.push(strange.to_owned());
    script.deliver().await.unwrap();

    assert_eq!(script.read("input"), format!("{SECRET_VALUE}\n"));
    assert_eq!(script.read("folder"), "/\n");
    let environment = script.read("environment");
    let environment: BTreeMap<_, _> = environment
        .split_terminator('\0')
        .map(|variable| variable.split_once('=').unwrap())
        .collect();
    let expected = BTreeMap::from([
        ("PATH", PATH),
        ("LANG", LANG),
        ("REKEYD_KEY", "billing"),
        ("REKEYD_ROTATION", "0707070707070707"),
        ("REKEYD_SEQUENCE", "42"),
        ("REKEYD_SINK", "put"),
        ("REKEYD_CREDENTIAL_ID", "key_abc"),
    ]);
    assert_eq!(environment, expected);
    let arguments = script.read("arguments");
    assert!(arguments.ends_with(&format!("\0{strange}\0")), "verbatim");
    assert!(!arguments.contains(SECRET_VALUE));
    // The fields are process id, name, state, parent and group.
    let stat = script.read("stat");
    let fields: Vec<_> = stat.split(' ').collect();
    assert_eq!(fields[0], fields[4], "it leads its group: {stat}");
}

#[tokio::test]
async fn exits_are_classified_as_documented() {
    use Acceptance::{NotAccepted, Uncertain};
    let reads = "cat >/dev/null\n";
    let deaf = "exec <&-\n";
    for (lines, expected, message_part) in [
        ("exit 0", None, ""),
        (
            "exit 75",
            Some(NotAccepted),
            "exited with code 75 (try again later)",
        ),
        ("exit 1", Some(Uncertain), "exited with code 1;"),
        ("exit 74", Some(Uncertain), "exited with code 74;"),
        ("exit 126", Some(Uncertain), "exited with code 126;"),
        // The code of a launcher that cannot execute the program.
        ("exit 127", Some(Uncertain), "exited with code 127;"),
        ("exit 255", Some(Uncertain), "exited with code 255;"),
        ("kill -9 $$", Some(Uncertain), "was killed by signal 9;"),
        ("kill -15 $$", Some(Uncertain), "was killed by signal 15;"),
        (
            "echo first >&2; echo last >&2; exit 3",
            Some(Uncertain),
            "exited with code 3: first; last; it may have stored",
        ),
        (
            "echo only; exit 75",
            Some(NotAccepted),
            "(try again later): only",
        ),
    ] {
        // The program need not read its input.
        for before in [reads, deaf, ""] {
            let outcome = Script::new(&format!("{before}{lines}\n")).deliver().await;
            let error = outcome.err();
            assert_eq!(
                error.as_ref().map(|error| error.acceptance),
                expected,
                "{lines}"
            );
            let message = error.map_or_else(String::new, |error| error.message);
            assert!(message.contains(message_part), "{message}");
        }
    }
}

#[tokio::test]
async fn program_that_cannot_start_is_not_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "#!/bin/sh\nexit 0\n").unwrap();
    let missing = folder.path().join("missing");
    for (program, problem) in [
        (&missing, "does not exist; hint: install it"),
        (&file, "file: permission denied"),
        (&folder.path().to_owned(), "is not a regular file"),
    ] {
        let sink = sink(program.to_str().unwrap(), Vec::new(), TIMEOUT);
        let problems = sink.check().await;
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].kind, SinkProblemKind::Host);
        assert!(problems[0].message.contains(problem), "{problems:?}");
        assert_eq!(sink.preflight().await, Err(SinkError { problems }));
        let error = sink.deliver(&payload()).await.unwrap_err();
        assert_eq!(error.acceptance, Acceptance::NotAccepted, "{error}");
        assert!(error.message.starts_with("cannot start "), "{error}");
    }
    fs::set_permissions(&file, Permissions::from_mode(0o700)).unwrap();
    let sink = sink(file.to_str().unwrap(), Vec::new(), TIMEOUT);
    assert_eq!(sink.preflight().await, Ok(()));
}

/// The errors are those of the program, although rekeyd starts its own file first.
#[tokio::test]
async fn start_that_fails_has_the_reason_of_the_system() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let plain = folder.path().join("plain");
    fs::write(&plain, "no program").unwrap();
    let by_plain = format!("#!{}\n", plain.display());
    for (content, mode, expected) in [
        (&b"#!/nowhere/sh\n"[..], 0o755, "no such file or directory"),
        (by_plain.as_bytes(), 0o755, "permission denied"),
        (b"\x00\x01\x02", 0o755, "exec format error"),
        (b"#!/bin/sh\n", 0o644, "permission denied"),
    ] {
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let sink = sink(file.to_str().unwrap(), Vec::new(), TIMEOUT);
        let error = sink.deliver(&payload()).await.unwrap_err();
        assert_eq!(error.acceptance, Acceptance::NotAccepted, "{error}");
        let expected = format!("cannot start {}: {expected}", file.display());
        assert!(error.message.starts_with(&expected), "{error}");
    }
}

#[tokio::test]
async fn program_that_another_user_could_exchange_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "#!/bin/sh\ncat >\"${0%/*}/input\"\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    let sink = sink(file.to_str().unwrap(), Vec::new(), TIMEOUT);
    assert_eq!(sink.preflight().await, Ok(()));
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let expected = "is world-writable, so another user could exchange";
    let refused = sink.preflight().await.unwrap_err().to_string();
    assert!(refused.contains(expected), "{refused}");
    // Right before use, too.
    let error = sink.deliver(&payload()).await.unwrap_err();
    assert_eq!(error.acceptance, Acceptance::NotAccepted, "{error}");
    assert!(error.message.contains(expected), "{error}");
    assert!(!folder.path().join("input").exists());
}

#[tokio::test]
async fn timeout_kills_process_group() {
    for waits in ["wait", "exec sleep 1000"] {
        let mut script = Script::new(&format!(
            "{OPEN_PIPE}sleep 1000 &\necho begun >&3\necho before; {waits}\n"
        ));
        script.timeout = Duration::from_secs(2);
        let pipe = script.pipe();
        let error = script.deliver().await.unwrap_err();
        assert_eq!(error.acceptance, Acceptance::Uncertain, "{error}");
        let expected = "did not exit within 2s and was killed: before; it may have stored";
        assert!(error.message.contains(expected), "{error}");
        // The end of the pipe proves that no process is left that could write to it.
        assert_eq!(pipe.await.unwrap(), "begun\n");
    }
}

#[tokio::test]
async fn dropped_delivery_kills_process_group() {
    let script = Script::new(&format!(
        "{OPEN_PIPE}sleep 1000 &\n: >\"$1/begun\"\necho begun >&3\nwait\n"
    ));
    let pipe = script.pipe();
    {
        let sink = script.sink();
        let payload = payload();
        let mut delivery = sink.deliver(&payload);
        let has_started = || script.path("begun").exists();
        let begun = std::time::Instant::now();
        while !has_started() {
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "it never starts"
            );
            let turn = tokio::time::timeout(Duration::from_millis(20), &mut delivery).await;
            assert!(turn.is_err(), "{turn:?}");
        }
    }
    pipe.await.unwrap();
}

#[tokio::test]
async fn remaining_children_do_not_block() {
    // A process in its group is killed after it has ended.
    let script = Script::new(&format!("{OPEN_PIPE}sleep 1000 &\necho begun >&3\n"));
    let pipe = script.pipe();
    script.deliver().await.unwrap();
    assert_eq!(pipe.await.unwrap(), "begun\n");

    // A process in another session, with the outputs of the command, is left alone.
    let script = Script::new(
        "setsid sh -c ': >\"$0/begun\"; cat \"$0/pipe\"' \"$1\" &\n\
         while [ ! -e \"$1/begun\" ]; do :; done\n",
    );
    mknodat(CWD, script.path("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    script.deliver().await.unwrap();
    let path = script.path("pipe");
    // An open of a missing reader would block for ever.
    let open = spawn_blocking(move || fs::OpenOptions::new().write(true).open(path));
    open.await.unwrap().unwrap();
}

#[tokio::test]
async fn output_is_logged_up_to_limit_and_drained() {
    let (log, _guard) = CapturedLog::capture();
    let script = Script::new(
        "cat >/dev/null\necho one; echo two >&2\n\
         yes a-line-of-many-words | head -c 1000000\nyes n | head -c 1000000 >&2\n: >\"$1/done\"\n",
    );
    script.deliver().await.unwrap();
    assert!(script.path("done").exists());
    for (level, first) in [(" INFO ", "one"), (" WARN ", "two")] {
        let lines = log.lines_with(level, "billing, sink put: command: ");
        assert!(
            lines[0].contains(&format!("command: {first}")),
            "{}",
            lines[0]
        );
        assert!(lines[0].contains("key=billing"), "{}", lines[0]);
        assert!(lines[0].contains("sink=put"), "{}", lines[0]);
        assert!(!lines[0].contains("(command:test)"), "{}", lines[0]);
        assert_eq!(lines.len(), 101);
        assert!(lines[100].contains("(output truncated)"));
    }
}

#[tokio::test]
async fn echoed_secret_is_redacted() {
    let (log, _guard) = CapturedLog::capture();
    let echo = "secret=$(cat)\nfor times in 1 2; do\necho \"plain $secret.\"\n\
        printf 'x%s' \"$secret\" | base64\nprintf %s \"$secret\" | base64 -w 0\necho\n";
    let script = Script::new(&format!(
        "{echo}done\nexec >&2\nset -- \nfor times in 1; do\nprintf %s \"$secret\" | base64 -w 40\n\
         echo \"last $secret\"\ndone\nexit 1\n"
    ));
    let error = script.deliver().await.unwrap_err();
    assert!(
        error.message.contains("code 1: [secret]; last [secret];"),
        "{error}"
    );
    let output = [log.lines_with(" INFO ", ""), log.lines_with(" WARN ", "")].concat();
    assert!(
        output
            .iter()
            .any(|line| line.contains("command: plain [secret]. "))
    );
    let output = output.join("\n");
    for padded in [SECRET_VALUE.to_owned(), format!("x{SECRET_VALUE}")] {
        let encoded = STANDARD.encode(padded);
        // No line of a multi-line secret is shown.
        let mut pieces: Vec<_> = (8..encoded.len() - 24).step_by(8).collect();
        pieces.push(encoded.len() - 24);
        for at in pieces {
            let piece = &encoded[at..at + 16];
            assert!(!output.contains(piece), "{piece}:\n{output}");
        }
    }
    assert!(!output.contains(SECRET_VALUE) && !error.message.contains(SECRET_VALUE));
}

/// Returns a key with a command that stores its input beside its script.
fn command_key_text(world: &TestEnv, lines: &str) -> String {
    let script = world.path("put");
    write(&script, &format!("#!/bin/sh\n{lines}\n"));
    fs::set_permissions(&script, Permissions::from_mode(0o700)).unwrap();
    "[key.billing]\nschedule = \"@monthly\"\noverlap = \"1s\"\nverify-interval = \"0s\"\n\
     [[key.billing.sink]]\ntype = \"command\"\nargv = [\"DIR/put\", \"DIR\"]\n"
        .to_owned()
}

/// The daemon runs it, with its own signal handlers.
#[test]
fn key_with_command_sink_rotates() {
    let world = TestEnv::start(&[]);
    // The first attempt of each fails.
    let keeps = "mark=$1/tried-$REKEYD_SEQUENCE\n\
        [ -e \"$mark\" ] || { : >\"$mark\"; echo not yet >&2; exit 75; }\n\
        cat >\"$1/held\"; echo \"took $REKEYD_CREDENTIAL_ID\"";
    world.configure(&command_key_text(&world, keeps));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("sink command: not yet");
    daemon.wait_for("sink command: took key_");
    daemon.wait_for("is the current credential");
    world.ok(&["rotate", "billing"]);
    daemon.wait_for("revoked the previous");
    let log = daemon.stop();

    let history = world.history();
    let current = history[0]["credential_id"].as_str().unwrap();
    let delivered = fs::read_to_string(world.path("held")).unwrap();
    assert_eq!(delivered, format!("{}\n", world.secret_of(current)));
    assert!(!log.contains(delivered.trim()));
    let ledger = read_ledger(&world.path("ledger.db"));
    let (sink, target, state): (String, String, String) = ledger
        .query_row(
            "SELECT sink, target, state FROM delivery ORDER BY rotation_row DESC LIMIT 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap();
    let dir = world.dir.path().display();
    assert_eq!(sink, "command");
    assert_eq!(target, format!("command:{dir}/put {dir}"));
    assert_eq!(state, "accepted");
}

#[test]
fn check_verifies_program_without_running_it() {
    let world = TestEnv::start(&[]);
    world.configure(&command_key_text(&world, ": >\"$1/was-run\""));
    world.ok(&["check", "--online"]);
    fs::set_permissions(world.path("put"), Permissions::from_mode(0o600)).unwrap();
    for arguments in [&["check"][..], &["check", "--online"]] {
        let output = world.run(arguments);
        assert_eq!(output.status.code(), Some(1));
        let output = text(&output.stderr);
        let expected = "key.billing.sink.command: ";
        assert!(
            output.contains(expected) && output.contains("hint: chmod a+x "),
            "{output}"
        );
    }
    assert!(!world.path("was-run").exists());
}
