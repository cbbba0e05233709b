//! A provider whose list of credentials cannot be used, while everything else succeeds:
//! no rotation starts, and every command says why.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use jiff::fmt::rfc2822::DateTimePrinter;
use rekeyd::platform::clock::{Clock as _, SystemClock};

use crate::function_server::{ServedRequest, serve_with};
use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text, free_address, get, scratch_dir, text, write};

/// How long the test waits for the daemon.
const PATIENCE: Duration = Duration::from_secs(60);

const ADMIN_KEY: &str = "sk-admin-0123456789abcdef";

const EMPTY_PAGE: &str = r#"{"object":"list","data":[],"has_more":false}"#;

/// A list that cannot be used.
struct RefusedList {
    name: &'static str,
    status: u16,
    body: &'static str,
    /// What the texts say of it.
    expected: &'static str,
}

const LISTS: [RefusedList; 10] = [
    RefusedList {
        name: "a limit that the provider refuses",
        status: 400,
        body: r#"{"error":{"message":"Invalid limit","type":"invalid_request_error"}}"#,
        expected: "answered 400: Invalid limit",
    },
    RefusedList {
        name: "another path",
        status: 404,
        body: r#"{"error":{"message":"Invalid URL","type":"invalid_request_error"}}"#,
        expected: "answered 404: Invalid URL",
    },
    RefusedList {
        name: "no such place",
        status: 404,
        body: r#"{"error":{"message":"Not found","type":"invalid_request_error"}}"#,
        expected: "(invalid_request_error); hint: check base-url and any proxy in between",
    },
    RefusedList {
        name: "a quota",
        status: 429,
        body: r#"{"error":{"message":"No quota","code":"insufficient_quota"}}"#,
        expected: "insufficient_quota",
    },
    RefusedList {
        name: "a redirect",
        status: 307,
        body: "",
        expected: "does not follow redirects",
    },
    RefusedList {
        name: "a page for people",
        status: 200,
        body: "<html>please log in</html>",
        expected: "not valid JSON",
    },
    RefusedList {
        name: "an answer without a list",
        status: 200,
        body: r#"{"object":"list","data":{}}"#,
        expected: "no \"data\" list",
    },
    RefusedList {
        name: "an empty page that is not the last",
        status: 200,
        body: r#"{"object":"list","data":[],"has_more":true,"last_id":"key_1"}"#,
        expected: "it is empty although",
    },
    RefusedList {
        name: "a page that comes again and again",
        status: 200,
        body: r#"{"object":"list","data":[{"id":"key_1","name":"a","created_at":1}],
                  "has_more":true,"last_id":"key_1"}"#,
        expected: "it repeats an earlier page",
    },
    RefusedList {
        name: "a credential without an id",
        status: 200,
        body: r#"{"object":"list","data":[{"name":"a","created_at":1}],"has_more":false}"#,
        expected: "not usable",
    },
];

/// A world whose provider answers the probe, and the list like this.
fn world(list: &'static RefusedList, metrics: &str) -> TestEnv {
    let answer = |request: &ServedRequest| {
        assert_eq!(request.method, "GET", "nothing is created");
        if request.path.contains("limit=100") {
            (list.status, list.body.to_owned())
        } else {
            (200, EMPTY_PAGE.to_owned())
        }
    };
    let date = || DateTimePrinter::new().timestamp_to_rfc9110_string(&SystemClock.now());
    let url = serve_with(answer, move || date().unwrap());
    let world = TestEnv::without_sandbox(format!("{url}/v1"), ADMIN_KEY, scratch_dir());
    let (told, notices) = (world.path("told"), world.path("notices"));
    write(&told, &format!("#!/bin/sh\ncat >> {}\n", notices.display()));
    fs::set_permissions(&told, fs::Permissions::from_mode(0o700)).unwrap();
    world.configure(&format!(
        "[metrics]\nlisten = \"{metrics}\"\n\
         [[notify]]\ntype = \"command\"\nargv = [\"DIR/told\"]\n{}",
        file_key_text("1h")
    ));
    world
}

fn assert_every_face_names_it(list: &'static RefusedList) {
    let case = list.name;
    let metrics = free_address();
    let world = world(list, &metrics);

    // At its end `once` notifies of what blocks it; there is nothing to wait for.
    let once = world.run(&["once", "--for", "1s"]);
    assert_eq!(once.status.code(), Some(1), "{case}");
    let notices = fs::read_to_string(world.path("notices")).unwrap_or_default();
    assert_eq!(notices.matches("\"begun\"").count(), 1, "{case}: {notices}");
    assert!(notices.contains("\"reconciliation\""), "{case}: {notices}");

    let check = world.run(&["check", "--online"]);
    assert_eq!(check.status.code(), Some(1), "{case}");
    let found = text(&check.stderr);
    assert!(found.contains(list.expected), "{case}: {found}");

    let daemon = Daemon::start(&world);
    let start = Instant::now();
    let shows = || {
        std::net::TcpStream::connect(&metrics).is_ok()
            && get(&metrics, "/readyz").2.contains(list.expected)
    };
    while !shows() {
        assert!(start.elapsed() < PATIENCE, "{case}: nothing is shown");
        std::thread::yield_now();
    }
    assert_eq!(get(&metrics, "/readyz").0, 503, "{case}");

    let status = world.run(&["status"]);
    assert_eq!(status.status.code(), Some(1), "{case}");
    let printed = text(&status.stdout);
    let first = printed.lines().next().unwrap_or_default();
    assert!(first.contains(list.expected), "{case}: {printed}");

    let requested = world.ok(&["rotate", "billing", "--no-wait"]);
    assert!(
        requested.contains("rotation requested"),
        "{case}: {requested}"
    );
    assert!(!requested.contains("rotated"), "{case}: {requested}");
    assert!(requested.contains(list.expected), "{case}: {requested}");
    let waited = world.run(&["rotate", "billing"]);
    assert_eq!(waited.status.code(), Some(1), "{case}");
    let answer = text(&waited.stderr);
    assert!(answer.contains("not rotated yet"), "{case}: {answer}");
    let log = daemon.stop();
    assert!(!log.contains("billing: rotating"), "{case}: {log}");
}

#[test]
fn unusable_list_blocks_rotations_and_is_named_everywhere() {
    for list in &LISTS {
        assert_every_face_names_it(list);
    }
}
