//! What a person is told about a bad configuration, word for word.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/problems.rs"]
mod support;

use std::path::Path;

use proptest::prelude::*;

const FILE: &str = "/c.toml";

fn problems(text: &str) -> Vec<String> {
    support::problems(Path::new(FILE), text)
}

/// A key that is right, for mistakes elsewhere.
const KEY: &str =
    "[key.a]\nschedule = \"@daily\"\n[[key.a.sink]]\ntype = \"file\"\npath = \"/x/y\"\n";

#[test]
fn each_mistake_has_its_message() {
    let sink = |lines: &str| format!("[key.a]\nschedule = \"@daily\"\n[[key.a.sink]]\n{lines}");
    let cases: Vec<(String, &str)> = vec![
        (
            "[provider".into(),
            "/c.toml:1: not TOML: unclosed table, expected `]`",
        ),
        (
            "[provider]\nurl = 1".into(),
            "/c.toml:2: provider.url: no such option; there are: base-url, ca-file, credential-file, \
             max-in-flight, organization, request-timeout, sweep-every",
        ),
        (
            "[provider]\nbase-url = 1".into(),
            "/c.toml:2: provider.base-url: found integer; it must be text in quotes",
        ),
        (
            "[provider]\nbase-url = \"http://example.com\"".into(),
            "/c.toml:2: provider.base-url: http goes to this host alone (localhost, 127.0.0.1, \
             [::1]); it must be https",
        ),
        (
            "[provider]\nrequest-timeout = \"30\"".into(),
            "/c.toml:2: provider.request-timeout: found \"30\"; a duration is a whole number with \
             one unit, s, m, h or d, such as \"90s\" or \"24h\"",
        ),
        (
            "[provider]\nmax-in-flight = 0".into(),
            "/c.toml:2: provider.max-in-flight: it must be a whole number from 1 to 256",
        ),
        (
            "[provider]\ncredential-file = \"key\"".into(),
            "/c.toml:2: provider.credential-file: found \"key\"; it must begin with /",
        ),
        (
            "[key.A]\n".into(),
            "/c.toml:1: key.A: a key's name is 1 to 48 characters of a-z, 0-9 and -, not beginning with -",
        ),
        (
            KEY.replace("schedule = \"@daily\"\n", ""),
            "/c.toml:1: key.a: no schedule; it needs one, such as schedule = \"0 3 * * Mon\"",
        ),
        (
            "[key.a]\nschedule = \"@daily\"\n".into(),
            "/c.toml:1: key.a: no required sink; it needs one, such as [[key.NAME.sink]] with type = \"file\"",
        ),
        (
            format!("{KEY}required = false\n"),
            "/c.toml:1: key.a: no required sink; it needs one, such as [[key.NAME.sink]] with type = \"file\"",
        ),
        (
            KEY.replace("@daily", "0 0 31 2 *"),
            "/c.toml:2: key.a.schedule: found \"0 0 31 2 *\"; it never fires",
        ),
        (
            KEY.replace("schedule", "overlap = \"24h\"\nschedule"),
            "/c.toml:2: key.a.overlap: found \"1d\"; it must be shorter than the shortest time \
             between two firings of the schedule, 1d",
        ),
        (
            sink("type = \"ftp\"\n"),
            "/c.toml:4: key.a.sink[0].type: found \"ftp\"; it is \"file\" or \"webhook\"",
        ),
        (
            sink("type = \"file\"\n"),
            "/c.toml:3: key.a.sink[0]: no path; it is the file that is replaced",
        ),
        (
            format!("{KEY}mode = \"0644\"\n"),
            "/c.toml:6: key.a.sink[0].mode: found \"0644\"; it must be octal digits that let nobody \
             but owner and group in, such as \"0600\" or \"0640\"",
        ),
        (
            format!("{KEY}[[key.a.sink]]\ntype = \"file\"\npath = \"/x/z\"\n"),
            "/c.toml:6: key.a.sink[1]: a second sink named \"file\"; give each sink of one type a name of its own",
        ),
        (
            format!("{KEY}{}", KEY.replace("key.a", "key.b")),
            "/c.toml: key.b: sink file: would write /x/y, which belongs to key.a: sink file; give it \
             a path of its own",
        ),
        (
            KEY.replace("/x/y", "/var/lib/rekeyd/ledger.db"),
            "/c.toml: key.a: sink file: would write /var/lib/rekeyd/ledger.db, which belongs to the \
             ledger; give it a path of its own",
        ),
        (
            KEY.replace("/x/y", FILE),
            "/c.toml: key.a: sink file: would write /c.toml, which belongs to the configuration; \
             give it a path of its own",
        ),
        (
            format!("[provider]\ncredential-file = \"/x/y\"\n{KEY}"),
            "/c.toml: key.a: sink file: would write /x/y, which belongs to provider.credential-file; \
             give it a path of its own",
        ),
        (
            sink("type = \"webhook\"\nurl = \"https://u:p@x/\"\nsigning-secret-file = \"/s\"\n"),
            "/c.toml:5: key.a.sink[0].url: a user or password in the URL is refused; no secret \
             stands in this file",
        ),
    ];
    for (text, wanted) in cases {
        let found = problems(&text);
        assert_eq!(found, [wanted], "{text}");
    }
}

#[test]
fn a_bad_schedule_says_what_one_is() {
    let found = problems(&KEY.replace("@daily", "every day"));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("/c.toml:2: key.a.schedule: found \"every day\";"),
        "{found:?}"
    );
    assert!(
        found[0].contains("5 fields (minute hour day month weekday)"),
        "{found:?}"
    );
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_their_lines() {
    let text = "[provider]\nmax-in-flight = 0\nrequest-timeout = \"x\"\n[key.a]\noverlap = 3\n";
    let lines: Vec<_> = problems(text)
        .iter()
        .map(|one| one[..10].to_owned())
        .collect();
    // Line 4 has two: no schedule, and no sink.
    assert_eq!(
        lines,
        [
            "/c.toml:2:",
            "/c.toml:3:",
            "/c.toml:4:",
            "/c.toml:4:",
            "/c.toml:5:"
        ]
    );
}

#[test]
fn a_line_with_a_secret_is_never_shown() {
    for text in [
        "key = sk-admin-in-the-file",
        "[provider]\n\"sk-admin-x\n",
        "a = \"sk-admin-y\" b",
    ] {
        let found = problems(text).join("\n");
        assert!(!found.is_empty() && !found.contains("sk-admin"), "{found}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = problems(&text);
    }

    #[test]
    fn no_values_make_it_panic(
        name in "schedule|overlap|sink|settle|x",
        value in "\"\\PC{0,20}\"|[0-9]{1,25}|true|\\[\\]|\\{\\}|1979-05-27|nan",
    ) {
        let _ = problems(&format!("[key.a]\n{name} = {value}\n[provider]\nbase-url = {value}\n"));
    }
}
