//! Invalid configurations, and the exact text of their messages.

use crate::configuration::{expect_problems, file_key_text};

const CRON_HINT: &str = "expected 5 fields (minute hour day month weekday), 6 fields (second first), or @hourly, @daily, @weekly, @monthly or @yearly, such as schedule = \"0 3 * * Mon\"";

#[test]
fn invalid_provider_and_ledger_options_are_reported() {
    expect_problems(&[
        (
            "[provider]\nbase_url = \"x\"",
            &["2: provider.base_url: unknown option; did you mean `base-url`?"],
        ),
        (
            "[gauges]\nlisten = \"x\"",
            &[
                "1: gauges: unknown section; expected one of provider, ledger, control, metrics, log, security, defaults, key, notify",
            ],
        ),
        (
            "provider = 1",
            &["1: provider: expected a table, written as [provider]"],
        ),
        (
            "[provider]\nbase-url = \"http://example.com/v1\"",
            &[
                "2: provider.base-url: http to another host would send secrets unencrypted; use https, or http to localhost, 127.0.0.1 or [::1]",
            ],
        ),
        (
            "[provider]\nbase-url = \"https://u:pw@h/v1\"",
            &[
                "2: provider.base-url: the URL contains a user name or a password; remove them; `credential-file` names the file with the admin key",
            ],
        ),
        (
            "[metrics]\nlisten = \"9464\"\n[control]\nsocket = \"run\"\nadmins = \"ops\"",
            &[
                "2: metrics.listen: not a valid address; expected an IP address and a port, such as listen = \"127.0.0.1:9464\"",
                "4: control.socket: expected an absolute path, such as socket = \"/run/rekeyd/control.sock\"",
                "5: control.admins: expected a list of quoted strings, such as admins = [\"ops\"]",
            ],
        ),
        (
            "[metrics]\npassword-file = \"/etc/rekeyd/metrics\"\nunprotected = true",
            &[
                "3: metrics.unprotected: cannot be combined with `password-file`; remove one of them",
            ],
        ),
        (
            "[provider]\nclient-certificate = \"/etc/rekeyd/client.pem\"",
            &[
                "1: provider: missing option `client-key`; add client-key = \"/etc/rekeyd/client.key\", the private key of client-certificate",
            ],
        ),
        (
            "[provider]\nclient-key = \"/etc/rekeyd/client.key\"",
            &[
                "1: provider: missing option `client-certificate`; add client-certificate = \"/etc/rekeyd/client.pem\", the certificate of client-key",
            ],
        ),
        (
            "[provider]\nbase-url = \"api\"",
            &[
                "2: provider.base-url: expected a URL that starts with https://, such as base-url = \"https://api.openai.com/v1\"",
            ],
        ),
        (
            "[provider]\nbase-url = \"https://h/v1?a=b\"",
            &["2: provider.base-url: the base URL contains a query; remove everything from `?` on"],
        ),
        (
            "[provider]\nbase-url = \"https://h/v1#a\"",
            &[
                "2: provider.base-url: the URL contains a fragment, which is never sent; remove everything from `#` on",
            ],
        ),
        (
            "[provider]\ncredential-file = \"key\"",
            &[
                "2: provider.credential-file: expected an absolute path, such as credential-file = \"/var/lib/rekeyd/admin-key\"",
            ],
        ),
        (
            "[provider]\ncredential-file = \"/etc/\"",
            &[
                "2: provider.credential-file: the path is that of a directory; expected the path of a file, such as credential-file = \"/var/lib/rekeyd/admin-key\"",
            ],
        ),
        (
            "[provider]\ncredential-file = \"sk-admin-abc\"",
            &[
                "2: provider.credential-file: expected the path of a file, but this looks like a secret; write the secret to a file that only rekeyd can read, and set its path, such as credential-file = \"/var/lib/rekeyd/admin-key\"",
            ],
        ),
        (
            "[provider]\norganization = \"a b\"",
            &[
                "2: provider.organization: not a valid organization id; expected the id of an organization, such as organization = \"org-abc123\"",
            ],
        ),
        (
            "[provider]\nrequest-timeout = 30",
            &[
                "2: provider.request-timeout: expected a quoted string, such as request-timeout = \"30s\"",
            ],
        ),
        (
            "[provider]\nrequest-timeout = \"0s\"",
            &[
                "2: provider.request-timeout: out of range; expected a duration from 1s to 5m, such as request-timeout = \"30s\"",
            ],
        ),
        (
            "[provider]\nrequest-timeout = \"30\"",
            &[
                "2: provider.request-timeout: not a valid duration; expected a whole number and one unit (s, m, h or d), such as request-timeout = \"30s\"",
            ],
        ),
        (
            "[provider]\nmax-in-flight = 0",
            &[
                "2: provider.max-in-flight: out of range; expected a whole number from 1 to 256, such as max-in-flight = 8",
            ],
        ),
        (
            "[provider]\nreconcile-every = \"59s\"",
            &[
                "2: provider.reconcile-every: out of range; expected a duration from 1m to 7d, such as reconcile-every = \"6h\"",
            ],
        ),
        (
            "[provider]\nmax-in-flight = 257",
            &[
                "2: provider.max-in-flight: out of range; expected a whole number from 1 to 256, such as max-in-flight = 8",
            ],
        ),
        (
            "[ledger]\npath = \"/etc/c.toml\"",
            &["2: ledger.path: the file is this configuration file; use another file"],
        ),
        (
            "[ledger]\npath = \"/l\"\n[provider]\ncredential-file = \"/l-wal\"",
            &["4: provider.credential-file: the file is the ledger's -wal file; use another file"],
        ),
    ]);
}

