//! Invalid configurations, and the exact text of their messages.

use crate::configuration::{expect_problems, file_key_text};

const CRON_HINT: &str = "5 fields (minute hour day month weekday), or 6 with seconds first, or @hourly, @daily, @weekly, @monthly or @yearly are allowed, such as \"0 3 * * Mon\"";

#[test]
fn invalid_provider_and_ledger_options_are_reported() {
    expect_problems(&[
        (
            "[provider]\nbase_url = \"x\"",
            &["2: provider.base_url: there is no such option; did you mean base-url?"],
        ),
        (
            "[gauges]\nlisten = \"x\"",
            &[
                "1: gauges: there is no such option; known here: provider, ledger, control, metrics, defaults, key, notify",
            ],
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
                "2: provider.base-url: a user or password stands in the URL; leave it out; the admin key is named by credential-file",
            ],
        ),
        (
            "[metrics]\nlisten = \"9464\"\n[control]\nsocket = \"run\"\nadmins = \"ops\"",
            &[
                "2: metrics.listen: \"9464\" is no address to listen at; an IP address and a port, such as \"127.0.0.1:9464\", are allowed",
                "4: control.socket: \"run\" is no absolute path; a path from the root, such as \"/etc/rekeyd/file\", is allowed",
                "5: control.admins: found text; a list of text in quotes is allowed",
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
            "[provider]\nreconcile-every = \"59s\"",
            &["2: provider.reconcile-every: \"59s\" is out of range; \"1m\" to \"7d\" is allowed"],
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
fn invalid_keys_and_schedules_are_reported() {
    let cron = |at: &str, why: &str| format!("{at}: {why}; {CRON_HINT}");
    let foo = cron(
        "2: key.a.schedule",
        "\"foo\" is no cron expression: it has 1 field",
    );
    let hour = cron(
        "2: key.a.schedule",
        "\"0 25 * * *\" is no cron expression: there is no hour \"25\"; use 0 to 23",
    );
    let reboot = cron(
        "2: key.a.schedule",
        "\"@reboot\" is no cron expression: its short name is not known",
    );
    let sink = "\n[[key.a.sink]]\ntype = \"file\"\npath = \"/k/a\"";
    let with = |lines: &str| format!("[key.a]\n{lines}{sink}");
    expect_problems(&[
        (&with("schedule = \"foo\""), &[&foo]),
        (&with("schedule = \"0 25 * * *\""), &[&hour]),
        (&with("schedule = \"@reboot\""), &[&reboot]),
        (
            &with("schedule = \"0 0 31 2 *\""),
            &[
                "2: key.a.schedule: \"0 0 31 2 *\" never fires; no date matches its day and month, so there is no next time: name a day that the month has",
            ],
        ),
        (
            &with(""),
            &[
                "1: key.a: has no schedule; add one, such as schedule = \"0 3 * * Mon\", or every = \"30d\"",
            ],
        ),
        (
            &with("schedule = \"@hourly\"\noverlap = \"1h\""),
            &[
                "1: key.a.max-creates-per-day: 24 creates a day are less than twice what \"@hourly\" needs; at least 48 are needed: max-creates-per-day = 48; it fires next at 2026-11-24T04:00:00Z, 2026-11-24T05:00:00Z, 2026-11-24T06:00:00Z",
                "3: key.a.overlap: \"1h\" is not shorter than the shortest gap between two firings of \"@hourly\"; less than \"1h\" is allowed; it fires next at 2026-11-24T04:00:00Z, 2026-11-24T05:00:00Z, 2026-11-24T06:00:00Z",
            ],
        ),
        (
            &with("schedule = \"@hourly\"\nmax-creates-per-day = 47"),
            &[
                "3: key.a.max-creates-per-day: 47 creates a day are less than twice what \"@hourly\" needs; at least 48 are needed: max-creates-per-day = 48; it fires next at 2026-11-24T04:00:00Z, 2026-11-24T05:00:00Z, 2026-11-24T06:00:00Z",
            ],
        ),
        (
            &with("schedule = \"0 3 * * Mon\"\nexpires-after = \"11d\""),
            &[
                "3: key.a.expires-after: \"11d\" is too short a life for \"0 3 * * Mon\"; 1.5 times its longest gap, the overlap and the jitter, at least \"276h\", are needed; it fires next at 2026-11-30T03:00:00Z, 2026-12-07T03:00:00Z, 2026-12-14T03:00:00Z",
            ],
        ),
        (
            &with("schedule = \"@daily\"\nmax-live-credentials = 2\nrevoke-when-idle-for = \"1y\""),
            &[
                "3: key.a.max-live-credentials: 2 is out of range; a whole number from 3 to 100 is allowed",
                "4: key.a.revoke-when-idle-for: \"1y\" is no duration; a duration is a whole number with one unit, s, m, h or d, such as \"90s\" or \"24h\"",
            ],
        ),
        (
            &with("schedule = 3"),
            &["2: key.a.schedule: found a whole number; text in quotes is allowed"],
        ),
        (
            &with("schedule = \"@daily\"\noverlap = \"2w\""),
            &[
                "3: key.a.overlap: \"2w\" is no duration; a duration is a whole number with one unit, s, m, h or d, such as \"90s\" or \"24h\"",
            ],
        ),
        (
            &with("schedule = \"@daily\"\ncolour = \"red\""),
            &[
                "3: key.a.colour: there is no such option; known here: timezone, jitter, initial-rotation, catch-up-window, overlap, verify-timeout, verify-interval, delivery-deadline, max-creates-per-day, max-live-credentials, expires-after, revoke-when-idle-for, max-revoke-delay, schedule, every, sink",
            ],
        ),
        (
            &with("every = \"1d\"\nschedule = \"@daily\""),
            &["2: key.a.every: there is a schedule, too; leave one of them out"],
        ),
        (
            &with("every = \"2h\"\noverlap = \"2h\""),
            &[
                "3: key.a.overlap: \"2h\" is not shorter than the shortest gap between two firings of \"every 2h\"; less than \"2h\" is allowed; it fires next at 2026-11-24T05:00:00Z, 2026-11-24T07:00:00Z, 2026-11-24T09:00:00Z",
            ],
        ),
        (
            &with("schedule = \"@daily\"\njitter = \"1d\""),
            &[
                "3: key.a.jitter: \"1d\" is not shorter than the shortest gap between two firings of \"@daily\"; less than \"1d\" is allowed; it fires next at 2026-11-25T00:00:00Z, 2026-11-26T00:00:00Z, 2026-11-27T00:00:00Z",
            ],
        ),
        (
            &with("schedule = \"@daily\"\njitter = \"4h\"\noverlap = \"20h\""),
            &[
                "4: key.a.overlap: \"20h\" is not shorter than the shortest gap between two firings of \"@daily\", less jitter; less than \"20h\" is allowed; it fires next at 2026-11-25T00:00:00Z, 2026-11-26T00:00:00Z, 2026-11-27T00:00:00Z",
            ],
        ),
        (
            &with(
                "schedule = \"@daily\"\ntimezone = \"Europe/Berlim\"\ninitial-rotation = \"later\"",
            ),
            &[
                "3: key.a.timezone: \"Europe/Berlim\" is no time zone that this host knows; did you mean \"Europe/Berlin\"?",
                "4: key.a.initial-rotation: \"later\" is not known; \"now\" and \"scheduled\" are allowed",
            ],
        ),
        (
            // On a day of 23 hours, the second run comes too early.
            &with("schedule = \"0 1,4 * * *\"\ntimezone = \"Europe/Berlin\"\noverlap = \"2h\""),
            &[
                "4: key.a.overlap: \"2h\" is not shorter than the shortest gap between two firings of \"0 1,4 * * *\"; less than \"2h\" is allowed; it fires next at 2026-11-25T00:00:00Z, 2026-11-25T03:00:00Z, 2026-11-26T00:00:00Z",
            ],
        ),
        (
            // The clock of this zone skips every matching time.
            &with("schedule = \"*/30 2 25-31 3 */7\"\ntimezone = \"Europe/Berlin\""),
            &[
                "2: key.a.schedule: \"*/30 2 25-31 3 */7\" never fires; it falls only into an hour that the clock of its zone skips: name another hour, or minute and hour without *",
            ],
        ),
        (
            &with("schedule = \"@daily\"\nverify-timeout = \"0s\""),
            &["3: key.a.verify-timeout: \"0s\" is out of range; \"1s\" to \"1d\" is allowed"],
        ),
        (
            &format!("[defaults]\noverlap = \"1d\"\n{}", file_key_text("")),
            &[
                "2: key.a.overlap: \"1d\" is not shorter than the shortest gap between two firings of \"@daily\"; less than \"1d\" is allowed; it fires next at 2026-11-25T00:00:00Z, 2026-11-26T00:00:00Z, 2026-11-27T00:00:00Z",
            ],
        ),
        (
            // Each key is reported, because either may be the one to change.
            &format!(
                "[defaults]\noverlap = \"1d\"\n{}{}",
                file_key_text(""),
                file_key_text("")
                    .replace("key.a", "key.b")
                    .replace("/a", "/b")
            ),
            &[
                "2: key.a.overlap: \"1d\" is not shorter than the shortest gap between two firings of \"@daily\"; less than \"1d\" is allowed; it fires next at 2026-11-25T00:00:00Z, 2026-11-26T00:00:00Z, 2026-11-27T00:00:00Z",
                "2: key.b.overlap: \"1d\" is not shorter than the shortest gap between two firings of \"@daily\"; less than \"1d\" is allowed; it fires next at 2026-11-25T00:00:00Z, 2026-11-26T00:00:00Z, 2026-11-27T00:00:00Z",
            ],
        ),
        (
            "[defaults]\nschedule = \"@daily\"",
            &[
                "2: defaults.schedule: there is no such option; known here: timezone, jitter, initial-rotation, catch-up-window, overlap, verify-timeout, verify-interval, delivery-deadline, max-creates-per-day, max-live-credentials, expires-after, revoke-when-idle-for, max-revoke-delay",
            ],
        ),
        (
            &file_key_text("").replace("key.a", "key.A_b"),
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
            &["1: key.a: has no sink; add one under [[key.a.sink]]"],
        ),
        (
            "[key.a]\nschedule = \"@daily\"\nsink = 1",
            &["3: key.a.sink: found a whole number; a list of tables ([[key.a.sink]]) is allowed"],
        ),
        (
            &file_key_text("required = false"),
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

/// One file with all frequent mistakes: each is reported, in the order of the lines.
#[test]
fn all_problems_are_reported_at_once_in_line_order() {
    let file = r#"[provider]
base-url = "http://user@api.example.com/v1?a=b#c"
request-timeout = "30 seconds"
max-in-flight = "8"
organisation = "org-1"
[key.idle]
[[key.idle.sink]]
type = "file"
path = "/k/one"
required = false
colour = "red"
[key.twins]
schedule = "61 * * * *"
[[key.twins.sink]]
type = "file"
path = "/k/one"
[[key.twins.sink]]
type = "file"
path = "/var/lib/rekeyd/ledger.db"
mode = "0644"
[key.over]
schedule = "@hourly"
overlap = "1h"
[[key.over.sink]]
type = "file"
name = "configuration"
path = "/etc/c.toml"
[[key.over.sink]]
type = "file"
name = "secret"
path = "/etc/hook"
[[key.over.sink]]
type = "webhook"
url = "http://example.com/hook?token=1"
signing-secret-file = "/etc/hook"
[key.rare]
schedule = "0 0 31 2 *"
"#;
    let minute = format!(
        "13: key.twins.schedule: \"61 * * * *\" is no cron expression: there is no \
         minute \"61\"; use 0 to 59; {CRON_HINT}"
    );
    let unnamed = |line: u8, sink: u8| {
        format!(
            "{line}: key.twins.sink[{sink}]: has no name, and the key has another sink of type \
             \"file\"; give each of them a name = \"…\""
        )
    };
    let safe =
        "is not safe for secrets; https is allowed, and http to localhost, 127.0.0.1 or [::1]";
    expect_problems(&[(
        file,
        &[
            &format!("2: provider.base-url: \"http://api.example.com\" {safe}"),
            "2: provider.base-url: a user or password stands in the URL; leave it out; the admin key is named by credential-file",
            "2: provider.base-url: a query stands in the URL; leave out everything from ? on",
            "2: provider.base-url: a part behind # stands in the URL; leave it out; it is never sent",
            "3: provider.request-timeout: \"30 seconds\" is no duration; a duration is a whole number with one unit, s, m, h or d, such as \"90s\" or \"24h\"",
            "4: provider.max-in-flight: found text; a whole number from 1 to 256 is allowed",
            "5: provider.organisation: there is no such option; did you mean organization?",
            "6: key.idle: has no schedule; add one, such as schedule = \"0 3 * * Mon\", or every = \"30d\"",
            "6: key.idle: has no required sink; add one under [[key.idle.sink]], without required = false",
            "11: key.idle.sink[0].colour: there is no such option; known here: type, name, required, timeout, path, write, format, variable, mode, owner, group, on-change, on-change-timeout",
            &minute,
            &unnamed(14, 0),
            "16: key.twins.sink[0].path: /k/one is written by key.idle.sink[0] already; name another file",
            &unnamed(17, 1),
            "19: key.twins.sink[1].path: /var/lib/rekeyd/ledger.db is the ledger already; name another file",
            "20: key.twins.sink[1].mode: \"0644\" lets in others than its owner and its group; octal digits in quotes, such as \"0600\" or \"0640\", are allowed",
            "21: key.over.max-creates-per-day: 24 creates a day are less than twice what \"@hourly\" needs; at least 48 are needed: max-creates-per-day = 48; it fires next at 2026-11-24T04:00:00Z, 2026-11-24T05:00:00Z, 2026-11-24T06:00:00Z",
            "23: key.over.overlap: \"1h\" is not shorter than the shortest gap between two firings of \"@hourly\"; less than \"1h\" is allowed; it fires next at 2026-11-24T04:00:00Z, 2026-11-24T05:00:00Z, 2026-11-24T06:00:00Z",
            "27: key.over.sink[0].path: /etc/c.toml is this configuration file already; name another file",
            "31: key.over.sink[1].path: /etc/hook is signing-secret-file of key.over.sink[2] already; name another file",
            &format!("34: key.over.sink[2].url: \"http://example.com\" {safe}"),
            "36: key.rare: has no sink; add one under [[key.rare.sink]]",
            "37: key.rare.schedule: \"0 0 31 2 *\" never fires; no date matches its day and month, so there is no next time: name a day that the month has",
        ],
    )]);
}

#[test]
fn syntax_errors_are_reported_once_with_their_line() {
    expect_problems(&[
        (
            "[provider\nbase-url = \"https://h/\"",
            &["1: not TOML: unclosed table, expected `]`"],
        ),
        (
            // A section that was not parsed is neither invalid nor missing.
            "[provider]\nbase-url = sk-admin-Zq7\nmax-in-flight = 0\n[key.a]\nschedule = @daily",
            &[
                "2: not TOML: string values must be quoted, expected literal string",
                "3: provider.max-in-flight: 0 is out of range; a whole number from 1 to 256 is allowed",
                "5: not TOML: string values must be quoted, expected literal string",
            ],
        ),
        ("a = 1\na = 2", &["2: not TOML: duplicate key"]),
    ]);
}

#[test]
fn secret_like_values_are_never_quoted() {
    let hidden = "(not shown: it looks like a secret)";
    let secrets = ["sk-admin-Zq7", "whsec_Zq7"];
    for secret in secrets {
        expect_problems(&[
            (
                &format!("[provider]\norganization = \"{secret} \""),
                &[&format!(
                    "2: provider.organization: {hidden} is no organization id; an id such as \"org-abc123\" is allowed"
                )],
            ),
            (
                &format!("[provider]\n{secret} = 1"),
                &[&format!(
                    "2: provider.{hidden}: there is no such option; known here: base-url, credential-file, organization, ca-file, request-timeout, max-in-flight, reconcile-every"
                )],
            ),
            (
                &file_key_text("").replace("@daily", secret),
                &[&format!(
                    "2: key.a.schedule: {hidden} is no cron expression; {CRON_HINT}"
                )],
            ),
            (
                &format!(
                    "{}[ledger]\npath = \"/{secret}\"",
                    file_key_text("").replace("/k/a", &format!("/{secret}"))
                ),
                &[&format!(
                    "5: key.a.sink[0].path: {hidden} is the ledger already; name another file"
                )],
            ),
        ]);
    }
}
