//! Bad configurations and what is said about them, word for word.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/configuration.rs"]
mod configuration;

use configuration::{expect, key};

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