#[test]
fn invalid_keys_and_schedules_are_reported() {
    let cron = |at: &str, why: &str| format!("{at}: {why}; {CRON_HINT}");
    let foo = cron(
        "2: key.a.schedule",
        "not a valid cron expression: it has 1 field",
    );
    let hour = "2: key.a.schedule: not a valid cron expression: invalid hour; use 0 to 23";
    let reboot = cron(
        "2: key.a.schedule",
        "not a valid cron expression: unknown short name",
    );
    let sink = "\n[[key.a.sink]]\ntype = \"file\"\npath = \"/k/a\"";
    let with = |lines: &str| format!("[key.a]\n{lines}{sink}");
    expect_problems(&[
        (&with("schedule = \"foo\""), &[&foo]),
        (&with("schedule = \"0 25 * * *\""), &[hour]),
        (&with("schedule = \"@reboot\""), &[&reboot]),
        (
            &with("schedule = \"0 0 31 2 *\""),
            &[
                "2: key.a.schedule: never runs: no date has its day and month; use a day that the month has",
            ],
        ),
        (
            &with(""),
            &[
                "1: key.a: missing option `schedule`; add schedule = \"0 3 * * Mon\", or every = \"30d\"",
            ],
        ),
        (
            &with("schedule = \"@hourly\"\noverlap = \"1h\""),
            &[
                "1: key.a.max-creates-per-day: 24 is too low for a key that runs up to 24 times a day; set max-creates-per-day = 48 or more, twice as many; next runs: 2026-11-24T04:00:00Z, 2026-11-24T05:00:00Z, 2026-11-24T06:00:00Z",
                "3: key.a.overlap: too long: the runs of the key can be as little as 1h apart; use less than 1h; next runs: 2026-11-24T04:00:00Z, 2026-11-24T05:00:00Z, 2026-11-24T06:00:00Z",
            ],
        ),
        (
            &with("schedule = \"@hourly\"\nmax-creates-per-day = 47"),
            &[
                "3: key.a.max-creates-per-day: 47 is too low for a key that runs up to 24 times a day; set max-creates-per-day = 48 or more, twice as many; next runs: 2026-11-24T04:00:00Z, 2026-11-24T05:00:00Z, 2026-11-24T06:00:00Z",
            ],
        ),
        (
            &with("schedule = \"0 3 * * Mon\"\nexpires-after = \"11d\""),
            &[
                "3: key.a.expires-after: too short for the runs of the key; use at least 12d: 1.5 times the longest gap, and the overlap and the jitter; next runs: 2026-11-30T03:00:00Z, 2026-12-07T03:00:00Z, 2026-12-14T03:00:00Z",
            ],
        ),
        (
            &with("schedule = \"@daily\"\nmax-live-credentials = 2\nrevoke-when-idle-for = \"1y\""),
            &[
                "3: key.a.max-live-credentials: out of range; expected a whole number from 3 to 100, such as max-live-credentials = 6",
                "4: key.a.revoke-when-idle-for: not a valid duration; expected a whole number and one unit (s, m, h or d), such as revoke-when-idle-for = \"1h\"",
            ],
        ),
        (
            &with("schedule = 3"),
            &["2: key.a.schedule: expected a quoted string, such as schedule = \"0 3 * * Mon\""],
        ),
        (
            &with("schedule = \"@daily\"\noverlap = \"2w\""),
            &[
                "3: key.a.overlap: not a valid duration; expected a whole number and one unit (s, m, h or d), such as overlap = \"24h\"",
            ],
        ),
        (
            &with("schedule = \"@daily\"\ncolour = \"red\""),
            &[
                "3: key.a.colour: unknown option; expected one of timezone, jitter, initial-rotation, catch-up-window, overlap, verify-timeout, verify-interval, delivery-deadline, max-creates-per-day, max-live-credentials, expires-after, revoke-when-idle-for, max-revoke-delay, schedule, every, was, sink",
            ],
        ),
        (
            &with("every = \"1d\"\nschedule = \"@daily\""),
            &["2: key.a.every: cannot be combined with `schedule`; remove one of them"],
        ),
        (
            &with("every = \"2h\"\noverlap = \"2h\""),
            &[
                "3: key.a.overlap: too long: the runs of the key can be as little as 2h apart; use less than 2h; next runs: 2026-11-24T05:00:00Z, 2026-11-24T07:00:00Z, 2026-11-24T09:00:00Z",
            ],
        ),
        (
            &with("schedule = \"@daily\"\njitter = \"1d\""),
            &[
                "3: key.a.jitter: too long: the runs of the key can be as little as 1d apart; use less than 1d; next runs: 2026-11-25T00:00:00Z, 2026-11-26T00:00:00Z, 2026-11-27T00:00:00Z",
            ],
        ),
        (
            &with("schedule = \"@daily\"\njitter = \"4h\"\noverlap = \"20h\""),
            &[
                "4: key.a.overlap: too long: the runs of the key can be as little as 20h apart after jitter; use less than 20h; next runs: 2026-11-25T00:00:00Z, 2026-11-26T00:00:00Z, 2026-11-27T00:00:00Z",
            ],
        ),
        (
            &with(
                "schedule = \"@daily\"\ntimezone = \"Europe/Berlim\"\ninitial-rotation = \"later\"",
            ),
            &[
                "3: key.a.timezone: unknown time zone; did you mean \"Europe/Berlin\"?",
                "4: key.a.initial-rotation: unknown value; expected \"now\" or \"scheduled\"",
            ],
        ),
        (
            // On a day of 23 hours, the second run comes too early.
            &with("schedule = \"0 1,4 * * *\"\ntimezone = \"Europe/Berlin\"\noverlap = \"2h\""),
            &[
                "4: key.a.overlap: too long: the runs of the key can be as little as 2h apart; use less than 2h; next runs: 2026-11-25T00:00:00Z, 2026-11-25T03:00:00Z, 2026-11-26T00:00:00Z",
            ],
        ),
        (
            // The clock of this zone skips every matching time.
            &with("schedule = \"*/30 2 25-31 3 */7\"\ntimezone = \"Europe/Berlin\""),
            &[
                "2: key.a.schedule: never runs: the clock of its time zone skips that hour; use another hour, or a minute and an hour without `*`",
            ],
        ),
        (
            &with("schedule = \"@daily\"\nverify-timeout = \"0s\""),
            &[
                "3: key.a.verify-timeout: out of range; expected a duration from 1s to 1d, such as verify-timeout = \"15m\"",
            ],
        ),
        (
            &format!("[defaults]\noverlap = \"1d\"\n{}", file_key_text("")),
            &[
                "2: key.a.overlap: too long: the runs of the key can be as little as 1d apart; use less than 1d; next runs: 2026-11-25T00:00:00Z, 2026-11-26T00:00:00Z, 2026-11-27T00:00:00Z",
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
                "2: key.a.overlap: too long: the runs of the key can be as little as 1d apart; use less than 1d; next runs: 2026-11-25T00:00:00Z, 2026-11-26T00:00:00Z, 2026-11-27T00:00:00Z",
                "2: key.b.overlap: too long: the runs of the key can be as little as 1d apart; use less than 1d; next runs: 2026-11-25T00:00:00Z, 2026-11-26T00:00:00Z, 2026-11-27T00:00:00Z",
            ],
        ),
        (
            "[defaults]\nschedule = \"@daily\"",
            &[
                "2: defaults.schedule: unknown option; expected one of timezone, jitter, initial-rotation, catch-up-window, overlap, verify-timeout, verify-interval, delivery-deadline, max-creates-per-day, max-live-credentials, expires-after, revoke-when-idle-for, max-revoke-delay",
            ],
        ),
        (
            &file_key_text("").replace("key.a", "key.A_b"),
            &[
                "1: key.A_b: not a valid name for a key; a name is 1 to 48 characters of a-z, 0-9 and -, and does not begin with -",
            ],
        ),
        (
            "[key.a]\nschedule = \"@daily\"",
            &["1: key.a: the key has no sink; add a [[key.a.sink]]"],
        ),
        (
            "[key.a]\nschedule = \"@daily\"\nsink = []",
            &["1: key.a: the key has no sink; add a [[key.a.sink]]"],
        ),
        (
            "[key.a]\nschedule = \"@daily\"\nsink = 1",
            &["3: key.a.sink: expected tables, each written as [[key.a.sink]]"],
        ),
        (
            &file_key_text("required = false"),
            &[
                "1: key.a: every sink of the key has required = false; remove it from one of them, or add a [[key.a.sink]]",
            ],
        ),
        (
            "[key]\na = 1",
            &["2: key.a: expected a table, written as [key.a]"],
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
    let minute = "13: key.twins.schedule: not a valid cron expression: invalid minute; use 0 to 59";
    let unnamed = |line: u8, sink: u8| {
        format!(
            "{line}: key.twins.sink[{sink}]: missing option `name`: the key has another sink of \
             type \"file\"; add a different name to each of them, such as name = \"billing-host\""
        )
    };
    let unencrypted = "http to another host would send secrets unencrypted; use https, or http to localhost, 127.0.0.1 or [::1]";
    expect_problems(&[(
        file,
        &[
            &format!("2: provider.base-url: {unencrypted}"),
            "2: provider.base-url: the URL contains a user name or a password; remove them; `credential-file` names the file with the admin key",
            "2: provider.base-url: the base URL contains a query; remove everything from `?` on",
            "2: provider.base-url: the URL contains a fragment, which is never sent; remove everything from `#` on",
            "3: provider.request-timeout: not a valid duration; expected a whole number and one unit (s, m, h or d), such as request-timeout = \"30s\"",
            "4: provider.max-in-flight: expected a whole number from 1 to 256, such as max-in-flight = 8",
            "5: provider.organisation: unknown option; did you mean `organization`?",
            "6: key.idle: missing option `schedule`; add schedule = \"0 3 * * Mon\", or every = \"30d\"",
            "6: key.idle: every sink of the key has required = false; remove it from one of them, or add a [[key.idle.sink]]",
            "11: key.idle.sink[0].colour: unknown option; expected one of type, name, required, timeout, path, write, format, variable, mode, owner, group, on-change, on-change-timeout",
            minute,
            &unnamed(14, 0),
            "16: key.twins.sink[0].path: the file is already written by key.idle.sink[0]; use another file",
            &unnamed(17, 1),
            "19: key.twins.sink[1].path: the file is the ledger; use another file",
            "20: key.twins.sink[1].mode: gives every user of this host access to the secret; use mode = \"0640\" or mode = \"0600\"",
            "21: key.over.max-creates-per-day: 24 is too low for a key that runs up to 24 times a day; set max-creates-per-day = 48 or more, twice as many; next runs: 2026-11-24T04:00:00Z, 2026-11-24T05:00:00Z, 2026-11-24T06:00:00Z",
            "23: key.over.overlap: too long: the runs of the key can be as little as 1h apart; use less than 1h; next runs: 2026-11-24T04:00:00Z, 2026-11-24T05:00:00Z, 2026-11-24T06:00:00Z",
            "27: key.over.sink[0].path: the file is this configuration file; use another file",
            "31: key.over.sink[1].path: the file is the signing-secret-file of key.over.sink[2]; use another file",
            &format!("34: key.over.sink[2].url: {unencrypted}"),
            "36: key.rare: the key has no sink; add a [[key.rare.sink]]",
            "37: key.rare.schedule: never runs: no date has its day and month; use a day that the month has",
        ],
    )]);
}

#[test]
fn syntax_errors_are_reported_once_with_their_line() {
    expect_problems(&[
        (
            "[provider\nbase-url = \"https://h/\"",
            &["1: invalid TOML: a section header has no closing bracket; add `]`"],
        ),
        (
            // A section that was not parsed is neither invalid nor missing.
            "[provider]\nbase-url = sk-admin-Zq7\nmax-in-flight = 0\n[key.a]\nschedule = @daily",
            &[
                "2: invalid TOML: text must be in quotes; write it as OPTION = \"TEXT\"",
                "3: provider.max-in-flight: out of range; expected a whole number from 1 to 256, such as max-in-flight = 8",
                "5: invalid TOML: text must be in quotes; write it as OPTION = \"TEXT\"",
            ],
        ),
        (
            // What is before the first such line is certainly where it seems to be.
            "overlp = 1\n[provider]\nbase-ur = 1\nmode = 0640\nother = 1\n[key.a",
            &[
                "1: overlp: unknown section; expected one of provider, ledger, control, metrics, log, security, defaults, key, notify",
                "3: provider.base-ur: unknown option; did you mean `base-url`?",
                "4: invalid TOML: a number does not begin with 0; write a mode in quotes, such as mode = \"0640\"",
                "6: invalid TOML: a section header has no closing bracket; add `]`",
            ],
        ),
        (
            "a = 1\na = 2",
            &[
                "1: a: unknown section; expected one of provider, ledger, control, metrics, log, security, defaults, key, notify",
                "2: invalid TOML: this option or section is set twice; remove one of the two",
            ],
        ),
    ]);
}

#[test]
fn secret_like_values_are_never_quoted() {
    let secrets = ["sk-admin-Zq7", "whsec_Zq7"];
    for secret in secrets {
        expect_problems(&[
            (
                &format!("[provider]\norganization = \"{secret} \""),
                &[
                    "2: provider.organization: not a valid organization id; expected the id of an organization, such as organization = \"org-abc123\"",
                ],
            ),
            (
                &format!("[provider]\n{secret} = 1"),
                &[
                    "2: provider.\"…\": unknown option; expected one of base-url, credential-file, organization, ca-file, client-certificate, client-key, request-timeout, max-in-flight, reconcile-every",
                ],
            ),
            (
                &file_key_text("").replace("@daily", secret),
                &[&format!(
                    "2: key.a.schedule: not a valid cron expression: it has 1 field; {CRON_HINT}"
                )],
            ),
            (
                &format!(
                    "{}[ledger]\npath = \"/{secret}\"",
                    file_key_text("").replace("/k/a", &format!("/{secret}"))
                ),
                &["5: key.a.sink[0].path: the file is the ledger; use another file"],
            ),
        ]);
    }
}
