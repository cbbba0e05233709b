//! The output of `schedule`, and the effect of a pause on it, through the binary.

use crate::support::{TestEnv, read_ledger, text, write_ledger};
use serde_json::{Value, json};

fn key(name: &str, lines: &str) -> String {
    format!(
        "[key.{name}]\nverify-interval = \"0s\"\n{lines}\n[[key.{name}.sink]]\ntype = \"file\"\n\
         path = \"DIR/{name}.key\"\n"
    )
}

fn read(printed: &str) -> Value {
    serde_json::from_str(printed).unwrap()
}

#[test]
fn firings_in_three_zones_match_a_calendar() {
    // Neither a provider nor a ledger exists.
    let dir = crate::support::scratch_dir();
    let world = TestEnv::without_sandbox("http://127.0.0.1:9/v1".to_owned(), "none", dir);
    world.configure(
        &[
            key(
                "berlin",
                "schedule = \"30 2 * * *\"\ntimezone = \"Europe/Berlin\"",
            ),
            key(
                "howe",
                "schedule = \"0 3 * * Sun\"\ntimezone = \"Australia/Lord_Howe\"",
            ),
            key("utc", "schedule = \"0 0 29 * *\""),
        ]
        .concat(),
    );
    let from = "2026-03-28T00:00:00Z";
    let printed = world.ok(&["schedule", "--from", from, "-n", "2", "--json"]);
    let firing = |key: &str, at: &str, local: &str, zone: &str| {
        json!({"key": key, "at": at, "local": local, "timezone": zone,
            "configuration_loaded": null})
    };
    let (berlin, howe) = ("Europe/Berlin", "Australia/Lord_Howe");
    assert_eq!(
        read(&printed),
        json!([
            firing(
                "berlin",
                "2026-03-28T01:30:00Z",
                "2026-03-28T02:30:00+01:00",
                berlin
            ),
            // 02:30 is skipped on this day.
            firing(
                "berlin",
                "2026-03-29T01:00:00Z",
                "2026-03-29T03:00:00+02:00",
                berlin
            ),
            firing(
                "howe",
                "2026-03-28T16:00:00Z",
                "2026-03-29T03:00:00+11:00",
                howe
            ),
            firing(
                "howe",
                "2026-04-04T16:30:00Z",
                "2026-04-05T03:00:00+10:30",
                howe
            ),
            firing(
                "utc",
                "2026-03-29T00:00:00Z",
                "2026-03-29T00:00:00+00:00",
                "UTC"
            ),
            firing(
                "utc",
                "2026-04-29T00:00:00Z",
                "2026-04-29T00:00:00+00:00",
                "UTC"
            ),
        ])
    );
    // The output for people is in the order of time, with a mark at each clock change.
    let output = world.ok(&["schedule", "--from", from, "-n", "2"]);
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines.len(), 7, "{output}");
    assert!(lines[0].starts_with("KEY "), "{output}");
    assert!(lines[1].starts_with("berlin  2026-03-28T01:30:00Z  Sat 2026-03-28 02:30:00 +01:00"));
    let marked: Vec<_> = lines
        .iter()
        .filter(|line| line.ends_with("clock change"))
        .collect();
    assert_eq!(marked.len(), 2, "{output}");
    assert!(
        marked[0].contains("Sun 2026-03-29 03:00:00 +02:00"),
        "{output}"
    );
    assert!(
        marked[1].contains("Sun 2026-04-05 03:00:00 +10:30"),
        "{output}"
    );
    let one = world.ok(&["schedule", "utc", "-n", "1", "--json"]);
    assert_eq!(read(&one).as_array().unwrap().len(), 1);
    assert_eq!(world.run(&["schedule", "nobody"]).status.code(), Some(1));
    assert_eq!(world.run(&["schedule", "-n", "0"]).status.code(), Some(2));
}

#[test]
fn schedule_and_status_agree_to_the_second() {
    let world = TestEnv::start(&[]);
    let jitter = "jitter = \"3h\"\ntimezone = \"America/New_York\"";
    world.configure(
        &[
            key("age", &format!("every = \"30d\"\n{jitter}")),
            key("cron", &format!("schedule = \"0 3 * * *\"\n{jitter}")),
            key(
                "late",
                &format!("schedule = \"0 3 * * *\"\ninitial-rotation = \"scheduled\"\n{jitter}"),
            ),
        ]
        .concat(),
    );
    world.ok(&["once"]);
    let history = world.history();
    assert_eq!(history.len(), 2, "the third waits for its schedule");
    let status = read(&world.ok(&["status", "--json"]));
    let next = read(&world.ok(&["schedule", "-n", "1", "--json"]));
    for (at, name) in ["age", "cron", "late"].into_iter().enumerate() {
        assert_eq!(status["keys"][at]["key"], name);
        let by_status = &status["keys"][at]["next_rotation_at"];
        assert_eq!(*by_status, next[at]["at"], "{name}");
        assert!(by_status.is_string());
    }
    // Two keys with one schedule rotate at different times.
    assert_ne!(next[1]["at"], next[2]["at"]);
}

