//! Bad configurations and what is said about them, word for word.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use rekeyd::config::{Environment, parse};
use rekeyd::core::settings::Settings;

fn environment() -> Environment {
    Environment::empty("2026-11-24T03:00:00Z".parse().unwrap())
}

fn read(text: &str) -> Result<Settings, Vec<String>> {
    parse(text, Path::new("/etc/c.toml"), &environment())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

/// A key that is right, from line 2 on, with more lines in its sink.
fn key(sink: &str) -> String {
    format!(
        "[key.a]\nschedule = \"@daily\"\n[[key.a.sink]]\ntype = \"file\"\npath = \"/k/a\"\n{sink}\n"
    )
}

/// A key whose one sink is a webhook, with these lines from 5 on.
fn hook(lines: &str) -> String {
    format!("[key.a]\nschedule = \"@daily\"\n[[key.a.sink]]\ntype = \"webhook\"\n{lines}\n")
}

fn expect(table: &[(&str, &[&str])]) {
    for (text, expected) in table {
        let found = read(text).expect_err(text);
        let expected: Vec<String> = expected
            .iter()
            .map(|line| format!("/etc/c.toml:{line}"))
            .collect();
        assert_eq!(found, expected, "{text}");
    }
}

const CRON: &str = "5 fields (minute hour day month weekday), or 6 with seconds first, or @hourly, @daily, @weekly, @monthly or @yearly are allowed, such as \"0 3 * * Mon\"";

#[test]
fn provider_and_ledger() {
    expect(&[
        (
            "[provider]\nbase_url = \"x\"",
            &["2: provider.base_url: there is no such option; did you mean base-url?"],
        ),
        (
            "[metrics]\nlisten = \"x\"",
            &["1: metrics: there is no such option; known here: provider, ledger, defaults, key"],
        ),
        (
            "provider = 1",
            &["1: provider: found a whole number; a table ([provider]) is allowed"],
        ),
        (
            "[provider]\nbase-url = \"http://example.com/v1\"",
            &[
                "2: provider.base-url: \"http://example.com\" is not safe for secrets; https is allowed, and http to localhost, 127.0.0.1 or [::1]",
            ],
        ),
        (
            "[provider]\nbase-url = \"https://u:pw@h/v1\"",
            &[
                "2: provider.base-url: a user or password stands in the URL; leave it out; a webhook takes a token by bearer-token-file",
            ],
        ),
        (
            "[provider]\nbase-url = \"api\"",
            &[
                "2: provider.base-url: no URL: relative URL without a base; https://HOST/PATH is allowed, and http:// on this host",
            ],
        ),
        (
            "[provider]\nbase-url = \"https://h/v1?a=b\"",
            &["2: provider.base-url: a query stands in the URL; leave out everything from ? on"],
        ),
        (
            "[provider]\nbase-url = \"https://h/v1#a\"",
            &[
                "2: provider.base-url: a part behind # stands in the URL; leave it out; it is never sent",
            ],
        ),
        (
            "[provider]\ncredential-file = \"key\"",
            &[
                "2: provider.credential-file: \"key\" is no absolute path; a path from the root, such as \"/etc/rekeyd/file\", is allowed",
            ],
        ),
        (
            "[provider]\ncredential-file = \"/etc/\"",
            &[
                "2: provider.credential-file: \"/etc/\" names no file; a path from the root, such as \"/etc/rekeyd/file\", is allowed",
            ],
        ),
        (
            "[provider]\ncredential-file = \"sk-admin-abc\"",
            &[
                "2: provider.credential-file: this looks like a secret and not like a path; no secret may stand in this file: write it into a file with mode 0600 and name that",
            ],
        ),
        (
            "[provider]\norganization = \"a b\"",
            &[
                "2: provider.organization: \"a b\" is no organization id; an id such as \"org-abc123\" is allowed",
            ],
        ),
        (
            "[provider]\nrequest-timeout = 30",
            &["2: provider.request-timeout: found a whole number; text in quotes is allowed"],
        ),
        (
            "[provider]\nrequest-timeout = \"0s\"",
            &["2: provider.request-timeout: \"0s\" is out of range; \"1s\" to \"5m\" is allowed"],
        ),
        (
            "[provider]\nrequest-timeout = \"30\"",
            &[
                "2: provider.request-timeout: \"30\" is no duration; a duration is a whole number with one unit, s, m, h or d, such as \"90s\" or \"24h\"",
            ],
        ),
        (
            "[provider]\nmax-in-flight = 0",
            &[
                "2: provider.max-in-flight: 0 is out of range; a whole number from 1 to 256 is allowed",
            ],
        ),
        (
            "[provider]\nmax-in-flight = 257",
            &[
                "2: provider.max-in-flight: 257 is out of range; a whole number from 1 to 256 is allowed",
            ],
        ),
        (
            "[ledger]\npath = \"/etc/c.toml\"",
            &["2: ledger.path: /etc/c.toml is this configuration file already; name another file"],
        ),
        (
            "[ledger]\npath = \"/l\"\n[provider]\ncredential-file = \"/l-wal\"",
            &[
                "4: provider.credential-file: /l-wal is the ledger's -wal file already; name another file",
            ],
        ),
    ]);
}

#[test]
fn keys_and_schedules() {
    let cron = |at: &str, why: &str| format!("{at}: {why}; {CRON}");
    let foo = cron(
        "2: key.a.schedule",
        "\"foo\" is no cron expression: it has 1 field",
    );
    let sink = "\n[[key.a.sink]]\ntype = \"file\"\npath = \"/k/a\"";
    let with = |lines: &str| format!("[key.a]\n{lines}{sink}");
    expect(&[
        (&with("schedule = \"foo\""), &[&foo]),
        (
            &with("schedule = \"0 0 31 2 *\""),
            &[
                "2: key.a.schedule: \"0 0 31 2 *\" never fires; no date matches its day and month: name a day that the month has",
            ],
        ),
        (
            &with(""),
            &["1: key.a: has no schedule; add one, such as schedule = \"0 3 * * Mon\""],
        ),
        (
            &with("schedule = \"@hourly\"\noverlap = \"1h\""),
            &[
                "3: key.a.overlap: \"1h\" is not shorter than the shortest gap between two firings of \"@hourly\"; less than \"1h\" is allowed",
            ],
        ),
        (
            &with("schedule = \"@hourly\"\njitter = \"1h\""),
            &[
                "3: key.a.jitter: there is no such option; known here: overlap, verify-for, settle, deliver-for, schedule, sink",
            ],
        ),
        (
            &with("schedule = \"@hourly\"\nverify-for = \"0s\""),
            &["3: key.a.verify-for: \"0s\" is out of range; \"1s\" to \"3650d\" is allowed"],
        ),
        (
            &format!("[defaults]\noverlap = \"1d\"\n{}", key("")),
            &[
                "2: key.a.overlap: \"1d\" is not shorter than the shortest gap between two firings of \"@daily\"; less than \"1d\" is allowed",
            ],
        ),
        (
            "[defaults]\nschedule = \"@daily\"",
            &[
                "2: defaults.schedule: there is no such option; known here: overlap, verify-for, settle, deliver-for",
            ],
        ),
        (
            &key("").replace("key.a", "key.A_b"),
            &[
                "1: key.A_b: \"A_b\" is no name for a key; a name is 1 to 48 characters of a-z, 0-9 and -, and does not begin with -",
            ],
        ),
        (
            "[key.a]\nschedule = \"@daily\"",
            &["1: key.a: has no sink; add one under [[key.a.sink]]"],
        ),
        (
            "[key.a]\nschedule = \"@daily\"\nsink = []",
            &["1: key.a: has no sink; add one under [[key.a.sink]], without required = false"],
        ),
        (
            "[key.a]\nschedule = \"@daily\"\nsink = 1",
            &["3: key.a.sink: found a whole number; a list of tables ([[key.a.sink]]) is allowed"],
        ),
        (
            &key("required = false"),
            &[
                "1: key.a: has no required sink; add one under [[key.a.sink]], without required = false",
            ],
        ),
        (
            "[key]\na = 1",
            &["2: key.a: found a whole number; a table ([key.a]) is allowed"],
        ),
    ]);
}

#[test]
fn sinks() {
    let no_type = key("").replace("type = \"file\"\n", "");
    let twice = |name: &str| {
        format!(
            "{}[[key.a.sink]]\ntype = \"file\"\npath = \"/k/b\"\n{name}",
            key("name = \"x\"")
        )
    };
    expect(&[
        (
            &no_type,
            &["3: key.a.sink[0]: has no type; \"file\" or \"webhook\" is allowed"],
        ),
        (
            &key("").replace("\"file\"", "\"self\""),
            &[
                "4: key.a.sink[0].type: there is no sink type \"self\"; \"file\" or \"webhook\" is allowed",
            ],
        ),
        (
            &key("").replace("path", "paht"),
            &[
                "3: key.a.sink[0]: has no path; add path = \"/…\", the file to be written",
                "5: key.a.sink[0].paht: there is no such option; did you mean path?",
            ],
        ),
        (
            &key("required = 1"),
            &["6: key.a.sink[0].required: found a whole number; true or false is allowed"],
        ),
        (
            &key("timeout = \"6m\""),
            &["6: key.a.sink[0].timeout: \"6m\" is out of range; \"1s\" to \"5m\" is allowed"],
        ),
        (
            &key("name = \"a b\""),
            &[
                "6: key.a.sink[0].name: \"a b\" is no name for a sink; a name is 1 to 48 characters of a-z, 0-9 and -, and does not begin with -",
            ],
        ),
        (
            &key("format = \"yaml\""),
            &[
                "6: key.a.sink[0].format: there is no format \"yaml\"; \"raw\", \"env\" or \"json\" is allowed",
            ],
        ),
        (
            &key("variable = \"A\""),
            &[
                "6: key.a.sink[0].variable: means nothing with format = \"raw\"; leave it out, or write format = \"env\"",
            ],
        ),
        (
            &key("format = \"env\"\nvariable = \"1A\""),
            &[
                "7: key.a.sink[0].variable: \"1A\" is no name of a variable; letters, digits and _ are allowed, and no digit first",
            ],
        ),
        (
            &key("mode = 640"),
            &["6: key.a.sink[0].mode: found a whole number; text in quotes is allowed"],
        ),
        (
            &key("mode = \"0888\""),
            &[
                "6: key.a.sink[0].mode: \"0888\" is no mode; octal digits in quotes, such as \"0600\" or \"0640\", are allowed",
            ],
        ),
        (
            &key("mode = \"4755\""),
            &[
                "6: key.a.sink[0].mode: \"4755\" has a setuid, setgid or sticky bit; octal digits in quotes, such as \"0600\" or \"0640\", are allowed",
            ],
        ),
        (
            &key("mode = \"0666\""),
            &[
                "6: key.a.sink[0].mode: \"0666\" lets everybody write the file; octal digits in quotes, such as \"0600\" or \"0640\", are allowed",
            ],
        ),
        (
            &key("owner = \"\""),
            &[
                "6: key.a.sink[0].owner: \"\" is no name or number of an account; such as \"billing\" or \"1000\"",
            ],
        ),
        (
            &twice(""),
            &[
                "7: key.a.sink[1]: has no name, and the key has another sink of type \"file\"; give each of them a name = \"…\"",
            ],
        ),
        (
            &twice("name = \"x\""),
            &[
                "10: key.a.sink[1].name: \"x\" is the name of key.a.sink[0] already; give each sink of a key another name",
            ],
        ),
        (
            &hook("url = \"http://h/\"\nsigning-secret-file = \"/s\""),
            &[
                "5: key.a.sink[0].url: \"http://h\" is not safe for secrets; https is allowed, and http to localhost, 127.0.0.1 or [::1]",
            ],
        ),
        (
            &hook(""),
            &[
                "3: key.a.sink[0]: has no url; add url = \"https://…\", where it is posted to",
                "3: key.a.sink[0]: has no signing-secret-file; add signing-secret-file = \"/…\", a file with whsec_<base64>",
            ],
        ),
        (
            &hook("url = \"https://h/\"\nsigning-secret-file = \"whsec_abc\""),
            &[
                "6: key.a.sink[0].signing-secret-file: this looks like a secret and not like a path; no secret may stand in this file: write it into a file with mode 0600 and name that",
            ],
        ),
        (
            &hook("url = \"https://h/\"\nsigning-secret-file = \"/s\"\npath = \"/k\""),
            &[
                "7: key.a.sink[0].path: there is no such option; known here: type, name, required, timeout, url, signing-secret-file, ca-file, bearer-token-file",
            ],
        ),
    ]);
}

#[test]
fn no_file_is_written_by_two_or_over_something_else() {
    let at = |path: &str| key("").replace("/k/a", path);
    let taken = |path: &str, what: &str| {
        format!("5: key.a.sink[0].path: {path} is {what} already; name another file")
    };
    let cases = [
        (
            at("/etc/x/../c.toml"),
            taken("/etc/x/../c.toml", "this configuration file"),
        ),
        (
            at("/var/lib/rekeyd//ledger.db"),
            taken("/var/lib/rekeyd/ledger.db", "the ledger"),
        ),
        (
            at("/var/lib/rekeyd/ledger.db-shm"),
            taken("/var/lib/rekeyd/ledger.db-shm", "the ledger's -shm file"),
        ),
        (
            at("/var/lib/rekeyd/ledger.db.lock"),
            taken("/var/lib/rekeyd/ledger.db.lock", "the ledger's .lock file"),
        ),
        (
            format!("{}[provider]\ncredential-file = \"/own\"\n", at("/own")),
            taken("/own", "the credential file"),
        ),
        (
            format!(
                "{}{}",
                at("/s"),
                hook("url = \"https://h/\"\nsigning-secret-file = \"/s\"")
                    .replace("key.a", "key.z")
            ),
            taken("/s", "signing-secret-file of key.z.sink[0]"),
        ),
    ];
    for (text, message) in &cases {
        expect(&[(text, &[message])]);
    }
    let two = format!("{}{}", key(""), key("").replace("key.a", "key.b"));
    expect(&[(
        &two,
        &["11: key.b.sink[0].path: /k/a is written by key.a.sink[0] already; name another file"],
    )]);
}
