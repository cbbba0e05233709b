//! Receivers that accept a connection and never answer, beside keys with working sinks.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::daemon::Daemon;
use crate::support::{ChildGuard, TestEnv, text, write};
use crate::support::{free_address, get};

/// Writes twelve keys with such a receiver, three with a file every two seconds, and four
/// places at the provider.
fn configure(world: &TestEnv, port: u16, metrics: &str) {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";
    write(&world.path("webhook-secret"), secret);
    let mut keys = format!(
        "[metrics]\nlisten = \"{metrics}\"\n\
         [defaults]\noverlap = \"1s\"\nverify-interval = \"0s\"\n\
         max-live-credentials = 100\nmax-creates-per-day = 172800\n"
    );
    for number in 0..12 {
        keys += &format!(
            "[key.hanging{number}]\nschedule = \"@daily\"\n[[key.hanging{number}.sink]]\n\
             type = \"webhook\"\nurl = \"http://127.0.0.1:{port}/{number}\"\n\
             signing-secret-file = \"DIR/webhook-secret\"\n\
             unauthenticated-receiver = true\n"
        );
    }
    for number in 0..3 {
        keys += &format!(
            "[key.file{number}]\nschedule = \"*/2 * * * * *\"\n[[key.file{number}.sink]]\n\
             type = \"file\"\npath = \"DIR/file{number}.key\"\n"
        );
    }
    world.configure(&keys);
    let path = world.path("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace("[provider]\n", "[provider]\nmax-in-flight = 4\n");
    std::fs::remove_file(&path).unwrap();
    write(&path, &text);
}

#[test]
fn other_keys_rotate_on_time_and_the_daemon_stops_in_time() {
    let world = TestEnv::start(&[]);
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = receiver.local_addr().unwrap().port();
    let metrics = free_address();
    configure(&world, port, &metrics);
    let mut daemon = Daemon::start(&world);
    let started = Instant::now();
    // The keys rotate beside each other, in any order.
    let mut delivered = [0; 3];
    while delivered.iter().any(|count| *count < 5) {
        let line = daemon.wait_for(": delivered to file");
        for (number, count) in delivered.iter_mut().enumerate() {
            *count += i32::from(line.contains(&format!("file{number}: delivered to file")));
        }
    }
    // A hanging delivery ends after 30 seconds.
    assert!(started.elapsed() < Duration::from_secs(25));

    let stopped_at = Instant::now();
    let (status, _, page) = get(&metrics, "/metrics");
    assert_eq!(status, 200);
    assert!(page.contains("rekeyd_"), "{page}");
    world.run(&["status"]);
    assert!(stopped_at.elapsed() < Duration::from_secs(5));

    let signalled = Instant::now();
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
    let took = signalled.elapsed();
    assert!(took < Duration::from_secs(25), "{took:?}");

    let time = |row: &serde_json::Value, column: &str| {
        let text = row[column].as_str()?;
        Some(text.parse::<jiff::Timestamp>().unwrap())
    };
    let history = world.history();
    let rows = history
        .iter()
        .filter(|row| row["key"].as_str().unwrap().starts_with("file"));
    let mut late = rows.filter_map(|row| {
        let due = time(row, "scheduled_for")?;
        Some(time(row, "started_at")?.duration_since(due))
    });
    assert!(late.all(|late| late < jiff::SignedDuration::from_secs(10)));
}

/// A daemon with one key, whose receiver accepts connections and never answers.
fn world_with_hanging_receiver() -> (TestEnv, TcpListener) {
    let world = TestEnv::start(&[]);
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = receiver.local_addr().unwrap().port();
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";
    write(&world.path("webhook-secret"), secret);
    world.configure(&format!(
        "[key.billing]\nschedule = \"@daily\"\n[[key.billing.sink]]\ntype = \"webhook\"\n\
         url = \"http://127.0.0.1:{port}/\"\nsigning-secret-file = \"DIR/webhook-secret\"\n\
         unauthenticated-receiver = true\n\
         [key.reports]\nschedule = \"@daily\"\n\
         [[key.reports.sink]]\ntype = \"file\"\npath = \"DIR/reports.key\"\n"
    ));
    (world, receiver)
}

/// Runs a command until it says what it waits for, and ends it.
fn wait_of(world: &TestEnv, arguments: &[&str]) -> String {
    let mut command = world.command(arguments);
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut child = ChildGuard(child);
    let lines = BufReader::new(child.0.stderr.take().unwrap()).lines();
    let mut lines = lines.map_while(Result::ok);
    let found = lines.find(|line| line.contains("waiting"));
    found.unwrap_or_else(|| panic!("{arguments:?} says nothing"))
}

#[test]
fn a_command_beside_a_hanging_receiver_says_what_it_waits_for() {
    let (world, receiver) = world_with_hanging_receiver();
    let url = format!("http://{}/", receiver.local_addr().unwrap());
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("verified");
    for (arguments, about) in [
        (&["rotate", "billing"][..], "billing"),
        (&["hold", "billing"], "billing"),
        (&["pause", "billing"], "billing"),
    ] {
        let note = wait_of(&world, arguments);
        let expected = format!("note: {about}: waiting for webhook (webhook:{url}) to accept");
        assert!(note.starts_with(&expected), "{arguments:?}: {note}");
    }
    daemon.signal(Signal::KILL);
    daemon.wait();
    // Without a daemon, the command does the work itself.
    let note = wait_of(&world, &["rotate", "billing"]);
    assert!(note.contains("billing: waiting for"), "{note}");
}

#[test]
fn rotate_waits_no_longer_than_its_timeout() {
    let (world, _receiver) = world_with_hanging_receiver();
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("verified");
    let began = Instant::now();
    // Long enough for the other key on a busy machine.
    let rotate = || world.run(&["rotate", "reports", "billing", "--timeout", "15s"]);
    let output = rotate();
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stderr);
    // The other key is finished.
    assert!(
        shown.contains("not finished within 15s: billing (waiting for webhook "),
        "{shown}"
    );
    assert!(
        shown.contains("goes on") && shown.contains("`rekeyd status billing`"),
        "{shown}"
    );
    assert!(!shown.contains("reports"), "{shown}");
    // The daemon itself waits for the whole `delivery-deadline`.
    assert!(began.elapsed() < Duration::from_secs(60));
    let history = world.history();
    let open = history.iter().filter(|row| row["key"] == "billing");
    assert_eq!(
        open.count(),
        1,
        "the daemon goes on with the one that was open"
    );
    daemon.signal(Signal::KILL);
    daemon.wait();
    let output = rotate();
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stderr);
    assert!(
        shown.contains("billing: not rotated: the time limit of 15s passed"),
        "{shown}"
    );
    for other in [&["--no-wait"][..], &["--revoke-previous-within", "30s"]] {
        let arguments = [&["rotate", "billing", "--timeout", "1s"][..], other].concat();
        assert_eq!(world.run(&arguments).status.code(), Some(2), "{other:?}");
    }
}