#[test]
fn paused_key_is_not_rotated_by_schedule_and_stays_paused() {
    let world = TestEnv::start(&[]);
    let daily = "schedule = \"@daily\"\nexpires-after = \"4d\"";
    world.configure(&[key("a", daily), key("b", daily)].concat());
    let paused = |world: &TestEnv| {
        let status = read(&text(&world.run(&["status", "--json"]).stdout));
        ["a", "b"].map(|name| {
            let keys = status["keys"].as_array().unwrap().iter();
            let mut keys = keys.filter(|key| key["key"] == name);
            keys.next().unwrap()["paused"].as_bool().unwrap()
        })
    };
    let stdout = world.ok(&["pause", "a", "--reason", "a freeze"]);
    assert_eq!(stdout, "a: paused until `rekeyd resume a`\n");
    world.ok(&["once"]);
    assert_eq!(paused(&world), [true, false]);
    let keys: Vec<_> = world
        .history()
        .iter()
        .map(|row| row["key"].clone())
        .collect();
    assert_eq!(keys, ["b"], "a first rotation is begun by schedule, too");
    // An operator rotates it; then a pause that outlasts the credential prints a warning.
    world.ok(&["rotate", "a"]);
    assert_eq!(paused(&world), [true, false]);
    let stdout = world.ok(&["pause", "--all"]);
    assert_eq!(
        stdout.matches("warning: its credential expires at").count(),
        2,
        "{stdout}"
    );
    let soon = world.history()[0]["created_at"]
        .as_str()
        .unwrap()
        .to_owned();
    let soon: jiff::Timestamp = soon.parse().unwrap();
    let soon = (soon + jiff::SignedDuration::from_hours(1)).to_string();
    let stdout = world.ok(&["pause", "b", "--until", &soon]);
    assert!(!stdout.contains("warning"), "{stdout}");
    assert!(
        world
            .ok(&["status"])
            .contains(&format!("paused until {soon}"))
    );
    world.ok(&["resume", "--all"]);
    assert_eq!(paused(&world), [false, false]);
    let ledger = read_ledger(&world.path("ledger.db"));
    let mut rows = ledger
        .prepare(
            "SELECT event || coalesce(' ' || (detail ->> 'reason'), '') FROM events
                  WHERE key = 'a' AND event IN ('paused', 'resumed') ORDER BY seq",
        )
        .unwrap();
    let rows: Vec<String> = rows
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(rows, ["paused a freeze", "paused", "resumed"]);
}

/// A run that is due comes first, with the reason why it has not ended.
#[test]
fn due_run_comes_before_the_next_firings() {
    let world = TestEnv::start(&[]);
    world.configure(
        &[
            key("age", "every = \"30d\""),
            key("cron", "schedule = \"@monthly\"").replace("DIR/", "DIR/absent/"),
        ]
        .concat(),
    );
    world.run(&["once"]);
    let lines = |world: &TestEnv, name: &str| {
        let printed = world.ok(&["schedule", name, "-n", "2"]);
        let lines = printed.lines().skip(1).map(str::to_owned);
        lines.collect::<Vec<_>>()
    };
    // What cannot start is tried again, and says why.
    let cron = lines(&world, "cron");
    assert_eq!(cron.len(), 2, "{cron:?}");
    assert!(cron[0].contains("due since"), "{cron:?}");
    assert!(cron[0].contains("absent"), "{cron:?}");
    assert!(!cron[1].contains("due since"), "{cron:?}");
    // What is past its age is due now, and its age counts anew from then.
    assert!(!lines(&world, "age")[0].contains("due since"));
    let ledger = write_ledger(&world.path("ledger.db"));
    let earlier = "UPDATE rotation SET started_at = '2020-01-01T00:00:00Z',
        created_at = '2020-01-01T00:00:00Z',
        current_at = '2020-01-01T00:00:00Z' WHERE key = 'age'";
    ledger.execute(earlier, []).unwrap();
    drop(ledger);
    let age = lines(&world, "age");
    assert!(age[0].contains("due since 20"), "{age:?}");
    let at = |line: &str| -> jiff::Timestamp {
        let time = line.split_whitespace().nth(1).unwrap();
        time.parse().unwrap()
    };
    // In a file, times are exact.
    assert_eq!(at(&age[1]).duration_since(at(&age[0])).as_hours(), 30 * 24);
    let status = read(&text(&world.run(&["status", "--json"]).stdout));
    assert_eq!(status["keys"][0]["overdue"], true, "{status}");
    let json = read(&world.ok(&["schedule", "age", "-n", "1", "--json"]));
    // Its first run that was missed.
    assert_eq!(json[0]["due_since"], "2020-01-31T00:00:00Z");
    // From a later time on, nothing is due.
    let later = world.ok(&["schedule", "age", "-n", "1", "--from", "7d"]);
    assert!(!later.contains("due since"), "{later}");
    // A pause skips firings, and nothing is due.
    world.ok(&["pause", "age"]);
    let paused = lines(&world, "age");
    assert!(
        paused.iter().all(|line| line.ends_with("paused")),
        "{paused:?}"
    );
}
